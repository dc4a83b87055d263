#!/usr/bin/env bash
# Installs what the tests run against where it is missing: Mosquitto, its clients, Redis, and a clock that
# jumps (faketime, for the broker in the fault tests).
set -euo pipefail

missing=()
command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v faketime >/dev/null || missing+=(faketime)

[ ${#missing[@]} -eq 0 ] || exec "$(dirname "$0")/apt-install.sh" "${missing[@]}"
