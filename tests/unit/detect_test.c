/* detect_test.c: boxes out of each decoder's numbers, suppression, classes by their scores, and
 * what is drawn. Expected numbers are worked out by hand from the papers' formulas. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exec/vision/classify.h"
#include "exec/vision/detect.h"
#include "exec/vision/draw.h"

#define N_ROWS 84 /* of a 64 x 64 input: 64 + 16 + 4 cells */
#define N_COLUMNS 7

static struct detect yolo(enum detect_decoder decoder)
{
    return (struct detect){.decoder = decoder,
                           .width = 64,
                           .height = 64,
                           .strides = {8, 16, 32},
                           .n_strides = 3,
                           .score_min = 0.3f,
                           .iou_max = 0.45f,
                           .n_boxes_max = 10};
}

static void check_box(const struct box *box, const float sides[4], float score, int32_t label)
{
    const float is[4] = {box->left, box->top, box->right, box->bottom};
    for (int i = 0; i < 4; i++) {
        if (fabsf(is[i] - sides[i]) > 1e-3f)
            fail_msg("side %d is %g, not %g", i, (double)is[i], (double)sides[i]);
    }
    assert_true(fabsf(box->score - score) < 1e-6f);
    assert_int_equal(box->label, label);
}

/* --- decoders --- */

static void yolox_boxes_are_relative_to_their_cells(void **state)
{
    (void)state;
    static const int64_t shape[3] = {1, N_ROWS, N_COLUMNS};
    static float v[N_ROWS][N_COLUMNS];
    const struct detect how = yolo(DETECT_YOLOX);
    struct box *boxes;
    int32_t n;
    memset(v, 0, sizeof v);
    /* stride 8, row 2, column 3: x = (3 + .5) * 8 = 28, y = (2 - .25) * 8 = 14, w = h = 8 e */
    const float small[N_COLUMNS] = {0.5f, -0.25f, 1, 1, 0.9f, 0.2f, 0.8f};
    memcpy(v[2 * 8 + 3], small, sizeof small);
    /* stride 32, row 1, column 0: x = 32 * .5, y = 32 * 1.5, w = 32, h = 16 */
    const float large[N_COLUMNS] = {0.5f, 0.5f, 0, -0.6931472f, 1, 0.5f, 0.4f};
    memcpy(v[64 + 16 + 2], large, sizeof large);
    const float faint[N_COLUMNS] = {0, 0, 0, 0, 0.5f, 0.5f, 0.5f};
    memcpy(v[70], faint, sizeof faint);
    assert_int_equal(detect_yolox_rows(&how), N_ROWS);
    assert_int_equal(detect_boxes(&how, &v[0][0], shape, 3, &boxes, &n, NULL), SL_OK);
    assert_int_equal(n, 2);
    float half = 4 * 2.7182818f;
    check_box(&boxes[0], (const float[4]){28 - half, 14 - half, 28 + half, 14 + half}, 0.72f, 1);
    check_box(&boxes[1], (const float[4]){0, 40, 32, 56}, 0.5f, 0);
    sl_free(boxes);
}

static void yolov5_and_yolov8_are_in_pixels(void **state)
{
    (void)state;
    static const float rows[2][N_COLUMNS] = {{20, 30, 10, 20, 0.5f, 0.9f, 0.1f},
                                             {40, 30, 8, 8, 0.9f, 0.1f, 0.5f}};
    static const float columns[6][3] = {{20, 40, 50}, {30, 30, 50},       {10, 8, 4},
                                        {20, 8, 4},   {0.6f, 0.1f, 0.2f}, {0.1f, 0.7f, 0.1f}};
    struct detect how = yolo(DETECT_YOLOV5);
    struct box *boxes;
    int32_t n;
    assert_int_equal(
        detect_boxes(&how, &rows[0][0], (const int64_t[3]){1, 2, 7}, 3, &boxes, &n, NULL), SL_OK);
    assert_int_equal(n, 2);
    check_box(&boxes[0], (const float[4]){15, 20, 25, 40}, 0.45f, 0);
    check_box(&boxes[1], (const float[4]){36, 26, 44, 34}, 0.45f, 1);
    sl_free(boxes);
    how.decoder = DETECT_YOLOV8;
    assert_int_equal(
        detect_boxes(&how, &columns[0][0], (const int64_t[3]){1, 6, 3}, 3, &boxes, &n, NULL),
        SL_OK);
    assert_int_equal(n, 2);
    check_box(&boxes[0], (const float[4]){36, 26, 44, 34}, 0.7f, 1);
    check_box(&boxes[1], (const float[4]){15, 20, 25, 40}, 0.6f, 0);
    sl_free(boxes);
}

static void chosen_boxes_are_taken_as_they_are(void **state)
{
    (void)state;
    /* The second overlaps the first, the third is too faint, the fourth has no area. */
    static const float rows[4][6] = {{1, 2, 30, 40, 0.6f, 17},
                                     {1, 2, 30, 41, 0.8f, 17},
                                     {1, 2, 30, 40, 0.1f, 3},
                                     {5, 5, 5, 9, 0.9f, 3}};
    const struct detect how = yolo(DETECT_BOXES);
    struct box *boxes;
    int32_t n;
    assert_int_equal(
        detect_boxes(&how, &rows[0][0], (const int64_t[3]){1, 4, 6}, 3, &boxes, &n, NULL), SL_OK);
    assert_int_equal(n, 2);
    check_box(&boxes[0], (const float[4]){1, 2, 30, 41}, 0.8f, 17);
    check_box(&boxes[1], (const float[4]){1, 2, 30, 40}, 0.6f, 17);
    sl_free(boxes);
}

/* --- suppression --- */

static void of_one_class_the_best_stays(void **state)
{
    (void)state;
    /* Boxes of 10 x 10: by 2 to the right 2/3 overlaps, by 4 3/7, which is less than .45. */
    static const float rows[5][N_COLUMNS] = {{50, 50, 10, 10, 1, 0.7f, 0},
                                             {52, 50, 10, 10, 1, 0.9f, 0},
                                             {52, 50, 10, 10, 1, 0, 0.5f},
                                             {56, 50, 10, 10, 1, 0.6f, 0},
                                             {NAN, 50, 10, 10, 1, 0.99f, 0}};
    struct detect how = yolo(DETECT_YOLOV5);
    struct box *boxes;
    int32_t n;
    const int64_t shape[3] = {1, 5, 7};
    assert_int_equal(detect_boxes(&how, &rows[0][0], shape, 3, &boxes, &n, NULL), SL_OK);
    assert_int_equal(n, 3);
    check_box(&boxes[0], (const float[4]){47, 45, 57, 55}, 0.9f, 0);
    check_box(&boxes[1], (const float[4]){51, 45, 61, 55}, 0.6f, 0);
    check_box(&boxes[2], (const float[4]){47, 45, 57, 55}, 0.5f, 1);
    sl_free(boxes);
    how.n_boxes_max = 1;
    assert_int_equal(detect_boxes(&how, &rows[0][0], shape, 3, &boxes, &n, NULL), SL_OK);
    assert_int_equal(n, 1);
    sl_free(boxes);
}

static void the_best_of_very_many_are_kept(void **state)
{
    (void)state;
    enum { N = 3 * DETECT_CANDIDATES_MAX };
    struct detect how = yolo(DETECT_YOLOV5);
    float *rows = sl_calloc(N, 7 * sizeof *rows);
    struct box *boxes;
    int32_t n;
    for (int i = 0; i < N; i++) {
        int x = 3 * (i % 1000), y = 3 * (i / 1000);
        const float row[7] = {(float)x, (float)y, 2, 2, 1, 0.3f + 0.5f * (float)i / N};
        memcpy(rows + 7 * i, row, sizeof row);
    }
    how.n_boxes_max = 5;
    assert_int_equal(detect_boxes(&how, rows, (const int64_t[3]){1, N, 7}, 3, &boxes, &n, NULL),
                     SL_OK);
    assert_int_equal(n, 5);
    for (int i = 0; i < 5; i++) {
        int row = N - 1 - i;
        assert_true(boxes[i].left == (float)(3 * (row % 1000) - 1));
    }
    sl_free(boxes);
    sl_free(rows);
}

static void strange_shapes_are_told(void **state)
{
    (void)state;
    static const float v[N_ROWS * N_COLUMNS];
    struct sl_err err = SL_ERR_INIT;
    struct detect how = yolo(DETECT_YOLOX);
    struct box *boxes;
    int32_t n;
    assert_int_equal(detect_boxes(&how, v, (const int64_t[3]){1, 83, 7}, 3, &boxes, &n, &err),
                     SL_INVALID);
    assert_non_null(strstr(err.text, "83 rows"));
    assert_non_null(strstr(err.text, "64 x 64 have 84"));
    assert_int_equal(detect_boxes(&how, v, (const int64_t[3]){2, 42, 7}, 3, &boxes, &n, &err),
                     SL_INVALID);
    assert_int_equal(detect_boxes(&how, v, (const int64_t[2]){84, 7}, 2, &boxes, &n, &err),
                     SL_INVALID);
    assert_string_equal(err.text, "the output's shape is [84,7]; its decoder takes [1,N,5+C] (x, "
                                  "y, w, h, objectness, C scores)");
    how.decoder = DETECT_BOXES;
    assert_int_equal(detect_boxes(&how, v, (const int64_t[3]){1, 84, 7}, 3, &boxes, &n, &err),
                     SL_INVALID);
    how.decoder = DETECT_YOLOV8;
    assert_int_equal(detect_boxes(&how, v, (const int64_t[3]){1, 4, 84}, 3, &boxes, &n, &err),
                     SL_INVALID);
    sl_mem_fail_at(1, false);
    assert_int_equal(detect_boxes(&how, v, (const int64_t[3]){1, 7, 84}, 3, &boxes, &n, &err),
                     SL_NOMEM);
    sl_mem_fail_at(0, false);
}

/* --- classes --- */

static void softmax_is_stable(void **state)
{
    (void)state;
    float v[4] = {1000, 1001, 999, NAN};
    classify_softmax(v, 4);
    assert_true(fabsf(v[0] - 0.24472847f) < 1e-6f && fabsf(v[1] - 0.66524096f) < 1e-6f);
    assert_true(fabsf(v[2] - 0.09003057f) < 1e-6f && v[3] == 0);
    float infinite[3] = {INFINITY, 3, -INFINITY};
    classify_softmax(infinite, 3);
    assert_true(infinite[0] == 1 && infinite[1] == 0 && infinite[2] == 0);
    float nothing[2] = {-INFINITY, -INFINITY};
    classify_softmax(nothing, 2);
    assert_true(nothing[0] == 0.5f && nothing[1] == 0.5f);
}

static void the_k_best_come_in_order(void **state)
{
    (void)state;
    static const float v[] = {0.1f, 0.7f, NAN, 0.7f, 0.9f, -1};
    struct class_score top[6];
    assert_int_equal(classify_top(v, 6, 3, top), 3);
    assert_int_equal(top[0].index, 4);
    assert_int_equal(top[1].index, 1); /* of equals the first */
    assert_int_equal(top[2].index, 3);
    assert_int_equal(classify_top(v, 6, 6, top), 5);
    assert_int_equal(top[4].index, 5);
    assert_int_equal(classify_top(v, 6, 0, top), 0);
}

static void every_type_of_number_is_read(void **state)
{
    (void)state;
    static const struct {
        enum tensor_type type;
        uint8_t bytes[16];
    } rows[] = {{TENSOR_UINT8, {7, 200}},
                {TENSOR_INT8, {7, 200}},
                {TENSOR_UINT16, {7, 0, 200, 255}},
                {TENSOR_INT16, {7, 0, 200, 255}},
                {TENSOR_INT32, {7, 0, 0, 0, 200, 255, 255, 255}},
                {TENSOR_INT64, {7, 0, 0, 0, 0, 0, 0, 0, 200, 255, 255, 255, 255, 255, 255, 255}},
                {TENSOR_FP16, {0, 0x47, 0, 0xd3}},
                {TENSOR_BF16, {0xe0, 0x40, 0x60, 0xc2}},
                {TENSOR_FP32, {0, 0, 0xe0, 0x40, 0, 0, 0x60, 0xc2}},
                {TENSOR_FP64, {0, 0, 0, 0, 0, 0, 0x1c, 0x40, 0, 0, 0, 0, 0, 0, 0x4c, 0xc0}}};
    static const float seconds[] = {200, -56, 65480, -56, -56, -56, -56, -56, -56, -56};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct tensor t = {.type = rows[i].type,
                                 .rank = 1,
                                 .shape = {2},
                                 .data = rows[i].bytes,
                                 .n_bytes = 2 * tensor_type_size(rows[i].type)};
        float *v;
        size_t n;
        assert_int_equal(vision_floats(&t, &v, &n, NULL), SL_OK);
        if (n != 2 || v[0] != 7 || v[1] != seconds[i])
            fail_msg("%s: %g, %g", tensor_type_name(t.type), (double)v[0], (double)v[1]);
        sl_free(v);
    }
    const struct tensor text = {.type = TENSOR_BYTES, .rank = 1, .shape = {1}, .n_bytes = 8};
    float *v;
    size_t n;
    assert_int_equal(vision_floats(&text, &v, &n, NULL), SL_INVALID);
}

/* --- drawing --- */

static int count(const struct image *image, const uint8_t rgb[3])
{
    int n = 0;
    for (int i = 0; i < image->width * image->height; i++)
        n += memcmp(image->pixels + 3 * i, rgb, 3) == 0;
    return n;
}

static void frames_stay_within_the_image(void **state)
{
    (void)state;
    static const uint8_t red[3] = {255, 0, 0};
    struct image image;
    assert_int_equal(image_create(20, 10, &image, NULL), SL_OK);
    draw_frame(&image, &(struct draw_frame){2, 3, 8, 9, 1}, red);
    assert_int_equal(count(&image, red), 2 * 6 + 2 * 4);
    draw_frame(&image, &(struct draw_frame){-100, -100, 1000, 1000, 5}, red);
    assert_int_equal(count(&image, red), 2 * 6 + 2 * 4); /* its sides lie outside */
    draw_frame(&image, &(struct draw_frame){INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX, INT32_MAX},
               red);
    assert_int_equal(count(&image, red), 200);
    image_done(&image);
}

static void labels_are_readable_on_their_ground(void **state)
{
    (void)state;
    static const uint8_t light[3] = {240, 228, 66}, dark[3] = {0, 114, 178};
    static const uint8_t black[3] = {0, 0, 0}, white[3] = {255, 255, 255};
    struct image image;
    assert_int_equal(image_create(60, 20, &image, NULL), SL_OK);
    memset(image.pixels, 9, 60 * 20 * 3);
    draw_label(&image, 55, 1000, 1, "l\xc3", light); /* moved to the left and up */
    assert_int_equal(count(&image, light) + count(&image, black), 13 * 10);
    /* "l" has 10 points; what is no ASCII is a box of 20. */
    assert_int_equal(count(&image, black), 10 + 20);
    draw_label(&image, 0, 0, 1, "i", dark);
    assert_int_equal(count(&image, white), 9);
    draw_label(&image, INT32_MIN, INT32_MAX, 1000, "a very long label in letters of a great size",
               dark);
    image_done(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yolox_boxes_are_relative_to_their_cells),
        cmocka_unit_test(yolov5_and_yolov8_are_in_pixels),
        cmocka_unit_test(chosen_boxes_are_taken_as_they_are),
        cmocka_unit_test(of_one_class_the_best_stays),
        cmocka_unit_test(the_best_of_very_many_are_kept),
        cmocka_unit_test(strange_shapes_are_told),
        cmocka_unit_test(softmax_is_stable),
        cmocka_unit_test(the_k_best_come_in_order),
        cmocka_unit_test(every_type_of_number_is_read),
        cmocka_unit_test(frames_stay_within_the_image),
        cmocka_unit_test(labels_are_readable_on_their_ground),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
