#include "grid/bus_parts.h"
#include "base/mem.h"
#include <string.h>

enum { KIND_WHOLE = 0, KIND_PART = 1 };

struct partial {
    uint8_t *bytes; /* [total]; NULL: the slot is free */
    size_t total;
    uint64_t message;
    uint32_t stream;
    uint32_t n_parts; /* that have come */
    int64_t fed_ns;
    char subject[BUS_SUBJECT_SIZE];
};

struct bus_parts {
    size_t bytes_max, bytes; /* of all partials */
    size_t n_partials;
    struct partial partials[BUS_PARTIALS_MAX];
};

struct part {
    uint64_t message;
    uint32_t index;
    size_t total, n;
    const uint8_t *bytes;
};

/* --- the bytes --- */

static void put_be(uint8_t *out, uint64_t value, int n_bytes)
{
    for (int i = n_bytes - 1; i >= 0; i--, value >>= 8) out[i] = (uint8_t)value;
}

static uint64_t get_be(const uint8_t *at, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) value = value << 8 | at[i];
    return value;
}

void bus_whole_header(uint8_t out[BUS_WHOLE_HEADER_BYTES])
{
    out[0] = KIND_WHOLE;
}

void bus_part_header(uint8_t out[BUS_PART_HEADER_BYTES], uint64_t message, uint32_t index,
                     size_t total)
{
    out[0] = KIND_PART;
    put_be(out + 1, message, 8);
    put_be(out + 9, index, 4);
    put_be(out + 13, total, 4);
}

/* Is it a part that we would have cut like that? */
static bool read_part(const uint8_t *bytes, size_t n, struct part *out)
{
    if (n <= BUS_PART_HEADER_BYTES) return false;
    *out = (struct part){.message = get_be(bytes + 1, 8),
                         .index = (uint32_t)get_be(bytes + 9, 4),
                         .total = (size_t)get_be(bytes + 13, 4),
                         .n = n - BUS_PART_HEADER_BYTES,
                         .bytes = bytes + BUS_PART_HEADER_BYTES};
    size_t begin = (size_t)out->index * BUS_PART_BYTES;
    if (out->total > BUS_MESSAGE_BYTES_MAX || begin >= out->total) return false;
    size_t rest = out->total - begin;
    return out->n == (rest < BUS_PART_BYTES ? rest : BUS_PART_BYTES);
}

/* --- the messages under way --- */

sl_status bus_parts_create(size_t bytes_max, struct bus_parts **out)
{
    struct bus_parts *parts = sl_calloc(1, sizeof *parts);
    if (!parts) return SL_NOMEM;
    parts->bytes_max = bytes_max;
    *out = parts;
    return SL_OK;
}

void bus_parts_destroy(struct bus_parts *parts)
{
    if (!parts) return;
    for (int i = 0; i < BUS_PARTIALS_MAX; i++) sl_free(parts->partials[i].bytes);
    sl_free(parts);
}

/* Frees the slot; its bytes go to whom they are returned to. */
static uint8_t *release(struct bus_parts *parts, struct partial *partial)
{
    uint8_t *bytes = partial->bytes;
    parts->bytes -= partial->total;
    parts->n_partials--;
    partial->bytes = NULL;
    return bytes;
}

static struct partial *find(struct bus_parts *parts, uint32_t stream, const char *subject)
{
    for (int i = 0; i < BUS_PARTIALS_MAX; i++) {
        struct partial *partial = &parts->partials[i];
        if (partial->bytes && partial->stream == stream && strcmp(partial->subject, subject) == 0)
            return partial;
    }
    return NULL;
}

static struct partial *find_free(struct bus_parts *parts)
{
    for (int i = 0; i < BUS_PARTIALS_MAX; i++)
        if (!parts->partials[i].bytes) return &parts->partials[i];
    return NULL;
}

static struct partial *find_stalest(struct bus_parts *parts)
{
    struct partial *stalest = NULL;
    for (int i = 0; i < BUS_PARTIALS_MAX; i++) {
        struct partial *partial = &parts->partials[i];
        if (partial->bytes && (!stalest || partial->fed_ns < stalest->fed_ns)) stalest = partial;
    }
    return stalest;
}

/* A slot for a message of so many bytes; the stalest ones make room for it. */
static sl_status begin(struct bus_parts *parts, size_t total, struct partial **out,
                       uint64_t *n_lost)
{
    while (parts->n_partials == BUS_PARTIALS_MAX || parts->bytes + total > parts->bytes_max) {
        struct partial *stalest = find_stalest(parts);
        if (!stalest) return SL_NOMEM;
        sl_free(release(parts, stalest));
        ++*n_lost;
    }
    struct partial *partial = find_free(parts);
    uint8_t *bytes = sl_malloc(total);
    if (!bytes) return SL_NOMEM;
    *partial = (struct partial){.bytes = bytes, .total = total};
    parts->bytes += total;
    parts->n_partials++;
    *out = partial;
    return SL_OK;
}

/* The message that the part continues, or begins; *out NULL: neither. */
static sl_status place(struct bus_parts *parts, uint32_t stream, const char *subject,
                       const struct part *part, struct partial **out, uint64_t *n_lost)
{
    struct partial *partial = find(parts, stream, subject);
    *out = NULL;
    if (partial && partial->message == part->message && partial->total == part->total &&
        partial->n_parts == part->index) {
        *out = partial;
        return SL_OK;
    }
    if (partial) {
        sl_free(release(parts, partial));
        ++*n_lost;
    }
    if (part->index != 0) return SL_OK; /* its beginning was lost, and counted then */
    sl_status status = begin(parts, part->total, &partial, n_lost);
    if (status != SL_OK) {
        ++*n_lost;
        return status;
    }
    partial->message = part->message;
    partial->stream = stream;
    strcpy(partial->subject, subject);
    *out = partial;
    return SL_OK;
}

static sl_status take_part(struct bus_parts *parts, uint32_t stream, const char *subject,
                           const struct part *part, struct partial **out, uint64_t *n_lost)
{
    sl_status status = place(parts, stream, subject, part, out, n_lost);
    struct partial *partial = *out;
    if (status != SL_OK || !partial) return status;
    memcpy(partial->bytes + (size_t)part->index * BUS_PART_BYTES, part->bytes, part->n);
    partial->n_parts++;
    return SL_OK;
}

sl_status bus_parts_take(struct bus_parts *parts, uint32_t stream, const char *subject,
                         const void *bytes, size_t n, int64_t now_ns, struct bus_whole *out,
                         uint64_t *n_lost)
{
    const uint8_t *at = bytes;
    struct partial *partial;
    struct part part;
    *out = (struct bus_whole){0};
    if (n >= 1 && at[0] == KIND_WHOLE) {
        *out = (struct bus_whole){.bytes = at + BUS_WHOLE_HEADER_BYTES,
                                  .n = n - BUS_WHOLE_HEADER_BYTES};
        return SL_OK;
    }
    if (n < 1 || at[0] != KIND_PART || strlen(subject) >= BUS_SUBJECT_SIZE ||
        !read_part(at, n, &part)) {
        ++*n_lost;
        return SL_CORRUPT;
    }
    sl_status status = take_part(parts, stream, subject, &part, &partial, n_lost);
    if (status != SL_OK || !partial) return status;
    partial->fed_ns = now_ns;
    if ((size_t)part.index * BUS_PART_BYTES + part.n < part.total) return SL_OK;
    out->owned = release(parts, partial);
    out->bytes = out->owned;
    out->n = part.total;
    return SL_OK;
}

size_t bus_parts_expire(struct bus_parts *parts, int64_t now_ns)
{
    size_t n_dropped = 0;
    for (int i = 0; i < BUS_PARTIALS_MAX; i++) {
        struct partial *partial = &parts->partials[i];
        if (!partial->bytes || now_ns - partial->fed_ns < BUS_PARTIAL_IDLE_NS) continue;
        sl_free(release(parts, partial));
        n_dropped++;
    }
    return n_dropped;
}

size_t bus_parts_count(const struct bus_parts *parts)
{
    return parts->n_partials;
}
