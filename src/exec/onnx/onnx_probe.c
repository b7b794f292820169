#include "exec/onnx/onnx_probe.h"
#include "exec/onnx/onnx_number.h"
#include "exec/onnx/onnx_run.h"
#include <math.h>
#include <string.h>

/* Made-up inputs of this size and more would make a load slow and large. */
#define PROBE_BYTES_MAX ((size_t)TENSOR_BYTES_MAX)
#define ARENA_BYTES_MAX (2 * PROBE_BYTES_MAX + (1u << 20))
#define BYTES_HEAD 4 /* the length before each element of BYTES */

/* What is tried in turn until the model takes it: the size of a dimension that may be anything (the
 * last serves networks that halve images several times), and the number of different integers.
 * Two come first: embeddings take at least as many, and a model of tokens is at its most delicate
 * when they are all alike. */
static const struct guess {
    int64_t dimension;
    uint32_t n_whole;
} guesses[] = {{1, 2}, {1, 100}, {64, 2}};
#define N_GUESSES ((int)(sizeof guesses / sizeof *guesses))

/* How far numbers may lie apart, as parts of the largest. Kernels differ with the number of rows by
 * some 1e-7; a model that makes more than this of it would answer otherwise in a batch. */
#define TOLERANCE 1e-4
#define TOLERANCE_HALF 1e-2

struct probe {
    const struct onnx_model *model;
    struct sl_arena arena;
    struct tensor *inputs; /* required ones */
    size_t n_inputs;
    int32_t *wanted; /* all outputs */
};

bool onnx_probe_dimensions(const struct tensor_signature *signature)
{
    size_t n_required = 0;
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct tensor_spec *spec = &signature->inputs[i];
        if (spec->optional) continue;
        if (spec->rank < 1 || spec->shape[0] >= 0) return false;
        n_required++;
    }
    for (size_t i = 0; i < signature->n_outputs; i++) {
        const struct tensor_spec *spec = &signature->outputs[i];
        if (spec->rank >= 1 && spec->shape[0] >= 0) return false;
    }
    return n_required > 0;
}

/* A number in [0, 1), the same for the same place. */
static double made_up(uint64_t at)
{
    uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return (double)(x >> 40) / (double)(1 << 24);
}

/* How inputs are made: `n_rows` of the first dimension where it is dynamic. */
struct making {
    const struct guess *guess;
    int64_t first_row, n_rows;
};

/* Rows from `first_row` on, each with numbers of its own. */
static void fill(const struct tensor *tensor, char *data, uint64_t count,
                 const struct making *making)
{
    size_t size = tensor_type_size(tensor->type);
    uint32_t n_whole = tensor->type == TENSOR_BOOL ? 2 : making->guess->n_whole;
    uint64_t rows = tensor->rank > 0 ? (uint64_t)tensor->shape[0] : 1;
    uint64_t seed = (uint64_t)making->first_row * (count / (rows ? rows : 1));
    if (tensor->type == TENSOR_BYTES) return; /* empty strings */
    for (uint64_t i = 0; i < count; i++) {
        double value = made_up(seed + i);
        if (onnx_is_float(tensor->type))
            onnx_number_put(tensor->type, data + i * size, value);
        else
            data[i * size] = (char)(value * n_whole); /* little-endian: the other bytes are 0 */
    }
}

static sl_status make_input(struct probe *probe, const struct tensor_spec *spec,
                            const struct making *making, struct tensor *out, struct sl_err *err)
{
    uint64_t count;
    *out = (struct tensor){.name = spec->name, .type = spec->type};
    out->rank = spec->rank < 0 ? 0 : spec->rank;
    for (int32_t i = 0; i < out->rank; i++)
        out->shape[i] = spec->shape[i] >= 0 ? spec->shape[i]
                        : i                 ? making->guess->dimension
                                            : making->n_rows;
    sl_status status = tensor_count(out->shape, out->rank, &count, err);
    if (status != SL_OK) return status;
    size_t size = spec->type == TENSOR_BYTES ? BYTES_HEAD : tensor_type_size(spec->type);
    if (count > PROBE_BYTES_MAX / size)
        return sl_err_set(err, SL_LIMIT, "input \"%.80s\" is too large to be made up", spec->name);
    char *data = sl_arena_alloc(&probe->arena, count * size);
    if (!data) return sl_err_set(err, SL_NOMEM, "no memory for a trial");
    out->data = data;
    out->n_bytes = count * size;
    fill(out, data, count, making);
    return SL_OK;
}

static sl_status make_inputs(struct probe *probe, const struct making *making, struct sl_err *err)
{
    const struct tensor_signature *signature = onnx_model_signature(probe->model);
    sl_arena_reset(&probe->arena);
    probe->inputs = sl_arena_array(&probe->arena, signature->n_inputs + 1, sizeof(struct tensor));
    probe->wanted = sl_arena_array(&probe->arena, signature->n_outputs, sizeof(int32_t));
    if (!probe->inputs || !probe->wanted) return sl_err_set(err, SL_NOMEM, "no memory for a trial");
    probe->n_inputs = 0;
    for (size_t i = 0; i < signature->n_outputs; i++) probe->wanted[i] = (int32_t)i;
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct tensor_spec *spec = &signature->inputs[i];
        if (spec->optional) continue;
        sl_status status = make_input(probe, spec, making, &probe->inputs[probe->n_inputs], err);
        if (status != SL_OK) return status;
        probe->n_inputs++;
    }
    return SL_OK;
}

/* The run is the caller's to end, also after a failure. */
static sl_status try_run(struct probe *probe, const struct making *making, struct onnx_run *run,
                         struct sl_err *err)
{
    sl_status status = make_inputs(probe, making, err);
    if (status != SL_OK) return status;
    status = onnx_run_init(run, probe->model, err);
    if (status != SL_OK) return status;
    run->inputs = probe->inputs;
    run->n_inputs = probe->n_inputs;
    run->wanted = probe->wanted;
    run->n_outputs = onnx_model_signature(probe->model)->n_outputs;
    return onnx_run_execute(run, 1, err);
}

static double largest(const struct tensor *tensor, uint64_t n)
{
    double max = 0;
    for (uint64_t i = 0; i < n; i++) {
        double x = fabs(onnx_number_get(tensor, i));
        if (isfinite(x) && x > max) max = x;
    }
    return max;
}

/* n numbers of a from its `from_a`-th on, and the first n of b. */
static bool numbers_agree(const struct tensor *a, uint64_t from_a, const struct tensor *b,
                          uint64_t n)
{
    bool half = a->type == TENSOR_FP16 || a->type == TENSOR_BF16;
    double tolerance = (half ? TOLERANCE_HALF : TOLERANCE) * largest(b, n);
    for (uint64_t i = 0; i < n; i++) {
        double x = onnx_number_get(a, from_a + i), y = onnx_number_get(b, i);
        if ((isnan(x) && isnan(y)) || x == y) continue;
        if (!(fabs(x - y) <= tolerance)) return false;
    }
    return true;
}

/* `both` holds the rows of two runs, `one` is the first or second of them. */
static enum onnx_probe_result compare(const struct tensor *both, const struct tensor *one,
                                      bool second)
{
    uint64_t n = 1;
    if (one->rank < 1 || both->rank != one->rank || one->shape[0] != 1 || both->shape[0] != 2)
        return ONNX_PROBE_SHAPES;
    for (int32_t i = 1; i < one->rank; i++) {
        if (one->shape[i] != both->shape[i]) return ONNX_PROBE_DIFFERS;
        n *= (uint64_t)one->shape[i];
    }
    if (onnx_is_float(one->type))
        return numbers_agree(both, second ? n : 0, one, n) ? ONNX_PROBE_SAME : ONNX_PROBE_DIFFERS;
    size_t from = second ? both->n_bytes - one->n_bytes : 0;
    if (one->n_bytes > both->n_bytes) return ONNX_PROBE_DIFFERS;
    return memcmp((const char *)both->data + from, one->data, one->n_bytes) ? ONNX_PROBE_DIFFERS
                                                                            : ONNX_PROBE_SAME;
}

static enum onnx_probe_result compare_all(const struct onnx_run *both, const struct onnx_run *one,
                                          bool second)
{
    enum onnx_probe_result result = ONNX_PROBE_SAME;
    for (size_t i = 0; i < one->n_outputs; i++) {
        enum onnx_probe_result own = compare(&both->outputs[i], &one->outputs[i], second);
        if (own > result) result = own;
    }
    return result;
}

static enum onnx_probe_result try_batch(struct probe *probe, const struct guess *guess)
{
    const struct making makings[3] = {{guess, 0, 1}, {guess, 1, 1}, {guess, 0, 2}};
    struct onnx_run runs[3] = {{0}};
    enum onnx_probe_result result = ONNX_PROBE_UNKNOWN;
    sl_status status = SL_OK;
    for (int i = 0; i < 3 && status == SL_OK; i++) {
        struct sl_err err = SL_ERR_INIT;
        status = try_run(probe, &makings[i], &runs[i], &err);
        /* One row is fine and two are not: that much is known. */
        if (status != SL_OK && i == 2 && status == SL_INVALID) result = ONNX_PROBE_SHAPES;
    }
    if (status == SL_OK) {
        enum onnx_probe_result first = compare_all(&runs[2], &runs[0], false);
        enum onnx_probe_result second = compare_all(&runs[2], &runs[1], true);
        result = first > second ? first : second;
    }
    for (int i = 0; i < 3; i++) onnx_run_done(&runs[i]);
    return result;
}

enum onnx_probe_result onnx_probe_batch(const struct onnx_model *model)
{
    struct probe probe = {.model = model};
    enum onnx_probe_result result = ONNX_PROBE_UNKNOWN;
    sl_arena_init(&probe.arena, ARENA_BYTES_MAX);
    for (int i = 0; i < N_GUESSES && result == ONNX_PROBE_UNKNOWN; i++)
        result = try_batch(&probe, &guesses[i]);
    sl_arena_done(&probe.arena);
    return result;
}

sl_status onnx_probe_warm_up(const struct onnx_model *model, struct sl_err *err)
{
    struct probe probe = {.model = model};
    sl_status status = SL_INVALID;
    sl_arena_init(&probe.arena, ARENA_BYTES_MAX);
    for (int i = 0; i < N_GUESSES && status == SL_INVALID; i++) {
        const struct making making = {&guesses[i], 0, 1};
        struct onnx_run run = {0};
        status = try_run(&probe, &making, &run, err);
        onnx_run_done(&run);
    }
    sl_arena_done(&probe.arena);
    return status;
}
