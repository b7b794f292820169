/* head_part.h: gets what the first stage of a chain needs, at a member that does not have the
 * model, and gives it to the node, which keeps it as long as the model is split.
 * Floor: grid.  Thread: the loop's.  Allocates: a struct a part.
 * Invariant: each fetch that began ends with one on_done, unless head_parts_destroy comes first. */
#pragma once
#include "base/err.h"

struct fetch_parts;
struct grid_control;
struct head_parts;
struct node;

struct head_parts_cfg {
    struct fetch_parts *parts; /* borrowed, as the node */
    struct node *node;
    /* The node has it (node_take_part), or the store has all of it; why: neither. */
    void (*on_done)(void *ctx, const char *model, const struct sl_err *why);
    void *ctx;
};

/* NOMEM. */
SL_CHECK sl_status head_parts_create(const struct head_parts_cfg *cfg, struct head_parts **out,
                                     struct sl_err *err);
/* After the node, before the parts. NULL is fine. */
void head_parts_destroy(struct head_parts *heads);

/* Begins: a LOAD with a split, from the sources that it names; all is copied. As
 * fetch_part_start. */
SL_CHECK sl_status head_parts_fetch(struct head_parts *heads, const struct grid_control *control,
                                    struct sl_err *err);
