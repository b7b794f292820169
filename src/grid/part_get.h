/* part_get.h: gets chunks of a model's files from members that have them, in ranges over several
 * connections, and checks each before it counts.
 * Floor: grid.  Thread: the part's own.  Allocates: connections and hashers, for the time of the
 * call.
 *
 * The nearest member is asked; one that fails is left alone for a while (pull_retry.h), then for
 * good; one that sent a wrong chunk is not asked again. Invariant: a chunk is PART_HERE only when
 * its bytes were hashed on their way into the file and fit the list. */
#pragma once
#include "grid/chunk_list.h"
#include "grid/fetch.h"
#include "grid/pull_retry.h"
#include "net/http_client.h"
#include <stdatomic.h>

#define PART_SAVE_BYTES (UINT64_C(64) << 20) /* what a kill costs at most, with what is coming */

enum part_chunk {
    PART_UNNEEDED,
    PART_HERE, /* 1: as part_journal.h has it */
    PART_NEEDED,
    PART_COMING
};

/* One file of the model: sparse, of its full size. */
struct part_file {
    char digest[STORE_DIGEST_SIZE];
    char journal_path[PATH_MAX];
    int fd; /* -1: not open */
    struct chunk_list list;
    uint8_t *chunks;    /* [list.n], enum part_chunk */
    uint64_t n_unsaved; /* bytes here that the journal does not know */
};

/* A member that has the files, and how it has done so far. */
struct part_source {
    const char *id;
    char base[GRID_ADDRESS_SIZE + 16]; /* "https://10.0.0.7:4230" */
    struct http_trust trust;
    struct pull_retry retry;
    int64_t not_before_ns;
    bool dropped;
};

struct part_get {
    struct http_client *client;
    struct part_source *sources; /* the nearest first */
    size_t n_sources;
    struct part_file *files;
    size_t n_files;
    const atomic_bool *cancel;
    void (*progress)(void *ctx); /* after each chunk, and now and then */
    void *ctx;
    uint64_t n_bytes, n_bad_chunks; /* grow: of chunks that were right, and those that were not */
};

/* Blocks until no chunk is PART_NEEDED; what came is in the journals, on disk, also after a failure
 * or a cancel. UNAVAILABLE and others of http_client.h: no member is left, with what the last one
 * said; CORRUPT: it sent a wrong chunk; LIMIT: the disk is full; CANCELLED, IO, NOMEM. */
SL_CHECK sl_status part_get_needed(struct part_get *get, struct sl_err *err);

/* The bytes of the chunks in that state. */
uint64_t part_bytes(const struct part_file *file, enum part_chunk state);
