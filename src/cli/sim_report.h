/* sim_report.h: what simulated policies came to, as a table or as JSON.
 * Floor: cli.  Thread: main.  Allocates: what it appends. */
#pragma once
#include "base/buf.h"
#include "sched/sim.h"

struct sim_nodes;

struct sim_report {
    const struct policy *policies; /* [n] */
    struct sim_result *results;    /* [n] */
    size_t n;
    const struct sim_nodes *grid;
    double rate, capacity; /* requests a second: that come, that can be served */
    bool by_node, by_model;
};

SL_CHECK sl_status sim_report_table(const struct sim_report *report, struct sl_buf *out);
SL_CHECK sl_status sim_report_json(const struct sim_report *report, struct sl_buf *out);
