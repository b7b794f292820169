/* utf8_prop.c: random bytes cut anywhere: what sl_utf8_complete lets through never splits a
 * character, and what it keeps back is short. SEED=n repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "support/prop.h"

#define N_ROUNDS 20000
#define TEXT_MAX 40

static uint32_t draw_codepoint(void)
{
    static const uint32_t limits[] = {0x80, 0x800, 0x10000, 0x110000};
    uint32_t codepoint = (uint32_t)prop_draw(limits[prop_draw(4)]);
    return codepoint >= 0xd800 && codepoint <= 0xdfff ? 'x' : codepoint;
}

static size_t draw_text(char text[TEXT_MAX])
{
    size_t n = 0;
    while (n + 4 <= TEXT_MAX && prop_draw(12)) n += sl_utf8_encode(draw_codepoint(), text + n);
    return n;
}

static void valid_text_streams_through_whole(void **state)
{
    (void)state;
    for (int round = 0; round < N_ROUNDS; round++) {
        char text[TEXT_MAX];
        size_t n = draw_text(text), sent = 0;
        assert_true(sl_utf8_valid(text, n));
        for (size_t arrived = 0; arrived <= n; arrived++) {
            size_t ready = sent + sl_utf8_complete(text + sent, arrived - sent);
            assert_true(arrived - ready <= 3);
            assert_true(sl_utf8_valid(text + sent, ready - sent));
            sent = ready;
        }
        assert_int_equal(sent, n);
    }
}

/* Whether 1 to 3 more bytes make the tail a whole character. Only borders matter: a range that has
 * a fit at all has one at its lower or upper end. */
static bool completions_exist(const char *tail, size_t n)
{
    static const char more[] = {(char)0x80, (char)0x8f, (char)0x90,
                                (char)0x9f, (char)0xa0, (char)0xbf};
    char text[4];
    uint32_t codepoint;
    memcpy(text, tail, n);
    for (size_t len = n + 1; len <= 4; len++) {
        for (size_t i = 0; i < sizeof more; i++) {
            memset(text + n, more[i], len - n);
            if (sl_utf8_decode(text, len, &codepoint) == len) return true;
        }
    }
    return false;
}

static void any_bytes_are_held_back_only_while_they_may_go_on(void **state)
{
    (void)state;
    for (int round = 0; round < N_ROUNDS; round++) {
        char text[TEXT_MAX];
        size_t n = prop_draw(12);
        for (size_t i = 0; i < n; i++) text[i] = (char)prop_draw(256);
        size_t complete = sl_utf8_complete(text, n);
        assert_true(complete <= n && n - complete <= 3);
        if (complete == n) continue;
        assert_true(completions_exist(text + complete, n - complete));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_text_streams_through_whole),
        cmocka_unit_test(any_bytes_are_held_back_only_while_they_may_go_on),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
