/* json_fuzz.c: any bytes through the JSON reader. What it takes must be written as a document that
 * it takes again and writes the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"

#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write(const struct sl_json_value *root, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_put(&json, root);
    CHECK(sl_json_end(&json) == SL_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_json_value *first, *second;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = sl_json_parse((const char *)data, size, &first, &err);
    CHECK(status == SL_OK || (err.text[0] && (status == SL_INVALID || status == SL_LIMIT)));
    if (status != SL_OK) return 0;
    struct sl_buf once, twice;
    sl_buf_init(&once, 100 + 20 * size); /* "1e9," grows, "\x01" too, none of them more */
    sl_buf_init(&twice, 100 + 20 * size);
    write(first, &once);
    CHECK(sl_json_parse(once.data, once.len, &second, &err) == SL_OK);
    write(second, &twice);
    CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    sl_json_free(second);
    sl_json_free(first);
    sl_buf_done(&twice);
    sl_buf_done(&once);
    return 0;
}
