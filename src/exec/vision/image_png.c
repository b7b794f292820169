/* image_png.c: PNG by libpng. It reports errors with longjmp: what lives across one is in a struct
 * on the stack of the function that holds the setjmp's caller, and no frame of ours between them
 * owns anything. */
#include "base/mem.h"
#include "exec/vision/image_int.h"
#include <png.h>
#include <setjmp.h>
#include <string.h>

#define CHUNK_BYTES_MAX (1u << 20) /* a palette has 768; a picture's data is not counted */
#define CHUNKS_MAX 64              /* that libpng keeps: none of those it keeps is of use to us */

struct png_job {
    png_structp png;
    png_infop info;
    const uint8_t *bytes; /* what is left to read */
    size_t n;
    struct sl_buf *out; /* written */
    uint8_t *pixels;    /* [height][width][n_channels] while decoding */
    uint32_t width, height;
    size_t n_channels; /* 3, or 4 with transparency */
    bool no_memory;    /* libpng was refused some; it has no other word for that than an error */
    sl_status status;
    struct sl_err *err;
};

static void *png_alloc(png_structp png, png_alloc_size_t n)
{
    struct png_job *job = png_get_mem_ptr(png);
    void *p = sl_malloc(n);
    if (!p) job->no_memory = true;
    return p;
}

static void png_release(png_structp png, void *p)
{
    (void)png;
    sl_free(p);
}

static void on_error(png_structp png, const char *text)
{
    struct png_job *job = png_get_error_ptr(png);
    if (job->no_memory)
        job->status = sl_err_set(job->err, SL_NOMEM, "PNG codec");
    else if (job->status == SL_OK)
        job->status = sl_err_set(job->err, SL_CORRUPT, "a damaged PNG file: %s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, const char *text)
{
    (void)png;
    (void)text;
}

/* Ends what libpng does, with a status of ours. */
static void give_up(struct png_job *job, sl_status status)
{
    job->status = status;
    png_longjmp(job->png, 1);
}

/* --- reading --- */

static void read_bytes(png_structp png, uint8_t *to, size_t n)
{
    struct png_job *job = png_get_io_ptr(png);
    if (n > job->n)
        give_up(job, sl_err_set(job->err, SL_CORRUPT, "a damaged PNG file: it is cut off"));
    memcpy(to, job->bytes, n);
    job->bytes += n;
    job->n -= n;
}

/* Texts, profiles and dates may be compressed a thousandfold, and none of them is looked at. */
static void set_limits(struct png_job *job)
{
    static const char skipped[] = "tEXt\0zTXt\0iTXt\0iCCP\0tIME\0sPLT\0eXIf\0hIST\0pCAL\0sCAL";
    png_set_keep_unknown_chunks(job->png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep)skipped,
                                sizeof skipped / 5);
    png_set_user_limits(job->png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_set_chunk_cache_max(job->png, CHUNKS_MAX);
    png_set_chunk_malloc_max(job->png, CHUNK_BYTES_MAX);
}

static void read_header(struct png_job *job)
{
    png_read_info(job->png, job->info);
    job->width = png_get_image_width(job->png, job->info);
    job->height = png_get_image_height(job->png, job->info);
    sl_status status = image_check_size(job->width, job->height, job->err);
    if (status != SL_OK) give_up(job, status);
    png_set_expand(job->png); /* palette to RGB, few bits to 8, a transparent colour to alpha */
    png_set_scale_16(job->png);
    png_set_gray_to_rgb(job->png);
    (void)png_set_interlace_handling(job->png);
    png_read_update_info(job->png, job->info);
    job->n_channels = png_get_channels(job->png, job->info);
}

static void read_rows(struct png_job *job)
{
    size_t row = (size_t)job->width * job->n_channels;
    if (job->n_channels < 3 || png_get_rowbytes(job->png, job->info) != row)
        give_up(job, sl_err_set(job->err, SL_UNSUPPORTED, "a PNG file of an unknown kind"));
    job->pixels = sl_calloc(job->height, row);
    if (!job->pixels) give_up(job, sl_err_set(job->err, SL_NOMEM, "the pixels of a PNG file"));
    int n_passes = png_get_interlace_type(job->png, job->info) == PNG_INTERLACE_ADAM7 ? 7 : 1;
    while (n_passes-- > 0) {
        for (size_t y = 0; y < job->height; y++)
            png_read_row(job->png, job->pixels + y * row, NULL);
    }
}

/* Holds the setjmp: nothing but *job is changed after it. */
static sl_status read_png(struct png_job *job)
{
    if (setjmp(png_jmpbuf(job->png))) return job->status;
    set_limits(job);
    png_set_read_fn(job->png, job, read_bytes);
    read_header(job);
    read_rows(job);
    return SL_OK;
}

/* RGBA over the background, in place: three bytes never overtake four. */
static void blend(uint8_t *pixels, size_t n, const uint8_t background[3])
{
    const uint8_t *from = pixels;
    for (size_t i = 0; i < n; i++, from += 4) {
        unsigned alpha = from[3];
        for (size_t c = 0; c < 3; c++)
            pixels[3 * i + c] =
                (uint8_t)((from[c] * alpha + background[c] * (255 - alpha) + 127) / 255);
    }
}

static sl_status begin(struct png_job *job, bool reads)
{
    job->png = (reads ? png_create_read_struct_2 : png_create_write_struct_2)(
        PNG_LIBPNG_VER_STRING, job, on_error, on_warning, job, png_alloc, png_release);
    job->info = job->png ? png_create_info_struct(job->png) : NULL;
    return job->info ? SL_OK : sl_err_set(job->err, SL_NOMEM, "PNG codec");
}

sl_status image_decode_png(const void *bytes, size_t n, const uint8_t background[3],
                           struct image *out, struct sl_err *err)
{
    struct png_job job = {.bytes = bytes, .n = n, .err = err};
    sl_status status = begin(&job, true);
    if (status == SL_OK) status = read_png(&job);
    png_destroy_read_struct(&job.png, &job.info, NULL);
    if (status != SL_OK) {
        sl_free(job.pixels);
        return status;
    }
    if (job.n_channels == 4) {
        size_t n_pixels = (size_t)job.width * job.height;
        blend(job.pixels, n_pixels, background);
        uint8_t *less = sl_realloc(job.pixels, 3 * n_pixels);
        if (less) job.pixels = less;
    }
    *out = (struct image){(int32_t)job.width, (int32_t)job.height, job.pixels};
    return SL_OK;
}

/* --- writing --- */

static void write_bytes(png_structp png, uint8_t *from, size_t n)
{
    struct png_job *job = png_get_io_ptr(png);
    sl_status status = sl_buf_add(job->out, from, n);
    if (status != SL_OK) give_up(job, sl_err_set(job->err, status, "the PNG file"));
}

static void flush_nothing(png_structp png)
{
    (void)png;
}

/* Holds the setjmp, as read_png. */
static sl_status write_png(struct png_job *job)
{
    if (setjmp(png_jmpbuf(job->png))) return job->status;
    png_set_write_fn(job->png, job, write_bytes, flush_nothing);
    png_set_IHDR(job->png, job->info, job->width, job->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(job->png, job->info);
    for (size_t y = 0; y < job->height; y++)
        png_write_row(job->png, job->pixels + y * job->width * 3);
    png_write_end(job->png, job->info);
    return SL_OK;
}

sl_status image_encode_png(const struct image *image, struct sl_buf *out, struct sl_err *err)
{
    struct png_job job = {.out = out,
                          .pixels = image->pixels,
                          .width = (uint32_t)image->width,
                          .height = (uint32_t)image->height,
                          .err = err};
    size_t before = out->len;
    sl_status status = begin(&job, false);
    if (status == SL_OK) status = write_png(&job);
    png_destroy_write_struct(&job.png, &job.info);
    if (status != SL_OK) sl_buf_truncate(out, before);
    return status;
}
