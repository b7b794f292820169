/* client_sse.h: reads server-sent events (WHATWG HTML, "Server-sent events") as their bytes come.
 * Floor: cli.  Thread: main.  Allocates: the event at hand, within CLIENT_EVENT_BYTES_MAX.
 * Of the fields only `data` is told; comments keep a quiet connection open and are passed over. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>

#define CLIENT_EVENT_BYTES_MAX (16u << 20) /* a token with log probabilities has some kilobytes */

/* Called with the data of one event. False: no more is wanted. */
typedef bool client_event_fn(void *ctx, const char *data, size_t n);

struct client_sse {
    client_event_fn *event;
    void *ctx;
    struct sl_buf line, data;
    bool after_cr; /* an LF that comes now belongs to it */
    bool has_data;
};

void client_sse_init(struct client_sse *sse, client_event_fn *event, void *ctx);
void client_sse_done(struct client_sse *sse);

/* CANCELLED: the function said so. LIMIT: an event that is too long. NOMEM. */
SL_CHECK sl_status client_sse_push(struct client_sse *sse, const char *bytes, size_t n);
