/* unicode.c: binary searches in generated tables; ASCII is answered without them. */
#include "base/unicode.h"

#include "base/unicode_tables.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define FIND(table, c) in_runs(table, COUNT(table), c)

static bool in_runs(const struct unicode_run *runs, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > runs[mid].last) {
            low = mid + 1;
        } else if (c < runs[mid].first) {
            high = mid;
        } else {
            return (c - runs[mid].first) % runs[mid].step == 0;
        }
    }
    return false;
}

bool sl_unicode_is_space(uint32_t c)
{
    if (c < 0x80) return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool sl_unicode_is_alpha(uint32_t c)
{
    return FIND(alpha, c);
}

bool sl_unicode_is_decimal(uint32_t c)
{
    return FIND(decimal, c);
}

bool sl_unicode_is_digit(uint32_t c)
{
    return FIND(digit, c);
}

bool sl_unicode_is_numeric(uint32_t c)
{
    return FIND(numeric, c);
}

bool sl_unicode_is_alnum(uint32_t c)
{
    return sl_unicode_is_alpha(c) || sl_unicode_is_numeric(c);
}

bool sl_unicode_is_printable(uint32_t c)
{
    return c < 0x7f ? c >= 0x20 : !FIND(unprintable, c);
}

bool sl_unicode_is_lower(uint32_t c)
{
    return FIND(is_lower, c);
}

bool sl_unicode_is_upper(uint32_t c)
{
    return FIND(is_upper, c);
}

bool sl_unicode_is_title(uint32_t c)
{
    return FIND(is_title, c);
}

bool sl_unicode_is_case_ignorable(uint32_t c)
{
    return FIND(case_ignorable, c);
}

bool sl_unicode_is_white_space(uint32_t c)
{
    return sl_unicode_is_space(c) && !(c >= 0x1c && c <= 0x1f);
}

bool sl_unicode_is_punctuation(uint32_t c)
{
    return FIND(punctuation, c);
}

bool sl_unicode_is_mark(uint32_t c)
{
    return c >= 0x300 && FIND(mark, c);
}

bool sl_unicode_is_mark_nonspacing(uint32_t c)
{
    return c >= 0x300 && FIND(mark_nonspacing, c);
}

bool sl_unicode_is_number(uint32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : FIND(number, c);
}

bool sl_unicode_is_format(uint32_t c)
{
    return c >= 0x80 && FIND(format, c);
}

/* Letters that are symbols by category: circled, squared and negative ones. The other characters
 * with Other_Alphabetic are marks. */
static bool is_symbol_letter(uint32_t c)
{
    return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
           (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

bool sl_unicode_is_word(uint32_t c)
{
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               c == '_';
    return sl_unicode_is_alpha(c) || sl_unicode_is_mark(c) || sl_unicode_is_decimal(c) ||
           FIND(letter_number, c) || FIND(connector, c) || c == 0x200c || c == 0x200d ||
           is_symbol_letter(c);
}

static size_t map_special(const struct unicode_special *table, size_t n, uint32_t c,
                          uint32_t out[SL_UNICODE_CASE_MAX])
{
    size_t n_out = 0;
    for (size_t i = 0; i < n; i++) {
        if (table[i].from != c) continue;
        while (n_out < SL_UNICODE_CASE_MAX && table[i].to[n_out]) {
            out[n_out] = table[i].to[n_out];
            n_out++;
        }
    }
    return n_out;
}

/* Runs of different steps may overlap (the odd and the even ones of a block shift by other
 * amounts), so all of them are looked at. */
static uint32_t shift(const struct unicode_shift *table, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n && table[i].first <= c; i++) {
        if (c <= table[i].last && (c - table[i].first) % table[i].step == 0)
            return (uint32_t)((int64_t)c + table[i].delta);
    }
    return c;
}

/* CJK and Hangul, where the search would be longest and texts are. */
static bool is_caseless_block(uint32_t c)
{
    return (c >= 0x2e80 && c <= 0xa63f) || (c >= 0xac00 && c <= 0xfaff);
}

size_t sl_unicode_to_case(uint32_t c, enum sl_unicode_case to, uint32_t out[SL_UNICODE_CASE_MAX])
{
    size_t n = 0;
    if (c < 0x80) {
        bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
        out[0] = c;
        if (to == SL_UNICODE_LOWER ? upper : lower) out[0] = c ^ 0x20;
        return 1;
    }
    out[0] = c;
    if (is_caseless_block(c)) return 1;
    switch (to) {
    case SL_UNICODE_UPPER:
        n = map_special(upper_special, COUNT(upper_special), c, out);
        if (n == 0) out[0] = shift(upper_shift, COUNT(upper_shift), c);
        break;
    case SL_UNICODE_LOWER:
        n = map_special(lower_special, COUNT(lower_special), c, out);
        if (n == 0) out[0] = shift(lower_shift, COUNT(lower_shift), c);
        break;
    case SL_UNICODE_TITLE:
        n = map_special(title_special, COUNT(title_special), c, out);
        if (n == 0) out[0] = shift(title_shift, COUNT(title_shift), c);
        break;
    }
    return n ? n : 1;
}
