{{/*
The ledger's objects. Their name does not begin with the release's: a Service becomes variables in the pods of its
namespace, and of a release called `spend` they would be SPEND_…, which the product reads as settings and refuses.
StatefulSets hash their name into labels, so it stays short.
*/}}
{{- define "spend-sidecar.ledgerName" -}}
{{- printf "ledger-%s" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "spend-sidecar.ledgerUrl" -}}
{{- default (printf "http://%s.%s.svc:%v" (include "spend-sidecar.ledgerName" .) .Release.Namespace .Values.ledger.port) .Values.sidecar.ledgerUrl -}}
{{- end }}

{{- define "spend-sidecar.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end }}

{{- define "spend-sidecar.ledgerLabels" -}}
app.kubernetes.io/name: spend-ledger
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of a container, whichever pod it stands in; the uid is the image's. */}}
{{- define "spend-sidecar.containerSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* A map of settings as variables; empty for none. */}}
{{- define "spend-sidecar.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
