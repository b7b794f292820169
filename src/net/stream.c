/* stream.c: the connection's states, its bytes, and the client's half of an upgrade. */
#include "net/stream.h"
#include "base/buf.h"
#include "base/mem.h"
#include "net/loop.h"
#include "net/resolve.h"
#include "net/tls.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_PER_EVENT 16 /* TLS records; then others get their turn */
#define RECORD_BYTES (16u << 10)
#define ADDRESS_SIZE 320             /* a DNS name of 253 bytes, '[', ']', ':', a port */
#define REQUEST_BYTES_MAX 1024       /* of the upgrade */
#define COMPACT_BYTES_MIN (1u << 20) /* of what was sent, before the rest is moved */

/* RESOLVING -> CONNECTING -> SHAKING -> ASKING -> OPEN -> ENDED; one that was adopted begins OPEN,
 * and any may end. */
enum stream_state {
    STREAM_RESOLVING,
    STREAM_CONNECTING,
    STREAM_SHAKING,
    STREAM_ASKING,
    STREAM_OPEN,
    STREAM_ENDED
};

struct stream {
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_timer *timer; /* until it is open */
    struct loop_task task;    /* output, and the end of a failed one */
    struct resolve *resolve;  /* RESOLVING */
    struct tls_client *client;
    struct tls_session *tls;
    struct tls_expected expected;
    struct stream_callbacks callbacks;
    void *ctx;
    enum stream_state state;
    int fd;
    bool listening; /* callbacks are set */
    bool write_blocked, read_blocked;
    bool *gone; /* set when it is destroyed within a callback */
    struct sl_buf out;
    size_t sent;          /* of out */
    struct sl_buf answer; /* to the upgrade */
    char request[REQUEST_BYTES_MAX];
    char address[ADDRESS_SIZE];
    struct sl_err why; /* of the end */
};

/* --- the end --- */

static void set_events(struct stream *s)
{
    bool writes = s->write_blocked || s->read_blocked || s->state == STREAM_CONNECTING;
    unsigned events = (s->listening ? LOOP_READ : 0) | (writes ? LOOP_WRITE : 0);
    if (s->state == STREAM_ENDED) events = 0;
    /* A watch that cannot be changed is one that the kernel has no memory for: the timer or the
     * peer ends it. */
    if (s->watch && loop_watch_set(s->watch, events) != SL_OK) return;
}

/* The owner is told by the task, at the end of the turn. */
static void end(struct stream *s, sl_status status, const char *why)
{
    if (s->state == STREAM_ENDED) return;
    sl_err_set(&s->why, status, "%s", why);
    s->state = STREAM_ENDED;
    if (s->timer) loop_timer_cancel(s->timer);
    set_events(s);
    loop_queue_task(s->loop, &s->task);
}

static void end_errno(struct stream *s, int error, const char *what)
{
    struct sl_err err = SL_ERR_INIT;
    sl_err_errno(&err, error, "%s", what);
    end(s, SL_UNAVAILABLE, err.text);
}

/* --- output --- */

static void drop_sent(struct stream *s)
{
    bool all = s->sent == s->out.len;
    if (all && s->out.cap > COMPACT_BYTES_MIN) {
        sl_buf_done(&s->out);
    } else if (all || (s->sent >= COMPACT_BYTES_MIN && s->sent >= s->out.len / 2)) {
        sl_buf_consume(&s->out, s->sent);
    } else {
        return;
    }
    s->sent = 0;
}

static void flush(struct stream *s)
{
    enum tls_want want = TLS_WANT_NOTHING;
    s->write_blocked = false;
    while (s->state != STREAM_ENDED && s->sent < s->out.len) {
        long n = tls_write(s->tls, s->out.data + s->sent, s->out.len - s->sent, &want);
        if (n > 0) {
            s->sent += (size_t)n;
            continue;
        }
        s->write_blocked = n < 0 && want != TLS_WANT_NOTHING;
        if (s->write_blocked) break;
        end(s, SL_UNAVAILABLE, "the connection was cut");
    }
    drop_sent(s);
    set_events(s);
}

static void on_task(void *ctx)
{
    struct stream *s = ctx;
    if (s->state == STREAM_OPEN || s->state == STREAM_ASKING) flush(s);
    if (s->state == STREAM_ENDED && s->listening) {
        const struct sl_err why = s->why;
        s->listening = false;
        s->callbacks.on_end(s->ctx, &why); /* it may destroy the stream */
    }
}

sl_status stream_write(struct stream *s, const void *bytes, size_t n)
{
    if (s->state == STREAM_ENDED) return SL_OK;
    assert(s->state == STREAM_OPEN);
    sl_status status = sl_buf_add(&s->out, bytes, n);
    if (status == SL_OK) loop_queue_task(s->loop, &s->task);
    return status;
}

size_t stream_unsent(const struct stream *s)
{
    return s->out.len - s->sent;
}

/* --- opening --- */

static void open_now(struct stream *s)
{
    s->state = STREAM_OPEN;
    loop_timer_cancel(s->timer);
    sl_buf_done(&s->answer);
    if (s->callbacks.on_open) s->callbacks.on_open(s->ctx);
}

/* "HTTP/1.1 101 ..." and its end; bytes behind it are the protocol's. False: more is needed, or it
 * has failed. */
static bool take_answer(struct stream *s, const char *bytes, size_t n, size_t *used)
{
    size_t before = s->answer.len;
    *used = n;
    if (sl_buf_add(&s->answer, bytes, n) != SL_OK) {
        end(s, SL_CORRUPT, "the answer to the upgrade is too long");
        return false;
    }
    const char *blank = strstr(s->answer.data, "\r\n\r\n");
    if (!blank) return false;
    int code = 0;
    if (sscanf(s->answer.data, "HTTP/1.1 %3d", &code) != 1 || code != 101) {
        char text[64];
        snprintf(text, sizeof text, "the upgrade was answered with HTTP status %d", code);
        end(s, code == 403 ? SL_DENIED : SL_UNAVAILABLE, text);
        return false;
    }
    *used = (size_t)(blank + 4 - s->answer.data) - before;
    return true;
}

static void ask(struct stream *s)
{
    s->state = STREAM_ASKING;
    if (sl_buf_adds(&s->out, s->request) != SL_OK) {
        end(s, SL_NOMEM, "out of memory");
        return;
    }
    loop_queue_task(s->loop, &s->task);
}

static void shake(struct stream *s)
{
    enum tls_want want;
    long done = tls_handshake(s->tls, &want);
    s->write_blocked = done < 0 && want == TLS_WANT_WRITE;
    if (done > 0) {
        ask(s);
    } else if (done == 0 || want == TLS_WANT_NOTHING) {
        const char *refusal = tls_refusal(s->tls);
        end(s, refusal ? SL_DENIED : SL_UNAVAILABLE, refusal ? refusal : "no TLS handshake");
    }
}

static void connected(struct stream *s)
{
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0) error = errno;
    if (error) {
        end_errno(s, error, "connect");
    } else if (tls_client_session(s->client, s->fd, &s->expected, &s->tls) != SL_OK) {
        end(s, SL_NOMEM, "out of memory");
    } else {
        s->state = STREAM_SHAKING;
        shake(s);
    }
}

/* --- input --- */

/* False: it was destroyed. */
static bool take(struct stream *s, const char *bytes, size_t n)
{
    size_t used = 0;
    bool gone = false;
    s->gone = &gone;
    if (s->state == STREAM_ASKING && take_answer(s, bytes, n, &used)) open_now(s);
    if (!gone && s->state == STREAM_OPEN && used < n)
        s->callbacks.on_bytes(s->ctx, bytes + used, n - used);
    if (!gone) s->gone = NULL;
    return !gone;
}

enum reading { READING_ON, READING_DONE, READING_GONE };

static enum reading read_once(struct stream *s)
{
    char bytes[RECORD_BYTES];
    enum tls_want want = TLS_WANT_NOTHING;
    long n = tls_read(s->tls, bytes, sizeof bytes, &want);
    s->read_blocked = n < 0 && want == TLS_WANT_WRITE;
    if (n > 0) return take(s, bytes, (size_t)n) ? READING_ON : READING_GONE;
    if (n == 0) end(s, SL_CANCELLED, "the peer closed the connection");
    if (n < 0 && want == TLS_WANT_NOTHING) end(s, SL_UNAVAILABLE, "the connection was cut");
    return READING_DONE;
}

/* TLS may want either direction for either purpose, so both are tried. */
static void on_ready(void *ctx, unsigned ready)
{
    struct stream *s = ctx;
    enum reading reading = READING_ON;
    if (s->state == STREAM_CONNECTING) {
        if (ready & LOOP_WRITE) connected(s);
    } else if (s->state == STREAM_SHAKING) {
        shake(s);
    }
    for (int i = 0; i < READS_PER_EVENT && reading == READING_ON && s->state >= STREAM_ASKING &&
                    s->state != STREAM_ENDED;
         i++)
        reading = read_once(s);
    if (reading == READING_GONE) return;
    if (s->write_blocked && s->state >= STREAM_ASKING) loop_queue_task(s->loop, &s->task);
    set_events(s);
}

static void on_timeout(void *ctx)
{
    end(ctx, SL_TIMEOUT, "no answer in time");
}

/* --- life --- */

static sl_status create(struct loop *loop, const char *address, size_t unsent_bytes_max,
                        struct stream **out)
{
    struct stream *s = sl_calloc(1, sizeof *s);
    if (!s) return SL_NOMEM;
    s->loop = loop;
    s->fd = -1;
    s->task = (struct loop_task){.fn = on_task, .ctx = s};
    sl_buf_init(&s->out, unsent_bytes_max);
    sl_buf_init(&s->answer, STREAM_ANSWER_BYTES_MAX);
    snprintf(s->address, sizeof s->address, "%s", address);
    sl_status status = loop_timer_create(loop, on_timeout, s, &s->timer);
    if (status == SL_OK)
        *out = s;
    else
        stream_destroy(s);
    return status;
}

/* On failure fd stays the caller's. */
static sl_status attach(struct stream *s, int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sl_status status = loop_watch_create(s->loop, fd, 0, on_ready, s, &s->watch);
    if (status == SL_OK) s->fd = fd;
    return status;
}

sl_status stream_adopt(struct loop *loop, const struct stream_adopt *what, struct stream **out)
{
    struct stream *s;
    sl_status status = create(loop, what->address, what->unsent_bytes_max, &s);
    if (status != SL_OK) return status;
    status = sl_buf_adds(&s->out, what->greeting);
    if (status == SL_OK) status = attach(s, what->fd);
    if (status != SL_OK) {
        stream_destroy(s);
        return status;
    }
    s->tls = what->tls;
    s->state = STREAM_OPEN;
    loop_queue_task(loop, &s->task);
    *out = s;
    return SL_OK;
}

void stream_listen(struct stream *s, const struct stream_callbacks *callbacks, void *ctx)
{
    s->callbacks = *callbacks;
    s->ctx = ctx;
    s->listening = true;
    set_events(s);
    if (s->state == STREAM_ENDED) loop_queue_task(s->loop, &s->task);
}

static void on_resolved(void *ctx, const struct sockaddr *address, socklen_t n)
{
    struct stream *s = ctx;
    if (s->state != STREAM_RESOLVING) return;
    if (!address) {
        end(s, SL_UNAVAILABLE, "no such host");
        return;
    }
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, address, n) != 0 && errno != EINPROGRESS)) {
        end_errno(s, errno, "connect");
    } else if (attach(s, fd) == SL_OK) {
        s->state = STREAM_CONNECTING;
        set_events(s);
        return;
    } else {
        end(s, SL_NOMEM, "out of memory");
    }
    if (fd >= 0) close(fd);
}

static bool write_request(struct stream *s, const struct stream_connect *cfg)
{
    int n = snprintf(s->request, sizeof s->request,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
                     cfg->path, cfg->address, cfg->protocol);
    return n > 0 && (size_t)n < sizeof s->request;
}

sl_status stream_connect(struct loop *loop, const struct stream_connect *cfg,
                         const struct stream_callbacks *callbacks, void *ctx, struct stream **out,
                         struct sl_err *err)
{
    struct stream *s = NULL;
    sl_status status = create(loop, cfg->address, cfg->unsent_bytes_max, &s);
    if (status != SL_OK) return sl_err_set(err, status, "connect to %s", cfg->address);
    s->client = cfg->tls;
    snprintf(s->expected.id, sizeof s->expected.id, "%s", cfg->peer_id);
    if (!write_request(s, cfg))
        status = sl_err_set(err, SL_INVALID, "a path or protocol that is too long");
    else
        status = resolve_start(loop, cfg->address, on_resolved, s, &s->resolve, err);
    if (status != SL_OK) {
        stream_destroy(s);
        return status;
    }
    loop_timer_set(s->timer, cfg->timeout_ns);
    stream_listen(s, callbacks, ctx);
    *out = s;
    return SL_OK;
}

void stream_destroy(struct stream *s)
{
    if (!s) return;
    if (s->gone) *s->gone = true;
    if (s->state == STREAM_OPEN && s->tls) {
        s->listening = false;
        flush(s);
        if (s->state == STREAM_OPEN && !s->write_blocked) tls_goodbye(s->tls);
    }
    resolve_done(s->resolve);
    loop_cancel_task(s->loop, &s->task);
    loop_timer_destroy(s->timer);
    loop_watch_destroy(s->watch);
    tls_session_destroy(s->tls);
    if (s->fd >= 0) close(s->fd);
    sl_buf_done(&s->out);
    sl_buf_done(&s->answer);
    sl_free(s);
}

const struct pki_peer *stream_peer(const struct stream *s)
{
    return s->tls ? tls_peer(s->tls) : NULL;
}

const char *stream_address(const struct stream *s)
{
    return s->address;
}
