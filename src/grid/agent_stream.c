/* agent_stream.c: attempts at requests, each a stream of numbered events that is kept until its
 * gateway has it. */
#include "base/clock.h"
#include "base/mem.h"
#include "grid/agent_int.h"
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES ((size_t)200 << 10)  /* of pieces: the bus sends it as one part */
#define RESEND_BYTES_MAX ((size_t)1 << 20) /* for one SYNC; the next one asks for the rest */
#define RETRY_MIN_MS 20.0
#define RETRY_MAX_MS 5000.0
#define RETRY_DEFAULT_MS 100

/* --- events --- */

static size_t end_of(const struct agent_attempt *a, uint64_t seq)
{
    size_t end;
    if (seq < a->first_seq) return a->n_trimmed;
    memcpy(&end, a->ends.data + (seq - a->first_seq) * sizeof end, sizeof end);
    return end;
}

/* The last event from `from` on that fits into one message with it; at least that one. */
static uint64_t batch_end(const struct agent_attempt *a, uint64_t from)
{
    size_t begin = end_of(a, from - 1);
    uint64_t to = from;
    while (to < a->last_seq && to - from + 1 < GRID_EVENTS_MAX &&
           end_of(a, to + 1) - begin <= MESSAGE_BYTES)
        to++;
    return to;
}

/* Sends events from `from` on, at most n_max bytes of them but one message at least. */
static void send_events(struct agent_attempt *a, uint64_t from, size_t n_max)
{
    struct agent *agent = a->gateway->agent;
    struct sl_err err = SL_ERR_INIT;
    size_t n_sent = 0;
    while (from <= a->last_seq && n_sent < n_max) {
        uint64_t to = batch_end(a, from);
        size_t begin = end_of(a, from - 1), n = end_of(a, to) - begin;
        const struct grid_events head = {.boot = a->gateway->boot,
                                         .request = a->request,
                                         .attempt = a->attempt,
                                         .first_seq = from};
        sl_buf_clear(&agent->out);
        if (grid_events_wrap(&head, a->pieces.data + (begin - a->n_trimmed), n, &agent->out,
                             &err) != SL_OK) {
            agent->stats.n_unsent++;
            return; /* no memory: asked for again */
        }
        agent_publish(agent, "answer", a->gateway->id);
        if (from <= a->sent_seq)
            agent->stats.n_resent += (to < a->sent_seq ? to : a->sent_seq) - from + 1;
        if (to > a->sent_seq) a->sent_seq = to;
        n_sent += n;
        from = to + 1;
    }
}

static void send_gone(struct agent_gateway *gateway, uint64_t request, uint32_t attempt)
{
    const struct grid_event gone = {.type = GRID_EVENT_GONE};
    const struct grid_msg msg = {
        .type = GRID_EVENTS,
        .events = {
            .boot = gateway->boot, .request = request, .attempt = attempt, .v = &gone, .n = 1}};
    gateway->agent->stats.n_gone++;
    agent_send(gateway->agent, "answer", gateway->id, &msg);
}

void agent_flush(void *ctx)
{
    struct agent *agent = ctx;
    for (size_t g = 0; g < GRID_GATEWAYS_MAX; g++)
        for (struct agent_attempt *a = agent->gateways[g] ? agent->gateways[g]->attempts : NULL; a;
             a = a->next) {
            if (!a->unsent) continue;
            a->unsent = false;
            send_events(a, a->sent_seq + 1, SIZE_MAX);
        }
}

static sl_status add_piece(struct agent_attempt *a, const struct grid_event *event)
{
    struct agent *agent = a->gateway->agent;
    struct sl_err err = SL_ERR_INIT;
    size_t before = a->pieces.len;
    sl_status status = grid_events_put(event, &a->pieces, &err);
    if (status != SL_OK) return status;
    size_t end = a->n_trimmed + a->pieces.len;
    status = sl_buf_add(&a->ends, &end, sizeof end);
    if (status != SL_OK) {
        sl_buf_truncate(&a->pieces, before);
        return status;
    }
    agent->stats.stream_bytes += a->pieces.len - before;
    a->last_seq++;
    a->unsent = true;
    loop_queue_task(agent->cfg.loop, &agent->flush);
    return SL_OK;
}

static void ended(struct agent_attempt *a)
{
    struct agent *agent = a->gateway->agent;
    a->state = GRID_ENDED;
    a->ended_ns = sl_now_ns();
    agent_measure_end(a);
    agent->stats.n_ended++;
    agent_report_soon(agent);
}

/* The events do not arrive, or do not fit: what has been kept is still told, and that it failed. */
static void overflow(struct agent_attempt *a, sl_status why)
{
    const struct grid_event failed = {
        .node = {.type = NODE_EVENT_FAILED,
                 .status = why == SL_NOMEM ? SL_NOMEM : SL_UNAVAILABLE,
                 .message = why == SL_NOMEM ? "no memory for the answer's events"
                                            : "the answer's events did not arrive"}};
    a->gateway->agent->stats.n_overflown++;
    if (a->handle) node_cancel(a->handle);
    a->handle = NULL;
    ended(a);
    /* Without memory for that either, the attempt stays mute until it is asked for: GONE. */
    if (add_piece(a, &failed) != SL_OK) a->named_ns = INT64_MIN;
}

static bool is_full(const struct agent_attempt *a)
{
    const struct agent *agent = a->gateway->agent;
    return a->pieces.len > AGENT_STREAM_BYTES_MAX ||
           agent->stats.stream_bytes > agent->cfg.stream_bytes_max;
}

static void on_node_event(void *ctx, const struct node_event *event)
{
    struct agent_attempt *a = ctx;
    const struct grid_event told = {.type = GRID_EVENT_NODE, .node = *event};
    bool last = grid_event_is_last(&told);
    if (last) a->handle = NULL; /* it is invalid once this has returned */
    agent_measure_event(a, event);
    sl_status status = !last && is_full(a) ? SL_LIMIT : add_piece(a, &told);
    if (status != SL_OK)
        overflow(a, status);
    else if (last)
        ended(a);
    else
        a->state = GRID_RUNNING;
}

/* --- attempts --- */

static struct agent_attempt *find(const struct agent_gateway *gateway, uint64_t request,
                                  uint32_t attempt)
{
    struct agent_attempt *a = sl_idmap_get(&gateway->by_request, request);
    while (a && a->attempt != attempt) a = a->same;
    return a;
}

static bool is_past(const struct agent_gateway *gateway, uint64_t request, uint32_t attempt)
{
    size_t n = gateway->n_past < AGENT_PAST_MAX ? gateway->n_past : AGENT_PAST_MAX;
    for (size_t i = 0; i < n; i++)
        if (gateway->past[i].request == request && gateway->past[i].attempt == attempt) return true;
    return false;
}

static void note_past(struct agent_gateway *gateway, uint64_t request, uint32_t attempt)
{
    if (is_past(gateway, request, attempt)) return;
    gateway->past[gateway->n_past++ % AGENT_PAST_MAX] = (struct agent_past){request, attempt};
}

static void free_attempt(struct agent_attempt *a)
{
    if (a->handle) node_cancel(a->handle);
    agent_measure_end(a);
    if (a->model) a->model->n_attempts--;
    sl_buf_done(&a->pieces);
    sl_buf_done(&a->ends);
    sl_free(a->blocks);
    sl_free(a);
}

static void unlink_request(struct agent_attempt *a)
{
    struct agent_gateway *gateway = a->gateway;
    struct agent_attempt *first = sl_idmap_get(&gateway->by_request, a->request);
    if (first == a) {
        sl_idmap_take(&gateway->by_request, a->request);
        /* There is room: one was just taken out. */
        if (a->same && sl_idmap_put(&gateway->by_request, a->request, a->same) != SL_OK) return;
        return;
    }
    while (first && first->same != a) first = first->same;
    if (first) first->same = a->same;
}

/* It is over for the gateway: cancelled if it runs, its events dropped. */
static void forget(struct agent_attempt *a)
{
    struct agent_gateway *gateway = a->gateway;
    struct agent *agent = gateway->agent;
    unlink_request(a);
    if (a->previous)
        a->previous->next = a->next;
    else
        gateway->attempts = a->next;
    if (a->next) a->next->previous = a->previous;
    agent->stats.n_attempts--;
    agent->stats.stream_bytes -= a->pieces.len;
    if (a->handle) agent_report_soon(agent);
    free_attempt(a);
}

static struct agent_attempt *attempt_create(struct agent_gateway *gateway,
                                            const struct grid_run *run)
{
    struct agent_attempt *a = sl_calloc(1, sizeof *a);
    if (!a) return NULL;
    *a = (struct agent_attempt){.gateway = gateway,
                                .request = run->request,
                                .attempt = run->attempt,
                                .first_seq = 1,
                                .named_ns = sl_now_ns(),
                                .resumed = run->submit.resume != NULL,
                                .n_prompt = run->n_prompt < NODE_TOKENS_LIMIT ? run->n_prompt : 0};
    sl_buf_init(&a->pieces, (size_t)AGENT_STREAM_BYTES_MAX + 2 * (size_t)GRID_MSG_BYTES_MAX);
    sl_buf_init(&a->ends, (size_t)AGENT_STREAM_BYTES_MAX * sizeof(size_t));
    if (run->n_blocks) {
        a->blocks = sl_malloc(run->n_blocks * sizeof *a->blocks);
        if (a->blocks) memcpy(a->blocks, run->blocks, run->n_blocks * sizeof *a->blocks);
        a->n_blocks = a->blocks ? run->n_blocks : 0; /* a hint that may be missing */
    }
    a->same = sl_idmap_get(&gateway->by_request, run->request);
    if (sl_idmap_put(&gateway->by_request, run->request, a) != SL_OK) {
        free_attempt(a);
        return NULL;
    }
    a->next = gateway->attempts;
    if (a->next) a->next->previous = a;
    gateway->attempts = a;
    gateway->agent->stats.n_attempts++;
    return a;
}

/* --- admission --- */

static int64_t retry_ms(const struct agent_model *measured, const struct node_model *model)
{
    if (!measured || measured->service_s <= 0) return RETRY_DEFAULT_MS;
    double ms = measured->service_s * 1000 * (model->n_waiting + 1) / (double)model->n_slots;
    return (int64_t)(ms < RETRY_MIN_MS ? RETRY_MIN_MS : ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms);
}

/* As many as it has slots, and as many again that wait. */
static sl_status admit(struct agent_attempt *a, const struct grid_run *run, int64_t *retry_after_ms,
                       struct sl_err *err)
{
    struct agent *agent = a->gateway->agent;
    struct node_model model;
    if (agent->cfg.facts.duty != NODE_OPEN)
        return sl_err_set(err, SL_UNAVAILABLE, "the node is %s",
                          node_duty_name(agent->cfg.facts.duty));
    sl_status status = node_model_find(agent->cfg.node, run->submit.model, &model, err);
    if (status != SL_OK) return status;
    if (*run->digest && *model.digest && strcmp(run->digest, model.digest) != 0)
        return sl_err_set(err, SL_NOT_FOUND, "\"%s\" is another file here", run->submit.model);
    a->model = agent_model_of(agent, model.name);
    if (!a->model) return sl_err_set(err, SL_NOMEM, "no memory for a model's measures");
    a->model->n_attempts++;
    a->model->used_ns = sl_now_ns();
    agent_measure_start(a, model.sched_state == SCHED_READY);
    int64_t n_slots = model.n_slots ? model.n_slots : 1;
    if ((int64_t)model.n_running + model.n_waiting < 2 * n_slots) return SL_OK;
    model.n_slots = (uint32_t)n_slots;
    *retry_after_ms = retry_ms(a->model, &model);
    return sl_err_set(err, SL_BUSY, "%d requests run and %d wait here already",
                      (int)model.n_running, (int)model.n_waiting);
}

static void start(struct agent_attempt *a, const struct grid_run *run)
{
    struct agent *agent = a->gateway->agent;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    sl_status status = admit(a, run, &retry_after_ms, &err);
    if (status == SL_OK)
        status = node_submit(agent->cfg.node, &run->submit, on_node_event, a, &a->handle,
                             &retry_after_ms, &err);
    if (status == SL_OK) {
        agent_report_soon(agent);
        return;
    }
    const struct grid_event refused = {.type = GRID_EVENT_REFUSED,
                                       .node = {.type = NODE_EVENT_FAILED,
                                                .status = status,
                                                .message = err.text,
                                                .retry_after_ms = retry_after_ms}};
    agent->stats.n_refused++;
    ended(a);
    if (add_piece(a, &refused) != SL_OK) forget(a); /* GONE, when it is asked for */
}

/* --- from the gateway --- */

void agent_on_run(struct agent_gateway *gateway, const struct grid_run *run)
{
    struct agent *agent = gateway->agent;
    struct agent_attempt *a = find(gateway, run->request, run->attempt);
    if (run->sent > gateway->sent) gateway->sent = run->sent;
    if (a) {
        agent->stats.n_runs_again++;
        a->named_ns = sl_now_ns();
        send_events(a, a->first_seq, RESEND_BYTES_MAX);
        return;
    }
    if (is_past(gateway, run->request, run->attempt)) return;
    if (agent->stats.n_attempts >= AGENT_ATTEMPTS_MAX) return; /* GONE, when it is asked for */
    a = attempt_create(gateway, run);
    if (!a) return;
    agent->stats.n_runs++;
    start(a, run);
}

void agent_on_stop(struct agent_gateway *gateway, const struct grid_stop *stop)
{
    struct agent_attempt *a = find(gateway, stop->request, stop->attempt);
    note_past(gateway, stop->request, stop->attempt);
    if (!a) return;
    gateway->agent->stats.n_stopped += a->state != GRID_ENDED;
    forget(a);
}

/* Drops the events before next_seq. */
static void trim(struct agent_attempt *a, uint64_t next_seq)
{
    if (next_seq > a->last_seq + 1) next_seq = a->last_seq + 1;
    if (next_seq <= a->first_seq) return;
    size_t n = end_of(a, next_seq - 1) - a->n_trimmed;
    sl_buf_consume(&a->ends, (size_t)(next_seq - a->first_seq) * sizeof(size_t));
    sl_buf_consume(&a->pieces, n);
    a->n_trimmed += n;
    a->first_seq = next_seq;
    if (a->sent_seq < next_seq - 1) a->sent_seq = next_seq - 1;
    a->gateway->agent->stats.stream_bytes -= n;
    if (!a->pieces.len) sl_buf_done(&a->pieces); /* what held 64 MiB of tensors goes back */
}

static void sync_one(struct agent_gateway *gateway, const struct grid_sync_entry *entry)
{
    struct agent_attempt *a = find(gateway, entry->request, entry->attempt);
    if (!a || a->named_ns == INT64_MIN) {
        send_gone(gateway, entry->request, entry->attempt);
        return;
    }
    a->named_ns = gateway->synced_ns;
    trim(a, entry->next_seq);
    if (a->state == GRID_ENDED && a->first_seq > a->last_seq) {
        note_past(gateway, entry->request, entry->attempt);
        forget(a);
        return;
    }
    if (entry->resend)
        send_events(a, entry->next_seq > a->first_seq ? entry->next_seq : a->first_seq,
                    RESEND_BYTES_MAX);
}

void agent_on_sync(struct agent_gateway *gateway, const struct grid_sync *sync)
{
    gateway->synced_ns = sl_now_ns();
    for (size_t i = 0; i < sync->n; i++) sync_one(gateway, &sync->v[i]);
}

/* --- gateways --- */

static void forget_all(struct agent_gateway *gateway)
{
    while (gateway->attempts) {
        gateway->agent->stats.n_silenced += gateway->attempts->state != GRID_ENDED;
        forget(gateway->attempts);
    }
}

void agent_gateway_free(struct agent_gateway *gateway)
{
    if (!gateway) return;
    forget_all(gateway);
    sl_idmap_done(&gateway->by_request);
    sl_free(gateway);
}

/* A free place, or that of the idle gateway which was heard of the longest ago. */
static struct agent_gateway **place(struct agent *agent)
{
    struct agent_gateway **oldest = NULL;
    for (size_t i = 0; i < GRID_GATEWAYS_MAX; i++) {
        struct agent_gateway **at = &agent->gateways[i];
        if (!*at) return at;
        if (!(*at)->attempts && (!oldest || (*at)->heard_ns < (*oldest)->heard_ns)) oldest = at;
    }
    return oldest;
}

static struct agent_gateway *gateway_create(struct agent *agent, const char *id)
{
    struct agent_gateway **at = place(agent);
    struct agent_gateway *gateway = at ? sl_calloc(1, sizeof *gateway) : NULL;
    if (!gateway) return NULL;
    gateway->agent = agent;
    snprintf(gateway->id, sizeof gateway->id, "%s", id);
    sl_idmap_init(&gateway->by_request);
    agent_gateway_free(*at);
    *at = gateway;
    return gateway;
}

struct agent_gateway *agent_gateway_of(struct agent *agent, const char *id, uint64_t boot)
{
    struct agent_gateway *gateway = NULL;
    for (size_t i = 0; i < GRID_GATEWAYS_MAX && !gateway; i++)
        if (agent->gateways[i] && !strcmp(agent->gateways[i]->id, id)) gateway = agent->gateways[i];
    if (!gateway) gateway = gateway_create(agent, id);
    if (!gateway) return NULL;
    if (gateway->boot != boot) {
        forget_all(gateway);
        gateway->boot = boot;
        gateway->sent = 0;
        gateway->n_past = 0;
        agent_tell_all(agent); /* it has begun anew */
    }
    gateway->heard_ns = sl_now_ns();
    return gateway;
}

/* --- time --- */

/* Ends what nobody will ask for any more. */
static void expire(struct agent_gateway *gateway, int64_t now)
{
    struct agent *agent = gateway->agent;
    struct agent_attempt *next;
    if (now - gateway->heard_ns > agent->cfg.silence_ns) forget_all(gateway);
    for (struct agent_attempt *a = gateway->attempts; a; a = next) {
        next = a->next;
        bool old = a->state == GRID_ENDED && now - a->ended_ns > AGENT_ENDED_KEEP_NS;
        bool unnamed =
            a->named_ns != INT64_MIN && gateway->synced_ns - a->named_ns > AGENT_FORGOTTEN_NS;
        if (!old && !unnamed) continue;
        agent->stats.n_silenced += a->state != GRID_ENDED;
        forget(a);
    }
}

static void beat(struct agent_gateway *gateway)
{
    struct agent *agent = gateway->agent;
    size_t n = 0;
    sl_arena_reset(&agent->arena);
    struct grid_beat_entry *v =
        sl_arena_array(&agent->arena, gateway->by_request.n_entries * 2 + 1, sizeof *v);
    size_t n_max = v ? gateway->by_request.n_entries * 2 : 0;
    for (struct agent_attempt *a = gateway->attempts; a && n < n_max; a = a->next)
        v[n++] = (struct grid_beat_entry){.request = a->request,
                                          .attempt = a->attempt,
                                          .state = a->state,
                                          .last_seq = a->last_seq};
    if (!n) return;
    const struct grid_msg msg = {.type = GRID_BEAT,
                                 .beat = {.boot = gateway->boot, .v = v, .n = n}};
    agent_send(agent, "answer", gateway->id, &msg);
}

void agent_beat(void *ctx)
{
    struct agent *agent = ctx;
    int64_t now = sl_now_ns();
    agent_flush(agent); /* a beat tells of nothing that was not sent before it */
    for (size_t i = 0; i < GRID_GATEWAYS_MAX; i++) {
        if (!agent->gateways[i]) continue;
        expire(agent->gateways[i], now);
        beat(agent->gateways[i]);
    }
    loop_timer_set(agent->beat_timer, agent->cfg.beat_ns);
    agent_check_drained(agent); /* last: its callback may end the agent */
}
