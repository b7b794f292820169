/* index_list.h: doubly linked lists of numbered items. The links lie in an array of the caller's,
 * one element an item, so that an item can be taken out from the middle and nothing is allocated.
 * Floor: sched.  Thread: one.  Allocates: nothing.
 * Invariant: an item is in at most one of the lists that share an array of links. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define INDEX_NONE UINT32_MAX

struct index_link {
    uint32_t prev, next;
};

struct index_list {
    uint32_t head, tail; /* INDEX_NONE when empty */
};

/* clang-format off */
#define INDEX_LIST_INIT { INDEX_NONE, INDEX_NONE }
/* clang-format on */

static inline bool index_list_empty(const struct index_list *list)
{
    return list->head == INDEX_NONE;
}

static inline void index_list_push(struct index_list *list, struct index_link *links, uint32_t item)
{
    links[item] = (struct index_link){list->tail, INDEX_NONE};
    if (list->tail == INDEX_NONE)
        list->head = item;
    else
        links[list->tail].next = item;
    list->tail = item;
}

static inline void index_list_remove(struct index_list *list, struct index_link *links,
                                     uint32_t item)
{
    struct index_link link = links[item];
    if (link.prev == INDEX_NONE)
        list->head = link.next;
    else
        links[link.prev].next = link.next;
    if (link.next == INDEX_NONE)
        list->tail = link.prev;
    else
        links[link.next].prev = link.prev;
}
