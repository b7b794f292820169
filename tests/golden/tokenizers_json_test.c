/* tokenizers_json_test.c: ids, types, masks and decoded texts equal what Hugging Face's library
 * gives, for every kind of tokenizer.json in tests/golden/tokenizers_json (make.py there says how
 * they came about). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "base/mem.h"
#include "exec/text/text_tokenizer.h"

#define FOLDER STARLANE_ROOT "/tests/golden/tokenizers_json/"
#define FILE_MAX ((size_t)4 << 20)
#define KINDS_MIN 19 /* files that make.py writes */

static void read_file(const char *name, struct sl_buf *out)
{
    char path[512], chunk[4096];
    size_t n;
    snprintf(path, sizeof path, FOLDER "%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    sl_buf_init(out, FILE_MAX);
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        assert_int_equal(sl_buf_add(out, chunk, n), SL_OK);
    fclose(file);
}

static struct sl_json_value *read_json(const char *name)
{
    struct sl_buf text;
    struct sl_json_value *root = NULL;
    read_file(name, &text);
    assert_int_equal(sl_json_parse(text.data, text.len, &root, NULL), SL_OK);
    sl_buf_done(&text);
    return root;
}

static struct text_tokenizer *load(const char *name)
{
    struct sl_buf text;
    struct sl_err err = SL_ERR_INIT;
    struct text_tokenizer *tok = NULL;
    read_file(name, &text);
    if (text_tokenizer_load(text.data, text.len, &tok, &err) != SL_OK)
        fail_msg("%s: %s", name, err.text);
    sl_buf_done(&text);
    return tok;
}

static struct text_input input_of(const struct sl_json_value *item, const char *key)
{
    struct text_input input = {0};
    input.s = sl_json_to_str(sl_json_get(item, key), NULL, &input.n);
    return input;
}

static void check_numbers(const char *what, const struct sl_json_value *want, const int64_t *got,
                          size_t n)
{
    if (sl_json_size(want) != n) fail_msg("%s: %zu instead of %zu", what, n, sl_json_size(want));
    for (size_t i = 0; i < n; i++) {
        int64_t number = sl_json_to_int(sl_json_at(want, i), -1);
        if (got[i] != number)
            fail_msg("%s: %lld instead of %lld at %zu", what, (long long)got[i], (long long)number,
                     i);
    }
}

static void check_case(const struct text_tokenizer *tok, const char *name, size_t i,
                       const struct sl_json_value *item, const struct sl_json_value *want,
                       struct text_encoding *encoding)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf text;
    char what[128];
    size_t n_want;
    struct text_encode_cfg cfg = {.max_tokens = (size_t)sl_json_to_int(sl_json_get(item, "max"), 0),
                                  .truncate = true,
                                  .add_special =
                                      sl_json_to_bool(sl_json_get(item, "special"), true)};
    snprintf(what, sizeof what, "%s, text %zu", name, i);
    if (text_tokenizer_encode(tok, input_of(item, "text"), input_of(item, "pair"), &cfg, encoding,
                              &err) != SL_OK)
        fail_msg("%s: %s", what, err.text);
    check_numbers(what, sl_json_get(want, "ids"), encoding->ids, encoding->n);
    check_numbers(what, sl_json_get(want, "types"), encoding->type_ids, encoding->n);
    check_numbers(what, sl_json_get(want, "special"), encoding->special_mask, encoding->n);
    for (size_t j = 0; j < encoding->n; j++) assert_int_equal(encoding->attention_mask[j], 1);
    sl_buf_init(&text, FILE_MAX);
    assert_int_equal(text_tokenizer_decode(tok, encoding->ids, encoding->n, true, &text, &err),
                     SL_OK);
    const char *decoded = sl_json_to_str(sl_json_get(want, "text"), "", &n_want);
    if (text.len != n_want || memcmp(text.data, decoded, n_want) != 0)
        fail_msg("%s: decoded '%s' instead of '%s'", what, text.data, decoded);
    sl_buf_done(&text);
}

static void check_tokenizer(const char *name, const struct sl_json_value *texts)
{
    char expected[256];
    struct text_encoding encoding;
    size_t n = strlen(name) - strlen(".tokenizer.json");
    snprintf(expected, sizeof expected, "%.*s.expected.json", (int)n, name);
    struct sl_json_value *wants = read_json(expected);
    struct text_tokenizer *tok = load(name);
    assert_int_equal(sl_json_size(wants), sl_json_size(texts));
    text_encoding_init(&encoding);
    for (size_t i = 0; i < sl_json_size(texts); i++)
        check_case(tok, name, i, sl_json_at(texts, i), sl_json_at(wants, i), &encoding);
    text_encoding_done(&encoding);
    text_tokenizer_destroy(tok);
    sl_json_free(wants);
}

static void test_ids_equal_the_librarys(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct sl_json_value *texts = read_json("texts.json");
    DIR *folder = opendir(FOLDER);
    size_t n = 0;
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const char *dot = strstr(entry->d_name, ".tokenizer.json");
        if (!dot || dot[strlen(".tokenizer.json")]) continue;
        check_tokenizer(entry->d_name, texts);
        n++;
    }
    closedir(folder);
    sl_json_free(texts);
    assert_true(n >= KINDS_MIN);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids_equal_the_librarys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
