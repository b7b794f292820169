/* sim_nodes_file.c: see sim_nodes_file.h. */
#include "cli/sim_nodes_file.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES_MAX 4096 /* of a list in the file; `count` makes many nodes of one */

/* As the file has it. What is left out is 0 and gets its default after. */
struct file_node {
    char *name;
    uint32_t count, site;
    double rtt_ms, jitter_ms;
    uint32_t slots, queue;
    double prefill, decode, decode_full;
    uint32_t prefill_chunk;
    uint64_t kv_tokens;
    uint64_t *cache_tokens; /* 0 is a value: none */
    double watts_idle, watts_busy, price_kwh, price_mtok;
    char **models;
    unsigned models_count;
};

struct file_model {
    char *name;
    double load_s;
};

struct file_failure {
    enum sim_failure_kind kind;
    char *node;
    double at_s, for_s, factor;
    int32_t *gateway;
};

struct file {
    struct file_model *models;
    unsigned models_count;
    struct file_node *nodes;
    unsigned nodes_count;
    struct file_failure *failures;
    unsigned failures_count;
};

#define OPTIONAL CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t text_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, SIM_NAME_MAX - 1)};

static const cyaml_schema_field_t node_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct file_node, name, 1, SIM_NAME_MAX - 8),
    CYAML_FIELD_UINT("count", OPTIONAL, struct file_node, count),
    CYAML_FIELD_UINT("site", OPTIONAL, struct file_node, site),
    CYAML_FIELD_FLOAT("rtt_ms", OPTIONAL, struct file_node, rtt_ms),
    CYAML_FIELD_FLOAT("jitter_ms", OPTIONAL, struct file_node, jitter_ms),
    CYAML_FIELD_UINT("slots", OPTIONAL, struct file_node, slots),
    CYAML_FIELD_UINT("queue", OPTIONAL, struct file_node, queue),
    CYAML_FIELD_FLOAT("prefill", CYAML_FLAG_DEFAULT, struct file_node, prefill),
    CYAML_FIELD_FLOAT("decode", CYAML_FLAG_DEFAULT, struct file_node, decode),
    CYAML_FIELD_FLOAT("decode_full", CYAML_FLAG_DEFAULT, struct file_node, decode_full),
    CYAML_FIELD_UINT("prefill_chunk", OPTIONAL, struct file_node, prefill_chunk),
    CYAML_FIELD_UINT("kv_tokens", CYAML_FLAG_DEFAULT, struct file_node, kv_tokens),
    CYAML_FIELD_UINT_PTR("cache_tokens", CYAML_FLAG_POINTER | OPTIONAL, struct file_node,
                         cache_tokens),
    CYAML_FIELD_FLOAT("watts_idle", OPTIONAL, struct file_node, watts_idle),
    CYAML_FIELD_FLOAT("watts_busy", OPTIONAL, struct file_node, watts_busy),
    CYAML_FIELD_FLOAT("price_kwh", OPTIONAL, struct file_node, price_kwh),
    CYAML_FIELD_FLOAT("price_mtok", OPTIONAL, struct file_node, price_mtok),
    CYAML_FIELD_SEQUENCE("models", CYAML_FLAG_POINTER | OPTIONAL, struct file_node, models,
                         &text_schema, 1, SIM_NODE_MODELS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t node_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_node, node_fields)};

static const cyaml_schema_field_t model_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct file_model, name, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_FLOAT("load_s", OPTIONAL, struct file_model, load_s), CYAML_FIELD_END};

static const cyaml_schema_value_t model_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_model, model_fields)};

static const cyaml_strval_t failure_kinds[] = {
    {"crash", SIM_CRASH}, {"slow", SIM_SLOW}, {"partition", SIM_PARTITION}};

static const cyaml_schema_field_t failure_fields[] = {
    CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct file_failure, kind, failure_kinds,
                     CYAML_ARRAY_LEN(failure_kinds)),
    CYAML_FIELD_STRING_PTR("node", CYAML_FLAG_POINTER, struct file_failure, node, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_FLOAT("at_s", CYAML_FLAG_DEFAULT, struct file_failure, at_s),
    CYAML_FIELD_FLOAT("for_s", CYAML_FLAG_DEFAULT, struct file_failure, for_s),
    CYAML_FIELD_FLOAT("factor", OPTIONAL, struct file_failure, factor),
    CYAML_FIELD_INT_PTR("gateway", CYAML_FLAG_POINTER | OPTIONAL, struct file_failure, gateway),
    CYAML_FIELD_END};

static const cyaml_schema_value_t failure_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_failure, failure_fields)};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_SEQUENCE("models", CYAML_FLAG_POINTER, struct file, models, &model_schema, 1,
                         SIM_MODELS_LIMIT),
    CYAML_FIELD_SEQUENCE("nodes", CYAML_FLAG_POINTER, struct file, nodes, &node_schema, 1,
                         ENTRIES_MAX),
    CYAML_FIELD_SEQUENCE("failures", CYAML_FLAG_POINTER | OPTIONAL, struct file, failures,
                         &failure_schema, 0, SIM_FAILURES_LIMIT),
    CYAML_FIELD_END};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file, file_fields)};

/* --- from the file's form to the simulator's --- */

static sl_status model_of(const struct sim_nodes *out, const char *name, uint32_t *out_model,
                          struct sl_err *err)
{
    for (uint32_t i = 0; i < out->n_models; i++) {
        if (strcmp(out->models[i].name, name) != 0) continue;
        *out_model = i;
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID, "model %s is not in the list of models", name);
}

static double or_else(double value, double otherwise)
{
    return value > 0 ? value : otherwise;
}

#define SLOTS_DEFAULT 16
#define CHUNK_DEFAULT 512

static sl_status node_fill(const struct sim_nodes *out, const struct file_node *from,
                           struct sim_node *node, struct sl_err *err)
{
    *node = (struct sim_node){
        .site = from->site,
        .rtt_s = from->rtt_ms / 1000,
        .jitter_s = from->jitter_ms / 1000,
        .n_slots = from->slots ? from->slots : SLOTS_DEFAULT,
        .prefill_tps = from->prefill,
        .decode_tps = from->decode,
        .decode_full_tps = from->decode_full,
        .prefill_chunk = from->prefill_chunk ? from->prefill_chunk : CHUNK_DEFAULT,
        .kv_tokens = from->kv_tokens,
        .cache_tokens = from->cache_tokens ? *from->cache_tokens : from->kv_tokens,
        .watts_idle = from->watts_idle,
        .watts_busy = or_else(from->watts_busy, from->watts_idle),
        .price_kwh = from->price_kwh,
        .price_mtok = from->price_mtok,
    };
    node->n_queue = from->queue ? from->queue : 2 * node->n_slots;
    node->n_models = from->models_count;
    for (uint32_t i = 0; i < from->models_count; i++) {
        sl_status status = model_of(out, from->models[i], &node->models[i], err);
        if (status != SL_OK) return sl_err_prefix(err, "node %s", from->name);
    }
    if (from->models_count == 0) {
        node->n_models = out->n_models < SIM_NODE_MODELS_MAX ? out->n_models : SIM_NODE_MODELS_MAX;
        for (uint32_t i = 0; i < node->n_models; i++) node->models[i] = i;
    }
    return SL_OK;
}

static uint32_t count_of(const struct file_node *node)
{
    return node->count ? node->count : 1;
}

/* One that stands for several is NAME-0, NAME-1, ... */
static sl_status nodes_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < file->nodes_count; i++) n += count_of(&file->nodes[i]);
    if (n > SIM_NODES_LIMIT)
        return sl_err_set(err, SL_INVALID, "nodes: at most %d", SIM_NODES_LIMIT);
    out->nodes = sl_calloc(n, sizeof *out->nodes);
    if (!out->nodes) return sl_err_set(err, SL_NOMEM, "no memory for %u nodes", (unsigned)n);
    for (unsigned i = 0; i < file->nodes_count; i++) {
        const struct file_node *from = &file->nodes[i];
        for (uint32_t k = 0; k < count_of(from); k++) {
            struct sim_node *node = &out->nodes[out->n_nodes++];
            sl_status status = node_fill(out, from, node, err);
            if (status != SL_OK) return status;
            if (count_of(from) > 1)
                snprintf(node->name, sizeof node->name, "%s-%u", from->name, k);
            else
                snprintf(node->name, sizeof node->name, "%s", from->name);
        }
    }
    return SL_OK;
}

static sl_status models_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    out->models = sl_calloc(file->models_count, sizeof *out->models);
    if (!out->models) return sl_err_set(err, SL_NOMEM, "no memory for models");
    for (unsigned i = 0; i < file->models_count; i++) {
        struct sim_model *model = &out->models[out->n_models++];
        snprintf(model->name, sizeof model->name, "%s", file->models[i].name);
        model->load_s = file->models[i].load_s;
        if (!(model->load_s >= 0 && model->load_s < 1e6))
            return sl_err_set(err, SL_INVALID, "model %s: load_s: from 0 on", model->name);
    }
    return SL_OK;
}

static sl_status failures_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    out->failures = sl_calloc(file->failures_count, sizeof *out->failures);
    if (!out->failures) return sl_err_set(err, SL_NOMEM, "no memory for failures");
    for (unsigned i = 0; i < file->failures_count; i++) {
        const struct file_failure *from = &file->failures[i];
        uint32_t node = 0;
        while (node < out->n_nodes && strcmp(out->nodes[node].name, from->node) != 0) node++;
        if (node == out->n_nodes)
            return sl_err_set(err, SL_INVALID, "failure %u: there is no node %s", i + 1,
                              from->node);
        out->failures[out->n_failures++] =
            (struct sim_failure){.kind = from->kind,
                                 .node = node,
                                 .at_s = from->at_s,
                                 .for_s = from->for_s,
                                 .factor = from->factor,
                                 .gateway = from->gateway ? *from->gateway : -1};
    }
    return SL_OK;
}

/* --- libcyaml --- */

static void *cyaml_memory(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (size > 0) return sl_realloc(p, size);
    sl_free(p);
    return NULL;
}

/* The first thing it says is what is wrong; where follows. */
struct complaint {
    char text[SL_ERR_TEXT_MAX];
    size_t n;
};

static void cyaml_complains(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
    SL_PRINTF(3, 0);

static void cyaml_complains(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct complaint *complaint = ctx;
    char line[SL_ERR_TEXT_MAX];
    (void)level;
    vsnprintf(line, sizeof line, fmt, args);
    const char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    text += strspn(text, " ");
    int n = snprintf(complaint->text + complaint->n, sizeof complaint->text - complaint->n,
                     "%s%.*s", complaint->n ? "; " : "", (int)strcspn(text, "\n"), text);
    if (n > 0 && complaint->n + (size_t)n < sizeof complaint->text) complaint->n += (size_t)n;
}

sl_status sim_nodes_read(const char *text, size_t n, struct sim_nodes *out, struct sl_err *err)
{
    struct complaint complaint = {0};
    cyaml_config_t config = {.log_fn = cyaml_complains,
                             .log_ctx = &complaint,
                             .mem_fn = cyaml_memory,
                             .log_level = CYAML_LOG_ERROR};
    cyaml_data_t *loaded = NULL;
    *out = (struct sim_nodes){0};
    cyaml_err_t problem =
        cyaml_load_data((const uint8_t *)text, n, &config, &file_schema, &loaded, NULL);
    if (problem == CYAML_ERR_OOM) return sl_err_set(err, SL_NOMEM, "no memory");
    if (problem != CYAML_OK)
        return sl_err_set(err, SL_INVALID, "%s",
                          complaint.n ? complaint.text : cyaml_strerror(problem));
    if (!loaded) return sl_err_set(err, SL_INVALID, "the file is empty");
    const struct file *file = (const struct file *)loaded;
    sl_status status = models_fill(file, out, err);
    if (status == SL_OK) status = nodes_fill(file, out, err);
    if (status == SL_OK) status = failures_fill(file, out, err);
    (void)cyaml_free(&config, &file_schema, loaded, 0);
    if (status != SL_OK) sim_nodes_done(out);
    return status;
}

sl_status sim_nodes_load(const char *path, struct sim_nodes *out, struct sl_err *err)
{
    struct sl_buf text;
    *out = (struct sim_nodes){0};
    sl_buf_init(&text, SIM_NODES_FILE_BYTES_MAX);
    sl_status status = cli_read_file(path, &text, err);
    if (status == SL_OK) {
        status = sim_nodes_read(text.data, text.len, out, err);
        if (status != SL_OK) status = sl_err_prefix(err, "%s", path);
    }
    sl_buf_done(&text);
    return status;
}

void sim_nodes_done(struct sim_nodes *nodes)
{
    sl_free(nodes->models);
    sl_free(nodes->nodes);
    sl_free(nodes->failures);
    *nodes = (struct sim_nodes){0};
}
