#include "cli/infer_input.h"
#include "access/oip_data.h"
#include "base/checked.h"
#include "base/json_read.h"
#include "cli/cli.h"
#include "cli/infer_target.h"
#include "cli/npy.h"
#include "exec/vision/half.h"
#include <stdio.h>
#include <string.h>

#define ARENA_BYTES_MAX (4u * TENSOR_BYTES_MAX) /* files, and the tensors made of them */
#define DESCRIPTION_BYTES_MAX 4096
#define DESCRIBED_MAX 8 /* inputs that a message names */

struct collecting {
    const struct infer_input_cfg *cfg;
    struct infer_inputs *out;
    struct sl_err *err;
};

/* --- messages --- */

/* "... ; resnet20 takes input FP32 [1,3,32,32]" */
static sl_status wrong(const struct collecting *c, const char *what, const char *about)
{
    const struct tensor_signature *s = c->cfg->signature;
    struct sl_buf takes;
    sl_buf_init(&takes, DESCRIPTION_BYTES_MAX);
    infer_target_describe(s->inputs, s->n_inputs < DESCRIBED_MAX ? s->n_inputs : DESCRIBED_MAX,
                          &takes);
    sl_status status =
        sl_err_set(c->err, SL_INVALID, "%.100s: %s; %.60s takes %s%s", about, what, c->cfg->model,
                   takes.data, s->n_inputs > DESCRIBED_MAX ? ", ..." : "");
    sl_buf_done(&takes);
    return status;
}

/* --- files --- */

static bool ends_in(const char *text, const char *suffix)
{
    size_t n = strlen(text), n_suffix = strlen(suffix);
    return n >= n_suffix && strcmp(text + n - n_suffix, suffix) == 0;
}

static sl_status read_file(const struct collecting *c, const char *path, const char **out,
                           size_t *n)
{
    struct sl_buf file;
    sl_buf_init(&file, TENSOR_BYTES_MAX);
    sl_status status =
        strcmp(path, "-") == 0 ? cli_read_stdin(&file, c->err) : cli_read_file(path, &file, c->err);
    if (status == SL_OK) {
        *n = file.len;
        *out = sl_arena_strndup(&c->out->arena, file.data, file.len);
        if (!*out) status = sl_err_set(c->err, SL_NOMEM, "%s", path);
    }
    sl_buf_done(&file);
    return status;
}

static sl_status fill_image(const struct collecting *c, const char *path, struct tensor *out)
{
    const struct processing *p = c->cfg->processing;
    struct prepared prepared;
    const char *bytes;
    size_t n;
    const struct tensor_spec *spec = processing_input_of(p, c->cfg->signature);
    sl_status status = processing_check(p, c->cfg->signature, c->err);
    if (status != SL_OK) return status;
    status = read_file(c, path, &bytes, &n);
    if (status != SL_OK) return status;
    status = image_decode(bytes, n, p->prepare.background, &c->out->image, c->err);
    if (status == SL_OK) status = prepare_image(&p->prepare, &c->out->image, &prepared, c->err);
    if (status != SL_OK) return sl_err_prefix(c->err, "%.200s", path);
    *out = prepared.tensor;
    out->name = spec->name;
    void *data = sl_arena_alloc(&c->out->arena, out->n_bytes);
    if (data) out->data = memcpy(data, prepared.tensor.data, out->n_bytes);
    c->out->geometry = prepared.geometry;
    prepared_done(&prepared);
    return data ? SL_OK : sl_err_set(c->err, SL_NOMEM, "%s", path);
}

static sl_status fill_npy(const struct collecting *c, const char *path, struct tensor *out)
{
    const char *name = out->name, *bytes;
    size_t n;
    sl_status status = read_file(c, path, &bytes, &n);
    if (status == SL_OK) {
        status = npy_read(bytes, n, &c->out->arena, out, c->err);
        if (status != SL_OK) status = sl_err_prefix(c->err, "%.200s", path);
    }
    out->name = name;
    return status;
}

/* --- shapes --- */

/* The model's shape with the one size that it leaves open, besides that of the batch, such that
 * there are n elements. False: they do not fit. */
static bool shape_for(const struct tensor_spec *spec, uint64_t n, struct tensor *out)
{
    int open = -1;
    uint64_t known = 1;
    if (spec->rank < 0) { /* any: a list */
        out->rank = 1;
        out->shape[0] = (int64_t)n;
        return true;
    }
    out->rank = spec->rank;
    for (int32_t i = 0; i < spec->rank; i++) {
        out->shape[i] = spec->shape[i];
        if (spec->shape[i] >= 0 && !sl_mul_u64(known, (uint64_t)spec->shape[i], &known))
            return false;
        if (spec->shape[i] >= 0) continue;
        if (open >= 0) out->shape[open] = 1;
        open = i;
    }
    if (open < 0) return known == n;
    if (known == 0 || n % known != 0) return false;
    out->shape[open] = (int64_t)(n / known);
    return true;
}

/* How the lists are nested, by the first of each. */
static int32_t nesting_of(const struct sl_json_value *value, int64_t shape[TENSOR_RANK_MAX])
{
    int32_t rank = 0;
    while (sl_json_is(value, SL_JSON_ARRAY) && rank < TENSOR_RANK_MAX) {
        shape[rank++] = (int64_t)sl_json_size(value);
        value = sl_json_at(value, 0);
    }
    return rank;
}

/* A list nested as the model's shape is taken as it is, one without the batch as one row of it
 * (*lacks_list), a flat one filled in. A scalar is a list of one. */
static bool shape_of(const struct sl_json_value *value, const struct tensor_spec *spec,
                     struct tensor *out, bool *lacks_list)
{
    int64_t shape[TENSOR_RANK_MAX] = {0};
    int32_t rank = nesting_of(value, shape);
    *lacks_list = rank == 0;
    if (rank == 0) return shape_for(spec, 1, out);
    if (rank == 1 && spec->rank != 1) return shape_for(spec, (uint64_t)shape[0], out);
    bool row = *lacks_list = rank + 1 == spec->rank;
    out->rank = rank + row;
    if (row) out->shape[0] = 1;
    for (int32_t i = 0; i < rank; i++) out->shape[i + row] = shape[i];
    return true;
}

/* --- values --- */

static sl_status narrow(const struct collecting *c, struct tensor *tensor)
{
    size_t n = tensor->n_bytes / sizeof(float);
    const float *from = tensor->data;
    uint16_t *to = sl_arena_array(&c->out->arena, n, sizeof *to);
    if (!to) return sl_err_set(c->err, SL_NOMEM, "%.80s", tensor->name);
    for (size_t i = 0; i < n; i++) to[i] = half_from_float(from[i]);
    tensor->type = TENSOR_FP16;
    tensor->data = to;
    tensor->n_bytes = n * sizeof *to;
    return SL_OK;
}

static sl_status fill_list(const struct collecting *c, const char *text,
                           const struct tensor_spec *spec, struct tensor *out)
{
    const struct oip_data list = {text, strlen(text)};
    bool half = spec->type == TENSOR_FP16;
    out->type = half ? TENSOR_FP32 : spec->type;
    sl_status status = oip_data_read(&list, &c->out->arena, out, c->err);
    if (status != SL_OK) return sl_err_prefix(c->err, "%.80s", spec->name);
    return half ? narrow(c, out) : SL_OK;
}

/* text in brackets */
static sl_status fill_wrapped(const struct collecting *c, const char *text,
                              const struct tensor_spec *spec, struct tensor *out)
{
    struct sl_buf list;
    sl_buf_init(&list, TENSOR_BYTES_MAX);
    sl_status status = sl_buf_addf(&list, "[%s]", text);
    if (status == SL_OK)
        status = fill_list(c, list.data, spec, out);
    else
        (void)sl_err_set(c->err, status, "%.80s", spec->name);
    sl_buf_done(&list);
    return status;
}

/* One element of BYTES. */
static sl_status fill_text(const struct collecting *c, const char *text, size_t n,
                           const struct tensor_spec *spec, struct tensor *out)
{
    uint32_t length = (uint32_t)n;
    char *bytes = sl_arena_alloc(&c->out->arena, sizeof length + n);
    if (!bytes) return sl_err_set(c->err, SL_NOMEM, "%.80s", spec->name);
    memcpy(bytes, &length, sizeof length);
    memcpy(bytes + sizeof length, text, n);
    out->type = TENSOR_BYTES;
    out->data = bytes;
    out->n_bytes = sizeof length + n;
    return shape_for(spec, 1, out) ? SL_OK : wrong(c, "one text does not fit", spec->name);
}

static sl_status fill_json(const struct collecting *c, const char *text,
                           const struct tensor_spec *spec, struct tensor *out)
{
    struct sl_json_value *value = NULL;
    bool lacks_list = false, texts = spec->type == TENSOR_BYTES;
    if (sl_json_parse(text, strlen(text), &value, NULL) != SL_OK && !texts)
        return wrong(c, "neither JSON, a .npy file nor @FILE", text);
    if (texts && !sl_json_is(value, SL_JSON_ARRAY)) {
        sl_json_free(value);
        return fill_text(c, text, strlen(text), spec, out);
    }
    bool fits = shape_of(value, spec, out, &lacks_list);
    sl_json_free(value);
    if (!fits) return wrong(c, "so many values do not fit its shape", spec->name);
    return (lacks_list ? fill_wrapped : fill_list)(c, text, spec, out);
}

static sl_status fill_raw(const struct collecting *c, const char *path,
                          const struct tensor_spec *spec, struct tensor *out)
{
    size_t n, size = tensor_type_size(spec->type);
    const char *bytes;
    sl_status status = read_file(c, path, &bytes, &n);
    if (status != SL_OK) return status;
    if (!size) return fill_text(c, bytes, n, spec, out);
    if (n % size != 0 || !shape_for(spec, n / size, out))
        return wrong(c, "its bytes do not fit the shape", path);
    out->type = spec->type;
    out->data = bytes;
    out->n_bytes = n;
    return SL_OK;
}

static sl_status fill_value(const struct collecting *c, const char *value,
                            const struct tensor_spec *spec)
{
    struct tensor *out = &c->out->v[c->out->n];
    for (size_t i = 0; i < c->out->n; i++) {
        if (strcmp(c->out->v[i].name, spec->name) == 0)
            return sl_err_set(c->err, SL_INVALID, "input \"%.80s\" is given twice", spec->name);
    }
    *out = (struct tensor){.name = spec->name};
    sl_status status = value[0] == '@'          ? fill_raw(c, value + 1, spec, out)
                       : ends_in(value, ".npy") ? fill_npy(c, value, out)
                                                : fill_json(c, value, spec, out);
    if (status == SL_OK) c->out->n++;
    return status;
}

/* --- arguments --- */

static const struct tensor_spec *only_input(const struct tensor_signature *s, bool texts)
{
    const struct tensor_spec *found = NULL;
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct tensor_spec *spec = &s->inputs[i];
        if (spec->optional || (texts && spec->type != TENSOR_BYTES)) continue;
        if (found) return NULL;
        found = spec;
    }
    return found;
}

static sl_status fill_file(const struct collecting *c, const char *path)
{
    const struct tensor_signature *s = c->cfg->signature;
    const struct tensor_spec *only = only_input(s, false);
    struct tensor *out = &c->out->v[c->out->n];
    if (c->out->n == s->n_inputs) return wrong(c, "one input too many", path);
    if (ends_in(path, ".npy")) {
        if (only) return fill_value(c, path, only);
        return wrong(c, "give it as NAME=FILE.npy", path);
    }
    if (c->out->image.pixels) return wrong(c, "one image too many", path);
    if (!c->cfg->processing)
        return wrong(c,
                     "the model has no processing that says how a file becomes its input (import "
                     "it with --processing, or give inputs as NAME=VALUE)",
                     path);
    sl_status status = fill_image(c, path, out);
    if (status == SL_OK) c->out->n++;
    return status;
}

/* NAME=VALUE when there is such an input, else the name of a file. */
static sl_status fill_arg(const struct collecting *c, const char *arg)
{
    const struct tensor_signature *s = c->cfg->signature;
    const char *equals = strchr(arg, '=');
    for (size_t i = 0; equals && i < s->n_inputs; i++) {
        size_t n = (size_t)(equals - arg);
        const char *name = s->inputs[i].name;
        /* Names of tensors may hold a '=' themselves. */
        if (strlen(name) > n) n = strlen(name);
        if (strncmp(arg, name, n) == 0 && !name[n] && arg[n] == '=')
            return fill_value(c, arg + n + 1, &s->inputs[i]);
    }
    return fill_file(c, arg);
}

static sl_status fill_all(const struct collecting *c)
{
    const struct infer_input_cfg *cfg = c->cfg;
    sl_status status = SL_OK;
    if (cfg->text) {
        const struct tensor_spec *spec = only_input(cfg->signature, true);
        if (!spec) return wrong(c, "there is not one input that takes a text", "--text");
        struct tensor *out = &c->out->v[c->out->n++];
        *out = (struct tensor){.name = spec->name};
        status = fill_text(c, cfg->text, strlen(cfg->text), spec, out);
    }
    for (int i = 0; i < cfg->n_args && status == SL_OK; i++) status = fill_arg(c, cfg->args[i]);
    if (status != SL_OK) return status;
    if (c->out->n == 0) return wrong(c, "nothing was given", "no input");
    return tensor_signature_check(cfg->signature, c->out->v, c->out->n, NULL, 0, c->err);
}

sl_status infer_inputs_collect(const struct infer_input_cfg *cfg, struct infer_inputs *out,
                               struct sl_err *err)
{
    const struct collecting c = {cfg, out, err};
    *out = (struct infer_inputs){0};
    sl_arena_init(&out->arena, ARENA_BYTES_MAX);
    out->v = sl_arena_array(&out->arena, cfg->signature->n_inputs + 1, sizeof *out->v);
    return out->v ? fill_all(&c) : sl_err_set(err, SL_NOMEM, "the model's inputs");
}

void infer_inputs_done(struct infer_inputs *inputs)
{
    image_done(&inputs->image);
    sl_arena_done(&inputs->arena);
    *inputs = (struct infer_inputs){0};
}
