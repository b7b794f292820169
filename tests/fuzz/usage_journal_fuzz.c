/* usage_journal_fuzz.c: any bytes as a journal of usage: what is read is within its limits, and
 * written again it is the same bytes. The checksum would keep all but copies out, so the first byte
 * says whether it is mended first. */
#include "access/usage_record.h"
#include "base/hash.h"
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_checksum(uint8_t *record, size_t left, uint64_t identity)
{
    size_t length = left < USAGE_RECORD_HEAD_BYTES ? 0 : usage_record_length(record);
    if (length < USAGE_RECORD_HEAD_BYTES || length > left) return;
    uint32_t sum = (uint32_t)sl_hash64(record + 8, length - 8, identity);
    for (int i = 0; i < 4; i++) record[4 + i] = (uint8_t)(sum >> 8 * i);
}

static void check(const struct usage_row *row, const struct usage_record_reader *reader, size_t at)
{
    uint8_t again[USAGE_RECORD_MAX];
    size_t n = usage_record_write(again, reader->identity, reader->seq, row);
    if (strlen(row->model) > USAGE_MODEL_MAX || strlen(row->key_id) > KEYS_ID_CHARS) abort();
    if (n != reader->at - at || memcmp(again, reader->bytes + at, n) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct usage_record_reader reader;
    struct usage_row row;
    if (size < 1 || size > BYTES_MAX) return 0;
    uint8_t *bytes = malloc(size); /* no byte more: a sanitizer sees a read past it */
    if (!bytes) abort();
    memcpy(bytes, data + 1, size - 1);
    if (usage_record_reader_init(&reader, bytes, size - 1)) {
        for (size_t at = 0; at != reader.at;) {
            at = reader.at;
            if (data[0] & 1) mend_checksum(bytes + at, reader.n - at, reader.identity);
            if (usage_record_next(&reader, &row)) check(&row, &reader, at);
        }
    }
    free(bytes);
    return 0;
}
