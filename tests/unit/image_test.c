/* image_test.c: every kind of PNG and JPEG that people have, what is damaged or hostile, and that a
 * PNG comes back as it was. The files are those of the fuzzer's corpus; `pattern` is what their
 * pixels were made of. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/vision/image.h"

#define FILES STARLANE_ROOT "/tests/fuzz/corpus/image/"
#define FILE_MAX 65536

struct file {
    uint8_t bytes[FILE_MAX];
    size_t n;
};

static const uint8_t white[3] = {255, 255, 255};

static void read_file(const char *name, struct file *out)
{
    char path[1024];
    snprintf(path, sizeof path, FILES "%s", name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is missing", path);
    out->n = fread(out->bytes, 1, sizeof out->bytes, f);
    fclose(f);
}

static void decode(const char *name, const uint8_t background[3], struct image *out)
{
    static struct file file;
    struct sl_err err = SL_ERR_INIT;
    read_file(name, &file);
    if (image_decode(file.bytes, file.n, background, out, &err) != SL_OK)
        fail_msg("%s: %s", name, err.text);
}

static const uint8_t *pixel(const struct image *image, int x, int y)
{
    return image->pixels + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
}

static void check_pixel(const struct image *image, int x, int y, const uint8_t rgb[3], int slack)
{
    const uint8_t *is = pixel(image, x, y);
    for (int c = 0; c < 3; c++) {
        if (abs(is[c] - rgb[c]) > slack)
            fail_msg("(%d,%d) is %d,%d,%d and not %d,%d,%d", x, y, is[0], is[1], is[2], rgb[0],
                     rgb[1], rgb[2]);
    }
}

/* --- PNG --- */

static void colours_of_8_and_16_bits_and_interlaced_are_the_same(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb8.png", "rgb16.png", "adam7.png", "ztxt.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct image image;
        decode(names[i], white, &image);
        assert_int_equal(image.width, 5);
        assert_int_equal(image.height, 3);
        for (int y = 0; y < 3; y++) {
            for (int x = 0; x < 5; x++) {
                const uint8_t pattern[3] = {(uint8_t)(10 * x + y), (uint8_t)(100 + x * y),
                                            (uint8_t)(200 - 20 * y)};
                check_pixel(&image, x, y, pattern, 0);
            }
        }
        image_done(&image);
    }
}

static void grey_becomes_three_equal_channels(void **state)
{
    (void)state;
    struct image image;
    decode("gray8.png", white, &image);
    for (int x = 0; x < 5; x++) {
        uint8_t v = (uint8_t)(50 * x + 2);
        check_pixel(&image, x, 2, (const uint8_t[3]){v, v, v}, 0);
    }
    image_done(&image);
    decode("gray1.png", white, &image);
    for (int x = 0; x < 5; x++) {
        uint8_t v = x % 2 ? 0 : 255;
        check_pixel(&image, x, 0, (const uint8_t[3]){v, v, v}, 0);
    }
    image_done(&image);
}

static void the_background_shines_through(void **state)
{
    (void)state;
    static const uint8_t background[3] = {0, 100, 200};
    struct image image;
    decode("rgba8.png", background, &image);
    check_pixel(&image, 0, 1, background, 0);
    /* alpha 102 of 255 over (0,100,200): 255*.4, 100*.6, 100*.4 + 200*.6 */
    check_pixel(&image, 2, 1, (const uint8_t[3]){102, 60, 160}, 0);
    image_done(&image);
    decode("la8.png", background, &image);
    check_pixel(&image, 1, 0, (const uint8_t[3]){40, 120, 200}, 0); /* 51 of 255 */
    image_done(&image);
    decode("palette.png", background, &image);
    check_pixel(&image, 0, 0, (const uint8_t[3]){255, 0, 0}, 0);
    check_pixel(&image, 1, 0, background, 0);
    check_pixel(&image, 2, 0, (const uint8_t[3]){0, 0, 255}, 0);
    check_pixel(&image, 4, 2, background, 0);
    image_done(&image);
}

static void a_png_comes_back_as_it_was(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct image image, again;
    struct sl_buf png;
    sl_buf_init(&png, 1 << 20);
    assert_int_equal(image_create(61, 47, &image, &err), SL_OK);
    for (size_t i = 0; i < 61 * 47 * 3; i++) image.pixels[i] = (uint8_t)(i * i / 7);
    assert_int_equal(sl_buf_adds(&png, "kept"), SL_OK);
    assert_int_equal(image_encode_png(&image, &png, &err), SL_OK);
    assert_memory_equal(png.data, "kept", 4);
    assert_int_equal(image_decode(png.data + 4, png.len - 4, white, &again, &err), SL_OK);
    assert_int_equal(again.width, 61);
    assert_int_equal(again.height, 47);
    assert_memory_equal(again.pixels, image.pixels, 61 * 47 * 3);
    image_done(&again);
    sl_buf_done(&png);
    sl_buf_init(&png, 100);
    assert_int_equal(image_encode_png(&image, &png, &err), SL_LIMIT);
    assert_int_equal(png.len, 0);
    image_done(&image);
    sl_buf_done(&png);
}

/* --- JPEG --- */

/* The letter of the colour in each corner, row by row. */
static void check_corners(const char *name, int width, const char *corners)
{
    struct image image;
    decode(name, white, &image);
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, 48 - width);
    for (int i = 0; i < 4; i++) {
        const uint8_t *rgb =
            pixel(&image, i % 2 ? image.width - 3 : 2, i / 2 ? image.height - 3 : 2);
        char is = rgb[0] > 200 ? 'R' : rgb[1] > 200 ? 'G' : rgb[2] > 200 ? 'B' : '?';
        if (is != corners[i]) fail_msg("%s: corner %d is %c", name, i, is);
    }
    image_done(&image);
}

static void a_jpeg_is_turned_as_its_exif_says(void **state)
{
    (void)state;
    /* As PIL.ImageOps.exif_transpose turns them. */
    check_corners("turn1.jpg", 32, "RBGB");
    check_corners("turn2.jpg", 32, "BRBG");
    check_corners("turn3.jpg", 32, "BGBR");
    check_corners("turn4.jpg", 32, "GBRB");
    check_corners("turn5.jpg", 16, "RGBB");
    check_corners("turn6.jpg", 16, "GRBB");
    check_corners("turn7.jpg", 16, "BBGR");
    check_corners("turn8.jpg", 16, "BBRG");
    check_corners("plain.jpg", 32, "RBGB");
    check_corners("progressive.jpg", 32, "RBGB");
    check_corners("exif_far.jpg", 32, "RBGB"); /* its directory lies outside the block */
}

static void grey_and_cmyk_jpegs_become_rgb(void **state)
{
    (void)state;
    struct image image;
    decode("gray.jpg", white, &image);
    check_pixel(&image, 3, 3, (const uint8_t[3]){76, 76, 76}, 4);     /* red's luma */
    check_pixel(&image, 28, 3, (const uint8_t[3]){29, 29, 29}, 4);    /* blue's */
    check_pixel(&image, 3, 13, (const uint8_t[3]){150, 150, 150}, 4); /* green's */
    image_done(&image);
    decode("cmyk.jpg", white, &image);
    check_pixel(&image, 2, 2, (const uint8_t[3]){255, 0, 0}, 6);
    check_pixel(&image, 12, 2, (const uint8_t[3]){0, 255, 255}, 6);
    check_pixel(&image, 2, 12, (const uint8_t[3]){0, 0, 0}, 6);
    image_done(&image);
}

/* --- what is refused --- */

static void check_refused(const char *name, sl_status status, const char *text)
{
    static struct file file;
    struct sl_err err = SL_ERR_INIT;
    struct image image;
    uint64_t live = sl_mem_live();
    read_file(name, &file);
    assert_int_equal(image_decode(file.bytes, file.n, white, &image, &err), status);
    if (!strstr(err.text, text)) fail_msg("%s: %s", name, err.text);
    assert_int_equal(sl_mem_live(), live);
}

static void damaged_and_hostile_files_are_refused(void **state)
{
    (void)state;
    check_refused("cut.png", SL_CORRUPT, "cut off");
    check_refused("crc.png", SL_CORRUPT, "PNG");
    check_refused("zero.png", SL_CORRUPT, "PNG");
    check_refused("huge.png", SL_LIMIT, "60000 x 60000");
    check_refused("cut.jpg", SL_CORRUPT, "JPEG");
    check_refused("head.jpg", SL_CORRUPT, "JPEG");
    check_refused("huge.jpg", SL_LIMIT, "65500 x 65500");
}

static void every_beginning_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb8.png", "palette.png", "turn6.jpg", "progressive.jpg"};
    static struct file file;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        read_file(names[i], &file);
        /* A PNG's last chunk, and a JPEG's end marker, are not waited for. */
        for (size_t n = 0; n + 14 < file.n; n++) {
            struct image image;
            if (image_decode(file.bytes, n, white, &image, NULL) == SL_OK)
                fail_msg("%s: taken with %zu of %zu bytes", names[i], n, file.n);
        }
    }
}

static void other_files_are_told_as_such(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct image image;
    assert_int_equal(image_decode("GIF89a", 6, white, &image, &err), SL_UNSUPPORTED);
    assert_string_equal(err.text, "neither a JPEG nor a PNG image");
    assert_int_equal(image_create(0, 5, &image, &err), SL_INVALID);
    assert_int_equal(image_create(65500, 65500, &image, &err), SL_LIMIT);
    assert_int_equal(image_create(65501, 1, &image, &err), SL_LIMIT);
}

static void no_allocation_is_taken_for_granted(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb8.png", "rgba8.png", "adam7.png", "turn6.jpg",
                                        "cmyk.jpg"};
    static struct file file;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        read_file(names[i], &file);
        uint64_t live = sl_mem_live();
        sl_status status = SL_NOMEM;
        for (uint64_t nth = 1; status != SL_OK; nth++) {
            struct image image;
            sl_mem_fail_at(nth, false);
            status = image_decode(file.bytes, file.n, white, &image, NULL);
            sl_mem_fail_at(0, false);
            if (status == SL_OK) image_done(&image);
            if (status != SL_OK && status != SL_NOMEM)
                fail_msg("%s: allocation %d: %s", names[i], (int)nth, sl_status_name(status));
            assert_int_equal(sl_mem_live(), live);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colours_of_8_and_16_bits_and_interlaced_are_the_same),
        cmocka_unit_test(grey_becomes_three_equal_channels),
        cmocka_unit_test(the_background_shines_through),
        cmocka_unit_test(a_png_comes_back_as_it_was),
        cmocka_unit_test(a_jpeg_is_turned_as_its_exif_says),
        cmocka_unit_test(grey_and_cmyk_jpegs_become_rgb),
        cmocka_unit_test(damaged_and_hostile_files_are_refused),
        cmocka_unit_test(every_beginning_of_a_file_is_refused),
        cmocka_unit_test(other_files_are_told_as_such),
        cmocka_unit_test(no_allocation_is_taken_for_granted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
