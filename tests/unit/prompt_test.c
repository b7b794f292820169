/* prompt_test.c: prompts as clients of OpenAI's APIs write them. */
#include "access/prompt.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define N_MAX 3

static sl_status read_all(struct sl_arena *arena, const char *text, struct sl_json_value **value,
                          struct node_submit **out, size_t *out_n)
{
    struct sl_err err = SL_ERR_INIT;
    if (sl_json_parse(text, strlen(text), value, &err) != SL_OK) fail_msg("%s", err.text);
    return prompt_read_all(arena, *value, N_MAX, out, out_n);
}

static void texts_and_tokens(void **state)
{
    static const struct {
        const char *json;
        size_t n;           /* prompts */
        size_t n_of_last;   /* its bytes or tokens */
        const char *text;   /* of the last; NULL: tokens */
        int32_t last_token; /* of the last */
    } cases[] = {
        {"\"\"", 1, 0, "", 0},
        {"\"Hello\"", 1, 5, "Hello", 0},
        {"[\"a\"]", 1, 1, "a", 0},
        {"[\"a\",\"bc\",\"\"]", 3, 0, "", 0},
        {"[1,2,2147483647]", 1, 3, NULL, INT32_MAX},
        {"[[1],[0,7]]", 2, 2, NULL, 7},
        {"[\"a\",[4]]", 2, 1, NULL, 4},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_json_value *value = NULL;
        struct node_submit *submits;
        struct sl_arena arena;
        size_t n;
        sl_arena_init(&arena, 1u << 20);
        assert_int_equal(read_all(&arena, cases[i].json, &value, &submits, &n), SL_OK);
        assert_int_equal(n, cases[i].n);
        const struct node_submit *last = &submits[n - 1];
        if (cases[i].text) {
            assert_int_equal(last->prompt, NODE_PROMPT_TEXT);
            assert_int_equal(last->n_text, cases[i].n_of_last);
            assert_string_equal(last->text, cases[i].text);
        } else {
            assert_int_equal(last->prompt, NODE_PROMPT_TOKENS);
            assert_int_equal(last->n_tokens, cases[i].n_of_last);
            assert_int_equal(last->tokens[last->n_tokens - 1], cases[i].last_token);
        }
        sl_json_free(value);
        sl_arena_done(&arena);
    }
}

static void what_is_no_prompt(void **state)
{
    static const char *const cases[] = {
        "null",       "5",       "{}",           "[]",
        "[[]]",       "[null]",  "[1,\"a\"]",    "[-1]",
        "[\"a\",[]]", "[[1.5]]", "[2147483648]", "[\"a\",5]",
        "true",       "[{}]",    "[1,2,3.5]",    "[\"1\",\"2\",\"3\",\"4\"]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_json_value *value = NULL;
        struct node_submit *submits;
        struct sl_arena arena;
        size_t n;
        sl_arena_init(&arena, 1u << 20);
        if (read_all(&arena, cases[i], &value, &submits, &n) != SL_INVALID)
            fail_msg("%s was taken", cases[i]);
        sl_json_free(value);
        sl_arena_done(&arena);
    }
}

static void a_full_arena_is_said(void **state)
{
    struct sl_json_value *value = NULL;
    struct node_submit *submits;
    struct sl_arena arena;
    size_t n;
    (void)state;
    sl_arena_init(&arena, 16);
    assert_int_equal(read_all(&arena, "\"a\"", &value, &submits, &n), SL_NOMEM);
    sl_json_free(value);
    sl_arena_done(&arena);
}

static void a_list_of_tokens_may_be_empty(void **state)
{
    struct node_submit submit = {0};
    struct sl_json_value *value = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    (void)state;
    sl_arena_init(&arena, 1u << 10);
    assert_int_equal(sl_json_parse("[]", 2, &value, &err), SL_OK);
    assert_int_equal(prompt_read_tokens(&arena, value, &submit), SL_OK);
    assert_non_null(submit.tokens);
    assert_int_equal(submit.n_tokens, 0);
    assert_int_equal(prompt_read_tokens(&arena, NULL, &submit), SL_INVALID);
    sl_json_free(value);
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_tokens),
        cmocka_unit_test(what_is_no_prompt),
        cmocka_unit_test(a_full_arena_is_said),
        cmocka_unit_test(a_list_of_tokens_may_be_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
