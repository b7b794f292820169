/* processing_fuzz.c: any JSON as a model's processing: refused with a reason, or it can be written,
 * reads the same again, and an image can be prepared by it. */
#include "base/mem.h"
#include "exec/vision/processing.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (1 << 20)
#define SIDE_MAX 64 /* larger tensors take the fuzzer's time, and show nothing new */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held)
{
    if (!held) abort();
}

static void write_text(const struct processing *processing, struct sl_buf *out)
{
    struct sl_json json;
    sl_buf_init(out, TEXT_MAX);
    sl_json_begin(&json, out, false);
    processing_write(processing, &json);
    must(sl_json_end(&json) == SL_OK);
}

static void check_again(const struct sl_buf *once)
{
    struct sl_json_value *value;
    struct processing processing;
    struct sl_buf twice;
    must(sl_json_parse(once->data, once->len, &value, NULL) == SL_OK);
    must(processing_parse(value, &processing, NULL) == SL_OK);
    write_text(&processing, &twice);
    must(once->len == twice.len && memcmp(once->data, twice.data, twice.len) == 0);
    sl_buf_done(&twice);
    processing_done(&processing);
    sl_json_free(value);
}

static void prepare(const struct prepare *how)
{
    struct prepared prepared;
    struct image image;
    if (how->width > SIDE_MAX || how->height > SIDE_MAX) return;
    must(image_create(7, 5, &image, NULL) == SL_OK);
    must(prepare_image(how, &image, &prepared, NULL) == SL_OK);
    must(tensor_check(&prepared.tensor, NULL) == SL_OK);
    prepared_done(&prepared);
    image_done(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_json_value *value;
    struct processing processing;
    struct sl_buf text;
    uint64_t live = sl_mem_live();
    if (sl_json_parse((const char *)data, size, &value, NULL) != SL_OK) return 0;
    if (processing_parse(value, &processing, NULL) == SL_OK) {
        write_text(&processing, &text);
        check_again(&text);
        prepare(&processing.prepare);
        sl_buf_done(&text);
        processing_done(&processing);
    }
    sl_json_free(value);
    must(sl_mem_live() == live);
    return 0;
}
