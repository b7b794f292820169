/* json.h: writes JSON (RFC 8259) into a buffer, piece by piece; reading is json_read.h's work.
 * Floor: base.  Thread: the caller's.  Allocates: only the buffer it writes to.
 * Invariant: the output is valid JSON when every open was closed; strings are made valid UTF-8 (bad
 * bytes become U+FFFD). The first failure sticks: later calls do nothing, and sl_json_end reports
 * it: what the buffer said (LIMIT, NOMEM), LIMIT past SL_JSON_DEPTH_MAX, INTERNAL when a call does
 * not fit (a value where a key belongs, a wrong end). */
#pragma once
#include "base/buf.h"
#include <stdbool.h>

/* Some levels of our own around the deepest value that json_read.h reads. */
#define SL_JSON_DEPTH_MAX 144

struct sl_json {
    struct sl_buf *out; /* borrowed */
    sl_status status;
    int depth;
    bool pretty;
    bool has_item[SL_JSON_DEPTH_MAX + 1]; /* by depth; 0 is the document itself */
    bool is_object[SL_JSON_DEPTH_MAX + 1];
    bool after_key;
};

void sl_json_begin(struct sl_json *json, struct sl_buf *out, bool pretty);
SL_CHECK sl_status sl_json_end(struct sl_json *json); /* INTERNAL while anything is open */

void sl_json_object(struct sl_json *json);
void sl_json_object_end(struct sl_json *json);
void sl_json_array(struct sl_json *json);
void sl_json_array_end(struct sl_json *json);
void sl_json_key(struct sl_json *json, const char *key);
void sl_json_keyn(struct sl_json *json, const char *key, size_t n); /* may hold NUL bytes */
void sl_json_str(struct sl_json *json, const char *s);              /* NULL writes null */
void sl_json_strn(struct sl_json *json, const char *s, size_t n);
void sl_json_int(struct sl_json *json, int64_t v);
void sl_json_num(struct sl_json *json, double v); /* NaN and infinities write null */
void sl_json_bool(struct sl_json *json, bool v);
void sl_json_null(struct sl_json *json);

/* A value that is JSON already; the caller vouches for it. */
void sl_json_raw(struct sl_json *json, const char *text, size_t n);

/* Key and value in one. */
void sl_json_kv_str(struct sl_json *json, const char *key, const char *s);
void sl_json_kv_int(struct sl_json *json, const char *key, int64_t v);
void sl_json_kv_num(struct sl_json *json, const char *key, double v);
void sl_json_kv_bool(struct sl_json *json, const char *key, bool v);
