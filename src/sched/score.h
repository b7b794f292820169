/* score.h: what a node would cost a request, part by part, from the node's own measurements.
 * Floor: sched.  Thread: one.  Allocates: nothing. */
#pragma once
#include "sched/pick.h"

/* Fills the row's parts, first_token_s and cached_tokens for a model on row->node. */
void score_node(const struct node_table *table, const struct hosted_model *hosted,
                const struct pick_ask *ask, int64_t now_ns, struct pick_row *row);
