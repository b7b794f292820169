/* image_int.h: what the parts of image.h share: one decoder a format, and EXIF.
 * Floor: exec/vision.  Thread: the caller's. */
#pragma once
#include "exec/vision/image.h"
#include <stdbool.h>

/* As image_decode, of a file that begins as its format does. */
SL_CHECK sl_status image_decode_jpeg(const void *bytes, size_t n, struct image *out,
                                     struct sl_err *err);
SL_CHECK sl_status image_decode_png(const void *bytes, size_t n, const uint8_t background[3],
                                    struct image *out, struct sl_err *err);

/* Are these a picture's sides? LIMIT names both numbers, CORRUPT: none at all. */
SL_CHECK sl_status image_check_size(uint64_t width, uint64_t height, struct sl_err *err);

#define EXIF_UPRIGHT 1
/* The orientation (1 to 8) in the EXIF block of a JPEG file; EXIF_UPRIGHT when it has none that can
 * be read. Never fails: a picture with a bad EXIF block is still a picture. */
int exif_orientation(const uint8_t *jpeg, size_t n);

/* Replaces the image by the same turned upright. NOMEM leaves it as it is. */
SL_CHECK sl_status image_turn(struct image *image, int orientation, struct sl_err *err);
