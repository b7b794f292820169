/* grid_plan.h: plans of models over several machines (docs/split.md).
 *   POST /grid/v1/plans {"model","nodes":[],"goal","n_seqs","context","stages","link",
 *   "apply"}
 * Only `model` has to be there. `nodes`: ids or names of members, and no other gets a part. `goal`:
 * "latency" (the default) or "throughput". `link`: how hidden states travel, "f16" (the default),
 * "f32" or "q8_0". The answer is the plan with what is foretold of it, or
 * why there is none ("refused"); with "apply":true it is done and kept.
 * Floor: access.  Thread: the loop's.  Allocates: a call's answer.
 * Who may: as grid_api.h. */
#pragma once

struct call;

void grid_plan_make(struct call *call);
