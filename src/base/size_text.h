/* size_text.h: numbers of bytes for people, in the units that options take: K, M, G and T are
 * powers of 1024.
 * Floor: base.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdint.h>

#define SL_SIZE_TEXT_MAX 24

/* "512 B", "143.1 MiB", "2.50 GiB": what `--memory 2.50GiB` would set. Returns out. */
const char *sl_size_text(uint64_t bytes, char out[SL_SIZE_TEXT_MAX]);
