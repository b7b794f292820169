/* chat_parser_json.c: the automaton behind json_scan. */
#include "access/chat_parser_json.h"

#include <string.h>

bool json_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool go(struct json_scan *scan, enum json_scan_state state)
{
    scan->state = state;
    return true;
}

static bool value_end(struct json_scan *scan)
{
    return go(scan, scan->depth > 0 ? SCAN_NEXT : SCAN_DONE);
}

static bool open_container(struct json_scan *scan, bool is_object)
{
    if (scan->depth == JSON_SCAN_DEPTH_MAX) return false;
    uint64_t bit = (uint64_t)1 << scan->depth++;
    scan->is_object = is_object ? scan->is_object | bit : scan->is_object & ~bit;
    return go(scan, is_object ? SCAN_KEY_OR_END : SCAN_ITEM_OR_END);
}

static bool in_object(const struct json_scan *scan)
{
    return scan->is_object >> (scan->depth - 1) & 1;
}

static bool close_container(struct json_scan *scan, char c)
{
    if (c != (in_object(scan) ? '}' : ']')) return false;
    scan->depth--;
    return value_end(scan);
}

static bool open_string(struct json_scan *scan, bool is_key)
{
    scan->is_key = is_key;
    return go(scan, SCAN_STRING);
}

static bool open_word(struct json_scan *scan, const char *rest)
{
    scan->word = rest;
    return go(scan, SCAN_WORD);
}

static bool value_begin(struct json_scan *scan, char c)
{
    switch (c) {
    case '{': return open_container(scan, true);
    case '[': return open_container(scan, false);
    case '"': return open_string(scan, false);
    case 't': return open_word(scan, "rue");
    case 'f': return open_word(scan, "alse");
    case 'n': return open_word(scan, "ull");
    case '-': return go(scan, SCAN_MINUS);
    case '0': return go(scan, SCAN_ZERO);
    default: return is_digit(c) && go(scan, SCAN_INTEGER);
    }
}

static bool next_or_end(struct json_scan *scan, char c)
{
    if (c != ',') return close_container(scan, c);
    return go(scan, in_object(scan) ? SCAN_KEY : SCAN_VALUE);
}

/* Where white space may stand. */
static bool structure_byte(struct json_scan *scan, char c)
{
    if (json_is_space(c)) return true;
    switch (scan->state) {
    case SCAN_ITEM_OR_END: return c == ']' ? close_container(scan, c) : value_begin(scan, c);
    case SCAN_KEY_OR_END:
        return c == '}' ? close_container(scan, c) : c == '"' && open_string(scan, true);
    case SCAN_KEY: return c == '"' && open_string(scan, true);
    case SCAN_COLON: return c == ':' && go(scan, SCAN_VALUE);
    case SCAN_NEXT: return next_or_end(scan, c);
    default: return value_begin(scan, c);
    }
}

static bool string_byte(struct json_scan *scan, char c)
{
    if (c == '\\') return go(scan, SCAN_ESCAPE);
    if (c == '"') return scan->is_key ? go(scan, SCAN_COLON) : value_end(scan);
    return (unsigned char)c >= 0x20;
}

static bool open_hex(struct json_scan *scan, bool is_low)
{
    scan->n_hex = 0;
    scan->code = 0;
    scan->is_low = is_low;
    return go(scan, SCAN_HEX);
}

static bool hex_byte(struct json_scan *scan, char c)
{
    static const char digits[] = "0123456789abcdef";
    char lower = c >= 'A' && c <= 'F' ? (char)(c + ('a' - 'A')) : c;
    const char *digit = lower ? strchr(digits, lower) : NULL;
    if (!digit) return false;
    scan->code = scan->code << 4 | (uint32_t)(digit - digits);
    if (++scan->n_hex < 4) return true;
    bool is_high = scan->code >= 0xd800 && scan->code < 0xdc00;
    bool is_low = scan->code >= 0xdc00 && scan->code < 0xe000;
    if (is_low != scan->is_low) return false;
    return go(scan, is_high ? SCAN_LOW_BACKSLASH : SCAN_STRING);
}

static bool escape_byte(struct json_scan *scan, char c)
{
    switch (scan->state) {
    case SCAN_ESCAPE:
        if (c == 'u') return open_hex(scan, false);
        return c && strchr("\"\\/bfnrt", c) && go(scan, SCAN_STRING);
    case SCAN_HEX: return hex_byte(scan, c);
    case SCAN_LOW_BACKSLASH: return c == '\\' && go(scan, SCAN_LOW_U);
    default: return c == 'u' && open_hex(scan, true);
    }
}

static bool word_byte(struct json_scan *scan, char c)
{
    if (c != *scan->word) return false;
    return *++scan->word ? true : value_end(scan);
}

/* Whether c belongs to the number. */
static bool number_goes_on(struct json_scan *scan, char c)
{
    enum json_scan_state state = scan->state;
    bool is_exponent = c == 'e' || c == 'E';
    switch (state) {
    case SCAN_MINUS: return is_digit(c) && go(scan, c == '0' ? SCAN_ZERO : SCAN_INTEGER);
    case SCAN_POINT: return is_digit(c) && go(scan, SCAN_FRACTION);
    case SCAN_E:
        if (c == '+' || c == '-') return go(scan, SCAN_E_SIGN);
        return is_digit(c) && go(scan, SCAN_EXPONENT);
    case SCAN_E_SIGN: return is_digit(c) && go(scan, SCAN_EXPONENT);
    case SCAN_EXPONENT: return is_digit(c);
    default: break;
    }
    if (is_exponent) return go(scan, SCAN_E);
    if (c == '.') return state != SCAN_FRACTION && go(scan, SCAN_POINT);
    return is_digit(c) && state != SCAN_ZERO;
}

static bool number_byte(struct json_scan *scan, char c)
{
    if (number_goes_on(scan, c)) return true;
    bool is_whole = scan->state == SCAN_ZERO || scan->state == SCAN_INTEGER ||
                    scan->state == SCAN_FRACTION || scan->state == SCAN_EXPONENT;
    /* A number has no end of its own: the byte after it shows it, and is a byte as any other. */
    return is_whole && scan->depth > 0 && value_end(scan) && structure_byte(scan, c);
}

bool json_scan_byte(struct json_scan *scan, char c)
{
    if (scan->state == SCAN_DONE) return false;
    if (scan->state <= SCAN_NEXT) return structure_byte(scan, c);
    if (scan->state == SCAN_STRING) return string_byte(scan, c);
    if (scan->state <= SCAN_LOW_U) return escape_byte(scan, c);
    if (scan->state == SCAN_WORD) return word_byte(scan, c);
    return number_byte(scan, c);
}
