/* chunk_list_fuzz.c: any bytes as a list of chunks: refused with a reason, or written back the
 * same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grid/chunk_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chunk_list list;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf text;
    sl_buf_init(&text, CHUNK_LIST_BYTES_MAX);
    if (chunk_list_parse(data, size, &list, &err) != SL_OK) {
        if (!err.text[0]) abort();
    } else {
        if (chunk_list_write(&list, &text) != SL_OK) abort();
        if (text.len != size || memcmp(text.data, data, size) != 0) abort();
        if (chunk_end(&list, list.n - 1) != list.size) abort();
        chunk_list_done(&list);
    }
    sl_buf_done(&text);
    return 0;
}
