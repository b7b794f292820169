#include "base/size_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void units_are_powers_of_1024(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {{0, "0 B"},
                {1023, "1023 B"},
                {1024, "1.0 KiB"},
                {1536, "1.5 KiB"},
                {1048524, "1023.9 KiB"}, /* the next unit before it would say 1024.0 */
                {1048575, "1.0 MiB"},
                {150000000, "143.1 MiB"},
                {UINT64_C(5) << 29, "2.50 GiB"}, /* what --memory 2.5G sets */
                {UINT64_C(3) << 40, "3.00 TiB"},
                {UINT64_MAX, "16.00 EiB"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[SL_SIZE_TEXT_MAX];
        assert_ptr_equal(sl_size_text(rows[i].bytes, text), text);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(units_are_powers_of_1024)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
