{{/* Names and labels. A release called after the chart does not say its name twice. */}}
{{- define "gateway.chart" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 54 | trimSuffix "-" -}}
{{- end -}}

{{- define "gateway.name" -}}
{{- $chart := include "gateway.chart" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else if contains $chart .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $chart | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.chart" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What every object has; a label that a user adds never takes the place of one that is selected by. */}}
{{- define "gateway.labels" -}}
{{- with omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{- toYaml . }}
{{ end -}}
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
{{- $repository := .Values.image.repository -}}
{{- with .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* "yes" where something else than `replicaCount` sets the number of pods. */}}
{{- define "gateway.scaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled -}}yes{{- end -}}
{{- end -}}

{{/* The fewest and the most pods that there can be. */}}
{{- define "gateway.pods" -}}
{{- if .Values.autoscaling.enabled -}}{{ .Values.autoscaling.maxReplicas }}
{{- else if .Values.keda.enabled -}}{{ .Values.keda.maxReplicas }}
{{- else -}}{{ .Values.replicaCount }}
{{- end -}}
{{- end -}}

{{/* "yes" where a URL of Redis comes from somewhere. */}}
{{- define "gateway.redis" -}}
{{- if or .Values.redis.url .Values.redis.settings (and .Values.existingSecret.name .Values.existingSecret.redisUrlKey) -}}yes{{- end -}}
{{- end -}}

{{/* Values that contradict each other are refused before anything is made of them. */}}
{{- define "gateway.check" -}}
{{- $leaving := add .Values.drain.preStopSeconds .Values.drain.graceSeconds 5 -}}
{{- if and (gt (int (include "gateway.pods" .)) 1) (not (include "gateway.redis" .)) -}}
{{- fail "more than one pod needs Redis: set redis.url, or name existingSecret.name and existingSecret.redisUrlKey, or set replicaCount to 1" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling and keda would both set the number of pods: enable one" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor and metrics.podMonitor would scrape every pod twice: enable one" -}}
{{- end -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $leaving) -}}
{{- fail (printf "terminationGracePeriodSeconds must be at least %d, drain.preStopSeconds + drain.graceSeconds + 5: a pod would be killed before it has let its clients go" (int $leaving)) -}}
{{- end -}}
{{- if gt (int .Values.drain.windowSeconds) (int .Values.drain.graceSeconds) -}}
{{- fail "drain.windowSeconds must not be more than drain.graceSeconds" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- fail "keda.minReplicas must not be more than keda.maxReplicas" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.targetCPUUtilizationPercentage) (not .Values.autoscaling.targetConnections) -}}
{{- fail "autoscaling needs targetCPUUtilizationPercentage or targetConnections" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs must name a Gateway" -}}
{{- end -}}
{{- end -}}
