/* grid_http.h: one question to another member's grid port.
 * Floor: grid.  Thread: blocks its own.  Allocates: a client, while it runs. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

struct http_trust; /* net/http_client.h */

#define GRID_HTTP_SECONDS 10 /* for all of it: a member that takes longer is as good as away */
#define GRID_HTTP_ANSWER_BYTES_MAX (64u << 20) /* 16,384 members of the usual size, twice */

struct grid_question {
    const char *address; /* host:port */
    const char *path;
    const struct sl_buf *body; /* JSON to POST; NULL: a GET */
    const struct http_trust *trust;
    const atomic_bool *cancel; /* becomes true when nobody wants to know any more; NULL: never */
};

/* Asks, and appends the answer's body to out. What the other side says is wrong becomes the error,
 * with the status its HTTP code means: UNAUTHENTICATED (401), DENIED (403), BUSY (429), UNAVAILABLE
 * (503), ...; *out_heard (NULL is fine) tells whether anybody answered: else UNAVAILABLE, TIMEOUT,
 * or DENIED for a certificate that is not the one trusted, CANCELLED. */
SL_CHECK sl_status grid_http_ask(const struct grid_question *question, struct sl_buf *out,
                                 bool *out_heard, struct sl_err *err);
