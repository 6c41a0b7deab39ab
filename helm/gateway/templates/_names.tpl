{{/* Names and labels. A release called after the chart does not say its name twice. */}}
{{- define "gateway.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gateway.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The container's environment: the secret variables whose key is named, then what the values add. */}}
{{- define "gateway.environment" -}}
{{- $secret := .Values.existingSecret -}}
{{- $keys := dict "GATEWAY_JWT_SECRET" $secret.jwtSecretKey "GATEWAY_API_KEY" $secret.apiKeyKey "REDIS_URL" $secret.redisUrlKey -}}
{{- $environment := list -}}
{{- range $variable, $key := $keys -}}
{{- if and $secret.name $key -}}
{{- $reference := dict "secretKeyRef" (dict "name" $secret.name "key" $key) -}}
{{- $environment = append $environment (dict "name" $variable "valueFrom" $reference) -}}
{{- end -}}
{{- end -}}
{{- with concat $environment .Values.extraEnv -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}
