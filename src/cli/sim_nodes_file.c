/* sim_nodes_file.c: see sim_nodes_file.h. */
#include "cli/sim_nodes_file.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <string.h>

#define PARTS_MAX 10000 /* of a model's shares */
#define LINKS_MAX (SIM_SITES_LIMIT * SIM_SITES_LIMIT / 2)
#define ENTRIES_MAX 4096 /* of a list in the file; `count` makes many nodes of one */

/* As the file has it. What is left out is 0 and gets its default after. */
struct file_step {
    uint32_t streams;
    double ms;
};

struct file_node {
    char *name, *site, *tariff;
    uint32_t count;
    double rtt_ms, jitter_ms, mbit, overhead_ms;
    uint32_t slots, queue;
    double prefill, prefill_ms, decode, decode_full, context_us;
    struct file_step *steps;
    unsigned steps_count;
    uint32_t prefill_chunk, prefill_group;
    uint64_t kv_tokens;
    uint64_t *cache_tokens; /* 0 is a value: none */
    double memory_gb, disk_mb_s;
    double watts_idle, watts_busy, price_kwh, price_mtok, carbon_kwh;
    char **models, **stored;
    unsigned models_count, stored_count;
};

struct file_model {
    char *name;
    double load_s, gb;
    uint32_t replicas_min, replicas_max;
    double *shares;
    unsigned shares_count;
};

struct file_link {
    char *from, *to;
    double rtt_ms, jitter_ms, mbit, loss;
};

struct file_tariff {
    char *name;
    double *price_kwh, *carbon_kwh;
    unsigned price_kwh_count, carbon_kwh_count;
};

struct file_failure {
    enum sim_failure_kind kind;
    char *node;
    double at_s, for_s, every_s, factor;
    int32_t *gateway;
};

struct file {
    bool placement;
    struct file_model *models;
    unsigned models_count;
    char **sites;
    unsigned sites_count;
    struct file_link *links;
    unsigned links_count;
    char **gateways;
    unsigned gateways_count;
    struct file_tariff *tariffs;
    unsigned tariffs_count;
    struct file_node *nodes;
    unsigned nodes_count;
    struct file_failure *failures;
    unsigned failures_count;
};

#define OPTIONAL CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t text_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, SIM_NAME_MAX - 1)};

static const cyaml_schema_value_t number_schema = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double)};

static const cyaml_schema_field_t step_fields[] = {
    CYAML_FIELD_UINT("streams", CYAML_FLAG_DEFAULT, struct file_step, streams),
    CYAML_FIELD_FLOAT("ms", CYAML_FLAG_DEFAULT, struct file_step, ms), CYAML_FIELD_END};

static const cyaml_schema_value_t step_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_step, step_fields)};

static const cyaml_schema_field_t node_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct file_node, name, 1, SIM_NAME_MAX - 8),
    CYAML_FIELD_UINT("count", OPTIONAL, struct file_node, count),
    CYAML_FIELD_STRING_PTR("site", CYAML_FLAG_POINTER | OPTIONAL, struct file_node, site, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_STRING_PTR("tariff", CYAML_FLAG_POINTER | OPTIONAL, struct file_node, tariff, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_FLOAT("mbit", OPTIONAL, struct file_node, mbit),
    CYAML_FIELD_FLOAT("overhead_ms", OPTIONAL, struct file_node, overhead_ms),
    CYAML_FIELD_FLOAT("prefill_ms", OPTIONAL, struct file_node, prefill_ms),
    CYAML_FIELD_FLOAT("context_us", OPTIONAL, struct file_node, context_us),
    CYAML_FIELD_SEQUENCE("steps", CYAML_FLAG_POINTER | OPTIONAL, struct file_node, steps,
                         &step_schema, 1, SIM_STEPS_MAX),
    CYAML_FIELD_UINT("prefill_group", OPTIONAL, struct file_node, prefill_group),
    CYAML_FIELD_FLOAT("memory_gb", OPTIONAL, struct file_node, memory_gb),
    CYAML_FIELD_FLOAT("disk_mb_s", OPTIONAL, struct file_node, disk_mb_s),
    CYAML_FIELD_FLOAT("carbon_kwh", OPTIONAL, struct file_node, carbon_kwh),
    CYAML_FIELD_FLOAT("rtt_ms", OPTIONAL, struct file_node, rtt_ms),
    CYAML_FIELD_FLOAT("jitter_ms", OPTIONAL, struct file_node, jitter_ms),
    CYAML_FIELD_UINT("slots", OPTIONAL, struct file_node, slots),
    CYAML_FIELD_UINT("queue", OPTIONAL, struct file_node, queue),
    CYAML_FIELD_FLOAT("prefill", CYAML_FLAG_DEFAULT, struct file_node, prefill),
    CYAML_FIELD_FLOAT("decode", OPTIONAL, struct file_node, decode),
    CYAML_FIELD_FLOAT("decode_full", OPTIONAL, struct file_node, decode_full),
    CYAML_FIELD_UINT("prefill_chunk", OPTIONAL, struct file_node, prefill_chunk),
    CYAML_FIELD_UINT("kv_tokens", CYAML_FLAG_DEFAULT, struct file_node, kv_tokens),
    CYAML_FIELD_UINT_PTR("cache_tokens", CYAML_FLAG_POINTER | OPTIONAL, struct file_node,
                         cache_tokens),
    CYAML_FIELD_FLOAT("watts_idle", OPTIONAL, struct file_node, watts_idle),
    CYAML_FIELD_FLOAT("watts_busy", OPTIONAL, struct file_node, watts_busy),
    CYAML_FIELD_FLOAT("price_kwh", OPTIONAL, struct file_node, price_kwh),
    CYAML_FIELD_FLOAT("price_mtok", OPTIONAL, struct file_node, price_mtok),
    CYAML_FIELD_SEQUENCE("models", CYAML_FLAG_POINTER | OPTIONAL, struct file_node, models,
                         &text_schema, 0, SIM_NODE_MODELS_MAX),
    CYAML_FIELD_SEQUENCE("stored", CYAML_FLAG_POINTER | OPTIONAL, struct file_node, stored,
                         &text_schema, 0, SIM_NODE_MODELS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t node_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_node, node_fields)};

static const cyaml_schema_field_t model_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct file_model, name, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_FLOAT("load_s", OPTIONAL, struct file_model, load_s),
    CYAML_FIELD_FLOAT("gb", OPTIONAL, struct file_model, gb),
    CYAML_FIELD_UINT("replicas_min", OPTIONAL, struct file_model, replicas_min),
    CYAML_FIELD_UINT("replicas_max", OPTIONAL, struct file_model, replicas_max),
    CYAML_FIELD_SEQUENCE("shares", CYAML_FLAG_POINTER | OPTIONAL, struct file_model, shares,
                         &number_schema, 1, PARTS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t model_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_model, model_fields)};

static const cyaml_schema_field_t link_fields[] = {
    CYAML_FIELD_STRING_PTR("from", CYAML_FLAG_POINTER, struct file_link, from, 1, SIM_NAME_MAX - 1),
    CYAML_FIELD_STRING_PTR("to", CYAML_FLAG_POINTER, struct file_link, to, 1, SIM_NAME_MAX - 1),
    CYAML_FIELD_FLOAT("rtt_ms", OPTIONAL, struct file_link, rtt_ms),
    CYAML_FIELD_FLOAT("jitter_ms", OPTIONAL, struct file_link, jitter_ms),
    CYAML_FIELD_FLOAT("mbit", OPTIONAL, struct file_link, mbit),
    CYAML_FIELD_FLOAT("loss", OPTIONAL, struct file_link, loss),
    CYAML_FIELD_END};

static const cyaml_schema_value_t link_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_link, link_fields)};

static const cyaml_schema_field_t tariff_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct file_tariff, name, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_SEQUENCE("price_kwh", CYAML_FLAG_POINTER | OPTIONAL, struct file_tariff, price_kwh,
                         &number_schema, 1, SIM_TARIFF_HOURS_MAX),
    CYAML_FIELD_SEQUENCE("carbon_kwh", CYAML_FLAG_POINTER | OPTIONAL, struct file_tariff,
                         carbon_kwh, &number_schema, 1, SIM_TARIFF_HOURS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t tariff_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_tariff, tariff_fields)};

static const cyaml_strval_t failure_kinds[] = {
    {"crash", SIM_CRASH}, {"slow", SIM_SLOW}, {"partition", SIM_PARTITION}};

static const cyaml_schema_field_t failure_fields[] = {
    CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct file_failure, kind, failure_kinds,
                     CYAML_ARRAY_LEN(failure_kinds)),
    CYAML_FIELD_STRING_PTR("node", CYAML_FLAG_POINTER | OPTIONAL, struct file_failure, node, 1,
                           SIM_NAME_MAX - 1),
    CYAML_FIELD_FLOAT("at_s", OPTIONAL, struct file_failure, at_s),
    CYAML_FIELD_FLOAT("every_s", OPTIONAL, struct file_failure, every_s),
    CYAML_FIELD_FLOAT("for_s", CYAML_FLAG_DEFAULT, struct file_failure, for_s),
    CYAML_FIELD_FLOAT("factor", OPTIONAL, struct file_failure, factor),
    CYAML_FIELD_INT_PTR("gateway", CYAML_FLAG_POINTER | OPTIONAL, struct file_failure, gateway),
    CYAML_FIELD_END};

static const cyaml_schema_value_t failure_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_failure, failure_fields)};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_BOOL("placement", OPTIONAL, struct file, placement),
    CYAML_FIELD_SEQUENCE("models", CYAML_FLAG_POINTER, struct file, models, &model_schema, 1,
                         SIM_MODELS_LIMIT),
    CYAML_FIELD_SEQUENCE("sites", CYAML_FLAG_POINTER | OPTIONAL, struct file, sites, &text_schema,
                         1, SIM_SITES_LIMIT),
    CYAML_FIELD_SEQUENCE("links", CYAML_FLAG_POINTER | OPTIONAL, struct file, links, &link_schema,
                         0, SIM_SITES_LIMIT *SIM_SITES_LIMIT / 2),
    CYAML_FIELD_SEQUENCE("gateways", CYAML_FLAG_POINTER | OPTIONAL, struct file, gateways,
                         &text_schema, 1, SIM_GATEWAYS_LIMIT),
    CYAML_FIELD_SEQUENCE("tariffs", CYAML_FLAG_POINTER | OPTIONAL, struct file, tariffs,
                         &tariff_schema, 0, SIM_TARIFFS_LIMIT),
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
#define GB 1e9
#define MBIT 1e6

/* NULL is the first one. */
static sl_status site_of(const struct file *file, const char *name, uint32_t *out,
                         struct sl_err *err)
{
    *out = 0;
    if (!name) return SL_OK;
    while (*out < file->sites_count && strcmp(file->sites[*out], name) != 0) ++*out;
    if (*out < file->sites_count) return SL_OK;
    return sl_err_set(err, SL_INVALID, "site %s is not in the list of sites", name);
}

static sl_status tariff_of(const struct file *file, const char *name, uint32_t *out,
                           struct sl_err *err)
{
    *out = SIM_NONE;
    for (uint32_t i = 0; name && i < file->tariffs_count && *out == SIM_NONE; i++)
        if (strcmp(file->tariffs[i].name, name) == 0) *out = i;
    if (!name || *out != SIM_NONE) return SL_OK;
    return sl_err_set(err, SL_INVALID, "tariff %s is not in the list of tariffs", name);
}

/* With measured steps the speeds that they say need not be said. */
static void steps_fill(const struct file_node *from, struct sim_node *node)
{
    node->n_steps = from->steps_count;
    for (uint32_t i = 0; i < node->n_steps; i++)
        node->steps[i] = (struct sim_step){from->steps[i].streams, from->steps[i].ms / 1000};
    if (node->n_steps == 0) return;
    const struct sim_step *first = &node->steps[0], *last = &node->steps[node->n_steps - 1];
    node->decode_tps = or_else(node->decode_tps, 1 / first->seconds);
    node->decode_full_tps = or_else(node->decode_full_tps, last->n_streams / last->seconds);
}

static sl_status names_fill(const struct sim_nodes *out, char *const *names, uint32_t n,
                            uint32_t *models, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (uint32_t i = 0; i < n && status == SL_OK; i++)
        status = model_of(out, names[i], &models[i], err);
    return status;
}

static sl_status models_of_node(const struct sim_nodes *out, const struct file_node *from,
                                struct sim_node *node, struct sl_err *err)
{
    node->n_models = from->models_count;
    node->n_stored = from->stored_count;
    sl_status status = names_fill(out, from->models, node->n_models, node->models, err);
    if (status == SL_OK) status = names_fill(out, from->stored, node->n_stored, node->stored, err);
    if (status != SL_OK || from->models_count > 0 || from->memory_gb > 0) return status;
    node->n_models = out->n_models < SIM_NODE_MODELS_MAX ? out->n_models : SIM_NODE_MODELS_MAX;
    for (uint32_t i = 0; i < node->n_models; i++) node->models[i] = i;
    return SL_OK;
}

static uint64_t bytes_of(double gb)
{
    return gb > 0 && gb < 1e6 ? (uint64_t)(gb * GB) : 0;
}

static sl_status node_fill(const struct file *file, const struct sim_nodes *out,
                           const struct file_node *from, struct sim_node *node, struct sl_err *err)
{
    *node = (struct sim_node){
        .rtt_s = from->rtt_ms / 1000,
        .jitter_s = from->jitter_ms / 1000,
        .bits_per_s = from->mbit * MBIT,
        .overhead_s = from->overhead_ms / 1000,
        .n_slots = from->slots ? from->slots : SLOTS_DEFAULT,
        .prefill_tps = from->prefill,
        .prefill_fixed_s = from->prefill_ms / 1000,
        .context_s = from->context_us / 1e6,
        .decode_tps = from->decode,
        .decode_full_tps = from->decode_full,
        .prefill_chunk = from->prefill_chunk ? from->prefill_chunk : CHUNK_DEFAULT,
        .prefill_group = from->prefill_group,
        .kv_tokens = from->kv_tokens,
        .cache_tokens = from->cache_tokens ? *from->cache_tokens : from->kv_tokens,
        .memory_bytes = bytes_of(from->memory_gb),
        .disk_bytes_per_s = from->disk_mb_s * 1e6,
        .watts_idle = from->watts_idle,
        .watts_busy = or_else(from->watts_busy, from->watts_idle),
        .price_kwh = from->price_kwh,
        .carbon_kwh = from->carbon_kwh,
        .price_mtok = from->price_mtok,
    };
    node->n_queue = from->queue ? from->queue : 2 * node->n_slots;
    steps_fill(from, node);
    sl_status status = site_of(file, from->site, &node->site, err);
    if (status == SL_OK) status = tariff_of(file, from->tariff, &node->tariff, err);
    if (status == SL_OK) status = models_of_node(out, from, node, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "node %s", from->name);
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
            sl_status status = node_fill(file, out, from, node, err);
            if (status != SL_OK) return status;
            if (count_of(from) > 1)
                snprintf(node->name, sizeof node->name, "%s-%u", from->name, k);
            else
                snprintf(node->name, sizeof node->name, "%s", from->name);
        }
    }
    return SL_OK;
}

/* The shares of all models in the same parts: one number is the share all the time. */
static sl_status shares_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    out->n_parts = 1;
    for (unsigned i = 0; i < file->models_count; i++)
        if (file->models[i].shares_count > 1) out->n_parts = file->models[i].shares_count;
    out->shares = sl_calloc((size_t)out->n_models * out->n_parts, sizeof *out->shares);
    if (!out->shares) return sl_err_set(err, SL_NOMEM, "no memory for shares");
    for (unsigned i = 0; i < file->models_count; i++) {
        const struct file_model *from = &file->models[i];
        if (from->shares_count > 1 && from->shares_count != out->n_parts)
            return sl_err_set(err, SL_INVALID, "model %s: shares: as many as the others have",
                              from->name);
        for (uint32_t k = 0; k < out->n_parts; k++) {
            double share = 1;
            if (from->shares_count > 0) share = from->shares[from->shares_count > 1 ? k : 0];
            if (!(share >= 0 && share < 1e9))
                return sl_err_set(err, SL_INVALID, "model %s: shares: from 0 on", from->name);
            out->shares[(size_t)i * out->n_parts + k] = share;
        }
    }
    return SL_OK;
}

static sl_status models_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    out->models = sl_calloc(file->models_count, sizeof *out->models);
    if (!out->models) return sl_err_set(err, SL_NOMEM, "no memory for models");
    for (unsigned i = 0; i < file->models_count; i++) {
        const struct file_model *from = &file->models[i];
        struct sim_model *model = &out->models[out->n_models++];
        *model = (struct sim_model){.load_s = from->load_s,
                                    .bytes = bytes_of(from->gb),
                                    .replicas_min = from->replicas_min,
                                    .replicas_max = from->replicas_max};
        snprintf(model->name, sizeof model->name, "%s", from->name);
        if (!(model->load_s >= 0 && model->load_s < 1e6) || !(from->gb >= 0 && from->gb < 1e6))
            return sl_err_set(err, SL_INVALID, "model %s: load_s and gb: from 0 on", model->name);
    }
    return shares_fill(file, out, err);
}

static sl_status links_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    sl_status status = SL_OK;
    uint32_t n = out->n_sites = file->sites_count, from, to;
    if (n == 0 && file->links_count == 0) return SL_OK;
    if (n == 0) return sl_err_set(err, SL_INVALID, "links are between sites: there are none");
    out->links = sl_calloc((size_t)n * n, sizeof *out->links);
    if (!out->links) return sl_err_set(err, SL_NOMEM, "no memory for links");
    for (unsigned i = 0; i < file->links_count && status == SL_OK; i++) {
        const struct file_link *link = &file->links[i];
        status = site_of(file, link->from, &from, err);
        if (status == SL_OK) status = site_of(file, link->to, &to, err);
        if (status != SL_OK) return sl_err_prefix(err, "link %u", i + 1);
        out->links[(size_t)from * n + to] = out->links[(size_t)to * n + from] =
            (struct sim_link){.rtt_s = link->rtt_ms / 1000,
                              .jitter_s = link->jitter_ms / 1000,
                              .bits_per_s = link->mbit * MBIT,
                              .loss = link->loss};
    }
    return SL_OK;
}

static sl_status gateways_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    if (file->gateways_count == 0) return SL_OK;
    out->gateway_sites = sl_calloc(file->gateways_count, sizeof *out->gateway_sites);
    if (!out->gateway_sites) return sl_err_set(err, SL_NOMEM, "no memory for gateways");
    for (unsigned i = 0; i < file->gateways_count; i++) {
        sl_status status = site_of(file, file->gateways[i], &out->gateway_sites[i], err);
        if (status != SL_OK) return sl_err_prefix(err, "gateways");
        out->n_gateways++;
    }
    return SL_OK;
}

static sl_status series_copy(const double *from, uint32_t n, double **out, uint32_t *out_n)
{
    *out = sl_calloc(n ? n : 1, sizeof **out);
    if (!*out) return SL_NOMEM;
    if (n) memcpy(*out, from, n * sizeof **out);
    *out_n = n;
    return SL_OK;
}

static sl_status tariffs_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    sl_status status = SL_OK;
    if (file->tariffs_count == 0) return SL_OK;
    out->tariffs = sl_calloc(file->tariffs_count, sizeof *out->tariffs);
    if (!out->tariffs) return sl_err_set(err, SL_NOMEM, "no memory for tariffs");
    for (unsigned i = 0; i < file->tariffs_count && status == SL_OK; i++) {
        const struct file_tariff *from = &file->tariffs[i];
        struct sim_tariff *tariff = &out->tariffs[out->n_tariffs++];
        snprintf(tariff->name, sizeof tariff->name, "%s", from->name);
        status = series_copy(from->price_kwh, from->price_kwh_count, &tariff->price_kwh,
                             &tariff->n_price);
        if (status == SL_OK)
            status = series_copy(from->carbon_kwh, from->carbon_kwh_count, &tariff->carbon_kwh,
                                 &tariff->n_carbon);
    }
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "no memory for tariffs");
}

static sl_status failures_fill(const struct file *file, struct sim_nodes *out, struct sl_err *err)
{
    out->failures = sl_calloc(file->failures_count, sizeof *out->failures);
    if (!out->failures) return sl_err_set(err, SL_NOMEM, "no memory for failures");
    for (unsigned i = 0; i < file->failures_count; i++) {
        const struct file_failure *from = &file->failures[i];
        uint32_t node = from->node ? 0 : SIM_NONE;
        while (node < out->n_nodes && strcmp(out->nodes[node].name, from->node) != 0) node++;
        if (from->node && node == out->n_nodes)
            return sl_err_set(err, SL_INVALID, "failure %u: there is no node %s", i + 1,
                              from->node);
        out->failures[out->n_failures++] =
            (struct sim_failure){.kind = from->kind,
                                 .node = node,
                                 .at_s = from->at_s,
                                 .for_s = from->for_s,
                                 .every_s = from->every_s,
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
    out->placement = file->placement;
    if (status == SL_OK) status = links_fill(file, out, err);
    if (status == SL_OK) status = gateways_fill(file, out, err);
    if (status == SL_OK) status = tariffs_fill(file, out, err);
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
    for (uint32_t i = 0; i < nodes->n_tariffs; i++) {
        sl_free(nodes->tariffs[i].price_kwh);
        sl_free(nodes->tariffs[i].carbon_kwh);
    }
    sl_free(nodes->models);
    sl_free(nodes->shares);
    sl_free(nodes->links);
    sl_free(nodes->gateway_sites);
    sl_free(nodes->tariffs);
    sl_free(nodes->nodes);
    sl_free(nodes->failures);
    *nodes = (struct sim_nodes){0};
}
