/* npy.h: tensors in files of NumPy's format, version 1 (numpy/lib/format.py; NEP 1).
 * Floor: cli.  Thread: main.  Allocates: in the caller's arena and buffer.
 * BYTES are arrays of kind S, whose elements have one length and lose NULs at their end; BF16,
 * which NumPy lacks, is written as FP32. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "exec/tensor.h"

/* bytes[0..n): the whole file. All of *out but its name. Data is used where it lies, but for
 * BYTES. CORRUPT; UNSUPPORTED: another byte order, order of dimensions, or type; LIMIT; NOMEM. */
SL_CHECK sl_status npy_read(const void *bytes, size_t n, struct sl_arena *arena, struct tensor *out,
                            struct sl_err *err);

/* Appends the file. LIMIT, NOMEM. */
SL_CHECK sl_status npy_write(const struct tensor *tensor, struct sl_buf *out, struct sl_err *err);
