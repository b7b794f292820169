/* sse.h: server-sent events (WHATWG HTML, "Server-sent events") written into a buffer.
 * Floor: net.  Thread: any.  Allocates: only the buffer's growth.
 * Invariant: a failed call leaves the buffer as it was. */
#pragma once
#include "base/buf.h"

#define SSE_CONTENT_TYPE "text/event-stream"

/* "data: ..." for each line of data[0..n), then an empty line. CR, LF and CRLF all end a line, as a
 * client sees it. LIMIT, NOMEM. */
SL_CHECK sl_status sse_data(struct sl_buf *out, const char *data, size_t n);

/* The same with an "event: name" line before it. INVALID for a name with CR or LF. */
SL_CHECK sl_status sse_event(struct sl_buf *out, const char *name, const char *data, size_t n);

/* ": text": ignored by clients, keeps proxies from closing a quiet stream. INVALID as above. */
SL_CHECK sl_status sse_comment(struct sl_buf *out, const char *text);
