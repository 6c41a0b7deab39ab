#!/usr/bin/env bash
# Installs what the tests need of the machine, where it is missing: Debian packages, and a Node.js that is new enough.
#
#   scripts/machine.sh TOOLS      TOOLS: a folder for what is not a Debian package; its bin/ comes first in PATH
#
# It says what it installs, asks nothing, and never touches what is there already.
set -euo pipefail
tools=$1

# The oldest that the tests run on, and what is fetched where Debian has an older one.
NODE_MAJOR=20
NODE_PACKAGE=node-linux-$(uname -m | sed -e 's/x86_64/x64/' -e 's/aarch64/arm64/')@20

packages=()
# A command, and the packages that bring it.
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null || packages+=("$@")
}
need cc gcc libc6-dev
need redis-server redis-server
need openssl openssl
# The alerts and dashboards, the load balancers and the image.
need promtool prometheus
need prometheus prometheus
need haproxy haproxy
need nginx nginx-light
need buildah buildah
need docker-registry docker-registry
need curl curl
need node nodejs
need npm npm
need python3 python3 python3-venv
need "${CHROMIUM_BIN:-/usr/bin/chromium}" chromium
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
if command -v python3 >/dev/null; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
fi

if [ "${#packages[@]}" -ne 0 ]; then
  echo "installing Debian packages: ${packages[*]}"
  command -v apt-get >/dev/null || { echo "no apt-get here: install them by hand" >&2; exit 1; }
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "neither root nor sudo: install them by hand" >&2; exit 1; }
    root=(sudo)
  fi
  "${root[@]}" apt-get update --quiet --quiet
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends "${packages[@]}"
fi

node_is_new() { [ "$(node --print 'process.versions.node.split(".")[0]')" -ge "$NODE_MAJOR" ]; }
if ! node_is_new; then
  echo "installing Node.js $NODE_MAJOR into $tools: Debian has $(node --version)"
  npm install --prefix "$tools/node" --no-save --no-audit --no-fund --silent "$NODE_PACKAGE"
  mkdir -p "$tools/bin"
  ln --symbolic --force "$tools/node/node_modules/${NODE_PACKAGE%@*}/bin/node" "$tools/bin/node"
  hash -r
  node_is_new || { echo "Node.js $NODE_MAJOR or newer is needed" >&2; exit 1; }
fi
