/* plan_file.h: a plan without a grid: a model file, and nodes as `starlane sim` takes them.
 * Floor: cli.  Thread: main.  Allocates: nothing that outlives a call. */
#pragma once
#include "base/json_read.h"
#include "sched/split.h"

/* Plans the model at `path` (called `model`) on the nodes of the YAML file, whose speeds (prefill,
 * decode: tokens a second) are taken to be those that the whole model has there. Writes JSON as
 * POST /grid/v1/plans answers it. INVALID, NOT_FOUND, CORRUPT name the file and what is wrong. */
SL_CHECK sl_status plan_file_make(const char *model, const char *path, const char *nodes_path,
                                  const struct split_goal *goal, struct sl_buf *out,
                                  struct sl_err *err);
