#include "grid/chunk_list.h"
#include "base/mem.h"
#include <string.h>

#define MAGIC "SLCHUNKS"
#define MAGIC_BYTES (sizeof MAGIC - 1)
#define VERSION 1
#define AT_CHUNK_BYTES 12
#define AT_SIZE 16

static void put_le(unsigned char *at, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) at[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get_le(const unsigned char *at, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) value |= (uint64_t)at[i] << (8 * i);
    return value;
}

uint64_t chunk_bytes_of(uint64_t size)
{
    uint64_t bytes = CHUNK_BYTES_MAX;
    while (bytes > CHUNK_BYTES_MIN && size / bytes < CHUNKS_WANTED) bytes /= 2;
    return bytes;
}

sl_status chunk_list_init(struct chunk_list *list, uint64_t size, struct sl_err *err)
{
    if (size == 0 || size > STORE_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "a list of chunks of %llu bytes",
                          (unsigned long long)size);
    uint64_t bytes = chunk_bytes_of(size);
    *list = (struct chunk_list){
        .size = size, .chunk_bytes = bytes, .n = (uint32_t)((size + bytes - 1) / bytes)};
    list->sums = sl_calloc(list->n, sizeof *list->sums);
    return list->sums ? SL_OK : sl_err_set(err, SL_NOMEM, "list of chunks");
}

void chunk_list_done(struct chunk_list *list)
{
    sl_free(list->sums);
    *list = (struct chunk_list){0};
}

uint64_t chunk_begin(const struct chunk_list *list, uint32_t chunk)
{
    return chunk * list->chunk_bytes;
}

uint64_t chunk_end(const struct chunk_list *list, uint32_t chunk)
{
    uint64_t end = chunk_begin(list, chunk) + list->chunk_bytes;
    return end < list->size ? end : list->size;
}

static sl_status check_head(const unsigned char *p, size_t n, struct sl_err *err)
{
    if (n < CHUNK_LIST_HEAD_BYTES + SHA256_BYTES || memcmp(p, MAGIC, MAGIC_BYTES) != 0)
        return sl_err_set(err, SL_CORRUPT, "not a list of chunks");
    if (get_le(p + MAGIC_BYTES, 4) != VERSION ||
        get_le(p + AT_CHUNK_BYTES, 4) != chunk_bytes_of(get_le(p + AT_SIZE, 8)))
        return sl_err_set(err, SL_UNSUPPORTED, "a list of chunks of another version");
    return SL_OK;
}

sl_status chunk_list_parse(const void *bytes, size_t n, struct chunk_list *out, struct sl_err *err)
{
    const unsigned char *p = bytes;
    struct chunk_list list = {0};
    sl_status status = check_head(p, n, err);
    if (status == SL_OK) status = chunk_list_init(&list, get_le(p + AT_SIZE, 8), err);
    if (status != SL_OK) return status;
    size_t n_sums = (size_t)list.n * SHA256_BYTES, n_before = CHUNK_LIST_HEAD_BYTES + n_sums;
    if (n != n_before + SHA256_BYTES)
        status = sl_err_set(err, SL_CORRUPT, "a list of %u chunks has not %zu bytes", list.n, n);
    else if (sha256_of(p, n_before, list.id) != SL_OK)
        status = sl_err_set(err, SL_NOMEM, "SHA-256 failed");
    else if (memcmp(p + n_before, list.id, SHA256_BYTES) != 0)
        status = sl_err_set(err, SL_CORRUPT, "a list of chunks is damaged");
    if (status != SL_OK) {
        chunk_list_done(&list);
        return status;
    }
    memcpy(list.sums, p + CHUNK_LIST_HEAD_BYTES, n_sums);
    *out = list;
    return SL_OK;
}

sl_status chunk_list_write(struct chunk_list *list, struct sl_buf *out)
{
    unsigned char head[CHUNK_LIST_HEAD_BYTES];
    size_t from = out->len;
    memcpy(head, MAGIC, MAGIC_BYTES);
    put_le(head + MAGIC_BYTES, VERSION, 4);
    put_le(head + AT_CHUNK_BYTES, list->chunk_bytes, 4);
    put_le(head + AT_SIZE, list->size, 8);
    sl_status status = sl_buf_add(out, head, sizeof head);
    if (status == SL_OK) status = sl_buf_add(out, list->sums, (size_t)list->n * SHA256_BYTES);
    if (status == SL_OK) status = sha256_of(out->data + from, out->len - from, list->id);
    return status == SL_OK ? sl_buf_add(out, list->id, SHA256_BYTES) : status;
}
