/* dispatch_attempt.c: one attempt at a request is a stream of events with numbers, over a bus that
 * may lose, and after a reconnection even forget, anything. What comes twice is dropped, what is
 * missing is asked for again (SYNC), and a RUN that was never heard of is said again. */
#include "grid/dispatch_int.h"
#include "base/mem.h"
#include "grid/dispatch_split.h"
#include <string.h>

#define MS INT64_C(1000000)
#define ASK_AGAIN_MIN_NS (50 * MS) /* between two wishes for the same repetition */
/* A RUN is not said again before an answer to the last one could be here; large ones take longer:
 * 1 MiB/s is slower than any link that is worth sending them over. */
#define RUN_AGAIN_MIN_NS (200 * MS)
#define RUN_NS_PER_BYTE 1000
/* Attempts in one BEAT that are not known here and stopped at once; the others are in the next.
 * A short message must not make us send thousands. */
#define BEAT_STOPS_MAX 64
#define SYNC_ENTRIES_MAX 4096 /* in one message; more attempts at one node make several */

/* --- to the node --- */

static const struct node_resume *resume_of(struct dispatch_request *request)
{
    struct dispatch *dispatch = request->dispatch;
    struct node_resume *resume =
        sl_arena_array(&dispatch->arena, (size_t)request->n_choices, sizeof *resume);
    for (int32_t i = 0; resume && i < request->n_choices; i++) {
        const struct dispatch_choice *choice = &request->choices[i];
        resume[i] =
            (struct node_resume){.tokens = (const int32_t *)(const void *)choice->tokens.data,
                                 .n_tokens = choice->tokens.len / sizeof(int32_t),
                                 .done = choice->done};
    }
    return resume;
}

static int64_t time_left_ns(const struct dispatch_request *request)
{
    const struct dispatch *dispatch = request->dispatch;
    int64_t deadline_ns = request->submit.deadline_ns;
    /* Who has had a token is waited for as long as it takes. */
    if (deadline_ns == SCHED_NEVER || request->n_tokens > 0) return SCHED_NEVER;
    int64_t left_ns = deadline_ns - (dispatch->real_ns - request->submit_ns);
    return left_ns > 1 ? left_ns : 1;
}

/* Messages of Protocol Buffers that follow each other are one, in which what came later counts:
 * so the body, which may have megabytes, is encoded once. */
static void run_send(struct dispatch_attempt *attempt)
{
    struct dispatch_request *request = attempt->request;
    struct dispatch *dispatch = request->dispatch;
    struct sl_err err = SL_ERR_INIT;
    struct grid_msg msg = {.type = GRID_RUN,
                           .run = {.attempt = attempt->number,
                                   .sent = attempt->sent,
                                   .submit = {.queue_timeout_ns = time_left_ns(request),
                                              .n_choices = request->n_choices}}};
    attempt->run_ns = dispatch->real_ns;
    if (request->n_tokens > 0 && request->task == NODE_GENERATE) {
        msg.run.submit.resume = resume_of(request);
        if (!msg.run.submit.resume) return; /* no memory: said again when the node lacks it */
    }
    sl_buf_clear(&dispatch->head);
    sl_buf_clear(&dispatch->out);
    if (grid_msg_encode(&msg, &dispatch->head, &err) == SL_OK &&
        sl_buf_add(&dispatch->out, request->body.data, request->body.len) == SL_OK &&
        sl_buf_add(&dispatch->out, dispatch->head.data + 1, dispatch->head.len - 1) == SL_OK)
        dispatch_send_bytes(dispatch, "run", dispatch->nodes[attempt->node].id, &dispatch->out);
    else
        dispatch->stats.n_unsent++;
}

void dispatch_attempt_send(struct dispatch_request *request, const struct router_action *action)
{
    struct dispatch *dispatch = request->dispatch;
    struct dispatch_node *node = &dispatch->nodes[action->node];
    struct dispatch_attempt *attempt = &request->attempts[request->attempts[0].number != 0];
    *attempt = (struct dispatch_attempt){.request = request,
                                         .number = action->attempt,
                                         .node = action->node,
                                         .sent = action->sent,
                                         .next_seq = 1,
                                         .n_tokens = action->n_tokens,
                                         .next = node->attempts};
    if (node->attempts) node->attempts->previous = attempt;
    node->attempts = attempt;
    node->n_attempts++;
    node->n_sent++;
    request->n_sends += !action->hedge;
    if (!request->sent_ns) request->sent_ns = dispatch->real_ns;
    dispatch_past_send(request, attempt, action->hedge);
    dispatch->stats.n_resumed += action->n_tokens > 0;
    /* Its node died after the last word of the answer and before the end. */
    if (action->n_tokens > 0 && dispatch_request_complete(request) && !request->silent)
        dispatch_todo(request, TODO_COMPLETE);
    else
        run_send(attempt);
}

void dispatch_stop_at(struct dispatch *dispatch, const struct dispatch_node *node, uint64_t request,
                      uint32_t attempt)
{
    const struct grid_msg msg = {
        .type = GRID_STOP,
        .stop = {.boot = dispatch->cfg.boot, .request = request, .attempt = attempt}};
    dispatch_send(dispatch, "run", node->id, &msg);
}

static struct dispatch_attempt *attempt_find(const struct dispatch *dispatch, uint64_t number,
                                             uint32_t attempt, uint32_t node)
{
    struct dispatch_request *request = dispatch_request_find(dispatch, number);
    for (int i = 0; request && attempt && i < 2; i++)
        if (request->attempts[i].number == attempt && request->attempts[i].node == node)
            return &request->attempts[i];
    return NULL;
}

void dispatch_attempt_close(struct dispatch_attempt *attempt, const char *end)
{
    struct dispatch_node *node = &attempt->request->dispatch->nodes[attempt->node];
    dispatch_past_close(attempt, attempt->n_tokens, attempt->request->n_done, end);
    if (attempt->previous)
        attempt->previous->next = attempt->next;
    else
        node->attempts = attempt->next;
    if (attempt->next) attempt->next->previous = attempt->previous;
    node->n_attempts--;
    attempt->number = 0;
}

void dispatch_attempt_stop(struct dispatch *dispatch, const struct router_action *action)
{
    struct dispatch_node *node = &dispatch->nodes[action->node];
    struct dispatch_attempt *attempt =
        attempt_find(dispatch, action->request, action->attempt, action->node);
    bool dead = router_nodes(dispatch->router)->nodes[action->node].health == NODE_DEAD;
    if (attempt) {
        node->n_moved += dead;
        dispatch_attempt_close(attempt, dead ? "the node died" : "stopped");
    }
    if (node->used) dispatch_stop_at(dispatch, node, action->request, action->attempt);
}

/* --- SYNC --- */

static void sync_send(struct dispatch *dispatch, const struct dispatch_node *node,
                      const struct grid_sync_entry *entries, size_t n)
{
    const struct grid_msg msg = {.type = GRID_SYNC,
                                 .sync = {.boot = dispatch->cfg.boot, .v = entries, .n = n}};
    dispatch_send(dispatch, "run", node->id, &msg);
}

void dispatch_hello(struct dispatch *dispatch, const struct dispatch_node *node)
{
    sync_send(dispatch, node, NULL, 0);
}

static struct grid_sync_entry entry_of(const struct dispatch_attempt *attempt, bool resend)
{
    return (struct grid_sync_entry){.request = attempt->request->number,
                                    .attempt = attempt->number,
                                    .next_seq = attempt->next_seq,
                                    .resend = resend};
}

static void sync_node(struct dispatch *dispatch, const struct dispatch_node *node, bool resend)
{
    struct grid_sync_entry entries[64];
    size_t n_max = sizeof entries / sizeof *entries, n = 0;
    struct grid_sync_entry *v = entries;
    if (node->n_attempts > n_max) {
        size_t n_wanted = node->n_attempts < SYNC_ENTRIES_MAX ? node->n_attempts : SYNC_ENTRIES_MAX;
        struct grid_sync_entry *more = sl_malloc(n_wanted * sizeof *more);
        if (more) {
            v = more;
            n_max = n_wanted;
        }
    }
    for (const struct dispatch_attempt *at = node->attempts; at; at = at->next) {
        v[n++] = entry_of(at, resend);
        if (n < n_max && at->next) continue;
        sync_send(dispatch, node, v, n);
        n = 0;
    }
    if (v != entries) sl_free(v);
}

void dispatch_sync_all(struct dispatch *dispatch, bool resend)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++)
        if (dispatch->nodes[i].n_attempts) sync_node(dispatch, &dispatch->nodes[i], resend);
}

/* Something is missing: asks for it at once, but not twice before an answer can be here. */
static void ask(struct dispatch *dispatch, const struct dispatch_node *node,
                struct dispatch_attempt *attempt)
{
    int64_t wait_ns = (int64_t)(2e9 * dispatch_rtt_s(dispatch, node));
    if (wait_ns < ASK_AGAIN_MIN_NS) wait_ns = ASK_AGAIN_MIN_NS;
    if (attempt->asked_ns && dispatch->real_ns - attempt->asked_ns < wait_ns) return;
    const struct grid_sync_entry entry = entry_of(attempt, true);
    attempt->asked_ns = dispatch->real_ns;
    sync_send(dispatch, node, &entry, 1);
}

/* --- from the node --- */

static struct router_event news_of(const struct dispatch_attempt *attempt,
                                   enum router_event_kind kind)
{
    return (struct router_event){.kind = kind,
                                 .request = attempt->request->number,
                                 .attempt = attempt->number,
                                 .node = attempt->node,
                                 .n_tokens = attempt->n_tokens};
}

static void tell_alive(struct dispatch *dispatch, const struct dispatch_attempt *attempt)
{
    const struct router_event event = news_of(attempt, ROUTER_ACCEPTED);
    dispatch_step(dispatch, &event);
}

/* The node does not know it: the RUN was lost, or the node has forgotten everything. */
static void on_gone(struct dispatch *dispatch, struct dispatch_node *node,
                    struct dispatch_attempt *attempt)
{
    int64_t wait_ns = RUN_AGAIN_MIN_NS + (int64_t)attempt->request->body.len * RUN_NS_PER_BYTE;
    if (!attempt->heard) {
        if (dispatch->real_ns - attempt->run_ns < wait_ns) return;
        dispatch->stats.n_runs_again++;
        run_send(attempt);
        return;
    }
    struct router_event event = news_of(attempt, ROUTER_FAILED);
    event.status = SL_UNAVAILABLE;
    event.reason = "the node has forgotten the request";
    node->n_failed++;
    dispatch_attempt_close(attempt, "the node has forgotten it");
    dispatch_step(dispatch, &event);
}

/* A node that lacks the model, or from which it was removed while the request was there, is none to
 * ask, as long as others run it, have its file, or will have a part of it. */
static bool others_have_it(const struct dispatch_attempt *attempt)
{
    const struct dispatch *dispatch = attempt->request->dispatch;
    const struct dispatch_model *model = attempt->request->model;
    const struct node_table *table = router_nodes(dispatch->router);
    const struct hosted_model *here = node_table_hosted(table, attempt->node, model->number);
    uint32_t runs_here = here && here->rank != NODE_NONE;
    uint32_t is_here = dispatch_model_is_at(model, attempt->node);
    return table->n_by_model[model->number] > runs_here || model->n_holders > is_here ||
           dispatch_chain_of(dispatch, model->number);
}

static void on_bad_end(struct dispatch *dispatch, struct dispatch_node *node,
                       struct dispatch_attempt *attempt, const struct grid_event *last)
{
    bool refused = last->type == GRID_EVENT_REFUSED;
    sl_status status = last->node.status == SL_OK ? SL_INTERNAL : last->node.status;
    struct router_event event = news_of(attempt, ROUTER_FAILED);
    if (status == SL_NOT_FOUND && others_have_it(attempt)) status = SL_UNAVAILABLE;
    if (refused && (status == SL_BUSY || status == SL_UNAVAILABLE)) {
        event.kind = ROUTER_REFUSED;
        event.retry_after_ns = last->node.retry_after_ms * MS;
        node->n_refused++;
    } else {
        node->n_failed++;
    }
    event.status = status;
    event.reason = last->node.message ? last->node.message : "";
    if (last->type == GRID_EVENT_NODE && last->node.type == NODE_EVENT_DONE)
        event.reason = "the node ended the answer before its end";
    dispatch_stop_at(dispatch, node, event.request, event.attempt); /* it may forget its events */
    dispatch_attempt_close(attempt, event.kind == ROUTER_REFUSED ? "full" : "failed");
    dispatch_step(dispatch, &event);
}

/* Keeps what is not counted by the router; finds how the events end. */
static const struct grid_event *scan(struct dispatch_attempt *attempt, const struct grid_event *v,
                                     size_t n, uint64_t *n_counted, const struct node_event **done)
{
    const struct grid_event *last = NULL;
    for (size_t i = 0; i < n && !last; i++) {
        const struct node_event *event = &v[i].node;
        bool told = v[i].type == GRID_EVENT_NODE;
        *n_counted += dispatch_counts(&v[i]);
        if (told && event->type == NODE_EVENT_STARTED && !attempt->has_started) {
            attempt->has_started = true;
            attempt->started = *event;
            if (event->traits) attempt->traits = *event->traits;
        }
        if (told && event->type == NODE_EVENT_DONE) *done = event;
        if (grid_event_is_last(&v[i])) last = &v[i];
    }
    return last;
}

/* Is the answer whole with these events? A node that ends it without having given it has failed. */
static bool is_whole(const struct dispatch_request *request, const struct grid_event *v, size_t n)
{
    bool done[ENGINE_CHOICES_MAX] = {false};
    int32_t n_done = 0;
    bool has_result = request->has_result || request->task == NODE_LOAD;
    for (int32_t i = 0; i < request->n_choices; i++) done[i] = request->choices[i].done;
    for (size_t i = 0; i < n; i++) {
        has_result = has_result || v[i].node.type == NODE_EVENT_RESULT;
        if (v[i].node.type == NODE_EVENT_CHOICE_DONE) done[v[i].node.choice] = true;
    }
    for (int32_t i = 0; i < request->n_choices; i++) n_done += done[i];
    return request->task == NODE_GENERATE ? n_done == request->n_choices : has_result;
}

static void take(struct dispatch *dispatch, struct dispatch_node *node,
                 struct dispatch_attempt *attempt, const struct grid_event *v, size_t n)
{
    uint64_t n_counted = 0, number = attempt->request->number;
    uint32_t attempt_number = attempt->number;
    const struct node_event *done = NULL;
    const struct grid_event *last = scan(attempt, v, n, &n_counted, &done);
    if (done && !attempt->request->silent && !is_whole(attempt->request, v, n)) done = NULL;
    struct router_event event = news_of(attempt, n_counted ? ROUTER_TOKENS : ROUTER_ACCEPTED);
    if (done) {
        event.kind = ROUTER_FINISHED;
        dispatch_stop_at(dispatch, node, number, attempt_number);
        dispatch_past_close(attempt, event.n_tokens + n_counted, attempt->request->n_choices,
                            "finished");
    }
    event.n_tokens += n_counted;
    dispatch->window = (struct dispatch_window){.attempt = attempt, .v = v, .n = n, .done = done};
    dispatch_step(dispatch, &event);
    dispatch->window = (struct dispatch_window){0};
    attempt = attempt_find(dispatch, number, attempt_number, node->number);
    if (!attempt) return;
    attempt->n_tokens = event.n_tokens;
    if (last && !done) on_bad_end(dispatch, node, attempt, last);
}

void dispatch_on_events(struct dispatch *dispatch, struct dispatch_node *node,
                        const struct grid_events *events)
{
    struct dispatch_attempt *attempt =
        attempt_find(dispatch, events->request, events->attempt, node->number);
    bool gone = events->n > 0 && events->v[0].type == GRID_EVENT_GONE;
    if (!attempt) {
        dispatch_heard(dispatch, node);
        if (!gone) dispatch_stop_at(dispatch, node, events->request, events->attempt);
        return;
    }
    if (gone) {
        dispatch_heard(dispatch, node);
        on_gone(dispatch, node, attempt);
        return;
    }
    attempt->heard = true;
    if (events->first_seq > attempt->next_seq || events->first_seq == 0) {
        dispatch->stats.n_gaps++;
        ask(dispatch, node, attempt);
        tell_alive(dispatch, attempt);
        return;
    }
    uint64_t n_known = attempt->next_seq - events->first_seq;
    if (n_known >= events->n) {
        dispatch->stats.n_duplicates++;
        tell_alive(dispatch, attempt);
        return;
    }
    attempt->next_seq = events->first_seq + events->n;
    take(dispatch, node, attempt, events->v + n_known, events->n - n_known);
}

void dispatch_on_beat(struct dispatch *dispatch, struct dispatch_node *node,
                      const struct grid_beat *beat)
{
    size_t n_stops = 0;
    dispatch_heard(dispatch, node);
    for (size_t i = 0; i < beat->n; i++) {
        const struct grid_beat_entry *entry = &beat->v[i];
        struct dispatch_attempt *attempt =
            attempt_find(dispatch, entry->request, entry->attempt, node->number);
        if (!attempt) {
            if (n_stops++ < BEAT_STOPS_MAX)
                dispatch_stop_at(dispatch, node, entry->request, entry->attempt);
            continue;
        }
        attempt->heard = true;
        /* Messages keep their order: what this one knows of and we do not was lost. */
        if (entry->last_seq >= attempt->next_seq) ask(dispatch, node, attempt);
        tell_alive(dispatch, attempt);
    }
}
