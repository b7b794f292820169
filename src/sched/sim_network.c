/* sim_network.c: the way between a gateway and a node: the node's line to its site, and the link
 * between the two sites. Messages keep their order, as a TCP connection has it. */
#include "base/rng.h"
#include "sched/sim_int.h"

#define STREAM_JITTER 101
#define STREAM_LOSS 103
#define SYNC_S 0.25 /* until a gateway or a node asks for a message that did not come */

static const struct sim_link here = {0};

static uint32_t gateway_site(const struct sim *sim, uint32_t gateway)
{
    return sim->config->gateway_sites ? sim->config->gateway_sites[gateway] : 0;
}

static const struct sim_link *link_of(const struct sim *sim, uint32_t from, uint32_t to)
{
    const struct sim_config *config = sim->config;
    return config->links && from != to ? &config->links[(size_t)from * config->n_sites + to]
                                       : &here;
}

static double seconds_of(double n_bytes, double bits_per_s)
{
    return bits_per_s > 0 ? n_bytes * 8 / bits_per_s : 0;
}

double sim_rtt_s(const struct sim *sim, uint32_t node, uint32_t gateway)
{
    const struct sim_node *spec = sim->machines[node].spec;
    return spec->rtt_s + link_of(sim, spec->site, gateway_site(sim, gateway))->rtt_s;
}

bool sim_way(struct sim *sim, uint32_t node, uint32_t gateway, bool to_node, uint32_t n_bytes,
             int64_t *out_ns)
{
    struct sim_machine *machine = &sim->machines[node];
    const struct sim_node *spec = machine->spec;
    if (machine->cut >> gateway & 1) return false;
    const struct sim_link *link = link_of(sim, spec->site, gateway_site(sim, gateway));
    uint64_t number = sim->n_draws++;
    double lot = sl_rng_uniform(sim->config->seed, STREAM_JITTER, number);
    double way_s = (spec->rtt_s + link->rtt_s + (spec->jitter_s + link->jitter_s) * lot) / 2;
    way_s += seconds_of(n_bytes, spec->bits_per_s) + seconds_of(n_bytes, link->bits_per_s);
    if (link->loss > 0 && sl_rng_uniform(sim->config->seed, STREAM_LOSS, number) < link->loss)
        way_s += SYNC_S + spec->rtt_s + link->rtt_s;
    int64_t at_ns = sim->now_ns + sim_ns(way_s);
    int64_t *last_ns = &machine->arrives_ns[gateway * 2 + to_node];
    if (at_ns < *last_ns) at_ns = *last_ns;
    *out_ns = *last_ns = at_ns;
    return true;
}

double sim_transfer_s(const struct sim *sim, uint32_t node, uint32_t from, uint64_t n_bytes)
{
    const struct sim_node *spec = sim->machines[node].spec;
    double least_s = seconds_of((double)n_bytes, spec->bits_per_s), other_s;
    if (from == SIM_NONE) {
        other_s = seconds_of((double)n_bytes, sim->config->origin_bits_per_s);
        return least_s > other_s ? least_s : other_s;
    }
    const struct sim_node *source = sim->machines[from].spec;
    other_s = seconds_of((double)n_bytes, source->bits_per_s);
    if (other_s > least_s) least_s = other_s;
    other_s = seconds_of((double)n_bytes, link_of(sim, spec->site, source->site)->bits_per_s);
    return other_s > least_s ? other_s : least_s;
}
