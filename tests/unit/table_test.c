/* table_test.c: columns of text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli/table.h"

static void cells_stand_in_columns(void **state)
{
    (void)state;
    struct table table;
    struct sl_buf out;
    sl_buf_init(&out, 1000);
    table_init(&table, "lrl");
    static const char *const cells[] = {"NAME",          "N",     "NOTE", "a", "1", "long note",
                                        "J\xc3\xbcrgen", "12345", ""};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) table_cell(&table, "%s", cells[i]);
    assert_int_equal(table_print(&table, &out), SL_OK);
    assert_string_equal(out.data, "NAME        N  NOTE\n"
                                  "a           1  long note\n"
                                  "J\xc3\xbcrgen  12345  \n");
    table_done(&table);
    sl_buf_done(&out);
}

static void lost_memory_is_reported_at_the_end(void **state)
{
    (void)state;
    struct table table;
    struct sl_buf out;
    sl_buf_init(&out, 1000);
    table_init(&table, "l");
    sl_mem_fail_at(1, false);
    table_cell(&table, "%d", 1);
    sl_mem_fail_at(0, false);
    table_cell(&table, "%d", 2);
    assert_int_equal(table_print(&table, &out), SL_NOMEM);
    assert_int_equal(out.len, 0);
    table_done(&table);
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_stand_in_columns),
        cmocka_unit_test(lost_memory_is_reported_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
