#include "support/split_chain.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/stage_engine.h"
#include "net/frame.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define FRAME_BYTES_MAX (64u << 20)
#define STEPS_MAX 1000000
#define FRAME_TYPE 1

struct item {
    struct item *next;
    int32_t from;
    size_t n;
    char bytes[];
};

/* Without sockets a list; with them what was read. */
struct chain_messages {
    struct item *first, *last;
    struct frame_reader reader;
};

/* ---- without sockets ---- */

static void post(struct chain_stage *from, int32_t to, const void *bytes, size_t n)
{
    struct chain_messages *box = from->chain->stages[to].inbox;
    struct item *item = malloc(sizeof *item + n);
    assert_non_null(item);
    item->next = NULL;
    item->from = from->number;
    item->n = n;
    memcpy(item->bytes, bytes, n);
    if (box->last)
        box->last->next = item;
    else
        box->first = item;
    box->last = item;
}

static void deliver(struct chain_stage *stage, int32_t from, const void *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    if (engine_deliver(stage->engine, from, bytes, n, &err) != SL_OK)
        (void)snprintf(stage->failure, sizeof stage->failure, "%s", err.text);
}

static bool take_posted(struct chain_stage *stage)
{
    struct chain_messages *box = stage->inbox;
    struct item *item = box->first;
    if (!item) return false;
    box->first = item->next;
    if (!box->first) box->last = NULL;
    if (stage->chain->on_message)
        stage->chain->on_message(stage->chain->ctx, item->from, stage->number, item->bytes,
                                 item->n);
    deliver(stage, item->from, item->bytes, item->n);
    free(item);
    return true;
}

static void step_stage(struct chain_stage *stage)
{
    struct sl_err err = SL_ERR_INIT;
    bool idle = false;
    while (!idle && !stage->failure[0])
        if (engine_step(stage->engine, &idle, &err) != SL_OK)
            (void)snprintf(stage->failure, sizeof stage->failure, "%s", err.text);
}

void split_chain_try_pump(struct split_chain *chain)
{
    for (int32_t i = 1; i < chain->n_stages; i++) {
        while (take_posted(&chain->stages[i])) continue;
        step_stage(&chain->stages[i]);
    }
    while (take_posted(&chain->stages[0])) continue;
}

void split_chain_pump(struct split_chain *chain)
{
    split_chain_try_pump(chain);
    for (int32_t i = 0; i < chain->n_stages; i++) assert_string_equal(chain->stages[i].failure, "");
}

/* ---- with sockets ---- */

/* A connection over the loopback. */
static void connect_pair(int *out_a, int *out_b)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n = sizeof address;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_return_code(bind(listener, (struct sockaddr *)&address, n), errno);
    assert_return_code(listen(listener, 1), errno);
    assert_return_code(getsockname(listener, (struct sockaddr *)&address, &n), errno);
    *out_a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(*out_a, (struct sockaddr *)&address, n), errno);
    *out_b = accept(listener, NULL, NULL);
    assert_return_code(*out_b, errno);
    close(listener);
    (void)setsockopt(*out_a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(*out_b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* What is there now; false at the end of the stream. */
static bool read_some(struct chain_stage *stage)
{
    char chunk[1 << 16];
    ssize_t n = recv(stage->in, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n <= 0) return false;
    return frame_reader_feed(&stage->inbox->reader, chunk, (size_t)n) == SL_OK;
}

static void send_all(struct chain_stage *from, int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) {
            (void)snprintf(from->failure, sizeof from->failure, "send: %s", strerror(errno));
            return;
        }
        bytes += sent;
        n -= (size_t)sent;
    }
}

static void send_message(struct chain_stage *from, int32_t to, const void *bytes, size_t n)
{
    struct sl_buf buf;
    size_t mark;
    sl_buf_init(&buf, FRAME_BYTES_MAX + 64);
    if (frame_begin(&buf, FRAME_TYPE, &mark) == SL_OK && sl_buf_add(&buf, bytes, n) == SL_OK &&
        frame_end(&buf, mark, FRAME_BYTES_MAX) == SL_OK)
        send_all(from, to ? from->out : from->results, buf.data, buf.len);
    sl_buf_done(&buf);
}

static void take_frames(struct chain_stage *stage)
{
    struct sl_err err = SL_ERR_INIT;
    bool have = true;
    while (have && !stage->failure[0]) {
        struct frame frame;
        int32_t from = stage->number ? stage->number - 1 : stage->chain->n_stages - 1;
        if (frame_reader_next(&stage->inbox->reader, &frame, &have, &err) != SL_OK)
            (void)snprintf(stage->failure, sizeof stage->failure, "%s", err.text);
        else if (have)
            deliver(stage, from, frame.payload, frame.n_payload);
    }
}

static void *serve(void *arg)
{
    struct chain_stage *stage = arg;
    struct pollfd fd = {.fd = stage->in, .events = POLLIN};
    while (!stage->failure[0]) {
        (void)poll(&fd, 1, -1);
        if (!read_some(stage)) break;
        take_frames(stage);
        step_stage(stage);
    }
    return NULL;
}

static void on_frame(void *ctx, int32_t to, const void *bytes, size_t n)
{
    struct chain_stage *from = ctx;
    if (!from->number) from->chain->n_messages++;
    if (from->chain->sockets)
        send_message(from, to, bytes, n);
    else
        post(from, to, bytes, n);
}

static void connect_stages(struct split_chain *chain)
{
    int32_t last = chain->n_stages - 1;
    for (int32_t i = 0; i < last; i++)
        connect_pair(&chain->stages[i].out, &chain->stages[i + 1].in);
    connect_pair(&chain->stages[last].results, &chain->stages[0].in);
    for (int32_t i = 1; i <= last; i++)
        assert_int_equal(pthread_create(&chain->stages[i].thread, NULL, serve, &chain->stages[i]),
                         0);
}

/* ---- both ---- */

static void open_stage(struct chain_stage *stage, const char *path, struct llm_engine_cfg cfg)
{
    struct sl_err err = SL_ERR_INIT;
    cfg.split.stage = stage->number;
    cfg.n_threads = 1;
    cfg.on_frame = on_frame;
    cfg.frame_ctx = stage;
    stage->in = stage->out = stage->results = -1;
    stage->inbox = calloc(1, sizeof *stage->inbox);
    assert_non_null(stage->inbox);
    frame_reader_init(&stage->inbox->reader, FRAME_BYTES_MAX);
    sl_status status = stage->number ? stage_engine_load(path, &cfg, &stage->engine, &err)
                                     : llm_engine_load(path, &cfg, &stage->engine, &err);
    if (status != SL_OK) fail_msg("stage %d: %s", stage->number, err.text);
}

void split_chain_open(struct split_chain *chain, const char *path, const struct llm_engine_cfg *cfg,
                      const int32_t *borders, int32_t n_stages, bool sockets)
{
    const char *paths[ENGINE_STAGES_MAX];
    for (int32_t i = 0; i < n_stages; i++) paths[i] = path;
    split_chain_open_files(chain, paths, cfg, borders, n_stages, sockets);
}

void split_chain_open_files(struct split_chain *chain, const char *const *paths,
                            const struct llm_engine_cfg *cfg, const int32_t *borders,
                            int32_t n_stages, bool sockets)
{
    struct llm_engine_cfg own = *cfg;
    memset(chain, 0, sizeof *chain);
    chain->n_stages = own.split.n_stages = n_stages;
    chain->sockets = sockets;
    if (!own.split.kv_blocks)
        own.split.kv_blocks = 4 * (own.n_ctx + KV_BLOCK_TOKENS) / KV_BLOCK_TOKENS + 1;
    for (int32_t i = 0; i < n_stages; i++) {
        own.split.first = borders[i];
        own.split.last = borders[i + 1];
        chain->stages[i].chain = chain;
        chain->stages[i].number = i;
        open_stage(&chain->stages[i], paths[i], own);
    }
    if (sockets) connect_stages(chain);
}

static void close_socket(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void close_stage(struct chain_stage *stage)
{
    if (stage->chain->sockets && stage->number) pthread_join(stage->thread, NULL);
    close_socket(&stage->in);
    close_socket(&stage->out);
    close_socket(&stage->results);
    engine_unload(stage->engine);
    for (struct item *item = stage->inbox->first, *next; item; item = next) {
        next = item->next;
        free(item);
    }
    frame_reader_done(&stage->inbox->reader);
    free(stage->inbox);
}

void split_chain_close(struct split_chain *chain)
{
    /* The end of its input ends a stage's thread, and closes the next one's. */
    for (int32_t i = 0; i < chain->n_stages; i++) close_stage(&chain->stages[i]);
}

struct engine *split_chain_head(struct split_chain *chain)
{
    return chain->stages[0].engine;
}

static void receive(struct split_chain *chain, bool waits)
{
    struct chain_stage *head = &chain->stages[0];
    struct pollfd fd = {.fd = head->in, .events = POLLIN};
    (void)poll(&fd, 1, waits ? 20000 : 0);
    if (waits && !fd.revents) fail_msg("no stage answers");
    if (fd.revents && !read_some(head)) fail_msg("the last stage is gone");
    take_frames(head);
    assert_string_equal(head->failure, "");
}

static bool is_empty(struct split_chain *chain)
{
    struct engine_stats stats;
    engine_stats(split_chain_head(chain), &stats);
    return !stats.n_running && !stats.n_waiting;
}

bool split_chain_step(struct split_chain *chain)
{
    struct sl_err err = SL_ERR_INIT;
    bool idle;
    if (chain->sockets) receive(chain, false);
    if (engine_step(split_chain_head(chain), &idle, &err) != SL_OK) fail_msg("%s", err.text);
    if (chain->sockets && idle && !is_empty(chain)) receive(chain, true);
    return idle;
}

void split_chain_run(struct split_chain *chain)
{
    for (int i = 0; !is_empty(chain); i++) {
        assert_true(i < STEPS_MAX);
        bool idle = split_chain_step(chain);
        if (idle && !chain->sockets) split_chain_pump(chain);
    }
}
