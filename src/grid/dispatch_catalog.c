/* dispatch_catalog.c: the models of the grid: what the members' stores have, by name and content.
 * One name may mean different files on different members: then this machine's own counts, or else
 * what it has meant before, so that a member who comes with other contents changes nothing; and at
 * first what most members have. */
#include "grid/dispatch_split.h"
#include "grid/model_shape.h"
#include "base/hash.h"
#include "base/mem.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CARDS_BYTES_MAX (16u << 20) /* decoded, of one member: 1,000 models with chat templates */
#define ECHO_PREFIX "echo:"
#define ECHO_BYTES (1u << 20) /* what a node charges for the scripted engine */
#define BYTES_PER_TOKEN 4.0   /* until answers have said more: English in most vocabularies */
#define OUTPUT_TOKENS 256.0   /* likewise; a short answer */
#define NAME_SEED UINT64_C(0x6e616d6573212121)
#define WORDS ((DISPATCH_MEMBERS_MAX + 63) / 64)

static uint64_t key_of(const char *name)
{
    return sl_hash64(name, strlen(name), NAME_SEED);
}

static bool is_echo(const struct dispatch *dispatch, const char *name)
{
    return dispatch->cfg.allow_echo && !strncmp(name, ECHO_PREFIX, strlen(ECHO_PREFIX));
}

/* The next model of that name after `from` (NULL: the first). */
static struct dispatch_model *next_of(const struct dispatch *dispatch, const char *name,
                                      const struct dispatch_model *from)
{
    struct dispatch_model *model =
        from ? (from->next == NODE_NONE ? NULL : &dispatch->models[from->next])
             : sl_idmap_get(&dispatch->names, key_of(name));
    while (model && strcmp(model->name, name) != 0)
        model = model->next == NODE_NONE ? NULL : &dispatch->models[model->next];
    return model;
}

bool dispatch_model_is_at(const struct dispatch_model *model, uint32_t node)
{
    return model->holders[node / 64] >> node % 64 & 1;
}

static void set_holder(struct dispatch_model *model, uint32_t node, bool held)
{
    uint64_t bit = UINT64_C(1) << node % 64;
    if (dispatch_model_is_at(model, node) == held) return;
    model->holders[node / 64] ^= bit;
    model->n_holders += held ? 1 : UINT32_MAX;
}

/* --- coming and going --- */

uint64_t dispatch_model_bytes(const struct dispatch_model *model)
{
    const struct grid_card *card = model->card;
    uint64_t bytes = model->bytes_guess;
    if (card) bytes = card->memory_bytes ? card->memory_bytes : card->bytes + card->bytes / 4 + 1;
    return bytes < SCHED_BYTES_LIMIT ? bytes : SCHED_BYTES_LIMIT;
}

const struct split_model *dispatch_model_shape(const struct dispatch_model *model)
{
    if (model->card && model->card->shape) return model->card->shape;
    return model->own_shape ? &model->own_shape->model : NULL;
}

uint64_t dispatch_model_context(const struct dispatch_model *model)
{
    if (model->card) return model->card->context_length;
    return model->own_shape ? (uint64_t)model->own_shape->n_ctx_train : 0;
}

void dispatch_model_tell(struct dispatch *dispatch, const struct dispatch_model *model)
{
    struct placement_model what = {0};
    if (model->used) {
        what.bytes = dispatch_model_bytes(model);
        what.replicas_min = model->pinned || model->pinned_elsewhere;
        what.replicas_wanted = dispatch->cfg.replicas;
        what.holders = is_echo(dispatch, model->name) ? NULL : model->holders;
    }
    sl_status status = placement_set_model(dispatch->placement, model->number, &what);
    assert(status == SL_OK); /* a number and limits of our own */
    (void)status;
}

static void model_free(struct dispatch *dispatch, struct dispatch_model *model)
{
    struct dispatch_model *first = sl_idmap_get(&dispatch->names, key_of(model->name));
    if (first == model) {
        (void)sl_idmap_take(&dispatch->names, key_of(model->name));
        /* A place has just become free, so this one needs no memory. */
        if (model->next != NODE_NONE)
            (void)!sl_idmap_put(&dispatch->names, key_of(model->name),
                                &dispatch->models[model->next]);
    } else {
        while (first->next != model->number) first = &dispatch->models[first->next];
        first->next = model->next;
    }
    sl_free(model->name);
    sl_free(model->digest);
    sl_json_free(model->parameters);
    sl_free(model->own_shape);
    memset(model->holders, 0, WORDS * sizeof *model->holders);
    *model = (struct dispatch_model){.number = model->number, .holders = model->holders};
    dispatch_model_tell(dispatch, model);
}

static bool is_demanded(const struct dispatch *dispatch, uint32_t model)
{
    if (dispatch_chain_of(dispatch, model)) return true;
    for (uint32_t i = 0; i < DISPATCH_CONTROLS_MAX; i++)
        if (dispatch->controls[i].used && dispatch->controls[i].model == model) return true;
    for (uint32_t i = 0; i < dispatch->n_nodes; i++)
        for (uint32_t k = 0; dispatch->nodes[i].used && k < dispatch->nodes[i].n_demands; k++)
            if (dispatch->nodes[i].demands[k].model == model) return true;
    return false;
}

void dispatch_models_sweep(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        struct dispatch_model *model = &dispatch->models[i];
        if (model->used && !model->n_requests && !model->n_holders && !model->n_hosted &&
            !model->pinned && !is_demanded(dispatch, i))
            model_free(dispatch, model);
    }
}

void dispatch_models_make_room(struct dispatch *dispatch)
{
    if (dispatch->n_models < DISPATCH_MODELS_MAX) return;
    for (uint32_t i = 0; i < dispatch->n_models; i++)
        if (!dispatch->models[i].used) return;
    dispatch_models_sweep(dispatch);
}

void dispatch_models_done(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        sl_free(dispatch->models[i].name);
        sl_free(dispatch->models[i].digest);
        sl_json_free(dispatch->models[i].parameters);
        sl_free(dispatch->models[i].own_shape);
    }
}

static struct dispatch_model *place_find(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < dispatch->n_models; i++)
        if (!dispatch->models[i].used) return &dispatch->models[i];
    if (dispatch->n_models == DISPATCH_MODELS_MAX) return NULL;
    struct dispatch_model *model = &dispatch->models[dispatch->n_models];
    model->number = dispatch->n_models++;
    return model;
}

struct dispatch_model *dispatch_model_known(const struct dispatch *dispatch, const char *name,
                                            const char *digest)
{
    struct dispatch_model *model = NULL;
    while ((model = next_of(dispatch, name, model)))
        if (!strcmp(model->digest, digest)) break;
    return model;
}

struct dispatch_model *dispatch_model_of(struct dispatch *dispatch, const char *name,
                                         const char *digest)
{
    struct dispatch_model *model = dispatch_model_known(dispatch, name, digest);
    if (model) return model;
    model = place_find(dispatch);
    if (!model) return NULL;
    struct dispatch_model *first = sl_idmap_get(&dispatch->names, key_of(name));
    char *name_copy = sl_strdup(name), *digest_copy = sl_strdup(digest);
    if (!name_copy || !digest_copy ||
        (!first && sl_idmap_put(&dispatch->names, key_of(name), model) != SL_OK)) {
        sl_free(name_copy);
        sl_free(digest_copy);
        return NULL;
    }
    *model = (struct dispatch_model){.used = true,
                                     .number = model->number,
                                     .born = ++dispatch->n_models_ever,
                                     .next = first ? first->next : NODE_NONE,
                                     .name = name_copy,
                                     .digest = digest_copy,
                                     .key = sl_hash64(digest, strlen(digest), key_of(name)),
                                     .holders = model->holders,
                                     .card_node = NODE_NONE,
                                     .bytes_guess = is_echo(dispatch, name) ? ECHO_BYTES : 0,
                                     .bytes_per_token = BYTES_PER_TOKEN,
                                     .output_tokens = OUTPUT_TOKENS,
                                     .hopeless_ns = -1};
    if (first) first->next = model->number;
    dispatch_model_tell(dispatch, model);
    return model;
}

struct dispatch_model *dispatch_model_demanded(struct dispatch *dispatch, const char *name,
                                               const char *digest)
{
    if (is_echo(dispatch, name)) return dispatch_model_of(dispatch, name, digest);
    return dispatch_model_known(dispatch, name, digest);
}

bool dispatch_may_name(const struct dispatch *dispatch, uint32_t node, const char *name)
{
    struct store_name parts;
    char text[STORE_NAME_SIZE];
    if (node == dispatch->self_node || is_echo(dispatch, name)) return true;
    if (store_name_parse(name, &parts, NULL) != SL_OK) return false;
    store_name_text(&parts, text);
    return strcmp(text, name) == 0;
}

/* --- cards --- */

static const struct grid_card *card_at(const struct dispatch *dispatch, uint32_t node,
                                       uint32_t model)
{
    const struct dispatch_node *holder = &dispatch->nodes[node];
    for (size_t i = 0; holder->has_cards && i < holder->cards.n; i++)
        if (holder->card_models[i] == model) return &holder->cards.v[i];
    return NULL;
}

/* Whose card tells of the model: one that has loaded it knows more; of these our own. */
static void card_choose(struct dispatch *dispatch, struct dispatch_model *model)
{
    const struct grid_card *best = NULL;
    int best_rank = -1;
    for (uint32_t node = 0; node < dispatch->n_nodes; node++) {
        const struct grid_card *card =
            dispatch_model_is_at(model, node) ? card_at(dispatch, node, model->number) : NULL;
        int rank = card ? (card->info != NULL) * 2 + dispatch->nodes[node].self : -1;
        if (rank <= best_rank) continue;
        best = card;
        best_rank = rank;
        model->card_node = node;
    }
    model->card = best;
    sl_json_free(model->parameters);
    model->parameters = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (best && best->parameters &&
        sl_json_parse(best->parameters, strlen(best->parameters), &model->parameters, &err) !=
            SL_OK)
        model->parameters = NULL; /* another machine's text: it says nothing */
    dispatch_model_tell(dispatch, model);
}

static void cards_drop(struct dispatch *dispatch, struct dispatch_node *node)
{
    for (size_t i = 0; node->has_cards && i < node->cards.n; i++)
        if (node->card_models[i] != NODE_NONE)
            set_holder(&dispatch->models[node->card_models[i]], node->number, false);
}

static void cards_chosen(struct dispatch *dispatch, const uint32_t *models, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (models[i] != NODE_NONE) card_choose(dispatch, &dispatch->models[models[i]]);
}

void dispatch_cards_forget(struct dispatch *dispatch, struct dispatch_node *node)
{
    if (!node->has_cards) return;
    cards_drop(dispatch, node);
    node->has_cards = false;
    cards_chosen(dispatch, node->card_models, node->cards.n);
}

static bool is_news(const struct dispatch_node *node, const struct grid_cards *cards)
{
    if (!node->has_cards) return true;
    if (cards->boot == node->cards.boot) return cards->version > node->cards.version;
    /* A lower boot is one of before, unless the reports say that the member has started anew. */
    return cards->boot > node->cards.boot || (node->has_report && node->report.boot == cards->boot);
}

static uint32_t *models_of(struct dispatch *dispatch, const struct grid_cards *cards, uint32_t node,
                           struct sl_arena *arena)
{
    uint32_t *models = sl_arena_array(arena, cards->n + 1, sizeof *models);
    uint32_t n_left = node == dispatch->self_node ? DISPATCH_MODELS_MAX : DISPATCH_MODELS_OF_ONE;
    for (size_t i = 0; models && i < cards->n; i++) {
        models[i] = NODE_NONE;
        const char *name = cards->v[i].name, *digest = cards->v[i].digest;
        struct dispatch_model *model = dispatch_model_known(dispatch, name, digest);
        bool alone = !model || !model->n_holders;
        if (!dispatch_may_name(dispatch, node, name)) continue;
        if (!model && n_left) model = dispatch_model_of(dispatch, name, digest);
        if (alone && !n_left) model = NULL;
        if (!model) continue;
        models[i] = model->number;
        n_left -= alone;
        set_holder(model, node, true);
    }
    return models;
}

void dispatch_on_cards(struct dispatch *dispatch, struct dispatch_node *node, const void *bytes,
                       size_t n)
{
    struct grid_msg msg;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena, old = node->cards_arena;
    sl_arena_init(&arena, CARDS_BYTES_MAX);
    sl_status status = grid_msg_decode(bytes, n, &arena, &msg, &err);
    dispatch->stats.n_corrupt += status != SL_OK;
    dispatch_heard(dispatch, node);
    uint32_t *models = NULL;
    if (status != SL_OK || !is_news(node, &msg.cards)) {
        sl_arena_done(&arena);
        return;
    }
    dispatch_models_make_room(dispatch);
    cards_drop(dispatch, node);
    models = models_of(dispatch, &msg.cards, node->number, &arena);
    const uint32_t *old_models = node->has_cards ? node->card_models : NULL;
    size_t n_old = node->has_cards ? node->cards.n : 0;
    node->has_cards = models != NULL; /* without memory it has none, until it tells again */
    node->cards_arena = arena;
    node->cards = msg.cards;
    node->card_models = models;
    cards_chosen(dispatch, old_models, n_old);
    if (models) cards_chosen(dispatch, models, msg.cards.n);
    sl_arena_done(&old);
    dispatch->place_now = true;
}

/* --- names --- */

/* Of the contents that a name has, the one that it means here; `own`: if this machine has it. */
static struct dispatch_model *meant(const struct dispatch *dispatch, const char *name, bool own)
{
    struct dispatch_model *best = NULL, *model = NULL;
    while ((model = next_of(dispatch, name, model))) {
        if (!model->n_holders && !model->n_hosted && !is_echo(dispatch, name)) continue;
        if (dispatch_model_is_at(model, dispatch->self_node)) return model;
        if (own || (best && best->settled)) continue;
        if (!best || model->settled || model->n_holders > best->n_holders ||
            (model->n_holders == best->n_holders && model->born < best->born))
            best = model;
    }
    return best;
}

static void settle(struct dispatch *dispatch, struct dispatch_model *meant)
{
    struct dispatch_model *model = NULL;
    if (meant->settled) return;
    while ((model = next_of(dispatch, meant->name, model))) model->settled = false;
    meant->settled = true;
}

/* The model with the highest number among its tags: "name:3" before "name:2". */
static struct dispatch_model *highest(const struct dispatch *dispatch, const char *stem, bool own)
{
    const struct dispatch_model *best = NULL;
    size_t n_stem = strlen(stem);
    unsigned long best_number = 0;
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        const struct dispatch_model *model = &dispatch->models[i];
        if (!model->used || strncmp(model->name, stem, n_stem) != 0) continue;
        const char *tag = model->name + n_stem;
        unsigned long number = strtoul(tag, NULL, 10);
        if (!*tag || tag[strspn(tag, "0123456789")] || (best && number <= best_number) ||
            !meant(dispatch, model->name, own))
            continue;
        best = model;
        best_number = number;
    }
    return best ? meant(dispatch, best->name, own) : NULL;
}

static struct dispatch_model *with_tag(const struct dispatch *dispatch, struct store_name *name,
                                       const char *tag, bool own)
{
    char text[STORE_NAME_SIZE];
    snprintf(name->tag, sizeof name->tag, "%s", tag);
    store_name_text(name, text);
    return meant(dispatch, text, own);
}

static struct dispatch_model *find_among(const struct dispatch *dispatch, const char *text,
                                         bool own)
{
    struct store_name name;
    struct sl_err err = SL_ERR_INIT;
    struct dispatch_model *model = meant(dispatch, text, own);
    if (model || store_name_parse(text, &name, &err) != SL_OK) return model;
    char stem[STORE_NAME_SIZE];
    store_name_text(&name, stem);
    if ((model = meant(dispatch, stem, own)) || name.tagged) return model;
    if ((model = with_tag(dispatch, &name, "default", own))) return model;
    if ((model = with_tag(dispatch, &name, "latest", own))) return model;
    store_name_text(&name, stem);
    char *colon = strrchr(stem, ':');
    if (!colon) return NULL;
    colon[1] = '\0';
    return highest(dispatch, stem, own);
}

/* However a name is spelt out, what this machine has comes first. */
static struct dispatch_model *find(const struct dispatch *dispatch, const char *text)
{
    struct dispatch_model *own = find_among(dispatch, text, true);
    return own ? own : find_among(dispatch, text, false);
}

/* A file that is of no kind that is split is not asked again until its card comes. */
static void read_shape(struct dispatch_model *model, const struct store_model *found)
{
    struct sl_err err = SL_ERR_INIT;
    if (dispatch_model_shape(model) || strcmp(found->details.format, "gguf") != 0) return;
    model->own_shape = sl_calloc(1, sizeof *model->own_shape);
    if (!model->own_shape || model_shape_read(found->path, model->own_shape, &err) == SL_OK) return;
    sl_free(model->own_shape);
    model->own_shape = NULL;
}

/* In the store, but no card has told it yet: it was pulled a moment ago. */
static sl_status from_store(struct dispatch *dispatch, const char *name,
                            struct dispatch_model **out, struct sl_err *err)
{
    struct store_model found;
    if (!dispatch->cfg.store)
        return sl_err_set(err, SL_NOT_FOUND,
                          "%.200s: no member of the grid has such a model; "
                          "starlane list shows what there is, starlane pull gets more",
                          name);
    sl_status status = store_find(dispatch->cfg.store, name, &found, err);
    if (status != SL_OK) return status;
    struct dispatch_model *model = dispatch_model_of(dispatch, found.name, found.digest);
    if (model) {
        if (!model->card) model->bytes_guess = found.size + found.size / 4 + 1;
        set_holder(model, dispatch->self_node, true);
        dispatch_model_tell(dispatch, model);
        read_shape(model, &found);
    }
    store_model_done(&found);
    *out = model;
    return model ? SL_OK : sl_err_set(err, SL_NOMEM, "no place for model %.200s", name);
}

sl_status dispatch_model_resolve(struct dispatch *dispatch, const char *name,
                                 struct dispatch_model **out, struct sl_err *err)
{
    if (strlen(name) >= STORE_NAME_SIZE)
        return sl_err_set(err, SL_INVALID, "a model's name has fewer than %d bytes",
                          STORE_NAME_SIZE);
    if ((*out = find(dispatch, name))) {
        settle(dispatch, *out);
        return SL_OK;
    }
    if (!is_echo(dispatch, name)) return from_store(dispatch, name, out, err);
    *out = dispatch_model_of(dispatch, name, "");
    return *out ? SL_OK : sl_err_set(err, SL_NOMEM, "no place for model %.200s", name);
}

void dispatch_model_changed(struct dispatch *dispatch, const char *name)
{
    struct dispatch_model *changed = find(dispatch, name), *model = NULL;
    struct sl_err err = SL_ERR_INIT;
    while (changed && (model = next_of(dispatch, changed->name, model)))
        set_holder(model, dispatch->self_node, false);
    if (changed) dispatch_model_tell(dispatch, changed);
    /* What it is now; that it is nothing any more is fine too. Cards come in a moment. */
    if (dispatch->cfg.store && from_store(dispatch, name, &model, &err) == SL_OK)
        dispatch->place_now = true;
}

/* --- views --- */

/* How far each state is from serving: the best of all members is told. */
static int rank_of(enum sched_model_state state)
{
    static const int ranks[SCHED_MODEL_STATE_COUNT] = {
        [SCHED_READY] = 6,   [SCHED_LOADING] = 5, [SCHED_STARTING] = 4,
        [SCHED_BACKOFF] = 3, [SCHED_FAILED] = 2,  [SCHED_DRAINING] = 1,
    };
    return ranks[state];
}

/* What a replica takes: of a chain, what its head and the members behind it say. */
static uint64_t replica_bytes(const struct dispatch *dispatch, const struct dispatch_node *node,
                              const struct grid_hosted *hosted)
{
    uint64_t bytes = hosted->bytes;
    for (size_t i = 1; hosted->split && i < hosted->split->n_stages; i++) {
        const struct dispatch_node *at =
            dispatch_node_find(dispatch, hosted->split->stages[i].member);
        for (size_t k = 0; at && at->has_report && k < at->report.n_stages; k++)
            if (!strcmp(at->report.stages[k].model, hosted->name) &&
                !strcmp(at->report.stages[k].head, node->id))
                bytes += at->report.stages[k].bytes;
    }
    return bytes;
}

static void add_hosted(const struct dispatch *dispatch, const struct dispatch_node *node,
                       const struct grid_hosted *hosted, uint64_t *most, struct node_model *out)
{
    uint64_t bytes = replica_bytes(dispatch, node, hosted);
    out->n_running += (int32_t)hosted->load.n_running;
    out->n_waiting += (int32_t)hosted->load.n_waiting;
    out->n_slots += hosted->load.n_slots;
    if (bytes > *most) { /* what replicas take is known better than a card's estimate */
        *most = out->bytes = bytes;
        out->n_parts = hosted->split ? (uint32_t)hosted->split->n_stages : 0;
    }
    if (*hosted->last_error) out->last_error = hosted->last_error;
    out->n_loads += hosted->load.state == SCHED_READY;
    if (rank_of(hosted->load.state) <= rank_of(out->sched_state)) return;
    out->sched_state = hosted->load.state;
    out->load_fraction = hosted->load_fraction;
}

static void fill_model(struct dispatch *dispatch, const struct dispatch_model *model,
                       struct node_model *out)
{
    const struct grid_card *card = model->card;
    uint64_t most = 0;
    *out = (struct node_model){.name = model->name,
                               .path = "",
                               .digest = model->digest,
                               .sched_state = SCHED_UNLOADED,
                               .pinned = model->pinned,
                               .bytes = model->bytes_guess,
                               .expires_in_ns = -1,
                               .last_error = "",
                               .format = is_echo(dispatch, model->name) ? "echo" : "gguf",
                               .parameters = model->parameters};
    if (card) {
        out->card = card;
        out->bytes = card->memory_bytes;
        out->info = card->info;
        out->traits = card->traits;
        out->system = card->system;
        out->format = card->format;
        out->processing = card->processing;
        out->options = card->options;
    }
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        enum node_health health = router_nodes(dispatch->router)->nodes[i].health;
        if (!node->used || !node->has_report || health == NODE_DEAD) continue;
        for (size_t k = 0; k < node->report.n_hosted; k++)
            if (node->hosted_models[k] == model->number)
                add_hosted(dispatch, node, &node->report.hosted[k], &most, out);
    }
    out->until_unused = !dispatch_is_kept(dispatch, model->number);
    if (out->until_unused && dispatch->stats.places)
        out->expires_in_ns = placement_stays_ns(dispatch->placement, model->number);
    out->n_waiting += (int32_t)router_pending(dispatch->router, model->number);
    if (out->sched_state == SCHED_READY) out->load_fraction = 1;
    out->state = sched_model_state_name(out->sched_state);
}

sl_status dispatch_model_find(struct dispatch *dispatch, const char *name, struct node_model *out,
                              struct sl_err *err)
{
    struct dispatch_model *model;
    sl_status status = dispatch_model_resolve(dispatch, name, &model, err);
    if (status == SL_OK) fill_model(dispatch, model, out);
    return status;
}

void dispatch_models(struct dispatch *dispatch,
                     void (*fn)(void *ctx, const struct node_model *model), void *ctx)
{
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        const struct dispatch_model *model = &dispatch->models[i];
        bool is_meant = model->used && meant(dispatch, model->name, false) == model;
        if (!model->used || (!is_meant && !model->asked_for && !model->n_hosted)) continue;
        struct node_model out;
        fill_model(dispatch, model, &out);
        fn(ctx, &out);
    }
}

static int by_name(const void *a, const void *b)
{
    const struct dispatch_model *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

void dispatch_cards(struct dispatch *dispatch,
                    void (*fn)(void *ctx, const struct grid_card *card, uint32_t n_members),
                    void *ctx)
{
    const struct dispatch_model *sorted[DISPATCH_MODELS_MAX];
    size_t n = 0;
    for (uint32_t i = 0; i < dispatch->n_models; i++) {
        const struct dispatch_model *model = &dispatch->models[i];
        if (model->used && model->card && meant(dispatch, model->name, false) == model)
            sorted[n++] = model;
    }
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) fn(ctx, sorted[i]->card, sorted[i]->n_holders);
}
