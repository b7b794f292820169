#include "grid/part_journal.h"
#include <string.h>

#define MAGIC "SLPARTJ1"
#define MAGIC_BYTES (sizeof MAGIC - 1)
#define AT_BITS (MAGIC_BYTES + SHA256_BYTES)

static bool is_sound(const unsigned char *p, size_t n, const struct chunk_list *list)
{
    unsigned char sum[SHA256_BYTES];
    size_t n_bits = ((size_t)list->n + 7) / 8;
    return n == AT_BITS + n_bits + SHA256_BYTES && memcmp(p, MAGIC, MAGIC_BYTES) == 0 &&
           memcmp(p + MAGIC_BYTES, list->id, SHA256_BYTES) == 0 &&
           sha256_of(p, AT_BITS + n_bits, sum) == SL_OK &&
           memcmp(p + AT_BITS + n_bits, sum, SHA256_BYTES) == 0;
}

bool part_journal_parse(const void *bytes, size_t n, const struct chunk_list *list, uint8_t *here)
{
    const unsigned char *p = bytes;
    bool ok = is_sound(p, n, list);
    for (uint32_t i = 0; i < list->n; i++) here[i] = ok && (p[AT_BITS + i / 8] >> i % 8 & 1);
    return ok;
}

sl_status part_journal_write(const struct chunk_list *list, const uint8_t *here, struct sl_buf *out)
{
    unsigned char sum[SHA256_BYTES];
    size_t from = out->len;
    sl_status status = sl_buf_add(out, MAGIC, MAGIC_BYTES);
    if (status == SL_OK) status = sl_buf_add(out, list->id, SHA256_BYTES);
    for (uint32_t i = 0; i < list->n && status == SL_OK; i += 8) {
        unsigned byte = 0;
        for (uint32_t k = i; k < list->n && k < i + 8; k++)
            byte |= (unsigned)(here[k] == 1) << k % 8;
        status = sl_buf_addc(out, (char)byte);
    }
    if (status == SL_OK) status = sha256_of(out->data + from, out->len - from, sum);
    return status == SL_OK ? sl_buf_add(out, sum, sizeof sum) : status;
}
