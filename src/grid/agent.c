#include "grid/agent_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

#define SECOND_NS INT64_C(1000000000)
#define MS_NS INT64_C(1000000)

void agent_cfg_default(struct agent_cfg *cfg)
{
    *cfg = (struct agent_cfg){
        .name = "",
        .address = "",
        .program = "",
        .site = "",
        /* As much as four requests full of tensors: more stands only where the way is gone. */
        .stream_bytes_max = UINT64_C(4) * TENSOR_BYTES_MAX,
        .report_ns = SECOND_NS,
        .report_gap_ns = 50 * MS_NS,
        .cards_ns = 10 * SECOND_NS,
        .beat_ns = 250 * MS_NS,
        .silence_ns = 15 * SECOND_NS,
    };
}

/* --- messages --- */

void agent_publish(struct agent *agent, const char *kind, const char *to)
{
    char subject[BUS_SUBJECT_SIZE];
    struct sl_err err = SL_ERR_INIT;
    if (to)
        snprintf(subject, sizeof subject, "sl.%s.%s.%s", kind, to, agent->cfg.self);
    else
        snprintf(subject, sizeof subject, "sl.%s.%s", kind, agent->cfg.self);
    /* What is lost here is asked for again, as what is lost on the way. */
    if (bus_publish(agent->cfg.bus, subject, agent->out.data, agent->out.len, &err) != SL_OK)
        agent->stats.n_unsent++;
}

void agent_send(struct agent *agent, const char *kind, const char *to, const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_clear(&agent->out);
    if (grid_msg_encode(msg, &agent->out, &err) == SL_OK) {
        agent_publish(agent, kind, to);
        return;
    }
    agent->stats.n_unsent++;
    sl_log(SL_LOG_WARN, "agent", "%s", err.text);
}

static const char *sender_of(const char *subject)
{
    const char *dot = strrchr(subject, '.');
    return dot ? dot + 1 : subject;
}

static bool decode(struct agent *agent, const char *subject, const void *bytes, size_t n,
                   struct grid_msg *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_arena_reset(&agent->arena);
    if (strlen(sender_of(subject)) < GRID_ID_SIZE &&
        grid_msg_decode(bytes, n, &agent->arena, out, &err) == SL_OK)
        return true;
    agent->stats.n_corrupt++;
    sl_log(SL_LOG_WARN, "agent", "%s: %s", subject, err.text);
    return false;
}

static void on_run_subject(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct agent *agent = ctx;
    struct grid_msg msg;
    if (!decode(agent, subject, bytes, n, &msg)) return;
    if (msg.type == GRID_CONTROL) {
        agent_on_control(agent, &msg.control);
        return;
    }
    uint64_t boot = msg.type == GRID_RUN    ? msg.run.boot
                    : msg.type == GRID_STOP ? msg.stop.boot
                                            : msg.sync.boot;
    if (msg.type != GRID_RUN && msg.type != GRID_STOP && msg.type != GRID_SYNC) return;
    struct agent_gateway *gateway = agent_gateway_of(agent, sender_of(subject), boot);
    if (!gateway) return;
    if (msg.type == GRID_RUN) agent_on_run(gateway, &msg.run);
    if (msg.type == GRID_STOP) agent_on_stop(gateway, &msg.stop);
    if (msg.type == GRID_SYNC) agent_on_sync(gateway, &msg.sync);
}

static void on_ping_subject(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct agent *agent = ctx;
    struct grid_msg msg;
    if (!decode(agent, subject, bytes, n, &msg)) return;
    if (msg.type == GRID_PONG) agent_on_pong(agent, sender_of(subject), &msg.ping);
    if (msg.type != GRID_PING) return;
    msg.type = GRID_PONG;
    msg.ping.n_padding = 0; /* the way there is what was measured */
    agent_send(agent, "ping", sender_of(subject), &msg);
}

/* --- life --- */

static sl_status check_cfg(const struct agent_cfg *cfg, struct sl_err *err)
{
    if (!cfg->loop || !cfg->bus || !cfg->node || !cfg->store)
        return sl_err_set(err, SL_INVALID, "agent: no loop, bus, node or store");
    if (!cfg->self || !*cfg->self || strlen(cfg->self) >= GRID_ID_SIZE)
        return sl_err_set(err, SL_INVALID, "agent: \"%.40s\" is no member's id",
                          cfg->self ? cfg->self : "");
    if (!cfg->name || !cfg->address || !cfg->program || !cfg->site ||
        strlen(cfg->name) >= GRID_NAME_SIZE)
        return sl_err_set(err, SL_INVALID, "agent: a name is missing or too long");
    if (cfg->report_ns <= 0 || cfg->report_gap_ns <= 0 || cfg->cards_ns <= 0 || cfg->beat_ns <= 0 ||
        cfg->silence_ns <= 0)
        return sl_err_set(err, SL_INVALID, "agent: a time that is not above 0");
    return SL_OK;
}

static void free_labels(char **labels, size_t n)
{
    for (size_t i = 0; labels && i < n; i++) sl_free(labels[i]);
    sl_free(labels);
}

sl_status agent_set_labels(struct agent *agent, const char *const *labels, size_t n,
                           struct sl_err *err)
{
    if (n > GRID_LABELS_MAX) return sl_err_set(err, SL_INVALID, "%zu labels", n);
    for (size_t i = 0; i < n; i++)
        if (strlen(labels[i]) > GRID_LABEL_MAX)
            return sl_err_set(err, SL_INVALID, "label \"%.40s...\" is too long", labels[i]);
    char **copies = sl_calloc(n + 1, sizeof *copies);
    bool ok = copies != NULL;
    for (size_t i = 0; i < n && ok; i++) ok = (copies[i] = sl_strdup(labels[i])) != NULL;
    if (!ok) {
        free_labels(copies, n);
        return sl_err_set(err, SL_NOMEM, "labels");
    }
    free_labels(agent->labels, agent->cfg.n_labels);
    agent->labels = copies;
    agent->cfg.labels = (const char *const *)copies;
    agent->cfg.n_labels = n;
    agent_report_soon(agent);
    return SL_OK;
}

static sl_status copy_strings(struct agent *agent, struct sl_err *err)
{
    const char **const texts[] = {&agent->cfg.self, &agent->cfg.name, &agent->cfg.address,
                                  &agent->cfg.program, &agent->cfg.site};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        agent->strings[i] = sl_strdup(*texts[i]);
        if (!agent->strings[i]) return sl_err_set(err, SL_NOMEM, "agent");
        *texts[i] = agent->strings[i];
    }
    const char *const *labels = agent->cfg.labels;
    size_t n = agent->cfg.n_labels;
    agent->cfg.n_labels = 0;
    return agent_set_labels(agent, labels, n, err);
}

static sl_status create_timers(struct agent *agent)
{
    struct loop *loop = agent->cfg.loop;
    sl_status status = loop_timer_create(loop, agent_report, agent, &agent->report_timer);
    if (status == SL_OK) status = loop_timer_create(loop, agent_cards, agent, &agent->cards_timer);
    if (status == SL_OK) status = loop_timer_create(loop, agent_beat, agent, &agent->beat_timer);
    return status;
}

static sl_status subscribe(struct agent *agent, struct sl_err *err)
{
    char subject[BUS_SUBJECT_SIZE];
    snprintf(subject, sizeof subject, "sl.run.%s.*", agent->cfg.self);
    sl_status status =
        bus_subscribe(agent->cfg.bus, subject, on_run_subject, agent, &agent->on_run, err);
    if (status != SL_OK) return status;
    snprintf(subject, sizeof subject, "sl.ping.%s.*", agent->cfg.self);
    return bus_subscribe(agent->cfg.bus, subject, on_ping_subject, agent, &agent->on_ping, err);
}

sl_status agent_create(const struct agent_cfg *cfg, struct agent **out, struct sl_err *err)
{
    sl_status status = check_cfg(cfg, err);
    if (status != SL_OK) return status;
    struct agent *agent = sl_calloc(1, sizeof *agent);
    if (!agent) return sl_err_set(err, SL_NOMEM, "agent");
    agent->cfg = *cfg;
    agent->cfg.facts.duty = NODE_OPEN;
    if (!agent->cfg.boot) agent->cfg.boot = (uint64_t)sl_unix_time_ms();
    agent->flush = (struct loop_task){.fn = agent_flush, .ctx = agent};
    sl_arena_init(&agent->arena, GRID_MSG_ARENA_BYTES_MAX);
    sl_buf_init(&agent->out, (size_t)GRID_MSG_BYTES_MAX + AGENT_STREAM_BYTES_MAX);
    status = create_timers(agent);
    if (status != SL_OK) sl_err_set(err, status, "agent: %s", sl_status_text(status));
    if (status == SL_OK) status = copy_strings(agent, err);
    if (status == SL_OK) status = subscribe(agent, err);
    if (status == SL_OK) status = agent_peers_start(agent, err);
    if (status != SL_OK) goto fail;
    node_watch(agent->cfg.node, agent_report_soon, agent);
    loop_timer_set(agent->cards_timer, 0);
    loop_timer_set(agent->report_timer, 0);
    loop_timer_set(agent->beat_timer, agent->cfg.beat_ns);
    *out = agent;
    return SL_OK;
fail:
    agent_destroy(agent);
    return status;
}

void agent_destroy(struct agent *agent)
{
    if (!agent) return;
    if (agent->cfg.node) node_watch(agent->cfg.node, NULL, NULL);
    bus_unsubscribe(agent->on_run);
    bus_unsubscribe(agent->on_ping);
    for (size_t i = 0; i < GRID_GATEWAYS_MAX; i++) agent_gateway_free(agent->gateways[i]);
    for (size_t i = 0; i < AGENT_MODELS_MAX; i++) agent_model_free(agent->models[i]);
    for (size_t i = 0; i < AGENT_FETCHES_MAX; i++) {
        sl_free(agent->fetches[i].name);
        sl_free(agent->fetches[i].split);
    }
    agent_peers_stop(agent);
    loop_cancel_task(agent->cfg.loop, &agent->flush);
    loop_timer_destroy(agent->report_timer);
    loop_timer_destroy(agent->cards_timer);
    loop_timer_destroy(agent->beat_timer);
    free_labels(agent->labels, agent->cfg.n_labels);
    for (size_t i = 0; i < sizeof agent->strings / sizeof *agent->strings; i++)
        sl_free(agent->strings[i]);
    store_models_done(&agent->stored);
    agent_shapes_done(agent);
    sl_arena_done(&agent->arena);
    sl_buf_done(&agent->out);
    sl_free(agent);
}

/* --- duty --- */

void agent_set_duty(struct agent *agent, enum node_duty duty)
{
    if (agent->cfg.facts.duty == duty) return;
    agent->cfg.facts.duty = duty;
    agent->drained = false;
    agent_report_soon(agent);
}

enum node_duty agent_duty(const struct agent *agent)
{
    return agent->cfg.facts.duty;
}

void agent_bus_changed(struct agent *agent)
{
    agent_tell_all(agent);
}

void agent_stats_get(const struct agent *agent, struct agent_stats *out)
{
    *out = agent->stats;
}
