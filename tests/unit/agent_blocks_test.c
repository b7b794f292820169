/* The blocks that a model's cache holds, against a naive list on random uses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grid/agent_blocks.h"
#include "support/prop.h"

#define NAIVE_MAX 600

struct naive {
    uint64_t v[NAIVE_MAX]; /* the one used last at the end */
    size_t n;
};

static bool naive_take(struct naive *naive, uint64_t hash)
{
    for (size_t i = 0; i < naive->n; i++) {
        if (naive->v[i] != hash) continue;
        memmove(&naive->v[i], &naive->v[i + 1], (naive->n - i - 1) * sizeof *naive->v);
        naive->n--;
        return true;
    }
    return false;
}

static void test_behaves_like_a_list(void **state)
{
    struct agent_blocks blocks;
    struct naive naive = {0};
    (void)state;
    prop_begin();
    agent_blocks_init(&blocks);
    for (int i = 0; i < 20000; i++) {
        uint64_t hash = prop_draw(900);
        bool is_new;
        bool was_there = naive_take(&naive, hash);
        naive.v[naive.n++] = hash;
        assert_int_equal(agent_blocks_use(&blocks, hash, &is_new), SL_OK);
        assert_int_equal(is_new, !was_there);
        while (naive.n > NAIVE_MAX - 1 - prop_draw(3)) {
            uint64_t oldest = naive.v[0], dropped;
            assert_true(agent_blocks_drop(&blocks, &dropped));
            assert_int_equal(dropped, oldest);
            naive_take(&naive, oldest);
            assert_false(agent_blocks_has(&blocks, oldest));
        }
        assert_int_equal(blocks.n, naive.n);
        assert_true(agent_blocks_has(&blocks, naive.v[prop_draw(naive.n)]));
    }
    agent_blocks_done(&blocks);
}

static void test_each_in_turn(void **state)
{
    struct agent_blocks blocks;
    uint64_t hash, sum = 0;
    bool is_new;
    (void)state;
    agent_blocks_init(&blocks);
    assert_false(agent_blocks_next(&blocks, &hash));
    assert_false(agent_blocks_drop(&blocks, &hash));
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(agent_blocks_use(&blocks, i, &is_new), SL_OK);
    for (int i = 0; i < 6; i++) {
        assert_true(agent_blocks_next(&blocks, &hash));
        sum += hash;
    }
    assert_int_equal(sum, 12);
    agent_blocks_done(&blocks);
}

static void test_without_memory(void **state)
{
    struct agent_blocks blocks;
    size_t live = (size_t)sl_mem_live();
    sl_status status = SL_NOMEM;
    bool is_new;
    (void)state;
    agent_blocks_init(&blocks);
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = agent_blocks_use(&blocks, 5, &is_new);
        sl_mem_fail_at(0, false);
        assert_int_equal(agent_blocks_has(&blocks, 5), status == SL_OK);
        assert_true(n < 10);
    }
    agent_blocks_done(&blocks);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behaves_like_a_list),
        cmocka_unit_test(test_each_in_turn),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
