#!/usr/bin/env bash
# `make demo`: counts the words of twelve texts on a grid of its own, brings the results back, stops the grid.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root/examples/wordcount"
PATH="$root/.venv/bin:$PATH"
unset RGRID_SERVER RGRID_PROFILE RGRID_API_KEY
export RGRID_HOME="$root/.cache/demo"
outputs="$root/.cache/demo-outputs"
rm -rf "$outputs"
trap 'rgrid down --quiet' EXIT

printf '$ rgrid run count.py --batch "texts/*.txt" --parallel 4\n'
rgrid run --output-dir "$outputs" count.py --batch 'texts/*.txt' --parallel 4

printf '\nWhat the script left, one directory for each text, is in %s:\n' "$outputs"
(cd "$outputs" && find . -type f | sort | sed 's|^\./|  |')
printf '\nThe most frequent words of %s:\n' alice.txt
find "$outputs" -path '*alice*' -name words.csv -exec head -n 6 {} \; | sed 's/^/  /'
