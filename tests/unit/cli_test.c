/* cli_test.c: what the commands share: byte counts as text, the home folder, the table of commands,
 * finding a model, the line editor's constructor. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/line_editor.h"
#include "cli/model_path.h"

#include <stdlib.h>
#include <string.h>

static void byte_counts_read_well(void **state)
{
    (void)state;
    char text[CLI_BYTES_TEXT_MAX];
    assert_string_equal(cli_bytes_text(0, text), "0 B");
    assert_string_equal(cli_bytes_text(999, text), "999 B");
    assert_string_equal(cli_bytes_text(1000, text), "1.0 kB");
    assert_string_equal(cli_bytes_text(999949, text), "999.9 kB");
    assert_string_equal(cli_bytes_text(999950, text), "1.0 MB");
    assert_string_equal(cli_bytes_text(UINT64_MAX, text), "18.4 EB");
}

static void home_is_own_or_below_the_users(void **state)
{
    (void)state;
    char text[64], tiny[4];
    setenv("STARLANE_HOME", "/a/b", 1);
    assert_string_equal(cli_home(text, sizeof text), "/a/b");
    assert_string_equal(cli_home(tiny, sizeof tiny), "");
    unsetenv("STARLANE_HOME");
    setenv("HOME", "/u", 1);
    assert_string_equal(cli_home(text, sizeof text), "/u/.starlane");
    unsetenv("HOME");
    assert_string_equal(cli_home(text, sizeof text), "");
}

static void every_command_is_whole(void **state)
{
    (void)state;
    for (const struct cli_command *c = cli_commands(); c->spec; c++) {
        assert_ptr_equal(cli_command_find(c->spec->name), c);
        assert_non_null(c->run);
        assert_int_not_equal(strlen(c->spec->summary), 0);
    }
    assert_null(cli_command_find("nothing"));
    assert_int_equal(cli_unknown_command("nothing"), CLI_USAGE);
}

static void models_are_found_or_refused(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    char path[PATH_MAX];
    assert_int_equal(model_path_find("/dev/null", path, &err), SL_OK);
    assert_string_equal(path, "/dev/null");
    assert_int_equal(model_path_find("/dev", path, &err), SL_INVALID);
    assert_int_equal(model_path_find("/no/such.gguf", path, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "/no/such.gguf"));
    setenv("STARLANE_MODELS", "/no/such/folder", 1);
    assert_int_equal(model_path_find(MODEL_BUNDLED, path, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "/no/such/folder"));
    setenv("STARLANE_MODELS", STARLANE_ROOT "/models", 1);
    assert_int_equal(model_path_find(MODEL_BUNDLED, path, &err), SL_OK);
    assert_string_equal(path, STARLANE_ROOT "/models/starling.gguf");
}

static void line_editor_survives_every_failure(void **state)
{
    (void)state;
    volatile sig_atomic_t interrupt = 0;
    const struct line_editor_cfg cfg = {"> ", "", &interrupt};
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status == SL_NOMEM; nth++) {
        struct line_editor *editor = NULL;
        struct sl_err err = SL_ERR_INIT;
        assert_true(nth < 100);
        sl_mem_fail_at(nth, false);
        status = line_editor_create(&cfg, &editor, &err);
        sl_mem_fail_at(0, false);
        assert_int_equal(status == SL_OK, editor != NULL);
        line_editor_destroy(editor);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_int_equal(status, SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_counts_read_well),
        cmocka_unit_test(home_is_own_or_below_the_users),
        cmocka_unit_test(every_command_is_whole),
        cmocka_unit_test(models_are_found_or_refused),
        cmocka_unit_test(line_editor_survives_every_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
