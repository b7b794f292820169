/* unicode_norm.c: decompose, put marks in canonical order, compose (UAX 15, section 1.2 and
 * The Unicode Standard, 3.11 and 3.12). */
#include "base/unicode_norm.h"

#include "base/mem.h"
#include "base/unicode_norm_tables.h"
#include "base/utf8.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Below this every form leaves everything as it is. */
#define FIRST_CHANGED_COMPATIBLE 0xa0
#define DECOMPOSED_MAX 18 /* code points that one becomes: U+FDFA */

/* Hangul syllables by arithmetic. */
#define HANGUL_S 0xac00
#define HANGUL_L 0x1100
#define HANGUL_V 0x1161
#define HANGUL_T 0x11a7
#define HANGUL_L_COUNT 19
#define HANGUL_V_COUNT 21
#define HANGUL_T_COUNT 28
#define HANGUL_S_COUNT (HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT)

/* A code point with its combining class in the upper bits. */
typedef uint32_t point;
#define CLASS_SHIFT 24
#define CODE(p) ((p) & ((UINT32_C(1) << CLASS_SHIFT) - 1))
#define CLASS(p) ((p) >> CLASS_SHIFT)

struct points {
    point *at;
    size_t n, cap;
};

static point with_class(uint32_t c)
{
    size_t low = 0, high = COUNT(classes);
    if (c < classes[0].first) return c;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > classes[mid].last) {
            low = mid + 1;
        } else if (c < classes[mid].first) {
            high = mid;
        } else {
            return c | classes[mid].ccc << CLASS_SHIFT;
        }
    }
    return c;
}

static const struct unicode_mapping *find_mapping(const struct unicode_mapping *table, size_t n,
                                                  uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (table[mid].from == c) return &table[mid];
        if (table[mid].from < c)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static size_t decompose_hangul(uint32_t c, point out[DECOMPOSED_MAX])
{
    uint32_t s = c - HANGUL_S;
    out[0] = HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT);
    out[1] = HANGUL_V + s / HANGUL_T_COUNT % HANGUL_V_COUNT;
    out[2] = HANGUL_T + s % HANGUL_T_COUNT;
    return out[2] == HANGUL_T ? 2 : 3;
}

static size_t decompose(uint32_t c, bool compatible_too, point out[DECOMPOSED_MAX])
{
    out[0] = c;
    if (c < FIRST_CHANGED_COMPATIBLE) return 1;
    if (c >= HANGUL_S && c < HANGUL_S + HANGUL_S_COUNT) return decompose_hangul(c, out);
    const uint32_t *text = compatible_text;
    const struct unicode_mapping *found =
        compatible_too ? find_mapping(compatible, COUNT(compatible), c) : NULL;
    if (!found) {
        text = canonical_text;
        found = find_mapping(canonical, COUNT(canonical), c);
    }
    if (!found) {
        out[0] = with_class(c);
        return 1;
    }
    for (size_t i = 0; i < found->len; i++) out[i] = with_class(text[found->at + i]);
    return found->len;
}

static sl_status add_points(struct points *points, const point *from, size_t n)
{
    if (points->n + n > points->cap) {
        size_t cap = points->cap * 2 + n;
        point *grown = sl_realloc_array(points->at, cap, sizeof *grown);
        if (!grown) return SL_NOMEM;
        points->at = grown;
        points->cap = cap;
    }
    for (size_t i = 0; i < n; i++) points->at[points->n++] = from[i];
    return SL_OK;
}

/* Sorts marks[0..n) by class; equal classes keep their order. `space` holds n more. */
static void sort_marks(point *marks, point *space, size_t n)
{
    size_t start[256] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++) start[CLASS(marks[i])]++;
    for (size_t i = 0; i < COUNT(start); i++) {
        size_t count = start[i];
        start[i] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++) space[start[CLASS(marks[i])]++] = marks[i];
    for (size_t i = 0; i < n; i++) marks[i] = space[i];
}

static bool in_order(const point *marks, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (CLASS(marks[i - 1]) > CLASS(marks[i])) return false;
    return true;
}

/* `space` holds as many points as there are. */
static void order_marks(struct points *points, point *space)
{
    for (size_t i = 0, end; i < points->n; i = end) {
        end = i + 1;
        if (CLASS(points->at[i]) == 0) continue;
        while (end < points->n && CLASS(points->at[end]) != 0) end++;
        if (!in_order(points->at + i, end - i)) sort_marks(points->at + i, space, end - i);
    }
}

/* The composition of two code points, or 0. */
static uint32_t compose_pair(uint32_t first, uint32_t second)
{
    uint32_t l = first - HANGUL_L, v = second - HANGUL_V, s = first - HANGUL_S;
    if (l < HANGUL_L_COUNT && v < HANGUL_V_COUNT)
        return HANGUL_S + (l * HANGUL_V_COUNT + v) * HANGUL_T_COUNT;
    uint32_t t = second - HANGUL_T;
    if (s < HANGUL_S_COUNT && s % HANGUL_T_COUNT == 0 && t > 0 && t < HANGUL_T_COUNT)
        return first + t;
    size_t low = 0, high = COUNT(pairs);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (pairs[mid].first == first && pairs[mid].second == second) return pairs[mid].composed;
        if (pairs[mid].first < first || (pairs[mid].first == first && pairs[mid].second < second))
            low = mid + 1;
        else
            high = mid;
    }
    return 0;
}

/* In place. A mark joins the last starter unless one of its own class, or another starter, stands
 * between them. */
static void compose(struct points *points)
{
    size_t n = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < points->n; i++) {
        point p = points->at[i];
        bool adjacent = starter != SIZE_MAX && n == starter + 1;
        if (starter != SIZE_MAX && (adjacent || CLASS(points->at[n - 1]) < CLASS(p))) {
            uint32_t joined = compose_pair(CODE(points->at[starter]), CODE(p));
            if (joined) {
                points->at[starter] = joined;
                continue;
            }
        }
        if (CLASS(p) == 0) starter = n;
        points->at[n++] = p;
    }
    points->n = n;
}

static sl_status decompose_text(const char *s, size_t n, bool compatible_too, struct points *points)
{
    for (size_t at = 0; at < n;) {
        uint32_t c = 0xfffd;
        point parts[DECOMPOSED_MAX];
        size_t len = sl_utf8_decode(s + at, n - at, &c);
        at += len ? len : 1;
        sl_status status = add_points(points, parts, decompose(c, compatible_too, parts));
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status encode_points(const struct points *points, struct sl_buf *out)
{
    size_t before = out->len;
    for (size_t i = 0; i < points->n; i++) {
        char bytes[4];
        sl_status status = sl_buf_add(out, bytes, sl_utf8_encode(CODE(points->at[i]), bytes));
        if (status == SL_OK) continue;
        sl_buf_truncate(out, before);
        return status;
    }
    return SL_OK;
}

/* The text begins with this many bytes that are in every form; the last of them is left to the
 * rest, since a mark may follow. */
static size_t unchanged_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)s[i] < 0x80) i++;
    return i < n && i > 0 ? i - 1 : i;
}

sl_status sl_unicode_normalize(const char *s, size_t n, enum sl_unicode_form form,
                               struct sl_buf *out)
{
    size_t plain = unchanged_prefix(s, n), before = out->len;
    sl_status status = sl_buf_add(out, s, plain);
    if (status != SL_OK || plain == n) return status;

    struct points points = {0};
    point *space = NULL;
    bool compatible_too = form == SL_UNICODE_NFKC || form == SL_UNICODE_NFKD;
    status = decompose_text(s + plain, n - plain, compatible_too, &points);
    if (status != SL_OK) goto done;
    space = sl_malloc(points.n * sizeof *space);
    status = SL_NOMEM;
    if (!space) goto done;
    order_marks(&points, space);
    if (form == SL_UNICODE_NFC || form == SL_UNICODE_NFKC) compose(&points);
    status = encode_points(&points, out);
done:
    sl_free(space);
    sl_free(points.at);
    if (status != SL_OK) sl_buf_truncate(out, before);
    return status;
}
