/* mem_test.c: the allocator counts, refuses overflow, and fails exactly when told to. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"

static int fault_off(void **state)
{
    (void)state;
    sl_mem_fail_at(0, false);
    return 0;
}

static void live_counts_allocations_not_yet_freed(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    void *a = sl_malloc(10), *b = sl_calloc(3, 4), *c = sl_realloc(NULL, 5);
    assert_int_equal(sl_mem_live(), before + 3);
    c = sl_realloc(c, 5000);
    assert_int_equal(sl_mem_live(), before + 3);
    sl_free(a);
    sl_free(b);
    sl_free(c);
    sl_free(NULL);
    assert_int_equal(sl_mem_live(), before);
}

static void zero_bytes_give_a_pointer(void **state)
{
    (void)state;
    void *pointers[] = {sl_malloc(0), sl_calloc(0, 8), sl_realloc(NULL, 0),
                        sl_realloc(sl_malloc(4), 0)};
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(pointers[i]);
        sl_free(pointers[i]);
    }
}

static void calloc_zeroes(void **state)
{
    (void)state;
    unsigned char *p = sl_calloc(100, 7);
    assert_non_null(p);
    for (size_t i = 0; i < 700; i++) assert_int_equal(p[i], 0);
    sl_free(p);
}

static void products_that_overflow_are_refused(void **state)
{
    (void)state;
    volatile size_t half = SIZE_MAX / 2; /* volatile: the compiler would warn of the constant */
    assert_null(sl_calloc(half, 3));
    char *p = sl_strdup("kept");
    assert_null(sl_realloc_array(p, half, 3));
    assert_string_equal(p, "kept");
    p = sl_realloc_array(p, 10, 10);
    assert_string_equal(p, "kept");
    sl_free(p);
    assert_null(sl_memdup("x", SIZE_MAX));
}

static void copies_end_in_a_nul(void **state)
{
    (void)state;
    char *s = sl_strdup("star");
    assert_string_equal(s, "star");
    sl_free(s);
    char *m = sl_memdup("a\0b!", 3);
    assert_memory_equal(m, "a\0b", 4);
    sl_free(m);
    char *empty = sl_memdup(NULL, 0);
    assert_string_equal(empty, "");
    sl_free(empty);
}

static void only_the_nth_allocation_fails(void **state)
{
    (void)state;
    sl_mem_fail_at(3, false);
    void *got[5];
    for (int i = 0; i < 2; i++) got[i] = sl_malloc(1);
    assert_false(sl_mem_fail_hit());
    got[2] = sl_malloc(1);
    assert_true(sl_mem_fail_hit());
    for (int i = 3; i < 5; i++) got[i] = sl_calloc(1, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(got[i] == NULL, i == 2);
        sl_free(got[i]);
    }
}

static void forever_fails_all_that_follow(void **state)
{
    (void)state;
    char *kept = sl_strdup("kept");
    sl_mem_fail_at(1, true);
    for (int i = 0; i < 4; i++) assert_null(sl_malloc(1));
    assert_null(sl_realloc(kept, 100));
    assert_null(sl_strdup("x"));
    sl_mem_fail_at(0, false);
    assert_false(sl_mem_fail_hit());
    assert_string_equal(kept, "kept");
    sl_free(kept);
}

#define N_THREADS 4
#define N_ROUNDS 2000

static void *allocate_and_free(void *arg)
{
    uintptr_t n_failed = 0;
    (void)arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        void *p = sl_malloc(16);
        n_failed += p == NULL;
        sl_free(p);
    }
    return (void *)n_failed;
}

static void one_fault_hits_one_thread(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    sl_mem_fail_at(N_ROUNDS, false);
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_free, NULL), 0);
    }
    uintptr_t n_failed = 0;
    for (int i = 0; i < N_THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        n_failed += (uintptr_t)result;
    }
    assert_int_equal(n_failed, 1);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_counts_allocations_not_yet_freed),
        cmocka_unit_test(zero_bytes_give_a_pointer),
        cmocka_unit_test(calloc_zeroes),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(copies_end_in_a_nul),
        cmocka_unit_test_teardown(only_the_nth_allocation_fails, fault_off),
        cmocka_unit_test_teardown(forever_fails_all_that_follow, fault_off),
        cmocka_unit_test_teardown(one_fault_hits_one_thread, fault_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
