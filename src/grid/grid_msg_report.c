/* grid_msg_report.c: what a member tells all others about itself every second. */
#include "grid/grid_msg_int.h"
#include "grid/store.h"
#include "grid/telemetry.h"
#include <math.h>
#include <stdio.h>

#define REPORT_FIELDS(X) \
    X(boot) \
    X(version) \
    X(drained) \
    X(memory_used_bytes) \
    X(n_labels) \
    X(n_held) \
    X(n_dropped)

#define REPORT_STRINGS(X) \
    X(name) \
    X(address) \
    X(program) \
    X(site)

#define FACTS_FIELDS(X) \
    X(memory_bytes) \
    X(engines) \
    X(watts_idle) \
    X(watts_busy) \
    X(price_kwh) \
    X(carbon_kwh) \
    X(price_mtok) \
    X(wake_s)

#define LOAD_FIELDS(X) \
    X(n_slots) \
    X(n_queue_max) \
    X(n_running) \
    X(n_waiting) \
    X(prefill_backlog) \
    X(kv_tokens_max) \
    X(kv_tokens_used) \
    X(prefill_tps) \
    X(decode_tps) \
    X(service_s)

#define HOSTED_FIELDS(X) \
    X(bytes) \
    X(tokens_per_s) \
    X(load_fraction) \
    X(pinned)

#define TELEMETRY_NUMBERS(X) \
    X(cpus) \
    X(cpu_fraction) \
    X(load_1m) \
    X(memory_total_bytes) \
    X(memory_available_bytes) \
    X(net_in_bytes_s) \
    X(net_out_bytes_s) \
    X(disk_total_bytes) \
    X(disk_free_bytes) \
    X(disk_read_bytes_s) \
    X(disk_write_bytes_s) \
    X(watts) \
    X(joules)

#define ACCELERATOR_NUMBERS(X) \
    X(utilisation) \
    X(memory_total_bytes) \
    X(memory_used_bytes) \
    X(watts) \
    X(celsius)

typedef Starlane__Grid__Report pb_report;
typedef Starlane__Grid__Telemetry pb_telemetry;
typedef Starlane__Grid__Accelerator pb_accelerator;

/* --- to bytes --- */

static sl_status fill_covers(const struct grid_report *in, pb_report *m, struct sl_arena *scratch)
{
    Starlane__Grid__Covers *v = sl_arena_array(scratch, in->n_covers + 1, sizeof *v);
    m->covers = sl_arena_array(scratch, in->n_covers + 1, sizeof *m->covers);
    if (!v || !m->covers) return SL_NOMEM;
    m->n_covers = in->n_covers;
    for (size_t i = 0; i < in->n_covers; i++) {
        m->covers[i] = &v[i];
        starlane__grid__covers__init(&v[i]);
        v[i].gateway = wire_string(in->covers[i].gateway);
        v[i].boot = in->covers[i].boot;
        v[i].sent = in->covers[i].sent;
    }
    return SL_OK;
}

static sl_status fill_one_hosted(const struct grid_hosted *in, Starlane__Grid__Hosted *m,
                                 struct sl_arena *scratch)
{
    starlane__grid__hosted__init(m);
    m->name = wire_string(in->name);
    m->digest = wire_string(in->digest);
    m->last_error = wire_string(in->last_error);
    m->state = (uint32_t)in->load.state;
#define X(field) m->field = in->load.field;
    LOAD_FIELDS(X)
#undef X
#define X(field) m->field = in->field;
    HOSTED_FIELDS(X)
#undef X
    sl_status status = grid_put_split(in->split, scratch, &m->split);
    return status == SL_OK ? grid_put_hops(in, scratch, m) : status;
}

static sl_status fill_hosted(const struct grid_report *in, pb_report *m, struct sl_arena *scratch)
{
    Starlane__Grid__Hosted *v = sl_arena_array(scratch, in->n_hosted + 1, sizeof *v);
    m->hosted = sl_arena_array(scratch, in->n_hosted + 1, sizeof *m->hosted);
    if (!v || !m->hosted) return SL_NOMEM;
    sl_status status = SL_OK;
    m->n_hosted = in->n_hosted;
    for (size_t i = 0; i < in->n_hosted && status == SL_OK; i++) {
        m->hosted[i] = &v[i];
        status = fill_one_hosted(&in->hosted[i], &v[i], scratch);
    }
    return status;
}

static sl_status fill_peers(const struct grid_report *in, pb_report *m, struct sl_arena *scratch)
{
    Starlane__Grid__Peer *v = sl_arena_array(scratch, in->n_peers + 1, sizeof *v);
    m->peers = sl_arena_array(scratch, in->n_peers + 1, sizeof *m->peers);
    if (!v || !m->peers) return SL_NOMEM;
    m->n_peers = in->n_peers;
    for (size_t i = 0; i < in->n_peers; i++) {
        m->peers[i] = &v[i];
        starlane__grid__peer__init(&v[i]);
        v[i].id = wire_string(in->peers[i].id);
        v[i].rtt_s = in->peers[i].rtt_s;
        v[i].bytes_per_s = in->peers[i].bytes_per_s;
    }
    return SL_OK;
}

static void fill_accelerator(const struct telemetry_accelerator *in, pb_accelerator *m)
{
    starlane__grid__accelerator__init(m);
    m->vendor = (uint32_t)in->vendor;
    m->name = wire_string(in->name);
#define X(field) m->field = in->field;
    ACCELERATOR_NUMBERS(X)
#undef X
}

static sl_status fill_telemetry(const struct telemetry_sample *in, pb_report *out,
                                struct sl_arena *scratch)
{
    if (!in) return SL_OK;
    if (in->n_accelerators < 0 || in->n_accelerators > TELEMETRY_ACCELERATORS_MAX) return SL_LIMIT;
    size_t n = (size_t)in->n_accelerators;
    pb_telemetry *m = sl_arena_alloc(scratch, sizeof *m);
    pb_accelerator *v = sl_arena_array(scratch, n + 1, sizeof *v);
    pb_accelerator **refs = sl_arena_array(scratch, n + 1, sizeof *refs);
    if (!m || !v || !refs) return SL_NOMEM;
    starlane__grid__telemetry__init(m);
#define X(field) m->field = in->field;
    TELEMETRY_NUMBERS(X)
#undef X
    m->power = (uint32_t)in->power;
    m->power_parts = in->power_parts;
    m->declared_watts_idle = in->declared.watts_idle;
    m->declared_watts_busy = in->declared.watts_busy;
    m->declared_price_kwh = in->declared.price_kwh;
    m->declared_carbon_g_kwh = in->declared.carbon_g_kwh;
    for (size_t i = 0; i < n; i++) {
        refs[i] = &v[i];
        fill_accelerator(&in->accelerators[i], &v[i]);
    }
    m->accelerators = refs;
    m->n_accelerators = n;
    out->telemetry = m;
    return SL_OK;
}

static bool within_limits(const struct grid_report *in)
{
    return in->n_labels <= GRID_LABELS_MAX && in->n_covers <= GRID_GATEWAYS_MAX &&
           in->n_hosted <= NODE_HOSTED_LIMIT && in->n_held <= GRID_CHANGES_MAX &&
           in->n_dropped <= GRID_CHANGES_MAX && in->n_peers <= GRID_PEERS_MAX &&
           in->n_stages <= GRID_STAGES_HOSTED_MAX;
}

static void encode_report(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_report *in = &msg->report;
    pb_report m = STARLANE__GRID__REPORT__INIT;
    sink->status = within_limits(in) ? SL_OK : SL_LIMIT;
    if (sink->status != SL_OK) return;
#define X(field) m.field = in->field;
    REPORT_FIELDS(X)
#undef X
#define X(field) m.field = wire_string(in->field);
    REPORT_STRINGS(X)
#undef X
#define X(field) m.field = in->facts.field;
    FACTS_FIELDS(X)
#undef X
    m.duty = (uint32_t)in->facts.duty;
    m.labels = grid_strings(in->labels);
    m.held = grid_numbers(in->held);
    m.dropped = grid_numbers(in->dropped);
    sink->status = fill_covers(in, &m, &sink->scratch);
    if (sink->status == SL_OK) sink->status = fill_hosted(in, &m, &sink->scratch);
    if (sink->status == SL_OK) sink->status = fill_peers(in, &m, &sink->scratch);
    if (sink->status == SL_OK) sink->status = fill_telemetry(in->telemetry, &m, &sink->scratch);
    if (sink->status == SL_OK) sink->status = grid_put_stages(in, &sink->scratch, &m);
    if (sink->status == SL_OK)
        sink->status = grid_put_machine(in->machine, &sink->scratch, &m.machine);
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

/* --- from bytes --- */

static sl_status read_covers(const pb_report *m, struct sl_arena *arena, struct grid_report *out,
                             struct sl_err *err)
{
    struct grid_covers *v = sl_arena_array(arena, m->n_covers + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "covers");
    sl_status status = grid_check_count("gateways", m->n_covers, GRID_GATEWAYS_MAX, err);
    for (size_t i = 0; i < m->n_covers && status == SL_OK; i++) {
        v[i] = (struct grid_covers){m->covers[i]->gateway, m->covers[i]->boot, m->covers[i]->sent};
        status = grid_check_text("gateway's id", v[i].gateway, GRID_ID_SIZE, err);
    }
    out->covers = v;
    out->n_covers = m->n_covers;
    return status;
}

/* Tokens past the limit are refused whole: sums of them must stay exact. */
static sl_status check_hosted(const struct grid_hosted *hosted, struct sl_err *err)
{
    const struct hosted_load *load = &hosted->load;
    const double numbers[] = {load->prefill_tps, load->decode_tps, load->service_s,
                              hosted->tokens_per_s, hosted->load_fraction};
    if (load->prefill_backlog > NODE_TOKENS_LIMIT || load->kv_tokens_max > NODE_TOKENS_LIMIT ||
        load->kv_tokens_used > NODE_TOKENS_LIMIT)
        return sl_err_set(err, SL_CORRUPT, "tokens past the limit");
    sl_status status = grid_check_text("model's name", hosted->name, STORE_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_text("digest", hosted->digest, STORE_DIGEST_SIZE, err);
    if (status != SL_OK) return status;
    return grid_check_numbers("speed", numbers, sizeof numbers / sizeof *numbers, 0, err);
}

static sl_status read_hosted(const pb_report *m, struct sl_arena *arena, struct grid_report *out,
                             struct sl_err *err)
{
    struct grid_hosted *v = sl_arena_array(arena, m->n_hosted + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "models");
    sl_status status = grid_check_count("models", m->n_hosted, NODE_HOSTED_LIMIT, err);
    for (size_t i = 0; i < m->n_hosted && status == SL_OK; i++) {
        const Starlane__Grid__Hosted *in = m->hosted[i];
        v[i] = (struct grid_hosted){
            .name = in->name, .digest = in->digest, .last_error = in->last_error};
        v[i].load.state = (enum sched_model_state)in->state;
#define X(field) v[i].load.field = in->field;
        LOAD_FIELDS(X)
#undef X
#define X(field) v[i].field = in->field;
        HOSTED_FIELDS(X)
#undef X
        status = grid_check_enum("model's state", in->state, SCHED_MODEL_STATE_COUNT, err);
        if (status == SL_OK) status = check_hosted(&v[i], err);
        if (status == SL_OK) status = grid_take_hops(in, arena, &v[i], err);
    }
    out->hosted = v;
    out->n_hosted = m->n_hosted;
    return status;
}

static sl_status read_peers(const pb_report *m, struct sl_arena *arena, struct grid_report *out,
                            struct sl_err *err)
{
    struct grid_peer *v = sl_arena_array(arena, m->n_peers + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "peers");
    sl_status status = grid_check_count("peers", m->n_peers, GRID_PEERS_MAX, err);
    for (size_t i = 0; i < m->n_peers && status == SL_OK; i++) {
        const double numbers[] = {m->peers[i]->rtt_s, m->peers[i]->bytes_per_s};
        v[i] = (struct grid_peer){m->peers[i]->id, numbers[0], numbers[1]};
        status = grid_check_text("peer's id", v[i].id, GRID_ID_SIZE, err);
        if (status == SL_OK) status = grid_check_numbers("peer", numbers, 2, 0, err);
    }
    out->peers = v;
    out->n_peers = m->n_peers;
    return status;
}

static sl_status read_accelerator(const pb_accelerator *m, struct telemetry_accelerator *out,
                                  struct sl_err *err)
{
    sl_status status = grid_check_enum("vendor", m->vendor, TELEMETRY_VENDOR_COUNT, err);
    if (status == SL_OK) status = grid_check_text("name", m->name, sizeof out->name, err);
    if (status != SL_OK) return status;
    out->vendor = (enum telemetry_vendor)m->vendor;
    snprintf(out->name, sizeof out->name, "%s", m->name);
#define X(field) out->field = m->field;
    ACCELERATOR_NUMBERS(X)
#undef X
#define X(field) m->field,
    const double numbers[] = {ACCELERATOR_NUMBERS(X)};
#undef X
    return grid_check_numbers("accelerator's number", numbers, sizeof numbers / sizeof *numbers,
                              TELEMETRY_UNKNOWN, err);
}

static sl_status check_telemetry(const pb_telemetry *m, struct sl_err *err)
{
#define X(field) m->field,
    const double numbers[] = {TELEMETRY_NUMBERS(X)};
#undef X
    const double declared[] = {m->declared_watts_idle, m->declared_watts_busy,
                               m->declared_price_kwh, m->declared_carbon_g_kwh};
    sl_status status = grid_check_enum("source of power", m->power, TELEMETRY_POWER_COUNT, err);
    if (status == SL_OK)
        status =
            grid_check_count("accelerators", m->n_accelerators, TELEMETRY_ACCELERATORS_MAX, err);
    if (status == SL_OK)
        status = grid_check_numbers("telemetry", numbers, sizeof numbers / sizeof *numbers,
                                    TELEMETRY_UNKNOWN, err);
    if (status == SL_OK) status = grid_check_numbers("declared number", declared, 4, 0, err);
    return status;
}

static sl_status read_telemetry(const pb_telemetry *m, struct sl_arena *arena,
                                struct grid_report *report, struct sl_err *err)
{
    if (!m) return SL_OK;
    struct telemetry_sample *out = sl_arena_alloc(arena, sizeof *out);
    if (!out) return sl_err_set(err, SL_NOMEM, "telemetry");
    sl_status status = check_telemetry(m, err);
    if (status != SL_OK) return status;
#define X(field) out->field = m->field;
    TELEMETRY_NUMBERS(X)
#undef X
    out->power = (enum telemetry_power)m->power;
    out->power_parts = m->power_parts;
    out->declared = (struct telemetry_declared){.watts_idle = m->declared_watts_idle,
                                                .watts_busy = m->declared_watts_busy,
                                                .price_kwh = m->declared_price_kwh,
                                                .carbon_g_kwh = m->declared_carbon_g_kwh};
    out->n_accelerators = (int)m->n_accelerators;
    for (size_t i = 0; i < m->n_accelerators && status == SL_OK; i++)
        status = read_accelerator(m->accelerators[i], &out->accelerators[i], err);
    report->telemetry = out;
    return status;
}

static sl_status check_report(const pb_report *m, struct sl_err *err)
{
    const double facts[] = {m->watts_idle, m->watts_busy, m->price_kwh,
                            m->carbon_kwh, m->price_mtok, m->wake_s};
    sl_status status = grid_check_enum("duty", m->duty, NODE_DUTY_COUNT, err);
    if (status == SL_OK) status = grid_check_labels(m->labels, m->n_labels, err);
    if (status == SL_OK) status = grid_check_text("name", m->name, GRID_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_count("blocks held", m->n_held, GRID_CHANGES_MAX, err);
    if (status == SL_OK)
        status = grid_check_count("blocks dropped", m->n_dropped, GRID_CHANGES_MAX, err);
    if (status != SL_OK) return status;
    return grid_check_numbers("fact", facts, sizeof facts / sizeof *facts, 0, err);
}

static sl_status decode_report(const void *message, struct sl_arena *arena, struct grid_msg *msg,
                               struct sl_err *err)
{
    const pb_report *m = message;
    struct grid_report *out = &msg->report;
    sl_status status = check_report(m, err);
#define X(field) out->field = m->field;
    REPORT_FIELDS(X)
    REPORT_STRINGS(X)
#undef X
#define X(field) out->facts.field = m->field;
    FACTS_FIELDS(X)
#undef X
    out->facts.duty = (enum node_duty)m->duty;
    out->labels = (const char *const *)m->labels;
    out->held = m->held;
    out->dropped = m->dropped;
    if (status == SL_OK) status = read_covers(m, arena, out, err);
    if (status == SL_OK) status = read_hosted(m, arena, out, err);
    if (status == SL_OK) status = read_peers(m, arena, out, err);
    if (status == SL_OK) status = read_telemetry(m->telemetry, arena, out, err);
    if (status == SL_OK) status = grid_take_stages(m, arena, out, err);
    if (status == SL_OK) status = grid_take_machine(m->machine, arena, &out->machine, err);
    return status;
}

const struct grid_codec grid_codec_report = {"report", &starlane__grid__report__descriptor,
                                             encode_report, decode_report};
