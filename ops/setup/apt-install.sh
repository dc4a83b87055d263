#!/usr/bin/env bash
# Usage: apt-install.sh PACKAGE...
# Installs Debian packages as root or with sudo, without starting or enabling services they bring.
set -euo pipefail

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# sudo may ask for a password only where somebody can type it.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Debian asks this file before it starts a service; one that is there already stays as it is.
readonly POLICY=/usr/sbin/policy-rc.d

forbid_services() {
    [ ! -e "$POLICY" ] || return 0
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null \
        && trap 'as_root rm -f "$POLICY"' EXIT \
        && as_root chmod +x "$POLICY"
}

# A broker or Redis of the system's would hold ports 1883 and 6379 from the next boot on.
disable_services() {
    command -v systemctl >/dev/null || return 0
    local service
    for service in "$@"; do
        as_root systemctl disable "$service" >/dev/null 2>&1 || true
    done
}

command -v apt-get >/dev/null \
    || fail "missing: $*. There is no apt here: install them by your system's means (macOS: brew install mosquitto redis)"
[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null \
    || fail "missing: $*. You are not root and there is no sudo: ask an administrator to run: apt-get install $*"

printf 'setup: installing %s with apt\n' "$*"
forbid_services || fail "missing: $*. sudo needs a password and nobody can type it here: run: sudo apt-get install $*"
as_root apt-get update -qq || true # stale lists may still do
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
    || fail "apt could not install $*: read its message above, then run: sudo apt-get install $*"
disable_services "$@"
