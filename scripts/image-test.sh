#!/usr/bin/env bash
# Makes the image of the Dockerfile around binaries that are built already, and checks what is in it and what it says.
#
#   scripts/image-test.sh GATEWAY LOADTEST
#
# Out: the size, or what is wrong. Needs buildah, and hadolint from GATEWAY_HELM_CACHE (helm/test.sh installs it); asks no
# registry. That such an image runs, without root and with a file system that cannot be written, is for e2e/kube.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${GATEWAY_HELM_CACHE:-$HOME/.cache/gateway-helm}
gateway=$1 loadtest=$2
work=$(mktemp -d)
store=(--storage-driver vfs --root "$work/root" --runroot "$work/run")
container=
finish() {
  [ -z "$container" ] || buildah "${store[@]}" umount "$container" >/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

"$cache/venv/bin/hadolint" "$top/Dockerfile"

mkdir -p "$work/builder/out" "$work/builder/etc/ssl/certs" "$work/empty"
cp "$gateway" "$work/builder/out/gateway"
cp "$loadtest" "$work/builder/out/loadtest"
cp /etc/ssl/certs/ca-certificates.crt "$work/builder/etc/ssl/certs/"
buildah "${store[@]}" bud --quiet --format docker --build-context "builder=$work/builder" --tag gateway:test --file "$top/Dockerfile" "$work/empty" >/dev/null

container=$(buildah "${store[@]}" from gateway:test)
found=$(cd "$(buildah "${store[@]}" mount "$container")" && find . -type f | sort | xargs)
want="./etc/ssl/certs/ca-certificates.crt ./gateway ./loadtest"
[ "$found" = "$want" ] || { echo "in the image is: $found" >&2; exit 1; }

buildah "${store[@]}" inspect --type image gateway:test | python3 -c '
import json, sys
config = json.load(sys.stdin)["Docker"]["config"]
want = {
    "User": "65532:65532",
    "Entrypoint": ["/gateway"],
    "Cmd": ["serve", "--listen", "0.0.0.0:3001", "--internal-listen", "0.0.0.0:3002"],
    "StopSignal": "SIGTERM",
}
wrong = {key: config.get(key) for key in want if config.get(key) != want[key]}
assert not wrong, wrong
assert config["Healthcheck"]["Test"][:2] == ["CMD", "/gateway"], config
assert set(config["ExposedPorts"]) == {"3001/tcp", "3002/tcp"}, config
'
static=static
! ldd "$gateway" 2>/dev/null | grep --quiet "=>" || static="dynamic, so for this check alone"
echo "size: $(du --bytes --summarize "$(buildah "${store[@]}" mount "$container")" | awk '{ printf "%.1f MB", $1 / 1e6 }') ($static)"
