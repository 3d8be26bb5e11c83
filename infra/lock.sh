#!/usr/bin/env bash
# Writes requirements.lock: every dependency of the four packages and of the tools, for every platform, with hashes and
# without addresses. `infra/lock.sh --upgrade` takes the newest versions that the pyproject files allow.
set -euo pipefail
cd "$(dirname "$0")/.."
own=()
for package in rgrid rgrid-api rgrid-runner rgrid-shared; do own+=(--no-emit-package "$package"); done
.venv/bin/uv pip compile pyproject.toml {cli,api,runner,shared}/pyproject.toml --group dev --all-extras \
    --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links "${own[@]}" --quiet --output-file requirements.lock "$@"
