/* store_name_test.c: names of models and what is none; places; names of files and of shards. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "grid/store_name.h"

#include <stdio.h>
#include <string.h>

static void check(const char *text, enum store_source source, const char *place, const char *again)
{
    struct sl_err err = SL_ERR_INIT;
    struct store_name name, second;
    char path[STORE_NAME_PATH_SIZE], shown[STORE_NAME_SIZE], path_again[STORE_NAME_PATH_SIZE];
    if (store_name_parse(text, &name, &err) != SL_OK) fail_msg("%s: %s", text, err.text);
    assert_int_equal(name.source, source);
    store_name_path(&name, path);
    assert_string_equal(path, place);
    store_name_text(&name, shown);
    assert_string_equal(shown, again);
    assert_int_equal(store_name_parse(shown, &second, &err), SL_OK);
    store_name_path(&second, path_again);
    assert_string_equal(path_again, path);
}

static void names_have_a_place(void **state)
{
    (void)state;
    check("qwen2.5", STORE_OLLAMA, "registry.ollama.ai/library/qwen2.5/latest", "qwen2.5:latest");
    check("a:1.5b", STORE_OLLAMA, "registry.ollama.ai/library/a/1.5b", "a:1.5b");
    check("me/a", STORE_OLLAMA, "registry.ollama.ai/me/a/latest", "me/a:latest");
    check("registry.ollama.ai/library/a", STORE_OLLAMA, "registry.ollama.ai/library/a/latest",
          "a:latest");
    check("localhost:5000/x/y:z", STORE_OLLAMA, "localhost:5000/x/y/z", "localhost:5000/x/y:z");
    check("hf.co/Org/Repo-GGUF:q4_k_m", STORE_HF, "hf.co/Org/Repo-GGUF/Q4_K_M",
          "hf.co/Org/Repo-GGUF:Q4_K_M");
    check("huggingface.co/o/r", STORE_HF, "hf.co/o/r/latest", "hf.co/o/r:latest");
    check("hf.co/o/r:Model-q4.gguf", STORE_HF, "hf.co/o/r/Model-q4.gguf",
          "hf.co/o/r:Model-q4.gguf");
    check("https://h.example:8443/a/b.gguf?x=1", STORE_URL,
          "https/h.example:8443/15c4cf56ddd5f3285c7e6d093b08dbbf/latest",
          "https://h.example:8443/a/b.gguf?x=1");
}

static void what_is_no_name_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ":",
        "a:",
        ":b",
        "a:b:c",
        "..",
        "../a",
        "a/..",
        "./a",
        "/a",
        "a/",
        "a//b",
        "a/b/c",
        "a b",
        "-a",
        ".a",
        "a/.b",
        "a:.b",
        "a:../../x",
        "a\nb",
        "a\xffz",
        "hf.co/a",
        "hf.co/a/b/c",
        "hf.co/../b",
        "ftp://h/a",
        "https://",
        "https://h",
        "https:///a",
        "https://u:p@h/a.gguf",
        "https://h/a b",
        "https://h/a#x",
        "https://h/a#sha256=12",
        "https://-h/a",
        "file:///etc/x",
        "https/h/x:latest",
        "a%2fb",
        "a\\b",
    };
    struct store_name name;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sl_err err = SL_ERR_INIT;
        if (store_name_parse(texts[i], &name, &err) != SL_INVALID) fail_msg("taken: %s", texts[i]);
        assert_int_not_equal(strlen(err.text), 0);
    }
}

static void long_names_are_refused(void **state)
{
    (void)state;
    char text[2 * STORE_NAME_SIZE];
    struct store_name name;
    memset(text, 'a', sizeof text);
    text[STORE_PART_SIZE - 1] = '\0';
    assert_int_equal(store_name_parse(text, &name, NULL), SL_OK);
    text[STORE_PART_SIZE - 1] = 'a';
    text[STORE_PART_SIZE] = '\0';
    assert_int_equal(store_name_parse(text, &name, NULL), SL_INVALID);
    memset(text, 'a', sizeof text);
    memcpy(text, "https://h/", 10);
    text[sizeof text - 1] = '\0';
    assert_int_equal(store_name_parse(text, &name, NULL), SL_INVALID);
}

static void a_hash_may_follow_a_url(void **state)
{
    (void)state;
    struct store_name name;
    char text[256], digest[STORE_DIGEST_SIZE];
    memset(digest, 'A', sizeof digest);
    digest[STORE_DIGEST_SIZE - 1] = '\0';
    snprintf(text, sizeof text, "https://h/a.gguf#sha256=%s", digest);
    assert_int_equal(store_name_parse(text, &name, NULL), SL_OK);
    assert_string_equal(name.url, "https://h/a.gguf");
    assert_int_equal(name.digest[0], 'a');
    assert_int_equal(strlen(name.digest), STORE_DIGEST_SIZE - 1);
}

static void files_get_names(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"/x/Qwen2.5-0.5B-Q4_0.gguf", "qwen2.5-0.5b-q4_0:latest"},
        {"m-00002-of-00007.gguf", "m:latest"},
        {"Mein Modell (neu).GGUF", "mein-modell--neu-:latest"},
        {"..hidden.gguf", "hidden:latest"},
        {"plain", "plain:latest"},
    };
    struct store_name name;
    char text[STORE_NAME_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(store_name_of_file(cases[i][0], &name, NULL), SL_OK);
        store_name_text(&name, text);
        assert_string_equal(text, cases[i][1]);
    }
    assert_int_equal(store_name_of_file("/x/---.gguf", &name, NULL), SL_INVALID);
    assert_int_equal(store_name_of_file("/x/", &name, NULL), SL_INVALID);
}

static void shards_are_recognised(void **state)
{
    (void)state;
    size_t n_prefix = 0;
    int no = 0, n = 0;
    assert_true(store_split_name("a/m-00002-of-00005.gguf", &n_prefix, &no, &n));
    assert_int_equal(n_prefix, 3);
    assert_int_equal(no, 1);
    assert_int_equal(n, 5);
    assert_false(store_split_name("m-00006-of-00005.gguf", &n_prefix, &no, &n));
    assert_false(store_split_name("m-00000-of-00005.gguf", &n_prefix, &no, &n));
    assert_false(store_split_name("m-0001-of-00005.gguf", &n_prefix, &no, &n));
    assert_false(store_split_name("-00001-of-00005.gguf", &n_prefix, &no, &n));
    assert_false(store_split_name("m.gguf", &n_prefix, &no, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_a_place),     cmocka_unit_test(what_is_no_name_is_refused),
        cmocka_unit_test(long_names_are_refused), cmocka_unit_test(a_hash_may_follow_a_url),
        cmocka_unit_test(files_get_names),        cmocka_unit_test(shards_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
