#include "grid/blobs_chunks.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grid/chunk_list.h"
#include "grid/grid_port.h"
#include "grid/store_chunks.h"
#include "net/http_server.h"
#include "net/loop.h"
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

struct asked {
    struct blobs_chunks *chunks;
    struct http_exchange *x; /* NULL: the client has gone */
    struct asked *next, *previous;
    char digest[STORE_DIGEST_SIZE];
    /* the thread's, until it posts the end */
    struct sl_buf list;
    sl_status status;
    struct sl_err err;
};

struct blobs_chunks {
    struct loop *loop;
    const struct store *store;
    struct sl_pool *maker;
    struct asked *asked;
    size_t n_asked;
    atomic_bool ends;
};

static void asked_free(struct asked *asked)
{
    struct blobs_chunks *chunks = asked->chunks;
    if (asked->previous)
        asked->previous->next = asked->next;
    else
        chunks->asked = asked->next;
    if (asked->next) asked->next->previous = asked->previous;
    chunks->n_asked--;
    sl_buf_done(&asked->list);
    sl_free(asked);
}

static void on_made(void *arg)
{
    struct asked *asked = arg;
    if (asked->x && asked->status == SL_OK)
        http_respond(asked->x, 200, "application/octet-stream", asked->list.data, asked->list.len);
    else if (asked->x)
        grid_port_fail(asked->x, asked->status, asked->err.text);
    asked_free(asked);
}

/* On the thread. */
static void make(void *arg)
{
    struct asked *asked = arg;
    struct blobs_chunks *chunks = asked->chunks;
    static const struct timespec SOON = {.tv_nsec = 1000000};
    asked->status =
        store_chunks(chunks->store, asked->digest, &chunks->ends, &asked->list, &asked->err);
    while (loop_post(chunks->loop, on_made, asked) == SL_BUSY) nanosleep(&SOON, NULL);
}

static void on_close(void *ctx, struct http_exchange *x)
{
    struct asked *asked = ctx;
    http_exchange_abort(x);
    asked->x = NULL;
}

static struct asked *asked_create(struct blobs_chunks *chunks, struct http_exchange *x,
                                  const char *digest)
{
    struct asked *asked = sl_calloc(1, sizeof *asked);
    if (!asked) return NULL;
    asked->chunks = chunks;
    asked->x = x;
    snprintf(asked->digest, sizeof asked->digest, "%s", digest);
    sl_buf_init(&asked->list, CHUNK_LIST_BYTES_MAX);
    asked->next = chunks->asked;
    if (asked->next) asked->next->previous = asked;
    chunks->asked = asked;
    chunks->n_asked++;
    return asked;
}

void blobs_chunks_answer(struct blobs_chunks *chunks, struct http_exchange *x, const char *digest)
{
    struct asked *asked =
        chunks->n_asked < BLOBS_CHUNKS_WAITING_MAX ? asked_create(chunks, x, digest) : NULL;
    if (!asked) {
        grid_port_fail(x, SL_UNAVAILABLE, "too many lists of chunks are asked for");
        return;
    }
    if (sl_pool_submit(chunks->maker, make, asked) == SL_OK) {
        http_exchange_set_close_handler(x, on_close, asked);
        return;
    }
    asked_free(asked);
    grid_port_fail(x, SL_UNAVAILABLE, "no memory for a list of chunks");
}

sl_status blobs_chunks_create(struct loop *loop, const struct store *store,
                              struct blobs_chunks **out, struct sl_err *err)
{
    struct blobs_chunks *chunks = sl_calloc(1, sizeof *chunks);
    if (!chunks) return sl_err_set(err, SL_NOMEM, "lists of chunks");
    chunks->loop = loop;
    chunks->store = store;
    atomic_init(&chunks->ends, false);
    sl_status status = sl_pool_create(1, BLOBS_CHUNKS_WAITING_MAX, &chunks->maker);
    if (status != SL_OK) {
        sl_free(chunks);
        return sl_err_set(err, status, "a thread that makes lists of chunks");
    }
    *out = chunks;
    return SL_OK;
}

void blobs_chunks_destroy(struct blobs_chunks *chunks)
{
    if (!chunks) return;
    atomic_store(&chunks->ends, true);
    sl_pool_destroy(chunks->maker); /* waits for the list under way to stop */
    while (chunks->asked) {
        struct asked *asked = chunks->asked;
        loop_cancel_posts(chunks->loop, asked);
        if (asked->x) http_exchange_abort(asked->x);
        asked_free(asked);
    }
    sl_free(chunks);
}
