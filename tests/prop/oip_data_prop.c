/* oip_data_prop.c: random tensors come back from JSON bit by bit, and random decimals are read as
 * strtof and strtod read them. SEED=n repeats a run. */
#include "access/oip_data.h"
#include "support/prop.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_ROUNDS 400
#define N_VALUES 200
#define N_NUMBERS 60000
#define ROOM (1u << 20)

static void draw_bytes(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) ((unsigned char *)out)[i] = (unsigned char)prop_draw(256);
}

/* Any bits, but for what is no number; or a number of everyday size. */
static float draw_float(void)
{
    float value;
    do draw_bytes(&value, sizeof value);
    while (!isfinite(value));
    if (prop_draw(2)) return value;
    return (float)((double)prop_draw(2000000000) / pow(10, (double)prop_draw(12)));
}

static double draw_double(void)
{
    double value;
    do draw_bytes(&value, sizeof value);
    while (!isfinite(value));
    return prop_draw(2) ? value : (double)draw_float();
}

static void draw_values(enum tensor_type type, unsigned char *data)
{
    size_t size = tensor_type_size(type);
    for (size_t i = 0; i < N_VALUES; i++) {
        float narrow = draw_float();
        double wide = draw_double();
        draw_bytes(data + i * size, size);
        if (type == TENSOR_BOOL) data[i] &= 1;
        if (type == TENSOR_FP32) memcpy(data + i * size, &narrow, size);
        if (type == TENSOR_FP64) memcpy(data + i * size, &wide, size);
    }
}

static void numbers_come_back(void **state)
{
    static unsigned char data[N_VALUES * 8];
    struct sl_buf text;
    (void)state;
    sl_buf_init(&text, ROOM);
    for (int round = 0; round < N_ROUNDS; round++) {
        enum tensor_type type = (enum tensor_type)prop_draw(TENSOR_BYTES);
        if (type == TENSOR_FP16 || type == TENSOR_BF16) continue;
        struct tensor tensor = {"x", type, 1, {N_VALUES}, data, N_VALUES * tensor_type_size(type)};
        struct sl_err err = SL_ERR_INIT;
        struct sl_arena arena;
        sl_arena_init(&arena, ROOM);
        draw_values(type, data);
        sl_buf_clear(&text);
        assert_int_equal(oip_data_write(&tensor, &text, &err), SL_OK);
        const struct oip_data list = {text.data, text.len};
        if (oip_data_read(&list, &arena, &tensor, &err) != SL_OK) fail_msg("%s", err.text);
        if (memcmp(tensor.data, data, tensor.n_bytes)) fail_msg("%s", text.data);
        sl_arena_done(&arena);
    }
    sl_buf_done(&text);
}

/* A decimal of 1 to 24 digits with a point somewhere, and maybe an exponent. */
static void draw_decimal(char out[64])
{
    size_t n_digits = 1 + prop_draw(prop_draw(2) ? 24 : 9), point = 1 + prop_draw(n_digits);
    char *p = out;
    if (prop_draw(2)) *p++ = '-';
    for (size_t i = 0; i < n_digits; i++) {
        if (i == point) *p++ = '.';
        *p++ = (char)('0' + (i ? prop_draw(10) : 1 + prop_draw(9)));
    }
    *p = '\0';
    if (prop_draw(2)) sprintf(p, "e%d", (int)prop_draw(60) - 40);
}

/* The decimal halfway between two neighbours, or next to it: where rounding is hardest. */
static void draw_middle(char out[64])
{
    float value = fabsf(draw_float());
    double middle = ((double)value + (double)nextafterf(value, INFINITY)) / 2;
    snprintf(out, 64, "%.*e", (int)(16 + prop_draw(3)), middle);
}

static void decimals_are_read_as_the_library_reads_them(void **state)
{
    (void)state;
    for (int i = 0; i < N_NUMBERS; i++) {
        char text[80], number[64];
        if (prop_draw(3))
            draw_decimal(number);
        else
            draw_middle(number);
        double wide = strtod(number, NULL);
        float narrow = (float)wide;
        snprintf(text, sizeof text, "[%s]", number);
        const struct oip_data list = {text, strlen(text)};
        for (int k = 0; k < 2; k++) {
            struct tensor tensor = {"x", k ? TENSOR_FP32 : TENSOR_FP64, 1, {1}, NULL, 0};
            struct sl_err err = SL_ERR_INIT;
            struct sl_arena arena;
            sl_arena_init(&arena, ROOM);
            sl_status status = oip_data_read(&list, &arena, &tensor, &err);
            bool fits = k ? !isinf(narrow) : !isinf(wide);
            if (fits != (status == SL_OK) ||
                (fits && memcmp(tensor.data, k ? (void *)&narrow : (void *)&wide, tensor.n_bytes)))
                fail_msg("%s as %s", number, tensor_type_name(tensor.type));
            sl_arena_done(&arena);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_come_back),
        cmocka_unit_test(decimals_are_read_as_the_library_reads_them),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
