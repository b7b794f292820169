#include "exec/worker.h"
#include "base/mem.h"
#include "exec/worker_process.h"
#include "exec/worker_share.h"
#include "exec/worker_words.h"
#include "net/frame.h"
#include "net/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PING_MS 2000
#define WATCHDOG_MS 60000
#define LOAD_WATCHDOG_MS 300000
#define GRACE_MS 5000
#define SEND_BYTES_MAX (256u << 20) /* as many bytes of bodies as the HTTP server holds */
#define READ_BYTES (64u << 10)
/* In one turn so much is taken from one worker at most: others and clients get theirs. */
#define READ_BYTES_A_TURN (1u << 20)
/* Of a dead worker's socket: more than the kernel holds, unless a process it started goes on. */
#define LAST_READS_MAX 256
#define STDERR_BYTES_A_TURN (64u << 10)
#define NS_PER_MS 1000000

enum state {
    STATE_STARTING,  /* until LOADED */
    STATE_READY,     /* requests are taken */
    STATE_UNLOADING, /* asked to end, or it said it will; the grace period runs */
    STATE_DYING      /* SIGKILL is on its way; what it sends counts no more */
};

struct worker {
    struct loop *loop;
    struct worker_callbacks callbacks;
    void *ctx;
    struct worker_process process;
    struct worker_share share;
    struct loop_watch *socket_watch, *stderr_watch, *death_watch;
    struct loop_timer *tick, *grace;
    struct loop_task flush_task;
    bool write_blocked; /* the socket is full: its watch says when it is not */
    struct frame_reader reader;
    struct frame_writer writer;
    struct sl_arena arena; /* of the frame at hand */
    size_t send_bytes_max;
    int64_t tick_ns, watchdog_ns, load_watchdog_ns, grace_ns;
    /* Ticks without a sign of life, as time: a loop that was held up itself blames no worker. */
    int64_t silent_ns;
    bool heard; /* since the last tick */
    uint64_t ping_seq;
    enum state state;
    enum worker_end end;          /* why, once the end has begun */
    char detail[SL_ERR_TEXT_MAX]; /* of the end; "" when there is nothing to say */
    bool is_loaded;
    struct sl_arena loaded_arena;
    struct wire_loaded loaded;
    struct engine_stats stats;
    struct worker_words words;
};

const char *worker_end_name(enum worker_end end)
{
    static const char *const names[] = {"unloaded", "load failed", "crashed",
                                        "hung",     "protocol",    "killed"};
    return (unsigned)end < sizeof names / sizeof *names ? names[end] : "?";
}

static void kill_now(struct worker *w)
{
    if (w->state == STATE_DYING) return;
    w->state = STATE_DYING;
    worker_process_kill(&w->process);
}

static void set_end(struct worker *w, enum worker_end end, const char *detail)
{
    w->end = end;
    (void)snprintf(w->detail, sizeof w->detail, "%s", detail);
}

/* The first reason is the one that counts, unless it now sends nonsense. */
static void kill_for(struct worker *w, enum worker_end end, const char *detail)
{
    bool first = w->state < STATE_UNLOADING;
    if (first || (w->state == STATE_UNLOADING && end == WORKER_END_PROTOCOL))
        set_end(w, end, detail);
    kill_now(w);
}

/* The end has begun without us; the grace period is for what it has to put away. */
static void begin_end(struct worker *w, enum worker_end end, const char *detail)
{
    if (w->state >= STATE_UNLOADING) return;
    w->state = STATE_UNLOADING;
    set_end(w, end, detail);
    loop_timer_set(w->grace, w->grace_ns);
}

static void socket_failed(struct worker *w)
{
    loop_watch_destroy(w->socket_watch);
    w->socket_watch = NULL;
    begin_end(w, WORKER_END_CRASHED, "closed its socket");
}

static void flush(void *ctx)
{
    struct worker *w = ctx;
    size_t n;
    const void *bytes = frame_writer_pending(&w->writer, &n);
    while (n && w->socket_watch) {
        ssize_t sent = send(w->process.socket, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) break;
        frame_writer_sent(&w->writer, (size_t)sent);
        bytes = frame_writer_pending(&w->writer, &n);
    }
    /* Other errors than a full socket are the reading side's to find: it sees the end as well. */
    bool blocked = n > 0;
    if (!w->socket_watch || blocked == w->write_blocked) return;
    w->write_blocked = blocked;
    if (loop_watch_set(w->socket_watch, blocked ? LOOP_READ | LOOP_WRITE : LOOP_READ) != SL_OK)
        kill_for(w, WORKER_END_KILLED, "its socket cannot be watched");
}

/* Frames of one turn leave together. */
static sl_status send_message(struct worker *w, const struct wire_msg *msg, struct sl_err *err)
{
    sl_status status = wire_encode(msg, &w->writer.buf, err);
    if (status == SL_OK && !w->write_blocked) loop_queue_task(w->loop, &w->flush_task);
    return status;
}

static sl_status send_request(struct worker *w, const struct wire_msg *msg, struct sl_err *err)
{
    size_t waiting;
    (void)frame_writer_pending(&w->writer, &waiting);
    if (w->state != STATE_READY)
        return sl_err_set(err, SL_UNAVAILABLE, "the worker is %s",
                          w->state == STATE_STARTING ? "still loading" : "ending");
    if (waiting >= w->send_bytes_max)
        return sl_err_set(err, SL_BUSY, "%zu bytes wait to be sent to the worker", waiting);
    return send_message(w, msg, err);
}

static sl_status take_loaded(struct worker *w, const struct wire_loaded *loaded, struct sl_err *err)
{
    if (w->is_loaded) return sl_err_set(err, SL_CORRUPT, "loaded twice");
    w->loaded = *loaded;
    w->is_loaded = true;
    if (w->state != STATE_STARTING) return SL_OK;
    w->state = STATE_READY;
    if (w->callbacks.on_loaded) w->callbacks.on_loaded(w->ctx, &w->loaded);
    return SL_OK;
}

static sl_status take_load_failed(struct worker *w, const struct wire_failure *failure,
                                  struct sl_err *err)
{
    if (w->is_loaded) return sl_err_set(err, SL_CORRUPT, "failed to load what is loaded");
    if (w->state != STATE_STARTING) return SL_OK;
    begin_end(w, WORKER_END_LOAD_FAILED, failure->message);
    if (w->callbacks.on_load_failed)
        w->callbacks.on_load_failed(w->ctx, failure->status, failure->message);
    return SL_OK;
}

static bool has_pieces(const struct wire_events *events)
{
    for (size_t i = 0; i < events->n; i++)
        if (events->v[i].pieces) return true;
    return false;
}

/* A copy of the events that points at the data that are in pieces. */
static sl_status find_tensors(struct worker *w, struct wire_events *events, struct sl_err *err)
{
    sl_status status = SL_OK;
    struct wire_event *v = sl_arena_array(&w->arena, events->n, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "events");
    memcpy(v, events->v, events->n * sizeof *v);
    for (size_t i = 0; i < events->n && status == SL_OK; i++)
        if (v[i].pieces)
            status = worker_share_find(&w->share, v[i].engine.tensors, v[i].pieces,
                                       v[i].engine.n_tensors, &w->arena, &v[i].engine.tensors, err);
    events->v = v;
    return status;
}

static void release_tensors(struct worker *w, const struct wire_events *events)
{
    for (size_t i = 0; i < events->n; i++)
        if (events->v[i].pieces)
            worker_share_release(&w->share, events->v[i].pieces, events->v[i].engine.n_tensors);
}

static sl_status take_events(struct worker *w, const struct wire_events *in, struct sl_err *err)
{
    struct wire_events events = *in;
    bool shared = has_pieces(&events);
    if (!w->is_loaded) return sl_err_set(err, SL_CORRUPT, "events before it was loaded");
    sl_status status = shared ? find_tensors(w, &events, err) : SL_OK;
    if (status != SL_OK) return status;
    if (events.n) w->callbacks.on_events(w->ctx, events.v, events.n);
    if (shared) release_tensors(w, &events);
    return SL_OK;
}

static void take_pong(struct worker *w, const struct wire_pong *pong)
{
    w->stats = pong->stats;
    if (w->callbacks.on_stats) w->callbacks.on_stats(w->ctx, &w->stats);
}

static sl_status take_message(struct worker *w, const struct wire_msg *msg, struct sl_err *err)
{
    switch (msg->type) {
    case WIRE_LOADING:
        if (w->state == STATE_STARTING && w->callbacks.on_loading)
            w->callbacks.on_loading(w->ctx, msg->loading);
        return SL_OK;
    case WIRE_LOADED: return take_loaded(w, &msg->loaded, err);
    case WIRE_LOAD_FAILED: return take_load_failed(w, &msg->load_failed, err);
    case WIRE_EVENTS: return take_events(w, &msg->events, err);
    case WIRE_PONG: take_pong(w, &msg->pong); return SL_OK;
    case WIRE_FRAME:
        if (!w->callbacks.on_frame || !w->is_loaded) break;
        w->callbacks.on_frame(w->ctx, msg->frame.stage, msg->frame.bytes, msg->frame.n);
        return SL_OK;
    default: break;
    }
    return sl_err_set(err, SL_CORRUPT, "%s message from a worker", wire_type_name(msg->type));
}

static sl_status take_frame(struct worker *w, const struct frame *frame, struct sl_err *err)
{
    bool keeps = frame->type == WIRE_LOADED && !w->is_loaded;
    struct wire_msg msg;
    sl_status status = wire_decode(frame, keeps ? &w->loaded_arena : &w->arena, &msg, err);
    if (status == SL_OK) status = take_message(w, &msg, err);
    sl_arena_reset(&w->arena);
    w->heard = true;
    return status;
}

static void take_frames(struct worker *w)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = SL_OK;
    bool have = true;
    while (have && status == SL_OK && w->state != STATE_DYING) {
        struct frame frame;
        status = frame_reader_next(&w->reader, &frame, &have, &err);
        if (status == SL_OK && have) status = take_frame(w, &frame, &err);
    }
    if (status != SL_OK) kill_for(w, WORKER_END_PROTOCOL, err.text);
}

/* One read; false when there are no more for now, or for ever. */
static bool read_some(struct worker *w)
{
    char chunk[READ_BYTES];
    ssize_t n = recv(w->process.socket, chunk, sizeof chunk, 0);
    if (n < 0 && errno == EINTR) return true;
    if (n == 0 || (n < 0 && errno != EAGAIN)) socket_failed(w);
    if (n <= 0) return false;
    if (w->state == STATE_DYING) return true; /* read and forgotten */
    if (frame_reader_feed(&w->reader, chunk, (size_t)n) != SL_OK)
        kill_for(w, WORKER_END_KILLED, "no memory for what it sent");
    take_frames(w);
    return (size_t)n == sizeof chunk;
}

static void on_socket(void *ctx, unsigned ready)
{
    struct worker *w = ctx;
    if (ready & LOOP_WRITE) flush(w);
    for (size_t n = 0; ready & LOOP_READ && n < READ_BYTES_A_TURN && w->socket_watch;
         n += READ_BYTES) {
        if (!read_some(w)) return;
    }
}

static void on_stderr(void *ctx, unsigned ready)
{
    struct worker *w = ctx;
    char chunk[4096];
    (void)ready;
    for (size_t total = 0; total < STDERR_BYTES_A_TURN; total += sizeof chunk) {
        ssize_t n = read(w->process.stderr_fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            loop_watch_destroy(w->stderr_watch);
            w->stderr_watch = NULL;
            return;
        }
        worker_words_add(&w->words, chunk, (size_t)n);
    }
}

static void on_tick(void *ctx)
{
    struct worker *w = ctx;
    struct sl_err err;
    const struct wire_msg ping = {.type = WIRE_PING, .ping_seq = ++w->ping_seq};
    int64_t limit_ns = w->is_loaded ? w->watchdog_ns : w->load_watchdog_ns;
    size_t waiting;
    if (w->state >= STATE_UNLOADING) return; /* the grace period decides */
    w->silent_ns = w->heard ? 0 : w->silent_ns + w->tick_ns;
    w->heard = false;
    if (w->silent_ns >= limit_ns) {
        char text[80];
        (void)snprintf(text, sizeof text, "gave no answer for %.1f s", (double)limit_ns / 1e9);
        kill_for(w, WORKER_END_HUNG, text);
        return;
    }
    /* A ping that waits unsent is enough; silence is what is counted. */
    (void)frame_writer_pending(&w->writer, &waiting);
    if (!waiting && send_message(w, &ping, &err) != SL_OK) kill_for(w, WORKER_END_KILLED, err.text);
    loop_timer_set(w->tick, w->tick_ns);
}

static void on_grace(void *ctx)
{
    kill_now(ctx);
}

static void say_status(const struct worker *w, char *out, size_t n)
{
    int status = w->process.wait_status;
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;
    if (name)
        (void)snprintf(out, n, "died of SIG%s", name);
    else if (WIFSIGNALED(status))
        (void)snprintf(out, n, "died of signal %d", WTERMSIG(status));
    else
        (void)snprintf(out, n, "exited with code %d", WEXITSTATUS(status));
}

/* "gave no answer for 60.0 s; last words: ..." */
static void say_reason(const struct worker *w, char *out, size_t n)
{
    char how[64], last[WORKER_REASON_MAX - SL_ERR_TEXT_MAX - 32];
    say_status(w, how, sizeof how);
    worker_words_last(&w->words, last, sizeof last);
    bool crashed = w->end == WORKER_END_CRASHED;
    (void)snprintf(out, n, "%s%s%s", crashed || !w->detail[0] ? how : w->detail,
                   last[0] ? "; last words: " : "", last);
}

/* The last callback; the owner may destroy the worker in it. */
static void report_exit(struct worker *w)
{
    char reason[WORKER_REASON_MAX];
    int status = w->process.wait_status;
    if (w->state < STATE_UNLOADING) w->end = WORKER_END_CRASHED;
    say_reason(w, reason, sizeof reason);
    const struct worker_exit how = {
        .end = w->end,
        .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .reason = reason,
    };
    w->state = STATE_DYING;
    w->callbacks.on_exit(w->ctx, &how);
}

/* What a dead worker had sent is still worth reading: the end of requests, its last words. */
static void on_death(void *ctx, unsigned ready)
{
    struct worker *w = ctx;
    (void)ready;
    if (!worker_process_reap(&w->process)) return;
    for (int i = 0; i < LAST_READS_MAX && w->socket_watch && read_some(w); i++) continue;
    if (w->stderr_watch) on_stderr(w, LOOP_READ);
    worker_words_end(&w->words);
    loop_watch_destroy(w->death_watch);
    loop_watch_destroy(w->socket_watch);
    loop_watch_destroy(w->stderr_watch);
    w->death_watch = w->socket_watch = w->stderr_watch = NULL;
    loop_timer_cancel(w->tick);
    loop_timer_cancel(w->grace);
    loop_cancel_task(w->loop, &w->flush_task);
    report_exit(w);
}

static void on_line(void *ctx, const char *line)
{
    struct worker *w = ctx;
    if (w->callbacks.on_log) w->callbacks.on_log(w->ctx, line);
}

static int64_t ns_or(int64_t ms, int64_t otherwise_ms)
{
    return (ms > 0 ? ms : otherwise_ms) * NS_PER_MS;
}

static void init(struct worker *w, const struct worker_cfg *cfg)
{
    worker_process_init(&w->process);
    w->watchdog_ns = ns_or(cfg->watchdog_ms, WATCHDOG_MS);
    w->load_watchdog_ns = ns_or(cfg->load_watchdog_ms, LOAD_WATCHDOG_MS);
    w->grace_ns = ns_or(cfg->grace_ms, GRACE_MS);
    w->tick_ns = ns_or(cfg->ping_ms, PING_MS);
    /* Silence is counted in ticks: a few must fit into the shortest limit. */
    if (w->tick_ns > w->watchdog_ns / 4) w->tick_ns = w->watchdog_ns / 4;
    w->send_bytes_max = cfg->send_bytes_max ? cfg->send_bytes_max : SEND_BYTES_MAX;
    w->flush_task = (struct loop_task){.fn = flush, .ctx = w};
    w->words = (struct worker_words){.on_line = on_line, .ctx = w};
    frame_reader_init(&w->reader, WIRE_FRAME_BYTES_MAX);
    /* Beyond the limit for requests: one whole message, and the pings and cancels of a full one. */
    frame_writer_init(&w->writer, w->send_bytes_max + 2 * (size_t)WIRE_FRAME_BYTES_MAX);
    sl_arena_init(&w->arena, WIRE_ARENA_BYTES_MAX);
    sl_arena_init(&w->loaded_arena, WIRE_ARENA_BYTES_MAX);
}

static sl_status watch(struct worker *w, struct sl_err *err)
{
    const struct worker_process *p = &w->process;
    sl_status status =
        loop_watch_create(w->loop, p->socket, LOOP_READ, on_socket, w, &w->socket_watch);
    if (status == SL_OK)
        status =
            loop_watch_create(w->loop, p->stderr_fd, LOOP_READ, on_stderr, w, &w->stderr_watch);
    if (status == SL_OK)
        status = loop_watch_create(w->loop, p->pidfd, LOOP_READ, on_death, w, &w->death_watch);
    if (status == SL_OK) status = loop_timer_create(w->loop, on_tick, w, &w->tick);
    if (status == SL_OK) status = loop_timer_create(w->loop, on_grace, w, &w->grace);
    if (status != SL_OK) return sl_err_set(err, status, "watch the worker");
    loop_timer_set(w->tick, w->tick_ns);
    return SL_OK;
}

static sl_status start(struct worker *w, const struct worker_cfg *cfg, struct sl_err *err)
{
    const char *title = cfg->load.title ? cfg->load.title : cfg->load.engine.kind;
    int fds[2];
    sl_status status = worker_share_create(&w->share, fds, err);
    if (status != SL_OK) return status;
    status = worker_process_start(&w->process, cfg->exe, title, fds, err);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return status;
}

sl_status worker_spawn(struct loop *loop, const struct worker_cfg *cfg,
                       const struct worker_callbacks *callbacks, void *ctx, struct worker **out,
                       struct sl_err *err)
{
    const struct wire_msg load = {.type = WIRE_LOAD, .load = cfg->load};
    bool splits = cfg->load.engine.split.n_stages > 0;
    if (splits && !callbacks->on_frame)
        return sl_err_set(err, SL_INVALID, "the worker of a stage needs on_frame");
    if (!callbacks->on_events || !callbacks->on_exit || !cfg->load.engine.kind ||
        !cfg->load.engine.path)
        return sl_err_set(err, SL_INVALID, "a worker needs kind, path, on_events and on_exit");
    struct worker *w = sl_calloc(1, sizeof *w);
    if (!w) return sl_err_set(err, SL_NOMEM, "worker");
    w->loop = loop;
    w->callbacks = *callbacks;
    w->ctx = ctx;
    init(w, cfg);
    sl_status status = start(w, cfg, err);
    if (status == SL_OK) status = watch(w, err);
    if (status == SL_OK) status = send_message(w, &load, err);
    if (status != SL_OK) goto fail;
    *out = w;
    return SL_OK;
fail:
    worker_destroy(w);
    return sl_err_prefix(err, "worker");
}

void worker_destroy(struct worker *w)
{
    if (!w) return;
    loop_cancel_task(w->loop, &w->flush_task);
    loop_watch_destroy(w->socket_watch);
    loop_watch_destroy(w->stderr_watch);
    loop_watch_destroy(w->death_watch);
    loop_timer_destroy(w->tick);
    loop_timer_destroy(w->grace);
    worker_process_done(&w->process);
    worker_share_done(&w->share);
    frame_reader_done(&w->reader);
    frame_writer_done(&w->writer);
    sl_arena_done(&w->arena);
    sl_arena_done(&w->loaded_arena);
    sl_free(w);
}

sl_status worker_generate(struct worker *w, const struct wire_generate *req, struct sl_err *err)
{
    const struct wire_msg msg = {.type = WIRE_GENERATE, .generate = *req};
    return send_request(w, &msg, err);
}

sl_status worker_embed(struct worker *w, const struct wire_embed *req, struct sl_err *err)
{
    const struct wire_msg msg = {.type = WIRE_EMBED, .embed = *req};
    return send_request(w, &msg, err);
}

/* Large tensors go into shared memory, as long as there is room. */
sl_status worker_infer(struct worker *w, const struct wire_infer *req, struct sl_err *err)
{
    struct wire_msg msg = {.type = WIRE_INFER, .infer = *req};
    uint32_t pieces[TENSORS_MAX];
    if (w->state != STATE_READY || req->n_inputs > TENSORS_MAX) return send_request(w, &msg, err);
    for (size_t i = 0; i < req->n_inputs; i++)
        pieces[i] = worker_share_put(&w->share, &req->inputs[i]);
    msg.infer.pieces = pieces;
    sl_status status = send_request(w, &msg, err);
    for (size_t i = 0; i < req->n_inputs && status != SL_OK; i++)
        if (pieces[i]) worker_share_take_back(&w->share, pieces[i]);
    return status;
}

sl_status worker_tokenize(struct worker *w, const struct wire_tokenize *req, struct sl_err *err)
{
    const struct wire_msg msg = {.type = WIRE_TOKENIZE, .tokenize = *req};
    return send_request(w, &msg, err);
}

sl_status worker_detokenize(struct worker *w, const struct wire_detokenize *req, struct sl_err *err)
{
    const struct wire_msg msg = {.type = WIRE_DETOKENIZE, .detokenize = *req};
    return send_request(w, &msg, err);
}

sl_status worker_deliver(struct worker *w, int32_t from, const void *bytes, size_t n,
                         struct sl_err *err)
{
    const struct wire_msg msg = {.type = WIRE_DELIVER, .deliver = {from, bytes, n}};
    if (from < 0 || from >= ENGINE_STAGES_MAX)
        return sl_err_set(err, SL_INVALID, "there is no stage %d", from);
    return send_request(w, &msg, err);
}

sl_status worker_cancel(struct worker *w, uint64_t id, struct sl_err *err)
{
    const struct wire_msg msg = {.type = WIRE_CANCEL, .cancel_id = id};
    if (w->state != STATE_READY) return sl_err_set(err, SL_UNAVAILABLE, "the worker is ending");
    return send_message(w, &msg, err);
}

void worker_unload(struct worker *w)
{
    const struct wire_msg msg = {.type = WIRE_UNLOAD};
    struct sl_err err;
    if (w->state >= STATE_UNLOADING) return;
    begin_end(w, WORKER_END_UNLOADED, "");
    if (send_message(w, &msg, &err) != SL_OK) kill_for(w, WORKER_END_UNLOADED, "");
}

void worker_kill(struct worker *w)
{
    kill_for(w, WORKER_END_KILLED, "was killed");
}

bool worker_ready(const struct worker *w)
{
    return w->state == STATE_READY;
}

int worker_pid(const struct worker *w)
{
    return w->process.pid;
}

const struct wire_loaded *worker_loaded(const struct worker *w)
{
    return w->is_loaded ? &w->loaded : NULL;
}

const struct engine_stats *worker_stats(const struct worker *w)
{
    return &w->stats;
}
