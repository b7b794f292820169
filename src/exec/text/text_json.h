/* text_json.h: walks the large parts of a tokenizer.json in place. A vocabulary of 250,000 entries
 * is a million JSON values: as a tree (base/json_read.h) they take 200 MB, as text 17.
 * Floor: exec/text.  Thread: the caller's.  Allocates: only the buffer that strings are put in.
 * Invariant: reading never leaves the text. Small parts are found here as spans and read as trees.
 * Source: RFC 8259. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>

/* A part of the document: one JSON value with nothing around it. */
struct text_span {
    const char *s; /* NULL: absent */
    size_t n;
};

struct text_json {
    const char *start, *at, *end;
    struct sl_err *err;
};
void text_json_init(struct text_json *json, struct text_span span, struct sl_err *err);

/* Enters an array or object: the next byte must be `open`, '[' or '{'. INVALID. */
SL_CHECK sl_status text_json_open(struct text_json *json, char open);
/* Before each item: *out_more says whether there is one; steps over the comma, or over `close`.
 * `*first` is true at the start. INVALID. */
SL_CHECK sl_status text_json_next(struct text_json *json, char close, bool *first, bool *out_more);
/* A string, put into `out` in place of what it held. INVALID (lone surrogates, too); LIMIT: longer
 * than out takes; NOMEM. */
SL_CHECK sl_status text_json_string(struct text_json *json, struct sl_buf *out);
SL_CHECK sl_status text_json_colon(struct text_json *json);               /* INVALID */
SL_CHECK sl_status text_json_number(struct text_json *json, double *out); /* INVALID */
/* What begins here: '{', '[', '"', '-', a digit, 't', 'f' or 'n'; 0 at the end. */
char text_json_peek(struct text_json *json);
/* Steps over any value, whose span it gives; what is in it need not be valid. INVALID; LIMIT:
 * nested deeper than SL_JSON_READ_DEPTH_MAX. */
SL_CHECK sl_status text_json_skip(struct text_json *json, struct text_span *out);
/* Only white space may follow. INVALID. */
SL_CHECK sl_status text_json_end(struct text_json *json);

sl_status text_json_fail(const struct text_json *json, const char *what); /* INVALID, with where */
