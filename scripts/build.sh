#!/bin/bash
# Configures BUILD when its options or the machine's packages changed or something it stands on is
# gone, then builds it.
# usage: [JOBS=n] [TARGETS=names] [CONFIGURE_ONLY=1] scripts/build.sh BUILD CMAKE-OPTION...
# Prints the compiler's messages, and nothing when all was there.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
shift

# The build is configured with these options, no package came since (there are no unit tests without
# cmocka, say), and what it was configured for is still there: ggml, and ONNX Runtime if there was
# one.
is_configured() {
    local ggml
    [ -f "$build/build.ninja" ] && [ "$(cat "$build/options" 2>/dev/null)" = "$*" ] || return 1
    [ ! /var/lib/dpkg/status -nt "$build/options" ] || return 1
    ggml=$(sed -n 's/^GGML_LIBRARY:[A-Z]*=//p' "$build/CMakeCache.txt")
    [ -e "$ggml" ] && { [ ! -L .deps/onnxruntime ] || [ -e .deps/onnxruntime ]; }
}

configure() {
    mkdir -p "$build"
    rm -f "$build/options"
    cmake -G Ninja -S . -B "$build" "$@" >"$build/configure.log" || {
        cat "$build/configure.log" >&2
        exit 1
    }
    echo "$*" >"$build/options"
}

is_configured "$@" || configure "$@"
[ -z "${CONFIGURE_ONLY:-}" ] || exit 0
# Ninja's progress is for a terminal; elsewhere only what went wrong is worth a line.
if [ -t 1 ]; then
    ninja -C "$build" -j "${JOBS:-$(nproc)}" --quiet ${TARGETS:-}
else
    status=0
    ninja -C "$build" -j "${JOBS:-$(nproc)}" ${TARGETS:-} >"$build/ninja.log" 2>&1 || status=1
    sed '/^\[[0-9]*\//d; /^ninja: \(Entering\|no work\)/d; /^-- /d' "$build/ninja.log" >&2
    exit $status
fi
