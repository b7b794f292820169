/* grid_msg_demand.c: what waits at a gateway, told to all. */
#include "grid/grid_msg_int.h"
#include "grid/store.h"

typedef Starlane__Grid__Demand__Entry pb_entry;

static void encode_demand(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_demand *in = &msg->demand;
    Starlane__Grid__Demand m = STARLANE__GRID__DEMAND__INIT;
    pb_entry *v = sl_arena_array(&sink->scratch, in->n + 1, sizeof *v);
    m.entries = sl_arena_array(&sink->scratch, in->n + 1, sizeof *m.entries);
    sink->status = in->n > GRID_DEMANDS_MAX ? SL_LIMIT : v && m.entries ? SL_OK : SL_NOMEM;
    for (size_t i = 0; i < in->n && sink->status == SL_OK; i++) {
        m.entries[i] = &v[i];
        starlane__grid__demand__entry__init(&v[i]);
        v[i].name = wire_string(in->v[i].name);
        v[i].digest = wire_string(in->v[i].digest);
        v[i].n_waiting = in->v[i].n_waiting;
        v[i].pinned = in->v[i].pinned;
        v[i].splits = in->v[i].splits;
    }
    m.boot = in->boot;
    m.n_entries = in->n;
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status read_entry(const pb_entry *in, struct grid_demand_entry *out, struct sl_err *err)
{
    *out = (struct grid_demand_entry){in->name, in->digest, in->n_waiting, in->pinned, in->splits};
    sl_status status = grid_check_text("model's name", in->name, STORE_NAME_SIZE, err);
    return status == SL_OK ? grid_check_text("digest", in->digest, STORE_DIGEST_SIZE, err) : status;
}

static sl_status decode_demand(const void *message, struct sl_arena *arena, struct grid_msg *out,
                               struct sl_err *err)
{
    const Starlane__Grid__Demand *m = message;
    sl_status status = grid_check_count("models", m->n_entries, GRID_DEMANDS_MAX, err);
    if (status != SL_OK) return status;
    struct grid_demand_entry *v = sl_arena_array(arena, m->n_entries + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "models");
    for (size_t i = 0; i < m->n_entries && status == SL_OK; i++)
        status = read_entry(m->entries[i], &v[i], err);
    out->demand = (struct grid_demand){.boot = m->boot, .v = v, .n = m->n_entries};
    return status;
}

const struct grid_codec grid_codec_demand = {"demand", &starlane__grid__demand__descriptor,
                                             encode_demand, decode_demand};
