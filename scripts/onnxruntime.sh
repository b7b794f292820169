#!/bin/bash
# Gives the tree an ONNX Runtime: .deps/onnxruntime (lib/libonnxruntime.so) points into the cache
# outside the tree.
# usage: scripts/onnxruntime.sh
# A shared library that the system has is taken when it is recent enough; else the pinned archive
# is fetched. The program loads the library at run time and works without it, so a build goes on
# when this fails.
# Environment: SYSTEM_ONNXRUNTIME=OFF passes by the system's.
# The cache is ${XDG_CACHE_HOME:-~/.cache}/starlane, where a folder appears whole or not at all.
set -euo pipefail
cd "$(dirname "$0")/.."
. deps/onnxruntime/pin.sh

cache=${XDG_CACHE_HOME:-$HOME/.cache}/starlane
link=.deps/onnxruntime
work= # temporary folder of a fetch in progress

say() { printf 'onnxruntime: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
clean_up() { [ -z "$work" ] || rm -rf "$work"; }
trap clean_up EXIT

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

# Prints the system's library when its version, which its file name tells, is not too low.
system_library() {
    local path file version
    [ "${SYSTEM_ONNXRUNTIME:-AUTO}" != OFF ] || return 0
    path=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null |
        sed -n 's/^\tlibonnxruntime\.so.* => //p' | head -n 1)
    [ -n "$path" ] || return 0
    file=$(readlink -f "$path")
    version=${file##*.so.}
    [ "$version" != "$file" ] && dpkg --compare-versions "$version" ge "$ONNXRUNTIME_LOWEST" &&
        echo "$path"
    return 0
}

# Leaves the verified archive in $cache/download.
download() {
    local tgz=$cache/download/$ONNXRUNTIME_TGZ
    [ -f "$tgz" ] && [ "$(sha256_of "$tgz")" = "$ONNXRUNTIME_TGZ_SHA256" ] && return
    say "downloading $ONNXRUNTIME_NPM (11 MB)"
    mkdir -p "$cache/download" "$work/npm"
    npm pack "$ONNXRUNTIME_NPM" --silent --pack-destination "$work/npm" >/dev/null </dev/null ||
        die "npm pack $ONNXRUNTIME_NPM failed"
    [ "$(sha256_of "$work/npm/$ONNXRUNTIME_TGZ")" = "$ONNXRUNTIME_TGZ_SHA256" ] ||
        die "$ONNXRUNTIME_TGZ: sha256 is $(sha256_of "$work/npm/$ONNXRUNTIME_TGZ"), pinned is" \
            "$ONNXRUNTIME_TGZ_SHA256"
    mv "$work/npm/$ONNXRUNTIME_TGZ" "$tgz"
}

# Unpacks the pinned library into $1; the lock keeps a second process waiting.
fetch() { # TARGET
    exec 9>"$1.lock"
    flock -n 9 || { say "waiting for another fetch"; flock 9; }
    if [ ! -d "$1" ]; then
        work=$(mktemp -d "$cache/fetching.XXXXXX")
        download
        mkdir -p "$work/out/lib"
        tar -xzf "$cache/download/$ONNXRUNTIME_TGZ" -C "$work" "$ONNXRUNTIME_MEMBER"
        mv "$work/$ONNXRUNTIME_MEMBER" "$work/out/lib/libonnxruntime.so"
        mv "$work/out" "$1"
        clean_up
        work=
    fi
    exec 9>&-
}

provide_pinned() {
    local target
    [ -n "$ONNXRUNTIME_NPM" ] || die "no library is pinned for $(uname -m); install one"
    target=$cache/onnxruntime/$ONNXRUNTIME_VERSION-${ONNXRUNTIME_TGZ_SHA256:0:16}
    mkdir -p "$cache/onnxruntime" "$(dirname "$link")"
    [ -d "$target" ] || fetch "$target"
    [ "$(readlink "$link" 2>/dev/null)" = "$target" ] || ln -sfn "$target" "$link"
}

# A folder of its own that points at the system's library.
provide_system() { # LIBRARY
    local target
    target=$cache/onnxruntime/system-$(sha256sum <<<"$1" | cut -c1-16)
    mkdir -p "$target/lib" "$(dirname "$link")"
    ln -sfn "$1" "$target/lib/libonnxruntime.so"
    ln -sfn "$target" "$link"
}

library=$(system_library)
if [ -n "$library" ]; then provide_system "$library"; else provide_pinned; fi
