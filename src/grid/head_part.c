#include "grid/head_part.h"
#include "base/mem.h"
#include "grid/fetch_part.h"
#include "grid/grid_msg.h"
#include "grid/node.h"
#include <stdio.h>

struct head_part {
    struct head_parts *heads;
    struct head_part *next;
    char model[STORE_NAME_SIZE];
    struct fetch_source sources[FETCH_SOURCES_MAX];
    size_t n_sources;
    int32_t first, last;
    struct fetch_part *part;
};

struct head_parts {
    struct head_parts_cfg cfg;
    struct head_part *list;
};

/* The node's, too, when it does not need the part any more. */
static void head_part_free(void *arg)
{
    struct head_part *head = arg;
    struct head_part **at = &head->heads->list;
    while (*at != head) at = &(*at)->next;
    *at = head->next;
    fetch_part_release(head->part);
    sl_free(head);
}

static sl_status give(struct head_part *head, const struct store_model *model, struct sl_err *err)
{
    const struct node_part part = {.model = model,
                                   .first = head->first,
                                   .last = head->last,
                                   .release = head_part_free,
                                   .ctx = head};
    return node_take_part(head->heads->cfg.node, &part, err);
}

static void on_done(void *ctx, const char *path, const struct sl_err *why)
{
    struct head_part *head = ctx;
    const struct head_parts_cfg *cfg = &head->heads->cfg;
    struct store_model model = {0};
    struct sl_err err = SL_ERR_INIT;
    char name[STORE_NAME_SIZE];
    snprintf(name, sizeof name, "%s", head->model);
    sl_status status = path ? fetch_part_model(head->part, &model, &err) : why->status;
    if (status == SL_OK) status = give(head, &model, &err);
    if (status != SL_OK) head_part_free(head);
    if (path && status == SL_NOT_FOUND) status = SL_OK; /* all of it is in the store */
    store_model_done(&model);
    cfg->on_done(cfg->ctx, name, status == SL_OK ? NULL : path ? &err : why);
}

static struct head_part *head_part_create(struct head_parts *heads,
                                          const struct grid_control *control)
{
    struct head_part *head = sl_calloc(1, sizeof *head);
    if (!head) return NULL;
    head->heads = heads;
    head->first = control->split->stages[0].first;
    head->last = control->split->stages[0].last;
    snprintf(head->model, sizeof head->model, "%s", control->model);
    for (size_t i = 0; i < control->n_sources && i < FETCH_SOURCES_MAX; i++) {
        struct fetch_source *source = &head->sources[head->n_sources++];
        snprintf(source->id, sizeof source->id, "%s", control->sources[i].id);
        snprintf(source->address, sizeof source->address, "%s", control->sources[i].address);
    }
    head->next = heads->list;
    heads->list = head;
    return head;
}

sl_status head_parts_fetch(struct head_parts *heads, const struct grid_control *control,
                           struct sl_err *err)
{
    struct head_part *head = head_part_create(heads, control);
    if (!head) return sl_err_set(err, SL_NOMEM, "part of %s", control->model);
    const struct fetch_part_request request = {
        .name = head->model,
        .digest = control->digest,
        .sources = head->sources,
        .n_sources = head->n_sources,
        .range = {.first = head->first, .last = head->last, .embeds = true}};
    const struct fetch_part_events events = {.on_done = on_done, .ctx = head};
    sl_status status = fetch_part_start(heads->cfg.parts, &request, &events, &head->part, err);
    if (status != SL_OK) head_part_free(head);
    return status;
}

sl_status head_parts_create(const struct head_parts_cfg *cfg, struct head_parts **out,
                            struct sl_err *err)
{
    struct head_parts *heads = sl_calloc(1, sizeof *heads);
    if (!heads) return sl_err_set(err, SL_NOMEM, "parts of heads");
    heads->cfg = *cfg;
    *out = heads;
    return SL_OK;
}

void head_parts_destroy(struct head_parts *heads)
{
    if (!heads) return;
    while (heads->list) head_part_free(heads->list);
    sl_free(heads);
}
