{{/* Fails if settings name a file that is not in the container, where nothing is but what is mounted;
of a list with the context and the settings. */}}
{{- define "zpa.checkFiles" -}}
{{- $mounts := (first .).Values.extraVolumeMounts -}}
{{- range $flag, $value := last . -}}
{{- $text := include "zpa.text" $value -}}
{{- $files := list -}}
{{- if and (has $flag (list "hold-answer" "waiting-page")) (contains "/" $text) -}}
{{- $files = list $text -}}
{{- else if eq $flag "webhook-ca" -}}
{{- $files = list $text -}}
{{- else if has $flag (list "ignore-sources" "deny-sources") -}}
{{- range regexFindAll "@[^,\\s]+" $text -1 }}{{ $files = append $files (trimPrefix "@" .) }}{{ end -}}
{{- end -}}
{{- range $file := $files -}}
{{- $there := false -}}
{{- range $mounts -}}
{{- if hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) (printf "%s/" $file) }}{{ $there = true }}{{ end -}}
{{- end -}}
{{- if not $there -}}
{{- fail (printf "%s: the file %s is none of the proxy's container: put it into a ConfigMap or Secret, and mount that by extraVolumes and extraVolumeMounts" $flag $file) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
