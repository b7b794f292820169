/* sim_place.c: models that follow demand: the production placement, which sees what the first
 * gateway sees, and what a load takes. */
#include "base/mem.h"
#include "sched/sim_int.h"

#define CONTROL_BYTES 200

sl_status sim_place_init(struct sim *sim, struct sl_err *err)
{
    const struct sim_config *config = sim->config;
    struct placement_config placing;
    if (!config->placement) return SL_OK;
    placement_config_default(&placing);
    placing.n_models_max = config->n_models;
    sim->n_holder_words = (config->n_nodes + 63) / 64;
    sim->waiting = sl_calloc(config->n_models, sizeof *sim->waiting);
    sim->holders = sl_calloc((size_t)config->n_models * sim->n_holder_words, sizeof *sim->holders);
    if (!sim->waiting || !sim->holders)
        return sl_err_set(err, SL_NOMEM, "no memory for %u models", config->n_models);
    sl_status status = placement_create(&placing, &sim->placement, err);
    for (uint32_t i = 0; i < config->n_models && status == SL_OK; i++) {
        const struct sim_model *model = &config->models[i];
        struct placement_model what = {.bytes = model->bytes ? model->bytes : 1,
                                       .holders = &sim->holders[(size_t)i * sim->n_holder_words],
                                       .replicas_min = model->replicas_min,
                                       .replicas_max = model->replicas_max};
        status = placement_set_model(sim->placement, i, &what);
        if (status != SL_OK) (void)sl_err_set(err, status, "model %s: its replicas", model->name);
    }
    return status;
}

void sim_place_stored(struct sim *sim, uint32_t node, uint32_t model)
{
    if (!sim->placement) return;
    sim->holders[(size_t)model * sim->n_holder_words + node / 64] |= UINT64_C(1) << node % 64;
}

void sim_place_step(struct sim *sim)
{
    const struct placement_action *actions;
    size_t n;
    for (uint32_t m = 0; m < sim->config->n_models; m++) {
        sim->waiting[m] = 0;
        for (uint32_t g = 0; g < sim->n_gateways; g++)
            sim->waiting[m] += router_pending(sim->gateways[g].router, m);
    }
    placement_step(sim->placement, router_nodes(sim->gateways[0].router), sim->waiting, sim->now_ns,
                   &actions, &n);
    for (size_t i = 0; i < n; i++) {
        struct sim_event control = {.kind = SIM_CONTROL,
                                    .node = actions[i].node,
                                    .request = actions[i].model,
                                    .value = actions[i].kind};
        if (sim_way(sim, actions[i].node, 0, true, CONTROL_BYTES, &control.at_ns))
            sim_queue_push(&sim->queue, control);
    }
}

/* The fastest way to the bytes: from a node that has them, else from the origin. */
static double fetch_s(const struct sim *sim, uint32_t node, uint32_t model)
{
    uint64_t n_bytes = sim->config->models[model].bytes;
    double best_s = -1;
    for (uint32_t i = 0; i < sim->config->n_nodes; i++) {
        const struct sim_machine *other = &sim->machines[i];
        for (uint32_t k = 0; k < other->n_places && other->alive && i != node; k++) {
            if (other->places[k].model != model || !other->places[k].stored) continue;
            double s = sim_transfer_s(sim, node, i, n_bytes);
            if (best_s < 0 || s < best_s) best_s = s;
        }
    }
    return best_s < 0 ? sim_transfer_s(sim, node, SIM_NONE, n_bytes) : best_s;
}

double sim_place_load_s(const struct sim *sim, uint32_t node, uint32_t place)
{
    const struct sim_machine *machine = &sim->machines[node];
    const struct sim_place *what = &machine->places[place];
    const struct sim_model *model = &sim->config->models[what->model];
    double load_s = model->load_s;
    if (machine->spec->disk_bytes_per_s > 0)
        load_s += (double)model->bytes / machine->spec->disk_bytes_per_s;
    return what->stored ? load_s : load_s + fetch_s(sim, node, what->model);
}
