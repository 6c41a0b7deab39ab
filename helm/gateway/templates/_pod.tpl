{{/* The Secret's two keys that are not of Redis, for whoever signs tokens or calls the server API. */}}
{{- define "gateway.secrets" -}}
{{- $secret := .Values.existingSecret -}}
{{- $environment := list -}}
{{- range $variable, $key := dict "GATEWAY_JWT_SECRET" $secret.jwtSecretKey "GATEWAY_API_KEY" $secret.apiKeyKey -}}
{{- if and $secret.name $key -}}
{{- $environment = append $environment (dict "name" $variable "valueFrom" (dict "secretKeyRef" (dict "name" $secret.name "key" $key))) -}}
{{- end -}}
{{- end -}}
{{- with $environment -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/*
The container's environment: the Secret's variables whose key is named, what other values set, who the pod is for its
traces, then what the values add. A later one wins, so `extraEnv` has the last word.
*/}}
{{- define "gateway.environment" -}}
{{- $secret := .Values.existingSecret -}}
{{- $environment := include "gateway.secrets" . | fromYamlArray -}}
{{- $plain := dict "GATEWAY__DRAIN__WINDOW" (printf "%ds" (int .Values.drain.windowSeconds)) "GATEWAY__DRAIN__GRACE" (printf "%ds" (int .Values.drain.graceSeconds)) -}}
{{- if .Values.redis.url -}}
{{- $_ := set $plain "REDIS_URL" .Values.redis.url -}}
{{- else if and $secret.name $secret.redisUrlKey -}}
{{- $reference := dict "secretKeyRef" (dict "name" $secret.name "key" $secret.redisUrlKey) -}}
{{- $environment = append $environment (dict "name" "REDIS_URL" "valueFrom" $reference) -}}
{{- end -}}
{{- range $key, $value := .Values.redis.settings -}}
{{- $_ := set $plain (printf "GATEWAY__REDIS__%s" (upper $key)) (kindIs "string" $value | ternary $value (toJson $value)) -}}
{{- end -}}
{{- range $variable, $value := $plain -}}
{{- $environment = append $environment (dict "name" $variable "value" $value) -}}
{{- end -}}
{{- if .Values.trace.endpoint -}}
{{- range $variable, $path := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "NODE_NAME" "spec.nodeName" -}}
{{- $environment = append $environment (dict "name" $variable "valueFrom" (dict "fieldRef" (dict "fieldPath" $path))) -}}
{{- end -}}
{{- $who := "k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME)" -}}
{{- $environment = append $environment (dict "name" "OTEL_RESOURCE_ATTRIBUTES" "value" $who) -}}
{{- $environment = append $environment (dict "name" "GATEWAY__TRACE__ENDPOINT" "value" .Values.trace.endpoint) -}}
{{- $environment = append $environment (dict "name" "GATEWAY__TRACE__SAMPLE" "value" (toString .Values.trace.sample)) -}}
{{- end -}}
{{- with concat $environment .Values.extraEnv -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/*
What starts the pods anew when it changes: the configuration, the contracts, and the Secret where the cluster can be
asked for it (`helm template` and those who build on it cannot).
*/}}
{{- define "gateway.checksums" -}}
checksum/config: {{ .Values.config | sha256sum }}
{{- with .Values.contracts }}
checksum/contracts: {{ toJson . | sha256sum }}
{{- end }}
{{- if .Values.existingSecret.name }}
{{- with lookup "v1" "Secret" .Release.Namespace .Values.existingSecret.name }}
checksum/secret: {{ toJson .data | sha256sum }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Spread over zones and nodes: a constraint that selects nothing itself counts the gateway's own pods. */}}
{{- define "gateway.spread" -}}
{{- $selector := dict "matchLabels" (include "gateway.selector" . | fromYaml) -}}
{{- $constraints := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (merge (deepCopy .) (dict "labelSelector" $selector)) -}}
{{- end -}}
{{- toYaml $constraints -}}
{{- end -}}
