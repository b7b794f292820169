/* err_test.c: error texts are set, prefixed, cut and kept printable. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

static void set_returns_the_status_and_keeps_it(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(sl_err_set(&err, SL_CORRUPT, "%d bytes past the end", 12), SL_CORRUPT);
    assert_int_equal(err.status, SL_CORRUPT);
    assert_string_equal(err.text, "12 bytes past the end");
}

static void null_is_fine_everywhere(void **state)
{
    (void)state;
    assert_int_equal(sl_err_set(NULL, SL_BUSY, "x"), SL_BUSY);
    assert_int_equal(sl_err_prefix(NULL, "x"), SL_INTERNAL);
    assert_int_equal(sl_err_errno(NULL, ENOENT, "x"), SL_NOT_FOUND);
}

static void prefixes_stack_up_in_front(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    sl_err_set(&err, SL_CORRUPT, "bad");
    assert_int_equal(sl_err_prefix(&err, "tensor %s", "blk.3"), SL_CORRUPT);
    assert_int_equal(sl_err_prefix(&err, "map"), SL_CORRUPT);
    assert_string_equal(err.text, "map: tensor blk.3: bad");
}

static void a_text_may_quote_the_error_it_replaces(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    sl_err_set(&err, SL_IO, "first");
    sl_err_set(&err, SL_INTERNAL, "after \"%s\"", err.text);
    assert_string_equal(err.text, "after \"first\"");
}

static void long_texts_are_cut_and_say_so(void **state)
{
    (void)state;
    char longer[2 * SL_ERR_TEXT_MAX];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    struct sl_err err = SL_ERR_INIT;
    sl_err_set(&err, SL_LIMIT, "%s", longer);
    assert_int_equal(strlen(err.text), SL_ERR_TEXT_MAX - 1);
    assert_string_equal(err.text + SL_ERR_TEXT_MAX - 5, "x...");
    sl_err_prefix(&err, "p");
    assert_int_equal(strlen(err.text), SL_ERR_TEXT_MAX - 1);
    assert_memory_equal(err.text, "p: xxx", 6);
    assert_string_equal(err.text + SL_ERR_TEXT_MAX - 5, "x...");
}

static void a_text_that_just_fits_is_not_cut(void **state)
{
    (void)state;
    char fits[SL_ERR_TEXT_MAX];
    memset(fits, 'y', sizeof fits - 1);
    fits[sizeof fits - 1] = '\0';
    struct sl_err err = SL_ERR_INIT;
    sl_err_set(&err, SL_LIMIT, "%s", fits);
    assert_string_equal(err.text, fits);
}

static void a_cut_never_splits_a_character(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char text[SL_ERR_TEXT_MAX + 64];
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4) memcpy(text + i, "\xf0\x9f\x9a\x80", 5);
        struct sl_err err = SL_ERR_INIT;
        sl_err_set(&err, SL_LIMIT, "%s", text);
        assert_true(sl_utf8_valid(err.text, strlen(err.text)));
        assert_string_equal(err.text + strlen(err.text) - 3, "...");
    }
}

static void control_characters_become_question_marks(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    sl_err_set(&err, SL_INVALID, "name \"%s\"", "a\x1b[2J\nb\x7f");
    assert_string_equal(err.text, "name \"a?[2J?b?\"");
    sl_err_set(&err, SL_INVALID, "operator \"%s\"",
               "Ad\x80"
               "d\xe4\xb8\xad");
    assert_string_equal(err.text, "operator \"Ad?d\xe4\xb8\xad\"");
}

static void errno_maps_to_a_status_and_a_reason(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        sl_status status;
    } rows[] = {
        {ENOMEM, SL_NOMEM},  {ENOENT, SL_NOT_FOUND}, {EACCES, SL_DENIED},
        {EEXIST, SL_EXISTS}, {EIO, SL_IO},           {EPIPE, SL_IO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(sl_err_errno(&err, rows[i].errnum, "open x"), rows[i].status);
        assert_int_equal(err.status, rows[i].status);
    }
    struct sl_err err = SL_ERR_INIT;
    sl_err_errno(&err, ENOENT, "open %s", "model.gguf");
    assert_string_equal(err.text, "open model.gguf: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_the_status_and_keeps_it),
        cmocka_unit_test(null_is_fine_everywhere),
        cmocka_unit_test(prefixes_stack_up_in_front),
        cmocka_unit_test(a_text_may_quote_the_error_it_replaces),
        cmocka_unit_test(long_texts_are_cut_and_say_so),
        cmocka_unit_test(a_text_that_just_fits_is_not_cut),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(control_characters_become_question_marks),
        cmocka_unit_test(errno_maps_to_a_status_and_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
