{{/* The Service that the proxy takes over. One field of it changes, by a command of the notes, once a
proxy is ready: the values in its selector. Its keys stay, and so do the ports that it leads to:
the proxy's pods have labels of the same keys and listen on the same ports, so that whatever else
writes the Service does not make a mixture of both. The chart never owns that Service; the app's
pods get another one, which the proxy dials. */}}

{{/* The value of a label of the proxy's pods, of a list with the context and the key. */}}
{{- define "zpa.label" -}}
{{- $labels := include "zpa.selectorLabels" (first .) | fromYaml -}}
{{- hasKey $labels (last .) | ternary (get $labels (last .)) (include "zpa.name" (first .)) -}}
{{- end -}}

{{/* Fails if the Service cannot be taken over. */}}
{{- define "zpa.takenCheck" -}}
{{- $service := .Values.takeOver.service -}}
{{- $spec := $service.spec | default dict -}}
{{- $name := include "zpa.serviceOf" .Values.settings -}}
{{- $given := ($service.metadata | default dict).name -}}
{{- if not (has $given (list $name (printf "%s-pods" $name))) -}}
{{- fail (printf "takeOver.service is the Service %v, and that of the app is %s (settings.service)" $given $name) -}}
{{- end -}}
{{- range $flag := list "listen" "port" -}}
{{- if get $.Values.settings $flag }}{{ fail (printf "settings.%s follows from the Service with takeOver: leave it out" $flag) }}{{ end -}}
{{- end -}}
{{- if not $spec.selector }}{{ fail "takeOver.service has no selector: which pods are the app's is not known" }}{{ end -}}
{{- if not $spec.ports }}{{ fail "takeOver.service has no port" }}{{ end -}}
{{- if eq (toString $spec.clusterIP) "None" }}{{ fail "takeOver.service is headless: its clients connect to the pods' own addresses. Leave takeOver out, and have those use the proxy's Service that are to wake the app" }}{{ end -}}
{{- if eq (toString $spec.internalTrafficPolicy) "Local" }}{{ fail "takeOver.service has internalTrafficPolicy: Local: on nodes without a proxy its clients would not be served" }}{{ end -}}
{{- $leadsHere := true -}}
{{- range $key, $value := $spec.selector -}}
{{- if ne (include "zpa.label" (list $ $key)) $value }}{{ $leadsHere = false }}{{ end -}}
{{- end -}}
{{- if $leadsHere -}}
{{- fail (printf "takeOver.service leads to the proxy already. What it was is in the Service %s-pods: give that one" $name) -}}
{{- end -}}
{{- range $spec.ports -}}
{{- if ne (.protocol | default "TCP") "TCP" }}{{ fail (printf "takeOver.service: port %v is not for TCP: move it to a Service of its own first" .port) }}{{ end -}}
{{- $target := toString (.targetPort | default .port) -}}
{{- if eq $target "admin" }}{{ fail "takeOver.service: a targetPort is called admin, as the proxy's own port is: give its number" }}{{ end -}}
{{- if eq $target (include "zpa.adminPort" $) }}{{ fail (printf "takeOver.service leads to port %s, where the proxy has its admin port: set settings.admin-listen, e.g. \":9081\"" $target) }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Where the proxy listens, as JSON: each port that the Service leads to, once. */}}
{{- define "zpa.takenPorts" -}}
{{- include "zpa.takenCheck" . -}}
{{- $ports := .Values.takeOver.service.spec.ports -}}
{{- $used := list (include "zpa.adminPort" . | int) -}}
{{- range $ports -}}
{{- $target := .targetPort | default .port -}}
{{- if not (kindIs "string" $target) }}{{ $used = append $used (int $target) }}{{ end -}}
{{- end -}}
{{- $listeners := list -}}
{{- $seen := list -}}
{{- range $ports -}}
{{- $target := .targetPort | default .port -}}
{{- if not (has (toString $target) $seen) -}}
{{- $seen = append $seen (toString $target) -}}
{{- $name := toString $target -}}
{{- $number := int $target -}}
{{- if kindIs "string" $target -}}
{{- $number = lt (int .port) 1024 | ternary (add 8000 .port) (int64 .port) | int -}}
{{- range until 66 -}}
{{- if has $number $used }}{{ $number = add1 $number | int }}{{ end -}}
{{- end -}}
{{- $used = append $used $number -}}
{{- else -}}
{{- $name = eq (len $ports) 1 | ternary "proxy" (printf "proxy-%d" $number) -}}
{{- end -}}
{{- $listeners = append $listeners (dict "name" $name "container" $number "service" (int .port) "port" (.name | default (toString (int .port)))) -}}
{{- end -}}
{{- end -}}
{{- toJson $listeners -}}
{{- end -}}

{{/* The value of `listen` for these. */}}
{{- define "zpa.takenListen" -}}
{{- $listeners := include "zpa.takenPorts" . | fromJsonArray -}}
{{- if eq (len .Values.takeOver.service.spec.ports) 1 -}}
{{- printf ":%d" (int (first $listeners).container) -}}
{{- else -}}
{{- $entries := list -}}
{{- range $listeners }}{{ $entries = append $entries (printf "%d=%s" (int .container) .port) }}{{ end -}}
{{- join "," $entries -}}
{{- end -}}
{{- end -}}

{{/* The labels that the proxy's pods have more for the selector of the Service, if there are. */}}
{{- define "zpa.takenLabels" -}}
{{- $ours := include "zpa.selectorLabels" . | fromYaml -}}
{{- $labels := dict -}}
{{- if .Values.takeOver.service -}}
{{- include "zpa.takenCheck" . -}}
{{- range $key, $value := .Values.takeOver.service.spec.selector -}}
{{- if not (hasKey $ours $key) }}{{ $_ := set $labels $key (include "zpa.name" $) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $labels -}}
{{- end -}}

{{/* The selectors that lead the clients to the proxy and back, as JSON. Labels that all proxies
have tell one from others only together. */}}
{{- define "zpa.switches" -}}
{{- $ours := include "zpa.selectorLabels" . | fromYaml -}}
{{- $back := deepCopy .Values.takeOver.service.spec.selector -}}
{{- if not (include "zpa.takenLabels" . | fromJson) -}}
{{- range $key, $value := $ours -}}
{{- if not (hasKey $back $key) }}{{ $_ := set $back $key nil }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $there := dict -}}
{{- range $key, $value := $back }}{{ $_ := set $there $key (include "zpa.label" (list $ $key)) }}{{ end -}}
{{- toJson (dict "there" $there "back" $back) -}}
{{- end -}}

{{/* The Service of the app's pods. */}}
{{- define "zpa.podsService" -}}
{{- $service := .Values.takeOver.service -}}
{{- $mode := get ($service.metadata.annotations | default dict) "service.kubernetes.io/topology-mode" -}}
{{- $annotations := $mode | empty | ternary dict (dict "service.kubernetes.io/topology-mode" $mode) -}}
# The app's pods, for the proxy: what the Service that it takes over has led to.
apiVersion: v1
kind: Service
metadata:
  {{- include "zpa.metadata" (list . (include "zpa.dialledService" .) dict $annotations) | nindent 2 }}
spec:
  ports:
    {{- range $service.spec.ports }}
    - port: {{ int .port }}
      {{- $target := .targetPort | default .port }}
      targetPort: {{ kindIs "string" $target | ternary $target (int $target) }}
      {{- with .name }}
      name: {{ . }}
      {{- end }}
      {{- with .appProtocol }}
      appProtocol: {{ . }}
      {{- end }}
    {{- end }}
  selector:
    {{- toYaml $service.spec.selector | nindent 4 }}
  {{- range $field := list "sessionAffinity" "sessionAffinityConfig" "trafficDistribution" "publishNotReadyAddresses" "ipFamilies" "ipFamilyPolicy" }}
  {{- $value := get $service.spec $field }}
  {{- if and $value (ne (toString $value) "None") }}
  {{- toYaml (dict $field $value) | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end -}}
