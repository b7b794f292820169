/* secret.h: text that lets its holder in: made of the kernel's random numbers, compared in constant
 * time.
 * Floor: net.  Thread: any.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

/* Writes n of 0-9A-Za-z, each equally likely and worth 5.95 bits, and no NUL. As getrandom(2). */
SL_CHECK sl_status secret_digits(char *out, size_t n, struct sl_err *err);

/* Are the n bytes equal? Takes the same time wherever they differ. */
bool secret_equal(const void *a, const void *b, size_t n);
