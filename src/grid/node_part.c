/* node_part.c: models of which this machine has only a part: they are known by what members say of
 * them, and loaded as the first stage of a chain or not at all. */
#include "base/mem.h"
#include "grid/node_int.h"
#include "grid/store_name.h"
#include <string.h>

struct node_entry_part {
    int32_t first, last;
    void (*release)(void *ctx);
    void *ctx;
};

void node_part_free(struct node_entry_part *part)
{
    if (!part) return;
    if (part->release) part->release(part->ctx);
    sl_free(part);
}

struct node_entry *node_part_entry(struct node *node, const char *name)
{
    struct store_name parsed;
    char text[STORE_NAME_SIZE];
    if (store_name_parse(name, &parsed, NULL) != SL_OK) return NULL;
    store_name_text(&parsed, text);
    for (size_t i = 0; i < NODE_MODELS_MAX; i++) {
        struct node_entry *entry = node->entries[i];
        if (entry && entry->part && !entry->removed && !strcmp(entry->name, text)) return entry;
    }
    return NULL;
}

bool node_part_fits(const struct node_entry *entry, const struct grid_split *split)
{
    const struct node_entry_part *part = entry->part;
    if (!part) return true;
    return split && split->stages[0].first >= part->first && split->stages[0].last <= part->last;
}

bool node_has_part(struct node *node, const char *model, const struct grid_split *split)
{
    const struct node_entry *entry = node_part_entry(node, model);
    return entry && node_part_fits(entry, split);
}

sl_status node_take_part(struct node *node, const struct node_part *part, struct sl_err *err)
{
    struct node_entry *entry = node_part_entry(node, part->model->name);
    struct node_entry_part *taken = sl_calloc(1, sizeof *taken), *old = NULL;
    sl_status status = SL_OK;
    if (!taken) return sl_err_set(err, SL_NOMEM, "part of %s", part->model->name);
    if (!entry || strcmp(entry->digest, part->model->digest) != 0) {
        node_model_changed(node, part->model->name); /* the name means another file now */
        status = node_entry_make(node, part->model, "llm", &entry, err);
    }
    if (status != SL_OK) {
        sl_free(taken);
        return status;
    }
    *taken = (struct node_entry_part){
        .first = part->first, .last = part->last, .release = part->release, .ctx = part->ctx};
    old = entry->part;
    entry->part = taken;
    node_part_free(old);
    return SL_OK;
}
