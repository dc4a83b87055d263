#!/usr/bin/env bash
# Every test. Those that only compute run beside those that wait for servers and processes, and give way to them.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:?usage: tests/run-all.sh PYTHON [PYTEST OPTIONS]}
shift

computing=(tests/home tests/parity)
log=$(mktemp)
nice -n 10 "$python" -m pytest -p no:cacheprovider "${computing[@]}" "$@" >"$log" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null; rm -f "$log"' EXIT

"$python" -m pytest "${computing[@]/#/--ignore=}" "$@"
waiting=$?
wait "$beside"
computed=$?
cat "$log"
[ "$waiting" -eq 0 ] && [ "$computed" -eq 0 ]
