/* gguf_header_fuzz.c: any bytes as the beginning of a GGUF file: refused with a reason, or a length
 * that more bytes do not contradict. */
#include <stdint.h>
#include <stdlib.h>

#include "exec/llm/gguf_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_err err = SL_ERR_INIT;
    uint64_t all = 0, half = 0;
    sl_status status = gguf_header_length(data, size, &all, &err);
    if (status != SL_OK && !err.text[0]) abort();
    if (gguf_header_length(data, size / 2, &half, NULL) != SL_OK) {
        if (status == SL_OK) abort();
    } else if (half <= size / 2) { /* the header ends there, whatever follows */
        if (status != SL_OK || all != half) abort();
    } else if (status == SL_OK && all < half) {
        abort();
    }
    return 0;
}
