#include "exec/onnx/onnx_model.h"
#include "base/arena.h"
#include "base/log.h"
#include "base/mem.h"
#include "exec/onnx/onnx_file.h"
#include "exec/onnx/onnx_session.h"
#include "exec/onnx/ort_value.h"
#include <string.h>

/* Of names, shapes and the like: TENSORS_MAX of each, twice. */
#define SIGNATURE_BYTES_MAX ((size_t)8 << 20)

struct refused {
    const char *name;
    const char *why;
};

struct onnx_model {
    const struct ort *ort;
    struct OrtSession *session;
    enum ort_provider provider;
    struct sl_arena arena; /* all that follows */
    struct tensor_spec *inputs, *outputs;
    struct tensor_signature signature;
    struct refused *refused;
    size_t n_refused;
    const char *producer, *graph_name;
};

/* The three lists that a session has; their functions have one shape. */
struct list {
    ort_abi_status (*count)(const struct OrtSession *, size_t *);
    ort_abi_status (*name)(const struct OrtSession *, size_t, struct OrtAllocator *, char **);
    ort_abi_status (*type)(const struct OrtSession *, size_t, struct OrtTypeInfo **);
};

static const char *kind_text(int kind)
{
    switch (kind) {
    case ORT_ABI_KIND_SEQUENCE: return "a sequence";
    case ORT_ABI_KIND_MAP: return "a map";
    case ORT_ABI_KIND_SPARSE: return "a sparse tensor";
    case ORT_ABI_KIND_OPTIONAL: return "an optional value";
    default: return "an opaque value";
    }
}

/* The library's string, copied and given back; NULL is "". */
static sl_status keep_string(struct onnx_model *model, char *theirs, const char **out,
                             struct sl_err *err)
{
    size_t n = theirs ? strlen(theirs) : 0;
    *out = sl_arena_strndup(&model->arena, theirs ? theirs : "", n);
    sl_status status = SL_OK;
    if (theirs)
        status = ort_result(model->ort,
                            model->ort->api.AllocatorFree(model->ort->allocator, theirs), err);
    if (!*out) return sl_err_set(err, SL_NOMEM, "no memory for the signature");
    return status;
}

/* The library tells a tensor of unknown rank and a scalar alike, as of no dimensions. */
static sl_status read_dimensions(const struct ort *ort,
                                 const struct OrtTensorTypeAndShapeInfo *info,
                                 struct tensor_spec *out, struct sl_err *err)
{
    size_t rank = 0;
    sl_status status = ort_result(ort, ort->api.GetDimensionsCount(info, &rank), err);
    if (status != SL_OK) return status;
    if (rank > TENSOR_RANK_MAX)
        return sl_err_set(err, SL_LIMIT, "%zu dimensions; at most %d are served", rank,
                          TENSOR_RANK_MAX);
    out->rank = rank ? (int32_t)rank : -1;
    status = ort_result(ort, ort->api.GetDimensions(info, out->shape, rank), err);
    for (size_t i = 0; i < rank; i++)
        if (out->shape[i] < 0) out->shape[i] = -1;
    return status;
}

static sl_status read_tensor_type(const struct ort *ort, const struct OrtTypeInfo *type,
                                  struct tensor_spec *out, struct sl_err *err)
{
    const struct OrtTensorTypeAndShapeInfo *info = NULL;
    int element = 0;
    sl_status status = ort_result(ort, ort->api.CastTypeInfoToTensorInfo(type, &info), err);
    if (status == SL_OK)
        status = ort_result(ort, ort->api.GetTensorElementType(info, &element), err);
    if (status != SL_OK) return status;
    if (!ort_element_to_tensor(element, &out->type))
        return sl_err_set(err, SL_UNSUPPORTED,
                          "its elements have ONNX's type %d, which the protocol lacks", element);
    return read_dimensions(ort, info, out, err);
}

static sl_status read_type(const struct ort *ort, const struct OrtTypeInfo *type,
                           struct tensor_spec *out, struct sl_err *err);

/* An optional tensor is served as the tensor it may hold. */
static sl_status read_optional(const struct ort *ort, const struct OrtTypeInfo *type,
                               struct tensor_spec *out, struct sl_err *err)
{
    const struct OrtOptionalTypeInfo *info = NULL;
    struct OrtTypeInfo *inner = NULL;
    int kind = 0;
    sl_status status = ort_result(ort, ort->api.CastTypeInfoToOptionalTypeInfo(type, &info), err);
    if (status == SL_OK)
        status = ort_result(ort, ort->api.GetOptionalContainedTypeInfo(info, &inner), err);
    if (status != SL_OK) return status;
    status = ort_result(ort, ort->api.GetOnnxTypeFromTypeInfo(inner, &kind), err);
    if (status == SL_OK && kind != ORT_ABI_KIND_TENSOR)
        status = sl_err_set(err, SL_UNSUPPORTED,
                            "it is an optional value that holds %s, and only tensors are served",
                            kind_text(kind));
    if (status == SL_OK) status = read_tensor_type(ort, inner, out, err);
    ort->api.ReleaseTypeInfo(inner);
    return status;
}

static sl_status read_type(const struct ort *ort, const struct OrtTypeInfo *type,
                           struct tensor_spec *out, struct sl_err *err)
{
    int kind = 0;
    sl_status status = ort_result(ort, ort->api.GetOnnxTypeFromTypeInfo(type, &kind), err);
    if (status != SL_OK) return status;
    if (kind == ORT_ABI_KIND_TENSOR) return read_tensor_type(ort, type, out, err);
    if (kind == ORT_ABI_KIND_OPTIONAL) return read_optional(ort, type, out, err);
    return sl_err_set(err, SL_UNSUPPORTED, "it is %s, and only tensors are served",
                      kind_text(kind));
}

/* The i-th of a list. UNSUPPORTED leaves the name in place. */
static sl_status read_spec(struct onnx_model *model, const struct list *list, size_t i,
                           struct tensor_spec *out, struct sl_err *err)
{
    const struct ort *ort = model->ort;
    struct OrtTypeInfo *type = NULL;
    char *name = NULL;
    *out = (struct tensor_spec){0};
    sl_status status = ort_result(ort, list->name(model->session, i, ort->allocator, &name), err);
    if (status == SL_OK) status = keep_string(model, name, &out->name, err);
    if (status == SL_OK) status = ort_result(ort, list->type(model->session, i, &type), err);
    if (status != SL_OK) return status;
    status = read_type(ort, type, out, err);
    ort->api.ReleaseTypeInfo(type);
    return status;
}

static sl_status count_of(struct onnx_model *model, const struct list *list, const char *what,
                          size_t *out, struct sl_err *err)
{
    sl_status status = ort_result(model->ort, list->count(model->session, out), err);
    if (status != SL_OK || *out <= TENSORS_MAX) return status;
    return sl_err_set(err, SL_LIMIT, "%zu %s; at most %d are served", *out, what, TENSORS_MAX);
}

static sl_status read_inputs(struct onnx_model *model, struct sl_err *err)
{
    const struct ort_api *api = &model->ort->api;
    const struct list required = {api->SessionGetInputCount, api->SessionGetInputName,
                                  api->SessionGetInputTypeInfo};
    const struct list defaults = {api->SessionGetOverridableInitializerCount,
                                  api->SessionGetOverridableInitializerName,
                                  api->SessionGetOverridableInitializerTypeInfo};
    size_t n_required, n_defaults;
    sl_status status = count_of(model, &required, "inputs", &n_required, err);
    if (status == SL_OK) status = count_of(model, &defaults, "optional inputs", &n_defaults, err);
    if (status != SL_OK) return status;
    model->inputs =
        sl_arena_array(&model->arena, n_required + n_defaults + 1, sizeof *model->inputs);
    if (!model->inputs) return sl_err_set(err, SL_NOMEM, "no memory for the signature");
    model->signature.inputs = model->inputs;
    for (size_t i = 0; i < n_required; i++) {
        struct tensor_spec *spec = &model->inputs[model->signature.n_inputs++];
        if (read_spec(model, &required, i, spec, err) != SL_OK)
            return sl_err_prefix(err, "input \"%.80s\"", spec->name ? spec->name : "");
    }
    /* A default of a type that no request can bring stays the default. */
    for (size_t i = 0; i < n_defaults && model->signature.n_inputs < TENSORS_MAX; i++) {
        struct tensor_spec *spec = &model->inputs[model->signature.n_inputs];
        status = read_spec(model, &defaults, i, spec, err);
        spec->optional = true;
        if (status == SL_OK) model->signature.n_inputs++;
        if (status != SL_OK && status != SL_UNSUPPORTED) return status;
    }
    return SL_OK;
}

static sl_status refuse(struct onnx_model *model, const char *name, const struct sl_err *why,
                        struct sl_err *err)
{
    const char *text = sl_arena_strndup(&model->arena, why->text, strlen(why->text));
    if (!text) return sl_err_set(err, SL_NOMEM, "no memory for the signature");
    model->refused[model->n_refused++] = (struct refused){name, text};
    return SL_OK;
}

static sl_status read_outputs(struct onnx_model *model, struct sl_err *err)
{
    const struct ort_api *api = &model->ort->api;
    const struct list all = {api->SessionGetOutputCount, api->SessionGetOutputName,
                             api->SessionGetOutputTypeInfo};
    size_t n;
    sl_status status = count_of(model, &all, "outputs", &n, err);
    if (status != SL_OK) return status;
    model->outputs = sl_arena_array(&model->arena, n + 1, sizeof *model->outputs);
    model->refused = sl_arena_array(&model->arena, n + 1, sizeof *model->refused);
    if (!model->outputs || !model->refused)
        return sl_err_set(err, SL_NOMEM, "no memory for the signature");
    model->signature.outputs = model->outputs;
    for (size_t i = 0; i < n; i++) {
        struct sl_err why = SL_ERR_INIT;
        struct tensor_spec *spec = &model->outputs[model->signature.n_outputs];
        status = read_spec(model, &all, i, spec, &why);
        if (status == SL_OK) model->signature.n_outputs++;
        if (status == SL_UNSUPPORTED) status = refuse(model, spec->name, &why, err);
        if (status != SL_OK) return err->status == SL_OK ? (*err = why).status : status;
    }
    if (model->signature.n_outputs) return SL_OK;
    if (!n) return sl_err_set(err, SL_CORRUPT, "the model has no output");
    return sl_err_set(err, SL_UNSUPPORTED, "output \"%.80s\": %s", model->refused[0].name,
                      model->refused[0].why);
}

static sl_status read_metadata(struct onnx_model *model, struct sl_err *err)
{
    const struct ort *ort = model->ort;
    struct OrtModelMetadata *meta = NULL;
    char *text = NULL;
    sl_status status =
        ort_result(ort, ort->api.SessionGetModelMetadata(model->session, &meta), err);
    if (status != SL_OK) return status;
    status =
        ort_result(ort, ort->api.ModelMetadataGetProducerName(meta, ort->allocator, &text), err);
    if (status == SL_OK) status = keep_string(model, text, &model->producer, err);
    if (status == SL_OK)
        status =
            ort_result(ort, ort->api.ModelMetadataGetGraphName(meta, ort->allocator, &text), err);
    if (status == SL_OK) status = keep_string(model, text, &model->graph_name, err);
    ort->api.ReleaseModelMetadata(meta);
    return status;
}

sl_status onnx_model_open(const char *path, const struct onnx_options *options, int32_t n_threads,
                          struct onnx_model **out, struct sl_err *err)
{
    const struct ort *ort;
    sl_status status = ort_load(&ort, err);
    if (status != SL_OK) return status;
    struct onnx_model *model = sl_calloc(1, sizeof *model);
    if (!model) return sl_err_set(err, SL_NOMEM, "model");
    model->ort = ort;
    sl_arena_init(&model->arena, SIGNATURE_BYTES_MAX);
    status =
        onnx_session_create(ort, path, options, n_threads, &model->session, &model->provider, err);
    if (status == SL_OK) status = read_inputs(model, err);
    if (status == SL_OK) status = read_outputs(model, err);
    if (status == SL_OK) status = read_metadata(model, err);
    if (status != SL_OK) {
        onnx_model_close(model);
        return status;
    }
    for (size_t i = 0; i < model->n_refused; i++)
        sl_log(SL_LOG_INFO, "onnx", "%s: output \"%s\" is left out: %s", path,
               model->refused[i].name, model->refused[i].why);
    *out = model;
    return SL_OK;
}

void onnx_model_close(struct onnx_model *model)
{
    if (!model) return;
    if (model->session) model->ort->api.ReleaseSession(model->session);
    sl_arena_done(&model->arena);
    sl_free(model);
}

const struct tensor_signature *onnx_model_signature(const struct onnx_model *model)
{
    return &model->signature;
}

const char *onnx_model_refused(const struct onnx_model *model, const char *output)
{
    for (size_t i = 0; i < model->n_refused; i++)
        if (!strcmp(model->refused[i].name, output)) return model->refused[i].why;
    return NULL;
}

enum ort_provider onnx_model_provider(const struct onnx_model *model)
{
    return model->provider;
}

const char *onnx_model_producer(const struct onnx_model *model)
{
    return model->producer;
}

const char *onnx_model_graph_name(const struct onnx_model *model)
{
    return model->graph_name;
}

static bool is_scalar(const struct onnx_value *values, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (values[i].name.len == strlen(name) &&
            !memcmp(values[i].name.s, name, values[i].name.len))
            return values[i].rank == 0;
    }
    return false;
}

void onnx_model_learn_scalars(struct onnx_model *model, const struct onnx_file *file)
{
    size_t n_inputs, n_outputs;
    const struct onnx_value *inputs = onnx_file_inputs(file, &n_inputs);
    const struct onnx_value *outputs = onnx_file_outputs(file, &n_outputs);
    for (size_t i = 0; i < model->signature.n_inputs; i++)
        if (model->inputs[i].rank < 0 && is_scalar(inputs, n_inputs, model->inputs[i].name))
            model->inputs[i].rank = 0;
    for (size_t i = 0; i < model->signature.n_outputs; i++)
        if (model->outputs[i].rank < 0 && is_scalar(outputs, n_outputs, model->outputs[i].name))
            model->outputs[i].rank = 0;
}

const struct ort *onnx_model_ort(const struct onnx_model *model)
{
    return model->ort;
}

struct OrtSession *onnx_model_session(const struct onnx_model *model)
{
    return model->session;
}
