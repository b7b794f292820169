/* prepare_test.c: images become tensors: sizes against numbers that PIL and NumPy computed, and
 * layout, channels, values, geometry against their definitions. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/vision/half.h"
#include "exec/vision/prepare.h"

/* What the source, 7 x 5 pixels of (37x + 59y + 83c + 13xy) % 256, becomes elsewhere. */
/* PIL 9.4, BILINEAR: [3][4][3] */
static const uint8_t pil_bilinear_4x3[] = {
    47,  130, 161, 114, 166, 129, 113, 136, 102, 149, 93,  111, 148, 109, 91,  163, 117, 143,
    114, 123, 116, 153, 98,  114, 180, 82,  157, 150, 170, 146, 155, 140, 163, 84,  162, 125};
/* PIL 9.4, BICUBIC: [2][3][3] */
static const uint8_t pil_bicubic_3x2[] = {95,  135, 132, 123, 141, 116, 137, 97,  111,
                                          174, 99,  137, 152, 146, 148, 116, 135, 127};
/* PIL 9.4, BILINEAR: [6][9][3] */
static const uint8_t pil_bilinear_9x6[] = {
    0,   83,  166, 25,  108, 191, 53,  136, 219, 82,  165, 191, 111, 194, 21,  140, 223, 50,
    169, 109, 79,  197, 24,  107, 222, 49,  132, 44,  127, 210, 75,  158, 114, 112, 195, 86,
    148, 188, 108, 185, 76,  95,  72,  112, 131, 66,  113, 168, 102, 121, 139, 133, 152, 43,
    93,  176, 110, 132, 115, 78,  176, 110, 86,  188, 131, 131, 117, 93,  176, 79,  138, 105,
    100, 100, 117, 145, 78,  126, 183, 117, 93,  143, 119, 53,  188, 65,  98,  194, 69,  152,
    155, 122, 181, 92,  175, 151, 145, 145, 88,  139, 92,  108, 145, 78,  126, 190, 124, 100,
    192, 19,  102, 202, 72,  155, 157, 134, 188, 112, 181, 171, 174, 193, 84,  185, 105, 145,
    126, 124, 171, 81,  164, 141, 91,  174, 65,  236, 63,  146, 125, 122, 205, 109, 192, 161,
    178, 204, 88,  247, 74,  157, 117, 143, 226, 129, 212, 153, 113, 196, 109, 2,   85,  168};
/* PIL 9.4, NEAREST: [3][4][3] */
static const uint8_t pil_nearest_4x3[] = {
    0,   83,  166, 74,  157, 240, 148, 231, 58,  222, 49,  132, 118, 201, 28,  244, 71, 154,
    114, 197, 24,  240, 67,  150, 236, 63,  146, 158, 241, 68,  80,  163, 246, 2,   85, 168};
/* torchvision's Resize(6), CenterCrop(4) on PIL 9.4, BILINEAR: [4][4][3] */
static const uint8_t pil_crop_4x4[] = {123, 206, 97,  164, 139, 102, 121, 96,  115, 54,  117, 156,
                                       190, 124, 100, 157, 114, 151, 96,  119, 136, 86,  122, 103,
                                       184, 85,  168, 127, 145, 168, 122, 158, 116, 149, 112, 92,
                                       129, 152, 191, 139, 186, 133, 180, 143, 118, 154, 105, 168};
/* NumPy, two taps an axis (OpenCV's INTER_LINEAR): [4][3][3] */
static const uint8_t two_taps_3x4[] = {33,  116, 178, 123, 174, 33,  181, 40, 113, 118, 137, 81,
                                       150, 73,  156, 118, 105, 134, 202, 61, 112, 112, 195, 118,
                                       118, 105, 135, 138, 114, 197, 235, 94, 145, 108, 191, 114};
/* NumPy, four taps an axis, a = -0.75 (OpenCV's INTER_CUBIC): [3][9][3] */
static const uint8_t four_taps_9x3[] = {
    13,  95,  199, 38,  131, 154, 73,  181, 164, 112, 185, 157, 151, 139, 46,  104, 182,
    82,  110, 110, 134, 154, 58,  129, 180, 101, 83,  114, 214, 24,  154, 62,  64,  231,
    11,  120, 210, 88,  178, 51,  134, 217, 90,  206, 58,  148, 87,  37,  204, 2,   114,
    244, 71,  154, 227, 27,  125, 160, 92,  199, 109, 188, 187, 143, 210, 113, 222, 129,
    117, 153, 109, 206, 128, 185, 176, 93,  203, 115, 27,  124, 118};
/* NumPy: [5][7] */
static const uint8_t luma_7x5[] = {68,  105, 142, 149, 186, 73,  110, 127, 147, 197, 97,  71,
                                   121, 141, 156, 69,  132, 119, 152, 65,  128, 65,  141, 141,
                                   187, 113, 113, 159, 124, 137, 196, 135, 148, 207, 70};

/* --- sizes --- */

static void make_source(struct image *out)
{
    assert_int_equal(image_create(7, 5, out, NULL), SL_OK);
    for (int y = 0; y < 5; y++) {
        for (int x = 0; x < 7; x++) {
            for (int c = 0; c < 3; c++)
                out->pixels[(y * 7 + x) * 3 + c] = (uint8_t)(x * 37 + y * 59 + c * 83 + x * y * 13);
        }
    }
}

static struct prepare bytes_of(int32_t width, int32_t height)
{
    return (struct prepare){.width = width,
                            .height = height,
                            .resize = PREPARE_STRETCH,
                            .place = PREPARE_CENTER,
                            .resample = RESAMPLE_BILINEAR,
                            .antialias = true,
                            .layout = PREPARE_NHWC,
                            .type = TENSOR_UINT8,
                            .scale = 1,
                            .std = {1, 1, 1}};
}

static void prepare(const struct prepare *how, struct prepared *out)
{
    struct sl_err err = SL_ERR_INIT;
    struct image image;
    make_source(&image);
    if (prepare_image(how, &image, out, &err) != SL_OK) fail_msg("%s", err.text);
    image_done(&image);
}

static void check_levels(const struct prepare *how, const uint8_t *wanted, size_t n, int slack)
{
    struct prepared p;
    prepare(how, &p);
    assert_int_equal(p.tensor.n_bytes, n);
    for (size_t i = 0; i < n; i++) {
        int is = ((const uint8_t *)p.tensor.data)[i];
        if (abs(is - wanted[i]) > slack) fail_msg("value %zu is %d, not %d", i, is, wanted[i]);
    }
    prepared_done(&p);
}

static void sizes_change_as_pil_changes_them(void **state)
{
    (void)state;
    /* PIL rounds to bytes between the axes, and once more at the end. */
    struct prepare how = bytes_of(4, 3);
    check_levels(&how, pil_bilinear_4x3, sizeof pil_bilinear_4x3, 1);
    how = bytes_of(9, 6);
    check_levels(&how, pil_bilinear_9x6, sizeof pil_bilinear_9x6, 1);
    how = bytes_of(3, 2);
    how.resample = RESAMPLE_BICUBIC;
    check_levels(&how, pil_bicubic_3x2, sizeof pil_bicubic_3x2, 1);
    how = bytes_of(4, 3);
    how.resample = RESAMPLE_NEAREST;
    check_levels(&how, pil_nearest_4x3, sizeof pil_nearest_4x3, 0);
}

static void without_antialias_few_pixels_count(void **state)
{
    (void)state;
    struct prepare how = bytes_of(3, 4);
    how.antialias = false;
    check_levels(&how, two_taps_3x4, sizeof two_taps_3x4, 1);
    how = bytes_of(9, 3);
    how.antialias = false;
    how.resample = RESAMPLE_BICUBIC;
    check_levels(&how, four_taps_9x3, sizeof four_taps_9x3, 1);
}

static void a_crop_takes_the_middle(void **state)
{
    (void)state;
    struct prepare how = bytes_of(4, 4);
    struct prepared p;
    float x = 0, y = 0;
    how.resize = PREPARE_CROP;
    how.shorter = 6;
    check_levels(&how, pil_crop_4x4, sizeof pil_crop_4x4, 1);
    prepare(&how, &p);
    prepare_to_image(&p.geometry, &x, &y); /* two of eight columns, one of six rows are cut off */
    assert_true(fabsf(x - 7 * 2 / 8.0f) < 1e-5f && fabsf(y - 5 * 1 / 6.0f) < 1e-5f);
    prepared_done(&p);
}

static void a_letterbox_keeps_the_proportions(void **state)
{
    (void)state;
    struct prepare how = bytes_of(14, 14);
    struct prepared p;
    how.resize = PREPARE_LETTERBOX;
    how.resample = RESAMPLE_NEAREST;
    how.pad = 114;
    for (int centered = 0; centered < 2; centered++) {
        how.place = centered ? PREPARE_CENTER : PREPARE_TOP_LEFT;
        int begin = centered ? 2 : 0; /* of the ten rows that 5 become */
        prepare(&how, &p);
        const uint8_t *v = p.tensor.data;
        for (int row = 0; row < 14; row++) {
            bool inside = row >= begin && row < begin + 10;
            for (int column = 0; column < 14; column++) {
                int sx = column / 2, sy = (row - begin) / 2;
                int wanted = inside ? (sx * 37 + sy * 59 + sx * sy * 13) % 256 : 114;
                assert_int_equal(v[(row * 14 + column) * 3], wanted);
            }
        }
        float x = 14, y = (float)begin + 10;
        prepare_to_image(&p.geometry, &x, &y);
        assert_true(x == 7 && y == 5);
        x = -3;
        y = 14;
        prepare_to_image(&p.geometry, &x, &y); /* of the padding, its nearest point */
        assert_true(x == 0 && y == 5);
        prepared_done(&p);
    }
}

static void a_kept_size_is_the_images(void **state)
{
    (void)state;
    struct prepare how = bytes_of(0, 0);
    struct prepared p;
    struct image image;
    how.resize = PREPARE_KEEP;
    make_source(&image);
    prepare(&how, &p);
    assert_int_equal(p.tensor.shape[1], 5);
    assert_int_equal(p.tensor.shape[2], 7);
    assert_memory_equal(p.tensor.data, image.pixels, 5 * 7 * 3);
    prepared_done(&p);
    image_done(&image);
    assert_int_equal(image_create(6000, 6000, &image, NULL), SL_OK);
    how.type = TENSOR_FP32;
    assert_int_equal(prepare_image(&how, &image, &p, NULL), SL_LIMIT);
    image_done(&image);
}

/* --- values --- */

static void values_stand_where_the_layout_says(void **state)
{
    (void)state;
    struct prepare how = bytes_of(0, 0);
    struct prepared p;
    how.resize = PREPARE_KEEP;
    how.layout = PREPARE_NCHW;
    how.channels = PREPARE_BGR;
    how.type = TENSOR_FP32;
    how.scale = 1 / 255.0;
    for (int c = 0; c < 3; c++) {
        how.mean[c] = 0.1 * (c + 1);
        how.std[c] = 0.2 * (c + 1);
    }
    prepare(&how, &p);
    const int64_t shape[4] = {1, 3, 5, 7};
    assert_memory_equal(p.tensor.shape, shape, sizeof shape);
    const float *v = p.tensor.data;
    for (int c = 0; c < 3; c++) {
        int level = (6 * 37 + 4 * 59 + (2 - c) * 83 + 24 * 13) % 256; /* of the last pixel */
        double wanted = (level / 255.0 - 0.1 * (c + 1)) / (0.2 * (c + 1));
        assert_true(fabs((double)v[c * 35 + 34] - wanted) < 1e-6);
    }
    prepared_done(&p);
}

static void grey_is_the_luma(void **state)
{
    (void)state;
    struct prepare how = bytes_of(0, 0);
    how.resize = PREPARE_KEEP;
    how.channels = PREPARE_GRAY;
    check_levels(&how, luma_7x5, sizeof luma_7x5, 0);
}

static void halves_are_rounded_to_even(void **state)
{
    (void)state;
    static const struct {
        float value;
        uint16_t bits;
    } rows[] = {{0.0f, 0},
                {-0.0f, 0x8000},
                {1.0f, 0x3c00},
                {-2.0f, 0xc000},
                {65504.0f, 0x7bff},
                {65519.0f, 0x7bff},
                {65520.0f, 0x7c00},
                {1e9f, 0x7c00},
                {-1e9f, 0xfc00},
                {6.1035156e-5f, 0x0400},
                {5.9604645e-8f, 0x0001},
                {2.9802322e-8f, 0},
                {2.9802326e-8f, 0x0001},
                {1.00048828125f, 0x3c00},
                {1.00146484375f, 0x3c02},
                {0.333333343f, 0x3555},
                {INFINITY, 0x7c00}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (half_from_float(rows[i].value) != rows[i].bits)
            fail_msg("%.9g is 0x%04x", (double)rows[i].value, half_from_float(rows[i].value));
    }
    assert_int_equal(half_from_float(NAN) & 0x7c00, 0x7c00);
    assert_true(half_from_float(NAN) & 0x3ff);
    for (uint32_t bits = 0; bits < 0x7c00; bits++)
        assert_int_equal(half_from_float(half_to_float((uint16_t)bits)), bits);
    assert_true(isnan(half_to_float(0x7e00)) && half_to_float(0xfc00) == -INFINITY);
    assert_true(bfloat_to_float(0x3fc0) == 1.5f);
}

static void half_tensors_hold_halves(void **state)
{
    (void)state;
    struct prepare how = bytes_of(0, 0);
    struct prepared p;
    uint16_t first[3];
    how.resize = PREPARE_KEEP;
    how.type = TENSOR_FP16;
    prepare(&how, &p);
    assert_int_equal(p.tensor.n_bytes, 5 * 7 * 3 * 2);
    memcpy(first, p.tensor.data, sizeof first);
    assert_int_equal(first[0], 0);
    assert_int_equal(first[1], 0x5530); /* 83 */
    assert_int_equal(first[2], 0x5930); /* 166 */
    prepared_done(&p);
}

static void no_allocation_is_taken_for_granted(void **state)
{
    (void)state;
    struct prepare how = bytes_of(3, 9);
    struct image image;
    make_source(&image);
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct prepared p;
        sl_mem_fail_at(nth, false);
        status = prepare_image(&how, &image, &p, NULL);
        sl_mem_fail_at(0, false);
        if (status == SL_OK)
            prepared_done(&p);
        else
            assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    image_done(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_change_as_pil_changes_them),
        cmocka_unit_test(without_antialias_few_pixels_count),
        cmocka_unit_test(a_crop_takes_the_middle),
        cmocka_unit_test(a_letterbox_keeps_the_proportions),
        cmocka_unit_test(a_kept_size_is_the_images),
        cmocka_unit_test(values_stand_where_the_layout_says),
        cmocka_unit_test(grey_is_the_luma),
        cmocka_unit_test(halves_are_rounded_to_even),
        cmocka_unit_test(half_tensors_hold_halves),
        cmocka_unit_test(no_allocation_is_taken_for_granted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
