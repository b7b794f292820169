#include "base/mem.h"
#include "exec/vision/image_int.h"
#include <string.h>

static const uint8_t jpeg_magic[] = {0xff, 0xd8, 0xff};
static const uint8_t png_magic[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

static bool begins_with(const void *bytes, size_t n, const uint8_t *magic, size_t n_magic)
{
    return n >= n_magic && memcmp(bytes, magic, n_magic) == 0;
}

enum image_format image_format_of(const void *bytes, size_t n)
{
    if (begins_with(bytes, n, jpeg_magic, sizeof jpeg_magic)) return IMAGE_JPEG;
    if (begins_with(bytes, n, png_magic, sizeof png_magic)) return IMAGE_PNG;
    return IMAGE_UNKNOWN;
}

sl_status image_check_size(uint64_t width, uint64_t height, struct sl_err *err)
{
    if (!width || !height) return sl_err_set(err, SL_CORRUPT, "the image has no pixels");
    if (width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX)
        return sl_err_set(err, SL_LIMIT, "the image has %llu x %llu pixels; a side may have %d",
                          (unsigned long long)width, (unsigned long long)height, IMAGE_SIDE_MAX);
    if (width * height > IMAGE_PIXELS_MAX)
        return sl_err_set(
            err, SL_LIMIT, "the image has %llu x %llu pixels; %u million are the most taken",
            (unsigned long long)width, (unsigned long long)height, IMAGE_PIXELS_MAX / 1000000);
    return SL_OK;
}

sl_status image_create(int32_t width, int32_t height, struct image *out, struct sl_err *err)
{
    if (width <= 0 || height <= 0)
        return sl_err_set(err, SL_INVALID, "an image of %d x %d pixels", (int)width, (int)height);
    sl_status status = image_check_size((uint64_t)width, (uint64_t)height, err);
    if (status != SL_OK) return status;
    uint8_t *pixels = sl_calloc((size_t)width * (size_t)height, 3);
    if (!pixels) return sl_err_set(err, SL_NOMEM, "an image of %d x %d", (int)width, (int)height);
    *out = (struct image){width, height, pixels};
    return SL_OK;
}

void image_done(struct image *image)
{
    sl_free(image->pixels);
    *image = (struct image){0};
}

sl_status image_decode(const void *bytes, size_t n, const uint8_t background[3], struct image *out,
                       struct sl_err *err)
{
    if (n > IMAGE_FILE_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "an image file of %zu bytes; %u are the most taken", n,
                          IMAGE_FILE_BYTES_MAX);
    switch (image_format_of(bytes, n)) {
    case IMAGE_JPEG: return image_decode_jpeg(bytes, n, out, err);
    case IMAGE_PNG: return image_decode_png(bytes, n, background, out, err);
    case IMAGE_UNKNOWN: break;
    }
    return sl_err_set(err, SL_UNSUPPORTED, "neither a JPEG nor a PNG image");
}

/* Where the pixel that belongs at (x, y) of the upright image lies in the stored one of w x h. */
static size_t stored_at(int orientation, size_t x, size_t y, size_t w, size_t h)
{
    switch (orientation) {
    case 2: /* mirrored */ return y * w + (w - 1 - x);
    case 3: /* upside down */ return (h - 1 - y) * w + (w - 1 - x);
    case 4: /* upside down and mirrored */ return (h - 1 - y) * w + x;
    case 5: /* its main diagonal is the axis */ return x * w + y;
    case 6: /* the top is at the right */ return (h - 1 - x) * w + y;
    case 7: /* its other diagonal is the axis */ return (h - 1 - x) * w + (w - 1 - y);
    default: /* 8: the top is at the left */ return x * w + (w - 1 - y);
    }
}

sl_status image_turn(struct image *image, int orientation, struct sl_err *err)
{
    if (orientation <= EXIF_UPRIGHT || orientation > 8) return SL_OK;
    bool swaps = orientation >= 5;
    struct image out = {0};
    sl_status status = image_create(swaps ? image->height : image->width,
                                    swaps ? image->width : image->height, &out, err);
    if (status != SL_OK) return status;
    size_t w = (size_t)image->width, h = (size_t)image->height;
    uint8_t *to = out.pixels;
    for (size_t y = 0; y < (size_t)out.height; y++) {
        for (size_t x = 0; x < (size_t)out.width; x++, to += 3)
            memcpy(to, image->pixels + 3 * stored_at(orientation, x, y, w, h), 3);
    }
    image_done(image);
    *image = out;
    return SL_OK;
}
