/* grid_msg_shape.c: what planning a split goes by: how fast a machine computes (in REPORT), and
 * what a model asks of machines (in CARDS). Types of weights travel by name: a version that knows
 * others takes what it knows. */
#include "grid/grid_msg_int.h"
#include <string.h>

#define WEIGHT_SIZE 32 /* of a type's name */
#define SPEEDS_MAX 64  /* types of weights in a report: all that ggml has */

#define MACHINE_FIELDS(X) \
    X(attn_one) \
    X(attn_many) \
    X(step_s) \
    X(layer_s) \
    X(value_s) \
    X(memory_bytes_s) \
    X(disk_bytes_s) \
    X(share) \
    X(period_s)

#define SHAPE_BYTES(X) \
    X(embd_bytes) \
    X(head_bytes) \
    X(kv_bytes) \
    X(stage_bytes) \
    X(head_buffer_bytes) \
    X(stage_row_bytes) \
    X(head_row_bytes)

#define SHAPE_NUMBERS(X) \
    X(layer_flops) \
    X(head_flops) \
    X(attn_flops) \
    X(active)

/* Of one layer, one token's cache, or what stands beside them; sums of them stay exact. */
#define SHAPE_BYTES_LIMIT (UINT64_C(1) << 46)
#define SHAPE_EMBD_MAX 65536 /* four times the widest there is */

typedef Starlane__Grid__Machine pb_machine;
typedef Starlane__Grid__Machine__Speed pb_speed;
typedef Starlane__Grid__Shape pb_shape;

/* --- machines --- */

sl_status grid_put_machine(const struct split_machine *in, struct sl_arena *scratch,
                           pb_machine **out)
{
    *out = NULL;
    if (!in) return SL_OK;
    pb_machine *m = sl_arena_alloc(scratch, sizeof *m);
    pb_speed *v = sl_arena_array(scratch, SPLIT_WEIGHT_COUNT, sizeof *v);
    pb_speed **refs = sl_arena_array(scratch, SPLIT_WEIGHT_COUNT, sizeof *refs);
    if (!m || !v || !refs) return SL_NOMEM;
    starlane__grid__machine__init(m);
#define X(field) m->field = in->field;
    MACHINE_FIELDS(X)
#undef X
    for (int i = 0; i < SPLIT_WEIGHT_COUNT; i++) {
        refs[i] = &v[i];
        starlane__grid__machine__speed__init(&v[i]);
        v[i].weight = wire_string(split_weight_name((enum split_weight)i));
        v[i].bytes_s = in->speed[i].bytes_s;
        v[i].flops_s = grid_doubles(in->speed[i].flops_s);
        v[i].n_flops_s = SPLIT_CURVE;
    }
    m->speeds = refs;
    m->n_speeds = SPLIT_WEIGHT_COUNT;
    *out = m;
    return SL_OK;
}

/* Of a type that is not known here: nothing is taken. */
static sl_status take_speed(const pb_speed *m, struct split_machine *out, struct sl_err *err)
{
    sl_status status = grid_check_text("type of weights", m->weight, WEIGHT_SIZE, err);
    if (status == SL_OK) status = grid_check_numbers("speed", &m->bytes_s, 1, 0, err);
    if (status == SL_OK && m->n_flops_s != SPLIT_CURVE)
        status = sl_err_set(err, SL_CORRUPT, "%zu speeds of a type", m->n_flops_s);
    if (status == SL_OK) status = grid_check_numbers("speed", m->flops_s, SPLIT_CURVE, 0, err);
    for (int i = 0; i < SPLIT_WEIGHT_COUNT && status == SL_OK; i++) {
        if (strcmp(m->weight, split_weight_name((enum split_weight)i)) != 0) continue;
        out->speed[i].bytes_s = m->bytes_s;
        memcpy(out->speed[i].flops_s, m->flops_s, sizeof out->speed[i].flops_s);
    }
    return status;
}

sl_status grid_take_machine(const pb_machine *m, struct sl_arena *arena,
                            const struct split_machine **out, struct sl_err *err)
{
    *out = NULL;
    if (!m) return SL_OK;
    sl_status status = grid_check_count("types of weights", m->n_speeds, SPEEDS_MAX, err);
    struct split_machine *machine = sl_arena_alloc(arena, sizeof *machine);
    if (!machine) return sl_err_set(err, SL_NOMEM, "machine");
    memset(machine, 0, sizeof *machine);
#define X(field) m->field,
    const double numbers[] = {MACHINE_FIELDS(X)};
#undef X
    if (status == SL_OK)
        status = grid_check_numbers("speed", numbers, sizeof numbers / sizeof *numbers, 0, err);
#define X(field) machine->field = m->field;
    MACHINE_FIELDS(X)
#undef X
    for (size_t i = 0; i < m->n_speeds && status == SL_OK; i++)
        status = take_speed(m->speeds[i], machine, err);
    *out = machine;
    return status;
}

/* --- models --- */

sl_status grid_put_shape(const struct split_model *in, struct sl_arena *scratch, pb_shape **out)
{
    *out = NULL;
    if (!in) return SL_OK;
    if (in->n_layer < 1 || in->n_layer > GRID_LAYERS_MAX) return SL_LIMIT;
    pb_shape *m = sl_arena_alloc(scratch, sizeof *m);
    if (!m) return SL_NOMEM;
    starlane__grid__shape__init(m);
    m->n_layer = (uint32_t)in->n_layer;
    m->n_embd = (uint32_t)in->n_embd;
    m->layer_bytes = grid_numbers(in->layer_bytes);
    m->n_layer_bytes = (size_t)in->n_layer;
#define X(field) m->field = in->field;
    SHAPE_BYTES(X)
    SHAPE_NUMBERS(X)
#undef X
    m->weight = wire_string(split_weight_name(in->weight));
    m->head_weight = wire_string(split_weight_name(in->head_weight));
    *out = m;
    return SL_OK;
}

static sl_status check_shape(const pb_shape *m, struct sl_err *err)
{
#define X(field) m->field,
    const double numbers[] = {SHAPE_NUMBERS(X)};
    const uint64_t bytes[] = {SHAPE_BYTES(X)};
#undef X
    bool fits = m->n_layer >= 1 && m->n_layer <= GRID_LAYERS_MAX &&
                m->n_layer_bytes == m->n_layer && m->n_embd >= 1 && m->n_embd <= SHAPE_EMBD_MAX;
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
        fits = fits && bytes[i] <= SHAPE_BYTES_LIMIT;
    for (size_t i = 0; i < m->n_layer_bytes; i++)
        fits = fits && m->layer_bytes[i] <= SHAPE_BYTES_LIMIT;
    if (!fits || m->active > 1)
        return sl_err_set(err, SL_CORRUPT, "a model's shape of %u layers", m->n_layer);
    sl_status status = grid_check_text("type of weights", m->weight, WEIGHT_SIZE, err);
    if (status == SL_OK)
        status = grid_check_text("type of weights", m->head_weight, WEIGHT_SIZE, err);
    if (status != SL_OK) return status;
    return grid_check_numbers("shape", numbers, sizeof numbers / sizeof *numbers, 0, err);
}

sl_status grid_take_shape(const pb_shape *m, struct sl_arena *arena, const struct split_model **out,
                          struct sl_err *err)
{
    *out = NULL;
    if (!m) return SL_OK;
    sl_status status = check_shape(m, err);
    if (status != SL_OK) return status;
    struct split_model *shape = sl_arena_alloc(arena, sizeof *shape);
    if (!shape) return sl_err_set(err, SL_NOMEM, "shape");
    *shape = (struct split_model){.n_layer = (int32_t)m->n_layer,
                                  .n_embd = (int32_t)m->n_embd,
                                  .layer_bytes = m->layer_bytes,
                                  .weight = split_weight_of(m->weight),
                                  .head_weight = split_weight_of(m->head_weight)};
#define X(field) shape->field = m->field;
    SHAPE_BYTES(X)
    SHAPE_NUMBERS(X)
#undef X
    *out = shape;
    return SL_OK;
}
