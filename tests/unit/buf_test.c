/* buf_test.c: the bounded buffer at its borders. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static void an_empty_buffer_is_an_empty_string(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_buf buf;
    sl_buf_init(&buf, 100);
    assert_string_equal(buf.data, "");
    sl_buf_clear(&buf);
    sl_buf_consume(&buf, 0);
    assert_int_equal(sl_buf_add(&buf, NULL, 0), SL_OK);
    assert_int_equal(sl_mem_live(), before);
    sl_buf_done(&buf);
}

static void appends_join_up(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 1000);
    assert_int_equal(sl_buf_adds(&buf, "ab"), SL_OK);
    assert_int_equal(sl_buf_addc(&buf, 'c'), SL_OK);
    assert_int_equal(sl_buf_addf(&buf, "%d-%s", 42, "x"), SL_OK);
    assert_int_equal(sl_buf_addf(&buf, "%s", ""), SL_OK);
    assert_int_equal(sl_buf_add(&buf, "\0z", 2), SL_OK);
    assert_int_equal(buf.len, 9);
    assert_memory_equal(buf.data, "abc42-x\0z", 10);
    sl_buf_done(&buf);
}

static void the_maximum_can_be_reached_but_not_passed(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 5);
    assert_int_equal(sl_buf_adds(&buf, "abcd"), SL_OK);
    assert_int_equal(sl_buf_adds(&buf, "ef"), SL_LIMIT);
    assert_int_equal(sl_buf_addf(&buf, "%d", 12), SL_LIMIT);
    assert_string_equal(buf.data, "abcd");
    assert_int_equal(sl_buf_addf(&buf, "%d", 5), SL_OK);
    assert_int_equal(sl_buf_addc(&buf, 'x'), SL_LIMIT);
    assert_string_equal(buf.data, "abcd5");
    assert_true(buf.cap <= 6);
    sl_buf_done(&buf);
}

static void a_maximum_of_zero_takes_nothing(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 0);
    assert_int_equal(sl_buf_addc(&buf, 'x'), SL_LIMIT);
    assert_string_equal(buf.data, "");
    sl_buf_done(&buf);
}

static void a_maximum_of_everything_does_not_overflow(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, SIZE_MAX);
    assert_int_equal(sl_buf_adds(&buf, "ok"), SL_OK);
    assert_string_equal(buf.data, "ok");
    sl_buf_done(&buf);
}

static void no_memory_leaves_the_contents(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 100000);
    assert_int_equal(sl_buf_adds(&buf, "kept"), SL_OK);
    char big[1000] = {0};
    sl_mem_fail_at(1, true);
    assert_int_equal(sl_buf_add(&buf, big, sizeof big), SL_NOMEM);
    assert_int_equal(sl_buf_addf(&buf, "%500d", 1), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_string_equal(buf.data, "kept");
    assert_int_equal(buf.len, 4);
    sl_buf_done(&buf);
}

static void truncate_and_consume_keep_the_nul(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 100);
    assert_int_equal(sl_buf_adds(&buf, "0123456789"), SL_OK);
    sl_buf_truncate(&buf, 8);
    assert_string_equal(buf.data, "01234567");
    sl_buf_consume(&buf, 3);
    assert_string_equal(buf.data, "34567");
    sl_buf_consume(&buf, 5);
    assert_string_equal(buf.data, "");
    assert_int_equal(sl_buf_adds(&buf, "again"), SL_OK);
    assert_string_equal(buf.data, "again");
    sl_buf_clear(&buf);
    assert_string_equal(buf.data, "");
    assert_true(buf.cap > 0);
    sl_buf_done(&buf);
}

static void steal_hands_over_and_empties(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_buf buf;
    sl_buf_init(&buf, 100);
    assert_int_equal(sl_buf_adds(&buf, "mine"), SL_OK);
    char *text = sl_buf_steal(&buf);
    assert_string_equal(text, "mine");
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    char *empty = sl_buf_steal(&buf);
    assert_string_equal(empty, "");
    sl_mem_fail_at(1, false);
    assert_null(sl_buf_steal(&buf));
    sl_mem_fail_at(0, false);
    sl_free(text);
    sl_free(empty);
    sl_buf_done(&buf);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_is_an_empty_string),
        cmocka_unit_test(appends_join_up),
        cmocka_unit_test(the_maximum_can_be_reached_but_not_passed),
        cmocka_unit_test(a_maximum_of_zero_takes_nothing),
        cmocka_unit_test(a_maximum_of_everything_does_not_overflow),
        cmocka_unit_test(no_memory_leaves_the_contents),
        cmocka_unit_test(truncate_and_consume_keep_the_nul),
        cmocka_unit_test(steal_hands_over_and_empties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
