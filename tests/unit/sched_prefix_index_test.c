/* sched_prefix_index_test.c: who holds which blocks. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "sched/prefix_index.h"

static const uint64_t chain[6] = {101, 202, 303, 404, 505, 606};

static void hold(struct prefix_index *index, size_t n, uint32_t node)
{
    for (size_t i = 0; i < n; i++) prefix_index_add(index, chain[i], node);
}

static void test_match_counts_leading_blocks(void **state)
{
    (void)state;
    struct prefix_index index;
    assert_int_equal(prefix_index_init(&index, 1000), SL_OK);
    assert_int_equal(prefix_index_match(&index, chain, 6, 1), 0);
    assert_int_equal(prefix_index_match(&index, NULL, 0, 1), 0);
    for (size_t n = 1; n <= 6; n++) {
        hold(&index, n, 1);
        assert_int_equal(prefix_index_match(&index, chain, 6, 1), n);
        assert_int_equal(prefix_index_match(&index, chain, n, 1), n);
        assert_int_equal(prefix_index_match(&index, chain, 6, 2), 0);
    }
    prefix_index_remove(&index, chain[5], 1);
    assert_int_equal(prefix_index_match(&index, chain, 6, 1), 5);
    prefix_index_done(&index);
}

static void test_holders_of_the_longest_beginning(void **state)
{
    (void)state;
    struct prefix_index index;
    uint32_t holders[PREFIX_HOLDERS_MAX];
    assert_int_equal(prefix_index_init(&index, 1000), SL_OK);
    assert_int_equal(prefix_index_holders(&index, chain, 6, holders), 0);
    hold(&index, 2, 7);
    hold(&index, 4, 8);
    hold(&index, 4, 9);
    assert_int_equal(prefix_index_holders(&index, chain, 6, holders), 2);
    assert_int_equal(holders[0], 9);
    assert_int_equal(holders[1], 8);
    prefix_index_forget(&index, 9);
    assert_int_equal(prefix_index_holders(&index, chain, 6, holders), 1);
    prefix_index_forget(&index, 8);
    assert_int_equal(prefix_index_holders(&index, chain, 6, holders), 1);
    assert_int_equal(holders[0], 7);
    prefix_index_done(&index);
}

static void test_the_first_of_too_many_holders_is_forgotten(void **state)
{
    (void)state;
    struct prefix_index index;
    assert_int_equal(prefix_index_init(&index, 8), SL_OK);
    for (uint32_t node = 0; node <= PREFIX_HOLDERS_MAX; node++)
        prefix_index_add(&index, chain[0], node);
    assert_int_equal(prefix_index_match(&index, chain, 1, 0), 0);
    for (uint32_t node = 1; node <= PREFIX_HOLDERS_MAX; node++)
        assert_int_equal(prefix_index_match(&index, chain, 1, node), 1);
    /* Saying it again changes the order only. */
    prefix_index_add(&index, chain[0], 1);
    prefix_index_add(&index, chain[0], 20);
    assert_int_equal(prefix_index_match(&index, chain, 1, 1), 1);
    assert_int_equal(prefix_index_match(&index, chain, 1, 2), 0);
    prefix_index_done(&index);
}

static void test_the_oldest_block_gives_way(void **state)
{
    (void)state;
    struct prefix_index index;
    assert_int_equal(prefix_index_init(&index, 1), SL_OK); /* one bucket */
    for (uint64_t hash = 1; hash <= PREFIX_WAYS; hash++) prefix_index_add(&index, hash, 3);
    uint64_t first = 1, second = 2;
    prefix_index_add(&index, first, 3);
    prefix_index_add(&index, 999, 3);
    assert_int_equal(prefix_index_match(&index, &first, 1, 3), 1);
    assert_int_equal(prefix_index_match(&index, &second, 1, 3), 0);
    prefix_index_done(&index);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct prefix_index index;
    sl_mem_fail_at(1, false);
    assert_int_equal(prefix_index_init(&index, 100), SL_NOMEM);
    sl_mem_fail_at(0, false);
    prefix_index_done(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match_counts_leading_blocks),
        cmocka_unit_test(test_holders_of_the_longest_beginning),
        cmocka_unit_test(test_the_first_of_too_many_holders_is_forgotten),
        cmocka_unit_test(test_the_oldest_block_gives_way),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
