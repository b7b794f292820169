/* probe.c: see probe.h. */
#include "grid/probe.h"
#include "base/clock.h"
#include "base/mem.h"
#include "grid/grid_port.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"
#include <string.h>

#define HEAD_BYTES 4
/* What is measured of a way that is nearly free of delay: two wake-ups take some 20 us. */
#define WIDTH_S_MIN 20e-6

/* Another member's connection. */
struct served {
    struct probes *probes;
    struct stream *stream; /* NULL: free */
    struct loop_timer *timer;
    unsigned char head[HEAD_BYTES];
    size_t n_head;
    uint32_t left;    /* of the question at hand */
    size_t n_allowed; /* bytes that it may still send */
};

/* Our own. */
struct measuring {
    struct stream *stream; /* NULL: none */
    bool wide;
    int n_asked;      /* questions; the first PROBE_ROUNDS have no bytes */
    uint32_t n_bytes; /* of the one at hand */
    int64_t asked_ns;
    struct probe_result result;
    probe_fn fn;
    void *ctx;
};

struct probes {
    struct loop *loop;
    struct tls_client *tls;
    struct served served[PROBE_SERVED_MAX];
    struct measuring own;
};

/* --- answering --- */

static void served_end(void *ctx)
{
    struct served *served = ctx;
    stream_destroy(served->stream);
    served->stream = NULL;
    if (served->timer) loop_timer_cancel(served->timer);
}

static void served_on_end(void *ctx, const struct sl_err *why)
{
    (void)why;
    served_end(ctx);
}

/* Takes bytes off the question at hand. False: the peer asks too much. */
static bool served_take(struct served *served, const unsigned char **at, size_t *n)
{
    if (served->n_head < HEAD_BYTES) {
        served->head[served->n_head++] = *(*at)++;
        --*n;
        if (served->n_head < HEAD_BYTES) return true;
        served->left = (uint32_t)served->head[0] | (uint32_t)served->head[1] << 8 |
                       (uint32_t)served->head[2] << 16 | (uint32_t)served->head[3] << 24;
        if (served->left + HEAD_BYTES > served->n_allowed) return false;
        served->n_allowed -= served->left + HEAD_BYTES;
    }
    size_t part = served->left < *n ? served->left : *n;
    served->left -= (uint32_t)part;
    *at += part;
    *n -= part;
    if (served->left) return true;
    served->n_head = 0;
    return stream_write(served->stream, ".", 1) == SL_OK;
}

static void served_on_bytes(void *ctx, const void *bytes, size_t n)
{
    struct served *served = ctx;
    const unsigned char *at = bytes;
    while (n)
        if (!served_take(served, &at, &n)) {
            served_end(served);
            return;
        }
}

static void on_request(void *ctx, struct http_exchange *x)
{
    static const struct stream_callbacks callbacks = {.on_bytes = served_on_bytes,
                                                      .on_end = served_on_end};
    struct probes *probes = ctx;
    struct served *served = NULL;
    struct sl_err err = SL_ERR_INIT;
    for (int i = 0; i < PROBE_SERVED_MAX; i++)
        if (!probes->served[i].stream) served = &probes->served[i];
    if (!served) {
        grid_port_fail(x, SL_BUSY, "others measure now");
        return;
    }
    struct loop_timer *timer = served->timer;
    struct stream *stream;
    sl_status status = http_exchange_upgrade(x, PROBE_PROTOCOL, PROBE_BYTES_MAX, &stream, &err);
    if (status != SL_OK) {
        grid_port_fail(x, status, err.text);
        return;
    }
    *served = (struct served){
        .probes = probes, .stream = stream, .timer = timer, .n_allowed = PROBE_BYTES_MAX};
    loop_timer_set(timer, PROBE_TIMEOUT_NS);
    stream_listen(stream, &callbacks, served);
}

/* --- asking --- */

/* The callback comes last: it may measure again. */
static void own_end(struct probes *probes, const struct sl_err *why)
{
    struct measuring own = probes->own;
    stream_destroy(own.stream);
    probes->own = (struct measuring){0};
    own.fn(own.ctx, why ? NULL : &own.result, why);
}

static void ask(struct probes *probes, uint32_t n_bytes)
{
    static const unsigned char nothing[PROBE_WARM_BYTES];
    struct measuring *own = &probes->own;
    const unsigned char head[HEAD_BYTES] = {n_bytes & 0xff, n_bytes >> 8 & 0xff,
                                            n_bytes >> 16 & 0xff, n_bytes >> 24};
    own->n_asked++;
    own->n_bytes = n_bytes;
    own->asked_ns = sl_now_ns();
    sl_status status = stream_write(own->stream, head, sizeof head);
    for (uint32_t sent = 0; sent < n_bytes && status == SL_OK; sent += sizeof nothing)
        status = stream_write(own->stream, nothing, sizeof nothing);
    struct sl_err err = SL_ERR_INIT;
    if (status == SL_OK) return;
    sl_err_set(&err, status, "the way cannot be measured");
    own_end(probes, &err);
}

static void on_open(void *ctx)
{
    ask(ctx, 0);
}

/* What so many bytes took beyond the round trip. */
static double width(const struct measuring *own, double took_s)
{
    double s = took_s - own->result.rtt_s;
    return own->n_bytes / (s > WIDTH_S_MIN ? s : WIDTH_S_MIN);
}

static void on_answer(void *ctx, const void *bytes, size_t n)
{
    struct probes *probes = ctx;
    struct measuring *own = &probes->own;
    double took_s = (double)(sl_now_ns() - own->asked_ns) / 1e9;
    (void)bytes;
    (void)n;
    if (!own->n_bytes) {
        if (own->n_asked == 1 || took_s < own->result.rtt_s) own->result.rtt_s = took_s;
        if (own->n_asked < PROBE_ROUNDS)
            ask(probes, 0);
        else if (own->wide)
            ask(probes, PROBE_WARM_BYTES);
        else
            own_end(probes, NULL);
        return;
    }
    own->result.bytes_per_s = width(own, took_s);
    if (own->n_bytes == PROBE_WARM_BYTES &&
        PROBE_WIDE_BYTES / own->result.bytes_per_s < PROBE_WIDE_S)
        ask(probes, PROBE_WIDE_BYTES);
    else
        own_end(probes, NULL);
}

static void on_end(void *ctx, const struct sl_err *why)
{
    const struct sl_err copy = *why;
    own_end(ctx, &copy);
}

sl_status probes_measure(struct probes *probes, const char *member, const char *address, bool wide,
                         probe_fn fn, void *ctx, struct sl_err *err)
{
    static const struct stream_callbacks callbacks = {
        .on_open = on_open, .on_bytes = on_answer, .on_end = on_end};
    const struct stream_connect connect = {.address = address,
                                           .tls = probes->tls,
                                           .peer_id = member,
                                           .path = PROBE_PATH,
                                           .protocol = PROBE_PROTOCOL,
                                           .timeout_ns = PROBE_TIMEOUT_NS,
                                           .unsent_bytes_max = PROBE_BYTES_MAX};
    if (probes->own.fn) return sl_err_set(err, SL_BUSY, "one way is measured already");
    struct stream *stream;
    sl_status status = stream_connect(probes->loop, &connect, &callbacks, probes, &stream, err);
    if (status == SL_OK)
        probes->own = (struct measuring){.stream = stream, .wide = wide, .fn = fn, .ctx = ctx};
    return status;
}

void probes_forget(struct probes *probes)
{
    stream_destroy(probes->own.stream);
    probes->own = (struct measuring){0};
}

/* --- life --- */

sl_status probes_create(const struct probes_cfg *cfg, struct probes **out, struct sl_err *err)
{
    struct probes *probes = sl_calloc(1, sizeof *probes);
    if (!probes) return sl_err_set(err, SL_NOMEM, "probes");
    probes->loop = cfg->loop;
    sl_status status = tls_client_create(cfg->cert, cfg->key, cfg->ca, &probes->tls, err);
    for (int i = 0; i < PROBE_SERVED_MAX && status == SL_OK; i++) {
        status =
            loop_timer_create(cfg->loop, served_end, &probes->served[i], &probes->served[i].timer);
        if (status != SL_OK) sl_err_set(err, status, "probes");
    }
    if (status == SL_OK && cfg->port) {
        status = grid_port_route(cfg->port, HTTP_METHOD_GET, PROBE_PATH, false, on_request, probes);
        if (status != SL_OK) sl_err_set(err, status, "no route for probes");
    }
    if (status == SL_OK) {
        *out = probes;
        return SL_OK;
    }
    probes_destroy(probes);
    return status;
}

void probes_destroy(struct probes *probes)
{
    if (!probes) return;
    stream_destroy(probes->own.stream);
    for (int i = 0; i < PROBE_SERVED_MAX; i++) {
        stream_destroy(probes->served[i].stream);
        loop_timer_destroy(probes->served[i].timer);
    }
    tls_client_destroy(probes->tls);
    sl_free(probes);
}
