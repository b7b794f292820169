#include "cli/infer_wire.h"
#include "access/oip_data.h"
#include <string.h>

/* --- request --- */

static void put_tensor(struct sl_json *json, const struct tensor *tensor)
{
    sl_json_object(json);
    sl_json_kv_str(json, "name", tensor->name);
    sl_json_kv_str(json, "datatype", tensor_type_name(tensor->type));
    sl_json_key(json, "shape");
    sl_json_array(json);
    for (int32_t i = 0; i < tensor->rank; i++) sl_json_int(json, tensor->shape[i]);
    sl_json_array_end(json);
    sl_json_key(json, "parameters");
    sl_json_object(json);
    sl_json_kv_int(json, "binary_data_size", (int64_t)tensor->n_bytes);
    sl_json_object_end(json);
    sl_json_object_end(json);
}

sl_status infer_wire_request(const struct tensor *inputs, size_t n_inputs, struct sl_buf *out,
                             size_t *n_json, struct sl_err *err)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_key(&json, "parameters");
    sl_json_object(&json);
    sl_json_kv_bool(&json, "binary_data_output", true);
    sl_json_object_end(&json);
    sl_json_key(&json, "inputs");
    sl_json_array(&json);
    for (size_t i = 0; i < n_inputs; i++) put_tensor(&json, &inputs[i]);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    *n_json = out->len;
    for (size_t i = 0; i < n_inputs && status == SL_OK; i++)
        status = sl_buf_add(out, inputs[i].data, inputs[i].n_bytes);
    return status == SL_OK ? SL_OK
                           : sl_err_set(err, status, "the request: %s", sl_status_text(status));
}

/* --- answer --- */

static sl_status strange(struct sl_err *err, const char *what)
{
    return sl_err_set(err, SL_UNAVAILABLE, "the server's answer: %s", what);
}

sl_status infer_wire_spec(const struct sl_json_value *value, struct sl_arena *arena,
                          struct tensor_spec *out, struct sl_err *err)
{
    const struct sl_json_value *shape = sl_json_get(value, "shape");
    size_t n_name, n_type, rank = sl_json_size(shape);
    const char *name = sl_json_to_str(sl_json_get(value, "name"), NULL, &n_name);
    const char *type = sl_json_to_str(sl_json_get(value, "datatype"), NULL, &n_type);
    if (!name || n_name > TENSOR_NAME_MAX || !type || !tensor_type_parse(type, n_type, &out->type))
        return strange(err, "a tensor without a name or datatype");
    if (!sl_json_is(shape, SL_JSON_ARRAY) || rank > TENSOR_RANK_MAX)
        return strange(err, "a tensor without a shape");
    out->rank = (int32_t)rank;
    for (size_t i = 0; i < rank; i++) out->shape[i] = sl_json_to_int(sl_json_at(shape, i), -1);
    out->optional = sl_json_to_bool(sl_json_get(value, "optional"), false);
    out->name = sl_arena_strndup(arena, name, n_name);
    return out->name ? SL_OK : sl_err_set(err, SL_NOMEM, "the server's answer");
}

/* Where the next binary tensor begins. */
struct binary {
    const char *at;
    size_t n; /* left */
};

static sl_status take_binary(struct binary *binary, int64_t n_bytes, struct tensor *out,
                             struct sl_err *err)
{
    if (n_bytes < 0 || (uint64_t)n_bytes > binary->n)
        return strange(err, "less binary data than it tells");
    out->data = binary->at;
    out->n_bytes = (size_t)n_bytes;
    binary->at += n_bytes;
    binary->n -= (size_t)n_bytes;
    return SL_OK;
}

/* "data": JSON again, for the reader of the protocol's lists. */
static sl_status take_list(const struct sl_json_value *data, struct sl_arena *arena,
                           struct tensor *out, struct sl_err *err)
{
    struct sl_json json;
    struct sl_buf text;
    if (!sl_json_is(data, SL_JSON_ARRAY)) return strange(err, "a tensor without data");
    sl_buf_init(&text, 4 * TENSOR_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    sl_json_put(&json, data);
    sl_status status = sl_json_end(&json);
    const struct oip_data list = {text.data, text.len};
    if (status == SL_OK)
        status = oip_data_read(&list, arena, out, err);
    else
        (void)sl_err_set(err, status, "the server's answer");
    sl_buf_done(&text);
    return status;
}

static sl_status take_tensor(const struct sl_json_value *value, struct binary *binary,
                             struct sl_arena *arena, struct tensor *out, struct sl_err *err)
{
    struct tensor_spec spec;
    const struct sl_json_value *size =
        sl_json_get(sl_json_get(value, "parameters"), "binary_data_size");
    sl_status status = infer_wire_spec(value, arena, &spec, err);
    if (status != SL_OK) return status;
    *out = (struct tensor){.name = spec.name, .type = spec.type, .rank = spec.rank};
    memcpy(out->shape, spec.shape, sizeof out->shape);
    status = size ? take_binary(binary, sl_json_to_int(size, -1), out, err)
                  : take_list(sl_json_get(value, "data"), arena, out, err);
    if (status == SL_OK && tensor_check(out, err) != SL_OK)
        status = sl_err_prefix(err, "the server's answer");
    return status;
}

static sl_status take_outputs(const struct sl_json_value *root, struct binary *binary,
                              struct sl_arena *arena, struct tensor **out, size_t *n_out,
                              struct sl_err *err)
{
    const struct sl_json_value *outputs = sl_json_get(root, "outputs");
    size_t n = sl_json_size(outputs);
    if (!sl_json_is(outputs, SL_JSON_ARRAY) || n > TENSORS_MAX)
        return strange(err, "it has no outputs");
    struct tensor *v = sl_arena_array(arena, n, sizeof *v);
    sl_status status = v ? SL_OK : sl_err_set(err, SL_NOMEM, "the server's answer");
    for (size_t i = 0; i < n && status == SL_OK; i++)
        status = take_tensor(sl_json_at(outputs, i), binary, arena, &v[i], err);
    *out = v;
    *n_out = n;
    return status;
}

sl_status infer_wire_answer(const char *body, size_t n, size_t n_json, struct sl_arena *arena,
                            struct tensor **out, size_t *n_out, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    if (n_json > n || sl_json_parse(body, n_json, &root, NULL) != SL_OK)
        return strange(err, "it is no JSON");
    struct binary binary = {body + n_json, n - n_json};
    sl_status status = take_outputs(root, &binary, arena, out, n_out, err);
    sl_json_free(root);
    return status;
}
