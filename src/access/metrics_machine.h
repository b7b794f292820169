/* metrics_machine.h: what telemetry knows of this machine, as Prometheus text: starlane_node_*.
 * Floor: access.  Thread: the loop's.  Allocates: in the buffer only.
 * Invariant: the names are always there; what is unknown has no sample. */
#pragma once
#include "base/buf.h"

struct telemetry_sample;

/* NULL is fine: names only. LIMIT, NOMEM: out's own. */
SL_CHECK sl_status metrics_write_machine(const struct telemetry_sample *sample, struct sl_buf *out);
