/* virtual_cluster.c: see virtual_cluster.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "support/prop.h"
#include "support/virtual_cluster.h"

#define MS INT64_C(1000000)
#define CALM_STEPS_MAX 20000 /* far more than any schedule has needed */

static void step(struct cluster *cluster, const struct router_event *event);

/* --- messages --- */

static void post(struct cluster *cluster, const struct cluster_message *message)
{
    if (cluster->n_messages == CLUSTER_MESSAGES_MAX) {
        /* A network has room for so much: something else is lost, but never in calm weather. */
        assert_false(cluster->calm);
        cluster->messages[prop_draw(CLUSTER_MESSAGES_MAX)] = *message;
        return;
    }
    cluster->messages[cluster->n_messages++] = *message;
}

static void tell(struct cluster *cluster, uint32_t number, const struct cluster_job *job,
                 enum router_event_kind news)
{
    struct cluster_message message = {.kind = TO_ROUTER_NEWS,
                                      .news = news,
                                      .node = number,
                                      .request = job->request,
                                      .attempt = job->attempt,
                                      .n_tokens = job->n_done};
    post(cluster, &message);
}

/* --- nodes --- */

static uint32_t n_jobs(const struct cluster_node *node)
{
    uint32_t n = node->n_foreign;
    for (int i = 0; i < CLUSTER_JOBS_MAX; i++) n += node->jobs[i].used;
    return n;
}

static void node_send(struct cluster *cluster, const struct cluster_message *message)
{
    struct cluster_node *node = &cluster->nodes[message->node];
    struct cluster_job job = {.used = true,
                              .request = message->request,
                              .attempt = message->attempt,
                              .n_done = message->n_tokens};
    if (message->sent > node->seen) node->seen = message->sent;
    for (int i = 0; i < CLUSTER_JOBS_MAX && n_jobs(node) < node->n_slots + node->n_queue; i++) {
        if (node->jobs[i].used) continue;
        node->jobs[i] = job;
        tell(cluster, message->node, &job, ROUTER_ACCEPTED);
        return;
    }
    tell(cluster, message->node, &job, ROUTER_REFUSED);
}

static void node_stop(struct cluster *cluster, const struct cluster_message *message)
{
    struct cluster_node *node = &cluster->nodes[message->node];
    for (int i = 0; i < CLUSTER_JOBS_MAX; i++)
        if (node->jobs[i].request == message->request && node->jobs[i].attempt == message->attempt)
            node->jobs[i].used = false;
}

static void node_report(struct cluster *cluster, uint32_t number)
{
    struct cluster_node *node = &cluster->nodes[number];
    uint32_t n = n_jobs(node);
    struct cluster_message message = {
        .kind = TO_ROUTER_REPORT,
        .node = number,
        .report = {.node = number,
                   .boot = node->boot,
                   .version = ++node->version,
                   .covers = node->seen,
                   .n_hosted = 1,
                   .facts = {.rtt_s = 0.001 * number}},
        .load = {.state = SCHED_READY,
                 .n_slots = node->n_slots,
                 .n_queue_max = node->n_queue,
                 .n_running = n < node->n_slots ? n : node->n_slots,
                 .n_waiting = n < node->n_slots ? 0 : n - node->n_slots,
                 .prefill_tps = 100,
                 .decode_tps = 10,
                 .service_s = 1},
    };
    post(cluster, &message);
}

static void job_finish(struct cluster *cluster, uint32_t number, struct cluster_job *job)
{
    job->used = false;
    tell(cluster, number, job, ROUTER_FINISHED);
}

static void node_work(struct cluster *cluster, uint32_t number)
{
    struct cluster_node *node = &cluster->nodes[number];
    struct cluster_job *job = &node->jobs[prop_draw(CLUSTER_JOBS_MAX)];
    if (!node->alive || !job->used) return;
    struct cluster_request *request = &cluster->requests[job->request];
    if (!cluster->calm && prop_draw(16) == 0) {
        job->used = false;
        tell(cluster, number, job, ROUTER_FAILED);
        return;
    }
    uint64_t left = request->length - job->n_done;
    job->n_done += left ? 1 + prop_draw(left) : 0;
    if (job->n_done > request->n_made[job->attempt]) request->n_made[job->attempt] = job->n_done;
    if (job->n_done == request->length)
        job_finish(cluster, number, job);
    else
        tell(cluster, number, job, ROUTER_TOKENS);
}

/* What the node has says that it is still there. */
static void node_repeat(struct cluster *cluster, uint32_t number)
{
    const struct cluster_node *node = &cluster->nodes[number];
    for (int i = 0; i < CLUSTER_JOBS_MAX; i++)
        if (node->alive && node->jobs[i].used)
            tell(cluster, number, &node->jobs[i], ROUTER_ACCEPTED);
}

static void node_crash(struct cluster *cluster, uint32_t number)
{
    struct cluster_node *node = &cluster->nodes[number];
    if (!node->alive) return;
    node->alive = false;
    memset(node->jobs, 0, sizeof node->jobs);
    if (prop_draw(2))
        step(cluster, &(struct router_event){.kind = ROUTER_NODE_GONE, .node = number});
}

static void node_start(struct cluster *cluster, uint32_t number)
{
    struct cluster_node *node = &cluster->nodes[number];
    if (node->alive) return;
    node->alive = true;
    node->boot++;
    node->version = node->seen = 0;
    node_report(cluster, number);
}

/* --- what the router does is checked --- */

static void attempt_over(struct cluster *cluster, struct cluster_request *request, uint32_t attempt,
                         bool lost)
{
    if (!request->live[attempt]) return;
    request->live[attempt] = false;
    request->n_live--;
    request->n_lost += lost;
    cluster->nodes[request->node[attempt]].n_outstanding--;
}

static void check_send(struct cluster *cluster, const struct router_action *action)
{
    struct cluster_request *request = &cluster->requests[action->request];
    struct cluster_node *node = &cluster->nodes[action->node];
    assert_true(request->submitted && !request->ended && !request->cancelled);
    assert_true(action->attempt < CLUSTER_ATTEMPTS_MAX && !request->live[action->attempt]);
    assert_true(request->n_live == (action->hedge ? 1 : 0));
    assert_int_equal(action->n_tokens, request->n_delivered);
    for (uint32_t i = 0; i < CLUSTER_ATTEMPTS_MAX; i++)
        assert_false(request->live[i] && request->node[i] == action->node);
    request->live[action->attempt] = true;
    request->n_live++;
    request->node[action->attempt] = action->node;
    request->n_made[action->attempt] = action->n_tokens;
    assert_true(++node->n_outstanding <= node->n_slots + node->n_queue);
    cluster->n_hedges += action->hedge;
    struct cluster_message message = {.kind = TO_NODE_SEND,
                                      .request = action->request,
                                      .attempt = action->attempt,
                                      .node = action->node,
                                      .n_tokens = action->n_tokens,
                                      .sent = action->sent};
    post(cluster, &message);
}

static void check_stop(struct cluster *cluster, const struct router_action *action)
{
    attempt_over(cluster, &cluster->requests[action->request], action->attempt, true);
    struct cluster_message message = {.kind = TO_NODE_STOP,
                                      .request = action->request,
                                      .attempt = action->attempt,
                                      .node = action->node};
    post(cluster, &message);
}

static void check_deliver(struct cluster *cluster, const struct router_action *action)
{
    struct cluster_request *request = &cluster->requests[action->request];
    assert_true(request->submitted && !request->ended && !request->cancelled);
    assert_int_equal(action->n_from, request->n_delivered);
    assert_true(action->n_tokens > action->n_from);
    assert_true(action->n_tokens <= request->n_made[action->attempt]);
    assert_true(request->n_live <= 1); /* the other one was stopped before */
    request->n_delivered = action->n_tokens;
    request->n_lost = 0;
}

static void check_end(struct cluster *cluster, const struct router_action *action)
{
    struct cluster_request *request = &cluster->requests[action->request];
    assert_true(request->submitted && !request->ended && !request->cancelled);
    assert_int_equal(request->n_live, 0);
    if (action->status == SL_OK) assert_int_equal(request->n_delivered, request->length);
    if (action->status == SL_TIMEOUT) {
        assert_true(cluster->now_ns >= request->deadline_ns);
        assert_int_equal(request->n_delivered, 0);
    }
    if (action->status == SL_UNAVAILABLE)
        assert_true(request->n_lost >= cluster->config.attempts_max);
    request->ended = true;
    request->status = action->status;
    cluster->n_ends[action->status]++;
}

static void check_action(struct cluster *cluster, const struct router_action *action)
{
    cluster->n_actions[action->kind]++;
    switch (action->kind) {
    case ROUTER_SEND: check_send(cluster, action); break;
    case ROUTER_STOP: check_stop(cluster, action); break;
    case ROUTER_DELIVER: check_deliver(cluster, action); break;
    case ROUTER_END: check_end(cluster, action); break;
    default: cluster->wake_ns = action->at_ns; break;
    }
}

static void check_twin(struct cluster *cluster, const struct router_event *event,
                       const struct router_action *actions, size_t n)
{
    const struct router_action *twin_actions;
    size_t n_twin;
    if (!cluster->twin) return;
    assert_int_equal(router_step(cluster->twin, event, cluster->now_ns, &twin_actions, &n_twin),
                     SL_OK);
    assert_int_equal(n, n_twin);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(actions[i].kind, twin_actions[i].kind);
        assert_int_equal(actions[i].request, twin_actions[i].request);
        assert_int_equal(actions[i].node, twin_actions[i].node);
        assert_int_equal(actions[i].at_ns, twin_actions[i].at_ns);
    }
}

static void step(struct cluster *cluster, const struct router_event *event)
{
    const struct router_action *actions;
    size_t n;
    assert_int_equal(router_step(cluster->router, event, cluster->now_ns, &actions, &n), SL_OK);
    assert_true(n > 0 && actions[n - 1].kind == ROUTER_WAKE_AT);
    check_twin(cluster, event, actions, n);
    for (size_t i = 0; i < n; i++) check_action(cluster, &actions[i]);
    struct router_totals totals;
    uint32_t n_live = 0, n_attempts = 0;
    for (uint32_t i = 0; i < cluster->n_requests; i++) {
        n_live += !cluster->requests[i].ended && !cluster->requests[i].cancelled;
        n_attempts += cluster->requests[i].n_live;
    }
    router_get_totals(cluster->router, &totals);
    assert_int_equal(totals.n_live, n_live);
    assert_int_equal(totals.n_attempts, n_attempts);
}

/* --- what may happen --- */

static void deliver_news(struct cluster *cluster, const struct cluster_message *message)
{
    struct cluster_request *request = &cluster->requests[message->request];
    bool terminal = message->news == ROUTER_REFUSED || message->news == ROUTER_FAILED ||
                    message->news == ROUTER_FINISHED;
    if (terminal) attempt_over(cluster, request, message->attempt, message->news == ROUTER_FAILED);
    step(cluster, &(struct router_event){.kind = message->news,
                                         .request = message->request,
                                         .attempt = message->attempt,
                                         .node = message->node,
                                         .status = SL_UNAVAILABLE,
                                         .n_tokens = message->n_tokens});
}

/* Any message, not the oldest: the network reorders. */
static void deliver(struct cluster *cluster, bool lose)
{
    if (cluster->n_messages == 0) return;
    size_t at = cluster->calm ? 0 : prop_draw(cluster->n_messages);
    struct cluster_message message = cluster->messages[at];
    cluster->n_messages--;
    if (cluster->calm)
        memmove(cluster->messages, cluster->messages + 1,
                cluster->n_messages * sizeof *cluster->messages);
    else
        cluster->messages[at] = cluster->messages[cluster->n_messages];
    struct cluster_node *node = &cluster->nodes[message.node];
    bool to_node = message.kind == TO_NODE_SEND || message.kind == TO_NODE_STOP;
    if (lose || node->cut || (to_node && !node->alive)) return;
    switch (message.kind) {
    case TO_NODE_SEND: node_send(cluster, &message); break;
    case TO_NODE_STOP: node_stop(cluster, &message); break;
    case TO_ROUTER_NEWS: deliver_news(cluster, &message); break;
    case TO_ROUTER_REPORT:
        message.report.hosted = &message.load;
        step(cluster, &(struct router_event){.kind = ROUTER_REPORT, .report = &message.report});
        break;
    }
}

static void submit(struct cluster *cluster)
{
    static const uint64_t blocks[3] = {11, 22, 33};
    uint32_t number = cluster->n_requests;
    if (number == CLUSTER_REQUESTS_MAX) return;
    struct cluster_request *request = &cluster->requests[cluster->n_requests++];
    request->submitted = true;
    request->length = 1 + prop_draw(20);
    request->deadline_ns =
        prop_draw(4) ? SCHED_NEVER : cluster->now_ns + (int64_t)prop_draw(5000) * MS;
    struct router_submit what = {.ask = {.prompt_tokens = 1 + prop_draw(100),
                                         .output_tokens = 10,
                                         .blocks = blocks,
                                         .n_blocks = prop_draw(4),
                                         .block_tokens = 16},
                                 .qos_class = (enum sched_class)prop_draw(SCHED_CLASS_COUNT),
                                 .deadline_ns = request->deadline_ns};
    step(cluster,
         &(struct router_event){.kind = ROUTER_SUBMIT, .request = number, .submit = &what});
}

static void cancel(struct cluster *cluster)
{
    if (cluster->n_requests == 0) return;
    uint32_t number = (uint32_t)prop_draw(cluster->n_requests);
    struct cluster_request *request = &cluster->requests[number];
    if (request->ended || request->cancelled) return;
    request->cancelled = true;
    step(cluster, &(struct router_event){.kind = ROUTER_CANCEL, .request = number});
    assert_int_equal(request->n_live, 0);
}

static void pass(struct cluster *cluster, int64_t ns)
{
    cluster->now_ns += ns;
    step(cluster, &(struct router_event){.kind = ROUTER_TICK});
}

void cluster_chaos(struct cluster *cluster)
{
    uint32_t number = (uint32_t)prop_draw(cluster->n_nodes);
    struct cluster_node *node = &cluster->nodes[number];
    switch (prop_draw(40)) {
    case 0: node_crash(cluster, number); break;
    case 1:
    case 2: node_start(cluster, number); break;
    case 3: node->cut = !node->cut; break;
    case 4: node->n_foreign = (uint32_t)prop_draw(node->n_slots + node->n_queue + 1); break;
    case 5:
    case 6: deliver(cluster, true); break;
    case 7: pass(cluster, (int64_t)prop_draw(4000) * MS); break;
    case 8:
        if (prop_draw(4) == 0) cancel(cluster);
        break;
    case 9:
    case 10:
    case 11: submit(cluster); break;
    case 12:
    case 13:
    case 14:
        if (node->alive) node_report(cluster, number);
        break;
    case 15: node_repeat(cluster, number); break;
    case 16:
    case 17:
    case 18:
    case 19: pass(cluster, (int64_t)prop_draw(200) * MS); break;
    case 20:
    case 21:
    case 22:
    case 23:
    case 24:
    case 25: node_work(cluster, number); break;
    default: deliver(cluster, false); break;
    }
}

static bool all_over(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->n_requests; i++)
        if (!cluster->requests[i].ended && !cluster->requests[i].cancelled) return false;
    return true;
}

void cluster_calm(struct cluster *cluster)
{
    while (cluster->n_messages > 0) deliver(cluster, false);
    cluster->calm = true;
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].cut = false;
        cluster->nodes[i].n_foreign = 0;
        node_start(cluster, i);
    }
    for (int i = 0; i < CALM_STEPS_MAX && !all_over(cluster); i++) {
        for (uint32_t k = 0; k < cluster->n_nodes; k++) {
            if (i % 8 == 0) node_report(cluster, k);
            if (i % 16 == 0) node_repeat(cluster, k);
            node_work(cluster, k);
        }
        while (cluster->n_messages > 0) deliver(cluster, false);
        pass(cluster, 100 * MS);
    }
    assert_true(all_over(cluster));
}

void cluster_begin(struct cluster *cluster, bool twin)
{
    struct sl_err err;
    memset(cluster, 0, sizeof *cluster);
    router_config_default(&cluster->config);
    cluster->config.n_requests_max = CLUSTER_REQUESTS_MAX;
    cluster->config.n_explained = (uint32_t)prop_draw(3);
    cluster->config.table.n_nodes_max = CLUSTER_NODES_MAX;
    cluster->config.table.n_models_max = 1;
    cluster->config.table.n_hosted_max = 1;
    cluster->config.table.n_prefix_blocks = 8;
    cluster->config.table.breaker.failures_max = 1 + (uint32_t)prop_draw(5);
    cluster->config.attempts_max = 3 + (uint32_t)prop_draw(14);
    cluster->config.hedge_share = prop_draw(2);
    cluster->config.retry_burst = 1 + (double)prop_draw(10);
    assert_int_equal(policy_parse(policy_preset_name(prop_draw(9)), &cluster->config.policy, &err),
                     SL_OK);
    assert_int_equal(router_create(&cluster->config, &cluster->router, &err), SL_OK);
    if (twin) assert_int_equal(router_create(&cluster->config, &cluster->twin, &err), SL_OK);
    cluster->n_nodes = 1 + (uint32_t)prop_draw(CLUSTER_NODES_MAX);
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].n_slots = 1 + (uint32_t)prop_draw(3);
        cluster->nodes[i].n_queue = (uint32_t)prop_draw(4);
        node_start(cluster, i);
    }
}

void cluster_end(struct cluster *cluster)
{
    router_destroy(cluster->router);
    router_destroy(cluster->twin);
}
