/* oip_name_test.c: models and versions, as paths have them and as the store has them. */
#include "access/oip.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_version_is_a_tag(void **state)
{
    static const struct {
        const char *model, *version, *name; /* name NULL: refused */
    } cases[] = {
        {"m", NULL, "m"},
        {"m", "", "m"},
        {"m", "2", "m:2"},
        {"m:2", "2", "m:2"},
        {"m:2", "", "m:2"},
        {"m:2", "1", NULL},
        {"hf.co/org/repo", "Q4_K_M", "hf.co/org/repo:Q4_K_M"},
        {"host:5000/ns/m", "1", "host:5000/ns/m:1"},
        {"host:5000/ns/m", NULL, "host:5000/ns/m"},
        {"", "1", NULL},
        {NULL, NULL, NULL},
    };
    char name[OIP_NAME_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_err err = SL_ERR_INIT;
        sl_status status = oip_store_name(cases[i].model, cases[i].version, name, &err);
        assert_int_equal(status, cases[i].name ? SL_OK : SL_INVALID);
        if (cases[i].name)
            assert_string_equal(name, cases[i].name);
        else
            assert_true(*err.text);
    }
}

static void a_name_that_is_too_long_is_refused(void **state)
{
    char model[OIP_NAME_SIZE], name[OIP_NAME_SIZE];
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    memset(model, 'm', sizeof model - 1);
    model[sizeof model - 1] = '\0';
    assert_int_equal(oip_store_name(model, NULL, name, &err), SL_OK);
    assert_int_equal(oip_store_name(model, "1", name, &err), SL_INVALID);
}

static void names_have_a_version_or_none(void **state)
{
    static const struct {
        const char *name, *version;
        size_t n_base;
    } cases[] = {
        {"m:2", "2", 1},   {"m", "", 1},     {"host:5000/m", "", 11},  {"host:5000/m:1", "1", 11},
        {"/a/b:c", "", 6}, {"./b:c", "", 5}, {"echo:?text=a", "", 12}, {"https://h/m.gguf", "", 16},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n_base;
        assert_string_equal(oip_version_of(cases[i].name, &n_base), cases[i].version);
        assert_int_equal(n_base, cases[i].n_base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_is_a_tag),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
        cmocka_unit_test(names_have_a_version_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
