#!/usr/bin/env bash
# Tries the chart on a real cluster: install, test, scale, upgrade, drain, uninstall, with official clients connected.
#
#   KUBECONFIG=FILE IMAGE=REGISTRY/gateway:TAG e2e/kube/run.sh        a cluster of yours; it makes and deletes a namespace
#   KUBE_NODE=PROGRAM GATEWAY_BIN=FILE LOADTEST_BIN=FILE e2e/kube/run.sh      a node for this test alone
#
# On a cluster of yours: GATEWAY_URL where its nodes' ports cannot be reached from here.
# PROGRAM starts a node: `up IMAGE…`, `run COMMAND…`, `modern` (rewrites manifests for its API), `down`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${GATEWAY_HELM_CACHE:-$HOME/.cache/gateway-helm}
export HELM=$cache/node_modules/.bin/helm CHART=$top/helm/gateway
[ -x "$HELM" ] || { echo "no Helm in $cache: run helm/test.sh once" >&2; exit 2; }

if [ -z "${KUBE_NODE:-}" ]; then
  : "${KUBECONFIG:?name a cluster by KUBECONFIG, or a program that starts a node by KUBE_NODE}" "${IMAGE:?name the image that the cluster pulls}"
  export NODE_ADDRESS=${NODE_ADDRESS:-$(kubectl get nodes --output 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')}
  exec node --test --test-reporter=spec "$here/cluster.test.mjs"
fi

work=$(mktemp -d)
dns=
finish() {
  [ -z "$dns" ] || kill "$dns" 2>/dev/null || true
  "$KUBE_NODE" down || true
  rm -rf "$work"
}
trap finish EXIT

echo "images"
"$here/image.sh" localhost/gateway:test "$work/gateway.tar" "${GATEWAY_BIN:?}=/gateway" "${LOADTEST_BIN:?}=/loadtest"
"$here/image.sh" docker.io/library/redis:7.2 "$work/redis.tar" "$(command -v redis-server)=/usr/local/bin/redis-server"

echo "node"
"$KUBE_NODE" up "$work"/*.tar
# The node's API is older than what the chart is for: a copy without that line, and objects as it knows them.
cp -r "$CHART" "$work/chart"
sed -i '/^kubeVersion:/d' "$work/chart/Chart.yaml"
printf '#!/bin/sh\nexec "%s" modern\n' "$KUBE_NODE" >"$work/modern"
chmod +x "$work/modern"
address=$("$KUBE_NODE" run kubectl get nodes --output 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
"$KUBE_NODE" run node "$here/dns.mjs" "$address" >"$work/dns.log" 2>&1 &
dns=$!
timeout 10 sh -c 'until grep -q ready "$1"; do sleep 0.1; done' - "$work/dns.log"

status=0
"$KUBE_NODE" run env CHART="$work/chart" OLD_API="$work/modern" IMAGE=localhost/gateway:test \
  DNS_SERVER="$address" NODE_ADDRESS="$address" node --test --test-reporter=spec "$here/cluster.test.mjs" || status=$?
[ "$status" -eq 0 ] || cat "$work/dns.log"
exit "$status"
