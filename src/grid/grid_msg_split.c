/* grid_msg_split.c: what messages say of models that run over several machines: chains (in CONTROL
 * and REPORT) and stages. */
#include "base/mem.h"
#include "grid/grid_msg_int.h"
#include "grid/store.h"
#include <string.h>

/* Numbers of a split that are plain counts; the lists serve both directions. */
#define SPLIT_FIELDS(X) \
    X(n_ctx) \
    X(n_seqs) \
    X(kv_blocks) \
    X(n_batch) \
    X(n_flights) \
    X(link)

#define HOP_FIELDS(X) \
    X(compute_s) \
    X(hop_s) \
    X(wait_s) \
    X(bytes) \
    X(load)

typedef Starlane__Grid__Report pb_report;
typedef Starlane__Grid__Split pb_split;

/* --- checks --- */

static bool is_range(int32_t first, int32_t last)
{
    return first >= 0 && first < last && last <= GRID_LAYERS_MAX;
}

static sl_status check_members(const struct grid_split *split, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < split->n_stages && status == SL_OK; i++) {
        const struct grid_stage *stage = &split->stages[i];
        status = grid_check_text("stage's member", stage->member, GRID_ID_SIZE, err);
        if (status == SL_OK)
            status = grid_check_text("stage's address", stage->address, GRID_ADDRESS_SIZE, err);
        if (status == SL_OK && !*stage->member)
            status = sl_err_set(err, SL_CORRUPT, "stage %zu has no member", i);
        for (size_t k = 0; k < i && status == SL_OK; k++)
            if (!strcmp(split->stages[k].member, stage->member))
                status = sl_err_set(err, SL_CORRUPT, "two stages at %s", stage->member);
    }
    return status;
}

static sl_status check_borders(const struct grid_split *split, struct sl_err *err)
{
    int32_t next = 0;
    for (size_t i = 0; i < split->n_stages; i++) {
        const struct grid_stage *stage = &split->stages[i];
        if (stage->first != next || !is_range(stage->first, stage->last))
            return sl_err_set(err, SL_CORRUPT, "stage %zu of layers %d to %d", i, stage->first,
                              stage->last);
        next = stage->last;
    }
    return SL_OK;
}

sl_status grid_split_check(const struct grid_split *split, struct sl_err *err)
{
    if (split->n_stages < 2 || split->n_stages > GRID_STAGES_MAX)
        return sl_err_set(err, SL_CORRUPT, "%zu stages", split->n_stages);
    if (split->n_ctx < 0 || split->n_seqs < 0 || split->kv_blocks < 0 || split->n_batch < 0 ||
        split->n_flights < 0)
        return sl_err_set(err, SL_CORRUPT, "a split with counts below 0");
    sl_status status = grid_check_enum("link", split->link, GRID_LINKS, err);
    if (status == SL_OK) status = check_members(split, err);
    return status == SL_OK ? check_borders(split, err) : status;
}

bool grid_split_equal(const struct grid_split *a, const struct grid_split *b)
{
    if (!a || !b) return a == b;
#define X(field) \
    if (a->field != b->field) return false;
    SPLIT_FIELDS(X)
#undef X
    if (a->n_stages != b->n_stages) return false;
    for (size_t i = 0; i < a->n_stages; i++)
        if (strcmp(a->stages[i].member, b->stages[i].member) != 0 ||
            a->stages[i].first != b->stages[i].first || a->stages[i].last != b->stages[i].last)
            return false;
    return true;
}

/* Appends the text and moves on. */
static const char *put_text(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *start = memcpy(*at, text, size);
    *at += size;
    return start;
}

struct grid_split *grid_split_copy(const struct grid_split *split)
{
    size_t n_text = 0;
    for (size_t i = 0; i < split->n_stages; i++)
        n_text += strlen(split->stages[i].member) + strlen(split->stages[i].address) + 2;
    size_t n_stages = split->n_stages * sizeof(struct grid_stage);
    struct grid_split *copy = sl_malloc(sizeof *copy + n_stages + n_text);
    if (!copy) return NULL;
    struct grid_stage *stages = (struct grid_stage *)(void *)(copy + 1);
    char *text = (char *)(stages + split->n_stages);
    *copy = *split;
    copy->stages = stages;
    for (size_t i = 0; i < split->n_stages; i++) {
        stages[i] = split->stages[i];
        stages[i].member = put_text(&text, split->stages[i].member);
        stages[i].address = put_text(&text, split->stages[i].address);
    }
    return copy;
}

/* --- chains --- */

sl_status grid_put_split(const struct grid_split *in, struct sl_arena *scratch, pb_split **out)
{
    *out = NULL;
    if (!in) return SL_OK;
    if (in->n_stages > GRID_STAGES_MAX) return SL_LIMIT;
    pb_split *m = sl_arena_alloc(scratch, sizeof *m);
    Starlane__Grid__Split__Stage *v = sl_arena_array(scratch, in->n_stages + 1, sizeof *v);
    Starlane__Grid__Split__Stage **refs = sl_arena_array(scratch, in->n_stages + 1, sizeof *refs);
    if (!m || !v || !refs) return SL_NOMEM;
    starlane__grid__split__init(m);
#define X(field) m->field = in->field;
    SPLIT_FIELDS(X)
#undef X
    for (size_t i = 0; i < in->n_stages; i++) {
        refs[i] = &v[i];
        starlane__grid__split__stage__init(&v[i]);
        v[i].member = wire_string(in->stages[i].member);
        v[i].address = wire_string(in->stages[i].address);
        v[i].first = (uint32_t)in->stages[i].first;
        v[i].last = (uint32_t)in->stages[i].last;
    }
    m->stages = refs;
    m->n_stages = in->n_stages;
    *out = m;
    return SL_OK;
}

/* A number of layers past what an int32_t holds stays out of range. */
static int32_t layer_of(uint32_t n)
{
    return n <= GRID_LAYERS_MAX ? (int32_t)n : -1;
}

sl_status grid_take_split(const pb_split *m, struct sl_arena *arena, const struct grid_split **out,
                          struct sl_err *err)
{
    *out = NULL;
    if (!m) return SL_OK;
    sl_status status = grid_check_count("stages", m->n_stages, GRID_STAGES_MAX, err);
    if (status != SL_OK) return status;
    struct grid_split *split = sl_arena_alloc(arena, sizeof *split);
    struct grid_stage *v = sl_arena_array(arena, m->n_stages + 1, sizeof *v);
    if (!split || !v) return sl_err_set(err, SL_NOMEM, "stages");
    *split = (struct grid_split){.stages = v, .n_stages = m->n_stages};
#define X(field) split->field = m->field;
    SPLIT_FIELDS(X)
#undef X
    for (size_t i = 0; i < m->n_stages; i++)
        v[i] = (struct grid_stage){.member = m->stages[i]->member,
                                   .address = m->stages[i]->address,
                                   .first = layer_of(m->stages[i]->first),
                                   .last = layer_of(m->stages[i]->last)};
    *out = split;
    return grid_split_check(split, err);
}

/* --- what of a chain its head measured --- */

sl_status grid_put_hops(const struct grid_hosted *in, struct sl_arena *scratch,
                        Starlane__Grid__Hosted *m)
{
    size_t n = in->split && in->hops ? in->split->n_stages : 0;
    Starlane__Grid__Hosted__Hop *v = sl_arena_array(scratch, n + 1, sizeof *v);
    m->hops = sl_arena_array(scratch, n + 1, sizeof *m->hops);
    if (!v || !m->hops) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        m->hops[i] = &v[i];
        starlane__grid__hosted__hop__init(&v[i]);
#define X(field) v[i].field = in->hops[i].field;
        HOP_FIELDS(X)
#undef X
    }
    m->n_hops = n;
    return SL_OK;
}

sl_status grid_take_hops(const Starlane__Grid__Hosted *m, struct sl_arena *arena,
                         struct grid_hosted *out, struct sl_err *err)
{
    sl_status status = grid_take_split(m->split, arena, &out->split, err);
    if (status != SL_OK || !m->n_hops) return status;
    if (!out->split || m->n_hops != out->split->n_stages)
        return sl_err_set(err, SL_CORRUPT, "%zu hops of a chain that has other stages", m->n_hops);
    struct grid_hop *v = sl_arena_array(arena, m->n_hops, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "hops");
    for (size_t i = 0; i < m->n_hops && status == SL_OK; i++) {
#define X(field) v[i].field = m->hops[i]->field;
        HOP_FIELDS(X)
#undef X
#define X(field) m->hops[i]->field,
        const double numbers[] = {HOP_FIELDS(X)};
#undef X
        status = grid_check_numbers("hop", numbers, sizeof numbers / sizeof *numbers, 0, err);
    }
    out->hops = v;
    return status;
}

/* --- stages for others --- */

sl_status grid_put_stages(const struct grid_report *in, struct sl_arena *scratch, pb_report *m)
{
    Starlane__Grid__HostedStage *v = sl_arena_array(scratch, in->n_stages + 1, sizeof *v);
    m->stages = sl_arena_array(scratch, in->n_stages + 1, sizeof *m->stages);
    if (!v || !m->stages) return SL_NOMEM;
    for (size_t i = 0; i < in->n_stages; i++) {
        const struct grid_stage_hosted *stage = &in->stages[i];
        m->stages[i] = &v[i];
        starlane__grid__hosted_stage__init(&v[i]);
        v[i].chain = wire_string(stage->chain);
        v[i].model = wire_string(stage->model);
        v[i].head = wire_string(stage->head);
        v[i].first = (uint32_t)stage->first;
        v[i].last = (uint32_t)stage->last;
        v[i].bytes = stage->bytes;
        v[i].state = (uint32_t)stage->state;
    }
    m->n_stages = in->n_stages;
    return SL_OK;
}

static sl_status check_stage(const Starlane__Grid__HostedStage *m, struct sl_err *err)
{
    sl_status status = grid_check_text("chain's id", m->chain, GRID_CHAIN_SIZE, err);
    if (status == SL_OK) status = grid_check_text("model's name", m->model, STORE_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_text("head's id", m->head, GRID_ID_SIZE, err);
    if (status == SL_OK)
        status = grid_check_enum("stage's state", m->state, SCHED_MODEL_STATE_COUNT, err);
    if (status == SL_OK && !is_range(layer_of(m->first), layer_of(m->last)))
        status = sl_err_set(err, SL_CORRUPT, "a stage of layers %u to %u", m->first, m->last);
    return status;
}

sl_status grid_take_stages(const pb_report *m, struct sl_arena *arena, struct grid_report *out,
                           struct sl_err *err)
{
    sl_status status = grid_check_count("stages", m->n_stages, GRID_STAGES_HOSTED_MAX, err);
    if (status != SL_OK) return status;
    struct grid_stage_hosted *v = sl_arena_array(arena, m->n_stages + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "stages");
    for (size_t i = 0; i < m->n_stages && status == SL_OK; i++) {
        const Starlane__Grid__HostedStage *in = m->stages[i];
        v[i] = (struct grid_stage_hosted){.chain = in->chain,
                                          .model = in->model,
                                          .head = in->head,
                                          .first = layer_of(in->first),
                                          .last = layer_of(in->last),
                                          .bytes = in->bytes,
                                          .state = (enum sched_model_state)in->state};
        status = check_stage(in, err);
    }
    out->stages = v;
    out->n_stages = m->n_stages;
    return status;
}
