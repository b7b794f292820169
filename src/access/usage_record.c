/* usage_record.c: rows to bytes and back. */
#include "access/usage_record.h"

#include "base/hash.h"
#include "sched/local.h"

#include <assert.h>
#include <string.h>

#define VERSION 1
#define N_TEXTS 5
#define N_NUMBERS 11

static const uint8_t magic[8] = {'S', 'L', 'U', 'S', 'A', 'G', 'E', '\n'};

static_assert(USAGE_RECORD_HEAD_BYTES + N_TEXTS + USAGE_ID_MAX + KEYS_ID_CHARS + USAGE_MODEL_MAX +
                      2 * USAGE_WORD_MAX + 8 * (N_NUMBERS + 1) <=
                  USAGE_RECORD_MAX,
              "the longest row fits into a record");

/* --- numbers --- */

static void put(uint8_t *out, uint64_t v, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) out[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *bytes, size_t n_bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n_bytes; i++) v |= (uint64_t)bytes[i] << 8 * i;
    return v;
}

static uint32_t checksum(const uint8_t *record, size_t length, uint64_t identity)
{
    return (uint32_t)sl_hash64(record + 8, length - 8, identity);
}

/* --- what a row consists of --- */

struct text {
    char *chars;
    size_t max;
};

static void texts_of(struct usage_row *row, struct text out[N_TEXTS])
{
    const struct text texts[N_TEXTS] = {
        {row->request_id, USAGE_ID_MAX}, {row->key_id, KEYS_ID_CHARS},
        {row->model, USAGE_MODEL_MAX},   {row->endpoint, USAGE_WORD_MAX},
        {row->finish, USAGE_WORD_MAX},
    };
    memcpy(out, texts, sizeof texts);
}

static void numbers_of(const struct usage_row *row, int64_t out[N_NUMBERS])
{
    const int64_t numbers[N_NUMBERS] = {
        row->qos_class,      row->http_status,       row->finished_ms,      row->prompt_tokens,
        row->cached_tokens,  row->completion_tokens, row->reasoning_tokens, row->queue_us,
        row->first_token_us, row->total_us,          (int64_t)row->energy,
    };
    memcpy(out, numbers, sizeof numbers);
}

static bool is_class(int64_t v)
{
    return v == KEYS_CLASS_NONE || (v >= 0 && v < SCHED_CLASS_COUNT);
}

static bool is_energy(int64_t v)
{
    return v >= USAGE_ENERGY_NONE && v <= USAGE_ENERGY_MODELLED;
}

/* --- writing --- */

void usage_record_header(uint8_t out[USAGE_RECORD_HEADER_BYTES], uint64_t identity)
{
    memcpy(out, magic, sizeof magic);
    put(out + 8, VERSION, 4);
    put(out + 12, 0, 4);
    put(out + 16, identity, 8);
}

size_t usage_record_write(uint8_t out[USAGE_RECORD_MAX], uint64_t identity, uint64_t seq,
                          const struct usage_row *row)
{
    struct text texts[N_TEXTS];
    int64_t numbers[N_NUMBERS];
    uint64_t joules;
    uint8_t *at = out + USAGE_RECORD_HEAD_BYTES;
    texts_of((struct usage_row *)row, texts);
    for (int i = 0; i < N_TEXTS; i++) {
        size_t n = strnlen(texts[i].chars, texts[i].max);
        *at++ = (uint8_t)n;
        memcpy(at, texts[i].chars, n);
        at += n;
    }
    numbers_of(row, numbers);
    if (!is_class(numbers[0])) numbers[0] = KEYS_CLASS_NONE;
    numbers[1] = (int32_t)numbers[1];
    if (!is_energy(numbers[N_NUMBERS - 1])) numbers[N_NUMBERS - 1] = USAGE_ENERGY_NONE;
    for (int i = 0; i < N_NUMBERS; i++, at += 8) put(at, (uint64_t)numbers[i], 8);
    memcpy(&joules, &row->energy_joules, sizeof joules);
    put(at, joules, 8);
    size_t length = (size_t)(at + 8 - out);
    put(out, length - 8, 4);
    put(out + 8, seq, 8);
    put(out + 4, checksum(out, length, identity), 4);
    return length;
}

size_t usage_record_length(const uint8_t *record)
{
    return (size_t)get(record, 4) + 8;
}

/* --- reading --- */

static const uint8_t *read_texts(const uint8_t *at, const uint8_t *end, struct usage_row *row)
{
    struct text texts[N_TEXTS];
    texts_of(row, texts);
    for (int i = 0; i < N_TEXTS; i++) {
        if (at == end || *at > texts[i].max || *at >= end - at) return NULL;
        size_t n = *at++;
        if (memchr(at, '\0', n)) return NULL;
        memcpy(texts[i].chars, at, n);
        at += n;
    }
    return at;
}

static bool read_row(const uint8_t *at, const uint8_t *end, struct usage_row *row)
{
    int64_t v[N_NUMBERS];
    memset(row, 0, sizeof *row);
    at = read_texts(at, end, row);
    if (!at || end - at != 8 * (N_NUMBERS + 1)) return false;
    for (int i = 0; i < N_NUMBERS; i++, at += 8) v[i] = (int64_t)get(at, 8);
    uint64_t joules = get(at, 8);
    if (!is_class(v[0]) || v[1] != (int32_t)v[1] || !is_energy(v[10])) return false;
    row->qos_class = (int)v[0];
    row->http_status = (int)v[1];
    row->finished_ms = v[2];
    row->prompt_tokens = v[3];
    row->cached_tokens = v[4];
    row->completion_tokens = v[5];
    row->reasoning_tokens = v[6];
    row->queue_us = v[7];
    row->first_token_us = v[8];
    row->total_us = v[9];
    row->energy = (enum usage_energy)v[10];
    memcpy(&row->energy_joules, &joules, sizeof joules);
    return true;
}

bool usage_record_reader_init(struct usage_record_reader *reader, const uint8_t *bytes, size_t n)
{
    *reader = (struct usage_record_reader){.bytes = bytes, .n = n};
    if (n < USAGE_RECORD_HEADER_BYTES || memcmp(bytes, magic, sizeof magic) != 0) return false;
    if (get(bytes + 8, 4) != VERSION || get(bytes + 12, 4) != 0) return false;
    reader->identity = get(bytes + 16, 8);
    reader->at = USAGE_RECORD_HEADER_BYTES;
    return true;
}

bool usage_record_next(struct usage_record_reader *reader, struct usage_row *row)
{
    const uint8_t *record = reader->bytes + reader->at;
    size_t left = reader->n - reader->at;
    if (left < USAGE_RECORD_HEAD_BYTES) return false;
    size_t length = usage_record_length(record);
    if (length > left || length > USAGE_RECORD_MAX || length < USAGE_RECORD_HEAD_BYTES)
        return false;
    if (get(record + 4, 4) != checksum(record, length, reader->identity)) return false;
    if (get(record + 8, 8) != reader->seq + 1) return false;
    if (!read_row(record + USAGE_RECORD_HEAD_BYTES, record + length, row)) return false;
    reader->at += length;
    reader->seq++;
    return true;
}
