{{/*
The sidecar, for a pod of yours: one container among its initContainers, where `restartPolicy: Always` makes it start
before the application and end after it. Give it this chart's own scope, from a chart that depends on this one:

    {{- include "spend-sidecar.container" (index .Subcharts "spend-sidecar") | nindent 8 }}
*/}}
{{- define "spend-sidecar.container" -}}
- name: spend-sidecar
  image: {{ include "spend-sidecar.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [sidecar]
  env:
    - {name: SPEND_LEDGER_URL, value: {{ include "spend-sidecar.ledgerUrl" . | quote }}}
    - {name: SPEND_LEDGER_TOKEN_FILE, value: /etc/spend/token/token}
    - {name: SPEND_LISTEN__PORT, value: {{ .Values.sidecar.port | quote }}}
    # The kubelet's probes come from outside; the proxy itself stays on the pod's loopback.
    - {name: SPEND_HEALTH__HOST, value: 0.0.0.0}
    - {name: SPEND_HEALTH__PORT, value: {{ .Values.sidecar.healthPort | quote }}}
    - {name: SPEND_DEMO, value: {{ .Values.sidecar.demo | quote }}}
    - {name: SPEND_LOG__FORM, value: json}
    - name: SPEND_OUTBOX__POD_UID
      valueFrom: {fieldRef: {fieldPath: metadata.uid}}
    {{- with .Values.sidecar.customer }}
    - {name: SPEND_SUBJECT__CUSTOMER, value: {{ . | quote }}}
    {{- end }}
    {{- if .Values.redis.secret.name }}
    - name: SPEND_REDIS__URL
      valueFrom: {secretKeyRef: {name: {{ .Values.redis.secret.name }}, key: {{ .Values.redis.secret.key | quote }}}}
    - {name: SPEND_REDIS__CLUSTER, value: {{ .Values.redis.cluster | quote }}}
    {{- end }}
    {{- if .Values.catalog.configMap }}
    - {name: SPEND_CATALOG, value: /etc/spend/catalog/catalog.yaml}
    {{- end }}
    {{- if .Values.sidecar.ledgerCaConfigMap }}
    - {name: SSL_CERT_FILE, value: /etc/spend/ca/ca.crt}
    {{- end }}
    {{- range $provider, $secret := .Values.sidecar.providerKeys }}
    - {name: SPEND_UPSTREAMS__{{ upper $provider }}__KEY_FILE, value: /etc/spend/keys/{{ $provider }}/key}
    {{- end }}
    {{- include "spend-sidecar.env" .Values.sidecar.env | nindent 4 }}
  ports:
    - {name: spend-health, containerPort: {{ .Values.sidecar.healthPort }}}
  # Alive is enough for the application to start: without its ledger a sidecar refuses, and says why.
  startupProbe: {httpGet: {path: /livez, port: spend-health}, periodSeconds: 1, failureThreshold: 60}
  livenessProbe: {httpGet: {path: /livez, port: spend-health}, periodSeconds: 10, timeoutSeconds: 5}
  readinessProbe: {httpGet: {path: /readyz, port: spend-health}, periodSeconds: 5, timeoutSeconds: 5}
  securityContext:
    {{- include "spend-sidecar.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .Values.sidecar.resources | nindent 4 }}
  volumeMounts:
    - {name: spend-data, mountPath: /var/lib/spend}
    - {name: spend-token, mountPath: /etc/spend/token, readOnly: true}
    {{- if .Values.catalog.configMap }}
    - {name: spend-catalog, mountPath: /etc/spend/catalog, readOnly: true}
    {{- end }}
    {{- if .Values.sidecar.ledgerCaConfigMap }}
    - {name: spend-ca, mountPath: /etc/spend/ca, readOnly: true}
    {{- end }}
    {{- range $provider, $secret := .Values.sidecar.providerKeys }}
    - {name: spend-key-{{ $provider }}, mountPath: /etc/spend/keys/{{ $provider }}, readOnly: true}
    {{- end }}
{{- end }}

{{/*
Its volumes. The outbox lives as long as the pod: a container that restarts finds its open calls there; what a deleted
pod was lent stays reserved for a day, and then counts as spent until `spend leases resolve` says otherwise. Secrets are readable to the sidecar's uid without an fsGroup,
which is the application's to choose; no other container mounts them.
*/}}
{{- define "spend-sidecar.volumes" -}}
- name: spend-data
  emptyDir: {sizeLimit: {{ .Values.sidecar.dataLimit }}}
- name: spend-token
  secret:
    secretName: {{ .Values.sidecar.tokenSecret.name }}
    defaultMode: 0444
    items: [{key: {{ .Values.sidecar.tokenSecret.key | quote }}, path: token}]
{{- with .Values.catalog.configMap }}
- name: spend-catalog
  configMap: {name: {{ . }}}
{{- end }}
{{- with .Values.sidecar.ledgerCaConfigMap }}
- name: spend-ca
  configMap: {name: {{ . }}}
{{- end }}
{{- range $provider, $secret := .Values.sidecar.providerKeys }}
- name: spend-key-{{ $provider }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0444
    items: [{key: {{ $secret.key | quote }}, path: key}]
{{- end }}
{{- end }}
