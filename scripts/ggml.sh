#!/bin/bash
# Gives the tree a built ggml: .deps/ggml (include/, lib/, lib/cmake/ggml) points into the cache
# outside the tree.
# usage: scripts/ggml.sh            the ggml that starlane runs on
#        scripts/ggml.sh --tsan     the same, compiled for ThreadSanitizer, as .deps/ggml-tsan
#        scripts/ggml.sh --peer     llama.cpp's programs on that very ggml, as .deps/peer (bin/)
# Environment: GPU=cuda|hip|cann|musa|vulkan|sycl adds that backend as one more plug-in; JOBS limits
# the compile jobs.
# The cache is ${XDG_CACHE_HOME:-~/.cache}/starlane. A build is keyed by everything it depends on,
# appears there whole or not at all, and is done by one process at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
. deps/ggml/pin.sh

cache=${XDG_CACHE_HOME:-$HOME/.cache}/starlane
cc=$(command -v gcc || command -v cc)
cxx=$(command -v g++ || command -v c++)
jobs=${JOBS:-$(nproc)}
work= # temporary folder of a build in progress

say() { printf 'ggml: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
clean_up() { [ -z "$work" ] || rm -rf "$work"; }
trap clean_up EXIT

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

ggml_options() { # MODE
    printf '%s\n' -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON \
        -DGGML_CPU_ALL_VARIANTS=ON -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=ON
    [ "$1" != tsan ] ||
        printf '%s\n' -DGGML_SANITIZE_THREAD=ON -DCMAKE_C_FLAGS=-g -DCMAKE_CXX_FLAGS=-g
    # GPU backends need their vendor's tool chain and are not part of our tests; the options are
    # ggml's own.
    case "${GPU:-}" in
        '') ;;
        cuda|hip|cann|musa|vulkan|sycl) echo "-DGGML_${GPU^^}=ON" ;;
        *) die "GPU=$GPU is none of cuda hip cann musa vulkan sycl" ;;
    esac
}

variants() { [ "$1" = tsan ] && echo "$GGML_X86_VARIANTS_TSAN" || echo "$GGML_X86_VARIANTS"; }

# llama.cpp's programs that we compare with, and how they are built.
peer_tools=(llama-bench llama-batched-bench llama-quantize llama-completion llama-server)
# Its RPC backend: a plug-in, and the server that runs one on another machine.
rpc_recipe=deps/ggml/rpc/CMakeLists.txt
rpc_tools=(libggml-rpc.so ggml-rpc-server)
peer_options=(-DCMAKE_BUILD_TYPE=Release -DLLAMA_USE_SYSTEM_GGML=ON -DBUILD_SHARED_LIBS=OFF
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_APP=OFF
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF)

# What a build depends on: pins, recipes (not their comments), compiler, options.
key_of() { # MODE
    { sed 's/ *#.*//; /^$/d' deps/ggml/pin.sh deps/ggml/CMakeLists.txt
      "$cc" -dumpfullversion -dumpmachine; "$cxx" -dumpfullversion; echo "$1"; ggml_options "$1"
      [ "$1" != peer ] || { echo "${peer_tools[@]}" "${peer_options[@]}"
          sed 's/ *#.*//; /^$/d' "$rpc_recipe"; }
    } | sha256sum | cut -c1-16
}

# Leaves the verified archive in $cache/download.
download() {
    local tgz=$cache/download/$GGML_TGZ
    [ -f "$tgz" ] && [ "$(sha256_of "$tgz")" = "$GGML_TGZ_SHA256" ] && return
    say "downloading $GGML_NPM (33 MB)"
    mkdir -p "$cache/download" "$work/npm"
    npm pack "$GGML_NPM" --silent --pack-destination "$work/npm" >/dev/null </dev/null ||
        die "npm pack $GGML_NPM failed"
    [ "$(sha256_of "$work/npm/$GGML_TGZ")" = "$GGML_TGZ_SHA256" ] ||
        die "$GGML_TGZ: sha256 is $(sha256_of "$work/npm/$GGML_TGZ"), pinned is $GGML_TGZ_SHA256"
    mv "$work/npm/$GGML_TGZ" "$tgz"
}

# Unpacks the sources into $work/src.
unpack() {
    download
    tar -xzf "$cache/download/$GGML_TGZ" -C "$work" "$GGML_BUNDLE"
    git -c advice.detachedHead=false clone -q "$work/$GGML_BUNDLE" "$work/src"
    [ "$(git -C "$work/src" rev-parse HEAD)" = "$GGML_COMMIT" ] ||
        die "the bundle is not at commit $GGML_COMMIT"
}

x86_variants_in() { # FILE: names in the x86 block, one a line, sorted
    sed -n '/^if (GGML_CPU_ALL_VARIANTS)/,/GGML_SYSTEM_ARCH STREQUAL "ARM"/p' "$1" |
        sed -n 's/^ *ggml_add_cpu_backend_variant(\([a-z0-9_]*\).*/\1/p' | sort
}

# Removes the x86 variants that we do not want from ggml's build file, and proves that it worked.
keep_variants() { # MODE
    local file=$work/src/ggml/src/CMakeLists.txt name keep
    keep=$(variants "$1" | tr ' ' '\n' | sort)
    for name in $(x86_variants_in "$file"); do
        grep -qx "$name" <<<"$keep" || sed -i "/^ *ggml_add_cpu_backend_variant(${name}[ )]/d" "$file"
    done
    [ "$(x86_variants_in "$file")" = "$keep" ] ||
        die "cannot choose CPU variants in ggml's build file: it has" \
            "$(x86_variants_in "$file" | xargs), wanted $(xargs <<<"$keep")"
}

run_logged() { # LOG COMMAND...: quiet unless it fails
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null || { tail -n 40 "$log" >&2; die "failed: $*"; }
}

# Moves a finished folder to its place in the cache. Another process cannot have made it: we hold
# the lock.
publish() { # FROM TO
    rm -rf "$2"
    mv "$1" "$2"
}

build_ggml() { # MODE TARGET
    local options
    mapfile -t options < <(ggml_options "$1")
    say "building $GGML_NPM's ggml (${1}; a few minutes, once)"
    unpack
    keep_variants "$1"
    run_logged "$work/configure.log" cmake -G Ninja -S deps/ggml -B "$work/build" \
        -DGGML_SRC="$work/src/ggml" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
        -DCMAKE_INSTALL_PREFIX="$work/out" "${options[@]}"
    run_logged "$work/build.log" cmake --build "$work/build" -j "$jobs"
    run_logged "$work/install.log" cmake --install "$work/build"
    if [ "$(uname -m)" = x86_64 ]; then
        for name in $(variants "$1"); do
            [ -f "$work/out/lib/libggml-cpu-$name.so" ] ||
                die "the build made no libggml-cpu-$name.so"
        done
    fi
    cp "$work/src/LICENSE" "$work/out/LICENSE"
    publish "$work/out" "$2"
}

# llama-bench and its kin, and the RPC backend, linked to the ggml in the cache so that both sides
# of a comparison run the same kernels.
build_peer() { # GGML TARGET
    say "building llama.cpp's programs (a few minutes, once)"
    unpack
    run_logged "$work/configure.log" cmake -G Ninja -S "$work/src" -B "$work/build" \
        -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$1" \
        -DCMAKE_BUILD_RPATH="$1/lib" "${peer_options[@]}"
    run_logged "$work/build.log" cmake --build "$work/build" -j "$jobs" --target "${peer_tools[@]}"
    run_logged "$work/configure-rpc.log" cmake -G Ninja -S "${rpc_recipe%/*}" -B "$work/rpc" \
        -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$1" \
        -DCMAKE_BUILD_RPATH="$1/lib" -DLLAMA_SRC="$work/src"
    run_logged "$work/build-rpc.log" cmake --build "$work/rpc" -j "$jobs"
    mkdir -p "$work/out/bin"
    cp "${peer_tools[@]/#/$work/build/bin/}" "${rpc_tools[@]/#/$work/rpc/bin/}" "$work/out/bin"
    # llama.cpp looks for CPU plug-ins beside its executables.
    ln -s "$1"/lib/libggml-*.so "$work/out/bin"
    publish "$work/out" "$2"
}

# One process at a time builds a target; one that waited finds it there.
build_locked() { # MODE TARGET [GGML]
    exec 9>"$2.lock"
    flock -n 9 || { say "waiting for another build"; flock 9; }
    if [ ! -d "$2" ]; then
        work=$(mktemp -d "$cache/building.XXXXXX")
        if [ "$1" = peer ]; then build_peer "$3" "$2"; else build_ggml "$1" "$2"; fi
        clean_up
        work=
    fi
    exec 9>&-
}

# Builds MODE unless the cache has it, and makes LINK point at it.
provide() { # MODE LINK [GGML]
    local mode=$1 link=$2 key target
    shift 2
    key=$(key_of "$mode")
    target=$cache/$mode/$key
    if [ "$(readlink "$link" 2>/dev/null)" = "$target" ] && [ -d "$target" ]; then return; fi
    mkdir -p "$cache/$mode" "$(dirname "$link")"
    [ -d "$target" ] || build_locked "$mode" "$target" "$@"
    ln -sfn "$target" "$link"
}

gpu=${GPU:+-$GPU}
case "${1:-}" in
    '') provide ggml ".deps/ggml$gpu" ;;
    --tsan) provide tsan ".deps/ggml-tsan$gpu" ;;
    --peer)
        GPU= # the comparison is of CPU kernels
        provide ggml .deps/ggml
        provide peer .deps/peer "$(readlink .deps/ggml)"
        ;;
    *) die "unknown argument $1; see the head of this file" ;;
esac
