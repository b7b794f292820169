/* json_read.h: reads JSON (RFC 8259) into a tree of values, with limits; writing is json.h's work.
 * Floor: base.  Thread: a tree belongs to one thread at a time.  Allocates: the tree, at parse.
 * Invariant: strings are valid UTF-8 and may hold NUL bytes (the length says where they end); the
 * order of an object's members is the document's; of a repeated key the last value counts. */
#pragma once
#include "base/err.h"
#include "base/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_JSON_READ_DEPTH_MAX 128 /* deeper documents are attacks: parsing recurses */
/* An empty object takes three bytes of text and 200 of memory, so that more values than this are an
 * attack too: on memory, and on the time of the thread that parses. */
#define SL_JSON_READ_VALUES_MAX (512 * 1024)

struct sl_json_value; /* opaque; borrowed from its tree unless said otherwise */

enum sl_json_type {
    SL_JSON_NULL,
    SL_JSON_BOOL,
    SL_JSON_INT, /* an integer that fits int64_t, written without point and exponent */
    SL_JSON_NUM,
    SL_JSON_STR,
    SL_JSON_ARRAY,
    SL_JSON_OBJECT
};

/* Parses exactly one document of n bytes, any type at the top. The tree is the caller's:
 * sl_json_free. INVALID (err says line, column and what is wrong: syntax, bad UTF-8, a number out
 * of range), LIMIT (nested deeper than SL_JSON_READ_DEPTH_MAX, more than SL_JSON_READ_VALUES_MAX
 * values), NOMEM. */
SL_CHECK sl_status sl_json_parse(const char *text, size_t n, struct sl_json_value **out,
                                 struct sl_err *err);
void sl_json_free(struct sl_json_value *root); /* NULL is fine; only what sl_json_parse gave */

/* All queries take NULL for an absent value: its type is SL_JSON_NULL, its size 0. */
enum sl_json_type sl_json_type(const struct sl_json_value *value);
const char *sl_json_type_name(enum sl_json_type type); /* "null", "boolean", "integer", ... */
bool sl_json_is(const struct sl_json_value *value, enum sl_json_type type);

/* The value as such, or the fallback when it is of another type. to_num takes integers too; to_int
 * takes a NUM only when it is a whole number within int64_t. */
bool sl_json_to_bool(const struct sl_json_value *value, bool otherwise);
int64_t sl_json_to_int(const struct sl_json_value *value, int64_t otherwise);
double sl_json_to_num(const struct sl_json_value *value, double otherwise);
/* NUL-ended as well; *n may be NULL. `otherwise` (NULL is fine) with *n = its length. */
const char *sl_json_to_str(const struct sl_json_value *value, const char *otherwise, size_t *n);

size_t sl_json_size(const struct sl_json_value *value); /* of an array or object; else 0 */
const struct sl_json_value *sl_json_at(const struct sl_json_value *array, size_t i); /* or NULL */
const struct sl_json_value *sl_json_get(const struct sl_json_value *object, const char *key);

/* Members in order: start with *iter NULL; false when there are no more. */
bool sl_json_next(const struct sl_json_value *object, void **iter, const char **key, size_t *n_key,
                  const struct sl_json_value **out);

/* Writes the value, all of it, where json stands. */
void sl_json_put(struct sl_json *json, const struct sl_json_value *value);
