/* store_pbtxt_fuzz.c: any bytes as a config.pbtxt: refused with a reason, or within its bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grid/store_pbtxt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_pbtxt config;
    struct sl_err err = SL_ERR_INIT;
    if (store_pbtxt_parse((const char *)data, size, &config, &err) != SL_OK) {
        if (!err.text[0]) abort();
        return 0;
    }
    if (config.max_batch_size < 0 || config.delay_us < 0 || config.instances < 0) abort();
    if (strlen(config.labels) >= sizeof config.labels) abort();
    return 0;
}
