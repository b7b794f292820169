/* sim_record.h: what became of each simulated request, in a file: a line of JSON for each policy
 * and request, with the fields of a recorded trace (docs/simulator.md).
 * Floor: cli.  Thread: main.  Allocates: a line, while it writes. */
#pragma once
#include "cli/sim_report.h"

#include <stdio.h>

/* To file, which is named path; the results have answers. IO: what is there then is no record. */
SL_CHECK sl_status sim_record_write(FILE *file, const char *path, const struct sim_report *report,
                                    const struct sim_trace *trace, struct sl_err *err);
