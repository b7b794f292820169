/* image_fuzz.c: any bytes as an image file: refused with a reason, or as many pixels as it says,
 * which a model's input can be made of and a PNG written from. */
#include "base/mem.h"
#include "exec/vision/image.h"
#include "exec/vision/prepare.h"

#include <stdlib.h>
#include <string.h>

#define PIXELS_MAX (1 << 20) /* larger ones take the fuzzer's time, and show nothing new */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held)
{
    if (!held) abort();
}

static void use(const struct image *image)
{
    const struct prepare how = {.width = 24,
                                .height = 16,
                                .resize = PREPARE_LETTERBOX,
                                .resample = RESAMPLE_BICUBIC,
                                .antialias = true,
                                .type = TENSOR_FP32,
                                .scale = 1,
                                .std = {1, 1, 1}};
    struct prepared prepared;
    struct image again;
    struct sl_buf png;
    if (prepare_image(&how, image, &prepared, NULL) == SL_OK) prepared_done(&prepared);
    sl_buf_init(&png, 16 << 20);
    must(image_encode_png(image, &png, NULL) == SL_OK);
    must(image_decode(png.data, png.len, (const uint8_t[3]){0}, &again, NULL) == SL_OK);
    size_t n = (size_t)image->width * (size_t)image->height * 3;
    must(again.width == image->width && memcmp(again.pixels, image->pixels, n) == 0);
    image_done(&again);
    sl_buf_done(&png);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t background[3] = {1, 2, 3};
    struct image image;
    uint64_t live = sl_mem_live();
    if (image_decode(data, size, background, &image, NULL) == SL_OK) {
        if (image.width * (int64_t)image.height <= PIXELS_MAX) use(&image);
        image_done(&image);
    }
    must(sl_mem_live() == live);
    return 0;
}
