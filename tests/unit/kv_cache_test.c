#include "base/mem.h"
#include "exec/llm/kv_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define B KV_BLOCK_TOKENS

static struct kv_cache *cache(int32_t n_blocks, bool share)
{
    struct kv_cache *kv = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(kv_create(n_blocks, share, &kv, &err), SL_OK);
    return kv;
}

static void run_tokens(struct kv_cache *kv, struct kv_seq *seq, const int32_t *tokens, int32_t n)
{
    struct kv_copy copy;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(kv_seq_reserve(kv, seq, n, &copy, &err), SL_OK);
    kv_seq_commit(kv, seq, tokens, n);
}

static void numbers(int32_t *tokens, int32_t n, int32_t first)
{
    for (int32_t i = 0; i < n; i++) tokens[i] = first + i;
}

static void test_prefix_is_shared_in_whole_blocks(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(16, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_seq a = {0}, b = {0};
    int32_t tokens[3 * B + 5], n;
    numbers(tokens, 3 * B + 5, 100);
    run_tokens(kv, &a, tokens, 3 * B + 5);
    assert_int_equal(kv_seq_match(kv, &b, tokens, 3 * B + 5, &n, &err), SL_OK);
    assert_int_equal(n, 3 * B);
    assert_memory_equal(a.blocks, b.blocks, 3 * sizeof *a.blocks);
    const struct kv_seq *both[] = {&a, &b};
    assert_true(kv_check(kv, both, 2));
    kv_seq_release(kv, &b);
    tokens[B] = -1; /* the second block differs: only the first is shared */
    assert_int_equal(kv_seq_match(kv, &b, tokens, 3 * B + 5, &n, &err), SL_OK);
    assert_int_equal(n, B);
    kv_seq_release(kv, &b);
    kv_seq_release(kv, &a);
    kv_destroy(kv);
}

static void test_match_leaves_a_token_to_compute(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(8, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_seq a = {0}, b = {0};
    int32_t tokens[2 * B], n;
    numbers(tokens, 2 * B, 7);
    run_tokens(kv, &a, tokens, 2 * B);
    assert_int_equal(kv_seq_match(kv, &b, tokens, 2 * B, &n, &err), SL_OK);
    assert_int_equal(n, B);
    kv_seq_release(kv, &a);
    kv_seq_release(kv, &b);
    kv_destroy(kv);
}

static void test_released_blocks_stay_until_evicted(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(4, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_stats st;
    struct kv_seq a = {0}, b = {0};
    int32_t tokens[2 * B + 1], other[4 * B], n;
    numbers(tokens, 2 * B + 1, 0);
    numbers(other, 4 * B, 5000);
    run_tokens(kv, &a, tokens, 2 * B + 1);
    kv_seq_release(kv, &a);
    kv_stats_get(kv, &st);
    assert_int_equal(st.n_cached, 2);
    assert_int_equal(st.n_free, 2);
    run_tokens(kv, &b, other, 4 * B); /* needs all four blocks */
    kv_stats_get(kv, &st);
    assert_int_equal(st.n_evictions, 2);
    assert_int_equal(st.n_held, 4);
    kv_seq_release(kv, &b);
    assert_int_equal(kv_seq_match(kv, &a, tokens, 2 * B + 1, &n, &err), SL_OK);
    assert_int_equal(n, 0);
    kv_seq_release(kv, &a);
    kv_destroy(kv);
}

static void test_front_of_a_prefix_is_evicted_last(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(4, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_seq a = {0}, b = {0};
    int32_t tokens[3 * B + 1], other[2 * B], n;
    numbers(tokens, 3 * B + 1, 0);
    numbers(other, 2 * B, 5000);
    run_tokens(kv, &a, tokens, 3 * B + 1);
    kv_seq_release(kv, &a);           /* three cached, one free */
    run_tokens(kv, &b, other, 2 * B); /* takes the free one and evicts one */
    assert_int_equal(kv_seq_match(kv, &a, tokens, 3 * B + 1, &n, &err), SL_OK);
    assert_int_equal(n, 2 * B);
    kv_seq_release(kv, &a);
    kv_seq_release(kv, &b);
    kv_destroy(kv);
}

static void test_fork_copies_the_open_block_on_write(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(8, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_seq a = {0}, b = {0};
    struct kv_copy copy;
    int32_t tokens[B + 3], shared;
    numbers(tokens, B + 3, 1);
    run_tokens(kv, &a, tokens, B + 3);
    shared = a.blocks[1];
    assert_int_equal(kv_seq_fork(kv, &a, &b, &err), SL_OK);
    assert_int_equal(b.blocks[1], shared);
    assert_int_equal(kv_seq_reserve(kv, &b, 1, &copy, &err), SL_OK);
    assert_int_equal(copy.src_block, shared);
    assert_int_equal(copy.dst_block, b.blocks[1]);
    assert_int_not_equal(b.blocks[1], shared);
    assert_int_equal(kv_seq_reserve(kv, &a, 1, &copy, &err), SL_OK);
    assert_int_equal(copy.src_block, -1); /* a holds it alone again */
    const struct kv_seq *both[] = {&a, &b};
    assert_true(kv_check(kv, both, 2));
    kv_seq_release(kv, &a);
    kv_seq_release(kv, &b);
    kv_destroy(kv);
}

static void test_a_copied_block_keeps_its_tokens(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(8, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_seq a = {0}, b = {0}, c = {0};
    int32_t tokens[B + 1], n;
    numbers(tokens, B + 1, 1);
    run_tokens(kv, &a, tokens, B - 2);
    assert_int_equal(kv_seq_fork(kv, &a, &b, &err), SL_OK);
    run_tokens(kv, &b, tokens + B - 2, 2); /* copy on write, then the block is full */
    assert_int_equal(kv_seq_match(kv, &c, tokens, B + 1, &n, &err), SL_OK);
    assert_int_equal(n, B);
    assert_int_equal(c.blocks[0], b.blocks[0]);
    kv_seq_release(kv, &a);
    kv_seq_release(kv, &b);
    kv_seq_release(kv, &c);
    kv_destroy(kv);
}

static void test_full_pool_is_busy_and_changes_nothing(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(2, true);
    struct sl_err err = SL_ERR_INIT;
    struct kv_seq a = {0}, b = {0};
    struct kv_copy copy;
    int32_t tokens[B + 1];
    numbers(tokens, B + 1, 1);
    run_tokens(kv, &a, tokens, B + 1);
    assert_int_equal(kv_seq_reserve(kv, &b, 1, &copy, &err), SL_BUSY);
    assert_int_equal(b.n_blocks, 0);
    const struct kv_seq *both[] = {&a, &b};
    assert_true(kv_check(kv, both, 2));
    kv_seq_release(kv, &a);
    kv_seq_release(kv, &b);
    kv_destroy(kv);
}

static void test_without_sharing_nothing_is_kept(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(4, false);
    struct sl_err err = SL_ERR_INIT;
    struct kv_stats st;
    struct kv_seq a = {0};
    int32_t tokens[2 * B + 1], n;
    numbers(tokens, 2 * B + 1, 1);
    run_tokens(kv, &a, tokens, 2 * B + 1);
    kv_seq_release(kv, &a);
    kv_stats_get(kv, &st);
    assert_int_equal(st.n_free, 4);
    assert_int_equal(kv_seq_match(kv, &a, tokens, 2 * B + 1, &n, &err), SL_OK);
    assert_int_equal(n, 0);
    kv_seq_release(kv, &a);
    kv_destroy(kv);
}

static void test_create_survives_failing_allocations(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct sl_err err = SL_ERR_INIT;
    struct kv_cache *kv = NULL;
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        sl_mem_fail_at(nth, false);
        status = kv_create(32, true, &kv, &err);
        sl_mem_fail_at(0, false);
        assert_true(nth < 10);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    kv_destroy(kv);
    assert_int_equal(kv_create(0, true, &kv, &err), SL_INVALID);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_is_shared_in_whole_blocks),
        cmocka_unit_test(test_match_leaves_a_token_to_compute),
        cmocka_unit_test(test_released_blocks_stay_until_evicted),
        cmocka_unit_test(test_front_of_a_prefix_is_evicted_last),
        cmocka_unit_test(test_fork_copies_the_open_block_on_write),
        cmocka_unit_test(test_a_copied_block_keeps_its_tokens),
        cmocka_unit_test(test_full_pool_is_busy_and_changes_nothing),
        cmocka_unit_test(test_without_sharing_nothing_is_kept),
        cmocka_unit_test(test_create_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
