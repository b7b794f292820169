/* pull_choose_test.c: which file of a repository a name means. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "grid/pull_choose.h"

#include <stdio.h>
#include <string.h>

#define FILES_MAX 16

static struct pull_candidate files[FILES_MAX];

/* Fills `files` with the names, which have a space between them. */
static size_t read_names(const char *names)
{
    size_t n = 0;
    while (*names) {
        size_t length = strcspn(names, " ");
        snprintf(files[n++].path, PULL_FILE_SIZE, "%.*s", (int)length, names);
        names += length + strspn(names + length, " ");
    }
    return n;
}

/* The file that `tag` chooses among the names, or "" when none does. */
static const char *chosen(const char *names, const char *tag, sl_status want)
{
    struct sl_err err = SL_ERR_INIT;
    size_t n = read_names(names), at;
    int n_shards = 0;
    assert_int_equal(pull_choose(files, n, tag, &at, &n_shards, &err), want);
    return want == SL_OK ? files[at].path : "";
}

static void latest_is_the_first_sensible_one(void **state)
{
    (void)state;
    assert_string_equal(chosen("m-F16.gguf m-Q8_0.gguf m-Q4_K_M.gguf", "latest", SL_OK),
                        "m-Q4_K_M.gguf");
    assert_string_equal(chosen("m-F16.gguf m-Q8_0.gguf", "latest", SL_OK), "m-Q8_0.gguf");
    assert_string_equal(chosen("b.gguf a.gguf", "latest", SL_OK), "b.gguf");
    assert_string_equal(chosen("mmproj-F16.gguf m.imatrix.gguf m-F32.gguf", "latest", SL_OK),
                        "m-F32.gguf");
    chosen("README.md m.safetensors mmproj.gguf", "latest", SL_NOT_FOUND);
    chosen("", "latest", SL_NOT_FOUND);
}

static void a_quantisation_is_a_word(void **state)
{
    (void)state;
    assert_true(pull_path_has_quant("m.q4_k_m.gguf", "Q4_K_M"));
    assert_true(pull_path_has_quant("Q8_0/m.gguf", "q8_0"));
    assert_true(pull_path_has_quant("q4_k_m.q4_k.gguf", "q4_k"));
    assert_false(pull_path_has_quant("m-Q4_K_M.gguf", "Q4_K"));
    assert_false(pull_path_has_quant("m-IQ4_XS.gguf", "Q4_XS"));
    assert_false(pull_path_has_quant("m.gguf", "Q4_0"));
    assert_string_equal(chosen("m-IQ4_XS.gguf m-Q4_K_S.gguf m-Q4_K.gguf", "Q4_K", SL_OK),
                        "m-Q4_K.gguf");
    chosen("m-Q4_K_M.gguf", "Q4_K", SL_NOT_FOUND);
    assert_string_equal(chosen("x/A-q4.gguf b.gguf", "A-q4.gguf", SL_OK), "x/A-q4.gguf");
    chosen("x/A-q4.gguf b.gguf", "a-q4.gguf", SL_NOT_FOUND);
}

static void shards_come_together(void **state)
{
    (void)state;
    static const char whole[] = "q/m-Q8_0-00002-of-00002.gguf n-Q8_0-00002-of-00002.gguf "
                                "q/m-Q8_0-00001-of-00002.gguf";
    assert_string_equal(chosen(whole, "Q8_0", SL_OK), "q/m-Q8_0-00001-of-00002.gguf");
    assert_string_equal(chosen(whole, "m-Q8_0-00002-of-00002.gguf", SL_OK),
                        "q/m-Q8_0-00001-of-00002.gguf");
    chosen("m-Q8_0-00001-of-00003.gguf m-Q8_0-00003-of-00003.gguf", "Q8_0", SL_CORRUPT);
    chosen("m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", SL_CORRUPT);
}

static const char *chosen_onnx(const char *names, const char *tag)
{
    size_t n = read_names(names), at;
    return pull_choose_onnx(files, n, tag, &at) ? files[at].path : "";
}

static void onnx_where_there_is_no_gguf(void **state)
{
    (void)state;
    const char *out;
    assert_string_equal(chosen_onnx("a.txt onnx/model.onnx model.onnx", "latest"), "model.onnx");
    assert_string_equal(chosen_onnx("a.onnx onnx/model.onnx", "latest"), "onnx/model.onnx");
    assert_string_equal(chosen_onnx("README.md x/net.onnx", "latest"), "x/net.onnx");
    assert_string_equal(chosen_onnx("a.onnx b.onnx", "latest"), "");
    assert_string_equal(chosen_onnx("model.onnx m.gguf", "latest"), "");
    assert_string_equal(chosen_onnx("model.onnx m.gguf", "model.onnx"), "model.onnx");
    assert_string_equal(chosen_onnx("model.onnx", "Q4_0"), "");
    assert_true(pull_is_onnx_data("onnx/model.onnx_data_1", "onnx/model.onnx", &out));
    assert_string_equal(out, "model.onnx_data_1");
    assert_true(pull_is_onnx_data("m.onnx.data", "m.onnx", &out));
    assert_false(pull_is_onnx_data("onnx/model.onnx", "onnx/model.onnx", &out));
    assert_false(pull_is_onnx_data("model.onnx_data", "onnx/model.onnx", &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latest_is_the_first_sensible_one),
        cmocka_unit_test(a_quantisation_is_a_word),
        cmocka_unit_test(shards_come_together),
        cmocka_unit_test(onnx_where_there_is_no_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
