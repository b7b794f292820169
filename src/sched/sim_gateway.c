/* sim_gateway.c: a simulated gateway: the production router, fed with what arrives. */
#include "sched/sim_int.h"

#define PREFIX_BLOCKS (1u << 18) /* of the index, when the trace has prefixes; 8 MiB a gateway */
#define REQUESTS_MAX 65536u      /* live at one gateway */
#define MESSAGE_BYTES 500
#define TOKEN_BYTES 5 /* of text, about */

static void router_config_fill(const struct sim *sim, uint32_t number, struct router_config *out)
{
    const struct sim_config *config = sim->config;
    router_config_default(out);
    out->seed = config->seed + number;
    out->policy = config->policy;
    out->n_requests_max = sim->trace->n < REQUESTS_MAX ? (uint32_t)sim->trace->n : REQUESTS_MAX;
    out->n_explained = 0;
    out->hedge_share = config->hedge_share;
    out->table.n_nodes_max = config->n_nodes;
    out->table.n_models_max = config->n_models;
    out->table.n_hosted_max = SIM_NODE_MODELS_MAX;
    out->table.n_prefix_blocks = sim->trace->n_blocks ? PREFIX_BLOCKS : PREFIX_WAYS;
    out->table.n_gateways =
        config->n_gateways_assumed ? config->n_gateways_assumed : config->n_gateways;
    int64_t period_ns = sim_ns(config->telemetry_s);
    if (out->table.suspect_ns < 3 * period_ns) out->table.suspect_ns = 3 * period_ns;
    if (out->table.dead_ns < 10 * period_ns) out->table.dead_ns = 10 * period_ns;
    if (out->silence_ns < 3 * SIM_PROGRESS_TICKS * period_ns)
        out->silence_ns = 3 * SIM_PROGRESS_TICKS * period_ns;
}

sl_status sim_gateway_init(struct sim *sim, uint32_t number, struct sl_err *err)
{
    struct router_config config;
    router_config_fill(sim, number, &config);
    sim->gateways[number].wake_ns = SCHED_NEVER;
    return router_create(&config, &sim->gateways[number].router, err);
}

static void to_node(struct sim *sim, uint32_t gateway, const struct router_action *action,
                    enum sim_event_kind kind)
{
    struct sim_event message = {.kind = kind,
                                .node = action->node,
                                .gateway = gateway,
                                .request = (uint32_t)action->request,
                                .attempt = action->attempt,
                                .n_tokens = (uint32_t)action->n_tokens,
                                .value = action->sent};
    const struct sim_request *request = &sim->trace->requests[action->request];
    uint32_t n_bytes = MESSAGE_BYTES;
    if (kind == SIM_SEND) n_bytes += TOKEN_BYTES * (request->prompt_tokens + message.n_tokens);
    if (!sim_way(sim, action->node, gateway, true, n_bytes, &message.at_ns)) return;
    if (kind == SIM_SEND) message.at_ns += sim_ns(sim->machines[action->node].spec->overhead_s);
    sim_queue_push(&sim->queue, message);
}

static void carry_out(struct sim *sim, uint32_t number, const struct router_action *action)
{
    struct sim_gateway *gateway = &sim->gateways[number];
    struct sim_outcome *outcome = &sim->outcomes[action->request];
    switch (action->kind) {
    case ROUTER_SEND:
        outcome->node = action->node;
        to_node(sim, number, action, SIM_SEND);
        break;
    case ROUTER_STOP: to_node(sim, number, action, SIM_STOP); break;
    case ROUTER_DELIVER:
        if (outcome->first_ns < 0) outcome->first_ns = sim->now_ns;
        break;
    case ROUTER_END:
        outcome->end_ns = sim->now_ns;
        outcome->status = action->status;
        sim->n_ended++;
        break;
    case ROUTER_WAKE_AT:
        if (action->at_ns == SCHED_NEVER || action->at_ns >= gateway->wake_ns) break;
        gateway->wake_ns = action->at_ns > sim->now_ns ? action->at_ns : sim->now_ns;
        sim_queue_push(&sim->queue, (struct sim_event){.at_ns = gateway->wake_ns,
                                                       .kind = SIM_ROUTER_WAKE,
                                                       .gateway = number});
        break;
    default: break;
    }
}

void sim_gateway_step(struct sim *sim, uint32_t number, const struct router_event *event)
{
    const struct router_action *actions;
    size_t n;
    sl_status status = router_step(sim->gateways[number].router, event, sim->now_ns, &actions, &n);
    if (status == SL_BUSY && event->kind == ROUTER_SUBMIT) {
        sim->outcomes[event->request].end_ns = sim->now_ns;
        sim->outcomes[event->request].status = status;
        sim->n_ended++;
    } else if (status != SL_OK && sim->status == SL_OK) {
        sim->status = status;
    }
    for (size_t i = 0; i < n; i++) carry_out(sim, number, &actions[i]);
}

/* As gateways do: an answer is like the others, unless it may not be as long. */
static uint64_t output_expected(const struct sim *sim, const struct sim_request *request)
{
    uint64_t max = request->max_tokens ? request->max_tokens : UINT64_MAX;
    return sim->output_expected < max ? sim->output_expected : max;
}

void sim_gateway_arrival(struct sim *sim, uint32_t number)
{
    const struct sim_request *request = &sim->trace->requests[number];
    struct router_submit submit = {
        .ask = {.model = request->model,
                .prompt_tokens = request->prompt_tokens,
                .output_tokens = output_expected(sim, request),
                .blocks = sim->trace->blocks ? sim->trace->blocks + request->block_at : NULL,
                .n_blocks = request->n_blocks,
                .block_tokens = sim->trace->block_tokens},
        .qos_class = request->qos_class,
    };
    sim_gateway_step(
        sim, number % sim->n_gateways,
        &(struct router_event){.kind = ROUTER_SUBMIT, .request = number, .submit = &submit});
}

void sim_gateway_news(struct sim *sim, const struct sim_event *event)
{
    struct sim_outcome *outcome = &sim->outcomes[event->request];
    if (sim->machines[event->node].cut >> event->gateway & 1) return;
    if (event->value == ROUTER_FINISHED && outcome->end_ns < 0) outcome->node = event->node;
    sim_gateway_step(sim, event->gateway,
                     &(struct router_event){.kind = (enum router_event_kind)event->value,
                                            .request = event->request,
                                            .attempt = event->attempt,
                                            .node = event->node,
                                            .status = SL_UNAVAILABLE,
                                            .reason = "the node gave it up",
                                            .n_tokens = event->n_tokens});
}

void sim_gateway_report(struct sim *sim, const struct sim_event *event)
{
    if (sim->machines[event->node].cut >> event->gateway & 1) return;
    struct node_report report = *sim_snapshot_report(event->snapshot);
    report.covers = event->value;
    report.facts.rtt_s = sim_rtt_s(sim, event->node, event->gateway);
    sim_gateway_step(sim, event->gateway,
                     &(struct router_event){.kind = ROUTER_REPORT, .report = &report});
}

void sim_gateway_wake(struct sim *sim, const struct sim_event *event)
{
    struct sim_gateway *gateway = &sim->gateways[event->gateway];
    if (event->at_ns != gateway->wake_ns) return;
    gateway->wake_ns = SCHED_NEVER;
    sim_gateway_step(sim, event->gateway, &(struct router_event){.kind = ROUTER_TICK});
}
