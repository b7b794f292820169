/* control.h: the switch's control language: one line a command, one line of JSON as the answer.
 *
 *     link A B [delay T] [jitter T] [loss P] [rate R] [queue N] [oneway]
 *     cut A B [oneway]
 *     heal A B [oneway]
 *     stats
 *
 * A and B are ports, or * for all. T is a duration such as 20ms, P a share such as 0.5% or 0.005,
 * R is bits a second such as 100mbit (0: no limit), N bytes such as 256kb. `link` changes what it
 * names and leaves the rest.
 * Part of netlab-switch; pure.  Thread: the caller's.  Allocates: only the answer's buffer. */
#pragma once
#include "base/buf.h"
#include "netlab/fabric.h"

#define CONTROL_LINE_MAX 512
#define CONTROL_ANSWER_MAX (4u << 20) /* statistics of 64 * 63 links of under 1 KiB each */
#define CONTROL_DELAY_NS_MAX (60 * (int64_t)1000000000)
#define CONTROL_RATE_BPS_MAX (100 * (int64_t)1000000000)
#define CONTROL_QUEUE_BYTES_MAX ((int64_t)64 << 20) /* what may be under way in all */

/* Does what one line of n bytes (without its line feed) says and appends the answer and a line
 * feed: {"ok":true,...} or {"ok":false,"error":"..."}. LIMIT, NOMEM: of the buffer. */
SL_CHECK sl_status control_answer(struct fabric *fabric, const char *line, size_t n,
                                  struct sl_buf *out);
