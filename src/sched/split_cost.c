/* split_cost.c: the planner's model of time and memory, as tables of prefix sums. */
#include "base/mem.h"
#include "sched/split_int.h"
#include <math.h>
#include <string.h>

#define LINK_BYTES_S 125e6 /* a gigabit a second, where nobody has measured */
#define MEMORY_BYTES_S 8e9 /* one channel, likewise */
#define DISK_BYTES_S 500e6 /* likewise */
#define ROWS_GAIN 8        /* FLOP/s of many rows over one, likewise */
#define TOKEN_BYTES 64     /* of a result on its way back: id, probability, framing */
#define CONTEXT_DEFAULT 4096
#define PROMPT_DEFAULT 512
#define CONTEXT_MAX (1 << 24)  /* the longest known is 10 million tokens */
#define KV_BYTES_MAX (1 << 20) /* of a token in a layer: of all streams they fit into 64 bits */

const int32_t split_curve_rows[SPLIT_CURVE] = {8, 32, 128};

static double or_else(double value, double otherwise)
{
    return value > 0 ? value : otherwise;
}

/* --- the view --- */

static void goal_fill(const struct split_model *model, struct split_goal *goal)
{
    if (goal->n_seqs <= 0) goal->n_seqs = 1;
    if (goal->context <= 0) goal->context = CONTEXT_DEFAULT;
    if (goal->prompt <= 0) goal->prompt = PROMPT_DEFAULT;
    if (goal->prompt > goal->context) goal->prompt = goal->context;
    goal->row_bytes = or_else(goal->row_bytes, 2.0 * model->n_embd);
    if (!goal->work_max) goal->work_max = SPLIT_WORK_MAX;
}

static void machine_fill(struct split_machine *machine)
{
    double stream = or_else(machine->memory_bytes_s, MEMORY_BYTES_S);
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) {
        struct split_speed *speed = &machine->speed[w];
        speed->bytes_s = or_else(speed->bytes_s, stream);
        for (int i = 0; i < SPLIT_CURVE; i++)
            speed->flops_s[i] = or_else(speed->flops_s[i], ROWS_GAIN * 2 * speed->bytes_s);
    }
    machine->attn_one = or_else(machine->attn_one, stream);
    machine->attn_many = or_else(machine->attn_many, ROWS_GAIN * stream);
    machine->disk_bytes_s = or_else(machine->disk_bytes_s, DISK_BYTES_S);
    machine->share = or_else(machine->share, 1);
    if (machine->share > 1) machine->share = 1;
    machine->period_s = or_else(machine->period_s, SPLIT_PERIOD_S);
}

static void node_fill(struct split_node *node)
{
    machine_fill(&node->machine);
    node->slowdown = or_else(node->slowdown, 1);
    node->hop_s = or_else(node->hop_s, SPLIT_HOP_S);
}

static bool number_ok(double value)
{
    return value >= 0 && value < SPLIT_NUMBER_END;
}

bool split_machine_ok(const struct split_machine *machine)
{
    const double *numbers = (const double *)machine;
    for (size_t i = 0; i < sizeof *machine / sizeof *numbers; i++)
        if (!number_ok(numbers[i])) return false;
    return true;
}

static sl_status check_model(const struct split_model *model, struct sl_err *err)
{
    const double numbers[] = {model->layer_flops, model->head_flops, model->attn_flops};
    if (model->n_layer < 1 || model->n_layer > SPLIT_LAYERS_MAX)
        return sl_err_set(err, SL_INVALID, "n_layer: %d, from 1 to %d", model->n_layer,
                          SPLIT_LAYERS_MAX);
    if (model->n_embd < 1) return sl_err_set(err, SL_INVALID, "n_embd: %d", model->n_embd);
    if ((unsigned)model->weight >= SPLIT_WEIGHT_COUNT ||
        (unsigned)model->head_weight >= SPLIT_WEIGHT_COUNT)
        return sl_err_set(err, SL_INVALID, "weight: there is no such type");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!number_ok(numbers[i])) return sl_err_set(err, SL_INVALID, "flops: %g", numbers[i]);
    if (model->kv_bytes > KV_BYTES_MAX)
        return sl_err_set(err, SL_INVALID, "kv_bytes: more than %d", KV_BYTES_MAX);
    if (!(model->active >= 0 && model->active <= 1))
        return sl_err_set(err, SL_INVALID, "active: %g, from 0 to 1", model->active);
    return SL_OK;
}

static sl_status check_goal(const struct split_goal *goal, struct sl_err *err)
{
    if (goal->context > CONTEXT_MAX)
        return sl_err_set(err, SL_INVALID, "context: %d, at most %d", goal->context, CONTEXT_MAX);
    if ((unsigned)goal->aim >= SPLIT_AIM_COUNT)
        return sl_err_set(err, SL_INVALID, "aim: there is no such aim");
    if (goal->n_seqs > SPLIT_SEQS_MAX)
        return sl_err_set(err, SL_INVALID, "n_seqs: %d, at most %d", goal->n_seqs, SPLIT_SEQS_MAX);
    if (goal->n_stages < 0 || goal->n_stages > SPLIT_STAGES_MAX)
        return sl_err_set(err, SL_INVALID, "stages: %d, from 1 to %d", goal->n_stages,
                          SPLIT_STAGES_MAX);
    return SL_OK;
}

static sl_status check_nodes(const struct split_problem *problem, struct sl_err *err)
{
    if (problem->n_nodes > SPLIT_NODES_MAX)
        return sl_err_set(err, SL_INVALID, "%zu nodes, at most %d", problem->n_nodes,
                          SPLIT_NODES_MAX);
    for (size_t i = 0; i < problem->n_nodes; i++) {
        const struct split_node *node = &problem->nodes[i];
        if (!split_machine_ok(&node->machine))
            return sl_err_set(err, SL_INVALID, "node %zu: measured speeds that make no sense", i);
        if (!number_ok(node->slowdown) || !number_ok(node->hop_s) ||
            !number_ok(node->fetch_bytes_s))
            return sl_err_set(err, SL_INVALID, "node %zu: numbers that make no sense", i);
    }
    for (size_t i = 0; problem->links && i < problem->n_nodes * problem->n_nodes; i++)
        if (!number_ok(problem->links[i].seconds) || !number_ok(problem->links[i].bytes_s))
            return sl_err_set(err, SL_INVALID, "link %zu: numbers that make no sense", i);
    return SL_OK;
}

/* All that is ever added up: then no sum of bytes overflows. */
static sl_status check_size(const struct split_model *model, const struct split_goal *goal,
                            struct sl_err *err)
{
    double tokens = (double)goal->n_seqs * goal->context;
    double bytes =
        (double)model->kv_bytes * tokens * model->n_layer + (double)model->embd_bytes +
        (double)model->head_bytes + (double)model->stage_bytes + (double)model->head_buffer_bytes +
        SPLIT_ROWS_MAX * ((double)model->stage_row_bytes + (double)model->head_row_bytes);
    for (int32_t i = 0; i < model->n_layer; i++) bytes += (double)model->layer_bytes[i];
    if (number_ok(bytes)) return SL_OK;
    return sl_err_set(err, SL_INVALID, "%g bytes with a KV cache of %d x %d tokens", bytes,
                      goal->n_seqs, goal->context);
}

static sl_status view_alloc(struct split_view *view, struct sl_err *err)
{
    size_t n_nodes = view->problem->n_nodes + 1, n_layers = (size_t)view->model->n_layer + 1;
    view->nodes = sl_calloc(n_nodes, sizeof *view->nodes);
    view->number = sl_calloc(n_nodes, sizeof *view->number);
    view->bytes = sl_calloc(n_layers, sizeof *view->bytes);
    if (view->nodes && view->number && view->bytes) return SL_OK;
    return sl_err_set(err, SL_NOMEM, "tables of the planner");
}

static void view_fill(struct split_view *view)
{
    const struct split_model *model = view->model;
    for (size_t i = 0; i < view->problem->n_nodes; i++) {
        const struct split_node *node = &view->problem->nodes[i];
        if (node->flags & SPLIT_EXCLUDED) continue;
        view->nodes[view->n] = *node;
        node_fill(&view->nodes[view->n]);
        view->number[view->n++] = (uint32_t)i;
        view->n_required += node->flags & SPLIT_REQUIRED ? 1 : 0;
        view->any_head |= node->flags & SPLIT_HEAD;
    }
    for (int32_t i = 0; i < model->n_layer; i++)
        view->bytes[i + 1] = view->bytes[i] + model->layer_bytes[i];
    view->active = model->active > 0 ? model->active : 1;
    view->layer_bytes_avg = (double)view->bytes[model->n_layer] / model->n_layer;
    view->kv_bytes = model->kv_bytes * (uint64_t)view->goal.n_seqs * (uint64_t)view->goal.context;
}

sl_status split_view_init(const struct split_problem *problem, struct split_view *view,
                          struct sl_err *err)
{
    *view = (struct split_view){.problem = problem, .model = problem->model, .goal = problem->goal};
    sl_status status = check_model(problem->model, err);
    if (status == SL_OK) status = check_goal(&problem->goal, err);
    if (status == SL_OK) status = check_nodes(problem, err);
    goal_fill(problem->model, &view->goal);
    if (status == SL_OK) status = check_size(problem->model, &view->goal, err);
    if (status == SL_OK) status = view_alloc(view, err);
    if (status != SL_OK) {
        split_view_done(view);
        return status;
    }
    view_fill(view);
    return SL_OK;
}

void split_view_done(struct split_view *view)
{
    sl_free(view->nodes);
    sl_free(view->number);
    sl_free(view->bytes);
    *view = (struct split_view){0};
}

/* --- time --- */

/* Weights of so many bytes, of which one row reads the share `active`, times `rows` rows. Between
 * the measured numbers of rows the time is taken to be linear, beyond them in proportion. */
static double product_s(const struct split_speed *speed, double bytes, double flops, double active,
                        int32_t rows)
{
    int32_t rows_below = 1;
    double below = bytes * active / speed->bytes_s;
    for (int i = 0; i < SPLIT_CURVE; i++) {
        int32_t at = split_curve_rows[i];
        /* Rows choose experts for themselves: of more rows all experts are read at last. */
        double read = active < 1 ? bytes * (1 - pow(1 - active, at)) / speed->bytes_s : 0;
        double seconds = fmax(below, fmax(read, flops * at / speed->flops_s[i]));
        if (rows <= at) return below + (seconds - below) * (rows - rows_below) / (at - rows_below);
        below = seconds;
        rows_below = at;
    }
    return below * rows / rows_below;
}

static void cost_node(struct split_cost *cost, const struct split_load *load, uint32_t v)
{
    const struct split_view *view = cost->view;
    const struct split_model *model = view->model;
    const struct split_node *node = &view->nodes[v];
    const struct split_machine *machine = &node->machine;
    double *layers = cost->layers + (size_t)v * ((size_t)model->n_layer + 1);
    double attention = load->context * model->attn_flops * load->rows /
                       (load->is_prompt ? machine->attn_many : machine->attn_one);
    double small = machine->layer_s + load->rows * (double)model->n_embd * machine->value_s;
    double product = 0;
    for (int32_t i = 0; i < model->n_layer; i++) {
        double bytes = (double)model->layer_bytes[i];
        double flops =
            view->layer_bytes_avg > 0 ? model->layer_flops * bytes / view->layer_bytes_avg : 0;
        if (i == 0 || model->layer_bytes[i] != model->layer_bytes[i - 1])
            product =
                product_s(&machine->speed[model->weight], bytes, flops, view->active, load->rows);
        layers[i + 1] = layers[i] + node->slowdown * (product + small + attention);
    }
    cost->fixed[v] = node->slowdown * machine->step_s;
    cost->head[v] = load->outputs ? node->slowdown * product_s(&machine->speed[model->head_weight],
                                                               (double)model->head_bytes,
                                                               model->head_flops, 1, load->outputs)
                                  : 0;
}

sl_status split_cost_init(const struct split_view *view, const struct split_load *load,
                          struct split_cost *out)
{
    size_t n = view->n, n_layers = (size_t)view->model->n_layer + 1;
    *out = (struct split_cost){.view = view, .rows = load->rows};
    out->layers = sl_calloc(n * (n_layers + 2) + 1, sizeof *out->layers);
    if (!out->layers) return SL_NOMEM;
    out->head = out->layers + n * n_layers;
    out->fixed = out->head + n;
    for (uint32_t v = 0; v < n; v++) cost_node(out, load, v);
    return SL_OK;
}

void split_cost_done(struct split_cost *cost)
{
    sl_free(cost->layers);
    *cost = (struct split_cost){0};
}

double split_compute_s(const struct split_cost *cost, uint32_t v, int32_t first, int32_t last)
{
    int32_t n_layer = cost->view->model->n_layer;
    const double *layers = cost->layers + (size_t)v * ((size_t)n_layer + 1);
    return cost->fixed[v] + layers[last] - layers[first] + (last == n_layer ? cost->head[v] : 0);
}

double split_slice_s(const struct split_view *view, uint32_t v)
{
    return view->nodes[v].machine.share * view->nodes[v].machine.period_s;
}

double split_wall_s(const struct split_cost *cost, uint32_t v, int32_t first, int32_t last)
{
    double compute = split_compute_s(cost, v, first, last);
    double share = cost->view->nodes[v].machine.share, slice = split_slice_s(cost->view, v);
    return share < 1 && compute > slice ? compute + (compute - slice) * (1 / share - 1) : compute;
}

double split_hops_busy_s(const struct split_view *view, uint32_t v)
{
    const struct split_node *node = &view->nodes[v];
    return 2 * fmin(node->hop_s, SPLIT_HOP_S) / node->machine.share;
}

double split_busy_s(const struct split_cost *cost, uint32_t v, int32_t first, int32_t last)
{
    const struct split_view *view = cost->view;
    bool whole = first == 0 && last == view->model->n_layer;
    double compute = split_compute_s(cost, v, first, last) / view->nodes[v].machine.share;
    return compute + (whole ? 0 : split_hops_busy_s(view, v));
}

static const struct split_link *link_of(const struct split_view *view, uint32_t from, uint32_t to)
{
    static const struct split_link none = {.bytes_s = 1e15};
    const struct split_problem *problem = view->problem;
    if (!problem->links) return &none;
    return &problem->links[view->number[from] * problem->n_nodes + view->number[to]];
}

static double hops_s(const struct split_view *view, uint32_t from, uint32_t to)
{
    return view->nodes[from].hop_s + view->nodes[to].hop_s;
}

double split_transfer_s(const struct split_cost *cost, uint32_t from, uint32_t to)
{
    double bytes = cost->rows * cost->view->goal.row_bytes;
    return bytes / or_else(link_of(cost->view, from, to)->bytes_s, LINK_BYTES_S);
}

double split_link_s(const struct split_cost *cost, uint32_t from, uint32_t to)
{
    return hops_s(cost->view, from, to) + link_of(cost->view, from, to)->seconds +
           split_transfer_s(cost, from, to);
}

double split_return_s(const struct split_cost *cost, uint32_t from, uint32_t to)
{
    if (from == to) return 0;
    const struct split_link *link = link_of(cost->view, from, to);
    return hops_s(cost->view, from, to) + link->seconds +
           cost->rows * (double)TOKEN_BYTES / or_else(link->bytes_s, LINK_BYTES_S);
}

/* --- memory --- */

uint64_t split_memory(const struct split_view *view, int32_t first, int32_t last)
{
    const struct split_model *model = view->model;
    return model->stage_bytes + view->bytes[last] - view->bytes[first] +
           (uint64_t)(last - first) * view->kv_bytes + (first == 0 ? model->embd_bytes : 0) +
           (last == model->n_layer ? model->head_bytes + model->head_buffer_bytes : 0);
}

uint64_t split_memory_of(const struct split_view *view, int32_t first, int32_t last, int32_t chunk)
{
    const struct split_model *model = view->model;
    bool heads = last == model->n_layer;
    uint64_t bytes = split_memory(view, first, last);
    uint64_t row = model->stage_row_bytes + (heads ? model->head_row_bytes : 0);
    if (chunk > SPLIT_ROWS_MAX) chunk = SPLIT_ROWS_MAX;
    if (chunk >= SPLIT_CHUNK_FITS) return bytes + (uint64_t)(chunk - SPLIT_CHUNK_FITS) * row;
    uint64_t buffers = model->stage_bytes + (heads ? model->head_buffer_bytes : 0);
    uint64_t less = (uint64_t)(SPLIT_CHUNK_FITS - chunk) * row;
    return bytes - (less < buffers ? less : buffers);
}

bool split_fits(const struct split_view *view, uint32_t v, int32_t first, int32_t last)
{
    return split_memory(view, first, last) <= view->nodes[v].memory_bytes;
}

bool split_may_head(const struct split_view *view, uint32_t v)
{
    return !view->any_head || view->nodes[v].flags & SPLIT_HEAD;
}

/* --- chains --- */

void split_chain_time(const struct split_cost *cost, int32_t flights, struct split_chain *chain)
{
    int32_t first = 0;
    chain->sum = split_return_s(cost, chain->node[chain->n - 1], chain->node[0]);
    chain->slowest = 0;
    for (uint32_t i = 0; i < chain->n; i++) {
        uint32_t v = chain->node[i];
        double busy = split_busy_s(cost, v, first, chain->last[i]), transfer = 0;
        chain->sum += split_wall_s(cost, v, first, chain->last[i]);
        if (i + 1 < chain->n) {
            chain->sum += split_link_s(cost, v, chain->node[i + 1]);
            transfer = split_transfer_s(cost, v, chain->node[i + 1]);
        }
        if (transfer > busy) busy = transfer;
        if (busy > chain->slowest) chain->slowest = busy;
        first = chain->last[i];
    }
    chain->period = flights * chain->slowest > chain->sum ? flights * chain->slowest : chain->sum;
}
