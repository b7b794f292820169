/* pull_answer.c: judges what a server answers to a request for a part of a file. */
#include "base/clock.h"
#include "grid/pull_file_int.h"
#include "grid/store_files.h"
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool pull_fail(struct pull_download *d, sl_status status, const char *fmt, ...)
{
    char text[SL_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (d->failure == SL_OK) d->failure = sl_err_set(d->err, status, "%s", text);
    return false;
}

/* This answer is of no use, but another try may be. */
static bool refuse(struct pull_slot *slot, sl_status status, int64_t retry_after_s,
                   const char *text)
{
    slot->refused = sl_err_set(&slot->why, status, "%s", text);
    slot->retry_after_s = retry_after_s;
    return false;
}

static bool ask_restart(struct pull_download *d)
{
    d->restart = true;
    return false;
}

static const char *validator_of(const struct http_head *head)
{
    return *head->etag ? head->etag : head->last_modified;
}

/* The first head of a file: its size is what it will be held to. */
static bool begin_file(struct pull_download *d, uint64_t size, const char *validator)
{
    const struct pull_file *file = d->file;
    struct sl_err err = SL_ERR_INIT;
    if (size == 0) return pull_fail(d, SL_CORRUPT, "the file is empty");
    if (file->size && size != file->size)
        return pull_fail(d, SL_CORRUPT,
                         "the server's file has %" PRIu64 " bytes, %" PRIu64 " were promised", size,
                         file->size);
    if (size > STORE_BLOB_BYTES_MAX)
        return pull_fail(d, SL_LIMIT, "%" PRIu64 " bytes are more than a model has", size);
    if (store_check_room(file->data_path, size, &err) != SL_OK)
        return pull_fail(d, err.status, "%s", err.text);
    if (pull_journal_begin(&d->journal, &d->id, size, (uint64_t)file->request->chunk_bytes,
                           validator, &err) != SL_OK)
        return pull_fail(d, err.status, "%s", err.text);
    return true;
}

/* Without a hash to check in the end, ranges need something that says they belong together. */
static bool may_split(const struct pull_download *d, const struct http_head *head)
{
    return *d->file->digest || *validator_of(head);
}

static bool accept_range(struct pull_slot *slot, const struct http_head *head)
{
    struct pull_download *d = slot->download;
    if (!head->has_range || head->total == UINT64_MAX)
        return refuse(slot, SL_UNAVAILABLE, -1, "206 without a usable Content-Range");
    bool fresh = d->journal.size == 0;
    if (!fresh &&
        (head->total != d->journal.size || strcmp(validator_of(head), d->journal.validator) != 0))
        return ask_restart(d);
    if (head->begin != slot->at)
        return refuse(slot, SL_UNAVAILABLE, -1, "the server sends another range than asked for");
    if (head->length >= 0 && (uint64_t)head->length != head->end - head->begin)
        return refuse(slot, SL_UNAVAILABLE, -1, "Content-Length and Content-Range disagree");
    if (!may_split(d, head)) {
        d->no_ranges = true;
        return ask_restart(d);
    }
    if (fresh && !begin_file(d, head->total, validator_of(head))) return false;
    if (fresh) d->journal.chunks[slot->chunk] = PULL_CHUNK_COMING;
    if (head->end > pull_chunk_end(&d->journal, slot->chunk))
        return refuse(slot, SL_UNAVAILABLE, -1, "the server sends more than asked for");
    slot->answer_end = head->end;
    d->mode = PULL_RANGES;
    if (strcmp(head->url, d->file->url) != 0) memcpy(d->near_url, head->url, sizeof d->near_url);
    return true;
}

/* All of the file: the server knows no ranges, or If-Range told it that ours is another file. */
static bool accept_whole(struct pull_slot *slot, const struct http_head *head)
{
    struct pull_download *d = slot->download;
    if (d->mode == PULL_RANGES) return ask_restart(d);
    uint64_t size = head->length >= 0 ? (uint64_t)head->length : d->file->size;
    if (head->length < 0 && size == 0)
        return pull_fail(d, SL_UNSUPPORTED, "the server does not say how long the file is");
    if (!begin_file(d, size, validator_of(head))) return false;
    d->resumed = d->hashed = 0;
    d->mode = PULL_STREAM;
    slot->chunk = 0;
    slot->at = 0;
    slot->answer_end = size;
    d->journal.chunks[0] = PULL_CHUNK_COMING;
    return true;
}

static bool fail_denied(struct pull_download *d, int status)
{
    if (d->file->bearer)
        return pull_fail(d, SL_DENIED, "HTTP status %d: the token in HF_TOKEN may not read it",
                         status);
    return pull_fail(d, SL_DENIED,
                     "HTTP status %d: not for everybody; a token in HF_TOKEN may help", status);
}

static bool judge_failure(struct pull_slot *slot, const struct http_head *head)
{
    struct pull_download *d = slot->download;
    char text[64];
    sl_status meaning = http_status_meaning(head->status);
    snprintf(text, sizeof text, "HTTP status %d", head->status);
    /* The place redirects led to was good for a time only: ask for a new one. */
    if (*d->near_url && head->status >= 400 && head->status < 500 && head->status != 429) {
        d->near_url[0] = '\0';
        return refuse(slot, SL_UNAVAILABLE, -1, text);
    }
    if (head->status == 416 && d->journal.size > 0) return ask_restart(d);
    if (pull_retry_may_help(meaning)) return refuse(slot, meaning, head->retry_after_s, text);
    if (meaning == SL_DENIED) return fail_denied(d, head->status);
    if (head->status == 416) return pull_fail(d, SL_CORRUPT, "the file is empty (%s)", text);
    return pull_fail(d, meaning == SL_NOT_FOUND ? meaning : SL_UNSUPPORTED, "%s", text);
}

bool pull_answer_head(void *ctx, const struct http_head *head)
{
    struct pull_slot *slot = ctx;
    if (slot->download->restart || slot->download->failure != SL_OK) return false;
    slot->answered = head->status == 206   ? accept_range(slot, head)
                     : head->status == 200 ? accept_whole(slot, head)
                                           : judge_failure(slot, head);
    return slot->answered;
}

static bool write_at(struct pull_download *d, const char *bytes, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t done = pwrite(d->journal.data_fd, bytes, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == ENOSPC)
            return pull_fail(d, SL_LIMIT,
                             "the disk is full; what is here stays, make room and pull "
                             "again");
        if (done < 0)
            return pull_fail(d, SL_IO, "write %s: %s", d->file->data_path, strerror(errno));
        bytes += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return true;
}

/* The first four bytes tell an error page or another format apart before gigabytes follow. */
static bool check_magic(struct pull_download *d)
{
    char magic[4] = "";
    if (d->file->any_format) return true;
    ssize_t n = pread(d->journal.data_fd, magic, sizeof magic, 0);
    if (n == (ssize_t)sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0) return true;
    return pull_fail(d, SL_CORRUPT, "what the server sends is not a GGUF file");
}

static bool finish_chunk(struct pull_slot *slot)
{
    struct pull_download *d = slot->download;
    struct sl_err err = SL_ERR_INIT;
    if (slot->chunk == 0 && !check_magic(d)) return false;
    if (pull_journal_add(&d->journal, slot->chunk, &err) != SL_OK)
        return pull_fail(d, err.status, "%s", err.text);
    if (d->mode == PULL_STREAM && slot->at < d->journal.size) {
        d->journal.chunks[++slot->chunk] = PULL_CHUNK_COMING;
    } else {
        slot->has_chunk = false;
    }
    return true;
}

bool pull_answer_body(void *ctx, const void *bytes, size_t n)
{
    struct pull_slot *slot = ctx;
    struct pull_download *d = slot->download;
    const char *p = bytes;
    if (!slot->answered || d->restart || d->failure != SL_OK) return false;
    if (d->file->request->cancel && atomic_load(d->file->request->cancel)) return false;
    if (n > slot->answer_end - slot->at)
        return pull_fail(d, SL_CORRUPT, "the server sends more bytes than it announced");
    /* A stream begins again after each failure: its bytes are no progress until all are here. */
    if (d->mode != PULL_STREAM) pull_retry_progress(&d->retry);
    while (n > 0) {
        uint64_t room = pull_chunk_end(&d->journal, slot->chunk) - slot->at;
        size_t part = n < room ? n : (size_t)room;
        if (!write_at(d, p, part, slot->at)) return false;
        slot->at += part;
        p += part;
        n -= part;
        if (part == room && !finish_chunk(slot)) return false;
    }
    return true;
}
