/* bandwidth.h: how fast this machine reads memory, measured: the bound of a model's decode speed.
 * Floor: cli.  Thread: main; uses threads of its own.  Allocates: the buffer it reads, for the
 * call. */
#pragma once
#include "base/err.h"
#include <stdint.h>

struct bandwidth {
    uint64_t buffer_bytes;
    int n_threads;
    double one_thread, all_threads; /* bytes a second; best of several passes */
};

/* Reads a buffer past every cache (512 MiB, or a quarter of the free memory) with one thread and
 * with n_threads, for about a second in all. NOMEM, UNAVAILABLE (no threads). */
SL_CHECK sl_status bandwidth_measure(int n_threads, struct bandwidth *out, struct sl_err *err);
