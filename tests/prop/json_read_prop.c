/* json_read_prop.c: our JSON reader against jansson's on random strings of JSON's own pieces: the
 * same texts are taken, and they mean the same. SEED=n repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <string.h>

#include "base/json_read.h"
#include "support/prop.h"

#define ROUNDS 100000
#define TEXT_MAX 400
#define DEPTH_MAX 5

struct text {
    char bytes[TEXT_MAX];
    size_t n;
};

static void add(struct text *t, const char *s)
{
    size_t n = strlen(s);
    if (t->n + n > TEXT_MAX) return; /* leaves a broken document, which is as good */
    memcpy(t->bytes + t->n, s, n);
    t->n += n;
}

static void add_scalar(struct text *t)
{
    static const char *const scalars[] = {"0",
                                          "-1",
                                          "1.5",
                                          "1e2",
                                          "9223372036854775807",
                                          "-0.0",
                                          "true",
                                          "false",
                                          "null",
                                          "\"\"",
                                          "\"a\"",
                                          "\"\\u00e4\\n\"",
                                          "01",
                                          "\"\\u0000\"",
                                          "1.",
                                          "\"\xff\"",
                                          "\"\n\"",
                                          "\"\\ud83d\"",
                                          "nul",
                                          "-",
                                          "\"\xc3\xa4\"",
                                          "1E+1",
                                          "\"\\q\"",
                                          "+1",
                                          "\"\\uDBFF\\uDFFF\""};
    /* the broken ones are rarer, so that most documents get past the first values */
    size_t n_scalars = sizeof scalars / sizeof *scalars;
    add(t, scalars[prop_draw(prop_draw(4) ? 12 : n_scalars)]);
}

static void add_key(struct text *t)
{
    static const char *const keys[] = {"\"a\"", "\"b\"", "\"c\\n\"", "\"\"", "\"\xc3\xa4\"", "x"};
    add(t, keys[prop_draw(prop_draw(10) ? 5 : 6)]);
}

static void add_value(struct text *t, int depth)
{
    if (prop_draw(40) == 0) add(t, &",\0:\0}\0]\0 \0\"\0"[2 * prop_draw(6)]);
    if (depth == DEPTH_MAX || prop_draw(3) == 0) {
        add_scalar(t);
        return;
    }
    bool is_object = prop_draw(2);
    add(t, is_object ? "{" : "[ ");
    for (size_t i = prop_draw(4); i > 0; i--) {
        if (is_object) {
            add_key(t);
            add(t, " :");
        }
        add_value(t, depth + 1);
        if (i > 1) add(t, ",\n");
    }
    add(t, is_object ? "}" : "]");
}

/* Ours, written out, read by jansson. */
static json_t *through_ours(const struct text *t)
{
    struct sl_json_value *root;
    struct sl_json json;
    struct sl_buf out;
    if (sl_json_parse(t->bytes, t->n, &root, NULL) != SL_OK) return NULL;
    sl_buf_init(&out, 20 * TEXT_MAX);
    sl_json_begin(&json, &out, prop_draw(2));
    sl_json_put(&json, root);
    assert_int_equal(sl_json_end(&json), SL_OK);
    json_t *value = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    sl_buf_done(&out);
    sl_json_free(root);
    return value;
}

/* As json_equal, but 1 and 1.0 are the same: our writer does not tell them apart. */
static bool is_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    if (json_is_array(a) && json_is_array(b)) {
        bool same = json_array_size(a) == json_array_size(b);
        for (size_t i = 0; same && i < json_array_size(a); i++)
            same = is_same(json_array_get(a, i), json_array_get(b, i));
        return same;
    }
    if (!json_is_object(a) || !json_is_object(b)) return json_equal(a, b);
    const char *key;
    json_t *member;
    bool same = json_object_size(a) == json_object_size(b);
    json_object_foreach((json_t *)(uintptr_t)a, key, member) same =
        same && is_same(member, json_object_get(b, key));
    return same;
}

static void agrees_with_jansson(void **state)
{
    (void)state;
    int n_taken = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct text t = {.n = 0};
        add_value(&t, 0);
        json_t *theirs = json_loadb(t.bytes, t.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        json_t *ours = through_ours(&t);
        if (!theirs != !ours || (ours && !is_same(ours, theirs)))
            fail_msg("round %d: %.*s", i, (int)t.n, t.bytes);
        n_taken += ours != NULL;
        json_decref(ours);
        json_decref(theirs);
    }
    assert_in_range(n_taken, ROUNDS / 10, ROUNDS - ROUNDS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_jansson)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
