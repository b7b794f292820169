/* part_journal_fuzz.c: any bytes as the journal of a list with N_CHUNKS chunks: no chunk counts, or
 * it is written back the same but for bits past the last chunk. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grid/part_journal.h"

#define N_CHUNKS 16 /* whole bytes of bits: none is left over */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chunk_list list = {.n = N_CHUNKS};
    uint8_t here[N_CHUNKS];
    struct sl_buf text;
    memset(list.id, 'i', sizeof list.id);
    sl_buf_init(&text, PART_JOURNAL_BYTES_MAX);
    if (!part_journal_parse(data, size, &list, here)) {
        for (int i = 0; i < N_CHUNKS; i++)
            if (here[i]) abort();
    } else {
        if (part_journal_write(&list, here, &text) != SL_OK) abort();
        if (text.len != size || memcmp(text.data, data, size) != 0) abort();
    }
    sl_buf_done(&text);
    return 0;
}
