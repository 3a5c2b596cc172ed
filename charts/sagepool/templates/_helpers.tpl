{{- define "sagepool.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "sagepool.fullname" -}}
{{- $name := include "sagepool.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sagepool.operatorName" -}}
{{- include "sagepool.fullname" . }}-operator
{{- end -}}

{{- define "sagepool.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The names of the given objects, separated by commas. */}}
{{- define "sagepool.names" -}}
{{- $names := list -}}
{{- range . }}{{ $names = append $names .name }}{{ end -}}
{{- join "," $names -}}
{{- end -}}

{{/* Never changes for a release: a Deployment's selector cannot. */}}
{{- define "sagepool.operatorSelector" -}}
app.kubernetes.io/name: {{ include "sagepool.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "sagepool.labels" -}}
app.kubernetes.io/name: {{ include "sagepool.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: sagepool
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sagepool.operatorLabels" -}}
{{ include "sagepool.labels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{/*
What every container of ours may do: nothing that the "restricted" Pod Security Standard forbids.
The image runs as 65532; no user is set here, so that OpenShift can give one of its own.
*/}}
{{- define "sagepool.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sagepool.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "sagepool.updateLabels" -}}
{{ include "sagepool.labels" . }}
app.kubernetes.io/component: crds
{{- end -}}

{{/*
Of what is there for the update of the CustomResourceDefinitions alone; its weight is given. What
has failed stays, for its log.
*/}}
{{- define "sagepool.updateHook" -}}
helm.sh/hook: pre-install,pre-upgrade,pre-rollback
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
