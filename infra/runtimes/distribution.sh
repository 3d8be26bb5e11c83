#!/usr/bin/env bash
# Images from the packages of this Debian or Ubuntu, for places where no registry can be reached.
#
#   distribution.sh names             what can be built: Python, Node.js, bash, ffmpeg as the distribution has them
#   distribution.sh build NAME TAG    builds it, unless the image is there and was made from the same recipe
#
# /var/cache/rgrid/images, where that directory exists, keeps what was made for a machine whose engine is empty.
set -euo pipefail
self=$(realpath "$0")
cache=/var/cache/rgrid/images
release=$(. /etc/os-release && echo "$VERSION_CODENAME")

sources() { # The distribution's own repositories, whatever else the machine lists and in whichever format.
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$release" '
            ($1 == "Debian" || $1 == "Ubuntu") && ($4 == "main" || $4 == "universe") &&
            ($2 == release || $2 == release "-updates" || $2 == release "-security") { print "deb", $5, $3, $4 }' |
        sort -u
}

candidate() { # PACKAGE: the newest version there, without epoch and the distribution's part
    apt-cache madison "$1" |
        awk 'NR == FNR { sub("/$", "", $2); ours[$2 " " $3 "/" $4]; next } ($5 " " $6) in ours { print $3; exit }' \
            <(sources) - | sed 's/^[0-9]*://; s/[^0-9.].*//'
}

names() {
    local python node
    python=$(candidate python3)
    node=$(candidate nodejs)
    [ -z "$python" ] || echo "python$(cut -d. -f1,2 <<<"$python")"
    [ -z "$node" ] || echo "node${node%%.*}"
    printf '%s\n' bash ffmpeg test-bare
}

packages_of() { # NAME
    local each=(ca-certificates tzdata)
    case "$1" in
        python3.*) each+=(python3 python3-venv libgomp1 libstdc++6) ;; # wheels expect the two libraries
        node*) each+=(nodejs) ;;
        bash) each+=(bzip2 curl file jq procps unzip xz-utils zip) ;;
        ffmpeg) each+=(ffmpeg fonts-dejavu-core python3 python3-venv libgomp1 libstdc++6) ;;
        *) return 1 ;;
    esac
    # Split from Python by Debian up to 3.11, part of every other Python there is.
    case " ${each[*]} " in *" python3 "*) [ -z "$(candidate python3-distutils)" ] || each+=(python3-distutils) ;; esac
    (IFS=, && echo "${each[*]}")
}

interpreter_of() { # NAME; empty: a script's language decides
    case "$1" in python3.*) echo /usr/bin/python3 ;; node*) echo /usr/bin/node ;; bash) echo /bin/bash ;; esac
}

root_file_system() { # NAME FILE
    local work="$2.d" as_root=() room
    mkdir "$work"
    sources >"$work/sources.list"
    if [ ! -s "$work/sources.list" ]; then
        echo "apt knows no repository of $release: run apt-get update" >&2
        return 1
    fi
    apt-config dump | grep -E '^Acquire::(http|https)::' >"$work/apt.conf" || true
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    # In memory where there is room: half the time.
    room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
    if [ "${room:-0}" -gt 6000000 ]; then as_root+=(env TMPDIR=/dev/shm); fi
    # The image keeps no repository and no package manager's state: what runs in it cannot install anything.
    "${as_root[@]}" mmdebstrap --quiet --mode=root --variant=essential --include="$(packages_of "$1")" \
        --aptopt="$work/apt.conf" --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='echo "rgrid:x:10001:10001::/rgrid/home:/bin/bash" >>"$1/etc/passwd"' \
        --customize-hook='echo "rgrid:x:10001:" >>"$1/etc/group"' \
        --customize-hook='find "$1/etc/apt" -type f ! -name 00mmdebstrap -delete' \
        --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' \
        "$release" "$2" "$work/sources.list" >&2
    rm -rf "$work"
}

bare_file_system() { # FILE: one static program under the names of a few tools, and nothing else
    local work="$1.d" tool
    mkdir -p "$work/root/bin"
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root busybox-static >&2)
    dpkg-deb -x "$work"/busybox-static*.deb "$work/package"
    for tool in awk cat echo env false id ls sleep true wc; do
        ln "$work/package/bin/busybox" "$work/root/bin/$tool"
    done
    tar -C "$work/root" --owner=0 --group=0 -cf "$1" .
    rm -rf "$work"
}

build() { # NAME TAG
    local name=$1 tag=$2 recipe tar settings
    recipe=$(printf '%s\n' "$name" "$release" "$(uname -m)" | cat - "$self" | sha256sum | cut -c1-16)
    if [ "$(docker image inspect --format '{{index .Config.Labels "io.rgrid.recipe"}}' "$tag" 2>/dev/null)" = "$recipe" ]; then
        echo "there already"
        return
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tar=$work/$name.tar
    if [ -f "$cache/$name-$recipe.tar" ]; then
        tar=$cache/$name-$recipe.tar
    elif [ "$name" = test-bare ]; then
        bare_file_system "$tar"
    else
        root_file_system "$name" "$tar"
    fi
    settings=(--change "LABEL io.rgrid.recipe=$recipe" --change "USER 10001:10001")
    if [ "$name" = test-bare ]; then
        settings+=(--change 'CMD ["true"]' --change "ENV PATH=/bin")
    else
        settings+=(
            --change "LABEL io.rgrid.runtime=$name" --change "LABEL io.rgrid.interpreter=$(interpreter_of "$name")"
            --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" --change "ENV LANG=C.UTF-8"
            --change 'CMD ["bash"]'
        )
    fi
    docker import "${settings[@]}" "$tar" "$tag" >/dev/null
    if [ "$tar" = "$work/$name.tar" ] && [ -d "$cache" ]; then
        mv "$tar" "$cache/.$name-$recipe.$$" && mv "$cache/.$name-$recipe.$$" "$cache/$name-$recipe.tar"
    fi
    echo "built from packages of $release"
}

case "${1:-}" in
    names) names ;;
    build) build "$2" "$3" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$self" >&2 && exit 2 ;;
esac
