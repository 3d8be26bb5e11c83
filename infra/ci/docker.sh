#!/usr/bin/env bash
# A Docker engine and the images that the tests need, on a bare Debian or Ubuntu. What is there is left as it is.
set -euo pipefail
self=$(realpath "$0")
[ "$(id -u)" = 0 ] || exec sudo --preserve-env "$self" "$@"
cd "$(dirname "$self")/../.."
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
log=${RGRID_DOCKERD_LOG:-/var/log/rgrid-dockerd.log}

install_missing() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    # Images are composed from what apt knows, so it has to know something.
    if [ ${#missing[@]} -gt 0 ] || ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
        apt-get update -qq
    fi
    # Newer releases have the client in a package of its own.
    if ! command -v docker >/dev/null && [ -n "$(apt-cache madison docker-cli)" ]; then missing+=(docker-cli); fi
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "Installing ${missing[*]}"
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

start() { # ARGUMENTS of dockerd; true once it answers
    local pid
    setsid nohup dockerd "$@" </dev/null >"$log" 2>&1 &
    pid=$!
    for _ in $(seq 300); do
        if docker info >/dev/null 2>&1; then return 0; fi
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.2
    done
    kill "$pid"
    return 1
}

install_missing
if ! docker info >/dev/null 2>&1; then
    echo "Starting dockerd; its log is $log"
    # On some file systems overlay2 is refused; then it may choose what works.
    start --storage-driver=overlay2 || start || {
        echo "dockerd does not start:" >&2
        tail -n 40 "$log" >&2
        exit 1
    }
fi
docker version --format 'Docker engine {{.Server.Version}}, client {{.Client.Version}}'
make runtimes NAMES=tests
