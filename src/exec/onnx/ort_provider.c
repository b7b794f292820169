#include "exec/onnx/ort_provider.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef ort_abi_status (*legacy_append)(struct OrtSessionOptions *options, int device_id);

static const struct {
    const char *name;   /* ours */
    const char *theirs; /* GetAvailableProviders' */
    const char *what;
} providers[ORT_PROVIDER_COUNT] = {
    [ORT_PROVIDER_TENSORRT] = {"tensorrt", "TensorrtExecutionProvider", "NVIDIA GPUs, by TensorRT"},
    [ORT_PROVIDER_CUDA] = {"cuda", "CUDAExecutionProvider", "NVIDIA GPUs"},
    [ORT_PROVIDER_MIGRAPHX] = {"migraphx", "MIGraphXExecutionProvider", "AMD GPUs, by MIGraphX"},
    [ORT_PROVIDER_ROCM] = {"rocm", "ROCMExecutionProvider", "AMD GPUs"},
    [ORT_PROVIDER_CANN] = {"cann", "CANNExecutionProvider", "Ascend NPUs"},
    [ORT_PROVIDER_OPENVINO] = {"openvino", "OpenVINOExecutionProvider", "Intel CPUs, GPUs, NPUs"},
    [ORT_PROVIDER_DML] = {"dml", "DmlExecutionProvider", "GPUs under Windows, by DirectML"},
    [ORT_PROVIDER_CPU] = {"cpu", "CPUExecutionProvider", "the CPU"},
};

const char *ort_provider_name(enum ort_provider provider)
{
    return providers[provider].name;
}

const char *ort_provider_what(enum ort_provider provider)
{
    return providers[provider].what;
}

sl_status ort_provider_parse(const char *name, enum ort_provider *out, struct sl_err *err)
{
    for (int i = 0; i < ORT_PROVIDER_COUNT; i++) {
        if (strcmp(name, providers[i].name)) continue;
        *out = (enum ort_provider)i;
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID,
                      "no execution provider \"%.40s\"; there are tensorrt, cuda, migraphx, rocm, "
                      "cann, openvino, dml, cpu",
                      name);
}

bool ort_provider_available(const struct ort *ort, enum ort_provider provider)
{
    struct sl_err err = SL_ERR_INIT;
    char **names;
    int n;
    bool found = false;
    if (ort_result(ort, ort->api.GetAvailableProviders(&names, &n), &err) != SL_OK) return false;
    for (int i = 0; i < n; i++) found = found || strcmp(names[i], providers[provider].theirs) == 0;
    sl_status status = ort_result(ort, ort->api.ReleaseAvailableProviders(names, n), &err);
    return status == SL_OK && found;
}

/* Providers whose options are an object of their own: made, told the device, appended, released. */
#define APPEND_BY_OBJECT(function, Object, Kind, Append) \
    static sl_status function(const struct ort *ort, struct OrtSessionOptions *options, \
                              const char *id, struct sl_err *err) \
    { \
        static const char *const key = "device_id"; \
        struct Object *own = NULL; \
        sl_status status = ort_result(ort, ort->api.Create##Kind##ProviderOptions(&own), err); \
        if (status != SL_OK) return status; \
        status = ort_result(ort, ort->api.Update##Kind##ProviderOptions(own, &key, &id, 1), err); \
        if (status == SL_OK) status = ort_result(ort, ort->api.Append(options, own), err); \
        ort->api.Release##Kind##ProviderOptions(own); \
        return status; \
    }

APPEND_BY_OBJECT(append_tensorrt, OrtTensorRTProviderOptionsV2, TensorRT,
                 SessionOptionsAppendExecutionProvider_TensorRT_V2)
APPEND_BY_OBJECT(append_cuda, OrtCUDAProviderOptionsV2, CUDA,
                 SessionOptionsAppendExecutionProvider_CUDA_V2)
APPEND_BY_OBJECT(append_rocm, OrtROCMProviderOptions, ROCM,
                 SessionOptionsAppendExecutionProvider_ROCM)
APPEND_BY_OBJECT(append_cann, OrtCANNProviderOptions, CANN,
                 SessionOptionsAppendExecutionProvider_CANN)

/* The struct of its options has another layout in each version; the older exported function takes
 * the device alone. */
static sl_status append_migraphx(const struct ort *ort, struct OrtSessionOptions *options,
                                 int device_id, struct sl_err *err)
{
    legacy_append append = NULL;
    *(void **)&append = dlsym(ort->handle, "OrtSessionOptionsAppendExecutionProvider_MIGraphX");
    if (!append) return sl_err_set(err, SL_UNAVAILABLE, "the library does not export MIGraphX");
    return ort_result(ort, append(options, device_id), err);
}

sl_status ort_provider_append(const struct ort *ort, enum ort_provider provider, int device_id,
                              struct OrtSessionOptions *options, struct sl_err *err)
{
    char id[16];
    (void)snprintf(id, sizeof id, "%d", device_id);
    if (!ort_provider_available(ort, provider))
        return sl_err_set(err, SL_UNAVAILABLE, "the library was built without it");
    switch (provider) {
    case ORT_PROVIDER_TENSORRT: return append_tensorrt(ort, options, id, err);
    case ORT_PROVIDER_CUDA: return append_cuda(ort, options, id, err);
    case ORT_PROVIDER_ROCM: return append_rocm(ort, options, id, err);
    case ORT_PROVIDER_CANN: return append_cann(ort, options, id, err);
    case ORT_PROVIDER_MIGRAPHX: return append_migraphx(ort, options, device_id, err);
    case ORT_PROVIDER_OPENVINO:
        return ort_result(
            ort, ort->api.SessionOptionsAppendExecutionProvider_OpenVINO_V2(options, NULL, NULL, 0),
            err);
    case ORT_PROVIDER_DML:
        return ort_result(
            ort, ort->api.SessionOptionsAppendExecutionProvider(options, "DML", NULL, NULL, 0),
            err);
    default: return SL_OK; /* the CPU's is always there */
    }
}
