{{/* Labels of every object. Called with the root, or with (dict "root" . "component" "...") for a part. */}}
{{- define "weft.labels" -}}
{{- $root := .root -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: weft
{{ include "weft.selector" . }}
{{- end }}

{{/* Labels that never change: what selectors go by. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* registry/repository:tag, or @digest. Called with (dict "root" . "image" .Values.x.image). */}}
{{- define "weft.image" -}}
{{- $all := .root.Values.image -}}
{{- $name := .image.repository -}}
{{- if $all.registry -}}
{{- $name = printf "%s/%s" $all.registry $name -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default $all.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* What passes the Pod Security level `restricted`, for a container. */}}
{{- define "weft.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The same for a pod. The images name a numeric user. */}}
{{- define "weft.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "weft.priorityClassName" -}}
{{- if .Values.controlPlane.priorityClassName -}}
{{- .Values.controlPlane.priorityClassName -}}
{{- else if .Values.priorityClass.create -}}
weft-control-plane
{{- end -}}
{{- end }}
