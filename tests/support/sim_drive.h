/* sim_drive.h: runs of the simulator for tests. Thread: one. */
#pragma once
#include "sched/sim.h"

/* The defaults, with these models and nodes (borrowed) and without hedging. */
void sim_setup(struct sim_config *config, const struct sim_model *models, uint32_t n_models,
               const struct sim_node *nodes, uint32_t n_nodes);
/* A run that must succeed. */
void sim_run_ok(const struct sim_config *config, const struct sim_trace *trace,
                struct sim_result *out);
