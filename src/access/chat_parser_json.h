/* chat_parser_json.h: follows JSON (RFC 8259) byte by byte: tells at once which byte cannot stand
 * where it stands, and when the value is whole. For text that is still being generated.
 * Floor: access.  Thread: the caller's.  Allocates: nothing.
 * Invariant: what was taken up to SCAN_DONE is one JSON value if it is valid UTF-8; surrogate
 * escapes come in pairs. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define JSON_SCAN_DEPTH_MAX 64 /* one bit each in is_object; arguments are a few levels deep */

enum json_scan_state {
    SCAN_VALUE,
    SCAN_ITEM_OR_END, /* after '[' */
    SCAN_KEY_OR_END,  /* after '{' */
    SCAN_KEY,         /* after ',' in an object */
    SCAN_COLON,
    SCAN_NEXT, /* after a member or item */
    SCAN_STRING,
    SCAN_ESCAPE,
    SCAN_HEX,
    SCAN_LOW_BACKSLASH, /* the second half of a surrogate pair must follow */
    SCAN_LOW_U,
    SCAN_WORD,
    SCAN_MINUS,
    SCAN_ZERO,
    SCAN_INTEGER,
    SCAN_POINT,
    SCAN_FRACTION,
    SCAN_E,
    SCAN_E_SIGN,
    SCAN_EXPONENT,
    SCAN_DONE
};

struct json_scan {
    enum json_scan_state state;
    int depth;          /* containers open */
    uint64_t is_object; /* bit i: the container at depth i + 1 */
    bool is_key;        /* of the string */
    bool is_low;        /* of the escape: the second surrogate */
    int n_hex;
    uint32_t code;
    const char *word; /* what is missing of true, false, null */
};

/* clang-format off */
#define JSON_SCAN_INIT { .state = SCAN_VALUE }
/* clang-format on */

/* False when c cannot come next; the scan is of no use then. */
bool json_scan_byte(struct json_scan *scan, char c);

bool json_is_space(char c);
