/* int_list.h: a list of whole numbers as people and programs write it.
 * Floor: cli.  Thread: any.  Allocates: what it appends. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* Reads numbers separated by commas or white space, with or without the brackets of a JSON array,
 * and appends them to out as int32_t. INVALID says at which byte; LIMIT, NOMEM. */
SL_CHECK sl_status int_list_read(const char *text, size_t n, struct sl_buf *out,
                                 struct sl_err *err);
