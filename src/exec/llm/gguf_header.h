/* gguf_header.h: how long a GGUF file's header is (magic, key-values, tensor infos), told from its
 * first bytes: for who fetches a file in parts and must know when gguf_open can read it.
 * Floor: exec/llm.  Thread: any.  Allocates: nothing.
 * It only walks over lengths; what the header says is checked by gguf_open, when it is there. */
#pragma once
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

/* A vocabulary of 262,144 tokens with scores and merges takes 15 MB. */
#define GGUF_HEADER_BYTES_MAX (UINT64_C(128) << 20)

/* From the first n bytes of a file: *out is the header's length when that is at most n; else more
 * than n: so many bytes are needed at least to get further. CORRUPT, UNSUPPORTED (no GGUF file, or
 * a type that nobody knows), LIMIT (GGUF_HEADER_BYTES_MAX and gguf.h's). */
SL_CHECK sl_status gguf_header_length(const void *bytes, size_t n, uint64_t *out,
                                      struct sl_err *err);
