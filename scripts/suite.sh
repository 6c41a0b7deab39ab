#!/usr/bin/env bash
# Runs one test suite and counts it by its runner's own words.
#
#   scripts/suite.sh NAME RUNNER COMMAND…      RUNNER: nextest, node, pytest, script
#
# In come the command and what it prints; out go the same lines, also to target/suites/NAME.log, and `PASSED FAILED` to
# target/suites/NAME.count. It never calls a suite good that failed, that hung, or that ran no test.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 runner=$2
shift 2

# Far above what any suite takes; without it a hanging test would be the last that is heard of a build.
LONGEST=20m

folder=${CARGO_TARGET_DIR:-target}/suites
log=$folder/$name.log
mkdir -p "$folder"
rm -f "$log" "$folder/$name.count"

# The number before a word in the runner's summary, summed over the words given; 0 where there is none.
before() {
  local line=$1 sum=0 word found
  shift
  for word in "$@"; do
    found=$(grep --only-matching --extended-regexp "[0-9]+ $word" <<<"$line" | head -n 1) || continue
    sum=$((sum + ${found%% *}))
  done
  echo "$sum"
}

# The total that `node --test` prints after a word, in either of its formats.
after() { awk -v word="$1" '($1 == "ℹ" || $1 == "#") && $2 == word { total = $3 } END { print total + 0 }' "$log"; }

# Sets `passed`, `failed`, and `aside`: what is skipped, or marked as not working yet.
count() {
  local summary
  aside=0
  case $runner in
    nextest)
      summary=$(grep --extended-regexp '^ *Summary \[' "$log" | tail -n 1) || true
      passed=$(before "$summary" passed)
      failed=$(before "$summary" failed 'timed out' 'exec failed')
      aside=$(before "$summary" skipped)
      ;;
    node)
      passed=$(after pass)
      failed=$(($(after fail) + $(after cancelled)))
      aside=$(($(after skipped) + $(after todo)))
      ;;
    pytest)
      summary=$(grep --extended-regexp '[0-9]+ (passed|failed|errors?).* in [0-9.]+s' "$log" | tail -n 1) || true
      passed=$(before "$summary" passed)
      failed=$(before "$summary" failed error)
      aside=$(before "$summary" skipped xfailed)
      ;;
    script)
      passed=$((status == 0)) failed=$((status != 0))
      ;;
    *)
      echo "scripts/suite.sh: no runner is called $runner" >&2
      exit 2
      ;;
  esac
}

echo "==> $name"
status=0
NO_COLOR=1 PY_COLORS=0 CARGO_TERM_COLOR=never timeout --kill-after=10s "$LONGEST" "$@" </dev/null 2>&1 | tee "$log" || status=${PIPESTATUS[0]}

count
why="$failed failed"
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
  # It did not compile, did not start, or hung: a failure that the runner could not count.
  failed=1 why="it ended with status $status before it could count"
  [ "$status" -ne 124 ] || why="it took longer than $LONGEST"
elif [ "$passed" -eq 0 ] && [ "$failed" -eq 0 ]; then
  failed=1 why="no test was run"
fi
echo "$passed $failed" >"$folder/$name.count"
if [ "$failed" -ne 0 ]; then
  echo "==> $name: FAILED, $why (all of it is in $log)" >&2
  exit 1
fi
if [ "$aside" -eq 0 ]; then
  echo "==> $name: ok, $passed passed"
else
  echo "==> $name: ok, $passed passed, and $aside skipped or not expected to pass yet"
fi
