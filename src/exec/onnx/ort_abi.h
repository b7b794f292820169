/* ort_abi.h: the part of ONNX Runtime's C interface that we call, declared by ourselves, so that a
 * build needs no header and any library of version 1.17 or later serves.
 * Floor: exec/onnx.  Thread: any.  Allocates: nothing.
 * Source: the documented C API (onnxruntime.ai/docs/api/c): OrtGetApiBase gives a table of function
 * pointers whose order never changes; later versions add to its end. ORT_FUNCTIONS names the place,
 * the result and the parameters of each function we use; tests/unit/onnx_abi_test.c compares the
 * places and the constants with the real header where that is installed.
 * Functions that return a status give NULL for success; the status is the caller's to release. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* The API version we ask for, 1.17's: its functions are those up to place 275. */
#define ORT_ABI_VERSION 17

struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtOptionalTypeInfo;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtModelMetadata;
struct OrtTensorRTProviderOptionsV2;
struct OrtCUDAProviderOptionsV2;
struct OrtROCMProviderOptions;
struct OrtCANNProviderOptions;

/* What OrtGetApiBase returns. */
struct ort_abi_base {
    const void *const *(*get_api)(uint32_t version); /* NULL: the library is older */
    const char *(*get_version)(void);
};

enum ort_abi_error {
    ORT_ABI_FAIL = 1,
    ORT_ABI_INVALID_ARGUMENT = 2,
    ORT_ABI_NO_SUCH_FILE = 3,
    ORT_ABI_NO_MODEL = 4,
    ORT_ABI_ENGINE_ERROR = 5,
    ORT_ABI_RUNTIME_EXCEPTION = 6,
    ORT_ABI_INVALID_PROTOBUF = 7,
    ORT_ABI_NOT_IMPLEMENTED = 9,
    ORT_ABI_INVALID_GRAPH = 10,
    ORT_ABI_PROVIDER_FAIL = 11
};

enum ort_abi_log { ORT_ABI_LOG_WARNING = 2, ORT_ABI_LOG_ERROR = 3, ORT_ABI_LOG_FATAL = 4 };

/* Of a value: what kind of thing it is. */
enum ort_abi_kind {
    ORT_ABI_KIND_TENSOR = 1,
    ORT_ABI_KIND_SEQUENCE = 2,
    ORT_ABI_KIND_MAP = 3,
    ORT_ABI_KIND_OPAQUE = 4,
    ORT_ABI_KIND_SPARSE = 5,
    ORT_ABI_KIND_OPTIONAL = 6
};

/* Of a tensor's elements: the numbers of onnx.proto's TensorProto.DataType. */
enum ort_abi_element {
    ORT_ABI_FLOAT = 1,
    ORT_ABI_UINT8 = 2,
    ORT_ABI_INT8 = 3,
    ORT_ABI_UINT16 = 4,
    ORT_ABI_INT16 = 5,
    ORT_ABI_INT32 = 6,
    ORT_ABI_INT64 = 7,
    ORT_ABI_STRING = 8,
    ORT_ABI_BOOL = 9,
    ORT_ABI_FLOAT16 = 10,
    ORT_ABI_DOUBLE = 11,
    ORT_ABI_UINT32 = 12,
    ORT_ABI_UINT64 = 13,
    ORT_ABI_BFLOAT16 = 16
};

enum ort_abi_optimization {
    ORT_ABI_OPTIMIZE_NONE = 0,
    ORT_ABI_OPTIMIZE_BASIC = 1,
    ORT_ABI_OPTIMIZE_EXTENDED = 2,
    ORT_ABI_OPTIMIZE_ALL = 99
};

/* CreateCpuMemoryInfo's two arguments for memory that is the caller's. */
#define ORT_ABI_ARENA_ALLOCATOR 1
#define ORT_ABI_MEMORY_DEFAULT 0

typedef void (*ort_abi_log_fn)(void *ctx, int severity, const char *category, const char *id,
                               const char *place, const char *message);

typedef struct OrtStatus *ort_abi_status;

/* X(place, result, name, (parameters)) */
/* clang-format off */
#define ORT_FUNCTIONS(X)                                                                          \
    X(1, int, GetErrorCode, (const struct OrtStatus *status))                                     \
    X(2, const char *, GetErrorMessage, (const struct OrtStatus *status))                         \
    X(4, ort_abi_status, CreateEnvWithCustomLogger,                                               \
      (ort_abi_log_fn log, void *ctx, int level, const char *id, struct OrtEnv **out))            \
    X(6, ort_abi_status, DisableTelemetryEvents, (const struct OrtEnv *env))                      \
    X(7, ort_abi_status, CreateSession,                                                           \
      (const struct OrtEnv *env, const char *path, const struct OrtSessionOptions *options,       \
       struct OrtSession **out))                                                                  \
    X(9, ort_abi_status, Run,                                                                     \
      (struct OrtSession *session, const struct OrtRunOptions *options,                           \
       const char *const *input_names, const struct OrtValue *const *inputs, size_t n_inputs,     \
       const char *const *output_names, size_t n_outputs, struct OrtValue **outputs))             \
    X(10, ort_abi_status, CreateSessionOptions, (struct OrtSessionOptions **out))                 \
    X(17, ort_abi_status, DisableMemPattern, (struct OrtSessionOptions *options))                 \
    X(19, ort_abi_status, DisableCpuMemArena, (struct OrtSessionOptions *options))                \
    X(23, ort_abi_status, SetSessionGraphOptimizationLevel,                                       \
      (struct OrtSessionOptions *options, int level))                                             \
    X(24, ort_abi_status, SetIntraOpNumThreads, (struct OrtSessionOptions *options, int n))       \
    X(30, ort_abi_status, SessionGetInputCount, (const struct OrtSession *s, size_t *out))        \
    X(31, ort_abi_status, SessionGetOutputCount, (const struct OrtSession *s, size_t *out))       \
    X(32, ort_abi_status, SessionGetOverridableInitializerCount,                                  \
      (const struct OrtSession *s, size_t *out))                                                  \
    X(33, ort_abi_status, SessionGetInputTypeInfo,                                                \
      (const struct OrtSession *s, size_t i, struct OrtTypeInfo **out))                           \
    X(34, ort_abi_status, SessionGetOutputTypeInfo,                                               \
      (const struct OrtSession *s, size_t i, struct OrtTypeInfo **out))                           \
    X(35, ort_abi_status, SessionGetOverridableInitializerTypeInfo,                               \
      (const struct OrtSession *s, size_t i, struct OrtTypeInfo **out))                           \
    X(36, ort_abi_status, SessionGetInputName,                                                    \
      (const struct OrtSession *s, size_t i, struct OrtAllocator *allocator, char **out))         \
    X(37, ort_abi_status, SessionGetOutputName,                                                   \
      (const struct OrtSession *s, size_t i, struct OrtAllocator *allocator, char **out))         \
    X(38, ort_abi_status, SessionGetOverridableInitializerName,                                   \
      (const struct OrtSession *s, size_t i, struct OrtAllocator *allocator, char **out))         \
    X(39, ort_abi_status, CreateRunOptions, (struct OrtRunOptions **out))                         \
    X(46, ort_abi_status, RunOptionsSetTerminate, (struct OrtRunOptions *options))                \
    X(47, ort_abi_status, RunOptionsUnsetTerminate, (struct OrtRunOptions *options))              \
    X(48, ort_abi_status, CreateTensorAsOrtValue,                                                 \
      (struct OrtAllocator *allocator, const int64_t *shape, size_t rank, int element,            \
       struct OrtValue **out))                                                                    \
    X(49, ort_abi_status, CreateTensorWithDataAsOrtValue,                                         \
      (const struct OrtMemoryInfo *memory, void *data, size_t n_bytes, const int64_t *shape,      \
       size_t rank, int element, struct OrtValue **out))                                          \
    X(51, ort_abi_status, GetTensorMutableData, (struct OrtValue *value, void **out))             \
    X(53, ort_abi_status, GetStringTensorDataLength, (const struct OrtValue *value, size_t *out)) \
    X(54, ort_abi_status, GetStringTensorContent,                                                 \
      (const struct OrtValue *value, void *bytes, size_t n_bytes, size_t *offsets, size_t n))     \
    X(55, ort_abi_status, CastTypeInfoToTensorInfo,                                               \
      (const struct OrtTypeInfo *info, const struct OrtTensorTypeAndShapeInfo **out))             \
    X(56, ort_abi_status, GetOnnxTypeFromTypeInfo, (const struct OrtTypeInfo *info, int *out))    \
    X(60, ort_abi_status, GetTensorElementType,                                                   \
      (const struct OrtTensorTypeAndShapeInfo *info, int *out))                                   \
    X(61, ort_abi_status, GetDimensionsCount,                                                     \
      (const struct OrtTensorTypeAndShapeInfo *info, size_t *out))                                \
    X(62, ort_abi_status, GetDimensions,                                                          \
      (const struct OrtTensorTypeAndShapeInfo *info, int64_t *out, size_t n))                     \
    X(65, ort_abi_status, GetTensorTypeAndShape,                                                  \
      (const struct OrtValue *value, struct OrtTensorTypeAndShapeInfo **out))                     \
    X(67, ort_abi_status, GetValueType, (const struct OrtValue *value, int *out))                 \
    X(69, ort_abi_status, CreateCpuMemoryInfo,                                                    \
      (int allocator, int memory, struct OrtMemoryInfo **out))                                    \
    X(76, ort_abi_status, AllocatorFree, (struct OrtAllocator *allocator, void *p))               \
    X(78, ort_abi_status, GetAllocatorWithDefaultOptions, (struct OrtAllocator **out))            \
    X(93, void, ReleaseStatus, (struct OrtStatus *status))                                        \
    X(95, void, ReleaseSession, (struct OrtSession *session))                                     \
    X(96, void, ReleaseValue, (struct OrtValue *value))                                           \
    X(97, void, ReleaseRunOptions, (struct OrtRunOptions *options))                               \
    X(98, void, ReleaseTypeInfo, (struct OrtTypeInfo *info))                                      \
    X(99, void, ReleaseTensorTypeAndShapeInfo, (struct OrtTensorTypeAndShapeInfo *info))          \
    X(100, void, ReleaseSessionOptions, (struct OrtSessionOptions *options))                      \
    X(111, ort_abi_status, SessionGetModelMetadata,                                               \
      (const struct OrtSession *session, struct OrtModelMetadata **out))                          \
    X(112, ort_abi_status, ModelMetadataGetProducerName,                                          \
      (const struct OrtModelMetadata *m, struct OrtAllocator *allocator, char **out))             \
    X(113, ort_abi_status, ModelMetadataGetGraphName,                                             \
      (const struct OrtModelMetadata *m, struct OrtAllocator *allocator, char **out))             \
    X(118, void, ReleaseModelMetadata, (struct OrtModelMetadata *m))                              \
    X(125, ort_abi_status, GetAvailableProviders, (char ***out, int *out_n))                      \
    X(126, ort_abi_status, ReleaseAvailableProviders, (char **names, int n))                      \
    X(130, ort_abi_status, AddSessionConfigEntry,                                                 \
      (struct OrtSessionOptions *options, const char *key, const char *value))                    \
    X(153, ort_abi_status, SessionOptionsAppendExecutionProvider_ROCM,                            \
      (struct OrtSessionOptions *options, const struct OrtROCMProviderOptions *own))              \
    X(170, ort_abi_status, SessionOptionsAppendExecutionProvider_TensorRT_V2,                     \
      (struct OrtSessionOptions *options, const struct OrtTensorRTProviderOptionsV2 *own))        \
    X(171, ort_abi_status, CreateTensorRTProviderOptions,                                         \
      (struct OrtTensorRTProviderOptionsV2 **out))                                                \
    X(172, ort_abi_status, UpdateTensorRTProviderOptions,                                         \
      (struct OrtTensorRTProviderOptionsV2 *own, const char *const *keys,                         \
       const char *const *values, size_t n))                                                      \
    X(174, void, ReleaseTensorRTProviderOptions, (struct OrtTensorRTProviderOptionsV2 *own))      \
    X(192, ort_abi_status, HasValue, (const struct OrtValue *value, int *out))                    \
    X(204, ort_abi_status, SessionOptionsAppendExecutionProvider_CUDA_V2,                         \
      (struct OrtSessionOptions *options, const struct OrtCUDAProviderOptionsV2 *own))            \
    X(205, ort_abi_status, CreateCUDAProviderOptions, (struct OrtCUDAProviderOptionsV2 **out))    \
    X(206, ort_abi_status, UpdateCUDAProviderOptions,                                             \
      (struct OrtCUDAProviderOptionsV2 *own, const char *const *keys, const char *const *values,  \
       size_t n))                                                                                 \
    X(208, void, ReleaseCUDAProviderOptions, (struct OrtCUDAProviderOptionsV2 *own))              \
    X(216, ort_abi_status, SessionOptionsAppendExecutionProvider,                                 \
      (struct OrtSessionOptions *options, const char *name, const char *const *keys,              \
       const char *const *values, size_t n))                                                      \
    X(220, ort_abi_status, SessionOptionsAppendExecutionProvider_CANN,                            \
      (struct OrtSessionOptions *options, const struct OrtCANNProviderOptions *own))              \
    X(221, ort_abi_status, CreateCANNProviderOptions, (struct OrtCANNProviderOptions **out))      \
    X(222, ort_abi_status, UpdateCANNProviderOptions,                                             \
      (struct OrtCANNProviderOptions *own, const char *const *keys, const char *const *values,    \
       size_t n))                                                                                 \
    X(224, void, ReleaseCANNProviderOptions, (struct OrtCANNProviderOptions *own))                \
    X(250, ort_abi_status, CastTypeInfoToOptionalTypeInfo,                                        \
      (const struct OrtTypeInfo *info, const struct OrtOptionalTypeInfo **out))                   \
    X(251, ort_abi_status, GetOptionalContainedTypeInfo,                                          \
      (const struct OrtOptionalTypeInfo *info, struct OrtTypeInfo **out))                         \
    X(252, ort_abi_status, GetResizedStringTensorElementBuffer,                                   \
      (struct OrtValue *value, size_t i, size_t n_bytes, char **out))                             \
    X(255, ort_abi_status, CreateROCMProviderOptions, (struct OrtROCMProviderOptions **out))      \
    X(256, ort_abi_status, UpdateROCMProviderOptions,                                             \
      (struct OrtROCMProviderOptions *own, const char *const *keys, const char *const *values,    \
       size_t n))                                                                                 \
    X(258, void, ReleaseROCMProviderOptions, (struct OrtROCMProviderOptions *own))                \
    X(275, ort_abi_status, SessionOptionsAppendExecutionProvider_OpenVINO_V2,                     \
      (struct OrtSessionOptions *options, const char *const *keys, const char *const *values,     \
       size_t n))
/* clang-format on */
