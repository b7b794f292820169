/* arena_test.c: alignment, zeroing, limits and reuse of the arena. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/mem.h"

static void blocks_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    struct sl_arena arena;
    sl_arena_init(&arena, 1 << 20);
    unsigned char *blocks[100];
    for (size_t i = 0; i < 100; i++) {
        blocks[i] = sl_arena_alloc(&arena, i);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < i; k++) assert_int_equal(blocks[i][k], 0);
        memset(blocks[i], (int)i, i);
    }
    for (size_t i = 1; i < 100; i++) {
        assert_int_equal(blocks[i][0], i);
        assert_int_equal(blocks[i][i - 1], i);
    }
    sl_arena_done(&arena);
}

static void the_limit_is_exact(void **state)
{
    (void)state;
    struct sl_arena arena;
    sl_arena_init(&arena, 64);
    assert_null(sl_arena_alloc(&arena, 65));
    assert_non_null(sl_arena_alloc(&arena, 48));
    assert_null(sl_arena_alloc(&arena, 17));
    assert_non_null(sl_arena_alloc(&arena, 16));
    assert_null(sl_arena_alloc(&arena, 0));
    assert_int_equal(arena.used_bytes, 64);
    sl_arena_done(&arena);
}

static void large_blocks_do_not_waste_the_current_chunk(void **state)
{
    (void)state;
    struct sl_arena arena;
    sl_arena_init(&arena, 100 << 20);
    char *small = sl_arena_strndup(&arena, "small", 5);
    char *large = sl_arena_alloc(&arena, 10 << 20);
    assert_non_null(large);
    large[(10 << 20) - 1] = 'x';
    char *next = sl_arena_strndup(&arena, "next", 4);
    assert_ptr_equal(next, small + 16);
    sl_arena_done(&arena);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    struct sl_arena arena;
    sl_arena_init(&arena, SIZE_MAX);
    assert_null(sl_arena_alloc(&arena, SIZE_MAX));
    assert_null(sl_arena_alloc(&arena, SIZE_MAX - 20));
    assert_null(sl_arena_array(&arena, SIZE_MAX / 2, 3));
    assert_null(sl_arena_strndup(&arena, "x", SIZE_MAX));
    assert_non_null(sl_arena_array(&arena, 10, 20));
    sl_arena_done(&arena);
}

static void reset_keeps_one_chunk_and_zeroes_again(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_arena arena;
    sl_arena_init(&arena, 1 << 20);
    for (int i = 0; i < 50; i++) memset(sl_arena_alloc(&arena, 1000), 0xff, 1000);
    assert_true(sl_mem_live() > before + 1);
    sl_arena_reset(&arena);
    assert_int_equal(sl_mem_live(), before + 1);
    assert_int_equal(arena.used_bytes, 0);
    const unsigned char *p = sl_arena_alloc(&arena, 1000);
    for (size_t i = 0; i < 1000; i++) assert_int_equal(p[i], 0);
    sl_arena_done(&arena);
    sl_arena_reset(&arena);
    assert_int_equal(sl_mem_live(), before);
}

static void no_memory_is_null_and_changes_nothing(void **state)
{
    (void)state;
    struct sl_arena arena;
    sl_arena_init(&arena, 1 << 20);
    sl_mem_fail_at(1, true);
    assert_null(sl_arena_alloc(&arena, 100));
    assert_null(sl_arena_strndup(&arena, "abc", 3));
    sl_mem_fail_at(0, false);
    assert_int_equal(arena.used_bytes, 0);
    assert_string_equal(sl_arena_strndup(&arena, "abcdef", 3), "abc");
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_zeroed_and_apart),
        cmocka_unit_test(the_limit_is_exact),
        cmocka_unit_test(large_blocks_do_not_waste_the_current_chunk),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(reset_keeps_one_chunk_and_zeroes_again),
        cmocka_unit_test(no_memory_is_null_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
