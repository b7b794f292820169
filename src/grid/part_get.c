#include "grid/part_get.h"
#include "base/clock.h"
#include "base/mem.h"
#include "grid/fetch_part.h"
#include "grid/part_journal.h"
#include "grid/store_files.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS 100                          /* how soon a cancel is seen */
#define RANGE_BYTES_MAX (UINT64_C(32) << 20) /* of one request: so that others can step in */
#define STALL_S 10                           /* as PEER_STALL_S of a whole model */
#define SAVE_NS INT64_C(1000000000)          /* a chunk at 30 Mbit/s */

/* A connection and the chunks [chunk, end) that it is to bring. */
struct slot {
    struct download *download;
    struct http_transfer *transfer; /* NULL: idle */
    struct part_source *source;
    struct part_file *file;
    uint32_t chunk, end;
    uint64_t at; /* the next byte goes here */
    struct sha256 sha;
    bool answered; /* the head was accepted */
    /* why it was refused, for the done callback; SL_OK: nothing to say */
    sl_status refused;
    int64_t retry_after_s;
    struct sl_err why;
};

struct download {
    struct part_get *get;
    struct slot slots[FETCH_PART_CONNECTIONS];
    size_t file_at; /* no chunk is needed before this one */
    uint32_t chunk_at;
    uint64_t n_needed; /* chunks */
    int64_t saved_ns;
    sl_status failure; /* ends it all */
    struct sl_err *err;
};

uint64_t part_bytes(const struct part_file *file, enum part_chunk state)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < file->list.n; i++)
        if (file->chunks[i] == state) n += chunk_end(&file->list, i) - chunk_begin(&file->list, i);
    return n;
}

/* --- what has come is kept --- */

static sl_status save_file(struct part_file *file, struct sl_err *err)
{
    struct sl_buf text;
    if (!file->n_unsaved) return SL_OK;
    if (fdatasync(file->fd) != 0) return sl_err_errno(err, errno, "part of %.12s", file->digest);
    sl_buf_init(&text, PART_JOURNAL_BYTES_MAX);
    sl_status status = part_journal_write(&file->list, file->chunks, &text);
    if (status != SL_OK)
        (void)sl_err_set(err, status, "journal of a part");
    else
        status = store_write_file(file->journal_path, text.data, text.len, err);
    sl_buf_done(&text);
    if (status == SL_OK) file->n_unsaved = 0;
    return status;
}

static sl_status save(struct download *d, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < d->get->n_files && status == SL_OK; i++)
        status = save_file(&d->get->files[i], err);
    d->saved_ns = sl_now_ns();
    return status;
}

static sl_status save_sometimes(struct download *d)
{
    uint64_t n = 0;
    for (size_t i = 0; i < d->get->n_files; i++) n += d->get->files[i].n_unsaved;
    bool due = n >= PART_SAVE_BYTES || (n && sl_now_ns() - d->saved_ns >= SAVE_NS);
    return due ? save(d, d->err) : SL_OK;
}

/* --- what members answer --- */

static bool end_all(struct download *d, sl_status status, const char *text)
{
    if (d->failure == SL_OK) d->failure = sl_err_set(d->err, status, "%s", text);
    return false;
}

static bool refuse(struct slot *slot, sl_status status, int64_t retry_after_s, const char *text)
{
    slot->refused = sl_err_set(&slot->why, status, "%s", text);
    slot->retry_after_s = retry_after_s;
    return false;
}

static bool on_head(void *ctx, const struct http_head *head)
{
    struct slot *slot = ctx;
    char text[64];
    if (head->status != 206) {
        sl_status meaning = http_status_meaning(head->status);
        snprintf(text, sizeof text, "HTTP status %d", head->status);
        return refuse(slot, meaning == SL_OK ? SL_UNSUPPORTED : meaning, head->retry_after_s, text);
    }
    if (!head->has_range || head->begin != slot->at || head->total != slot->file->list.size ||
        head->end > chunk_end(&slot->file->list, slot->end - 1))
        return refuse(slot, SL_CORRUPT, -1, "another range than was asked for");
    slot->answered = true;
    return true;
}

static sl_status write_at(int fd, const char *bytes, size_t n, uint64_t at, struct sl_err *err)
{
    while (n > 0) {
        ssize_t done = pwrite(fd, bytes, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == ENOSPC)
            return sl_err_set(err, SL_LIMIT, "the disk is full; what is here stays");
        if (done < 0) return sl_err_errno(err, errno, "write a part");
        bytes += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return SL_OK;
}

/* All bytes of slot->chunk are in the file and in the hash. */
static bool end_chunk(struct slot *slot)
{
    struct download *d = slot->download;
    struct part_file *file = slot->file;
    unsigned char sum[SHA256_BYTES];
    if (sha256_finish(&slot->sha, sum) != SL_OK) return end_all(d, SL_INTERNAL, "SHA-256 failed");
    if (memcmp(sum, file->list.sums[slot->chunk], sizeof sum) != 0) {
        d->get->n_bad_chunks++;
        return refuse(slot, SL_CORRUPT, -1, "its bytes are not those of the list of chunks");
    }
    uint64_t n = chunk_end(&file->list, slot->chunk) - chunk_begin(&file->list, slot->chunk);
    file->chunks[slot->chunk++] = PART_HERE;
    file->n_unsaved += n;
    d->get->n_bytes += n;
    pull_retry_progress(&slot->source->retry);
    d->get->progress(d->get->ctx);
    return true;
}

static bool on_body(void *ctx, const void *bytes, size_t n)
{
    struct slot *slot = ctx;
    struct download *d = slot->download;
    const char *p = bytes;
    struct sl_err err = SL_ERR_INIT;
    if (!slot->answered || d->failure != SL_OK || atomic_load(d->get->cancel)) return false;
    while (n > 0) {
        if (slot->chunk == slot->end)
            return refuse(slot, SL_CORRUPT, -1, "more bytes than were asked for");
        uint64_t left = chunk_end(&slot->file->list, slot->chunk) - slot->at;
        size_t part = n < left ? n : (size_t)left;
        if (write_at(slot->file->fd, p, part, slot->at, &err) != SL_OK)
            return end_all(d, err.status, err.text);
        if (sha256_add(&slot->sha, p, part) != SL_OK)
            return end_all(d, SL_INTERNAL, "SHA-256 failed");
        slot->at += part;
        p += part;
        n -= part;
        if (part == left && !end_chunk(slot)) return false;
    }
    return true;
}

/* This member failed: it is asked again later, or never; without any other that is the end. */
static void blame(struct slot *slot, sl_status status, int64_t retry_after_s, const char *why)
{
    struct download *d = slot->download;
    struct part_source *source = slot->source;
    int64_t delay_ms;
    if (pull_retry_next(&source->retry, status, retry_after_s, &delay_ms)) {
        source->not_before_ns = sl_now_ns() + delay_ms * 1000000;
        return;
    }
    source->dropped = true;
    for (size_t i = 0; i < d->get->n_sources; i++)
        if (!d->get->sources[i].dropped) return;
    char text[SL_ERR_TEXT_MAX];
    snprintf(text, sizeof text, "from %s: %.400s", source->id, why);
    (void)end_all(d, status, text);
}

/* What a transfer did not bring is needed still. */
static void put_back(struct slot *slot)
{
    struct download *d = slot->download;
    for (uint32_t i = slot->chunk; i < slot->end; i++, d->n_needed++)
        slot->file->chunks[i] = PART_NEEDED;
    if (slot->chunk < slot->end) {
        d->file_at = 0;
        d->chunk_at = 0;
    }
    slot->end = slot->chunk;
}

static void on_done(void *ctx, sl_status status, const struct http_head *head,
                    const struct sl_err *err)
{
    struct slot *slot = ctx;
    struct download *d = slot->download;
    bool whole = slot->chunk == slot->end;
    (void)head;
    slot->transfer = NULL;
    put_back(slot);
    if (d->failure != SL_OK || atomic_load(d->get->cancel)) return;
    if (slot->refused != SL_OK)
        blame(slot, slot->refused, slot->retry_after_s, slot->why.text);
    else if (status != SL_OK)
        blame(slot, status, -1, err->text);
    else if (!whole)
        blame(slot, SL_UNAVAILABLE, -1, "the answer ends too early");
}

/* --- what is asked for --- */

/* Moves to the next chunk that is needed; false: there is none. */
static bool find_needed(struct download *d)
{
    for (; d->file_at < d->get->n_files; d->file_at++, d->chunk_at = 0) {
        const struct part_file *file = &d->get->files[d->file_at];
        while (d->chunk_at < file->list.n && file->chunks[d->chunk_at] != PART_NEEDED)
            d->chunk_at++;
        if (d->chunk_at < file->list.n) return true;
    }
    return false;
}

static void take_chunks(struct download *d, struct slot *slot)
{
    struct part_file *file = &d->get->files[d->file_at];
    uint64_t n_max = d->n_needed / FETCH_PART_CONNECTIONS + 1; /* so that all have some */
    if (n_max > RANGE_BYTES_MAX / file->list.chunk_bytes)
        n_max = RANGE_BYTES_MAX / file->list.chunk_bytes;
    slot->file = file;
    slot->chunk = slot->end = d->chunk_at;
    slot->at = chunk_begin(&file->list, slot->chunk);
    while (slot->end < file->list.n && slot->end - slot->chunk < n_max &&
           file->chunks[slot->end] == PART_NEEDED)
        file->chunks[slot->end++] = PART_COMING;
    d->n_needed -= slot->end - slot->chunk;
}

static struct part_source *ready_source(const struct part_get *get)
{
    int64_t now = sl_now_ns();
    for (size_t i = 0; i < get->n_sources; i++)
        if (!get->sources[i].dropped && get->sources[i].not_before_ns <= now)
            return &get->sources[i];
    return NULL;
}

static sl_status start_slot(struct download *d, struct slot *slot)
{
    char url[sizeof slot->source->base + STORE_DIGEST_SIZE + 32];
    unsigned char unused[SHA256_BYTES];
    slot->source = ready_source(d->get);
    if (!slot->source || !find_needed(d)) return SL_OK;
    take_chunks(d, slot);
    slot->answered = false;
    slot->refused = SL_OK;
    snprintf(url, sizeof url, "%s/grid/v1/blobs/%s", slot->source->base, slot->file->digest);
    const struct http_request request = {.url = url,
                                         .trust = &slot->source->trust,
                                         .range_begin = slot->at,
                                         .range_end = chunk_end(&slot->file->list, slot->end - 1),
                                         .stall_s = STALL_S,
                                         .on_head = on_head,
                                         .on_body = on_body,
                                         .on_done = on_done,
                                         .ctx = slot};
    sl_status status = sha256_finish(&slot->sha, unused); /* what an earlier one left in it */
    if (status != SL_OK) return sl_err_set(d->err, status, "SHA-256 failed");
    status = http_client_start(d->get->client, &request, &slot->transfer, d->err);
    if (status != SL_OK) put_back(slot);
    return status;
}

static bool is_idle(const struct download *d)
{
    for (int i = 0; i < FETCH_PART_CONNECTIONS; i++)
        if (d->slots[i].transfer) return false;
    return d->n_needed == 0;
}

static sl_status step(struct download *d)
{
    sl_status status = SL_OK;
    if (atomic_load(d->get->cancel)) return sl_err_set(d->err, SL_CANCELLED, "stopped");
    for (int i = 0; i < FETCH_PART_CONNECTIONS && status == SL_OK; i++)
        if (!d->slots[i].transfer) status = start_slot(d, &d->slots[i]);
    if (status == SL_OK) status = http_client_poll(d->get->client, POLL_MS, d->err);
    if (d->failure != SL_OK) return d->failure;
    return status == SL_OK ? save_sometimes(d) : status;
}

static sl_status run(struct download *d)
{
    sl_status status = SL_OK;
    for (int i = 0; i < FETCH_PART_CONNECTIONS && status == SL_OK; i++) {
        d->slots[i].download = d;
        status = sha256_init(&d->slots[i].sha);
        if (status != SL_OK) (void)sl_err_set(d->err, status, "SHA-256");
    }
    for (size_t i = 0; i < d->get->n_files; i++)
        for (uint32_t k = 0; k < d->get->files[i].list.n; k++)
            d->n_needed += d->get->files[i].chunks[k] == PART_NEEDED;
    if (status == SL_OK && d->n_needed && !d->get->n_sources)
        status = sl_err_set(d->err, SL_NOT_FOUND, "no member of the grid has it");
    while (status == SL_OK && !is_idle(d)) status = step(d);
    for (int i = 0; i < FETCH_PART_CONNECTIONS; i++) {
        struct slot *slot = &d->slots[i];
        if (slot->transfer) http_client_stop(d->get->client, slot->transfer);
        if (slot->transfer) put_back(slot);
        sha256_done(&slot->sha);
    }
    return status;
}

sl_status part_get_needed(struct part_get *get, struct sl_err *err)
{
    struct sl_err own = SL_ERR_INIT;
    struct download *d = sl_calloc(1, sizeof *d);
    if (!d) return sl_err_set(err, SL_NOMEM, "download of a part");
    d->get = get;
    d->err = &own;
    d->saved_ns = sl_now_ns();
    sl_status status = run(d);
    struct sl_err why = SL_ERR_INIT;
    sl_status saved = save(d, &why);
    sl_free(d);
    if (status == SL_OK && saved != SL_OK) return sl_err_set(err, saved, "%s", why.text);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "%s", own.text);
}
