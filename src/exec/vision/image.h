/* image.h: pictures as people have them (JPEG, PNG), in memory and out of it.
 * Floor: exec/vision.  Thread: any; an image belongs to one at a time.
 * Allocates: the pixels of an image; while decoding at most IMAGE_PIXELS_MAX pixels of four bytes,
 * and what libjpeg keeps of a progressive file (six bytes a pixel).
 * Invariants: what a file says of itself is checked before anything is allocated for it; a file
 * that is damaged, cut off or hostile is an error, never a part of a picture. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

#define IMAGE_FILE_BYTES_MAX (64u << 20) /* the largest cameras' JPEGs have 40 MB */
#define IMAGE_PIXELS_MAX (64u << 20)     /* 192 MB decoded: an 8K frame twice over */
#define IMAGE_SIDE_MAX 65500             /* JPEG's own limit */

struct image {
    int32_t width, height; /* both > 0 */
    uint8_t *pixels;       /* RGB, 8 bits each, sRGB as the file has it: [height][width][3] */
};

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG };

/* By the first bytes. */
enum image_format image_format_of(const void *bytes, size_t n);

/* Black, all of it. INVALID: no size; LIMIT: a side or the number of pixels; NOMEM. */
SL_CHECK sl_status image_create(int32_t width, int32_t height, struct image *out,
                                struct sl_err *err);
void image_done(struct image *image); /* may be zeroed, or done already */

/* A whole file. A JPEG is turned as its EXIF orientation says (CIPA DC-008, 4.6.4); grey,
 * palette, 16-bit and interlaced files become RGB of 8 bits; CMYK is taken as Adobe stores it,
 * inverted; where a PNG is transparent, `background` (RGB) shines through. Colour profiles are not
 * applied. UNSUPPORTED: neither JPEG nor PNG; CORRUPT; LIMIT; NOMEM. *out is the caller's to
 * image_done, and untouched on failure. */
SL_CHECK sl_status image_decode(const void *bytes, size_t n, const uint8_t background[3],
                                struct image *out, struct sl_err *err);

/* Appends a PNG. LIMIT: past out's maximum; NOMEM. */
SL_CHECK sl_status image_encode_png(const struct image *image, struct sl_buf *out,
                                    struct sl_err *err);
