/* utf8_test.c: every code point, every malformed kind, and where a stream may be cut. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

static bool is_scalar(uint32_t codepoint)
{
    return codepoint <= 0x10ffff && !(codepoint >= 0xd800 && codepoint <= 0xdfff);
}

static void every_code_point_survives_the_round_trip(void **state)
{
    (void)state;
    size_t n_encoded = 0;
    for (uint32_t codepoint = 0; codepoint <= 0x110010; codepoint++) {
        char bytes[4];
        uint32_t back = 0;
        size_t len = sl_utf8_encode(codepoint, bytes);
        if ((len > 0) != is_scalar(codepoint))
            fail_msg("U+%04X: encoded to %zu bytes", codepoint, len);
        if (len == 0) continue;
        n_encoded++;
        if (sl_utf8_decode(bytes, len, &back) != len || back != codepoint)
            fail_msg("U+%04X is lost", codepoint);
        if (len > 1 && sl_utf8_decode(bytes, len - 1, &back) != 0)
            fail_msg("U+%04X: half taken", codepoint);
    }
    assert_int_equal(n_encoded, 0x110000 - 0x800);
}

static void lengths_change_where_the_rfc_says(void **state)
{
    (void)state;
    char bytes[4];
    assert_int_equal(sl_utf8_encode(0x7f, bytes), 1);
    assert_int_equal(sl_utf8_encode(0x80, bytes), 2);
    assert_int_equal(sl_utf8_encode(0x7ff, bytes), 2);
    assert_int_equal(sl_utf8_encode(0x800, bytes), 3);
    assert_int_equal(sl_utf8_encode(0xffff, bytes), 3);
    assert_int_equal(sl_utf8_encode(0x10000, bytes), 4);
    assert_int_equal(sl_utf8_encode(0x20ac, bytes), 3);
    assert_memory_equal(bytes, "\xe2\x82\xac", 3);
}

static void malformed_sequences_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\xaf",
        "\xc1\xbf", /* lone continuation, overlong */
        "\xe0\x9f\xbf",
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",
        "\xed\xbf\xbf", /* surrogates */
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff", /* past U+10FFFF */
        "\xe2\x82",
        "\xe2(\xa1",
        "\xf0\x9f\x9a",
        "\xf0\x9f(x", /* cut or broken inside */
    };
    uint32_t codepoint;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(sl_utf8_decode(bad[i], strlen(bad[i]), &codepoint), 0);
        assert_false(sl_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_true(sl_utf8_valid("", 0));
    assert_true(sl_utf8_valid("a\0\xc3\xa4\xed\x9f\xbf\xf4\x8f\xbf\xbf", 11));
}

static void only_an_unfinished_sequence_waits(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t complete;
    } rows[] = {
        {"", 0},
        {"abc", 3},
        {"ab\xc3", 2},
        {"ab\xc3\xa4", 4},
        {"\xe2", 0},
        {"\xe2\x82", 0},
        {"\xe2\x82\xac", 3},
        {"x\xf0\x9f\x9a", 1},
        {"\xf0\x9f\x9a\x80", 4},
        {"\xff", 1},
        {"\x80\x80\x80\x80", 4}, /* nothing later mends these */
        {"\xe0\x80", 2},
        {"\xed\xa0", 2},
        {"\xf4\x90", 2},
        {"\xc0", 1}, /* nor these */
        {"\xe2\x82\xac\x80", 4},
        {"\xf0\x9f(", 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(sl_utf8_complete(rows[i].bytes, strlen(rows[i].bytes)), rows[i].complete);
    }
}

/* Slow but plain: the tail waits when some code point's encoding starts with it and goes on. */
static bool may_go_on(const char *tail, size_t n)
{
    for (uint32_t codepoint = 0x80; codepoint <= 0x10ffff;
         codepoint += codepoint < 0x10000 ? 0x20 : 0x1000) {
        char bytes[4];
        size_t len = sl_utf8_encode(codepoint, bytes);
        if (len > n && memcmp(bytes, tail, n) == 0) return true;
    }
    return false;
}

static void completeness_of_all_two_byte_tails(void **state)
{
    (void)state;
    for (int first = 0x80; first < 0x100; first++) {
        char one[1] = {(char)first};
        if (sl_utf8_complete(one, 1) != (may_go_on(one, 1) ? 0u : 1u)) fail_msg("%02x", first);
        for (int second = 0xc0 - 0x50; second < 0xd0; second++) {
            char two[2] = {(char)first, (char)second};
            bool last_waits = second >= 0x80 && may_go_on(two + 1, 1);
            size_t expected = may_go_on(two, 2) ? 0 : last_waits ? 1 : 2;
            if (sl_utf8_complete(two, 2) != expected) fail_msg("%02x %02x", first, second);
        }
    }
    assert_true(may_go_on("\xe2\x82", 2));
}

static void what_is_no_printable_text_is_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printable;
    } rows[] = {
        {"", ""},
        {"caf\u00e9 \u4e2d \U0001f600 ~", "caf\u00e9 \u4e2d \U0001f600 ~"},
        {"a\x1b[2J\nb\x7f", "a?[2J?b?"},
        {"\x80z\xff", "?z?"}, /* no lead bytes */
        {"z\xe2\x82", "z??"}, /* cut off */
        {"\xc2\x9b"
         "31m",
         "??31m"}, /* C1: CSI in one character */
        {"\xc0\xaf\xed\xa0\x80", "?????"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        strcpy(text, rows[i].text);
        sl_utf8_make_printable(text, strlen(text), '?');
        assert_string_equal(text, rows[i].printable);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives_the_round_trip),
        cmocka_unit_test(lengths_change_where_the_rfc_says),
        cmocka_unit_test(malformed_sequences_are_refused),
        cmocka_unit_test(only_an_unfinished_sequence_waits),
        cmocka_unit_test(completeness_of_all_two_byte_tails),
        cmocka_unit_test(what_is_no_printable_text_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
