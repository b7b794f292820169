/* action_list.h: the actions of one step, in an array made once for the most a step can give.
 * Floor: sched.  Thread: one.  Allocates: init only. */
#pragma once
#include "sched/local.h"

struct action_list {
    struct sched_action *items;
    size_t len, capacity;
};

SL_CHECK sl_status action_list_init(struct action_list *list, size_t capacity); /* NOMEM */
void action_list_done(struct action_list *list); /* fine for a zeroed one */

/* A zeroed action of that kind, to be filled in. Asserts that the capacity was computed right. */
struct sched_action *action_list_add(struct action_list *list, enum sched_action_kind kind);

void action_list_add_model(struct action_list *list, enum sched_action_kind kind, uint32_t model);
