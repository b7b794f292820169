/* no_memory.h: memory that runs out at each place where it may. Thread: one that allocates. */
#pragma once
#include "base/status.h"

typedef sl_status no_memory_fn(void *ctx);

/* Calls fn with its n-th allocation failing, for n = 1 and on, until it succeeds; it frees what it
 * made. The test fails when fn says anything but NOMEM before, or leaves an allocation behind. */
void no_memory_each(no_memory_fn *fn, void *ctx);
