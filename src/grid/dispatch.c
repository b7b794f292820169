/* dispatch.c: see dispatch.h. Creation; time; one step of the router and its actions. */
#include "grid/dispatch_split.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "grid/peers.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

#define S INT64_C(1000000000)
#define HOSTED_MAX 32     /* models of one member that the router knows of */
#define EXPLAINED_MAX 512 /* decisions with all their rows: 2 MiB */
/* Our own process was late by more than a tick: that is not the silence of others. */
#define STALL_MAX_NS (2 * DISPATCH_TICK_NS)
/* While the bus is gone nobody can be heard, so nobody is late; but not for ever: what only others
 * could run goes on here, if it can. */
#define STAND_STILL_MAX_NS (30 * S)
/* After it has come back, until everybody had the time to connect and to report. */
#define STAND_STILL_BACK_NS (2 * S)

void dispatch_cfg_default(struct dispatch_cfg *cfg)
{
    *cfg = (struct dispatch_cfg){
        .queue_timeout_ns = 300 * S,
        .hedge_share = 0.05,
        .suspect_ns = 1200000000,
        .dead_ns = 2 * S,
    };
}

static sl_status router_make(struct dispatch *dispatch, struct sl_err *err)
{
    struct router_config config;
    const struct dispatch_cfg *cfg = &dispatch->cfg;
    router_config_default(&config);
    config.seed = cfg->seed ? cfg->seed : sl_hash_seed();
    config.n_requests_max = DISPATCH_REQUESTS_MAX;
    config.n_explained = EXPLAINED_MAX;
    config.queue_timeout_ns = cfg->queue_timeout_ns;
    config.hedge_share = cfg->hedge_share;
    config.table.n_nodes_max = DISPATCH_MEMBERS_MAX;
    config.table.n_models_max = DISPATCH_MODELS_MAX;
    config.table.n_hosted_max = HOSTED_MAX;
    config.table.suspect_ns = cfg->suspect_ns;
    config.table.dead_ns = cfg->dead_ns;
    sl_status status = cfg->policy ? policy_parse(cfg->policy, &config.policy, err) : SL_OK;
    return status == SL_OK ? router_create(&config, &dispatch->router, err) : status;
}

static sl_status parts_make(struct dispatch *dispatch, struct sl_err *err)
{
    struct placement_config places;
    sl_status status = router_make(dispatch, err);
    if (status != SL_OK) return status;
    placement_config_default(&places);
    places.n_models_max = DISPATCH_MODELS_MAX;
    status = placement_create(&places, &dispatch->placement, err);
    if (status != SL_OK) return status;
    size_t n_words = (DISPATCH_MEMBERS_MAX + 63) / 64;
    dispatch->nodes = sl_calloc(DISPATCH_MEMBERS_MAX, sizeof *dispatch->nodes);
    dispatch->models = sl_calloc(DISPATCH_MODELS_MAX, sizeof *dispatch->models);
    dispatch->holders = sl_calloc(DISPATCH_MODELS_MAX * n_words, sizeof *dispatch->holders);
    dispatch->waiting = sl_calloc(DISPATCH_MODELS_MAX, sizeof *dispatch->waiting);
    dispatch->history = sl_calloc(DISPATCH_HISTORY_MAX, sizeof *dispatch->history);
    if (!dispatch->nodes || !dispatch->models || !dispatch->holders || !dispatch->waiting ||
        !dispatch->history || peers_create(DISPATCH_MEMBERS_MAX, &dispatch->peers, err) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for a dispatcher");
    for (size_t i = 0; i < DISPATCH_MODELS_MAX; i++)
        dispatch->models[i].holders = &dispatch->holders[i * n_words];
    return SL_OK;
}

static sl_status begin(struct dispatch *dispatch, struct sl_err *err)
{
    if (dispatch->cfg.world) dispatch->world = *dispatch->cfg.world;
    if (!dispatch->cfg.world) {
        sl_status status = dispatch_shell_create(dispatch, err);
        if (status != SL_OK) return status;
    }
    struct dispatch_node *self = dispatch_node_of(dispatch, dispatch->self);
    if (!self) return sl_err_set(err, SL_NOMEM, "no memory for a member");
    self->self = true;
    dispatch->self_node = self->number;
    dispatch->real_ns = dispatch->world.now_ns(dispatch->world.ctx);
    dispatch->router_ns = S; /* so that no time of ours is 0 or below */
    dispatch->lost_ns = dispatch->real_ns;
    dispatch->router_wake_ns = SCHED_NEVER;
    dispatch->tick_ns = dispatch->second_ns = dispatch->real_ns;
    return SL_OK;
}

sl_status dispatch_create(const struct dispatch_cfg *cfg, struct dispatch **out, struct sl_err *err)
{
    if (!cfg->self || !*cfg->self || strlen(cfg->self) >= GRID_ID_SIZE)
        return sl_err_set(err, SL_INVALID, "a gateway needs its member id");
    struct dispatch *dispatch = sl_calloc(1, sizeof *dispatch);
    if (!dispatch) return sl_err_set(err, SL_NOMEM, "no memory for a dispatcher");
    dispatch->cfg = *cfg;
    strcpy(dispatch->self, cfg->self);
    if (!dispatch->cfg.boot) dispatch->cfg.boot = (uint64_t)sl_unix_time_ms();
    sl_idmap_init(&dispatch->ids);
    sl_idmap_init(&dispatch->names);
    sl_idmap_init(&dispatch->requests);
    sl_arena_init(&dispatch->arena, GRID_MSG_ARENA_BYTES_MAX);
    sl_buf_init(&dispatch->out, GRID_MSG_BYTES_MAX);
    sl_buf_init(&dispatch->head, GRID_MSG_BYTES_MAX);
    sl_status status = parts_make(dispatch, err);
    if (status == SL_OK) status = begin(dispatch, err);
    if (status != SL_OK) goto fail;
    *out = dispatch;
    dispatch_wake(dispatch);
    return SL_OK;
fail:
    dispatch_destroy(dispatch);
    return status;
}

void dispatch_destroy(struct dispatch *dispatch)
{
    if (!dispatch) return;
    size_t at = 0;
    struct dispatch_request *request;
    while ((request = sl_idmap_next(&dispatch->requests, &at))) {
        for (int i = 0; i < 2; i++)
            if (request->attempts[i].number)
                dispatch_stop_at(dispatch, &dispatch->nodes[request->attempts[i].node],
                                 request->number, request->attempts[i].number);
        dispatch_request_free(request);
    }
    dispatch_shell_destroy(dispatch->shell);
    if (dispatch->nodes) dispatch_nodes_done(dispatch); /* their cards are of the models */
    if (dispatch->models) dispatch_models_done(dispatch);
    dispatch_chains_done(dispatch);
    router_destroy(dispatch->router);
    placement_destroy(dispatch->placement);
    peers_destroy(dispatch->peers);
    sl_idmap_done(&dispatch->ids);
    sl_idmap_done(&dispatch->names);
    sl_idmap_done(&dispatch->requests);
    sl_arena_done(&dispatch->arena);
    sl_buf_done(&dispatch->out);
    sl_buf_done(&dispatch->head);
    sl_free(dispatch->nodes);
    sl_free(dispatch->models);
    sl_free(dispatch->holders);
    sl_free(dispatch->waiting);
    sl_free(dispatch->history);
    sl_free(dispatch);
}

/* --- time --- */

static bool stands_still(const struct dispatch *dispatch, int64_t now_ns)
{
    if (!dispatch->connection) return now_ns - dispatch->lost_ns < STAND_STILL_MAX_NS;
    return dispatch->back_ns && now_ns - dispatch->back_ns < STAND_STILL_BACK_NS;
}

/* The router's time is the real one without what is nobody's silence: our own stalls, and times
 * without a bus. */
void dispatch_clock(struct dispatch *dispatch)
{
    int64_t now_ns = dispatch->world.now_ns(dispatch->world.ctx);
    int64_t passed_ns = now_ns - dispatch->real_ns;
    if (passed_ns <= 0) return;
    if (passed_ns > STALL_MAX_NS) passed_ns = STALL_MAX_NS;
    if (!stands_still(dispatch, now_ns)) dispatch->router_ns += passed_ns;
    dispatch->real_ns = now_ns;
}

void dispatch_wake(struct dispatch *dispatch)
{
    int64_t at_ns = dispatch->tick_ns;
    if (dispatch->router_wake_ns != SCHED_NEVER && !stands_still(dispatch, dispatch->real_ns)) {
        int64_t wake_ns = dispatch->real_ns + (dispatch->router_wake_ns - dispatch->router_ns);
        if (wake_ns < at_ns) at_ns = wake_ns;
    }
    if (dispatch->todo_head || dispatch->place_now) at_ns = dispatch->real_ns;
    dispatch->world.wake_at(dispatch->world.ctx, at_ns);
}

/* --- messages --- */

void dispatch_send_bytes(struct dispatch *dispatch, const char *kind, const char *to,
                         const struct sl_buf *bytes)
{
    char subject[64];
    if (to)
        snprintf(subject, sizeof subject, "sl.%s.%s.%s", kind, to, dispatch->self);
    else
        snprintf(subject, sizeof subject, "sl.%s.%s", kind, dispatch->self);
    dispatch->stats.n_messages_out++;
    dispatch->stats.n_bytes_out += bytes->len;
    if (dispatch->world.publish(dispatch->world.ctx, subject, bytes->data, bytes->len) != SL_OK)
        dispatch->stats.n_unsent++;
}

void dispatch_send(struct dispatch *dispatch, const char *kind, const char *to,
                   const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_clear(&dispatch->out);
    if (grid_msg_encode(msg, &dispatch->out, &err) == SL_OK)
        dispatch_send_bytes(dispatch, kind, to, &dispatch->out);
    else
        dispatch->stats.n_unsent++;
}

static void receive_report(struct dispatch *dispatch, struct dispatch_node *node,
                           const unsigned char *bytes, size_t n)
{
    struct grid_msg msg;
    struct sl_err err = SL_ERR_INIT;
    if (*bytes == GRID_REPORT) {
        dispatch_on_report(dispatch, node, bytes, n);
    } else if (*bytes == GRID_CARDS) {
        dispatch_on_cards(dispatch, node, bytes, n);
    } else if (*bytes == GRID_DEMAND && node->standing.gateway) {
        if (grid_msg_decode(bytes, n, &dispatch->arena, &msg, &err) == SL_OK)
            dispatch_on_demand(dispatch, node, &msg.demand);
        else
            dispatch->stats.n_corrupt++;
    }
}

static void receive_answer(struct dispatch *dispatch, struct dispatch_node *node, const void *bytes,
                           size_t n)
{
    struct grid_msg msg;
    struct sl_err err = SL_ERR_INIT;
    if (grid_msg_decode(bytes, n, &dispatch->arena, &msg, &err) != SL_OK) {
        dispatch->stats.n_corrupt++;
        return;
    }
    switch (msg.type) {
    case GRID_EVENTS:
        if (msg.events.boot == dispatch->cfg.boot) dispatch_on_events(dispatch, node, &msg.events);
        break;
    case GRID_BEAT:
        if (msg.beat.boot == dispatch->cfg.boot) dispatch_on_beat(dispatch, node, &msg.beat);
        break;
    case GRID_PONG: dispatch_on_pong(dispatch, node, &msg.ping); break;
    default: break; /* PINGs are the agent's */
    }
}

/* The subject's last token: who says it. */
static const char *sender_of(const char *subject)
{
    const char *dot = strrchr(subject, '.');
    return dot ? dot + 1 : subject;
}

void dispatch_receive(struct dispatch *dispatch, const char *subject, const void *bytes, size_t n)
{
    const struct dispatch_cfg *cfg = &dispatch->cfg;
    const char *sender = sender_of(subject);
    struct dispatch_standing standing = {.gateway = true, .duty = NODE_OPEN};
    bool reports = !strncmp(subject, "sl.report.", 10);
    dispatch_clock(dispatch);
    dispatch->stats.n_messages_in++;
    if (cfg->standing && !cfg->standing(cfg->ctx, sender, &standing)) return;
    struct dispatch_node *node =
        reports ? dispatch_node_of(dispatch, sender) : dispatch_node_find(dispatch, sender);
    /* A stranger's words can be about nothing of ours: it reports first. */
    if (!node || !n) return;
    node->standing = standing;
    node->standing.name = NULL; /* lives no longer */
    sl_arena_reset(&dispatch->arena);
    if (reports)
        receive_report(dispatch, node, bytes, n);
    else
        receive_answer(dispatch, node, bytes, n);
    dispatch_work(dispatch);
    dispatch_wake(dispatch);
}

/* --- the router --- */

static void on_send(struct dispatch *dispatch, const struct router_action *action)
{
    struct dispatch_request *request = dispatch_request_find(dispatch, action->request);
    if (request) dispatch_attempt_send(request, action);
}

static void on_deliver(struct dispatch *dispatch, const struct router_action *action)
{
    struct dispatch_request *request = dispatch_request_find(dispatch, action->request);
    for (int i = 0; request && i < 2; i++)
        if (request->attempts[i].number == action->attempt) {
            dispatch_deliver(request, &request->attempts[i], action->n_from, action->n_tokens);
            return;
        }
}

static void carry_out(struct dispatch *dispatch, const struct router_action *action)
{
    struct dispatch_request *request;
    switch (action->kind) {
    case ROUTER_SEND: on_send(dispatch, action); break;
    case ROUTER_STOP: dispatch_attempt_stop(dispatch, action); break;
    case ROUTER_DELIVER: on_deliver(dispatch, action); break;
    case ROUTER_END:
        request = dispatch_request_find(dispatch, action->request);
        if (request) dispatch_request_end(request, action);
        break;
    case ROUTER_WAKE_AT: dispatch->router_wake_ns = action->at_ns; break;
    case ROUTER_ACTION_KIND_COUNT: break;
    }
}

sl_status dispatch_try(struct dispatch *dispatch, const struct router_event *event)
{
    const struct router_action *actions;
    size_t n = 0;
    assert(!dispatch->stepping);
    sl_status status = router_step(dispatch->router, event, dispatch->router_ns, &actions, &n);
    dispatch->stepping = true;
    for (size_t i = 0; i < n; i++) carry_out(dispatch, &actions[i]);
    dispatch->stepping = false;
    return status;
}

void dispatch_step(struct dispatch *dispatch, const struct router_event *event)
{
    sl_status status = dispatch_try(dispatch, event);
    assert(status == SL_OK); /* numbers that we made ourselves */
    (void)status;
}

void dispatch_todo(struct dispatch_request *request, enum dispatch_todo todo)
{
    struct dispatch *dispatch = request->dispatch;
    bool listed = request->todo != TODO_NONE;
    /* A request that is cancelled before it was begun is told to nobody. */
    request->todo = todo;
    if (listed) return;
    request->todo_next = NULL;
    if (dispatch->todo_tail)
        dispatch->todo_tail->todo_next = request;
    else
        dispatch->todo_head = request;
    dispatch->todo_tail = request;
}

static void submit_now(struct dispatch_request *request)
{
    struct dispatch *dispatch = request->dispatch;
    struct router_submit submit = request->submit;
    const struct dispatch_model *model = request->model;
    submit.ask.blocks = request->blocks;
    if (submit.deadline_ns != SCHED_NEVER) submit.deadline_ns += dispatch->router_ns;
    const struct router_event event = {
        .kind = ROUTER_SUBMIT, .request = request->number, .submit = &submit};
    sl_status status = dispatch_try(dispatch, &event);
    if (status != SL_OK) {
        const struct router_action end = {
            .kind = ROUTER_END, .status = status, .reason = "too many requests are under way"};
        dispatch_request_end(request, &end);
    } else if (dispatch_request_find(dispatch, event.request)) {
        dispatch_place_model(dispatch, model);
    }
}

static void complete_now(struct dispatch_request *request)
{
    struct router_event event = {
        .kind = ROUTER_FINISHED, .request = request->number, .n_tokens = request->n_tokens};
    for (int i = 0; i < 2; i++)
        if (request->attempts[i].number) {
            event.attempt = request->attempts[i].number;
            event.node = request->attempts[i].node;
        }
    if (event.attempt) dispatch_step(request->dispatch, &event);
}

static void cancel_now(struct dispatch_request *request, sl_status status, const char *text)
{
    struct dispatch *dispatch = request->dispatch;
    const struct router_event event = {.kind = ROUTER_CANCEL, .request = request->number};
    const struct router_action end = {.kind = ROUTER_END, .status = status, .reason = text};
    dispatch_step(dispatch, &event);
    dispatch_request_end(request, &end);
}

void dispatch_work(struct dispatch *dispatch)
{
    struct dispatch_request *request;
    while ((request = dispatch->todo_head)) {
        enum dispatch_todo todo = request->todo;
        dispatch->todo_head = request->todo_next;
        if (!dispatch->todo_head) dispatch->todo_tail = NULL;
        request->todo = TODO_NONE;
        switch (todo) {
        case TODO_SUBMIT: submit_now(request); break;
        case TODO_CANCEL: cancel_now(request, SL_CANCELLED, "its client has gone"); break;
        case TODO_COMPLETE: complete_now(request); break;
        case TODO_FAIL: cancel_now(request, request->fail_status, request->fail_text); break;
        case TODO_NONE: break;
        }
    }
}

/* --- what time brings --- */

static void look_at_bus(struct dispatch *dispatch)
{
    uint64_t connection = dispatch->world.connection(dispatch->world.ctx);
    if (connection == dispatch->connection) return;
    bool first = dispatch->connection == 0 && dispatch->stats.n_connections == 0;
    if (!connection) {
        dispatch->lost_ns = dispatch->real_ns;
    } else {
        dispatch->back_ns = first ? 0 : dispatch->real_ns;
        dispatch->stats.n_connections++;
    }
    dispatch->connection = connection;
    /* Whatever was on its way is lost: both sides say where they stand. */
    if (connection) dispatch_sync_all(dispatch, true);
}

void dispatch_bus_changed(struct dispatch *dispatch)
{
    dispatch_clock(dispatch);
    look_at_bus(dispatch);
    dispatch_wake(dispatch);
}

static void each_second(struct dispatch *dispatch)
{
    dispatch->second_ns = dispatch->real_ns + S;
    dispatch_ping_round(dispatch);
    dispatch_publish_demand(dispatch);
    dispatch_models_sweep(dispatch);
    dispatch_fail_hopeless(dispatch);
    dispatch_split_age(dispatch);
    dispatch->place_now = true;
}

void dispatch_tick(struct dispatch *dispatch)
{
    dispatch_clock(dispatch);
    sl_arena_reset(&dispatch->arena);
    look_at_bus(dispatch);
    dispatch_work(dispatch);
    dispatch_step(dispatch, &(struct router_event){.kind = ROUTER_TICK});
    dispatch_work(dispatch);
    if (dispatch->real_ns >= dispatch->tick_ns) {
        dispatch->tick_ns = dispatch->real_ns + DISPATCH_TICK_NS;
        dispatch_sync_all(dispatch, false);
        dispatch_ping_silent(dispatch);
        dispatch_control_repeat(dispatch);
    }
    if (dispatch->real_ns >= dispatch->second_ns) each_second(dispatch);
    if (dispatch->place_now) dispatch_place(dispatch);
    dispatch_work(dispatch);
    dispatch_wake(dispatch);
}

void dispatch_stats_get(const struct dispatch *dispatch, struct dispatch_stats *out)
{
    *out = dispatch->stats;
    router_get_totals(dispatch->router, &out->router);
    out->n_members_alive = out->n_members_suspect = out->n_members_dead = 0;
    out->n_members_left = out->n_models = out->n_chains = 0;
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        enum node_health health = router_nodes(dispatch->router)->nodes[i].health;
        if (!dispatch->nodes[i].used) continue;
        bool left = dispatch_node_left(dispatch, &dispatch->nodes[i]);
        out->n_members_left += left;
        out->n_members_alive += health == NODE_ALIVE;
        out->n_members_suspect += health == NODE_SUSPECT && !left;
        out->n_members_dead += health == NODE_DEAD && !left;
    }
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        out->n_models += dispatch->models[i].used;
        out->n_chains += dispatch_chain_of(dispatch, i) != NULL;
    }
}
