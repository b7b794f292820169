/* text_bytes.c: characters and bytes: the byte-level alphabet, classes, growing arrays. */
#include "base/mem.h"
#include "base/unicode.h"
#include "base/utf8.h"
#include "exec/text/text_int.h"

#define ITEMS_MIN 64 /* most words and texts need no more */

/* Bytes that are printable in Latin-1 stand for themselves; the other 68 are U+0100 to U+0143 in
 * order (GPT-2's bytes_to_unicode). */
static bool stands_for_itself(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

uint32_t text_byte_to_char(unsigned char byte)
{
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xad ? 0x143u : 0x100u + 0x21 + (byte - 0x7fu);
}

int text_char_to_byte(uint32_t c)
{
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c <= 0x142) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

sl_status text_bytes_encode(const char *s, size_t n, struct sl_buf *out)
{
    for (size_t i = 0; i < n; i++) {
        char bytes[4];
        size_t len = sl_utf8_encode(text_byte_to_char((unsigned char)s[i]), bytes);
        sl_status status = sl_buf_add(out, bytes, len);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

bool text_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) ||
               (c >= 0x7b && c <= 0x7e);
    return sl_unicode_is_punctuation(c);
}

size_t text_char(const char *s, size_t n, uint32_t *out)
{
    size_t len = sl_utf8_decode(s, n, out);
    if (len) return len;
    *out = 0xfffd; /* not reached: texts are checked when they come in */
    return 1;
}

void *text_reserve(void *items, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap) return items;
    size_t want = n > *cap * 2 ? n : *cap * 2;
    if (want < ITEMS_MIN) want = ITEMS_MIN;
    void *grown = sl_realloc_array(items, want, size);
    if (grown) *cap = want;
    return grown;
}

sl_status text_pieces_add(struct text_pieces *pieces, struct text_piece piece)
{
    struct text_piece *at = text_reserve(pieces->at, &pieces->cap, pieces->n + 1, sizeof *at);
    if (!at) return SL_NOMEM;
    pieces->at = at;
    at[pieces->n++] = piece;
    return SL_OK;
}

sl_status text_ids_add(struct text_ids *ids, int32_t id)
{
    int32_t *at = text_reserve(ids->at, &ids->cap, ids->n + 1, sizeof *at);
    if (!at) return SL_NOMEM;
    ids->at = at;
    at[ids->n++] = id;
    return SL_OK;
}

sl_status text_find(struct text_scratch *scratch, const struct text_regex *regex,
                    struct text_span text, size_t from, bool *out_found, struct text_cut *out)
{
    size_t start = 0, end = 0;
    if (!scratch->regex) {
        sl_status status = text_regex_scratch_create(&scratch->regex);
        if (status != SL_OK) return status;
    }
    sl_status status =
        text_regex_find(regex, scratch->regex, text.s, text.n, from, out_found, &start, &end);
    if (status != SL_OK) return status;
    *out = (struct text_cut){(uint32_t)start, (uint32_t)end, *out_found};
    return SL_OK;
}
