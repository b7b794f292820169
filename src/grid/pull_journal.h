/* pull_journal.h: which chunks of a file a pull has so far, in a text file beside the data.
 *
 *   {"version":1,"url":...,"digest":...,"validator":...,"size":N,"chunk":N}
 *   <chunk> <16 hex digits: a hash of the chunk's bytes>
 *   ...
 *
 * Floor: grid.  Thread: the pull's own.  Allocates: the table of chunks.
 * Invariant: a line counts only when the bytes on disk have its hash. So neither order nor loss of
 * writes matters, in the data or here: a kill, a crash or a torn line costs a chunk, never a wrong
 * byte. (This is against accidents; the file's SHA-256 is against everybody else.) */
#pragma once
#include "base/err.h"
#include "net/http_client.h"
#include <stdbool.h>
#include <stdint.h>

#define PULL_CHUNKS_MAX (1u << 20)         /* a byte each; larger files get larger chunks */
#define PULL_JOURNAL_BYTES_MAX (64u << 20) /* a line for each chunk, twice over */

enum pull_chunk_state { PULL_CHUNK_MISSING, PULL_CHUNK_COMING, PULL_CHUNK_HERE };

struct pull_journal {
    int data_fd, journal_fd; /* -1: closed */
    uint64_t size;           /* of the file; 0: nothing is known yet */
    uint64_t chunk_bytes;
    uint32_t n_chunks;
    uint8_t *chunks;                 /* enum pull_chunk_state */
    char validator[HTTP_FIELD_SIZE]; /* the ETag, or Last-Modified; "": the server gave none */
    uint64_t here_bytes;             /* of the chunks that are here */
};

/* What the file is, for this pull; an earlier one of something else does not count. */
struct pull_identity {
    const char *data_path, *journal_path;
    const char *url;
    const char *digest; /* "": unknown */
    uint64_t size;      /* 0: unknown */
};

/* Opens the data file (made when absent) and takes over what an earlier pull of the same file left.
 * size is 0 afterwards when there is nothing to go on with. IO, NOMEM. */
SL_CHECK sl_status pull_journal_open(struct pull_journal *journal, const struct pull_identity *id,
                                     struct sl_err *err);
void pull_journal_close(struct pull_journal *journal); /* zeroed, or closed already: fine */

/* Forgets all chunks and begins a file of that size. chunk_bytes is a wish. IO, NOMEM. */
SL_CHECK sl_status pull_journal_begin(struct pull_journal *journal, const struct pull_identity *id,
                                      uint64_t size, uint64_t chunk_bytes, const char *validator,
                                      struct sl_err *err);
/* Forgets everything: size 0, no data, no lines. */
SL_CHECK sl_status pull_journal_clear(struct pull_journal *journal, const struct pull_identity *id,
                                      struct sl_err *err);

/* The chunk's bytes have all been written to data_fd. */
SL_CHECK sl_status pull_journal_add(struct pull_journal *journal, uint32_t chunk,
                                    struct sl_err *err);

/* Where a chunk lies in the file: [begin, end). */
uint64_t pull_chunk_begin(const struct pull_journal *journal, uint32_t chunk);
uint64_t pull_chunk_end(const struct pull_journal *journal, uint32_t chunk);
/* The first chunk from `from` on in that state; n_chunks: none. */
uint32_t pull_chunk_find(const struct pull_journal *journal, uint32_t from,
                         enum pull_chunk_state state);
