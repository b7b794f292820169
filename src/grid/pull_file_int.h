/* pull_file_int.h: the state of one download, shared by its two halves: pull_file.c, which decides
 * what to ask for, and pull_answer.c, which judges what comes.
 * Floor: grid.  Thread: the pull's own. */
#pragma once
#include "grid/pull_file.h"
#include "grid/pull_journal.h"
#include "grid/pull_retry.h"
#include "net/sha256.h"

enum pull_mode { PULL_PROBING, PULL_RANGES, PULL_STREAM };

/* One connection and what it is fetching. */
struct pull_slot {
    struct pull_download *download;
    struct http_transfer *transfer; /* NULL: idle, or waiting for its next try */
    bool has_chunk;
    uint32_t chunk;      /* being filled */
    uint64_t at;         /* the next byte goes here */
    uint64_t answer_end; /* of what this answer may bring */
    bool answered;       /* the head was accepted */
    /* why it was not, for the done callback; SL_OK: nothing to say */
    sl_status refused;
    int64_t retry_after_s;
    struct sl_err why;
};

struct pull_download {
    const struct pull_file *file;
    struct pull_identity id;
    struct pull_journal journal;
    struct pull_slot slots[PULL_CONNECTIONS_MAX];
    enum pull_mode mode;
    struct pull_retry retry;
    int64_t not_before_ns; /* no request before: backing off */
    int n_restarts;
    bool restart;                 /* asked for by an answer; done between polls */
    bool no_ranges;               /* nothing would tell two versions apart: take it in one piece */
    char near_url[HTTP_URL_SIZE]; /* where redirects led; "": ask at the URL itself */
    uint64_t resumed;
    struct sha256 sha;
    uint64_t hashed;    /* bytes of the front that went into sha */
    sl_status failure;  /* the first that ends it all */
    struct sl_err *err; /* of the caller */
};

/* The callbacks of a slot's transfer. */
bool pull_answer_head(void *ctx, const struct http_head *head);
bool pull_answer_body(void *ctx, const void *bytes, size_t n);

/* Ends the download. Returns false, as the callbacks want it. */
bool pull_fail(struct pull_download *d, sl_status status, const char *fmt, ...) SL_PRINTF(3, 4);
