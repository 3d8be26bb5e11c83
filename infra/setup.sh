#!/usr/bin/env bash
# Makes .venv: the pinned uv by hash, then everything that requirements.lock names, then the four packages in place.
# Runs again only what is missing; `make setup` calls it when a requirement has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

# The first Python that is new enough and can make virtual environments. Asking it is the only test that counts: a
# name on PATH may be a shim of an interpreter that is not installed.
find_python() {
    local name found
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
        [ -n "$name" ] || continue
        found=$("$name" -c 'import ensurepip, sys, venv
if sys.version_info < (3, 11): raise SystemExit(1)
print(getattr(sys, "_base_executable", sys.executable))' 2>/dev/null) || continue
        echo "$found"
        return
    done
    echo "No Python 3.11 or newer with its venv module was found." >&2
    echo "Debian and Ubuntu: apt-get install python3 python3-venv; or name one: make setup PYTHON=/path/to/python3" >&2
    return 1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version) ($python)"
    rm -rf .venv
    "$python" -m venv .venv
fi

pin=$(mktemp)
trap 'rm -f "$pin"' EXIT
sed -n '/^uv==/,/[^\\]$/p' requirements.lock >"$pin"
wanted=$(sed -n 's/^uv==\([^ ]*\).*/uv \1/p' "$pin")
case "$(.venv/bin/uv --version 2>/dev/null)" in
    "$wanted" | "$wanted "*) ;;
    *) .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$pin" ;;
esac

export VIRTUAL_ENV="$PWD/.venv"
.venv/bin/uv pip install --quiet --compile-bytecode --require-hashes --no-deps -r requirements.lock
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation -e shared -e cli -e api -e runner
.venv/bin/python -m compileall -q shared cli api runner
touch .venv/.installed
