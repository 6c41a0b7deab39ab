#!/usr/bin/env bash
# Runs the tests of adapter-redis against every server that it supports, one after another.
#
#   scripts/redis-matrix.sh FOLDER [SERVER…]      FOLDER: where the servers are, or are fetched to
#
# What a server cannot do is left out by name and said; everything else must pass on each. It goes on after a failure and
# fails in the end.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift
scripts/redis-servers.sh "$folder"
folder=$(cd "$folder" && pwd)
[ "$#" -gt 0 ] || set -- redis-6.2 redis-7.0 redis-8.0 valkey-8 valkey-9

failed=()
for server in "$@"; do
  leave_out=()
  case $server in redis-6.2)
    echo "$server has no sharded channels: tests of them are left out"
    leave_out+=(sharded)
    ;;
  esac
  case $server in redis-6.2 | valkey-9)
    echo "this build of $server has no TLS: tests of it are left out"
    leave_out+=(tls)
    ;;
  esac
  filter='all()'
  for name in "${leave_out[@]}"; do filter+=" - test(/(^|::|_)$name/)"; done
  GATEWAY_TEST_REDIS=$folder/$server scripts/suite.sh "$server" nextest \
    cargo nextest run --package adapter-redis --locked --no-fail-fast --filterset "$filter" || failed+=("$server")
done
if [ "${#failed[@]}" -ne 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
echo "all passed: $*"
