#include "cli/plan_file.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/sim_nodes_file.h"
#include "grid/model_shape.h"
#include <stdio.h>

#define BITS 8.0
#define CONTEXT 4096 /* tokens: what engines take by themselves */

struct plan_file {
    struct model_shape shape;
    struct sim_nodes sim;
    struct split_node *nodes;
    struct split_link *links;
    struct split_problem problem;
    struct split_plan plan;
};

/* A node that computes the whole model at these rates. */
static void fill_node(const struct split_model *model, const struct sim_node *from,
                      struct split_node *out)
{
    double bytes = (double)model->head_bytes, flops = model->head_flops;
    for (int32_t i = 0; i < model->n_layer; i++) bytes += (double)model->layer_bytes[i];
    flops += model->n_layer * model->layer_flops;
    double decode = from->decode_tps;
    if (!(decode > 0) && from->n_steps > 0) decode = 1 / from->steps[0].seconds;
    *out = (struct split_node){.memory_bytes = from->memory_bytes ? from->memory_bytes : UINT64_MAX,
                               .machine.disk_bytes_s = from->disk_bytes_per_s};
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) {
        out->machine.speed[w].bytes_s = bytes * decode;
        for (int i = 0; i < SPLIT_CURVE; i++)
            out->machine.speed[w].flops_s[i] = flops * from->prefill_tps;
    }
    /* The speeds have all that a step takes in them. */
    out->machine.attn_one = out->machine.attn_many = 1e17;
}

static double slower(double a, double b)
{
    if (!(a > 0)) return b;
    return b > 0 && b < a ? b : a;
}

static void fill_link(const struct sim_nodes *sim, uint32_t from, uint32_t to,
                      struct split_link *out)
{
    const struct sim_node *a = &sim->nodes[from], *b = &sim->nodes[to];
    double seconds = (a->rtt_s + b->rtt_s) / 2, bits = slower(a->bits_per_s, b->bits_per_s);
    if (sim->links && a->site < sim->n_sites && b->site < sim->n_sites) {
        const struct sim_link *link = &sim->links[(size_t)a->site * sim->n_sites + b->site];
        seconds += link->rtt_s / 2;
        bits = slower(bits, link->bits_per_s);
    }
    *out = (struct split_link){seconds, bits / BITS};
}

static sl_status fill(struct plan_file *file, const struct split_goal *goal, struct sl_err *err)
{
    uint32_t n = file->sim.n_nodes;
    if (n > SPLIT_NODES_MAX)
        return sl_err_set(err, SL_INVALID, "%u nodes, at most %d", n, SPLIT_NODES_MAX);
    file->nodes = sl_calloc(n + 1, sizeof *file->nodes);
    file->links = sl_calloc((size_t)n * n + 1, sizeof *file->links);
    if (!file->nodes || !file->links) return sl_err_set(err, SL_NOMEM, "nodes");
    for (uint32_t i = 0; i < n; i++) {
        fill_node(&file->shape.model, &file->sim.nodes[i], &file->nodes[i]);
        for (uint32_t k = 0; k < n; k++)
            fill_link(&file->sim, i, k, &file->links[(size_t)i * n + k]);
    }
    file->problem = (struct split_problem){.model = &file->shape.model,
                                           .nodes = file->nodes,
                                           .n_nodes = n,
                                           .links = file->links,
                                           .goal = *goal};
    return SL_OK;
}

/* With the context that serving it would take where none is asked for. */
static sl_status check_context(const struct model_shape *shape, const struct split_goal *goal,
                               struct split_goal *out, struct sl_err *err)
{
    int32_t trained = shape->n_ctx_train > 0 ? shape->n_ctx_train : INT32_MAX;
    *out = *goal;
    if (goal->context > trained)
        return sl_err_set(err, SL_INVALID, "a context of %d tokens: it was trained for %d",
                          goal->context, trained);
    if (!goal->context) out->context = trained < CONTEXT ? trained : CONTEXT;
    return SL_OK;
}

static void put_stage(struct sl_json *json, const struct plan_file *file, size_t i)
{
    const struct split_stage *stage = &file->plan.stages[i];
    sl_json_object(json);
    sl_json_kv_str(json, "name", file->sim.nodes[stage->node].name);
    sl_json_kv_int(json, "first", stage->first);
    sl_json_kv_int(json, "last", stage->last);
    sl_json_kv_int(json, "bytes", (int64_t)stage->memory_bytes);
    sl_json_kv_int(json, "weight_bytes", (int64_t)stage->weight_bytes);
    sl_json_kv_int(json, "kv_bytes", (int64_t)stage->kv_bytes);
    sl_json_kv_num(json, "seconds", stage->token_s);
    sl_json_kv_num(json, "step_seconds", stage->step_s);
    sl_json_kv_num(json, "chunk_seconds", stage->chunk_s);
    sl_json_kv_num(json, "link_seconds", stage->link_s);
    sl_json_kv_num(json, "load_seconds", stage->load_s);
    sl_json_object_end(json);
}

static void put_plan(struct sl_json *json, const struct plan_file *file)
{
    const struct split_plan *plan = &file->plan;
    sl_json_key(json, "plan");
    sl_json_object(json);
    sl_json_key(json, "stages");
    sl_json_array(json);
    for (size_t i = 0; i < plan->n_stages; i++) put_stage(json, file, i);
    sl_json_array_end(json);
    sl_json_kv_int(json, "n_seqs", file->problem.goal.n_seqs);
    sl_json_kv_int(json, "context", file->problem.goal.context);
    sl_json_kv_int(json, "rows", plan->rows);
    sl_json_kv_int(json, "flights", plan->flights);
    sl_json_kv_int(json, "chunk", plan->chunk);
    sl_json_kv_num(json, "tokens_s", plan->tokens_s);
    sl_json_kv_num(json, "tokens_s_total", plan->tokens_s_total);
    sl_json_kv_num(json, "first_token_s", plan->first_token_s);
    sl_json_kv_num(json, "load_s", plan->load_s);
    sl_json_kv_int(json, "bottleneck", (int64_t)plan->bottleneck);
    sl_json_kv_bool(json, "link_bound", plan->link_bound);
    sl_json_kv_bool(json, "exact", plan->exact);
    sl_json_kv_num(json, "gap", plan->gap);
    sl_json_object_end(json);
}

static sl_status put(const char *model, const struct plan_file *file, const char *refused,
                     struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", model);
    sl_json_kv_str(&json, "goal", split_aim_name(file->problem.goal.aim));
    if (!refused) put_plan(&json, file);
    sl_json_kv_bool(&json, "applied", false);
    sl_json_kv_str(&json, "refused", refused);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

sl_status plan_file_make(const char *model, const char *path, const char *nodes_path,
                         const struct split_goal *goal, struct sl_buf *out, struct sl_err *err)
{
    struct sl_err refused = SL_ERR_INIT;
    struct split_goal wish;
    struct plan_file *file = sl_calloc(1, sizeof *file);
    if (!file) return sl_err_set(err, SL_NOMEM, "plan");
    sl_status status = sim_nodes_load(nodes_path, &file->sim, err);
    if (status == SL_OK) status = model_shape_read(path, &file->shape, err);
    if (status == SL_OK) status = check_context(&file->shape, goal, &wish, err);
    if (status == SL_OK) status = fill(file, &wish, err);
    if (status == SL_OK) {
        status = split_make(&file->problem, &file->plan, &refused);
        if (status == SL_OK || status == SL_UNAVAILABLE)
            status = put(model, file, status == SL_OK ? NULL : refused.text, out);
        else
            status = sl_err_set(err, status, "%s", refused.text);
    }
    sim_nodes_done(&file->sim);
    sl_free(file->nodes);
    sl_free(file->links);
    sl_free(file);
    return status;
}
