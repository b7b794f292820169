# The ggml this project is built on and tested with. Sourced by scripts/ggml.sh.
# The npm archive holds llama.cpp's sources as a git bundle; its ggml/ folder is all that we build
# of it, except for the benchmarks' peer (make deps-peer).
# Raise it when scripts/ggml.sh builds something else from the same pins: it renews the caches.
GGML_RECIPE=1

GGML_NPM=node-llama-cpp@3.22.1
GGML_TGZ=node-llama-cpp-3.22.1.tgz
GGML_TGZ_SHA256=a0d9dd80eacd2ab1cfe71aee57ac8a806487fd70b3d2a38fbec637752d9e5c5f
GGML_BUNDLE=package/llama/gitRelease.bundle
GGML_COMMIT=de3ff815ea7d559ee917f063901b8986f038abc6

# The x86 variants we build, oldest to newest; one is chosen at run time. sapphirerapids is left out
# because gcc 12 miscompiles its AMX tiles (SIGILL at run time); the others that are missing differ
# little from one that is here.
GGML_X86_VARIANTS="sse42 sandybridge haswell skylakex icelake zen4 alderlake"
# Under ThreadSanitizer the kernels are not the point: one variant is enough.
GGML_X86_VARIANTS_TSAN="haswell"
