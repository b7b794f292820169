/* sim_failure.c: what befalls machines, at set times or by chance. */
#include "base/rng.h"
#include "sched/sim_int.h"

#include <math.h>

#define STREAM_FAILURE 104

static int64_t later(const struct sim *sim, double seconds)
{
    return sim->now_ns + sim_ns(seconds);
}

/* An exponential time around the mean, from the node's own numbers. */
static double by_chance(struct sim *sim, uint32_t node, double mean)
{
    uint64_t lot = (uint64_t)node << 32 | sim->machines[node].n_lots++;
    return -mean * log(1 - sl_rng_uniform(sim->config->seed, STREAM_FAILURE, lot));
}

static void begin(struct sim *sim, uint32_t number, uint32_t node)
{
    const struct sim_failure *failure = &sim->config->failures[number];
    double at_s = failure->at_s;
    if (failure->every_s > 0) at_s += by_chance(sim, node, failure->every_s);
    sim_queue_push(&sim->queue, (struct sim_event){.at_ns = later(sim, at_s),
                                                   .kind = SIM_FAIL,
                                                   .node = node,
                                                   .request = number});
}

void sim_failures_begin(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config->n_failures; i++) {
        uint32_t node = sim->config->failures[i].node;
        uint32_t last = node == SIM_NONE ? sim->config->n_nodes : node + 1;
        for (uint32_t k = node == SIM_NONE ? 0 : node; k < last; k++) begin(sim, i, k);
    }
}

void sim_fail(struct sim *sim, const struct sim_event *event)
{
    const struct sim_failure *failure = &sim->config->failures[event->request];
    struct sim_machine *machine = &sim->machines[event->node];
    switch (failure->kind) {
    case SIM_CRASH: sim_machine_crash(sim, event->node); break;
    case SIM_SLOW:
        machine->speed *= failure->factor;
        sim_engine_interrupt(sim, event->node);
        break;
    case SIM_PARTITION:
        machine->cut |= failure->gateway < 0 ? UINT32_MAX : UINT32_C(1) << failure->gateway;
        break;
    default: break;
    }
    double for_s = failure->for_s;
    if (failure->every_s > 0) for_s = by_chance(sim, event->node, for_s);
    struct sim_event heal = *event;
    heal.kind = SIM_HEAL;
    heal.at_ns = later(sim, for_s);
    sim_queue_push(&sim->queue, heal);
}

void sim_heal(struct sim *sim, const struct sim_event *event)
{
    const struct sim_failure *failure = &sim->config->failures[event->request];
    struct sim_machine *machine = &sim->machines[event->node];
    switch (failure->kind) {
    case SIM_CRASH: sim_machine_recover(sim, event->node); break;
    case SIM_SLOW: machine->speed /= failure->factor; break;
    case SIM_PARTITION:
        machine->cut &= failure->gateway < 0 ? 0 : ~(UINT32_C(1) << failure->gateway);
        break;
    default: break;
    }
    if (failure->every_s > 0) begin(sim, event->request, event->node);
}

/* The bus has noticed that the node's connection is gone. */
void sim_gone(struct sim *sim, const struct sim_event *event)
{
    if (sim->machines[event->node].boot != event->value) return;
    for (uint32_t g = 0; g < sim->n_gateways; g++)
        sim_gateway_step(sim, g,
                         &(struct router_event){.kind = ROUTER_NODE_GONE, .node = event->node});
}
