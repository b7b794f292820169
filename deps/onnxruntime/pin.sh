# The ONNX Runtime this project is tested with. Sourced by scripts/onnxruntime.sh.
# Microsoft publishes its CPU library on GitHub only; the npm archives of sherpa-onnx carry one, for
# glibc 2.28 and later, that needs nothing else of the archive. No header is needed:
# src/exec/onnx/ort_abi.h declares what we call.
ONNXRUNTIME_VERSION=1.28.2
# The lowest version of the system's that serves (ORT_ABI_VERSION is its second number).
ONNXRUNTIME_LOWEST=1.17.0
ONNXRUNTIME_MEMBER=package/libonnxruntime.so

case "$(uname -m)" in
    x86_64)
        ONNXRUNTIME_NPM=sherpa-onnx-linux-x64@1.13.8
        ONNXRUNTIME_TGZ_SHA256=13291bcd825da5858ca27a35443e9a2c229a40616c0910086de2db12c5c9312c
        ;;
    aarch64)
        ONNXRUNTIME_NPM=sherpa-onnx-linux-arm64@1.13.8
        ONNXRUNTIME_TGZ_SHA256=e1671ad6e94e51947229a5736d06022780f3fba967da8d917173cd9765902ee8
        ;;
    *) ONNXRUNTIME_NPM= ;;
esac
ONNXRUNTIME_TGZ=${ONNXRUNTIME_NPM/@/-}.tgz
