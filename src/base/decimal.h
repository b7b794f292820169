/* decimal.h: numbers as decimal digits, for where snprintf would be a good part of the work.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SL_DECIMAL_MAX 24 /* "-9223372036854775808" and the NUL, and a point */

/* Writes v, as "%lld" does, with a NUL. Returns the length. */
size_t sl_decimal(int64_t v, char out[SL_DECIMAL_MAX]);

/* Writes v / 1000 with three digits after the point: 1234567 is "1234.567". Returns the length. */
size_t sl_decimal_thousandths(int64_t v, char out[SL_DECIMAL_MAX]);
