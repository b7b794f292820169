/* pull_file.h: downloads one file, in parallel ranges where the server can, and goes on where an
 * earlier pull stopped.
 * Floor: grid.  Thread: the pull's own.  Allocates: the journal's table, the connections.
 * Invariant: bytes of two versions of the file never mix: every range must come with the validator
 * and the total size of the first one; otherwise all of it begins again.
 *
 * A file goes through:
 *   probing    one connection asks for the first chunk that is missing
 *   ranges     206: up to n_connections take one missing chunk each, until none is left
 *   stream     200: the server knows no ranges; one connection takes all of it, from the beginning
 *              again after each failure
 * A change of the file (another validator or size, or 200 where 206 came before) leads back to
 * probing with nothing, a few times at most. */
#pragma once
#include "grid/pull.h"
#include "grid/store.h"
#include "net/http_client.h"

#define PULL_RESTARTS_MAX 4 /* a file that changes so often is a log, not a model */

/* What of this file is here; note and retry_ms as in pull_progress. */
typedef void pull_file_fn(void *ctx, enum pull_phase phase, uint64_t done, uint64_t total,
                          uint64_t resumed, const char *note, int64_t retry_ms);

struct pull_file {
    struct http_client *client;
    const struct pull_request *request;
    const char *url;
    const char *bearer;    /* NULL: none */
    const char *digest;    /* "": unknown */
    uint64_t size;         /* 0: unknown */
    bool any_format;       /* its first bytes need not be those of a GGUF file */
    const char *data_path; /* claimed by the caller */
    const char *journal_path;
    pull_file_fn *progress;
    void *ctx;
};

/* Blocks until the file is whole at data_path and on disk; its SHA-256 (equal to `digest` where
 * that is known) and size go to out. As pull_run. After CORRUPT the partial file is gone, after
 * other failures it stays for the next time. */
SL_CHECK sl_status pull_file_run(const struct pull_file *file, char out_digest[STORE_DIGEST_SIZE],
                                 uint64_t *out_size, struct sl_err *err);
