/* chunk_list.h: the SHA-256 of each chunk of a blob, so that a part of it can be checked as it
 * comes, when the blob's own SHA-256 cannot: that one needs all of it. Members that have a blob
 * give its list (blobs.h), and keep it beside it.
 *
 *   bytes  8  "SLCHUNKS"
 *          4  version, 1                          all numbers little endian
 *          4  bytes of a chunk, chunk_bytes_of its size; the last chunk has what is left
 *          8  bytes of the blob
 *      n*32  SHA-256 of each chunk, in order
 *         32  SHA-256 of all before: the list's id, the same on every member with the same blob
 *
 * Floor: grid.  Thread: any.  Allocates: the sums.
 * Invariant: a list that was parsed or built has exactly as many sums as its size asks for. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "grid/store.h"
#include "net/sha256.h"
#include <stdint.h>

/* Of large blobs 8 ppm are their lists. Small ones are cut into CHUNKS_WANTED at least, so that a
 * stage does not fetch much more than it needs. */
#define CHUNK_BYTES_MIN (UINT64_C(64) << 10)
#define CHUNK_BYTES_MAX (UINT64_C(4) << 20)
#define CHUNKS_WANTED 256
#define CHUNK_LIST_CHUNKS_MAX (STORE_BLOB_BYTES_MAX / CHUNK_BYTES_MAX)
#define CHUNK_LIST_HEAD_BYTES 24
#define CHUNK_LIST_BYTES_MAX \
    (CHUNK_LIST_HEAD_BYTES + (CHUNK_LIST_CHUNKS_MAX + 1) * SHA256_BYTES) /* 32 MiB */

struct chunk_list {
    uint64_t size; /* of the blob */
    uint64_t chunk_bytes;
    uint32_t n;
    unsigned char (*sums)[SHA256_BYTES];
    unsigned char id[SHA256_BYTES]; /* set by parse and write */
};

/* Bytes of a chunk of a blob of that size: a power of two. */
uint64_t chunk_bytes_of(uint64_t size);

/* An empty list for a blob of that size, sums zero. LIMIT: size 0 or above STORE_BLOB_BYTES_MAX;
 * NOMEM. */
SL_CHECK sl_status chunk_list_init(struct chunk_list *list, uint64_t size, struct sl_err *err);
void chunk_list_done(struct chunk_list *list); /* zeroed is fine */

/* Where chunk `chunk` lies in the blob: [begin, end). */
uint64_t chunk_begin(const struct chunk_list *list, uint32_t chunk);
uint64_t chunk_end(const struct chunk_list *list, uint32_t chunk);

/* Reads all of n bytes. CORRUPT: what is wrong with them; UNSUPPORTED: another version or chunk
 * size; LIMIT, NOMEM. *out is untouched on failure. */
SL_CHECK sl_status chunk_list_parse(const void *bytes, size_t n, struct chunk_list *out,
                                    struct sl_err *err);
/* Appends the list, and sets its id. LIMIT, NOMEM, INTERNAL. */
SL_CHECK sl_status chunk_list_write(struct chunk_list *list, struct sl_buf *out);
