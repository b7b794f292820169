/* sim_queue.c: the events to come, the earliest first. */
#include "base/mem.h"
#include "sched/sim_int.h"

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static bool grow(struct sim_queue *queue)
{
    size_t capacity = queue->capacity ? queue->capacity * 2 : 1024;
    struct sim_event *events = sl_realloc_array(queue->events, capacity, sizeof *events);
    if (!events) return false;
    queue->events = events;
    queue->capacity = capacity;
    return true;
}

void sim_queue_push(struct sim_queue *queue, struct sim_event event)
{
    if (queue->n == queue->capacity && !grow(queue)) {
        queue->failed = true;
        sim_snapshot_release(event.snapshot);
        return;
    }
    event.order = queue->n_pushed++;
    size_t i = queue->n++;
    while (i > 0 && before(&event, &queue->events[(i - 1) / 2])) {
        queue->events[i] = queue->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    queue->events[i] = event;
}

bool sim_queue_pop(struct sim_queue *queue, struct sim_event *out)
{
    if (queue->n == 0) return false;
    *out = queue->events[0];
    struct sim_event last = queue->events[--queue->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= queue->n) break;
        if (child + 1 < queue->n && before(&queue->events[child + 1], &queue->events[child]))
            child++;
        if (!before(&queue->events[child], &last)) break;
        queue->events[i] = queue->events[child];
        i = child;
    }
    queue->events[i] = last;
    return true;
}

void sim_queue_done(struct sim_queue *queue)
{
    for (size_t i = 0; i < queue->n; i++) sim_snapshot_release(queue->events[i].snapshot);
    sl_free(queue->events);
    *queue = (struct sim_queue){0};
}
