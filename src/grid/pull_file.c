#include "grid/pull_file.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "grid/pull_file_int.h"
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS 100          /* how soon a cancel is seen */
#define HASH_STEP (4u << 20) /* hashed between two polls: a few milliseconds */
#define HASH_BYTES (256u << 10)

static bool is_cancelled(const struct pull_download *d)
{
    return d->file->request->cancel && atomic_load(d->file->request->cancel);
}

static void report(struct pull_download *d, enum pull_phase phase, const char *note,
                   int64_t retry_ms)
{
    uint64_t done = d->journal.here_bytes;
    for (int i = 0; i < PULL_CONNECTIONS_MAX; i++) {
        const struct pull_slot *slot = &d->slots[i];
        if (slot->has_chunk && d->journal.size > 0)
            done += slot->at - pull_chunk_begin(&d->journal, slot->chunk);
    }
    uint64_t total = d->journal.size ? d->journal.size : d->file->size;
    d->file->progress(d->file->ctx, phase, done, total, d->resumed, note, retry_ms);
}

static void stop_all(struct pull_download *d)
{
    for (int i = 0; i < PULL_CONNECTIONS_MAX; i++) {
        struct pull_slot *slot = &d->slots[i];
        if (slot->transfer) http_client_stop(d->file->client, slot->transfer);
        *slot = (struct pull_slot){.download = d};
    }
}

static sl_status start_over(struct pull_download *d)
{
    stop_all(d);
    d->restart = false;
    d->mode = PULL_PROBING;
    d->near_url[0] = '\0';
    d->resumed = 0;
    if (++d->n_restarts > PULL_RESTARTS_MAX)
        return sl_err_set(d->err, SL_UNAVAILABLE,
                          "the file on the server changes while it is being pulled; try later");
    return pull_journal_clear(&d->journal, &d->id, d->err);
}

static void wait_for(struct pull_download *d, int64_t delay_ms)
{
    int64_t until = sl_now_ns() + delay_ms * 1000000;
    if (until > d->not_before_ns) d->not_before_ns = until;
}

/* A transfer that brought less than it should: try again, or give up. */
static void try_again(struct pull_download *d, sl_status status, int64_t retry_after_s,
                      const char *why)
{
    int64_t delay_ms;
    if (!pull_retry_next(&d->retry, status, retry_after_s, &delay_ms)) {
        if (retry_after_s > PULL_RETRY_AFTER_S_MAX)
            (void)pull_fail(d, status, "%s; the server wants to be asked again in %" PRId64 " s",
                            why, retry_after_s);
        else
            (void)pull_fail(d, status, "%s%s", why,
                            pull_retry_may_help(status) ? "; gave up after all retries, pull again "
                                                          "to go on"
                                                        : "");
        return;
    }
    wait_for(d, delay_ms);
    report(d, PULL_RETRYING, why, delay_ms);
}

static void on_done(void *ctx, sl_status status, const struct http_head *head,
                    const struct sl_err *err)
{
    struct pull_slot *slot = ctx;
    struct pull_download *d = slot->download;
    bool whole = status == SL_OK && slot->answered && slot->at == slot->answer_end;
    (void)head;
    slot->transfer = NULL;
    if (d->restart || d->failure != SL_OK || is_cancelled(d) || whole) return;
    /* What a broken stream brought may be of any version: the next one writes it all again. */
    if (d->mode == PULL_STREAM) d->mode = PULL_PROBING;
    if (slot->refused != SL_OK)
        try_again(d, slot->refused, slot->retry_after_s, slot->why.text);
    else if (status == SL_OK)
        try_again(d, SL_UNAVAILABLE, -1, "the answer ends too early");
    else
        try_again(d, status, -1, err->text);
}

/* Which chunk an idle slot takes next; false: there is none. */
static bool take_chunk(struct pull_download *d, struct pull_slot *slot)
{
    uint32_t chunk = 0;
    if (slot->has_chunk) return true; /* the rest of it */
    if (d->journal.size > 0) {
        chunk = pull_chunk_find(&d->journal, 0, PULL_CHUNK_MISSING);
        if (chunk == d->journal.n_chunks) return false;
        d->journal.chunks[chunk] = PULL_CHUNK_COMING;
    }
    slot->has_chunk = true;
    slot->chunk = chunk;
    slot->at = pull_chunk_begin(&d->journal, chunk);
    return true;
}

static uint64_t wanted_end(const struct pull_download *d, const struct pull_slot *slot)
{
    if (d->no_ranges) return 0;
    if (d->journal.size > 0) return pull_chunk_end(&d->journal, slot->chunk);
    uint64_t chunk = (uint64_t)d->file->request->chunk_bytes;
    return d->file->size && d->file->size < chunk ? d->file->size : chunk;
}

/* If-Range takes a strong ETag only (RFC 9110, 13.1.5); a weak one is compared when it comes. */
static int if_range(const struct pull_download *d, char line[HTTP_FIELD_SIZE + 16])
{
    const char *validator = d->journal.validator;
    if (d->journal.size == 0 || d->no_ranges || validator[0] != '"') return 0;
    snprintf(line, HTTP_FIELD_SIZE + 16, "If-Range: %s", validator);
    return 1;
}

static sl_status start_slot(struct pull_download *d, struct pull_slot *slot)
{
    const struct pull_file *file = d->file;
    char line[HTTP_FIELD_SIZE + 16];
    const char *headers[] = {line};
    if (!take_chunk(d, slot)) return SL_OK;
    slot->answered = false;
    slot->refused = SL_OK;
    struct http_request request = {
        .url = *d->near_url ? d->near_url : file->url,
        .bearer = *d->near_url ? NULL : file->bearer,
        .headers = headers,
        .n_headers = if_range(d, line),
        .range_begin = slot->at,
        .range_end = wanted_end(d, slot),
        .allow_http = file->request->insecure,
        .trust = file->request->peer ? file->request->peer->trust : NULL,
        .stall_s = file->request->stall_s,
        .on_head = pull_answer_head,
        .on_body = pull_answer_body,
        .on_done = on_done,
        .ctx = slot,
    };
    return http_client_start(file->client, &request, &slot->transfer, d->err);
}

/* Only ranges that were seen to work are asked for by several connections. */
static sl_status start_idle(struct pull_download *d)
{
    int n = d->mode == PULL_RANGES ? d->file->request->n_connections : 1;
    sl_status status = SL_OK;
    if (sl_now_ns() < d->not_before_ns) return SL_OK;
    for (int i = 0; i < n && status == SL_OK; i++) {
        struct pull_slot *slot = &d->slots[i];
        if (!slot->transfer) status = start_slot(d, slot);
    }
    return status;
}

/* Hashes what has grown at the front, so that little is left to do at the end. */
static sl_status hash_front(struct pull_download *d, uint64_t budget)
{
    static const char why[] = "read back";
    char *piece = NULL;
    sl_status status = SL_OK;
    if (d->journal.size == 0) return SL_OK;
    while (status == SL_OK && d->hashed < d->journal.size && budget > 0) {
        uint32_t chunk = (uint32_t)(d->hashed / d->journal.chunk_bytes);
        if (d->journal.chunks[chunk] != PULL_CHUNK_HERE) break;
        uint64_t left = pull_chunk_end(&d->journal, chunk) - d->hashed;
        size_t n = left < HASH_BYTES ? (size_t)left : HASH_BYTES;
        if (!piece && !(piece = sl_malloc(HASH_BYTES))) return sl_err_set(d->err, SL_NOMEM, why);
        ssize_t got = pread(d->journal.data_fd, piece, n, (off_t)d->hashed);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) status = sl_err_errno(d->err, got < 0 ? errno : EIO, why);
        if (got > 0) status = sha256_add(&d->sha, piece, (size_t)got);
        if (got > 0) d->hashed += (uint64_t)got;
        budget -= budget < n ? budget : n;
    }
    sl_free(piece);
    return status;
}

/* After a restart the hash begins anew; what it had belongs to another file. */
static sl_status reset_hash(struct pull_download *d)
{
    unsigned char unused[SHA256_BYTES];
    d->hashed = 0;
    return sha256_finish(&d->sha, unused);
}

static bool is_whole(const struct pull_download *d)
{
    return d->journal.size > 0 && d->journal.here_bytes == d->journal.size;
}

static sl_status step(struct pull_download *d)
{
    sl_status status = SL_OK;
    if (is_cancelled(d)) return sl_err_set(d->err, SL_CANCELLED, "stopped");
    if (d->restart) {
        status = start_over(d);
        if (status == SL_OK) status = reset_hash(d);
    }
    if (status == SL_OK) status = start_idle(d);
    uint64_t hashed = d->hashed;
    if (status == SL_OK) status = http_client_poll(d->file->client, POLL_MS, d->err);
    if (d->failure != SL_OK) return d->failure;
    if (status == SL_OK && d->hashed < hashed) status = reset_hash(d); /* a stream began */
    if (status == SL_OK && !d->restart) status = hash_front(d, HASH_STEP);
    if (status == SL_OK) report(d, PULL_DOWNLOADING, "", 0);
    return status;
}

static sl_status verify(struct pull_download *d, char out_digest[STORE_DIGEST_SIZE],
                        uint64_t *out_size)
{
    unsigned char digest[SHA256_BYTES];
    sl_status status = SL_OK;
    while (status == SL_OK && d->hashed < d->journal.size) {
        report(d, PULL_VERIFYING, "", 0);
        status = hash_front(d, 16 * HASH_STEP);
        if (status == SL_OK && is_cancelled(d))
            status = sl_err_set(d->err, SL_CANCELLED, "stopped");
    }
    if (status == SL_OK) status = sha256_finish(&d->sha, digest);
    if (status == SL_OK && fsync(d->journal.data_fd) != 0)
        status = sl_err_errno(d->err, errno, "%s", d->file->data_path);
    if (status != SL_OK) return status;
    sha256_hex(digest, out_digest);
    *out_size = d->journal.size;
    if (!*d->file->digest || strcmp(out_digest, d->file->digest) == 0) return SL_OK;
    return sl_err_set(d->err, SL_CORRUPT,
                      "SHA-256 is %.12s..., not %.12s... as promised; pull again, or ask who "
                      "offers the file",
                      out_digest, d->file->digest);
}

static void remove_partial(struct pull_download *d)
{
    pull_journal_close(&d->journal);
    unlink(d->file->data_path);
    unlink(d->file->journal_path);
}

static sl_status run(struct pull_download *d, char out_digest[STORE_DIGEST_SIZE],
                     uint64_t *out_size)
{
    sl_status status = SL_OK;
    while (status == SL_OK && !is_whole(d)) status = step(d);
    stop_all(d);
    if (status == SL_OK) status = verify(d, out_digest, out_size);
    if (status == SL_CORRUPT)
        remove_partial(d);
    else if (status == SL_OK)
        unlink(d->file->journal_path);
    return status;
}

sl_status pull_file_run(const struct pull_file *file, char out_digest[STORE_DIGEST_SIZE],
                        uint64_t *out_size, struct sl_err *err)
{
    struct sl_err own = SL_ERR_INIT;
    struct pull_download *d = sl_calloc(1, sizeof *d);
    if (!d) return sl_err_set(err, SL_NOMEM, "download");
    d->file = file;
    d->err = err ? err : &own;
    d->id = (struct pull_identity){file->data_path, file->journal_path, file->url, file->digest,
                                   file->size};
    d->retry = (struct pull_retry){.n_max = file->request->n_retries, .seed = sl_hash_seed()};
    for (int i = 0; i < PULL_CONNECTIONS_MAX; i++) d->slots[i].download = d;
    sl_status status = sha256_init(&d->sha);
    if (status == SL_OK) status = pull_journal_open(&d->journal, &d->id, d->err);
    if (status == SL_OK) {
        d->resumed = d->journal.here_bytes;
        status = run(d, out_digest, out_size);
        pull_journal_close(&d->journal);
    }
    sha256_done(&d->sha);
    sl_free(d);
    if (status != SL_OK && err && err->status == SL_OK)
        return sl_err_set(err, status, "download: %s", sl_status_text(status));
    return status;
}
