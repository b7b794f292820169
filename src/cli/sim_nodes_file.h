/* sim_nodes_file.h: the simulated grid from a YAML file: models, nodes and what befalls them.
 * docs/simulator.md describes it. The one module that knows libcyaml.
 * Floor: cli.  Thread: main.  Allocates: what sim_nodes_done frees. */
#pragma once
#include "sched/sim.h"

#define SIM_NODES_FILE_BYTES_MAX (16u << 20)

struct sim_nodes {
    struct sim_model *models;
    uint32_t n_models;
    double *shares; /* [n_models][n_parts]: of requests; sim_mix */
    uint32_t n_parts;
    bool placement; /* models follow demand */
    uint32_t n_sites;
    struct sim_link *links;  /* [n_sites][n_sites]; NULL when there are no sites */
    uint32_t *gateway_sites; /* [n_gateways] */
    uint32_t n_gateways;     /* 0: the file says nothing of them */
    struct sim_tariff *tariffs;
    uint32_t n_tariffs;
    struct sim_node *nodes;
    uint32_t n_nodes;
    struct sim_failure *failures;
    uint32_t n_failures;
};

/* INVALID says what is wrong and where. On failure *out is zeroed. */
SL_CHECK sl_status sim_nodes_read(const char *text, size_t n, struct sim_nodes *out,
                                  struct sl_err *err);
SL_CHECK sl_status sim_nodes_load(const char *path, struct sim_nodes *out, struct sl_err *err);
void sim_nodes_done(struct sim_nodes *nodes); /* fine for a zeroed one */
