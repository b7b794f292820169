/* action_list.c: see action_list.h. */
#include "sched/action_list.h"
#include "base/mem.h"

#include <assert.h>

sl_status action_list_init(struct action_list *list, size_t capacity)
{
    *list = (struct action_list){.capacity = capacity};
    list->items = sl_calloc(capacity, sizeof *list->items);
    return list->items ? SL_OK : SL_NOMEM;
}

void action_list_done(struct action_list *list)
{
    sl_free(list->items);
    *list = (struct action_list){0};
}

struct sched_action *action_list_add(struct action_list *list, enum sched_action_kind kind)
{
    assert(list->len < list->capacity);
    struct sched_action *action = &list->items[list->len++];
    *action = (struct sched_action){.kind = kind};
    return action;
}

void action_list_add_model(struct action_list *list, enum sched_action_kind kind, uint32_t model)
{
    action_list_add(list, kind)->model = model;
}
