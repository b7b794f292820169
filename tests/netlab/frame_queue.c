#include "netlab/frame_queue.h"
#include "base/mem.h"

#define CAP_FIRST 256u

void frame_queue_init(struct frame_queue *queue)
{
    *queue = (struct frame_queue){0};
}

void frame_queue_done(struct frame_queue *queue)
{
    for (size_t i = 0; i < queue->n; i++) sl_free(queue->heap[i].bytes);
    sl_free(queue->heap);
    frame_queue_init(queue);
}

static bool is_before(const struct frame *a, const struct frame *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static sl_status make_room(struct frame_queue *queue, size_t n_bytes)
{
    if (queue->n >= FRAME_QUEUE_FRAMES_MAX || n_bytes > FRAME_QUEUE_BYTES_MAX - queue->n_bytes)
        return SL_LIMIT;
    if (queue->n < queue->cap) return SL_OK;
    size_t cap = queue->cap ? 2 * queue->cap : CAP_FIRST;
    struct frame *heap = sl_realloc_array(queue->heap, cap, sizeof *heap);
    if (!heap) return SL_NOMEM;
    queue->heap = heap;
    queue->cap = cap;
    return SL_OK;
}

sl_status frame_queue_put(struct frame_queue *queue, const struct frame *frame)
{
    sl_status status = make_room(queue, frame->n);
    if (status) return status;
    struct frame copy = *frame;
    copy.number = queue->n_put;
    copy.bytes = sl_memdup(frame->bytes, frame->n);
    if (!copy.bytes) return SL_NOMEM;
    size_t at = queue->n++;
    for (size_t up = (at - 1) / 2; at && is_before(&copy, &queue->heap[up]); up = (at - 1) / 2) {
        queue->heap[at] = queue->heap[up];
        at = up;
    }
    queue->heap[at] = copy;
    queue->n_put++;
    queue->n_bytes += frame->n;
    return SL_OK;
}

const struct frame *frame_queue_first(const struct frame_queue *queue)
{
    return queue->n ? queue->heap : NULL;
}

void frame_queue_drop_first(struct frame_queue *queue)
{
    if (!queue->n) return;
    struct frame *heap = queue->heap;
    queue->n_bytes -= heap[0].n;
    sl_free(heap[0].bytes);
    const struct frame last = heap[--queue->n];
    size_t at = 0;
    for (size_t down = 1; down < queue->n; down = 2 * at + 1) {
        if (down + 1 < queue->n && is_before(&heap[down + 1], &heap[down])) down++;
        if (!is_before(&heap[down], &last)) break;
        heap[at] = heap[down];
        at = down;
    }
    heap[at] = last;
}
