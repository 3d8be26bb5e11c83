#!/usr/bin/env bash
# Builds the images of the runtimes, `rgrid/…`: those that are named, or all; `tests`: those that tests run scripts in.
# One that was made from the same recipe is left as it is.
#
# Where a registry answers: `docker build` of the directories beside this file. Where none does: what the distribution
# has packages for (distribution.sh); the others are named as not built, which is an error only for one that was asked
# for by name.
set -euo pipefail
cd "$(dirname "$0")"

tag_of() {
    case "$1" in
        python3.*) echo "rgrid/python:${1#python}" ;;
        node*) echo "rgrid/node:${1#node}" ;;
        *) echo "rgrid/$1" ;;
    esac
}

recipe_of() { # the directory of its Dockerfile; those of one language differ by their version alone
    case "$1" in
        python3.*) echo python ;;
        node*) echo node ;;
        *) echo "$1" ;;
    esac
}

say() { printf '%-20s %-26s %s\n' "$1" "$(tag_of "$1")" "$2"; }

build() { # NAME: from its Dockerfile
    local log recipe how=()
    log=$(mktemp)
    recipe=$(recipe_of "$1")
    [ "$recipe" = "$1" ] || how=(--build-arg "VERSION=${1#"$recipe"}")
    if docker build --quiet "${how[@]}" --tag "$(tag_of "$1")" "$recipe" >"$log" 2>&1; then
        say "$1" built
    else
        say "$1" "FAILED"
        cat "$log" >&2
        return 1
    fi
    rm -f "$log"
}

compose() { # NAME: from the distribution's packages
    local how
    if how=$(./distribution.sh build "$1" "$(tag_of "$1")"); then
        say "$1" "$how"
    else
        say "$1" "FAILED"
        return 1
    fi
}

if [ "${1:-}" = --one ]; then
    "$2" "$3"
    exit
fi

docker info >/dev/null 2>&1 || {
    echo "There is no Docker engine here: infra/ci/docker.sh installs and starts one." >&2
    exit 1
}

# Later ones are built from earlier ones.
known=(python3.11 python3.10 python3.12 python3.13 node20 node22 bash ffmpeg playwright python-datascience python-llm cuda)
if docker pull --quiet debian:bookworm-slim >/dev/null 2>&1; then
    wanted=("$@")
    [ $# -gt 0 ] || wanted=("${known[@]}" test-bare)
    [ "$*" != tests ] || wanted=(python3.11 node22 bash ffmpeg test-bare)
    for name in "${wanted[@]}"; do
        if [ -f "$(recipe_of "$name")/Dockerfile" ]; then "$0" --one build "$name"; else "$0" --one compose "$name"; fi
    done
    exit
fi

echo "No registry answers: building from the distribution's packages."
mapfile -t here < <(./distribution.sh names)
wanted=("$@")
case "$*" in "" | tests) wanted=("${here[@]}") ;; esac
missing=()
for name in "${wanted[@]}"; do
    case " ${here[*]} " in *" $name "*) ;; *) missing+=("$name") ;; esac
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "The distribution has no packages for: ${missing[*]}. It has them for: ${here[*]}." >&2
    exit 1
fi
printf '%s\n' "${wanted[@]}" | xargs -P "$(nproc)" -I{} "$PWD/build.sh" --one compose {}
[ $# -gt 0 ] || for name in "${known[@]}"; do
    case " ${here[*]} " in *" $name "*) ;; *) say "$name" "not built: its base image comes from a registry" ;; esac
done
