/* agent_measure.c: speeds are those of the last requests, so that a report tells what the next one
 * may expect; the cache is guessed from the prompts that were computed. */
#include "base/clock.h"
#include "base/mem.h"
#include "grid/agent_int.h"
#include <string.h>

#define SMOOTHING 0.2        /* weight of the newest: the last ten requests count */
#define PREFILL_TOKENS_MIN 8 /* fewer say more about the step than about the speed */
#define DECODE_TOKENS_MIN 4
#define DECODE_WINDOW_NS INT64_C(1000000000) /* a long answer is measured as it goes */
#define BLOCK_TOKENS_DEFAULT 16.0

static void smooth(double *mean, double value)
{
    *mean = *mean > 0 ? *mean + SMOOTHING * (value - *mean) : value;
}

/* --- models --- */

void agent_model_free(struct agent_model *model)
{
    if (!model) return;
    agent_blocks_done(&model->blocks);
    sl_free(model->name);
    sl_free(model);
}

/* A free place, or that of the model which nobody used for the longest. */
static struct agent_model **place(struct agent *agent)
{
    struct agent_model **oldest = NULL;
    for (size_t i = 0; i < AGENT_MODELS_MAX; i++) {
        struct agent_model **at = &agent->models[i];
        if (!*at) return at;
        if (!(*at)->n_attempts && (!oldest || (*at)->used_ns < (*oldest)->used_ns)) oldest = at;
    }
    return oldest;
}

struct agent_model *agent_model_of(struct agent *agent, const char *name)
{
    for (size_t i = 0; i < AGENT_MODELS_MAX && agent->models[i]; i++)
        if (!strcmp(agent->models[i]->name, name)) return agent->models[i];
    struct agent_model **at = place(agent);
    struct agent_model *model = at ? sl_calloc(1, sizeof *model) : NULL;
    if (!model) return NULL;
    model->name = sl_strdup(name);
    agent_blocks_init(&model->blocks);
    if (!model->name) {
        agent_model_free(model);
        return NULL;
    }
    agent_model_free(*at);
    *at = model;
    return model;
}

/* --- the cache --- */

/* More changes than a report takes are told by and by: agent_report.c. */
static void note(uint64_t *changes, size_t *n, uint64_t hash)
{
    if (*n < GRID_CHANGES_MAX) changes[(*n)++] = hash;
}

static void drop_block(struct agent *agent, struct agent_model *model)
{
    uint64_t hash;
    if (agent_blocks_drop(&model->blocks, &hash)) note(agent->dropped, &agent->n_dropped, hash);
}

static uint32_t blocks_max(const struct agent_model *model)
{
    double tokens = model->block_tokens > 0 ? model->block_tokens : BLOCK_TOKENS_DEFAULT;
    double n = (double)model->kv_tokens_max / tokens;
    if (!model->kv_tokens_max) return AGENT_BLOCKS_MAX; /* the worker has not told yet */
    return n < AGENT_BLOCKS_MAX ? (uint32_t)n : AGENT_BLOCKS_MAX;
}

/* Who looks slow because it was overrun and has nothing to do now is not slow. */
static void take_rest(struct agent_model *model, const struct node_model *now)
{
    int64_t now_ns = sl_now_ns();
    double rest_s = (double)(now_ns - model->busy_ns) / 1e9;
    model->busy_ns = now_ns;
    if (now->n_running || now->n_waiting) return;
    speed_rest(&model->prefill, rest_s);
    speed_rest(&model->decode, rest_s);
}

void agent_measure_model(struct agent *agent, struct agent_model *model,
                         const struct node_model *now)
{
    bool lost = now->sched_state != SCHED_READY || now->n_loads != model->n_loads;
    while (lost && model->blocks.n) drop_block(agent, model);
    model->n_loads = now->n_loads;
    take_rest(model, now);
    int64_t n = (int64_t)now->stats.kv_blocks_total * now->stats.kv_block_tokens;
    model->kv_tokens_max = n > 0 ? (uint64_t)n : 0;
}

/* A block is of use only with all before it, so the first one is the last to go. */
static void use_blocks(struct agent_attempt *a)
{
    struct agent *agent = a->gateway->agent;
    struct agent_model *model = a->model;
    struct node_model now;
    struct sl_err err = SL_ERR_INIT;
    bool is_new;
    if (!a->n_blocks || node_model_find(agent->cfg.node, model->name, &now, &err) != SL_OK) return;
    agent_measure_model(agent, model, &now); /* the worker may be another one since the report */
    if (a->n_prompt) smooth(&model->block_tokens, (double)a->n_prompt / (double)a->n_blocks);
    for (size_t i = a->n_blocks; i-- > 0;) {
        if (model->blocks.n == AGENT_BLOCKS_MAX) drop_block(agent, model);
        if (agent_blocks_use(&model->blocks, a->blocks[i], &is_new) != SL_OK) return;
        if (is_new) note(agent->held, &agent->n_held, a->blocks[i]);
    }
    while (model->blocks.n > blocks_max(model)) drop_block(agent, model);
    a->n_blocks = 0;
}

/* --- speeds --- */

/* Prompts are computed together and wait for each other, for room, and for the streams that decode
 * beside them. What counts for the next request is how fast all of that goes on: the tokens of a
 * prompt are those of the time since the prompt before it was complete, or since there was one. */
void agent_measure_start(struct agent_attempt *a, bool loaded)
{
    if (!loaded || a->resumed || a->prefilling) return;
    a->prefilling = true;
    if (a->model->n_prefilling++ == 0) a->model->prefilling_ns = sl_now_ns();
}

void agent_measure_end(struct agent_attempt *a)
{
    if (!a->prefilling) return;
    a->prefilling = false;
    a->model->n_prefilling--;
}

static void take_prefill(struct agent_attempt *a, int64_t now_ns)
{
    struct agent_model *model = a->model;
    double computed = (double)a->n_prompt - (double)a->n_cached;
    if (!a->prefilling) return;
    if (computed >= PREFILL_TOKENS_MIN)
        speed_take(&model->prefill, computed, (double)(now_ns - model->prefilling_ns) / 1e9);
    model->prefilling_ns = now_ns;
    agent_measure_end(a);
}

static void on_started(struct agent_attempt *a, const struct node_event *event)
{
    if (event->n_prompt > 0) a->n_prompt = (uint64_t)event->n_prompt;
    if (event->n_cached > 0) a->n_cached = (uint64_t)event->n_cached;
}

static void on_first_token(struct agent_attempt *a, int64_t now_ns)
{
    a->first_token_ns = now_ns;
    a->n_tokens = 0;
    take_prefill(a, now_ns);
    use_blocks(a);
}

/* What came since first_token_ns, which then begins anew. */
static void take_decode(struct agent_attempt *a)
{
    int64_t took_ns = a->last_token_ns - a->first_token_ns;
    if (a->n_tokens < DECODE_TOKENS_MIN || took_ns <= 0) return;
    speed_take(&a->model->decode, a->n_tokens, (double)took_ns / 1e9);
    a->first_token_ns = a->last_token_ns;
    a->n_tokens = 0;
}

static void on_token(struct agent_attempt *a, const struct node_event *event)
{
    int64_t now = sl_now_ns();
    a->model->n_tokens++;
    if (event->choice != 0) return;
    if (a->first_token_ns) {
        a->n_tokens++;
        a->last_token_ns = now;
        if (now - a->first_token_ns >= DECODE_WINDOW_NS) take_decode(a);
    } else {
        on_first_token(a, now);
    }
}

void agent_measure_event(struct agent_attempt *a, const struct node_event *event)
{
    if (event->type == NODE_EVENT_STARTED) on_started(a, event);
    if (event->type == NODE_EVENT_TOKEN) on_token(a, event);
    if (event->type != NODE_EVENT_DONE) return;
    take_decode(a);
    int64_t service_ns = event->total_ns - event->queue_ns;
    if (!a->resumed && service_ns > 0) smooth(&a->model->service_s, (double)service_ns / 1e9);
}

uint64_t agent_backlog(const struct agent_attempt *a)
{
    if (a->state == GRID_ENDED || a->first_token_ns || a->n_cached > a->n_prompt) return 0;
    return a->n_prompt - a->n_cached;
}

void agent_measure_rates(struct agent *agent, int64_t now_ns)
{
    double s = (double)(now_ns - agent->measured_ns) / 1e9;
    if (s < 0.5) return; /* too short a time to tell a rate from */
    for (size_t i = 0; i < AGENT_MODELS_MAX && agent->models[i]; i++) {
        agent->models[i]->tokens_per_s = (double)agent->models[i]->n_tokens / s;
        agent->models[i]->n_tokens = 0;
    }
    agent->measured_ns = now_ns;
}
