#!/bin/sh
# Installs centernetd as a service, returns to the previous version, or uninstalls it.
#
#   deploy/setup.sh install | rollback | uninstall
#
# It works in a checkout, in a folder created by `make wheelhouse` and, except for `install`, in
# /opt/centernetd/share/centernetd. Only `uninstall` stops the service. Environment variables:
#
#   DESTDIR      a folder to prepend to every path: for packages and images
#   PYTHON       the Python to use [python3]
#   SYSTEM_SITE  1: also use the system's Python packages, such as the TensorRT of JetPack
#   EXTRAS       gpu or rtx: install TensorRT as well; cuda12 or cuda13: its other dependencies
#   WHEELHOUSE   a folder created by `make wheelhouse`, to install from without a network
set -eu
umask 022

here=$(cd "$(dirname "$0")/.." && pwd)
destdir=${DESTDIR:+$(realpath -m "$DESTDIR")} # as pip writes it, to be replaced below
destdir=${destdir%/}
prefix=/opt/centernetd
program=$destdir$prefix
units="centernetd.service centernetd@.service"
settings="sysusers tmpfiles modules-load" # each has a folder NAME.d in /usr/lib

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

live() { # whether this is the running system, under systemd
    [ -z "$destdir" ] && [ -d /run/systemd/system ]
}

check_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        fail "$python is no Python 3.10 or later: name one with PYTHON=/path/to/python3"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python can't make environments: apt-get install python3-venv"
}

check_visible() { # the unit has ProtectHome=yes
    case $("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
        /home/* | /root/*) fail "$python is in a home folder, which the service can't see" ;;
    esac
}

check_wheelhouse() {
    (cd "$wheelhouse" && sha256sum --check --quiet SHA256SUMS >&2) ||
        fail "$wheelhouse is damaged, or none: copy it again"
    read -r version arch <"$wheelhouse/TARGET"
    this=$("$python" -c 'import sys, platform; print("%d.%d" % sys.version_info[:2],
        platform.machine())')
    [ "$this" = "$version $arch" ] || fail "$wheelhouse is for Python $version on $arch," \
        "and $python is $this: make another with 'make wheelhouse PYTHON=${this% *} ARCH=${this#* }'"
}

guide_pip() { # with files in $scratch, because pip splits paths at spaces
    cp "$kit/constraints.txt" "$scratch"
    # constraints for builds, too: next year's installation will be the same
    export PIP_CONSTRAINT="$scratch/constraints.txt" PIP_BUILD_CONSTRAINT="$scratch/constraints.txt"
    [ -n "$wheelhouse" ] || return 0
    ln -s "$wheelhouse/wheels" "$scratch/wheels"
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$scratch/wheels"
}

make_program() { # into $program.new, so that a failure leaves the installed program unchanged
    rm -rf "$program.new"
    mkdir -p "$program.new"
    set -- --prompt centernetd
    [ "${SYSTEM_SITE:-}" = 1 ] && set -- "$@" --system-site-packages
    "$python" -m venv "$@" "$program.new"
    if [ -n "$wheelhouse" ]; then
        set -- "centernetd${EXTRAS:+[$EXTRAS]}"
    else
        # a copy, because builds leave files behind, which would belong to root under sudo
        cp -R "$here/daemon" "$here/pyproject.toml" "$here/README.md" "$here/LICENSE" "$scratch"
        set -- "$scratch${EXTRAS:+[$EXTRAS]}"
    fi
    "$program.new/bin/python" -m pip install --quiet --disable-pip-version-check "$@"

    share=$program.new/share/centernetd
    mkdir -p "$share/assets"
    cp -R "$kit/deploy" "$kit/docs" "$kit/systemd" "$kit/config.yaml" "$kit/constraints.txt" \
        "$kit/CHANGELOG.md" "$kit/LICENSE" "$share"
    cp "$kit/assets/demo.mp4" "$share/assets"
    # its scripts begin with the path of their Python: use its final path
    grep -rlIF --null "$program.new" "$program.new/bin" "$program.new/pyvenv.cfg" |
        xargs -0 sed -i "s|$program.new|$prefix|g"
}

swap() { # $1 replaces the program, which becomes .old
    rm -rf "$program.gone"
    [ ! -e "$program.old" ] || mv "$program.old" "$program.gone"
    [ ! -e "$program" ] || mv "$program" "$program.old"
    mv "$1" "$program"
    rm -rf "$program.gone"
}

place() { # the installed version's files outside its folder
    for unit in $units; do
        install -D -m 644 "$program/share/centernetd/systemd/$unit" \
            "$destdir/usr/lib/systemd/system/$unit"
    done
    for kind in $settings; do
        install -D -m 644 "$program/share/centernetd/systemd/centernetd.$kind.conf" \
            "$destdir/usr/lib/$kind.d/centernetd.conf"
    done
    mkdir -p "$destdir/usr/bin"
    ln -sfn "$prefix/bin/centernetd" "$destdir/usr/bin/centernetd"
    if live; then
        systemd-sysusers centernetd.conf
        systemd-tmpfiles --create centernetd.conf
        systemctl daemon-reload
    fi
}

fetch_model() { # the daemon downloads nothing
    [ ! -d "$kit/models" ] ||
        install -D -m 644 -t "$destdir/var/cache/centernetd/models" "$kit"/models/*.onnx
    CACHE_DIRECTORY=$destdir/var/cache/centernetd "$program/bin/python" -I "$program/bin/centernetd" \
        fetch centerface >/dev/null ||
        echo "Without a model of your own, run: umask 022;" \
            "CACHE_DIRECTORY=/var/cache/centernetd centernetd fetch centerface" >&2
}

install_all() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    python=$(command -v "${PYTHON:-python3}") || fail "there is no ${PYTHON:-python3}"
    wheelhouse=${WHEELHOUSE:-}
    [ -n "$wheelhouse" ] || [ ! -d "$here/wheels" ] || wheelhouse=$here
    [ -z "$wheelhouse" ] || wheelhouse=$(cd "$wheelhouse" && pwd)
    kit=${wheelhouse:-$here} # the rest comes from the same place as the program
    check_python
    [ -z "$wheelhouse" ] || check_wheelhouse
    check_visible
    guide_pip
    make_program
    swap "$program.new"
    place
    fetch_model
    config=$destdir/etc/centernetd/config.yaml
    [ -e "$config" ] || install -D -m 644 "$kit/deploy/config.yaml" "$config"
    echo "Installed $("$program/bin/python" -I "$program/bin/centernetd" --version) in $program."
    echo "Next: fill in $config, run 'centernetd check -c $config', and start or restart the service."
}

rollback() {
    [ -d "$program.old" ] || fail "there is no version before this one in $program.old"
    mv "$program.old" "$program.new"
    swap "$program.new"
    place
    echo "Back to $("$program/bin/python" -I "$program/bin/centernetd" --version). Now restart the service."
}

uninstall() {
    if live; then
        systemctl stop centernetd.service 'centernetd@*.service' || true
        systemctl disable --quiet centernetd.service centernetd@.service || true
    fi
    for unit in $units; do rm -f "$destdir/usr/lib/systemd/system/$unit"; done
    for kind in $settings; do rm -f "$destdir/usr/lib/$kind.d/centernetd.conf"; done
    rm -f "$destdir/usr/bin/centernetd"
    rm -rf "$program" "$program.old" "$program.new" "$program.gone"
    rm -rf "$destdir/var/cache/centernetd" "$destdir/var/cache/private/centernetd"
    if live; then systemctl daemon-reload; fi
    echo "Kept: $destdir/etc/centernetd and $destdir/var/lib/centernetd*."
}

case ${1:-} in
    install) install_all ;;
    rollback | uninstall) "$1" ;;
    *) fail "give install, rollback or uninstall" ;;
esac
