/* grid_fixture.h: a node table, or a router, that has heard of some nodes with one model.
 * Thread: one. */
#pragma once
#include "sched/router.h"

#define GRID_MS INT64_C(1000000)

/* A report of a node where model 0 is ready: 4 slots, 4 places to wait, 1,000 prompt tokens a
 * second, 20 tokens a second. The load is borrowed. */
struct node_report grid_report(uint32_t node, uint64_t version, struct hosted_load *load);

/* Of 8 nodes and 2 models; asserts success. */
void grid_table_init(struct node_table *table);
/* Nodes 0 to n_nodes - 1 have reported. */
void grid_table_hear(struct node_table *table, uint32_t n_nodes, int64_t now_ns);
