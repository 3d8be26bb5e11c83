#!/usr/bin/env bash
set -u
echo "args: $# $1"
cat "$1"
printf 'made by bash\n' > made.txt
exit 6
