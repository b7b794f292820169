/* post_box.c: a queue of calls. */
#include "support/post_box.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"

#include <stdlib.h>

#define POSTS_MAX 1024
#define DEADLINE_NS INT64_C(30000000000)

struct post_box {
    struct sl_queue *queue;
    _Atomic int n_refused;
};

struct post {
    void (*fn)(void *arg);
    void *arg;
};

struct post_box *post_box_create(void)
{
    struct post_box *box = calloc(1, sizeof *box);
    if (!box || sl_queue_create(POSTS_MAX, &box->queue) != SL_OK) abort();
    return box;
}

void post_box_destroy(struct post_box *box)
{
    void *post;
    while (sl_queue_pop(box->queue, 0, &post) == SL_OK) free(post);
    sl_queue_destroy(box->queue);
    free(box);
}

void post_box_refuse(struct post_box *box, int n_posts)
{
    box->n_refused = n_posts;
}

sl_status post_box_post(void *arg_box, void (*fn)(void *arg), void *arg)
{
    struct post_box *box = arg_box;
    if (box->n_refused > 0) {
        box->n_refused--;
        return SL_BUSY;
    }
    struct post *post = malloc(sizeof *post);
    if (!post) abort();
    *post = (struct post){fn, arg};
    return sl_queue_push(box->queue, post);
}

bool post_box_run(struct post_box *box, bool (*done)(void *arg), void *arg)
{
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (!done(arg)) {
        void *item;
        int64_t left_ns = end_ns - sl_now_ns();
        if (left_ns <= 0 || sl_queue_pop(box->queue, left_ns, &item) != SL_OK) return false;
        struct post post = *(struct post *)item;
        free(item);
        post.fn(post.arg);
    }
    return true;
}
