/* agent_cards.c: the models that are here to be loaded: those of the store, and those that the node
 * knows besides (files by their path, the scripted engine). */
#include "base/log.h"
#include "grid/agent_int.h"
#include <string.h>

/* What a model takes that nobody has loaded yet: its file, an eighth more for buffers, and a
 * cache. */
#define CACHE_BYTES_GUESS (UINT64_C(64) << 20)
#define SHAPES_NEXT_NS INT64_C(100000000) /* until more files' headers are read */

struct dealing {
    struct agent *agent;
    struct grid_card *v;
    size_t n, n_max;
};

static const char *text_of(const char *text)
{
    return text && *text ? text : NULL;
}

static void add_stored(struct dealing *d, const struct store_model *model)
{
    if (d->n == d->n_max) return;
    d->v[d->n++] = (struct grid_card){
        .name = model->name,
        .digest = model->digest,
        .bytes = model->size,
        .memory_bytes = model->size + model->size / 8 + CACHE_BYTES_GUESS,
        .format = model->details.format,
        .parameters = text_of(model->parameters),
        .system = text_of(model->system),
        .processing = text_of(model->processing),
        .options = text_of(model->options),
        .family = model->details.family,
        .parameter_size = model->details.parameter_size,
        .quantization = model->details.quantization_level,
        .context_length = model->details.context_length,
        .modified_ms = model->modified_ms,
        .shape = agent_shape(d->agent, model),
    };
}

static struct grid_card *card_of(struct dealing *d, const struct node_model *model)
{
    for (size_t i = 0; i < d->n; i++)
        if (!strcmp(d->v[i].name, model->name)) return &d->v[i];
    /* Of what only a part is here nobody can load or fetch the whole. */
    if (model->part || d->n == d->n_max) return NULL;
    struct grid_card *card = &d->v[d->n++];
    *card = (struct grid_card){.name = model->name,
                               .digest = model->digest,
                               .bytes = model->bytes,
                               .format = model->format,
                               .system = text_of(model->system),
                               .processing = text_of(model->processing),
                               .options = text_of(model->options)};
    return card;
}

/* What the node knows of it that the store does not. */
static void add_known(void *ctx, const struct node_model *model)
{
    struct grid_card *card = card_of(ctx, model);
    if (!card) return;
    if (model->bytes) card->memory_bytes = model->bytes;
    card->info = model->info;
    card->traits = model->traits;
}

/* Of a store that cannot be read now, what it had before is told. */
static void look_at_store(struct agent *agent)
{
    struct store_models models = {0};
    struct sl_err err = SL_ERR_INIT;
    if (store_list(agent->cfg.store, &models, &err) != SL_OK) {
        sl_log(SL_LOG_WARN, "agent", "the store cannot be read: %s", err.text);
        return;
    }
    store_models_done(&agent->stored);
    agent->stored = models;
}

void agent_cards(void *ctx)
{
    struct agent *agent = ctx;
    struct dealing d = {.agent = agent, .n_max = GRID_CARDS_MAX};
    look_at_store(agent);
    sl_arena_reset(&agent->arena);
    d.v = sl_arena_array(&agent->arena, d.n_max, sizeof *d.v);
    loop_timer_set(agent->cards_timer, agent->cfg.cards_ns);
    if (!d.v) return;
    agent_shapes_begin(agent);
    for (size_t i = 0; i < agent->stored.n; i++) add_stored(&d, &agent->stored.v[i]);
    if (agent_shapes_end(agent)) loop_timer_set(agent->cards_timer, SHAPES_NEXT_NS);
    node_models(agent->cfg.node, add_known, &d);
    const struct grid_msg msg = {
        .type = GRID_CARDS,
        .cards = {.boot = agent->cfg.boot, .version = ++agent->cards_version, .v = d.v, .n = d.n}};
    agent_send(agent, "report", NULL, &msg);
}

void agent_cards_check(struct agent *agent, uint64_t loads)
{
    if (loads == agent->loads_seen) return;
    agent->loads_seen = loads;
    loop_timer_set(agent->cards_timer, 0);
}

void agent_tell_all(struct agent *agent)
{
    loop_timer_set(agent->cards_timer, 0);
    agent_report_soon(agent);
}

void agent_store_changed(struct agent *agent)
{
    loop_timer_set(agent->cards_timer, 0);
}
