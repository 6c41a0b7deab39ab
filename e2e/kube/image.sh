#!/usr/bin/env bash
# Makes an image of programs of this machine, for a cluster that can pull none: FROM scratch, with what they are linked to.
#
#   image.sh NAME ARCHIVE PROGRAM=PATH… [FOLDER/=PATH]…      ENTRYPOINT is the first program
#
# Out: a docker-archive that `ctr images import` and `docker load` take. Needs buildah; asks no registry.
set -euo pipefail
name=$1 archive=$2
shift 2

buildah() { command buildah --storage-driver vfs --root "$store/root" --runroot "$store/run" "$@"; }

store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
tree=$store/tree
mkdir -p "$tree/etc/ssl/certs" "$tree/tmp"
chmod 1777 "$tree/tmp"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
entry=
for pair in "$@"; do
  from=${pair%%=*} to=${pair#*=}
  if [ -d "$from" ]; then
    mkdir -p "$tree$to"
    cp -rL "$from/." "$tree$to/"
    continue
  fi
  install -D "$from" "$tree$to"
  entry=${entry:-$to}
  # A static program is linked to nothing, which ldd may call an error and grep does.
  { ldd "$from" 2>/dev/null | grep --only-matching --extended-regexp '/[^ ]+' || true; } | while read -r library; do
    install -D "$library" "$tree$library"
  done
done

container=$(buildah from scratch)
buildah copy --quiet "$container" "$tree" / >/dev/null
buildah config --user 65532:65532 --entrypoint "[\"$entry\"]" --stop-signal SIGTERM "$container"
buildah commit --quiet "$container" "docker-archive:$archive:$name" >/dev/null
