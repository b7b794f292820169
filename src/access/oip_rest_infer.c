/* oip_rest_infer.c: POST /v2/models/NAME/infer: JSON, or JSON with binary tensors behind it.
 *
 *     Inference-Header-Content-Length: 170
 *     {"inputs":[{...,"parameters":{"binary_data_size":12}}]}<12 bytes> */
#include "access/oip.h"
#include "access/oip_data.h"
#include "access/oip_rest.h"
#include "base/mem.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_LENGTH "inference-header-content-length"
/* Of tensors that came as JSON. Texts are read into twice the bytes of their spelling. */
#define ARENA_MAX (2 * (size_t)TENSOR_BYTES_MAX + (4u << 20))

struct rest_output {
    bool binary;
};

/* A request on its way, until its run is over. */
struct rest {
    struct call *call;
    struct oip_infer infer;
    struct sl_json_value *tree; /* of the request without its lists */
    struct oip_data *lists;     /* [TENSORS_MAX] */
    size_t n_lists;
    struct sl_arena arena; /* tensors that came as JSON */
    struct tensor *inputs;
    const char **outputs;
    struct rest_output *output_forms; /* [n_outputs] */
    bool binary_by_default;
    const char *binary; /* what stands behind the JSON, and has not been taken */
    size_t n_binary;
    size_t n_header; /* of the answer: bytes of JSON when binary data follow; 0: none do */
};

static void rest_free(void *data)
{
    struct rest *rest = data;
    sl_json_free(rest->tree);
    sl_free(rest->lists);
    sl_arena_done(&rest->arena);
    sl_free(rest->inputs);
    sl_free(rest->outputs);
    sl_free(rest->output_forms);
    sl_free((void *)rest->infer.params);
    sl_free(rest);
}

/* --- the answer --- */

static bool is_binary(const struct rest *rest, const char *name)
{
    for (size_t i = 0; i < rest->infer.n_outputs; i++)
        if (!strcmp(rest->outputs[i], name)) return rest->output_forms[i].binary;
    return rest->binary_by_default;
}

static sl_status put_tensor(struct sl_json *json, const struct tensor *tensor, bool binary,
                            struct sl_err *err)
{
    sl_status status = SL_OK;
    sl_json_object(json);
    sl_json_kv_str(json, "name", tensor->name);
    sl_json_kv_str(json, "datatype", tensor_type_name(tensor->type));
    sl_json_key(json, "shape");
    sl_json_array(json);
    for (int32_t i = 0; i < tensor->rank; i++) sl_json_int(json, tensor->shape[i]);
    sl_json_array_end(json);
    if (binary) {
        sl_json_key(json, "parameters");
        sl_json_object(json);
        sl_json_kv_int(json, "binary_data_size", (int64_t)tensor->n_bytes);
        sl_json_object_end(json);
    } else {
        sl_json_key(json, "data");
        sl_json_raw(json, "", 0); /* the list follows, as is */
        status = oip_data_write(tensor, json->out, err);
        if (status != SL_OK) sl_err_prefix(err, "output \"%.100s\"", tensor->name);
    }
    sl_json_object_end(json);
    return status;
}

static sl_status put_json(const struct rest *rest, const struct oip_answer *answer,
                          struct sl_buf *out, struct sl_err *err)
{
    struct sl_json json;
    sl_status status = SL_OK;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model_name", answer->model);
    if (*answer->version) sl_json_kv_str(&json, "model_version", answer->version);
    if (*answer->id) sl_json_kv_str(&json, "id", answer->id);
    sl_json_key(&json, "outputs");
    sl_json_array(&json);
    for (size_t i = 0; i < answer->n_tensors && status == SL_OK; i++)
        status =
            put_tensor(&json, &answer->tensors[i], is_binary(rest, answer->tensors[i].name), err);
    if (status != SL_OK) return status;
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    status = sl_json_end(&json);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "the answer does not fit into memory");
}

static sl_status reserve_binary(const struct rest *rest, const struct oip_answer *answer,
                                struct sl_buf *out, struct sl_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < answer->n_tensors; i++)
        if (is_binary(rest, answer->tensors[i].name)) n += answer->tensors[i].n_bytes;
    sl_status status = sl_buf_reserve(out, n);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "the answer does not fit into memory");
}

static sl_status put(struct oip_run *run, const struct oip_answer *answer, struct sl_err *err)
{
    struct rest *rest = run->infer.data;
    sl_status status = put_json(rest, answer, &run->out, err);
    size_t n_json = run->out.len;
    if (status == SL_OK) status = reserve_binary(rest, answer, &run->out, err);
    for (size_t i = 0; i < answer->n_tensors && status == SL_OK; i++) {
        const struct tensor *tensor = &answer->tensors[i];
        if (!is_binary(rest, tensor->name)) continue;
        rest->n_header = n_json;
        status = sl_buf_add(&run->out, tensor->data, tensor->n_bytes);
        if (status != SL_OK) sl_err_set(err, status, "the answer does not fit into memory");
    }
    return status;
}

static void send(struct oip_run *run)
{
    const struct rest *rest = run->infer.data;
    struct call *call = run->call;
    char text[32];
    call_add_times(call, run->queue_ns, -1);
    if (rest->n_header) {
        snprintf(text, sizeof text, "%zu", rest->n_header);
        (void)!http_exchange_header_add(call->x, "Inference-Header-Content-Length", text);
    }
    call_respond_buf(call, 200, rest->n_header ? "application/octet-stream" : CONTENT_JSON,
                     &run->out);
}

static const struct oip_face FACE = {.put = put, .send = send, .done = rest_free};

/* --- parameters --- */

/* Into out[*n]. */
static sl_status read_param(const char *name, const struct sl_json_value *value,
                            struct oip_param *out, struct sl_err *err)
{
    *out = (struct oip_param){.name = name};
    switch (sl_json_type(value)) {
    case SL_JSON_BOOL:
        out->type = OIP_PARAM_BOOL;
        out->flag = sl_json_to_bool(value, false);
        return SL_OK;
    case SL_JSON_INT:
        out->type = OIP_PARAM_INT;
        out->integer = sl_json_to_int(value, 0);
        return SL_OK;
    case SL_JSON_NUM:
        out->type = OIP_PARAM_NUM;
        out->number = sl_json_to_num(value, 0);
        return SL_OK;
    case SL_JSON_STR:
        out->type = OIP_PARAM_STR;
        out->text = sl_json_to_str(value, "", &out->n_text);
        return SL_OK;
    default:
        return sl_err_set(err, SL_INVALID,
                          "parameters: \"%.100s\" must be a text, a number, true or false", name);
    }
}

/* What a parameter asks for that is not done here would change the answer. */
static sl_status refuse_params(const struct sl_json_value *params, const char *what,
                               const char *name, struct sl_err *err)
{
    static const char *const refused[] = {"classification", "shared_memory_region"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (!sl_json_is(sl_json_get(params, refused[i]), SL_JSON_NULL))
            return sl_err_set(err, SL_INVALID, "%s \"%.100s\": parameter %s is not supported", what,
                              name, refused[i]);
    return SL_OK;
}

static sl_status read_params(struct rest *rest, struct sl_err *err)
{
    const struct sl_json_value *object = sl_json_get(rest->tree, "parameters"), *value;
    size_t n = sl_json_size(object), n_key;
    const char *key;
    void *iter = NULL;
    if (!sl_json_is(object, SL_JSON_NULL) && !sl_json_is(object, SL_JSON_OBJECT))
        return sl_err_set(err, SL_INVALID, "parameters: an object is needed here");
    if (n > OIP_PARAMS_MAX)
        return sl_err_set(err, SL_INVALID, "parameters: at most %d", OIP_PARAMS_MAX);
    struct oip_param *params = sl_calloc(n + 1, sizeof *params);
    if (!params) return sl_err_set(err, SL_NOMEM, "no memory for this request");
    rest->infer.params = params;
    sl_status status = SL_OK;
    while (status == SL_OK && sl_json_next(object, &iter, &key, &n_key, &value))
        status = read_param(key, value, &params[rest->infer.n_params++], err);
    rest->binary_by_default = sl_json_to_bool(sl_json_get(object, "binary_data_output"), false);
    return status;
}

/* --- inputs --- */

static sl_status read_shape(const struct sl_json_value *list, struct tensor *out,
                            struct sl_err *err)
{
    size_t n = sl_json_size(list);
    if (!sl_json_is(list, SL_JSON_ARRAY))
        return sl_err_set(err, SL_INVALID, "shape: a list of whole numbers is needed");
    if (n > TENSOR_RANK_MAX)
        return sl_err_set(err, SL_INVALID, "shape: %zu dimensions where at most %d are possible", n,
                          TENSOR_RANK_MAX);
    for (size_t i = 0; i < n; i++) {
        const struct sl_json_value *value = sl_json_at(list, i);
        out->shape[i] = sl_json_to_int(value, -1);
        if (!sl_json_is(value, SL_JSON_INT) || out->shape[i] < 0)
            return sl_err_set(err, SL_INVALID,
                              "shape: dimension %zu is no whole number from 0 to 2^63-1", i);
    }
    out->rank = (int32_t)n;
    return SL_OK;
}

/* The next bytes behind the JSON. */
static sl_status take_binary(struct rest *rest, const struct sl_json_value *size,
                             struct tensor *out, struct sl_err *err)
{
    int64_t n = sl_json_to_int(size, -1);
    if (!sl_json_is(size, SL_JSON_INT) || n < 0)
        return sl_err_set(err, SL_INVALID, "binary_data_size: a whole number of bytes is needed");
    if ((uint64_t)n > rest->n_binary)
        return sl_err_set(err, SL_INVALID,
                          "binary_data_size is %" PRId64
                          ", but only %zu bytes are left behind the JSON",
                          n, rest->n_binary);
    out->data = rest->binary;
    out->n_bytes = (size_t)n;
    rest->binary += n;
    rest->n_binary -= (size_t)n;
    return SL_OK;
}

static sl_status read_data(struct rest *rest, const struct sl_json_value *data, struct tensor *out,
                           struct sl_err *err)
{
    const struct sl_json_value *place = sl_json_get(data, "");
    int64_t k = sl_json_to_int(place, -1);
    if (sl_json_is(data, SL_JSON_NULL))
        return sl_err_set(err, SL_INVALID, "data is missing, and so is parameter binary_data_size");
    if (!sl_json_is(place, SL_JSON_INT) || k < 0 || (uint64_t)k >= rest->n_lists)
        return sl_err_set(err, SL_INVALID, "data: a list is needed here");
    return oip_data_read(&rest->lists[k], &rest->arena, out, err);
}

static sl_status read_type(const struct sl_json_value *value, struct tensor *out,
                           struct sl_err *err)
{
    size_t n = 0;
    const char *text = sl_json_to_str(value, NULL, &n);
    if (!text) return sl_err_set(err, SL_INVALID, "datatype: a text is needed");
    if (!tensor_type_parse(text, n, &out->type))
        return sl_err_set(err, SL_INVALID, "datatype: there is no \"%.40s\"", text);
    return SL_OK;
}

static sl_status read_input(struct rest *rest, const struct sl_json_value *object,
                            struct tensor *out, struct sl_err *err)
{
    const struct sl_json_value *params = sl_json_get(object, "parameters");
    const struct sl_json_value *size = sl_json_get(params, "binary_data_size");
    const struct sl_json_value *data = sl_json_get(object, "data");
    sl_status status = read_type(sl_json_get(object, "datatype"), out, err);
    if (status == SL_OK) status = read_shape(sl_json_get(object, "shape"), out, err);
    if (status != SL_OK) return status;
    if (sl_json_is(size, SL_JSON_NULL)) return read_data(rest, data, out, err);
    if (!sl_json_is(data, SL_JSON_NULL))
        return sl_err_set(err, SL_INVALID, "data and binary_data_size exclude each other");
    return take_binary(rest, size, out, err);
}

/* A name that is there, without NUL bytes. */
static const char *read_name(const struct sl_json_value *object)
{
    size_t n = 0;
    const char *name = sl_json_to_str(sl_json_get(object, "name"), NULL, &n);
    return name && n && n <= TENSOR_NAME_MAX && strlen(name) == n ? name : NULL;
}

/* The list `key` of the request, not longer than TENSORS_MAX. */
static sl_status read_list(struct rest *rest, const char *key, bool needed,
                           const struct sl_json_value **out, size_t *out_n, struct sl_err *err)
{
    *out = sl_json_get(rest->tree, key);
    *out_n = sl_json_size(*out);
    if (!sl_json_is(*out, SL_JSON_ARRAY) && (needed || !sl_json_is(*out, SL_JSON_NULL)))
        return sl_err_set(err, SL_INVALID, "%s: a list is needed here", key);
    if (*out_n > TENSORS_MAX)
        return sl_err_set(err, SL_INVALID, "%s: at most %d", key, TENSORS_MAX);
    return SL_OK;
}

static sl_status read_inputs(struct rest *rest, struct sl_err *err)
{
    const struct sl_json_value *list;
    size_t n;
    sl_status status = read_list(rest, "inputs", true, &list, &n, err);
    if (status != SL_OK) return status;
    rest->inputs = sl_calloc(n + 1, sizeof *rest->inputs);
    if (!rest->inputs) return sl_err_set(err, SL_NOMEM, "no memory for this request");
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        const struct sl_json_value *object = sl_json_at(list, i);
        const char *name = read_name(object);
        if (!name) return sl_err_set(err, SL_INVALID, "inputs[%zu]: a name is needed", i);
        rest->inputs[i].name = name;
        status = refuse_params(sl_json_get(object, "parameters"), "input", name, err);
        if (status != SL_OK) return status;
        status = read_input(rest, object, &rest->inputs[i], err);
        if (status != SL_OK) sl_err_prefix(err, "input \"%.100s\"", name);
    }
    if (status == SL_OK && rest->n_binary)
        status = sl_err_set(err, SL_INVALID,
                            "%zu bytes behind the JSON belong to no input: the binary_data_size of "
                            "all do not add up to them",
                            rest->n_binary);
    rest->infer.inputs = rest->inputs;
    rest->infer.n_inputs = n;
    return status;
}

static sl_status read_outputs(struct rest *rest, struct sl_err *err)
{
    const struct sl_json_value *list;
    size_t n;
    sl_status status = read_list(rest, "outputs", false, &list, &n, err);
    if (status != SL_OK) return status;
    rest->outputs = sl_calloc(n + 1, sizeof *rest->outputs);
    rest->output_forms = sl_calloc(n + 1, sizeof *rest->output_forms);
    if (!rest->outputs || !rest->output_forms)
        return sl_err_set(err, SL_NOMEM, "no memory for this request");
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        const struct sl_json_value *object = sl_json_at(list, i);
        const struct sl_json_value *params = sl_json_get(object, "parameters");
        rest->outputs[i] = read_name(object);
        if (!rest->outputs[i])
            return sl_err_set(err, SL_INVALID, "outputs[%zu]: a name is needed", i);
        rest->output_forms[i].binary =
            sl_json_to_bool(sl_json_get(params, "binary_data"), rest->binary_by_default);
        status = refuse_params(params, "output", rest->outputs[i], err);
    }
    rest->infer.outputs = rest->outputs;
    rest->infer.n_outputs = n;
    return status;
}

/* --- the request --- */

/* Where the JSON ends and binary data begin. */
static sl_status split_body(struct rest *rest, size_t *out_n_json, struct sl_err *err)
{
    const struct http_request *request = rest->call->request;
    const char *length = http_request_header(request, HEADER_LENGTH);
    *out_n_json = request->body_len;
    if (!length) return SL_OK;
    char *end;
    unsigned long long n = strtoull(length, &end, 10);
    if (*length < '0' || *length > '9' || *end)
        return sl_err_set(err, SL_INVALID, "Inference-Header-Content-Length: a number is needed");
    if (n > request->body_len)
        return sl_err_set(err, SL_INVALID,
                          "Inference-Header-Content-Length is %llu, but the body has %zu bytes", n,
                          request->body_len);
    *out_n_json = (size_t)n;
    rest->binary = request->body + n;
    rest->n_binary = request->body_len - (size_t)n;
    return SL_OK;
}

static sl_status parse(struct rest *rest, struct sl_err *err)
{
    struct sl_buf text;
    size_t n_json;
    sl_status status = split_body(rest, &n_json, err);
    if (status != SL_OK) return status;
    rest->lists = sl_calloc(TENSORS_MAX, sizeof *rest->lists);
    if (!rest->lists) return sl_err_set(err, SL_NOMEM, "no memory for this request");
    sl_buf_init(&text, n_json + (size_t)TENSORS_MAX * 16);
    status =
        oip_data_cut(rest->call->request->body, n_json, &text, rest->lists, &rest->n_lists, err);
    if (status == SL_OK) {
        status = sl_json_parse(text.data, text.len, &rest->tree, err);
        if (status == SL_LIMIT) status = err->status = SL_INVALID;
        if (status == SL_INVALID) sl_err_prefix(err, "the request is not valid JSON");
    }
    sl_buf_done(&text);
    if (status == SL_OK && !sl_json_is(rest->tree, SL_JSON_OBJECT))
        status = sl_err_set(err, SL_INVALID, "the request must be a JSON object");
    return status;
}

static sl_status read_id(struct rest *rest, struct sl_err *err)
{
    const struct sl_json_value *id = sl_json_get(rest->tree, "id");
    if (!sl_json_is(id, SL_JSON_NULL) && !sl_json_is(id, SL_JSON_STR))
        return sl_err_set(err, SL_INVALID, "id: a text is needed");
    rest->infer.id = sl_json_to_str(id, NULL, NULL);
    return SL_OK;
}

static sl_status read_request(struct rest *rest, struct sl_err *err)
{
    sl_status status = parse(rest, err);
    if (status == SL_OK) status = read_id(rest, err);
    if (status == SL_OK) status = read_params(rest, err);
    if (status == SL_OK) status = read_inputs(rest, err);
    if (status == SL_OK) status = read_outputs(rest, err);
    return status;
}

void oip_rest_infer(struct call *call, const struct oip_path *path)
{
    struct sl_err err = SL_ERR_INIT;
    struct rest *rest = sl_calloc(1, sizeof *rest);
    if (!rest) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    rest->call = call;
    sl_arena_init(&rest->arena, ARENA_MAX);
    rest->infer = (struct oip_infer){
        .model = path->model, .version = path->version, .face = &FACE, .data = rest};
    if (read_request(rest, &err) == SL_OK) {
        oip_infer_start(call, &rest->infer);
        return;
    }
    rest_free(rest);
    call_fail_err(call, &err, NULL);
}
