/* ollama_pull.c: POST /api/pull: a download on a thread of its own, told to the client line by
 * line.
 *
 *   pool thread: pull_run -> lines (under a lock)
 *   loop:        a timer takes what lines there are and writes them
 *
 * A pull outlives its client for as long as its thread needs to notice; what is here by then stays
 * for the next pull. */
#include "access/ollama_int.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grid/pull.h"
#include "grid/store_name.h"
#include "net/loop.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define PULLS_MAX 4                /* at once; each has several connections */
#define PULLS_WAITING_MAX 16       /* the rest is told to come again */
#define LINES_MAX (1u << 20)       /* for a client that does not read; more are dropped */
#define TICK_NS INT64_C(100000000) /* how often lines leave */

struct pull {
    struct ollama_pulls *pulls;
    struct pull *next;
    struct call *call; /* NULL: the client has gone */
    char name[STORE_NAME_SIZE];
    bool insecure, stream, head_sent, end_told;
    atomic_bool cancel;
    /* the thread's */
    enum pull_phase phase;
    int file_index;
    uint64_t file_done, file_total;
    /* under the lock */
    pthread_mutex_t lock;
    struct sl_buf lines;
    struct sl_err err; /* how it ended */
    bool ended;
};

struct ollama_pulls {
    struct gateway *gateway;
    struct sl_pool *pool;
    struct loop_timer *timer;
    struct pull *all;
};

/* --- on the thread --- */

static sl_status put_line(struct sl_buf *out, const char *status_text,
                          const struct pull_progress *file)
{
    char digest[STORE_DIGEST_SIZE + sizeof "sha256:"];
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "status", status_text);
    if (file) {
        snprintf(digest, sizeof digest, "sha256:%s", file->digest);
        sl_json_kv_str(&json, "digest", *file->digest ? digest : file->file);
        if (file->file_total) sl_json_kv_int(&json, "total", (int64_t)file->file_total);
        sl_json_kv_int(&json, "completed", (int64_t)file->file_done);
    }
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

/* A line that finds no room is dropped whole. */
static void tell(struct pull *pull, const char *status_text, const struct pull_progress *file)
{
    pthread_mutex_lock(&pull->lock);
    size_t before = pull->lines.len;
    if (put_line(&pull->lines, status_text, file) != SL_OK) sl_buf_truncate(&pull->lines, before);
    pthread_mutex_unlock(&pull->lock);
}

static void tell_file(struct pull *pull, const struct pull_progress *p)
{
    char text[160];
    if (p->phase == pull->phase && p->file_index == pull->file_index &&
        p->file_done == pull->file_done && p->file_total == pull->file_total)
        return; /* nothing has moved */
    pull->file_index = p->file_index;
    pull->file_done = p->file_done;
    pull->file_total = p->file_total;
    snprintf(text, sizeof text, "pulling %.*s", *p->digest ? 12 : 128,
             *p->digest ? p->digest : p->file);
    tell(pull, text, p);
}

static void on_progress(void *ctx, const struct pull_progress *p)
{
    struct pull *pull = ctx;
    char text[256];
    bool is_new = p->phase != pull->phase;
    switch (p->phase) {
    case PULL_WAITING:
        if (is_new) tell(pull, "waiting for another pull of it", NULL);
        break;
    case PULL_RESOLVING:
        if (is_new) tell(pull, "pulling manifest", NULL);
        break;
    case PULL_DOWNLOADING: tell_file(pull, p); break;
    case PULL_RETRYING:
        snprintf(text, sizeof text, "retrying: %.200s", p->note);
        tell(pull, text, NULL);
        break;
    case PULL_VERIFYING:
        if (is_new) tell(pull, "verifying sha256 digest", NULL);
        break;
    case PULL_DONE: break;
    }
    pull->phase = p->phase;
}

static void run(void *arg)
{
    struct pull *pull = arg;
    struct pull_request request;
    struct sl_err err = SL_ERR_INIT;
    pull_request_init(&request);
    request.name = pull->name;
    request.insecure = pull->insecure;
    request.progress = on_progress;
    request.ctx = pull;
    request.cancel = &pull->cancel;
    sl_status status = atomic_load(&pull->cancel)
                           ? sl_err_set(&err, SL_CANCELLED, "cancelled")
                           : pull_run(pull->pulls->gateway->cfg.store, &request, &err);
    pthread_mutex_lock(&pull->lock);
    pull->err = err;
    pull->err.status = status;
    pull->ended = true;
    pthread_mutex_unlock(&pull->lock);
}

/* --- on the loop --- */

static void pull_free(struct pull *pull)
{
    if (!pull) return;
    sl_buf_done(&pull->lines);
    pthread_mutex_destroy(&pull->lock);
    sl_free(pull);
}

static void on_gone(struct call *call)
{
    struct pull *pull = call->work;
    pull->call = NULL;
    atomic_store(&pull->cancel, true);
}

/* Writes what lines there are. BUSY: not all of them yet. */
static sl_status write_lines(struct pull *pull)
{
    sl_status status = SL_OK;
    struct call *call = pull->call;
    pthread_mutex_lock(&pull->lock);
    if (!pull->head_sent && (pull->lines.len || pull->end_told)) {
        status = http_stream_begin(call->x, 200, OLLAMA_STREAM_TYPE);
        pull->head_sent = true;
    }
    if (status == SL_OK && pull->lines.len) {
        status = http_stream_write(call->x, pull->lines.data, pull->lines.len);
        if (status == SL_OK) sl_buf_clear(&pull->lines);
    }
    pthread_mutex_unlock(&pull->lock);
    return status;
}

static void put_end(struct pull *pull)
{
    if (pull->err.status == SL_OK) {
        tell(pull, "success", NULL);
        return;
    }
    sl_status status = call_error_json(pull->call, 500, NULL, NULL, pull->err.text, &pull->lines);
    if (status == SL_OK) status = sl_buf_addc(&pull->lines, '\n');
    if (status != SL_OK) sl_buf_clear(&pull->lines);
}

static void answer_whole(struct pull *pull)
{
    struct call *call = pull->call;
    if (pull->err.status != SL_OK) {
        call_fail_err(call, &pull->err, "model");
        return;
    }
    sl_buf_clear(&pull->lines);
    sl_status status = put_line(&pull->lines, "success", NULL);
    call_respond_json(call, 200, &pull->lines, status);
}

/* False: the client has not taken the lines yet. */
static bool end_stream(struct pull *pull)
{
    struct call *call = pull->call;
    if (!pull->end_told) put_end(pull);
    pull->end_told = true;
    if (write_lines(pull) == SL_BUSY) return false;
    http_stream_end(call->x);
    call_free(call);
    return true;
}

/* False: it is not over. */
static bool end(struct pull *pull)
{
    struct gateway *gateway = pull->pulls->gateway;
    bool failed = pull->err.status != SL_OK;
    if (!failed && !pull->end_told) ollama_model_changed(gateway->cfg.grid, pull->name);
    if (!pull->call) return true;
    if (pull->err.status == SL_CANCELLED)
        sl_err_set(&pull->err, SL_UNAVAILABLE, "the server stops; pull again to go on");
    /* What fails at once has a status of its own. */
    if (pull->stream && (pull->head_sent || !failed)) return end_stream(pull);
    answer_whole(pull);
    return true;
}

static void on_tick(void *ctx)
{
    struct ollama_pulls *pulls = ctx;
    for (struct pull **at = &pulls->all; *at;) {
        struct pull *pull = *at;
        pthread_mutex_lock(&pull->lock);
        bool ended = pull->ended;
        pthread_mutex_unlock(&pull->lock);
        if (!ended && pull->call && pull->stream) (void)!write_lines(pull);
        if (ended && end(pull)) {
            *at = pull->next;
            pull_free(pull);
        } else {
            at = &pull->next;
        }
    }
    if (pulls->all) loop_timer_set(pulls->timer, TICK_NS);
}

void ollama_pulls_cancel(struct ollama_pulls *pulls)
{
    for (struct pull *pull = pulls ? pulls->all : NULL; pull; pull = pull->next)
        atomic_store(&pull->cancel, true);
}

void ollama_pulls_destroy(struct ollama_pulls *pulls)
{
    if (!pulls) return;
    ollama_pulls_cancel(pulls);
    sl_pool_destroy(pulls->pool);
    while (pulls->all) {
        struct pull *pull = pulls->all;
        pulls->all = pull->next;
        pull_free(pull);
    }
    loop_timer_destroy(pulls->timer);
    sl_free(pulls);
}

/* Made at the first pull: most servers never do one. */
static sl_status pulls_create(struct gateway *gateway)
{
    if (gateway->pulls) return SL_OK;
    struct ollama_pulls *pulls = sl_calloc(1, sizeof *pulls);
    if (!pulls) return SL_NOMEM;
    pulls->gateway = gateway;
    sl_status status = sl_pool_create(PULLS_MAX, PULLS_WAITING_MAX, &pulls->pool);
    if (status == SL_OK)
        status = loop_timer_create(gateway->cfg.loop, on_tick, pulls, &pulls->timer);
    if (status != SL_OK) {
        ollama_pulls_destroy(pulls);
        return status;
    }
    gateway->pulls = pulls;
    return SL_OK;
}

static struct pull *pull_create(struct call *call, const char *name, bool stream)
{
    struct pull *pull = sl_calloc(1, sizeof *pull);
    if (!pull) return NULL;
    if (pthread_mutex_init(&pull->lock, NULL) != 0) {
        sl_free(pull);
        return NULL;
    }
    pull->pulls = call->gateway->pulls;
    pull->call = call;
    pull->stream = stream;
    pull->insecure = sl_json_to_bool(sl_json_get(call->body, "insecure"), false);
    pull->phase = PULL_DONE; /* none that is told */
    snprintf(pull->name, sizeof pull->name, "%s", name);
    sl_buf_init(&pull->lines, LINES_MAX);
    return pull;
}

static void start(struct call *call, const char *name, bool stream)
{
    struct pull *pull = NULL;
    sl_status status = pulls_create(call->gateway);
    if (status == SL_OK && !(pull = pull_create(call, name, stream))) status = SL_NOMEM;
    if (status == SL_OK) status = sl_pool_submit(pull->pulls->pool, run, pull);
    if (status != SL_OK) {
        pull_free(pull);
        call_fail(call, status, NULL, NULL,
                  status == SL_BUSY ? "too many pulls at once" : sl_status_text(status));
        return;
    }
    call->work = pull;
    call->on_gone = on_gone;
    pull->next = pull->pulls->all;
    pull->pulls->all = pull;
    loop_timer_set(pull->pulls->timer, TICK_NS);
}

void ollama_pull(struct call *call)
{
    struct store_name parts;
    struct sl_err err = SL_ERR_INIT;
    bool stream;
    if (!ollama_may_change_store(call) || !call_read_json(call)) return;
    const char *name = ollama_need_model(call);
    if (!name || !ollama_read_stream(call, &stream)) return;
    if (store_name_parse(name, &parts, &err) != SL_OK) {
        call_fail_err(call, &err, "model");
        return;
    }
    start(call, name, stream);
}
