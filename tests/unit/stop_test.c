/* stop_test.c: stop strings within and across pieces, limits, failures. */
#include "base/mem.h"
#include "exec/llm/stop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#define OUT_MAX 4096

/* Pushes the pieces (NULL ends them), finishes, and compares what was shown. */
static void expect_shown(const char *const *stops, int n_stops, const char *const *pieces,
                         const char *shown, bool hit)
{
    struct stop_matcher *m;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    bool found = false;
    assert_int_equal(stop_create(stops, n_stops, &m, &err), SL_OK);
    sl_buf_init(&out, OUT_MAX);
    for (; *pieces; pieces++)
        assert_int_equal(stop_push(m, *pieces, strlen(*pieces), &out, &found), SL_OK);
    assert_int_equal(found, hit);
    assert_int_equal(stop_finish(m, &out), SL_OK);
    assert_string_equal(out.data, shown);
    sl_buf_done(&out);
    stop_destroy(m);
}

#define STOPS(...) \
    (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)
#define PIECES(...) \
    (const char *const[]) \
    { \
        __VA_ARGS__, NULL \
    }

static void without_stop_strings_all_is_shown(void **state)
{
    (void)state;
    expect_shown(NULL, 0, PIECES("one ", "", "two"), "one two", false);
}

static void finds_a_string_within_and_across_pieces(void **state)
{
    (void)state;
    expect_shown(STOPS("STOP"), PIECES("go STOP on"), "go ", true);
    expect_shown(STOPS("STOP"), PIECES("go S", "T", "OP on", "and on"), "go ", true);
    expect_shown(STOPS("STOP"), PIECES("go S", "T", "ART"), "go START", false);
    expect_shown(STOPS("STOP"), PIECES("go ST"), "go ST", false);
    expect_shown(STOPS("aab"), PIECES("aa", "a", "b"), "a", true);
    expect_shown(STOPS("\xC3\xA9"), PIECES("caf\xC3", "\xA8 caf\xC3", "\xA9"), "caf\xC3\xA8 caf",
                 true);
}

static void the_match_that_ends_first_wins(void **state)
{
    (void)state;
    expect_shown(STOPS("two", "one"), PIECES("zero one two"), "zero ", true);
    expect_shown(STOPS("c", "abc"), PIECES("xabcx"), "x", true);
    expect_shown(STOPS("abcd", "bc"), PIECES("xabcd"), "xa", true);
}

static void holds_back_only_what_could_still_match(void **state)
{
    (void)state;
    struct stop_matcher *m;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    bool hit = true;
    assert_int_equal(stop_create((const char *const[]){"abab", "xyz"}, 2, &m, &err), SL_OK);
    sl_buf_init(&out, OUT_MAX);
    assert_int_equal(stop_push(m, "12aba", 5, &out, &hit), SL_OK);
    assert_false(hit);
    assert_string_equal(out.data, "12");
    assert_int_equal(stop_push(m, "x", 1, &out, &hit), SL_OK);
    assert_string_equal(out.data, "12aba");
    assert_int_equal(stop_push(m, "yz", 2, &out, &hit), SL_OK);
    assert_true(hit);
    hit = false;
    assert_int_equal(stop_push(m, "later", 5, &out, &hit), SL_OK);
    assert_true(hit);
    assert_string_equal(out.data, "12aba");
    sl_buf_done(&out);
    stop_destroy(m);
}

static void a_failed_push_can_be_repeated(void **state)
{
    (void)state;
    struct stop_matcher *m;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf small, out;
    bool hit;
    assert_int_equal(stop_create((const char *const[]){"<end>"}, 1, &m, &err), SL_OK);
    sl_buf_init(&small, 3);
    assert_int_equal(stop_push(m, "<e", 2, &small, &hit), SL_OK);
    assert_int_equal(stop_push(m, "ab<en", 5, &small, &hit), SL_LIMIT);
    assert_int_equal(small.len, 0);
    sl_buf_init(&out, OUT_MAX);
    assert_int_equal(stop_push(m, "ab<en", 5, &out, &hit), SL_OK);
    assert_string_equal(out.data, "<eab");
    assert_int_equal(stop_push(m, "d>", 2, &out, &hit), SL_OK);
    assert_true(hit);
    assert_string_equal(out.data, "<eab");
    sl_buf_done(&small);
    sl_buf_done(&out);
    stop_destroy(m);
}

static void refuses_what_is_over_its_limits(void **state)
{
    (void)state;
    struct stop_matcher *m = NULL;
    struct sl_err err = SL_ERR_INIT;
    const char *many[STOP_STRINGS_MAX + 1];
    char longest[STOP_STRING_BYTES_MAX + 2];
    for (int i = 0; i <= STOP_STRINGS_MAX; i++) many[i] = "x";
    memset(longest, 'y', sizeof longest);
    longest[STOP_STRING_BYTES_MAX + 1] = '\0';
    const char *one = longest;
    assert_int_equal(stop_create(many, STOP_STRINGS_MAX + 1, &m, &err), SL_INVALID);
    assert_int_equal(stop_create(many, -1, &m, &err), SL_INVALID);
    assert_int_equal(stop_create(&one, 1, &m, &err), SL_INVALID);
    assert_int_equal(stop_create((const char *const[]){"ok", ""}, 2, &m, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "stop string 1"));
    assert_null(m);
    longest[STOP_STRING_BYTES_MAX] = '\0';
    assert_int_equal(stop_create(&one, 1, &m, &err), SL_OK);
    stop_destroy(m);
    stop_destroy(NULL);
}

static void create_survives_every_failed_allocation(void **state)
{
    (void)state;
    struct stop_matcher *m = NULL;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live(), nth = 1;
    sl_status status;
    for (;; nth++) {
        sl_mem_fail_at(nth, false);
        status = stop_create((const char *const[]){"a", "bc"}, 2, &m, &err);
        if (!sl_mem_fail_hit()) break;
        assert_int_equal(status, SL_NOMEM);
        assert_true(sl_mem_live() == live);
    }
    sl_mem_fail_at(0, false);
    assert_int_equal(status, SL_OK);
    assert_true(nth > 3);
    stop_destroy(m);
    assert_true(sl_mem_live() == live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_stop_strings_all_is_shown),
        cmocka_unit_test(finds_a_string_within_and_across_pieces),
        cmocka_unit_test(the_match_that_ends_first_wins),
        cmocka_unit_test(holds_back_only_what_could_still_match),
        cmocka_unit_test(a_failed_push_can_be_repeated),
        cmocka_unit_test(refuses_what_is_over_its_limits),
        cmocka_unit_test(create_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
