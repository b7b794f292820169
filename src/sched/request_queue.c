/* request_queue.c: see request_queue.h. */
#include "sched/request_queue.h"
#include "base/mem.h"

#include <assert.h>

#define STRIDE_ONE (UINT64_C(1) << 20) /* the stride of weight 1; far above SCHED_WEIGHT_LIMIT */

struct queue_flow {
    uint64_t tenant;
    uint32_t line;           /* model * SCHED_CLASS_COUNT + class */
    uint32_t chain_next;     /* of the hash chain, or of the free flows */
    struct index_list items; /* requests, oldest first */
};

sl_status request_queue_init(struct request_queue *queue, const struct sched_config *config,
                             struct request_table *table)
{
    uint32_t capacity = table->capacity;
    *queue = (struct request_queue){.table = table,
                                    .n_flow_chains = power_of_two_from(capacity),
                                    .n_waiting_max = config->n_waiting_max,
                                    .bytes_max = config->waiting_bytes_max};
    queue->models = sl_calloc(config->n_models_max, sizeof *queue->models);
    queue->flows = sl_calloc(capacity, sizeof *queue->flows);
    queue->flow_links = sl_calloc(capacity, sizeof *queue->flow_links);
    queue->flow_chains = sl_calloc(queue->n_flow_chains, sizeof *queue->flow_chains);
    queue->age_links = sl_calloc(capacity, sizeof *queue->age_links);
    if (!queue->models || !queue->flows || !queue->flow_links || !queue->flow_chains ||
        !queue->age_links || index_heap_init(&queue->deadlines, capacity) != SL_OK) {
        request_queue_done(queue);
        return SL_NOMEM;
    }
    for (uint32_t i = 0; i < capacity; i++)
        queue->flows[i].chain_next = i + 1 < capacity ? i + 1 : INDEX_NONE;
    for (uint32_t i = 0; i < queue->n_flow_chains; i++) queue->flow_chains[i] = INDEX_NONE;
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++) {
        queue->strides[class] = STRIDE_ONE / config->class_weight[class];
        queue->by_age[class] = (struct index_list)INDEX_LIST_INIT;
        for (uint32_t model = 0; model < config->n_models_max; model++) {
            struct queue_line *line = &queue->models[model].lines[class];
            line->retries = line->flows = (struct index_list)INDEX_LIST_INIT;
        }
    }
    return SL_OK;
}

void request_queue_done(struct request_queue *queue)
{
    sl_free(queue->models);
    sl_free(queue->flows);
    sl_free(queue->flow_links);
    sl_free(queue->flow_chains);
    sl_free(queue->age_links);
    index_heap_done(&queue->deadlines);
    *queue = (struct request_queue){0};
}

/* --- admission --- */

uint64_t request_queue_bytes(const struct request_queue *queue)
{
    uint64_t bytes = 0;
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++) bytes += queue->class_bytes[class];
    return bytes;
}

uint32_t request_queue_n_fresh(const struct request_queue *queue)
{
    uint32_t n = 0;
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++) n += queue->n_fresh[class];
    return n;
}

bool request_queue_has_room(const struct request_queue *queue, enum sched_class qos_class,
                            uint64_t prompt_bytes)
{
    uint32_t n_stay = 0;
    uint64_t bytes_stay = 0;
    for (int class = 0; class <= (int)qos_class; class ++) {
        n_stay += queue->n_fresh[class];
        bytes_stay += queue->class_bytes[class];
    }
    return n_stay < queue->n_waiting_max && bytes_stay <= queue->bytes_max &&
           prompt_bytes <= queue->bytes_max - bytes_stay;
}

uint32_t request_queue_displaced(const struct request_queue *queue, enum sched_class qos_class,
                                 uint64_t prompt_bytes)
{
    uint64_t bytes = request_queue_bytes(queue);
    if (request_queue_n_fresh(queue) < queue->n_waiting_max && bytes <= queue->bytes_max &&
        prompt_bytes <= queue->bytes_max - bytes)
        return INDEX_NONE;
    for (int class = SCHED_CLASS_COUNT - 1; class > (int)qos_class; class --)
        if (!index_list_empty(&queue->by_age[class])) return queue->by_age[class].tail;
    return INDEX_NONE;
}

/* --- flows: a tenant's requests in one line --- */

static uint32_t *flow_chain(const struct request_queue *queue, uint32_t line, uint64_t tenant)
{
    uint64_t hash = mix_u64(mix_u64(tenant) + line);
    return &queue->flow_chains[hash & (queue->n_flow_chains - 1)];
}

/* The tenant's flow in that line, made when it has none. A new one queues up behind all others. */
static uint32_t flow_of(struct request_queue *queue, const struct request *request)
{
    uint32_t line = request->model * SCHED_CLASS_COUNT + request->qos_class;
    uint32_t *chain = flow_chain(queue, line, request->tenant);
    for (uint32_t i = *chain; i != INDEX_NONE; i = queue->flows[i].chain_next)
        if (queue->flows[i].tenant == request->tenant && queue->flows[i].line == line) return i;

    uint32_t index = queue->flow_free;
    assert(index != INDEX_NONE);
    struct queue_flow *flow = &queue->flows[index];
    queue->flow_free = flow->chain_next;
    *flow = (struct queue_flow){request->tenant, line, *chain, INDEX_LIST_INIT};
    *chain = index;
    index_list_push(&queue->models[request->model].lines[request->qos_class].flows,
                    queue->flow_links, index);
    return index;
}

static void flow_free(struct request_queue *queue, struct queue_line *line, uint32_t index)
{
    struct queue_flow *flow = &queue->flows[index];
    index_list_remove(&line->flows, queue->flow_links, index);
    uint32_t *at = flow_chain(queue, flow->line, flow->tenant);
    while (*at != index) at = &queue->flows[*at].chain_next;
    *at = flow->chain_next;
    flow->chain_next = queue->flow_free;
    queue->flow_free = index;
}

/* --- in and out --- */

static struct queue_line *line_of(struct request_queue *queue, const struct request *request)
{
    return &queue->models[request->model].lines[request->qos_class];
}

static void push_fresh(struct request_queue *queue, struct request *request, uint32_t index)
{
    enum sched_class class = request->qos_class;
    request->state = REQUEST_WAITING;
    request->flow = flow_of(queue, request);
    index_list_push(&queue->flows[request->flow].items, queue->table->links, index);
    index_list_push(&queue->by_age[class], queue->age_links, index);
    queue->n_fresh[class]++;
    queue->class_bytes[class] += request->prompt_bytes;
    if (request->deadline_ns != SCHED_NEVER)
        index_heap_set(&queue->deadlines, index, request->deadline_ns);
}

static void remove_fresh(struct request_queue *queue, struct request *request, uint32_t index)
{
    enum sched_class class = request->qos_class;
    struct queue_flow *flow = &queue->flows[request->flow];
    index_list_remove(&flow->items, queue->table->links, index);
    if (index_list_empty(&flow->items)) flow_free(queue, line_of(queue, request), request->flow);
    request->flow = INDEX_NONE;
    index_list_remove(&queue->by_age[class], queue->age_links, index);
    queue->n_fresh[class]--;
    queue->class_bytes[class] -= request->prompt_bytes;
    index_heap_remove(&queue->deadlines, index);
}

void request_queue_push(struct request_queue *queue, uint32_t index)
{
    struct request *request = &queue->table->requests[index];
    struct queue_model *model = &queue->models[request->model];
    struct queue_line *line = line_of(queue, request);
    /* Time spent with nobody waiting is not saved up. */
    if (line->n_waiting == 0 && line->pass < model->pass) line->pass = model->pass;
    if (request->n_attempts == 0) {
        push_fresh(queue, request, index);
    } else {
        request->state = REQUEST_RETRYING;
        index_list_push(&line->retries, queue->table->links, index);
        queue->n_retries++;
    }
    line->n_waiting++;
    model->n_waiting++;
    queue->n_class[request->qos_class]++;
}

void request_queue_remove(struct request_queue *queue, uint32_t index)
{
    struct request *request = &queue->table->requests[index];
    struct queue_line *line = line_of(queue, request);
    if (request->state == REQUEST_WAITING) {
        remove_fresh(queue, request, index);
    } else {
        assert(request->state == REQUEST_RETRYING);
        index_list_remove(&line->retries, queue->table->links, index);
        queue->n_retries--;
    }
    line->n_waiting--;
    queue->models[request->model].n_waiting--;
    queue->n_class[request->qos_class]--;
}

/* --- who is next --- */

static bool line_ready(const struct queue_line *line, bool fresh_too)
{
    return !index_list_empty(&line->retries) || (fresh_too && !index_list_empty(&line->flows));
}

static struct queue_line *next_line(struct queue_model *model, bool fresh_too)
{
    struct queue_line *best = NULL;
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++) {
        struct queue_line *line = &model->lines[class];
        if (line_ready(line, fresh_too) && (!best || line->pass < best->pass)) best = line;
    }
    return best;
}

static uint32_t line_head(const struct request_queue *queue, const struct queue_line *line)
{
    if (!index_list_empty(&line->retries)) return line->retries.head;
    return queue->flows[line->flows.head].items.head;
}

uint32_t request_queue_pop(struct request_queue *queue, uint32_t model_number, bool fresh_too)
{
    struct queue_model *model = &queue->models[model_number];
    struct queue_line *line = next_line(model, fresh_too);
    if (!line) return INDEX_NONE;
    uint32_t index = line_head(queue, line);
    struct request *request = &queue->table->requests[index];
    if (request->state == REQUEST_WAITING) {
        /* The tenant goes to the end of the turn; when this was its last request, it leaves. */
        index_list_remove(&line->flows, queue->flow_links, request->flow);
        index_list_push(&line->flows, queue->flow_links, request->flow);
    }
    /* When fresh ones are held back the line was not the one with the least pass: to move the time
     * on would put the others into arrears, which they would make up for at its cost. */
    if (fresh_too && model->pass < line->pass) model->pass = line->pass;
    line->pass += queue->strides[request->qos_class];
    request_queue_remove(queue, index);
    return index;
}

uint32_t request_queue_any(const struct request_queue *queue, uint32_t model)
{
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++) {
        const struct queue_line *line = &queue->models[model].lines[class];
        if (line_ready(line, true)) return line_head(queue, line);
    }
    return INDEX_NONE;
}

uint32_t request_queue_turn_bound(const struct request_queue *queue, enum sched_class qos_class)
{
    uint64_t n_pops = 1;
    for (int other = 0; other < SCHED_CLASS_COUNT; other++)
        if (other != (int)qos_class)
            n_pops += queue->strides[qos_class] / queue->strides[other] + 1;
    return (uint32_t)n_pops;
}

/* --- time --- */

uint32_t request_queue_expired(const struct request_queue *queue, int64_t now_ns)
{
    uint32_t index;
    int64_t deadline_ns;
    if (!index_heap_min(&queue->deadlines, &index, &deadline_ns)) return INDEX_NONE;
    return deadline_ns <= now_ns ? index : INDEX_NONE;
}

int64_t request_queue_next_deadline(const struct request_queue *queue)
{
    uint32_t index;
    int64_t deadline_ns = SCHED_NEVER;
    index_heap_min(&queue->deadlines, &index, &deadline_ns);
    return deadline_ns;
}

void request_queue_note_service(struct request_queue *queue, uint32_t model, int64_t service_ns)
{
    int64_t *mean_ns = &queue->models[model].service_ns;
    *mean_ns = *mean_ns == 0 ? service_ns : *mean_ns + (service_ns - *mean_ns) / 8;
}

uint64_t request_queue_retry_after_ms(const struct request_queue *queue, uint32_t model,
                                      uint32_t n_slots)
{
    const struct queue_model *m = &queue->models[model];
    double wait_ns = (double)m->service_ns * ((double)m->n_waiting + 1) / n_slots;
    double wait_ms = wait_ns / 1e6;
    if (wait_ms < SCHED_RETRY_MIN_MS) return SCHED_RETRY_MIN_MS;
    return wait_ms > SCHED_RETRY_MAX_MS ? SCHED_RETRY_MAX_MS : (uint64_t)wait_ms;
}
