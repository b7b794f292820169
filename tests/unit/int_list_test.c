/* int_list_test.c: the forms of a list of token ids, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli/int_list.h"

#include <string.h>

static void expect_list(const char *text, const int32_t *want, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    sl_buf_init(&out, 4096);
    assert_int_equal(int_list_read(text, strlen(text), &out, &err), SL_OK);
    assert_int_equal(out.len, n * sizeof *want);
    if (n) assert_memory_equal(out.data, want, out.len);
    sl_buf_done(&out);
}

static void every_form_is_read(void **state)
{
    (void)state;
    static const int32_t want[] = {1, -22, INT32_MAX, INT32_MIN};
    expect_list("1,-22,2147483647,-2147483648", want, 4);
    expect_list(" [ 1 , -22,\n2147483647\t,-2147483648 ]\n", want, 4);
    expect_list("1 -22", want, 2);
    expect_list("", NULL, 0);
    expect_list("[]", NULL, 0);
}

static void bad_lists_name_the_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"[1,2", "byte 4"},       {"1,2]", "byte 3"},
        {"1,", "byte 2"},         {"[1,]", "byte 3"},
        {",1", "no number"},      {"1 x", "byte 2"},
        {"2147483648", "byte 0"}, {"-2147483649", "byte 0"},
        {"-", "no number"},       {"[1] [2]", "after the list"},
        {"[[1]]", "byte 1"},      {"99999999999999999999999", "byte 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_err err = SL_ERR_INIT;
        struct sl_buf out;
        sl_buf_init(&out, 4096);
        assert_int_equal(int_list_read(cases[i].text, strlen(cases[i].text), &out, &err),
                         SL_INVALID);
        assert_non_null(strstr(err.text, cases[i].words));
        sl_buf_done(&out);
    }
}

static void the_buffer_bounds_the_list(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    sl_buf_init(&out, 2 * sizeof(int32_t));
    assert_int_equal(int_list_read("1,2,3", 5, &out, &err), SL_LIMIT);
    assert_int_equal(out.len, 2 * sizeof(int32_t));
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_read),
        cmocka_unit_test(bad_lists_name_the_byte),
        cmocka_unit_test(the_buffer_bounds_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
