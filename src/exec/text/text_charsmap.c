/* text_charsmap.c: SentencePiece's precompiled character map, a double-array trie from strings to
 * offsets in a pool of NUL-ended replacements.
 * Source: https://github.com/google/sentencepiece/blob/master/src/normalizer.cc (the layout),
 * https://github.com/s-yata/darts-clone (the units). */
#include "base/base64.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "exec/text/text_int.h"

#define CHARSMAP_MAX ((size_t)16 << 20) /* nmt_nfkc, the usual one, takes 240 KB */
/* Only clusters shorter than this are looked up whole: so the reference does. */
#define CLUSTER_BYTES_MAX 5

struct text_charsmap {
    struct sl_buf blob; /* length of the trie, trie, pool */
    const char *units;  /* [n_units] little-endian uint32 */
    size_t n_units;
    const char *pool; /* [n_pool], the last byte is NUL */
    size_t n_pool;
    struct text_regex *cluster; /* an extended grapheme cluster, UAX 29 */
};

static uint32_t read_le32(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static sl_status read_blob(struct text_charsmap *map, const char *base64, size_t n,
                           struct sl_err *err)
{
    sl_status status = sl_base64_decode(&map->blob, SL_BASE64_STANDARD, base64, n);
    if (status != SL_OK)
        return sl_err_set(err, status, "precompiled_charsmap: %s", sl_status_text(status));
    const char *blob = map->blob.data;
    size_t trie = map->blob.len < 4 ? 0 : read_le32(blob);
    if (trie < 4 || trie % 4 || trie > map->blob.len - 4)
        return sl_err_set(err, SL_CORRUPT, "precompiled_charsmap: a trie of %zu in %zu bytes", trie,
                          map->blob.len);
    map->units = blob + 4;
    map->n_units = trie / 4;
    map->pool = map->units + trie;
    map->n_pool = map->blob.len - 4 - trie;
    if (map->n_pool == 0 || map->pool[map->n_pool - 1] != '\0')
        return sl_err_set(err, SL_CORRUPT, "precompiled_charsmap: its last string has no end");
    return sl_utf8_valid(map->pool, map->n_pool)
               ? SL_OK
               : sl_err_set(err, SL_CORRUPT, "precompiled_charsmap: it is not UTF-8");
}

sl_status text_charsmap_create(const char *base64, size_t n, struct text_charsmap **out,
                               struct sl_err *err)
{
    struct text_charsmap *map = sl_calloc(1, sizeof *map);
    if (!map) return sl_err_set(err, SL_NOMEM, "no memory for a character map");
    sl_buf_init(&map->blob, CHARSMAP_MAX);
    sl_status status = read_blob(map, base64, n, err);
    if (status == SL_OK) status = text_regex_compile("\\X", 2, &map->cluster, err);
    if (status != SL_OK) goto fail;
    *out = map;
    return SL_OK;
fail:
    text_charsmap_destroy(map);
    return status;
}

void text_charsmap_destroy(struct text_charsmap *map)
{
    if (!map) return;
    text_regex_destroy(map->cluster);
    sl_buf_done(&map->blob);
    sl_free(map);
}

static uint32_t unit_at(const struct text_charsmap *map, size_t i)
{
    return i < map->n_units ? read_le32(map->units + 4 * i) : 0;
}

/* Where the children of a unit lie, relative to it. */
static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest key that s[0..n) begins with; NULL: none. */
static const char *find_replacement(const struct text_charsmap *map, const char *s, size_t n)
{
    size_t at = unit_offset(unit_at(map, 0));
    for (size_t i = 0; i < n && s[i]; i++) {
        at ^= (unsigned char)s[i];
        uint32_t unit = unit_at(map, at);
        if ((unit & (1u << 31 | 0xff)) != (unsigned char)s[i]) return NULL;
        at ^= unit_offset(unit);
        if (unit >> 8 & 1) {
            size_t pool_at = unit_at(map, at) & ~(UINT32_C(1) << 31);
            bool starts =
                pool_at < map->n_pool && ((unsigned char)map->pool[pool_at] & 0xc0) != 0x80;
            return starts ? map->pool + pool_at : NULL; /* not inside a character */
        }
    }
    return NULL;
}

static sl_status map_cluster(const struct text_charsmap *map, const char *s, size_t n,
                             struct sl_buf *out)
{
    const char *whole = n <= CLUSTER_BYTES_MAX ? find_replacement(map, s, n) : NULL;
    if (whole) return sl_buf_adds(out, whole);
    for (size_t at = 0; at < n;) {
        uint32_t c;
        size_t len = text_char(s + at, n - at, &c);
        const char *part = find_replacement(map, s + at, len);
        sl_status status = part ? sl_buf_adds(out, part) : sl_buf_add(out, s + at, len);
        if (status != SL_OK) return status;
        at += len;
    }
    return SL_OK;
}

/* Two ASCII characters in a row never share a cluster, but for CR LF. */
static bool is_lone(const char *s, size_t n)
{
    return (unsigned char)s[0] < 0x80 && s[0] != '\r' && (n == 1 || (unsigned char)s[1] < 0x80);
}

sl_status text_charsmap_run(const struct text_charsmap *map, struct text_scratch *scratch,
                            struct text_span text, struct sl_buf *out)
{
    for (size_t at = 0; at < text.n;) {
        size_t n = 1;
        if (!is_lone(text.s + at, text.n - at)) {
            struct text_cut cut;
            bool found;
            sl_status status = text_find(scratch, map->cluster, text, at, &found, &cut);
            if (status != SL_OK) return status;
            if (!found || cut.from != at || cut.to == at) return SL_INTERNAL;
            n = cut.to - at;
        }
        size_t before = out->len;
        sl_status status = map_cluster(map, text.s + at, n, out);
        if (status != SL_OK) return status;
        if (at == 0 && out->len == before) scratch->lead_dropped = true;
        at += n;
    }
    return SL_OK;
}
