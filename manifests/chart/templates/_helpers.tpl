{{/* What names the apps: `app`, `list` or `discovery`. */}}
{{- define "zpa.mode" -}}
{{- $settings := .Values.settings -}}
{{- $one := or (get $settings "deployment") (get $settings "scale-target") -}}
{{- $given := list -}}
{{- if $one }}{{ $given = append $given "app" }}{{ end -}}
{{- if .Values.apps }}{{ $given = append $given "list" }}{{ end -}}
{{- if get $settings "discover" }}{{ $given = append $given "discovery" }}{{ end -}}
{{- range .Values.apps -}}
{{- if not (or (get . "deployment") (get . "scale-target")) -}}
{{- fail (printf "apps: %s has neither deployment nor scale-target" (toJson .)) -}}
{{- end -}}
{{- end -}}
{{- if not $given -}}
{{- fail "What is to be put to sleep? Set one of: settings.deployment (or settings.scale-target), apps, settings.discover. For example: --set settings.deployment=my-app" -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail "Set one of settings.deployment (or settings.scale-target), apps and settings.discover, and no two of them" -}}
{{- end -}}
{{- if and (get $settings "deployment") (get $settings "scale-target") -}}
{{- fail "Set one of settings.deployment and settings.scale-target" -}}
{{- end -}}
{{- $mode := first $given -}}
{{- if ne $mode "app" -}}
{{- range $flag := list "service" "listen" "target" -}}
{{- if get $settings $flag -}}
{{- fail (printf "settings.%s is of one app: it goes into the app's own entry or annotations" $flag) -}}
{{- end -}}
{{- end -}}
{{- if .Values.takeOver.service }}{{ fail "takeOver is of one app" }}{{ end -}}
{{- end -}}
{{- if and (get $settings "namespace") (ne $mode "discovery") -}}
{{- fail "settings.namespace goes with settings.discover; the namespace is that of the release (helm --namespace)" -}}
{{- end -}}
{{- $mode -}}
{{- end -}}

{{/* What an app's settings scale, as JSON: plural, group and name. */}}
{{- define "zpa.target" -}}
{{- $target := dict "plural" "deployments" "group" "apps" "name" (get . "deployment") -}}
{{- with get . "scale-target" -}}
{{- $parts := splitn "/" 2 . -}}
{{- $resource := splitn "." 2 $parts._0 -}}
{{- $target = dict "plural" $resource._0 "group" $resource._1 "name" $parts._1 -}}
{{- end -}}
{{- toJson $target -}}
{{- end -}}

{{/* The Service of an app. */}}
{{- define "zpa.serviceOf" -}}
{{- get . "service" | default (include "zpa.target" . | fromJson).name -}}
{{- end -}}

{{/* The name of all objects. */}}
{{- define "zpa.name" -}}
{{- $mode := include "zpa.mode" . -}}
{{- $name := eq $mode "list" | ternary "apps-zpa" "fleet-zpa" -}}
{{- if eq $mode "app" -}}
{{- $name = (include "zpa.target" .Values.settings | fromJson).name | replace "." "-" | printf "%s-zpa" -}}
{{- end -}}
{{- $name = .Values.name | default $name -}}
{{- if gt (len $name) 63 -}}
{{- fail (printf "%s is longer than the 63 characters of a Service's name: set name" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "zpa.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "zpa.name" .) -}}
{{- end -}}

{{/* What tells the proxy of these apps from others in the namespace. */}}
{{- define "zpa.selectorLabels" -}}
{{- $instance := include "zpa.name" . | trimSuffix "-zpa" -}}
{{- if eq (include "zpa.mode" .) "app" -}}
{{- $instance = (include "zpa.target" .Values.settings | fromJson).name -}}
{{- end -}}
app.kubernetes.io/instance: {{ $instance | trunc 63 | quote }}
app.kubernetes.io/name: zero-pod-autoscaler
{{- end -}}

{{/* The metadata of an object, of a list with the context, its name, labels and annotations, and
of what is in no namespace `true`. */}}
{{- define "zpa.metadata" -}}
{{- $ := index . 0 -}}
name: {{ index . 1 }}
{{- if lt (len .) 5 }}
namespace: {{ $.Release.Namespace }}
{{- end }}
labels:
  {{- include "zpa.selectorLabels" $ | nindent 2 }}
  {{- with merge (dict) (index . 2) $.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 3) $.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A value as the text of a variable: a large number has no exponent, and the items of a list
have a line each. */}}
{{- define "zpa.text" -}}
{{- if kindIs "slice" . -}}
{{- $lines := list -}}
{{- range . }}{{ $lines = append $lines (include "zpa.text" .) }}{{ end -}}
{{- join "\n" $lines -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* A duration in seconds, rounded up: as in Go, or plain seconds. */}}
{{- define "zpa.seconds" -}}
{{- $text := include "zpa.text" . -}}
{{- $seconds := 0.0 -}}
{{- if regexMatch "^[0-9.]+$" $text -}}
{{- $seconds = float64 $text -}}
{{- else -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "ns" 0.000000001 -}}
{{- range regexFindAll "[0-9.]+[a-zµ]+" $text -1 -}}
{{- $number := regexFind "[0-9.]+" . | float64 -}}
{{- $seconds = addf $seconds (mulf $number (get $units (regexFind "[a-zµ]+$" .))) -}}
{{- end -}}
{{- end -}}
{{- ceil $seconds | int64 -}}
{{- end -}}

{{/* The ports of an app's `listen`, as a JSON list: number, and which of the Service's ports. */}}
{{- define "zpa.listeners" -}}
{{- $listeners := list -}}
{{- range splitList "," (toString .) -}}
{{- $parts := splitn "=" 2 (trim .) -}}
{{- $listeners = append $listeners (dict "number" (regexFind "[0-9]+$" $parts._0 | int) "port" ($parts._1 | default "")) -}}
{{- end -}}
{{- toJson $listeners -}}
{{- end -}}

{{/* Where clients connect, as JSON: name, and the number in the container and in the Service. */}}
{{- define "zpa.clientPorts" -}}
{{- $mode := include "zpa.mode" . -}}
{{- $ports := list -}}
{{- if .Values.takeOver.service -}}
{{- $ports = include "zpa.takenPorts" . | fromJsonArray -}}
{{- else if eq $mode "app" -}}
{{- $listeners := include "zpa.listeners" (get .Values.settings "listen" | default ":8080") | fromJsonArray -}}
{{- range $listener := $listeners -}}
{{- $number := int $listener.number -}}
{{- $port := dict "name" "proxy" "container" $number "service" (int $.Values.service.port) -}}
{{- if gt (len $listeners) 1 -}}
{{- $_ := set $port "name" (printf "proxy-%d" $number) -}}
{{- $_ := set $port "service" $number -}}
{{- if regexMatch "^[0-9]+$" $listener.port -}}
{{- $_ := set $port "service" (int $listener.port) -}}
{{- else if and (le (len $listener.port) 15) (ne $listener.port "admin") -}}
{{- $_ := set $port "name" $listener.port -}}
{{- end -}}
{{- end -}}
{{- $ports = append $ports $port -}}
{{- end -}}
{{- else if eq $mode "list" -}}
{{- $seen := dict -}}
{{- range $app := .Values.apps -}}
{{- $name := (include "zpa.target" $app | fromJson).name | replace "." "-" -}}
{{- $listeners := include "zpa.listeners" $app.listen | fromJsonArray -}}
{{- range $listener := $listeners -}}
{{- $number := int $listener.number -}}
{{- if not (hasKey $seen (toString $number)) -}}
{{- $_ := set $seen (toString $number) true -}}
{{- $called := gt (len $listeners) 1 | ternary (printf "%s-%d" $name $number) $name -}}
{{- $ports = append $ports (dict "name" $called "container" $number "service" $number) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{/* The name of the Service that clients connect to, and of that whose pods are dialled. */}}
{{- define "zpa.clientService" -}}
{{- .Values.takeOver.service | empty | ternary (include "zpa.name" .) (include "zpa.serviceOf" .Values.settings) -}}
{{- end -}}
{{- define "zpa.dialledService" -}}
{{- $service := include "zpa.serviceOf" .Values.settings -}}
{{- .Values.takeOver.service | empty | ternary $service (printf "%s-pods" $service) -}}
{{- end -}}

{{/* MiB: the least power of two with room for all connections, 16 KiB each beside 24 MiB. */}}
{{- define "zpa.memory" -}}
{{- $needed := add 24 (ceil (divf (include "zpa.text" (get .Values.settings "max-connections" | default 10000)) 64.0) | int64) -}}
{{- $limit := 64 -}}
{{- range until 26 -}}
{{- if lt (int64 $limit) (int64 $needed) }}{{ $limit = mul 2 $limit }}{{ end -}}
{{- end -}}
{{- $limit -}}
{{- end -}}

{{- define "zpa.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The variables of the container. */}}
{{- define "zpa.env" -}}
{{- $mode := include "zpa.mode" . -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if eq $mode "app" -}}
{{- $_ := set $settings "service" (include "zpa.dialledService" .) -}}
{{- if .Values.takeOver.service }}{{ $_ := set $settings "listen" (include "zpa.takenListen" .) }}{{ end -}}
{{- else if eq $mode "list" -}}
{{- $_ := set $settings "apps" "/etc/zpa/apps.json" -}}
{{- end -}}
{{- if not (get $settings "max-connections") }}{{ $_ := set $settings "max-connections" 10000 }}{{ end -}}
{{- range $flag, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}
- name: ZPA_{{ $flag | upper | replace "-" "_" }}
  value: {{ include "zpa.text" $value | quote }}
{{- end }}
{{- end }}
{{- if not (get $settings "zone") }}
# For a Service with trafficDistribution: pods of the same zone are dialled first. The label is
# there since Kubernetes 1.35; without it the variable is empty.
- name: ZPA_ZONE
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['topology.kubernetes.io/zone']
{{- end }}
{{- if not (get $settings "node") }}
- name: ZPA_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The security of the pod: restricted. */}}
{{- define "zpa.podSecurity" -}}
runAsNonRoot: true
{{- if not .Values.openshift }}
runAsUser: 65532
runAsGroup: 65532
# The service account's token is readable by this group.
fsGroup: 65532
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}
{{- define "zpa.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Seconds: what the drain takes at most, and five. */}}
{{- define "zpa.gracePeriod" -}}
{{- $delay := include "zpa.seconds" (get .Values.settings "drain-delay" | default "5s") -}}
{{- $timeout := include "zpa.seconds" (get .Values.settings "drain-timeout" | default "20s") -}}
{{- add $delay $timeout 5 -}}
{{- end -}}

{{- define "zpa.adminPort" -}}
{{- get .Values.settings "admin-listen" | default ":8081" | regexFind "[0-9]+$" -}}
{{- end -}}

{{/* The list of apps, and what else is mounted. No subPath: such a mount never changes. */}}
{{- define "zpa.volumeMounts" -}}
{{- if or .Values.apps .Values.extraVolumeMounts -}}
volumeMounts:
  {{- if .Values.apps }}
  - name: list
    mountPath: /etc/zpa
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}
{{- define "zpa.volumes" -}}
{{- if or .Values.apps .Values.extraVolumes -}}
volumes:
  {{- if .Values.apps }}
  - name: list
    configMap:
      name: {{ include "zpa.name" . }}-list
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}
