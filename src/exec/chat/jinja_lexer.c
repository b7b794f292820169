/* jinja_lexer.c: template text to tokens, with the white space that tags swallow already gone.
 * After jinja2/lexer.py with trim_blocks and lstrip_blocks. Lines are counted in the source as it
 * was written. */
#include "base/utf8.h"
#include "exec/chat/jinja_ast.h"
#include "base/unicode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_FIRST 256
#define BRACKETS_MAX 128 /* open at a time; JINJA_HEIGHT_MAX would refuse more anyway */
#define NUMBER_TEXT_MAX 64

struct lexer {
    struct jinja_reader *reader;
    const char *s;
    size_t n;
    size_t at;
    int line;
    struct jinja_tokens *out;
    char brackets[BRACKETS_MAX]; /* the closing ones that are waited for */
    size_t n_brackets;
};

bool jinja_reader_fail(struct jinja_reader *reader, sl_status status, int line, const char *fmt,
                       ...)
{
    char text[SL_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    reader->status = sl_err_set(reader->err, status, "template line %d: %s", line, text);
    return false;
}

void *jinja_reader_alloc(struct jinja_reader *reader, size_t count, size_t size)
{
    void *p = sl_arena_array(reader->arena, count, size);
    if (p) return p;
    bool full = reader->arena->used_bytes + count * size > reader->arena->max_bytes;
    reader->status = sl_err_set(reader->err, full ? SL_LIMIT : SL_NOMEM,
                                full ? "template: needs more than %zu bytes"
                                     : "template: no memory left (of %zu bytes)",
                                reader->arena->max_bytes);
    return NULL;
}

static struct jinja_token *add(struct lexer *lx, enum jinja_token_kind kind, const char *s,
                               size_t n)
{
    struct jinja_tokens *out = lx->out;
    if (out->n == out->cap) {
        size_t cap = out->cap ? 2 * out->cap : TOKENS_FIRST;
        struct jinja_token *v = jinja_reader_alloc(lx->reader, cap, sizeof *v);
        if (!v) return NULL;
        if (out->n) memcpy(v, out->v, out->n * sizeof *v);
        out->v = v;
        out->cap = cap;
    }
    struct jinja_token *token = &out->v[out->n++];
    *token = (struct jinja_token){.kind = kind, .line = lx->line, .s = s, .n = n};
    return token;
}

static bool fail(struct lexer *lx, const char *what)
{
    return jinja_reader_fail(lx->reader, SL_INVALID, lx->line, "%s", what);
}

static bool starts_with(const struct lexer *lx, size_t at, const char *s)
{
    size_t n = strlen(s);
    return n <= lx->n - at && memcmp(lx->s + at, s, n) == 0;
}

/* Moves on to `to`, counting lines. */
static void advance(struct lexer *lx, size_t to)
{
    for (; lx->at < to; lx->at++) lx->line += lx->s[lx->at] == '\n';
}

static size_t space_at(const struct lexer *lx, size_t at)
{
    uint32_t c;
    if (at >= lx->n) return 0;
    size_t len = sl_utf8_decode(lx->s + at, lx->n - at, &c);
    return len && sl_unicode_is_space(c) ? len : 0;
}

static size_t skip_space(const struct lexer *lx, size_t at)
{
    for (size_t len; (len = space_at(lx, at)) > 0;) at += len;
    return at;
}

static size_t strip_right(const struct lexer *lx, size_t from, size_t to)
{
    while (to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)lx->s[at] & 0xc0) == 0x80) at--;
        if (!space_at(lx, at)) break;
        to = at;
    }
    return to;
}

/* Where text before a tag ends: the tag's sign may take the white space, and a block tag alone on
 * its line takes the indentation. */
static size_t text_end(const struct lexer *lx, size_t from, size_t to, char sign, bool block)
{
    if (sign == '-') return strip_right(lx, from, to);
    if (sign == '+' || !block) return to;
    size_t line = to;
    while (line > from && lx->s[line - 1] != '\n') line--;
    if (line == from && from > 0 && lx->s[from - 1] != '\n') return to;
    for (size_t at = line; at < to;) {
        size_t len = space_at(lx, at);
        if (!len) return to;
        at += len;
    }
    return line;
}

static char sign_at(const struct lexer *lx, size_t at)
{
    return at < lx->n && (lx->s[at] == '-' || lx->s[at] == '+') ? lx->s[at] : '\0';
}

/* Length of the closing tag at `at` with what it swallows behind, or 0. `plus`: +%} is allowed. */
static size_t close_at(const struct lexer *lx, size_t at, const char *close, bool block)
{
    char sign = sign_at(lx, at);
    size_t tag = at + (sign != '\0');
    if (tag > lx->n || !starts_with(lx, tag, close) || (sign == '+' && !block)) return 0;
    size_t end = tag + 2;
    if (sign == '-') return skip_space(lx, end) - at;
    if (sign == '\0' && block && end < lx->n && lx->s[end] == '\n') end++;
    return end - at;
}

static bool add_text(struct lexer *lx, size_t from, size_t to)
{
    return from == to || add(lx, JINJA_T_DATA, lx->s + from, to - from) != NULL;
}

/* If a tag "{% NAME %}" stands at `at`, its inside up to the closing: else 0. */
static size_t word_tag_at(const struct lexer *lx, size_t at, const char *name)
{
    if (!starts_with(lx, at, "{%")) return 0;
    size_t word = skip_space(lx, at + 2 + (sign_at(lx, at + 2) != '\0'));
    if (!starts_with(lx, word, name)) return 0;
    return skip_space(lx, word + strlen(name));
}

/* At "{% raw %}", whose inside ends at `close`: everything up to endraw is text. */
static bool lex_raw(struct lexer *lx, size_t close)
{
    size_t begin = starts_with(lx, close, "-%}") ? skip_space(lx, close + 3) : close + 2;
    advance(lx, begin);
    for (size_t at = begin; at < lx->n; at++) {
        size_t inside = word_tag_at(lx, at, "endraw");
        size_t len = inside ? close_at(lx, inside, "%}", true) : 0;
        if (!len) continue;
        if (!add_text(lx, begin, text_end(lx, begin, at, sign_at(lx, at + 2), true))) return false;
        advance(lx, inside + len);
        return true;
    }
    return fail(lx, "Missing end of raw directive");
}

static bool lex_comment(struct lexer *lx, size_t begin)
{
    for (size_t at = begin; at + 1 < lx->n; at++) {
        size_t len = close_at(lx, at, "#}", true);
        if (!len) continue;
        advance(lx, at + len);
        return true;
    }
    return fail(lx, "Missing end of comment tag");
}

static size_t append_utf8(struct lexer *lx, uint32_t codepoint, char *out)
{
    size_t n = sl_utf8_encode(codepoint, out);
    if (!n) fail(lx, "\\u escape is not a character");
    return n;
}

/* Reads `digits` hexadecimal digits behind an escape's letter. Bytes written; 0: failed. */
static size_t hex_escape(struct lexer *lx, const char *s, size_t n, size_t digits, char *out)
{
    char text[9] = "";
    if (n < digits) return fail(lx, "truncated escape"), 0;
    memcpy(text, s, digits);
    if (strspn(text, "0123456789abcdefABCDEF") != digits) return fail(lx, "truncated escape"), 0;
    return append_utf8(lx, (uint32_t)strtoul(text, NULL, 16), out);
}

/* One escape at s[0] = '\\', n bytes left. Sets *used; returns the bytes written to out, or -1. */
static int unescape_one(struct lexer *lx, const char *s, size_t n, size_t *used, char *out)
{
    static const char letters[] = "\\'\"abfnrtv";
    static const char meant[] = "\\'\"\a\b\f\n\r\t\v";
    *used = 2;
    if (n < 2) return fail(lx, "\\ at end of string"), -1;
    const char *simple = strchr(letters, s[1]);
    if (simple && s[1]) return out[0] = meant[simple - letters], 1;
    if (s[1] == '\n') return 0;
    size_t digits = s[1] == 'x' ? 2 : s[1] == 'u' ? 4 : s[1] == 'U' ? 8 : 0;
    if (digits) {
        *used = 2 + digits;
        size_t len = hex_escape(lx, s + 2, n - 2, digits, out);
        return len ? (int)len : -1;
    }
    if (s[1] >= '0' && s[1] <= '7') {
        uint32_t v = 0;
        size_t i = 1;
        for (; i < 4 && i < n && s[i] >= '0' && s[i] <= '7'; i++)
            v = v * 8 + (uint32_t)(s[i] - '0');
        *used = i;
        return (int)append_utf8(lx, v, out);
    }
    if (s[1] == 'N') return fail(lx, "\\N{...} is not supported"), -1;
    out[0] = '\\'; /* no escape: both characters stand */
    *used = 1;
    return 1;
}

/* The string token s[0..n), without its quotes. No escape makes the text longer. */
static bool add_string(struct lexer *lx, const char *s, size_t n)
{
    if (!memchr(s, '\\', n)) return add(lx, JINJA_T_STRING, s, n) != NULL;
    char *text = jinja_reader_alloc(lx->reader, n + 1, 1);
    size_t len = 0;
    if (!text) return false;
    for (size_t i = 0; i < n;) {
        char piece[4] = {s[i]};
        size_t used = 1;
        int n_piece = s[i] == '\\' ? unescape_one(lx, s + i, n - i, &used, piece) : 1;
        if (n_piece < 0 || (n_piece == 0 && s[i + 1] != '\n')) return false;
        memcpy(text + len, piece, (size_t)n_piece);
        len += (size_t)n_piece;
        i += used;
    }
    return add(lx, JINJA_T_STRING, text, len) != NULL;
}

static bool lex_string(struct lexer *lx)
{
    char quote = lx->s[lx->at];
    size_t end = lx->at + 1;
    while (end < lx->n && lx->s[end] != quote) end += lx->s[end] == '\\' ? 2 : 1;
    if (end >= lx->n) return fail(lx, "a string is not closed");
    if (!add_string(lx, lx->s + lx->at + 1, end - lx->at - 1)) return false;
    advance(lx, end + 1);
    return true;
}

static size_t digits_at(const struct lexer *lx, size_t at, const char *digits)
{
    size_t end = at;
    while (end < lx->n &&
           ((lx->s[end] && strchr(digits, lx->s[end])) ||
            (end > at && lx->s[end] == '_' && end + 1 < lx->n && lx->s[end + 1] != '_' &&
             lx->s[end + 1] && strchr(digits, lx->s[end + 1]))))
        end++;
    return end - at;
}

/* Length of ".5", "e-3" or ".5e-3" at `at`, which makes the number before it a float; else 0. */
static size_t fraction_at(const struct lexer *lx, size_t at)
{
    static const char decimal[] = "0123456789";
    size_t len = 0;
    if (at < lx->n && lx->s[at] == '.') {
        size_t n = digits_at(lx, at + 1, decimal);
        if (!n) return 0;
        len = 1 + n;
    }
    size_t e = at + len;
    if (e < lx->n && (lx->s[e] == 'e' || lx->s[e] == 'E')) {
        size_t sign = sign_at(lx, e + 1) != '\0', n = digits_at(lx, e + 1 + sign, decimal);
        if (n) len += 1 + sign + n;
    }
    return len;
}

/* Copies s[0..n) without its underscores. */
static bool number_text(struct lexer *lx, const char *s, size_t n, char out[NUMBER_TEXT_MAX])
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '_') continue;
        if (len + 1 >= NUMBER_TEXT_MAX) return fail(lx, "a number is too long");
        out[len++] = s[i];
    }
    out[len] = '\0';
    return true;
}

static size_t integer_at(const struct lexer *lx, int *base)
{
    static const struct {
        const char *prefix, *digits;
        int base;
    } forms[] = {
        {"0x", "0123456789abcdefABCDEF", 16},
        {"0X", "0123456789abcdefABCDEF", 16},
        {"0o", "01234567", 8},
        {"0O", "01234567", 8},
        {"0b", "01", 2},
        {"0B", "01", 2},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = starts_with(lx, lx->at, forms[i].prefix)
                       ? digits_at(lx, lx->at + 2, forms[i].digits)
                       : 0;
        *base = forms[i].base;
        if (n) return 2 + n;
    }
    *base = 10;
    return digits_at(lx, lx->at, lx->s[lx->at] == '0' ? "0" : "0123456789");
}

static bool lex_number(struct lexer *lx)
{
    char text[NUMBER_TEXT_MAX];
    size_t whole = digits_at(lx, lx->at, "0123456789");
    size_t fraction = fraction_at(lx, lx->at + whole);
    if (lx->at > 0 && lx->s[lx->at - 1] == '.') fraction = 0; /* a.0.1: two indices */
    int base = 10;
    size_t len = fraction ? whole + fraction : integer_at(lx, &base);
    if (!number_text(lx, lx->s + lx->at, len, text)) return false;
    struct jinja_token *token =
        add(lx, fraction ? JINJA_T_FLOAT : JINJA_T_INT, lx->s + lx->at, len);
    if (!token) return false;
    char *end;
    if (fraction) {
        token->f = strtod(text, &end);
    } else {
        unsigned long long v = strtoull(base == 10 ? text : text + 2, &end, base);
        if (v > INT64_MAX) return fail(lx, "an integer is past 64 bits");
        token->i = (int64_t)v;
    }
    advance(lx, lx->at + len);
    return true;
}

static size_t name_at(const struct lexer *lx)
{
    size_t end = lx->at;
    while (end < lx->n) {
        uint32_t c;
        size_t len = sl_utf8_decode(lx->s + end, lx->n - end, &c);
        if (!len || (c != '_' && !sl_unicode_is_alnum(c))) break;
        end += len;
    }
    return end - lx->at;
}

static bool track_bracket(struct lexer *lx, char c)
{
    if (strchr("([{", c)) {
        if (lx->n_brackets == BRACKETS_MAX) return fail(lx, "too many open brackets");
        lx->brackets[lx->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        return true;
    }
    if (!strchr(")]}", c)) return true;
    if (lx->n_brackets == 0)
        return jinja_reader_fail(lx->reader, SL_INVALID, lx->line, "unexpected '%c'", c);
    char expected = lx->brackets[--lx->n_brackets];
    return expected == c || jinja_reader_fail(lx->reader, SL_INVALID, lx->line,
                                              "unexpected '%c', expected '%c'", c, expected);
}

static bool lex_operator(struct lexer *lx)
{
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t n = 1;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++) {
        if (starts_with(lx, lx->at, two[i])) n = 2;
    }
    char c = lx->s[lx->at];
    if (n == 1 && (c == '\0' || !strchr("+-/*%~[](){}><=.:|,;", c))) {
        uint32_t codepoint = 0;
        (void)sl_utf8_decode(lx->s + lx->at, lx->n - lx->at, &codepoint);
        return jinja_reader_fail(lx->reader, SL_INVALID, lx->line, "unexpected char U+%04X",
                                 (unsigned)codepoint);
    }
    if (n == 1 && !track_bracket(lx, c)) return false;
    if (!add(lx, JINJA_T_OPERATOR, lx->s + lx->at, n)) return false;
    lx->at += n;
    return true;
}

static bool lex_expression_token(struct lexer *lx)
{
    char c = lx->s[lx->at];
    if (c == '\'' || c == '"') return lex_string(lx);
    if (c >= '0' && c <= '9') return lex_number(lx);
    size_t n = name_at(lx);
    if (n == 0) return lex_operator(lx);
    if (!add(lx, JINJA_T_NAME, lx->s + lx->at, n)) return false;
    lx->at += n;
    return true;
}

/* From behind "{{" or "{%" to behind the closing tag. */
static bool lex_inside(struct lexer *lx, bool block)
{
    const char *close = block ? "%}" : "}}";
    while (lx->at < lx->n) {
        size_t len = lx->n_brackets ? 0 : close_at(lx, lx->at, close, block);
        if (len) {
            if (!add(lx, block ? JINJA_T_BLOCK_END : JINJA_T_VARIABLE_END, close, 2)) return false;
            advance(lx, lx->at + len);
            return true;
        }
        size_t space = skip_space(lx, lx->at);
        if (space > lx->at) {
            advance(lx, space);
        } else if (!lex_expression_token(lx)) {
            return false;
        }
    }
    lx->n_brackets = 0;
    return true; /* the parser says what is missing */
}

/* Where the next tag begins, or n. */
static size_t next_tag(const struct lexer *lx)
{
    for (size_t at = lx->at; at + 1 < lx->n; at++) {
        const char *brace = memchr(lx->s + at, '{', lx->n - at - 1);
        if (!brace) break;
        at = (size_t)(brace - lx->s);
        if (strchr("{%#", brace[1]) && brace[1]) return at;
    }
    return lx->n;
}

static bool lex_tag(struct lexer *lx, size_t tag)
{
    char kind = lx->s[tag + 1];
    if (!add_text(lx, lx->at, text_end(lx, lx->at, tag, sign_at(lx, tag + 2), kind != '{')))
        return false;
    advance(lx, tag);
    size_t raw = word_tag_at(lx, tag, "raw");
    if (raw && (starts_with(lx, raw, "%}") || starts_with(lx, raw, "-%}"))) return lex_raw(lx, raw);
    size_t begin = tag + 2 + (sign_at(lx, tag + 2) != '\0');
    if (kind == '#') return lex_comment(lx, begin);
    bool block = kind == '%';
    if (!add(lx, block ? JINJA_T_BLOCK_BEGIN : JINJA_T_VARIABLE_BEGIN, lx->s + tag, 2))
        return false;
    advance(lx, begin);
    return lex_inside(lx, block);
}

bool jinja_lex(struct jinja_reader *reader, const char *source, size_t n, struct jinja_tokens *out)
{
    struct lexer lx = {.reader = reader, .s = source, .n = n, .line = 1, .out = out};
    *out = (struct jinja_tokens){0};
    while (lx.at < n) {
        size_t tag = next_tag(&lx);
        if (tag < n) {
            if (!lex_tag(&lx, tag)) return false;
            continue;
        }
        if (!add_text(&lx, lx.at, n)) return false;
        advance(&lx, n);
    }
    return add(&lx, JINJA_T_END, source + n, 0) != NULL;
}
