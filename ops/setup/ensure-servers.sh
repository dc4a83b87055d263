#!/usr/bin/env bash
# Installs what the tests run against where it is missing: Mosquitto, its clients, Redis.
set -euo pipefail

missing=()
command -v mosquitto >/dev/null || missing+=(mosquitto)
command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
command -v redis-server >/dev/null || missing+=(redis-server)

[ ${#missing[@]} -eq 0 ] || exec "$(dirname "$0")/apt-install.sh" "${missing[@]}"
