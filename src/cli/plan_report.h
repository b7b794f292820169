/* plan_report.h: a plan of a split model, as POST /grid/v1/plans answers it, in text for people.
 * Floor: cli.  Thread: main.  Allocates: only the buffer it writes to. */
#pragma once
#include "base/json_read.h"

/* A table of stages, what they will do together, and what holds the plan back; or why there is
 * none. LIMIT, NOMEM. */
SL_CHECK sl_status plan_report_write(const struct sl_json_value *answer, struct sl_buf *out);
