#include "exec/tensor.h"
#include "base/arena.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BYTES_HEAD 4      /* the length before each element of BYTES */
#define DATA_ALIGN 64     /* a cache line, and the widest vector register */
#define NAME_SHOWN_MAX 80 /* of a name that a stranger sent */

static const struct {
    const char *name;
    size_t size;
} types[TENSOR_TYPE_COUNT] = {
    [TENSOR_BOOL] = {"BOOL", 1},     [TENSOR_UINT8] = {"UINT8", 1},
    [TENSOR_UINT16] = {"UINT16", 2}, [TENSOR_UINT32] = {"UINT32", 4},
    [TENSOR_UINT64] = {"UINT64", 8}, [TENSOR_INT8] = {"INT8", 1},
    [TENSOR_INT16] = {"INT16", 2},   [TENSOR_INT32] = {"INT32", 4},
    [TENSOR_INT64] = {"INT64", 8},   [TENSOR_FP16] = {"FP16", 2},
    [TENSOR_FP32] = {"FP32", 4},     [TENSOR_FP64] = {"FP64", 8},
    [TENSOR_BF16] = {"BF16", 2},     [TENSOR_BYTES] = {"BYTES", 0},
};

const char *tensor_type_name(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPE_COUNT ? types[type].name : "?";
}

bool tensor_type_parse(const char *text, size_t n, enum tensor_type *out)
{
    for (unsigned i = 0; i < TENSOR_TYPE_COUNT; i++) {
        if (strlen(types[i].name) != n || memcmp(types[i].name, text, n)) continue;
        *out = (enum tensor_type)i;
        return true;
    }
    return false;
}

size_t tensor_type_size(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPE_COUNT ? types[type].size : 0;
}

sl_status tensor_count(const int64_t *shape, int32_t rank, uint64_t *out, struct sl_err *err)
{
    uint64_t count = 1;
    bool overflow = false, empty = false;
    if (rank < 0 || rank > TENSOR_RANK_MAX)
        return sl_err_set(err, SL_INVALID, "%d dimensions; at most %d are taken", (int)rank,
                          TENSOR_RANK_MAX);
    for (int32_t i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return sl_err_set(err, SL_INVALID, "dimension %d is %" PRId64, (int)i, shape[i]);
        empty = empty || shape[i] == 0;
        overflow = overflow || __builtin_mul_overflow(count, (uint64_t)shape[i], &count);
    }
    if (empty) count = 0; /* also where the others multiply to more than fits */
    if (overflow && !empty) return sl_err_set(err, SL_LIMIT, "more elements than can be counted");
    *out = count;
    return SL_OK;
}

static uint32_t read_length(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static sl_status check_bytes(const struct tensor *tensor, uint64_t count, struct sl_err *err)
{
    const unsigned char *p = tensor->data;
    size_t at = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (tensor->n_bytes - at < BYTES_HEAD)
            return sl_err_set(err, SL_INVALID,
                              "the data ends before element %" PRIu64 " of %" PRIu64, i, count);
        uint32_t n = read_length(p + at);
        at += BYTES_HEAD;
        if (tensor->n_bytes - at < n)
            return sl_err_set(err, SL_INVALID,
                              "element %" PRIu64 " has %" PRIu32 " bytes, and the data only %zu "
                              "more",
                              i, n, tensor->n_bytes - at);
        at += n;
    }
    if (at == tensor->n_bytes) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%zu bytes follow the last of %" PRIu64 " elements",
                      tensor->n_bytes - at, count);
}

sl_status tensor_check(const struct tensor *tensor, struct sl_err *err)
{
    char shape[TENSOR_SHAPE_TEXT_MAX];
    uint64_t count, n_bytes;
    sl_status status = tensor_count(tensor->shape, tensor->rank, &count, err);
    if (status != SL_OK) return status;
    if (tensor->type == TENSOR_BYTES) return check_bytes(tensor, count, err);
    if ((unsigned)tensor->type >= TENSOR_TYPE_COUNT)
        return sl_err_set(err, SL_INVALID, "there is no type %d", (int)tensor->type);
    if (__builtin_mul_overflow(count, types[tensor->type].size, &n_bytes) ||
        n_bytes != tensor->n_bytes)
        return sl_err_set(
            err, SL_INVALID, "%zu bytes of data where %s of %s takes %" PRIu64 " elements of %zu",
            tensor->n_bytes, tensor_type_name(tensor->type),
            tensor_shape_text(tensor->shape, tensor->rank, shape), count, types[tensor->type].size);
    return SL_OK;
}

sl_status tensor_copy_data(struct tensor *tensor, struct sl_arena *arena)
{
    char *p = sl_arena_alloc_unset(arena, tensor->n_bytes + DATA_ALIGN);
    if (!p) return SL_NOMEM;
    p += -(uintptr_t)p & (DATA_ALIGN - 1);
    if (tensor->n_bytes) memcpy(p, tensor->data, tensor->n_bytes);
    tensor->data = p;
    return SL_OK;
}

sl_status tensors_copy(const struct tensor *in, size_t n, struct sl_arena *arena,
                       struct tensor **out)
{
    struct tensor *v = sl_arena_array(arena, n ? n : 1, sizeof *v);
    if (!v) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        v[i] = in[i];
        v[i].name = sl_arena_strndup(arena, in[i].name, strlen(in[i].name));
        if (!v[i].name || tensor_copy_data(&v[i], arena) != SL_OK) return SL_NOMEM;
    }
    *out = v;
    return SL_OK;
}

size_t tensors_bytes(const struct tensor *v, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += v[i].n_bytes;
    return total;
}

const char *tensor_shape_text(const int64_t *shape, int32_t rank, char out[TENSOR_SHAPE_TEXT_MAX])
{
    size_t n = 0;
    if (rank < 0) return "[?]";
    out[n++] = '[';
    for (int32_t i = 0; i < rank && i < TENSOR_RANK_MAX; i++)
        n += (size_t)snprintf(out + n, TENSOR_SHAPE_TEXT_MAX - n, "%s%" PRId64, i ? "," : "",
                              shape[i]);
    out[n++] = ']';
    out[n] = '\0';
    return out;
}

static bool shape_fits(const struct tensor *tensor, const struct tensor_spec *spec)
{
    if (spec->rank < 0) return true;
    if (spec->rank != tensor->rank) return false;
    for (int32_t i = 0; i < spec->rank; i++)
        if (spec->shape[i] >= 0 && spec->shape[i] != tensor->shape[i]) return false;
    return true;
}

sl_status tensor_fits(const struct tensor *tensor, const struct tensor_spec *spec,
                      struct sl_err *err)
{
    char has[TENSOR_SHAPE_TEXT_MAX], takes[TENSOR_SHAPE_TEXT_MAX];
    if (tensor->type != spec->type)
        return sl_err_set(err, SL_INVALID, "input \"%.*s\": %s where the model takes %s",
                          NAME_SHOWN_MAX, tensor->name, tensor_type_name(tensor->type),
                          tensor_type_name(spec->type));
    if (!shape_fits(tensor, spec))
        return sl_err_set(err, SL_INVALID, "input \"%.*s\": shape %s where the model takes %s",
                          NAME_SHOWN_MAX, tensor->name,
                          tensor_shape_text(tensor->shape, tensor->rank, has),
                          tensor_shape_text(spec->shape, spec->rank, takes));
    sl_status status = tensor_check(tensor, err);
    if (status == SL_OK) return SL_OK;
    return sl_err_prefix(err, "input \"%.*s\"", NAME_SHOWN_MAX, tensor->name);
}

int32_t tensor_spec_find(const struct tensor_spec *specs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(specs[i].name, name)) return (int32_t)i;
    return -1;
}

/* "a", "b" and 3 more */
static const char *names_text(const struct tensor_spec *specs, size_t n, char *out, size_t size)
{
    size_t at = 0, i = 0;
    out[0] = '\0';
    for (; i < n && at + 40 < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s\"%.30s\"", i ? ", " : "", specs[i].name);
    if (i < n) (void)snprintf(out + at, size - at, " and %zu more", n - i);
    return out;
}

static sl_status check_input(const struct tensor_signature *signature, const struct tensor *input,
                             bool *seen, struct sl_err *err)
{
    char names[256];
    int32_t i = tensor_spec_find(signature->inputs, signature->n_inputs, input->name);
    if (i < 0)
        return sl_err_set(err, SL_INVALID, "the model has no input \"%.*s\"; it takes %s",
                          NAME_SHOWN_MAX, input->name,
                          names_text(signature->inputs, signature->n_inputs, names, sizeof names));
    if (seen[i])
        return sl_err_set(err, SL_INVALID, "input \"%.*s\" is given twice", NAME_SHOWN_MAX,
                          input->name);
    seen[i] = true;
    return tensor_fits(input, &signature->inputs[i], err);
}

static sl_status check_outputs(const struct tensor_signature *signature, const char *const *outputs,
                               size_t n, struct sl_err *err)
{
    char names[256];
    for (size_t i = 0; i < n; i++) {
        if (tensor_spec_find(signature->outputs, signature->n_outputs, outputs[i]) < 0)
            return sl_err_set(
                err, SL_INVALID, "the model has no output \"%.*s\"; it gives %s", NAME_SHOWN_MAX,
                outputs[i],
                names_text(signature->outputs, signature->n_outputs, names, sizeof names));
        for (size_t j = 0; j < i; j++)
            if (!strcmp(outputs[i], outputs[j]))
                return sl_err_set(err, SL_INVALID, "output \"%.*s\" is asked for twice",
                                  NAME_SHOWN_MAX, outputs[i]);
    }
    return SL_OK;
}

sl_status tensor_signature_check(const struct tensor_signature *signature,
                                 const struct tensor *inputs, size_t n_inputs,
                                 const char *const *outputs, size_t n_outputs, struct sl_err *err)
{
    bool seen[TENSORS_MAX] = {0};
    if (n_inputs > TENSORS_MAX || n_outputs > TENSORS_MAX || signature->n_inputs > TENSORS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d tensors", TENSORS_MAX);
    for (size_t i = 0; i < n_inputs; i++) {
        sl_status status = check_input(signature, &inputs[i], seen, err);
        if (status != SL_OK) return status;
    }
    for (size_t i = 0; i < signature->n_inputs; i++)
        if (!seen[i] && !signature->inputs[i].optional)
            return sl_err_set(err, SL_INVALID, "input \"%.*s\" is missing", NAME_SHOWN_MAX,
                              signature->inputs[i].name);
    return check_outputs(signature, outputs, n_outputs, err);
}
