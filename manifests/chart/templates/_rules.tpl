{{/* The rules of the Role. */}}
{{- define "zpa.rules" -}}
{{- $mode := include "zpa.mode" . -}}
{{- $defaults := .Values.settings -}}
{{- $apps := eq $mode "app" | ternary (list $defaults) .Values.apps -}}
{{- $services := list -}}
{{- $deployments := list -}}
{{- $others := list -}}
{{- $readsPods := or .Values.rbac.readPods (get $defaults "fail-fast") -}}
{{- range $app := $apps -}}
{{- $target := include "zpa.target" $app | fromJson -}}
{{- $services = append $services (include "zpa.serviceOf" $app) -}}
{{- if and (eq $target.plural "deployments") (eq $target.group "apps") -}}
{{- $deployments = append $deployments $target.name -}}
{{- else -}}
{{- $single := hasKey $app "single-proxy" | ternary (get $app "single-proxy") (get $defaults "single-proxy") -}}
{{- $wakes := get $app "wake-replicas" | default (get $defaults "wake-replicas") -}}
{{- $annotated := or (ne (toString $single) "true") (eq (toString $wakes) "previous") -}}
{{- $others = append $others (merge (dict "annotated" $annotated) $target) -}}
{{- end -}}
{{- if eq (toString (get $app "fail-fast")) "true" }}{{ $readsPods = true }}{{ end -}}
{{- end -}}
{{- if eq $mode "app" }}{{ $services = list (include "zpa.dialledService" .) }}{{ end -}}
{{- if or $deployments (eq $mode "discovery") }}
# Read the number of replicas, and who has renewed last, and watch both change.
{{- if eq $mode "discovery" }} Of every
# Deployment, since apps come and go; with what stands in their pod templates.
{{- else }} By name.
{{- end }}
- apiGroups: [apps]
  resources: [deployments]
  {{- with $deployments }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get, list, watch]
# Write the number of replicas, and the condition zero-pod-autoscaler/InUse. Neither
# subresource reaches the pod template.
- apiGroups: [apps]
  resources: [deployments/scale, deployments/status]
  {{- with $deployments }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [patch]
{{- end }}
{{- range $others }}
- apiGroups: [{{ .group }}]
  resources: [{{ .plural }}]
  resourceNames: [{{ .name | quote }}]
  verbs: [get, list, watch]
- apiGroups: [{{ .group }}]
  resources: [{{ .plural }}/scale]
  resourceNames: [{{ .name | quote }}]
  verbs: [patch]
{{- if .annotated }}
# Keep the lease in an annotation. This reaches the pod template: where that is too much, run
# one replica with settings.single-proxy.
- apiGroups: [{{ .group }}]
  resources: [{{ .plural }}]
  resourceNames: [{{ .name | quote }}]
  verbs: [patch]
{{- end }}
{{- end }}
{{- if eq $mode "discovery" }}
# Find the apps by the labels and annotations of their Services.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch]
{{- else }}
# Which number a named port of the Service has.
- apiGroups: [""]
  resources: [services]
  resourceNames: {{ uniq $services | toJson }}
  verbs: [get]
{{- end }}
# The pods' addresses. The names of slices are random, so that no resourceNames can be given.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# Say by Events what was done (kubectl describe). Optional.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if $readsPods }}
# Say why a wake takes long. Whoever may list pods reads what stands in their specs.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end }}
{{- end -}}
