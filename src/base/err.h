/* err.h: what went wrong, in one line a person can act on.
 * Floor: base.  Thread: the caller's.  Allocates: nothing (the text lives in the caller's struct).
 * Invariant: the text is one printable line; control characters in it became '?'.
 * Each layer may prefix: "load qwen: map model.gguf: blk.3.attn_q: 12 bytes past the end". */
#pragma once
#include "base/status.h"
#include <stdarg.h>

#define SL_ERR_TEXT_MAX 512 /* longer messages are cut and end in "..." */

struct sl_err {
    sl_status status;
    char text[SL_ERR_TEXT_MAX];
};

/* clang-format off */
#define SL_ERR_INIT { SL_OK, "" }
/* clang-format on */

/* Sets err (NULL is fine) and returns status, so that `return sl_err_set(err, SL_CORRUPT, "...")`
 * reads well. */
sl_status sl_err_set(struct sl_err *err, sl_status status, const char *fmt, ...) SL_PRINTF(3, 4);

/* Puts "prefix: " before the text and returns the status it holds (SL_INTERNAL for NULL). */
sl_status sl_err_prefix(struct sl_err *err, const char *fmt, ...) SL_PRINTF(2, 3);

/* As sl_err_set, appending ": strerror(errnum)". Maps ENOMEM, ENOENT, EACCES, EEXIST; SL_IO
 * otherwise. */
sl_status sl_err_errno(struct sl_err *err, int errnum, const char *fmt, ...) SL_PRINTF(3, 4);
