/* base64_test.c: RFC 4648's vectors, both alphabets, what decoding refuses, and limits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"

#define BYTES_MAX 2000

static void check_pair(enum sl_base64_alphabet alphabet, const char *bytes, size_t n,
                       const char *text)
{
    struct sl_buf out;
    sl_buf_init(&out, BYTES_MAX);
    assert_int_equal(sl_base64_encode(&out, alphabet, bytes, n), SL_OK);
    assert_string_equal(out.data, text);
    assert_int_equal(sl_base64_length(alphabet, n), out.len);
    sl_buf_clear(&out);
    assert_int_equal(sl_base64_decode(&out, alphabet, text, strlen(text)), SL_OK);
    assert_int_equal(out.len, n);
    assert_memory_equal(out.data, bytes, n);
    sl_buf_done(&out);
}

static void the_vectors_of_the_rfc(void **state)
{
    (void)state;
    static const char *const texts[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    static const char *const unpadded[] = {"",       "Zg",      "Zm8",     "Zm9v",
                                           "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"};
    for (size_t n = 0; n <= 6; n++) {
        check_pair(SL_BASE64_STANDARD, "foobar", n, texts[n]);
        check_pair(SL_BASE64_URL, "foobar", n, unpadded[n]);
    }
}

static void the_alphabets_differ_in_two_characters(void **state)
{
    (void)state;
    check_pair(SL_BASE64_STANDARD, "\xfb\xff\xbf", 3, "+/+/");
    check_pair(SL_BASE64_URL, "\xfb\xff\xbf", 3, "-_-_");
}

static void every_length_comes_back(void **state)
{
    (void)state;
    char bytes[BYTES_MAX / 2];
    struct sl_buf text, back;
    sl_buf_init(&text, BYTES_MAX);
    sl_buf_init(&back, BYTES_MAX);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 167 + i / 256);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        enum sl_base64_alphabet alphabet = n % 2 ? SL_BASE64_URL : SL_BASE64_STANDARD;
        sl_buf_clear(&text);
        sl_buf_clear(&back);
        assert_int_equal(sl_base64_encode(&text, alphabet, bytes, n), SL_OK);
        assert_int_equal(sl_base64_decode(&back, alphabet, text.data, text.len), SL_OK);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.data, bytes, n);
    }
    sl_buf_done(&back);
    sl_buf_done(&text);
}

static void what_is_not_base64_is_refused(void **state)
{
    (void)state;
    static const char *const standard[] = {
        "Z",     "Zg",       "Zg=",  "Zm9",  "Zg===", "====", "=",     "Z===",
        "Zm9v=", "Zg==Zg==", "Zh==", "Zm9=", "Zm 8",  "-_-_", "Zm8\n", "Zm9\xc3",
    };
    static const char *const url[] = {"Z", "Zg==", "Zm8=", "+/+/", "Zh", "Zm9", "Zm9vZ"};
    struct sl_buf out;
    sl_buf_init(&out, BYTES_MAX);
    assert_int_equal(sl_buf_adds(&out, "kept"), SL_OK);
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++)
        if (sl_base64_decode(&out, SL_BASE64_STANDARD, standard[i], strlen(standard[i])) !=
            SL_INVALID)
            fail_msg("taken: %s", standard[i]);
    for (size_t i = 0; i < sizeof url / sizeof *url; i++)
        if (sl_base64_decode(&out, SL_BASE64_URL, url[i], strlen(url[i])) != SL_INVALID)
            fail_msg("taken: %s", url[i]);
    assert_int_equal(sl_base64_decode(&out, SL_BASE64_URL, "Zm\09", 4), SL_INVALID);
    assert_string_equal(out.data, "kept");
    sl_buf_done(&out);
}

static void a_full_buffer_stays_as_it_was(void **state)
{
    (void)state;
    char bytes[1500] = "";
    struct sl_buf out;
    sl_buf_init(&out, BYTES_MAX - 1);
    assert_int_equal(sl_base64_encode(&out, SL_BASE64_STANDARD, bytes, sizeof bytes), SL_LIMIT);
    assert_int_equal(out.len, 0);
    sl_buf_done(&out);
    sl_buf_init(&out, 5);
    assert_int_equal(sl_base64_decode(&out, SL_BASE64_STANDARD, "Zm9vYmFy", 8), SL_LIMIT);
    assert_int_equal(out.len, 0);
    sl_mem_fail_at(1, false);
    sl_buf_done(&out);
    assert_int_equal(sl_base64_encode(&out, SL_BASE64_URL, "x", 1), SL_NOMEM);
    sl_mem_fail_at(0, false);
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_rfc),
        cmocka_unit_test(the_alphabets_differ_in_two_characters),
        cmocka_unit_test(every_length_comes_back),
        cmocka_unit_test(what_is_not_base64_is_refused),
        cmocka_unit_test(a_full_buffer_stays_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
