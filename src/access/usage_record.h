/* usage_record.h: a row of usage as bytes, as the journal has them.
 * Floor: access.  Thread: any.  Allocates: nothing.
 *
 *   file     magic "SLUSAGE\n", version u32, 0 u32, identity u64; then records
 *   record   length u32 of what follows the checksum; checksum u32; seq u64; the row
 *   row      5 texts, each a length u8 and its bytes: request id, key, model, endpoint, finish;
 *            then class, HTTP status, time of the end, tokens (prompt, cached, completion,
 *            reasoning), times (queue, first token, total), kind of energy: i64 each; joules f64
 *
 * All numbers are little-endian. A record's checksum is XXH3 of seq and row, cut to 32 bits and
 * seeded with the file's identity, so that no bytes of another file pass for one. The first record
 * of a file is number 1 and each one after it follows on.
 * Invariant: what usage_record_write made is read again, and what is read has fitting lengths,
 * NUL-ended texts and known classes; a file ends where the next record is not one. */
#pragma once
#include "access/usage.h"

#define USAGE_RECORD_HEADER_BYTES 24 /* of a file */
#define USAGE_RECORD_HEAD_BYTES 16   /* of a record: all before the row */
#define USAGE_RECORD_MAX 512         /* bytes of one record: texts 266, numbers 96, head 16 */

/* What stands at the beginning of a file; all its records have the same identity. */
void usage_record_header(uint8_t out[USAGE_RECORD_HEADER_BYTES], uint64_t identity);

/* Returns the record's length. What no reader would take (an unknown class) is left out. */
size_t usage_record_write(uint8_t out[USAGE_RECORD_MAX], uint64_t identity, uint64_t seq,
                          const struct usage_row *row);

/* The length of the record that begins here. */
size_t usage_record_length(const uint8_t *record);

struct usage_record_reader {
    const uint8_t *bytes; /* of a whole file; borrowed */
    size_t n, at;         /* at: the end of the last good record */
    uint64_t identity;
    uint64_t seq; /* of the last record */
};

/* False: the bytes do not begin with a header of this version. */
bool usage_record_reader_init(struct usage_record_reader *reader, const uint8_t *bytes, size_t n);

/* The next row; false at the end of what can be read. */
bool usage_record_next(struct usage_record_reader *reader, struct usage_row *row);
