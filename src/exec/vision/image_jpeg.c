/* image_jpeg.c: JPEG by libjpeg-turbo's TurboJPEG interface. */
#include "base/mem.h"
#include "exec/vision/image_int.h"
#include <turbojpeg.h>

/* A damaged file is refused at its first fault, and one of thousands of scans, each of which costs
 * as much time as the whole picture, at its 500th. */
#define DECODE_FLAGS (TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT)

struct jpeg {
    tjhandle handle;
    const uint8_t *bytes;
    unsigned long n;
    int width, height, colours; /* enum TJCS */
};

static sl_status fail(const struct jpeg *jpeg, struct sl_err *err)
{
    return sl_err_set(err, SL_CORRUPT, "a damaged JPEG file: %s", tjGetErrorStr2(jpeg->handle));
}

static sl_status read_header(struct jpeg *jpeg, struct sl_err *err)
{
    int subsampling;
    if (tjDecompressHeader3(jpeg->handle, jpeg->bytes, jpeg->n, &jpeg->width, &jpeg->height,
                            &subsampling, &jpeg->colours) != 0)
        return fail(jpeg, err);
    /* What a file of tables alone, or one that ends among them, gives. */
    if (jpeg->width <= 0 || jpeg->height <= 0)
        return sl_err_set(err, SL_CORRUPT, "a damaged JPEG file: it ends before its picture");
    return image_check_size((uint64_t)jpeg->width, (uint64_t)jpeg->height, err);
}

static sl_status decode_rgb(const struct jpeg *jpeg, struct image *image, struct sl_err *err)
{
    if (tjDecompress2(jpeg->handle, jpeg->bytes, jpeg->n, image->pixels, image->width, 0,
                      image->height, TJPF_RGB, DECODE_FLAGS) != 0)
        return fail(jpeg, err);
    return SL_OK;
}

/* Adobe stores the four inks inverted, and so does everybody who wants its programs to read the
 * file: 255 is no ink. */
static sl_status decode_cmyk(const struct jpeg *jpeg, struct image *image, struct sl_err *err)
{
    size_t n = (size_t)image->width * (size_t)image->height;
    uint8_t *inks = sl_malloc(4 * n);
    sl_status status = SL_OK;
    if (!inks) return sl_err_set(err, SL_NOMEM, "a CMYK image");
    if (tjDecompress2(jpeg->handle, jpeg->bytes, jpeg->n, inks, image->width, 0, image->height,
                      TJPF_CMYK, DECODE_FLAGS) != 0)
        status = fail(jpeg, err);
    for (size_t i = 0; status == SL_OK && i < n; i++) {
        for (size_t c = 0; c < 3; c++)
            image->pixels[3 * i + c] = (uint8_t)((inks[4 * i + c] * inks[4 * i + 3] + 127) / 255);
    }
    sl_free(inks);
    return status;
}

static sl_status decode(struct jpeg *jpeg, struct image *image, struct sl_err *err)
{
    sl_status status = read_header(jpeg, err);
    if (status == SL_OK) status = image_create(jpeg->width, jpeg->height, image, err);
    if (status != SL_OK) return status;
    bool inks = jpeg->colours == TJCS_CMYK || jpeg->colours == TJCS_YCCK;
    status = (inks ? decode_cmyk : decode_rgb)(jpeg, image, err);
    if (status != SL_OK) return status;
    return image_turn(image, exif_orientation(jpeg->bytes, jpeg->n), err);
}

sl_status image_decode_jpeg(const void *bytes, size_t n, struct image *out, struct sl_err *err)
{
    struct jpeg jpeg = {.handle = tjInitDecompress(), .bytes = bytes, .n = n};
    struct image image = {0};
    if (!jpeg.handle) return sl_err_set(err, SL_NOMEM, "JPEG decoder");
    sl_status status = decode(&jpeg, &image, err);
    if (status == SL_OK)
        *out = image;
    else
        image_done(&image);
    tjDestroy(jpeg.handle);
    return status;
}
