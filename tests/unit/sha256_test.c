/* sha256_test.c: the vectors of FIPS 180-4's examples, whole and in pieces; hex both ways. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "net/sha256.h"

#include <string.h>

static const struct {
    const char *text, *hex;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        unsigned char digest[SHA256_BYTES];
        char hex[SHA256_HEX_SIZE];
        assert_int_equal(sha256_of(vectors[i].text, strlen(vectors[i].text), digest), SL_OK);
        sha256_hex(digest, hex);
        assert_string_equal(hex, vectors[i].hex);
    }
}

static void pieces_and_a_second_message(void **state)
{
    (void)state;
    struct sha256 sha;
    unsigned char digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];
    assert_int_equal(sha256_init(&sha), SL_OK);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        for (const char *p = vectors[i].text; *p; p++)
            assert_int_equal(sha256_add(&sha, p, 1), SL_OK);
        assert_int_equal(sha256_finish(&sha, digest), SL_OK);
        sha256_hex(digest, hex);
        assert_string_equal(hex, vectors[i].hex);
    }
    sha256_done(&sha);
    sha256_done(&sha);
}

static void hex_is_read_or_refused(void **state)
{
    (void)state;
    unsigned char digest[SHA256_BYTES];
    char text[80], hex[SHA256_HEX_SIZE];
    memcpy(text, vectors[1].hex, SHA256_HEX_SIZE);
    text[1] = 'A';
    assert_int_equal(sha256_from_hex(text, digest), SL_OK);
    sha256_hex(digest, hex);
    assert_string_equal(hex, vectors[1].hex);
    text[63] = 'g';
    assert_int_equal(sha256_from_hex(text, digest), SL_INVALID);
    text[63] = '\0';
    assert_int_equal(sha256_from_hex(text, digest), SL_INVALID);
    memcpy(text, vectors[1].hex, SHA256_HEX_SIZE);
    strcat(text, "0");
    assert_int_equal(sha256_from_hex(text, digest), SL_INVALID);
    assert_int_equal(sha256_from_hex("", digest), SL_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(pieces_and_a_second_message),
        cmocka_unit_test(hex_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
