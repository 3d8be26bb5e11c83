#!/usr/bin/env bash
# Runs tests/smoke against the grid that --url and --key name, or against an embedded grid made for it.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" --url "*) exec .venv/bin/python tests/smoke "$@" ;; esac
RGRID_HOME=$(mktemp -d -t rgrid-smoke-XXXXXX)
export RGRID_HOME
unset RGRID_SERVER RGRID_PROFILE RGRID_API_KEY
trap '.venv/bin/rgrid down --force --quiet; rm -rf "$RGRID_HOME"' EXIT
url=$(.venv/bin/rgrid up --quiet)
key=$(.venv/bin/python -c 'import json, sys; print(json.load(open(sys.argv[1]))["api_key"])' "$RGRID_HOME/local/secrets.json")
RGRID_SERVER=$url RGRID_API_KEY=$key .venv/bin/python tests/smoke "$@"
