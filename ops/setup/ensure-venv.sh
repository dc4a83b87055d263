#!/usr/bin/env bash
# Usage: ensure-venv.sh FOLDER EXTRA
# Makes the virtual environment where it is missing and installs the project into it, editable.
set -euo pipefail

folder=$1
extra=$2

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# The newest Python that serves; $PYTHON, when given, is taken at its word.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 found. Install one, or name it: make PYTHON=/path/to/python3.11"
}

make_venv() {
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        # Debian and Ubuntu ship the venv module without pip in a package of its own.
        "$(dirname "$0")/apt-install.sh" "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    "$python" -m venv "$folder"
}

[ -x "$folder/bin/python" ] || make_venv
printf 'setup: installing antiphon[%s] into %s (minutes the first time)\n' "$extra" "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".[$extra]" \
    || fail "pip could not install the project: read its message above; a proxy or mirror goes into pip.conf"
