/* strmap_test.c: the string map: growth, replacement, odd keys, lost memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/strmap.h"

#define N_WORDS 5000

static char words[N_WORDS][16];

static int make_words(void **state)
{
    (void)state;
    for (int i = 0; i < N_WORDS; i++) snprintf(words[i], sizeof words[i], "word%d", i);
    return 0;
}

static void an_empty_map_has_nothing(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_strmap map;
    assert_int_equal(sl_strmap_init(&map, 0), SL_OK);
    assert_int_equal(sl_mem_live(), before);
    assert_int_equal(sl_strmap_get(&map, "x", 1, -7), -7);
    sl_strmap_done(&map);
}

static void all_words_are_found_after_growth(void **state)
{
    (void)state;
    struct sl_strmap map;
    assert_int_equal(sl_strmap_init(&map, 0), SL_OK);
    for (int i = 0; i < N_WORDS; i++) {
        assert_int_equal(sl_strmap_put(&map, words[i], strlen(words[i]), i), SL_OK);
        assert_true(map.n_entries * 2 <= map.n_slots);
    }
    assert_int_equal(map.n_entries, N_WORDS);
    for (int i = 0; i < N_WORDS; i++) {
        assert_int_equal(sl_strmap_get(&map, words[i], strlen(words[i]), -1), i);
        assert_int_equal(sl_strmap_get(&map, words[i], 3, -1), -1);
    }
    sl_strmap_done(&map);
}

static void an_expected_size_never_grows(void **state)
{
    (void)state;
    struct sl_strmap map;
    assert_int_equal(sl_strmap_init(&map, N_WORDS), SL_OK);
    size_t n_slots = map.n_slots;
    for (int i = 0; i < N_WORDS; i++)
        assert_int_equal(sl_strmap_put(&map, words[i], strlen(words[i]), i), SL_OK);
    assert_int_equal(map.n_slots, n_slots);
    sl_strmap_done(&map);
}

static void a_second_put_replaces(void **state)
{
    (void)state;
    struct sl_strmap map;
    assert_int_equal(sl_strmap_init(&map, 4), SL_OK);
    assert_int_equal(sl_strmap_put(&map, "k", 1, 1), SL_OK);
    assert_int_equal(sl_strmap_put(&map, "k", 1, INT32_MIN), SL_OK);
    assert_int_equal(map.n_entries, 1);
    assert_int_equal(sl_strmap_get(&map, "k", 1, 0), INT32_MIN);
    sl_strmap_done(&map);
}

static void keys_are_bytes(void **state)
{
    (void)state;
    struct sl_strmap map;
    assert_int_equal(sl_strmap_init(&map, 4), SL_OK);
    assert_int_equal(sl_strmap_put(&map, "a\0b", 3, 1), SL_OK);
    assert_int_equal(sl_strmap_put(&map, "a", 1, 2), SL_OK);
    assert_int_equal(sl_strmap_put(&map, NULL, 0, 3), SL_OK);
    assert_int_equal(sl_strmap_get(&map, "a\0b", 3, -1), 1);
    assert_int_equal(sl_strmap_get(&map, "a\0c", 3, -1), -1);
    assert_int_equal(sl_strmap_get(&map, "a", 1, -1), 2);
    assert_int_equal(sl_strmap_get(&map, "", 0, -1), 3);
    sl_strmap_done(&map);
}

static void lengths_past_32_bits_are_refused(void **state)
{
    (void)state;
    struct sl_strmap map;
    assert_int_equal(sl_strmap_init(&map, 4), SL_OK);
    size_t too_long = (size_t)UINT32_MAX + 2; /* would be 1 when cut to 32 bits */
    assert_int_equal(sl_strmap_put(&map, "k", too_long, 1), SL_LIMIT);
    assert_int_equal(sl_strmap_put(&map, "k", 1, 1), SL_OK);
    assert_int_equal(sl_strmap_get(&map, "k", too_long, -1), -1);
    sl_strmap_done(&map);
}

static void lost_memory_is_reported_and_harmless(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_strmap map;
    sl_mem_fail_at(1, false);
    assert_int_equal(sl_strmap_init(&map, 100), SL_NOMEM);
    assert_int_equal(sl_strmap_init(&map, SIZE_MAX), SL_NOMEM);
    assert_int_equal(sl_mem_live(), before);

    assert_int_equal(sl_strmap_init(&map, 1), SL_OK);
    int n_put = 0;
    sl_mem_fail_at(1, true);
    while (sl_strmap_put(&map, words[n_put], strlen(words[n_put]), n_put) == SL_OK) n_put++;
    sl_mem_fail_at(0, false);
    assert_true(n_put > 0);
    assert_int_equal(map.n_entries, n_put);
    for (int i = 0; i < n_put; i++)
        assert_int_equal(sl_strmap_get(&map, words[i], strlen(words[i]), -1), i);
    assert_int_equal(sl_strmap_put(&map, words[n_put], strlen(words[n_put]), 9), SL_OK);
    sl_strmap_done(&map);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(all_words_are_found_after_growth),
        cmocka_unit_test(an_expected_size_never_grows),
        cmocka_unit_test(a_second_put_replaces),
        cmocka_unit_test(keys_are_bytes),
        cmocka_unit_test(lengths_past_32_bits_are_refused),
        cmocka_unit_test(lost_memory_is_reported_and_harmless),
    };
    return cmocka_run_group_tests(tests, make_words, NULL);
}
