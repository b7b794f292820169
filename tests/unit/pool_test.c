/* pool_test.c: every accepted job runs once, and loops end whatever the pool is busy with. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "base/pool.h"

static void sizes_are_checked(void **state)
{
    (void)state;
    struct sl_pool *pool = NULL;
    assert_int_equal(sl_pool_create(0, 4, &pool), SL_INVALID);
    assert_int_equal(sl_pool_create(-1, 4, &pool), SL_INVALID);
    assert_int_equal(sl_pool_create(1 << 20, 4, &pool), SL_INVALID);
    assert_int_equal(sl_pool_create(2, 0, &pool), SL_INVALID);
    assert_null(pool);
    sl_pool_destroy(NULL);
}

static void creation_survives_every_lost_allocation(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_pool *pool = NULL;
    sl_status status = SL_NOMEM;
    uint64_t nth = 0;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = sl_pool_create(2, 4, &pool);
        if (status != SL_OK) {
            assert_int_equal(status, SL_NOMEM);
            assert_int_equal(sl_mem_live(), before);
        }
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 3);
    sl_pool_destroy(pool);
    assert_int_equal(sl_mem_live(), before);
}

static void count_one(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void destroy_drains(void **state)
{
    (void)state;
    struct sl_pool *pool;
    atomic_int n_run = 0;
    assert_int_equal(sl_pool_create(2, 100, &pool), SL_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(sl_pool_submit(pool, count_one, &n_run), SL_OK);
    sl_pool_destroy(pool);
    assert_int_equal(atomic_load(&n_run), 100);
}

/* A job that says it has begun and then holds its thread until it is let go. */
struct gate {
    sem_t begun, go;
};

static void gate_init(struct gate *gate)
{
    sem_init(&gate->begun, 0, 0);
    sem_init(&gate->go, 0, 0);
}

static void gate_done(struct gate *gate)
{
    sem_destroy(&gate->begun);
    sem_destroy(&gate->go);
}

static void wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    sem_post(&gate->begun);
    sem_wait(&gate->go);
}

/* Leaves the pool's only thread in the gate. */
static struct sl_pool *create_blocked_pool(struct gate *gate, size_t queue_max)
{
    struct sl_pool *pool;
    gate_init(gate);
    assert_int_equal(sl_pool_create(1, queue_max, &pool), SL_OK);
    assert_int_equal(sl_pool_submit(pool, wait_at_gate, gate), SL_OK);
    sem_wait(&gate->begun);
    return pool;
}

static void a_full_queue_is_busy(void **state)
{
    (void)state;
    struct gate gate;
    struct sl_pool *pool = create_blocked_pool(&gate, 2);
    atomic_int n_run = 0;
    uint64_t live = sl_mem_live();
    for (int i = 0; i < 2; i++) assert_int_equal(sl_pool_submit(pool, count_one, &n_run), SL_OK);
    assert_int_equal(sl_pool_submit(pool, count_one, &n_run), SL_BUSY);
    assert_int_equal(sl_mem_live(), live + 2);
    sem_post(&gate.go);
    sl_pool_destroy(pool);
    assert_int_equal(atomic_load(&n_run), 2);
    gate_done(&gate);
}

static void a_job_without_memory_is_refused(void **state)
{
    (void)state;
    struct sl_pool *pool;
    atomic_int n_run = 0;
    assert_int_equal(sl_pool_create(1, 4, &pool), SL_OK);
    sl_mem_fail_at(1, true);
    assert_int_equal(sl_pool_submit(pool, count_one, &n_run), SL_NOMEM);
    sl_mem_fail_at(0, false);
    sl_pool_destroy(pool);
    assert_int_equal(atomic_load(&n_run), 0);
}

#define N_MARKS 1000

static void mark(void *arg, int i)
{
    atomic_fetch_add((atomic_int *)arg + i, 1);
}

static void assert_all_marked_once(atomic_int marks[N_MARKS], int n)
{
    for (int i = 0; i < N_MARKS; i++) assert_int_equal(atomic_exchange(&marks[i], 0), i < n);
}

static void a_loop_runs_each_index_once(void **state)
{
    (void)state;
    static atomic_int marks[N_MARKS];
    static const int sizes[] = {-1, 0, 1, 2, 3, 17, N_MARKS};
    struct sl_pool *pool;
    uint64_t before = sl_mem_live();
    assert_int_equal(sl_pool_create(3, 16, &pool), SL_OK);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        sl_pool_for(pool, sizes[k], mark, marks);
        assert_all_marked_once(marks, sizes[k]);
    }
    sl_pool_destroy(pool);
    assert_int_equal(sl_mem_live(), before);
}

static void a_loop_ends_while_the_pool_is_blocked(void **state)
{
    (void)state;
    static atomic_int marks[N_MARKS];
    struct gate gate;
    struct sl_pool *pool = create_blocked_pool(&gate, 1);
    sl_pool_for(pool, N_MARKS, mark, marks); /* its helper stays in the queue */
    assert_all_marked_once(marks, N_MARKS);
    sl_pool_for(pool, N_MARKS, mark, marks); /* and now the queue is full */
    assert_all_marked_once(marks, N_MARKS);
    sem_post(&gate.go);
    sl_pool_destroy(pool);
    gate_done(&gate);
}

static void a_loop_without_memory_runs_on_the_caller(void **state)
{
    (void)state;
    static atomic_int marks[N_MARKS];
    struct sl_pool *pool;
    assert_int_equal(sl_pool_create(2, 4, &pool), SL_OK);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        sl_mem_fail_at(nth, true);
        sl_pool_for(pool, N_MARKS, mark, marks);
        sl_mem_fail_at(0, false);
        assert_all_marked_once(marks, N_MARKS);
    }
    sl_pool_destroy(pool);
}

struct nest {
    struct sl_pool *pool;
    atomic_int n_leaves;
};

static void leaf(void *arg, int i)
{
    (void)i;
    atomic_fetch_add(&((struct nest *)arg)->n_leaves, 1);
}

static void branch(void *arg, int i)
{
    (void)i;
    struct nest *nest = arg;
    sl_pool_for(nest->pool, 10, leaf, nest);
}

static void tree(void *arg)
{
    struct nest *nest = arg;
    sl_pool_for(nest->pool, 10, branch, nest);
}

static void loops_nest_inside_jobs(void **state)
{
    (void)state;
    struct nest nest = {0};
    uint64_t before = sl_mem_live();
    assert_int_equal(sl_pool_create(2, 3, &nest.pool), SL_OK);
    int n_trees = 0;
    while (n_trees < 50) n_trees += sl_pool_submit(nest.pool, tree, &nest) == SL_OK;
    sl_pool_destroy(nest.pool);
    assert_int_equal(atomic_load(&nest.n_leaves), 50 * 10 * 10);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(creation_survives_every_lost_allocation),
        cmocka_unit_test(destroy_drains),
        cmocka_unit_test(a_full_queue_is_busy),
        cmocka_unit_test(a_job_without_memory_is_refused),
        cmocka_unit_test(a_loop_runs_each_index_once),
        cmocka_unit_test(a_loop_ends_while_the_pool_is_blocked),
        cmocka_unit_test(a_loop_without_memory_runs_on_the_caller),
        cmocka_unit_test(loops_nest_inside_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
