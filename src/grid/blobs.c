#include "grid/blobs.h"
#include "base/mem.h"
#include "base/pool.h"
#include "grid/blobs_chunks.h"
#include "grid/grid_port.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/pki.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MODELS_PATH "/grid/v1/models/"
#define BLOBS_PATH "/grid/v1/blobs/"
#define CHUNKS_END "/chunks"
#define READ_BYTES ((size_t)256 << 10) /* what a connection holds back before it is BUSY */
#define READERS 2 /* threads: enough to keep a disk and the network busy, few beside an engine */
#define RETRY_AFTER_S "2"

struct transfer {
    struct blobs *blobs;
    struct http_exchange *x; /* NULL: the client has gone while a read is under way */
    int fd;
    uint64_t at, end;
    bool reading;           /* a thread has the buffer */
    char peer[PKI_ID_SIZE]; /* whose it is; "": nobody that shows a certificate */
    ssize_t n_read;
    struct transfer *next, *previous;
    unsigned char bytes[READ_BYTES];
};

struct blobs {
    struct blobs_cfg cfg;
    struct sl_pool *readers;
    struct blobs_chunks *chunks;
    struct transfer *transfers;
    struct blobs_stats stats;
};

/* --- ranges --- */

static bool parse_u64(const char **p, uint64_t *out)
{
    uint64_t value = 0;
    const char *begin = *p;
    for (; **p >= '0' && **p <= '9'; ++*p) {
        uint64_t digit = (uint64_t)(**p - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return *p != begin;
}

bool blobs_range_parse(const char *text, uint64_t size, uint64_t *begin, uint64_t *end,
                       bool *partial)
{
    uint64_t first = 0, last = 0;
    *begin = 0;
    *end = size;
    *partial = false;
    if (!text || strncmp(text, "bytes=", 6) != 0) return true;
    const char *p = text + 6;
    bool has_first = parse_u64(&p, &first);
    if (*p++ != '-') return true;
    bool has_last = parse_u64(&p, &last);
    if (*p || (!has_first && !has_last) || (has_first && has_last && last < first)) return true;
    *partial = true;
    if (!has_first) { /* the last so many bytes */
        *begin = last < size ? size - last : 0;
        return last > 0 && size > 0;
    }
    *begin = first;
    if (has_last && last < size) *end = last + 1;
    return first < size;
}

/* --- transfers --- */

static void transfer_free(struct transfer *t)
{
    if (t->previous)
        t->previous->next = t->next;
    else
        t->blobs->transfers = t->next;
    if (t->next) t->next->previous = t->previous;
    t->blobs->stats.n_transfers--;
    close(t->fd);
    sl_free(t);
}

static void on_read(void *arg);

/* On a thread. A loop that has no room for the call has it soon. */
static void read_some(void *arg)
{
    struct transfer *t = arg;
    static const struct timespec SOON = {.tv_nsec = 1000000};
    size_t n = t->end - t->at < READ_BYTES ? (size_t)(t->end - t->at) : READ_BYTES;
    do {
        t->n_read = pread(t->fd, t->bytes, n, (off_t)t->at);
    } while (t->n_read < 0 && errno == EINTR);
    while (loop_post(t->blobs->cfg.loop, on_read, t) == SL_BUSY) nanosleep(&SOON, NULL);
}

static void cut(struct transfer *t)
{
    if (t->x) http_exchange_abort(t->x);
    t->x = NULL;
    transfer_free(t);
}

static void read_next(struct transfer *t)
{
    if (t->at == t->end) {
        http_stream_end(t->x);
        t->blobs->stats.n_sent++;
        transfer_free(t);
        return;
    }
    t->reading = true;
    if (sl_pool_submit(t->blobs->readers, read_some, t) == SL_OK) return;
    t->reading = false;
    cut(t);
}

static void send_read(struct transfer *t)
{
    sl_status status = http_stream_write(t->x, t->bytes, (size_t)t->n_read);
    if (status == SL_BUSY) return; /* on_drain comes */
    if (status != SL_OK) {
        cut(t);
        return;
    }
    t->at += (uint64_t)t->n_read;
    t->blobs->stats.bytes_sent += (uint64_t)t->n_read;
    read_next(t);
}

static void on_drain(void *ctx, struct http_exchange *x)
{
    struct transfer *t = ctx;
    (void)x;
    if (!t->reading) send_read(t);
}

static void on_read(void *arg)
{
    struct transfer *t = arg;
    t->reading = false;
    if (!t->x || t->n_read <= 0)
        cut(t); /* gone, or the file is shorter than it was: half an answer is told as such */
    else
        send_read(t);
}

static void on_close(void *ctx, struct http_exchange *x)
{
    struct transfer *t = ctx;
    http_exchange_abort(x);
    t->x = NULL;
    if (!t->reading) transfer_free(t);
}

static const char *peer_of(struct http_exchange *x)
{
    const char *id = http_exchange_request(x)->peer_id;
    return id ? id : "";
}

/* One that reads slowly, or not at all, must leave room for the others. */
static bool is_full(const struct blobs *blobs, struct http_exchange *x)
{
    size_t n = 0;
    const char *peer = peer_of(x);
    for (const struct transfer *t = blobs->transfers; t; t = t->next) n += !strcmp(t->peer, peer);
    return blobs->stats.n_transfers >= BLOBS_TRANSFERS_MAX ||
           (*peer && n >= BLOBS_TRANSFERS_OF_ONE);
}

static struct transfer *transfer_create(struct blobs *blobs, struct http_exchange *x, int fd,
                                        uint64_t begin, uint64_t end)
{
    struct transfer *t = sl_malloc(sizeof *t);
    if (!t) return NULL;
    t->blobs = blobs;
    t->x = x;
    t->fd = fd;
    t->at = begin;
    t->end = end;
    t->reading = false;
    t->n_read = 0;
    snprintf(t->peer, sizeof t->peer, "%s", peer_of(x));
    t->previous = NULL;
    t->next = blobs->transfers;
    if (t->next) t->next->previous = t;
    blobs->transfers = t;
    blobs->stats.n_transfers++;
    return t;
}

static sl_status add_headers(struct http_exchange *x, const char *digest, const char *range)
{
    char etag[STORE_DIGEST_SIZE + 2];
    snprintf(etag, sizeof etag, "\"%s\"", digest);
    sl_status status = http_exchange_header_add(x, "ETag", etag);
    if (status == SL_OK) status = http_exchange_header_add(x, "Accept-Ranges", "bytes");
    if (status == SL_OK && *range) status = http_exchange_header_add(x, "Content-Range", range);
    return status;
}

static void send_file(struct blobs *blobs, struct http_exchange *x, const char *digest, int fd)
{
    char range[96] = "";
    uint64_t begin, end;
    bool partial;
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        grid_port_fail(x, SL_INTERNAL, "the blob is no file");
        return;
    }
    uint64_t size = (uint64_t)st.st_size;
    if (!blobs_range_parse(http_request_header(http_exchange_request(x), "range"), size, &begin,
                           &end, &partial)) {
        snprintf(range, sizeof range, "bytes */%" PRIu64, size);
        close(fd);
        if (http_exchange_header_add(x, "Content-Range", range) == SL_OK)
            http_respond(x, 416, NULL, NULL, 0);
        else
            http_exchange_abort(x);
        return;
    }
    if (partial)
        snprintf(range, sizeof range, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, begin, end - 1,
                 size);
    struct transfer *t = transfer_create(blobs, x, fd, begin, end);
    if (!t) {
        close(fd);
        grid_port_fail(x, SL_UNAVAILABLE, "no memory for the transfer");
        return;
    }
    if (add_headers(x, digest, range) != SL_OK ||
        http_stream_begin(x, partial ? 206 : 200, "application/octet-stream") != SL_OK) {
        cut(t);
        return;
    }
    http_exchange_set_close_handler(x, on_close, t);
    http_stream_set_drain_handler(x, on_drain, t);
    read_next(t);
}

/* What a client asks for of a blob: its bytes, or their list. */
static bool parse_asked(const char *asked, char digest[STORE_DIGEST_SIZE], bool *chunks)
{
    size_t n = STORE_DIGEST_SIZE - 1;
    if (strspn(asked, "0123456789abcdef") != n) return false;
    memcpy(digest, asked, n);
    digest[n] = '\0';
    *chunks = !strcmp(asked + n, CHUNKS_END);
    return *chunks || !asked[n];
}

static void answer_bytes(struct blobs *blobs, struct http_exchange *x, const char *digest)
{
    char path[PATH_MAX];
    struct sl_err err = SL_ERR_INIT;
    if (store_blob_path(blobs->cfg.store, digest, path, &err) != SL_OK) {
        grid_port_fail(x, err.status, err.text);
        return;
    }
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        grid_port_fail(x, errno == ENOENT ? SL_NOT_FOUND : SL_INTERNAL,
                       errno == ENOENT ? "no such blob here" : "the blob cannot be read");
    else
        send_file(blobs, x, digest, fd);
}

static void answer_blob(struct blobs *blobs, struct http_exchange *x, const char *asked)
{
    char digest[STORE_DIGEST_SIZE];
    bool chunks = false;
    if (!parse_asked(asked, digest, &chunks)) {
        grid_port_fail(x, SL_INVALID, "a blob is named by 64 lower-case hex digits");
    } else if (chunks) {
        blobs_chunks_answer(blobs->chunks, x, digest);
    } else if (is_full(blobs, x)) {
        blobs->stats.n_refused++;
        if (http_exchange_header_add(x, "Retry-After", RETRY_AFTER_S) == SL_OK)
            grid_port_fail(x, SL_UNAVAILABLE, "too many transfers are under way");
        else
            http_exchange_abort(x);
    } else {
        answer_bytes(blobs, x, digest);
    }
}

static void answer_manifest(struct blobs *blobs, struct http_exchange *x, const char *name)
{
    struct store_model model = {0};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf body;
    sl_buf_init(&body, STORE_MANIFEST_BYTES_MAX);
    sl_status status = store_find(blobs->cfg.store, name, &model, &err);
    if (status == SL_OK && model.bundled)
        status = sl_err_set(&err, SL_NOT_FOUND, "%s comes with the program", name);
    if (status == SL_OK) status = store_manifest_write(&model, &body);
    if (status == SL_OK)
        http_respond(x, 200, "application/json", body.data, body.len);
    else
        grid_port_fail(x, status == SL_NOT_FOUND || status == SL_INVALID ? status : SL_INTERNAL,
                       err.text);
    sl_buf_done(&body);
    store_model_done(&model);
}

bool blobs_handle(struct blobs *blobs, struct http_exchange *x)
{
    const char *path = http_exchange_request(x)->path;
    if (!strncmp(path, BLOBS_PATH, sizeof BLOBS_PATH - 1))
        answer_blob(blobs, x, path + sizeof BLOBS_PATH - 1);
    else if (!strncmp(path, MODELS_PATH, sizeof MODELS_PATH - 1))
        answer_manifest(blobs, x, path + sizeof MODELS_PATH - 1);
    else
        return false;
    return true;
}

void blobs_stats_get(const struct blobs *blobs, struct blobs_stats *out)
{
    *out = blobs->stats;
}

sl_status blobs_create(const struct blobs_cfg *cfg, struct blobs **out, struct sl_err *err)
{
    struct blobs *blobs = sl_calloc(1, sizeof *blobs);
    if (!blobs) return sl_err_set(err, SL_NOMEM, "blobs");
    blobs->cfg = *cfg;
    sl_status status = sl_pool_create(READERS, BLOBS_TRANSFERS_MAX, &blobs->readers);
    if (status != SL_OK) {
        (void)sl_err_set(err, status, "threads that read blobs");
        goto fail;
    }
    status = blobs_chunks_create(cfg->loop, cfg->store, &blobs->chunks, err);
    if (status != SL_OK) goto fail;
    *out = blobs;
    return SL_OK;
fail:
    blobs_destroy(blobs);
    return status;
}

void blobs_destroy(struct blobs *blobs)
{
    if (!blobs) return;
    blobs_chunks_destroy(blobs->chunks);
    sl_pool_destroy(blobs->readers); /* waits for reads under way */
    while (blobs->transfers) {
        loop_cancel_posts(blobs->cfg.loop, blobs->transfers);
        cut(blobs->transfers);
    }
    sl_free(blobs);
}
