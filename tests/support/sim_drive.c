#include "support/sim_drive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void sim_setup(struct sim_config *config, const struct sim_model *models, uint32_t n_models,
               const struct sim_node *nodes, uint32_t n_nodes)
{
    sim_config_default(config);
    config->models = models;
    config->n_models = n_models;
    config->nodes = nodes;
    config->n_nodes = n_nodes;
    config->hedge_share = 0;
}

void sim_run_ok(const struct sim_config *config, const struct sim_trace *trace,
                struct sim_result *out)
{
    struct sl_err err = SL_ERR_INIT;
    if (sim_run(config, trace, out, &err) != SL_OK) fail_msg("%s", err.text);
}
