/* hash_test.c: published XXH3 values, and that every byte and the seed count. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/hash.h"

static void the_empty_input_has_the_published_hash(void **state)
{
    (void)state;
    assert_true(sl_hash64("", 0, 0) ==
                UINT64_C(0x2d06800538d394c2)); /* XXH3_64bits of nothing, seed 0 */
    assert_true(sl_hash64(NULL, 0, 0) == UINT64_C(0x2d06800538d394c2));
}

static void every_byte_and_the_seed_matter(void **state)
{
    (void)state;
    unsigned char bytes[600] = {
        0}; /* spans all of XXH3's length classes: 16, 128, 240 and longer */
    for (size_t n = 1; n <= sizeof bytes; n += 7) {
        uint64_t plain = sl_hash64(bytes, n, 1);
        assert_true(plain == sl_hash64(bytes, n, 1));
        assert_true(plain != sl_hash64(bytes, n, 2));
        assert_true(plain != sl_hash64(bytes, n - 1, 1));
        for (size_t i = 0; i < n; i += 5) {
            bytes[i] ^= 1;
            assert_true(plain != sl_hash64(bytes, n, 1));
            bytes[i] ^= 1;
        }
    }
}

static void the_process_seed_stays_the_same(void **state)
{
    (void)state;
    uint64_t seed = sl_hash_seed();
    assert_true(seed != 0);
    assert_true(seed == sl_hash_seed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_empty_input_has_the_published_hash),
        cmocka_unit_test(every_byte_and_the_seed_matter),
        cmocka_unit_test(the_process_seed_stays_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
