#include "grid/node_int.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "base/log.h"
#include "base/mem.h"
#include "exec/llm/llm_engine.h"
#include <stdio.h>
#include <string.h>

#define ECHO_PREFIX "echo:"
#define ECHO_BYTES (1u << 20) /* what the scripted engine is charged until it has said more */
/* Of ONNX Runtime itself; a model takes its file and half again until its worker says more. */
#define ONNX_RUNTIME_BYTES (48u << 20)
#define SIGNATURE_BYTES_MAX (4u << 20) /* TENSORS_MAX inputs and as many outputs, with names */
#define SEQS_DEFAULT 64                /* llm_engine_cfg's; the worker's own number replaces it */

static struct node_name *name_find(struct node *node, const char *text)
{
    int32_t at = sl_strmap_get(&node->name_index, text, strlen(text), -1);
    return at < 0 ? NULL : &node->names[at];
}

void node_names_clear(struct node *node)
{
    for (size_t i = 0; i < node->n_names; i++) sl_free(node->names[i].text);
    node->n_names = 0;
    sl_strmap_done(&node->name_index);
}

/* Remembers that this text means this entry. Without memory it is looked up again next time. */
static void name_put(struct node *node, const char *text, struct node_entry *entry)
{
    struct node_name *name = name_find(node, text);
    if (!name) {
        if (node->n_names == NODE_NAMES_MAX) node_names_clear(node);
        char *copy = sl_strdup(text);
        if (!copy ||
            sl_strmap_put(&node->name_index, copy, strlen(copy), (int32_t)node->n_names) != SL_OK) {
            sl_free(copy);
            return;
        }
        name = &node->names[node->n_names++];
        name->text = copy;
    }
    name->entry = entry;
    name->checked_ns = sl_now_ns();
}

struct node_entry *node_entry_known(struct node *node, const char *name)
{
    struct node_name *known = name_find(node, name);
    if (known && !known->entry->removed) return known->entry;
    for (size_t i = 0; i < NODE_MODELS_MAX; i++) {
        struct node_entry *entry = node->entries[i];
        if (entry && !entry->removed && !strcmp(entry->name, name)) return entry;
    }
    return NULL;
}

static void forget_info(struct node_entry *entry)
{
    sl_free((char *)entry->info.architecture);
    sl_free((char *)entry->info.name);
    sl_free((char *)entry->info.chat_template);
    sl_free((char *)entry->info.bos_text);
    sl_free((char *)entry->info.eos_text);
    sl_free((char *)entry->info.quantization);
    sl_free((char *)entry->info.device);
    sl_arena_reset(&entry->signature_arena);
    memset(&entry->info, 0, sizeof entry->info);
    entry->has_info = false;
}

void node_entry_free(struct node_entry *entry)
{
    if (!entry) return;
    struct node *node = entry->node;
    worker_destroy(entry->worker);
    node_split_free(entry);
    node_part_free(entry->part);
    /* Names that lead here would dangle: the map cannot lose single keys, so all are forgotten. */
    node_names_clear(node);
    node->entries[entry->index] = NULL;
    node->n_removed -= entry->removed;
    forget_info(entry);
    sl_free(entry->name);
    sl_free(entry->path);
    sl_free(entry->digest);
    sl_free(entry->chat_template);
    sl_free(entry->system);
    sl_arena_done(&entry->signature_arena);
    sl_free(entry->processing);
    sl_free(entry->options);
    sl_json_free(entry->parameters);
    sl_free(entry);
}

void node_entry_release(struct node_entry *entry)
{
    struct sched_model_info info;
    if (entry->n_requests || entry->worker) return;
    if (!sched_get_model(entry->node->sched, entry->index, &info)) node_entry_free(entry);
}

void node_entry_remove(struct node_entry *entry)
{
    if (entry->removed) return;
    /* Without its chain a part is nothing here; its requests go where the chain is now. */
    struct sched_event event = {
        .kind = SCHED_MODEL_REMOVE, .model = entry->index, .moved = entry->part != NULL};
    entry->removed = true;
    entry->node->n_removed++;
    node_step(entry->node, &event);
    loop_queue_task(entry->node->cfg.loop, &entry->node->work);
}

static bool is_spare(const struct node_entry *entry)
{
    struct sched_model_info info = {0};
    if (entry->worker || entry->n_requests) return false;
    sched_get_model(entry->node->sched, entry->index, &info);
    return !info.pinned;
}

/* A free place; when all are taken, that of a model which is neither loaded nor wanted. */
static sl_status take_place(struct node *node, uint32_t *out, struct sl_err *err)
{
    for (uint32_t i = 0; i < NODE_MODELS_MAX; i++) {
        if (node->entries[i]) continue;
        *out = i;
        return SL_OK;
    }
    for (uint32_t i = 0; i < NODE_MODELS_MAX; i++)
        if (is_spare(node->entries[i])) {
            node_entry_remove(node->entries[i]);
            node_entry_release(node->entries[i]);
            if (node->entries[i]) continue;
            *out = i;
            return SL_OK;
        }
    return sl_err_set(err, SL_BUSY, "%d models are in use at once", NODE_MODELS_MAX);
}

static void llm_cfg_of(const struct node *node, struct llm_engine_cfg *cfg)
{
    llm_engine_cfg_default(cfg);
    cfg->n_threads = node->cfg.n_threads;
    cfg->n_ctx = node->cfg.n_ctx;
    cfg->n_seqs_max = node->cfg.n_seqs_max;
    cfg->gpu_layers = node->cfg.gpu_layers;
    cfg->kv_type = (enum llm_kv_type)node->cfg.kv_type;
    cfg->kv_bytes_max = node->cfg.kv_bytes_max;
    cfg->kv_contexts = node->cfg.kv_contexts;
    cfg->no_prefix_cache = node->cfg.no_prefix_cache;
}

sl_status node_entry_estimate(const struct node_entry *entry, uint64_t *out, struct sl_err *err)
{
    struct llm_engine_estimate estimate;
    struct llm_engine_cfg cfg;
    if (!strcmp(entry->kind, "echo")) {
        *out = ECHO_BYTES;
        return SL_OK;
    }
    if (!strcmp(entry->kind, "onnx")) {
        *out = entry->file_bytes + entry->file_bytes / 2 + ONNX_RUNTIME_BYTES;
        return SL_OK;
    }
    llm_cfg_of(entry->node, &cfg);
    if (entry->split) {
        const struct grid_split split = node_split_resolve(entry->node, entry->split);
        cfg.n_ctx = split.n_ctx;
        cfg.n_seqs_max = split.n_seqs;
        cfg.n_batch = split.n_batch;
        cfg.split = node_split_engine(&split);
    }
    sl_status status = llm_engine_estimate(entry->path, &cfg, &estimate, err);
    if (status == SL_OK) *out = estimate.weight_bytes + estimate.kv_bytes + estimate.compute_bytes;
    return status;
}

static sl_status add_to_sched(struct node_entry *entry, struct sl_err *err)
{
    struct node *node = entry->node;
    struct sched_event event = {.kind = SCHED_MODEL_ADD, .model = entry->index};
    sl_status status = node_entry_estimate(entry, &event.model_add.estimate_bytes, err);
    if (status != SL_OK) return status;
    event.model_add.n_slots =
        node->cfg.n_seqs_max > 0 ? (uint32_t)node->cfg.n_seqs_max : SEQS_DEFAULT;
    event.model_add.keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT;
    node_step(node, &event);
    return SL_OK;
}

static bool keep_text(const char *text, char **out)
{
    if (text) *out = sl_strdup(text);
    return !text || *out;
}

sl_status node_entry_make(struct node *node, const struct store_model *model, const char *kind,
                          struct node_entry **out, struct sl_err *err)
{
    uint32_t index = 0;
    sl_status status = take_place(node, &index, err);
    if (status != SL_OK) return status;
    struct node_entry *entry = sl_calloc(1, sizeof *entry);
    if (!entry) return sl_err_set(err, SL_NOMEM, "model");
    entry->node = node;
    entry->index = index;
    entry->kind = kind;
    entry->name = sl_strdup(model->name);
    entry->path = sl_strdup(model->path);
    entry->digest = sl_strdup(model->digest);
    entry->file_bytes = model->size;
    sl_arena_init(&entry->signature_arena, SIGNATURE_BYTES_MAX);
    node->entries[index] = entry;
    bool ok = entry->name && entry->path && entry->digest &&
              keep_text(model->chat_template, &entry->chat_template) &&
              keep_text(model->system, &entry->system) &&
              keep_text(model->processing, &entry->processing) &&
              keep_text(model->options, &entry->options);
    if (!ok) status = sl_err_set(err, SL_NOMEM, "model");
    if (status == SL_OK && model->parameters)
        status =
            sl_json_parse(model->parameters, strlen(model->parameters), &entry->parameters, err);
    if (status == SL_OK) status = add_to_sched(entry, err);
    if (status != SL_OK) {
        node_entry_free(entry);
        return status;
    }
    *out = entry;
    return SL_OK;
}

static struct node_entry *entry_of_model(struct node *node, const struct store_model *model)
{
    for (size_t i = 0; i < NODE_MODELS_MAX; i++) {
        struct node_entry *entry = node->entries[i];
        if (!entry || entry->removed || strcmp(entry->name, model->name)) continue;
        if (!strcmp(entry->path, model->path) && !strcmp(entry->digest, model->digest))
            return entry;
        node_entry_remove(entry); /* the name means another file now */
    }
    return NULL;
}

static sl_status echo_entry(struct node *node, const char *name, struct node_entry **out,
                            struct sl_err *err)
{
    struct store_model model = {0};
    if (!node->cfg.allow_echo || strlen(name) >= sizeof model.name)
        return sl_err_set(err, SL_NOT_FOUND, "the scripted engine is off (--echo switches it on)");
    strcpy(model.name, name);
    snprintf(model.path, sizeof model.path, "%s", name);
    *out = entry_of_model(node, &model);
    sl_status status = *out ? SL_OK : node_entry_make(node, &model, "echo", out, err);
    if (status == SL_OK) name_put(node, name, *out);
    return status;
}

/* A path has no manifest that could change under it. */
static bool is_trusted(const struct node_name *name)
{
    return !*name->entry->digest || sl_now_ns() - name->checked_ns < NODE_NAME_TRUST_NS;
}

/* A model that was given by its path. The store does not know it, so its name must outlive the
 * table of names. */
static struct node_entry *local_entry(struct node *node, const char *name)
{
    for (size_t i = 0; i < NODE_MODELS_MAX; i++) {
        struct node_entry *entry = node->entries[i];
        if (entry && !entry->removed && !*entry->digest && !strcmp(entry->name, name)) return entry;
    }
    return NULL;
}

/* A model given by its path is known to clients by its file's name without ".gguf" or ".onnx". */
static void name_by_file(struct store_model *model, const char *path)
{
    static const char *const suffixes[] = {".gguf", ".onnx"};
    const char *slash = strrchr(path, '/');
    snprintf(model->name, sizeof model->name, "%.1000s", slash ? slash + 1 : path);
    size_t n = strlen(model->name);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t n_suffix = strlen(suffixes[i]);
        if (n > n_suffix && !strcmp(model->name + n - n_suffix, suffixes[i]))
            model->name[n - n_suffix] = '\0';
    }
}

/* Clients could not tell two files apart that have one name in two folders. */
static sl_status check_name_is_free(struct node *node, const struct store_model *model,
                                    struct sl_err *err)
{
    const struct node_entry *other = local_entry(node, model->name);
    if (!other || !strcmp(other->path, model->path)) return SL_OK;
    return sl_err_set(err, SL_EXISTS,
                      "two files would be known as \"%s\": %s and %s; import one of them under "
                      "another name",
                      model->name, other->path, model->path);
}

sl_status node_entry_of(struct node *node, const char *name, bool any_path, struct node_entry **out,
                        struct sl_err *err)
{
    struct node_name *known = name_find(node, name);
    if (known && !known->entry->removed && is_trusted(known)) {
        *out = known->entry;
        return SL_OK;
    }
    if (!strncmp(name, ECHO_PREFIX, strlen(ECHO_PREFIX))) return echo_entry(node, name, out, err);
    if ((*out = node_part_entry(node, name)) || (!any_path && (*out = local_entry(node, name)))) {
        name_put(node, name, *out);
        return SL_OK;
    }
    struct store_model model;
    sl_status status = any_path ? store_resolve(node->cfg.store, name, &model, err)
                                : store_find(node->cfg.store, name, &model, err);
    if (status != SL_OK) {
        if (status == SL_NOT_FOUND && known && !known->entry->removed)
            node_entry_remove(known->entry);
        return status;
    }
    if (model.local) {
        name_by_file(&model, name);
        status = check_name_is_free(node, &model, err);
    }
    *out = status == SL_OK ? entry_of_model(node, &model) : NULL;
    const char *kind = strcmp(model.details.format, "onnx") ? "llm" : "onnx";
    if (status == SL_OK && !*out) status = node_entry_make(node, &model, kind, out, err);
    if (status == SL_OK) name_put(node, name, *out);
    if (status == SL_OK && model.local) name_put(node, model.name, *out);
    store_model_done(&model);
    return status;
}

/* --- the worker --- */

static void tell_sched(struct node_entry *entry, enum sched_event_kind kind, const char *reason)
{
    struct sched_event event = {.kind = kind, .model = entry->index, .reason = reason};
    node_step(entry->node, &event);
}

static void set_error(struct node_entry *entry, const char *text)
{
    snprintf(entry->last_error, sizeof entry->last_error, "%s", text);
}

static void on_loading(void *ctx, double fraction)
{
    struct node_entry *entry = ctx;
    if (entry->split)
        node_split_loading(entry, fraction);
    else
        entry->load_fraction = fraction;
}

static const char *keep(const char *s, bool *ok)
{
    char *copy = s ? sl_strdup(s) : NULL;
    if (s && !copy) *ok = false;
    return copy;
}

static const struct tensor_spec *keep_specs(struct node_entry *entry,
                                            const struct tensor_spec *specs, size_t n, bool *ok)
{
    struct tensor_spec *v = sl_arena_array(&entry->signature_arena, n + 1, sizeof *v);
    for (size_t i = 0; v && i < n; i++) {
        v[i] = specs[i];
        v[i].name = sl_arena_strndup(&entry->signature_arena, specs[i].name, strlen(specs[i].name));
        *ok = *ok && v[i].name;
    }
    *ok = *ok && v;
    return v;
}

static void keep_signature(struct node_entry *entry, const struct tensor_signature *signature,
                           bool *ok)
{
    struct tensor_signature *own = &entry->info.signature;
    own->inputs = keep_specs(entry, signature->inputs, signature->n_inputs, ok);
    own->outputs = keep_specs(entry, signature->outputs, signature->n_outputs, ok);
}

/* The strings of a worker's greeting live only as long as the worker. */
static void keep_info(struct node_entry *entry, const struct engine_info *info)
{
    bool ok = true;
    forget_info(entry);
    entry->info = *info;
    entry->info.architecture = keep(info->architecture, &ok);
    entry->info.name = keep(info->name, &ok);
    entry->info.chat_template = keep(info->chat_template, &ok);
    entry->info.bos_text = keep(info->bos_text, &ok);
    entry->info.eos_text = keep(info->eos_text, &ok);
    entry->info.quantization = keep(info->quantization, &ok);
    entry->info.device = keep(info->device, &ok);
    keep_signature(entry, &info->signature, &ok);
    entry->has_info = ok;
    if (!ok) forget_info(entry);
}

/* What a worker says of itself, as the scheduler takes it. */
static uint64_t bytes_of(const struct wire_loaded *loaded)
{
    const uint64_t parts[] = {loaded->weight_bytes, loaded->kv_bytes, loaded->compute_bytes};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        bytes = parts[i] < SCHED_BYTES_LIMIT - bytes ? bytes + parts[i] : SCHED_BYTES_LIMIT;
    return bytes;
}

static uint32_t slots_of(const struct wire_loaded *loaded)
{
    int32_t n = loaded->info.n_seqs_max;
    if (n <= 0) return 0;
    return n < SCHED_SLOTS_LIMIT ? (uint32_t)n : SCHED_SLOTS_LIMIT;
}

static void tell_watcher(const struct node *node)
{
    if (node->on_model) node->on_model(node->on_model_ctx);
}

void node_entry_check_loaded(struct node_entry *entry)
{
    const struct wire_loaded *loaded = entry->worker ? worker_loaded(entry->worker) : NULL;
    if (!loaded || (entry->split && !(entry->chain && chain_is_ready(entry->chain)))) return;
    struct sched_event event = {.kind = SCHED_LOADED, .model = entry->index};
    keep_info(entry, &loaded->info);
    entry->traits = loaded->traits;
    entry->loaded_at_ns = sl_now_ns();
    entry->load_fraction = 1.0;
    entry->last_error[0] = '\0';
    event.loaded.bytes = bytes_of(loaded);
    event.loaded.n_slots = slots_of(loaded);
    sl_log(SL_LOG_INFO, "node", "%s: loaded in %.1f s, %.1f MB", entry->name,
           (double)loaded->load_ns / 1e9, (double)event.loaded.bytes / 1e6);
    node_step(entry->node, &event);
    tell_watcher(entry->node);
}

static void on_loaded(void *ctx, const struct wire_loaded *loaded)
{
    (void)loaded; /* the worker keeps it */
    node_entry_check_loaded(ctx);
}

void node_entry_refuse(struct node_entry *entry, const char *reason)
{
    set_error(entry, reason);
    sl_log(SL_LOG_WARN, "node", "%s: not loaded: %s", entry->name, reason);
    tell_sched(entry, SCHED_LOAD_FAILED, reason);
    tell_watcher(entry->node);
}

static void on_load_failed(void *ctx, sl_status status, const char *message)
{
    (void)status;
    node_entry_refuse(ctx, message);
}

static void on_events(void *ctx, const struct wire_event *events, size_t n)
{
    node_requests_events(ctx, events, n);
}

static void on_stats(void *ctx, const struct engine_stats *stats)
{
    node_split_measure(ctx, stats);
}

static void on_frame(void *ctx, int32_t to, const void *bytes, size_t n)
{
    node_split_frame(ctx, to, bytes, n);
}

static void on_log(void *ctx, const char *line)
{
    sl_log(SL_LOG_DEBUG, "worker", "%s: %s", ((struct node_entry *)ctx)->name, line);
}

static void on_exit_of_worker(void *ctx, const struct worker_exit *how)
{
    struct node_entry *entry = ctx;
    bool broken = *entry->broken;
    bool asked = !broken && (how->end == WORKER_END_UNLOADED || how->end == WORKER_END_KILLED ||
                             how->end == WORKER_END_LOAD_FAILED);
    char reason[SL_ERR_TEXT_MAX];
    snprintf(reason, sizeof reason, "%.511s", broken ? entry->broken : how->reason);
    worker_destroy(entry->worker);
    entry->worker = NULL;
    entry->load_fraction = 0;
    node_split_close(entry);
    node_requests_orphan(entry);
    if (!asked) {
        entry->n_crashes++;
        set_error(entry, reason);
        sl_log(SL_LOG_WARN, "node", "%s: %s %s: %s", entry->name, broken ? "chain" : "worker",
               broken ? "broken" : worker_end_name(how->end), reason);
    }
    tell_sched(entry, asked ? SCHED_WORKER_EXITED : SCHED_WORKER_DIED, reason);
    loop_queue_task(entry->node->cfg.loop, &entry->node->work);
    tell_watcher(entry->node);
}

/* What the node's configuration, and the split where there is one, make of an engine. */
static struct engine_load load_of(const struct node_entry *entry)
{
    const struct node_cfg *cfg = &entry->node->cfg;
    struct engine_load load = {.kind = entry->kind,
                               .path = entry->path,
                               .n_threads = cfg->n_threads,
                               .n_ctx = cfg->n_ctx,
                               .n_seqs_max = cfg->n_seqs_max,
                               .gpu_layers = cfg->gpu_layers,
                               .kv_type = cfg->kv_type,
                               .kv_bytes_max = cfg->kv_bytes_max,
                               .kv_contexts = cfg->kv_contexts,
                               .no_prefix_cache = cfg->no_prefix_cache,
                               .options = entry->options};
    if (!entry->split) return load;
    const struct grid_split split = node_split_resolve(entry->node, entry->split);
    load.n_ctx = split.n_ctx;
    load.n_seqs_max = split.n_seqs;
    load.n_batch = split.n_batch;
    load.split = node_split_engine(&split);
    return load;
}

void node_entry_spawn(struct node_entry *entry)
{
    static const struct worker_callbacks callbacks = {
        .on_loading = on_loading,
        .on_loaded = on_loaded,
        .on_load_failed = on_load_failed,
        .on_events = on_events,
        .on_stats = on_stats,
        .on_log = on_log,
        .on_frame = on_frame,
        .on_exit = on_exit_of_worker,
    };
    const struct node_cfg *cfg = &entry->node->cfg;
    const struct worker_cfg spawn = {
        .exe = cfg->worker_binary,
        .watchdog_ms = cfg->watchdog_ms,
        .load = {.engine = load_of(entry),
                 .title = entry->name,
                 .chat_template = entry->chat_template},
    };
    struct sl_err err = SL_ERR_INIT;
    sl_status status =
        node_part_fits(entry, entry->split)
            ? worker_spawn(cfg->loop, &spawn, &callbacks, entry, &entry->worker, &err)
            : sl_err_set(&err, SL_UNSUPPORTED, "only some of its layers are here");
    if (status == SL_OK) {
        sl_log(SL_LOG_INFO, "node", "%s: loading%s", entry->name,
               entry->split ? " the first of its stages" : "");
        tell_sched(entry, SCHED_WORKER_STARTED, NULL);
        if (entry->split) node_split_open(entry);
        return;
    }
    set_error(entry, err.text);
    sl_log(SL_LOG_ERROR, "node", "%s: no worker: %s", entry->name, err.text);
    tell_sched(entry, SCHED_WORKER_DIED, err.text);
}
