/* buf_prop.c: random operations on a buffer and on a plain array that does the same. SEED=n repeats
 * a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "support/prop.h"

#define N_ROUNDS 300
#define N_STEPS 200
#define MODEL_MAX 3000 /* bytes; the largest maximum a round may draw */

struct model {
    unsigned char bytes[MODEL_MAX];
    size_t len, max;
};

static void step_add(struct sl_buf *buf, struct model *model)
{
    unsigned char bytes[400];
    size_t n = prop_draw(sizeof bytes);
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)prop_draw(256);
    bool fits = n <= model->max - model->len;
    bool lost = prop_draw(20) == 0;
    if (lost) sl_mem_fail_at(1, false);
    sl_status status = sl_buf_add(buf, bytes, n);
    bool hit = sl_mem_fail_hit();
    sl_mem_fail_at(0, false);
    assert_int_equal(status, !fits ? SL_LIMIT : hit ? SL_NOMEM : SL_OK);
    if (status != SL_OK) return;
    memcpy(model->bytes + model->len, bytes, n);
    model->len += n;
}

static void step_format(struct sl_buf *buf, struct model *model)
{
    char text[64];
    int width = (int)prop_draw(50);
    size_t number = prop_draw(SIZE_MAX);
    size_t n = (size_t)snprintf(text, sizeof text, "%*zu", width, number);
    sl_status status = sl_buf_addf(buf, "%*zu", width, number);
    assert_int_equal(status, n <= model->max - model->len ? SL_OK : SL_LIMIT);
    if (status != SL_OK) return;
    memcpy(model->bytes + model->len, text, n);
    model->len += n;
}

static void step_shrink(struct sl_buf *buf, struct model *model)
{
    size_t n = prop_draw(model->len + 1);
    if (prop_draw(2)) {
        sl_buf_truncate(buf, n);
        model->len = n;
    } else {
        sl_buf_consume(buf, n);
        model->len -= n;
        memmove(model->bytes, model->bytes + n, model->len);
    }
}

static void step_empty(struct sl_buf *buf, struct model *model)
{
    switch (prop_draw(3)) {
    case 0: sl_buf_clear(buf); break;
    case 1: sl_buf_done(buf); break;
    default: {
        char *text = sl_buf_steal(buf);
        assert_memory_equal(text, model->bytes, model->len);
        assert_int_equal(text[model->len], '\0');
        sl_free(text);
    }
    }
    model->len = 0;
}

static void assert_same(const struct sl_buf *buf, const struct model *model)
{
    assert_int_equal(buf->len, model->len);
    assert_memory_equal(buf->data, model->bytes, model->len);
    assert_int_equal(buf->data[buf->len], '\0');
    assert_true(buf->cap <= model->max + 1);
}

static void random_operations_agree_with_an_array(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    for (int round = 0; round < N_ROUNDS; round++) {
        struct model model = {.max = prop_draw(MODEL_MAX)};
        struct sl_buf buf;
        sl_buf_init(&buf, model.max);
        for (int i = 0; i < N_STEPS; i++) {
            size_t kind = prop_draw(40);
            if (kind < 20) {
                step_add(&buf, &model);
            } else if (kind < 30) {
                step_format(&buf, &model);
            } else if (kind < 39) {
                step_shrink(&buf, &model);
            } else {
                step_empty(&buf, &model);
            }
            assert_same(&buf, &model);
        }
        sl_buf_done(&buf);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operations_agree_with_an_array)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
