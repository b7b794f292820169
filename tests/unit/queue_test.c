/* queue_test.c: order, limits, closing and waiting of the queue between threads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "base/queue.h"

static void *item_of(uintptr_t number)
{
    return (void *)number;
}

static void a_capacity_of_zero_is_refused(void **state)
{
    (void)state;
    struct sl_queue *queue = NULL;
    assert_int_equal(sl_queue_create(0, &queue), SL_INVALID);
    assert_int_equal(sl_queue_create(SIZE_MAX / 2, &queue), SL_NOMEM);
    assert_null(queue);
    sl_queue_destroy(NULL);
}

static void creation_survives_every_lost_allocation(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    struct sl_queue *queue = NULL;
    sl_status status = SL_NOMEM;
    uint64_t nth = 0;
    while (status != SL_OK) {
        sl_mem_fail_at(++nth, false);
        status = sl_queue_create(8, &queue);
        if (status != SL_OK) {
            assert_int_equal(status, SL_NOMEM);
            assert_int_equal(sl_mem_live(), before);
        }
    }
    sl_mem_fail_at(0, false);
    assert_true(nth > 2);
    sl_queue_destroy(queue);
    assert_int_equal(sl_mem_live(), before);
}

static void items_leave_in_order_and_a_full_queue_is_busy(void **state)
{
    (void)state;
    struct sl_queue *queue;
    void *item;
    assert_int_equal(sl_queue_create(3, &queue), SL_OK);
    uintptr_t pushed = 0, popped = 0;
    for (int round = 0; round < 5; round++) {
        while (pushed - popped < 3)
            assert_int_equal(sl_queue_push(queue, item_of(++pushed)), SL_OK);
        assert_int_equal(sl_queue_push(queue, item_of(99)), SL_BUSY);
        assert_int_equal(sl_queue_len(queue), 3);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(sl_queue_pop(queue, 0, &item), SL_OK);
            assert_ptr_equal(item, item_of(++popped));
        }
    }
    sl_queue_destroy(queue);
}

static void an_empty_queue_times_out(void **state)
{
    (void)state;
    struct sl_queue *queue;
    void *item = item_of(7);
    assert_int_equal(sl_queue_create(1, &queue), SL_OK);
    assert_int_equal(sl_queue_pop(queue, 0, &item), SL_TIMEOUT);
    assert_int_equal(sl_queue_pop(queue, 1000, &item), SL_TIMEOUT);
    assert_ptr_equal(item, item_of(7));
    assert_int_equal(sl_queue_push(queue, NULL), SL_OK);
    assert_int_equal(sl_queue_pop(queue, INT64_MAX, &item), SL_OK);
    assert_null(item);
    sl_queue_destroy(queue);
}

static void a_closed_queue_drains(void **state)
{
    (void)state;
    struct sl_queue *queue;
    void *item;
    assert_int_equal(sl_queue_create(4, &queue), SL_OK);
    assert_int_equal(sl_queue_push(queue, item_of(1)), SL_OK);
    assert_int_equal(sl_queue_push(queue, item_of(2)), SL_OK);
    sl_queue_close(queue);
    assert_int_equal(sl_queue_push(queue, item_of(3)), SL_CANCELLED);
    assert_int_equal(sl_queue_pop(queue, -1, &item), SL_OK);
    assert_int_equal(sl_queue_pop(queue, 0, &item), SL_OK);
    assert_ptr_equal(item, item_of(2));
    assert_int_equal(sl_queue_pop(queue, -1, &item), SL_CANCELLED);
    assert_int_equal(sl_queue_pop(queue, 0, &item), SL_CANCELLED);
    assert_int_equal(sl_queue_pop(queue, 1000000, &item), SL_CANCELLED);
    sl_queue_destroy(queue);
}

#define N_PRODUCERS 3
#define N_CONSUMERS 3
#define N_ITEMS 1000 /* of each producer */

struct traffic {
    struct sl_queue *queue;
    atomic_int next_producer;
    _Atomic uint64_t sum, n_popped;
};

static void *produce(void *arg)
{
    struct traffic *t = arg;
    uintptr_t base = (uintptr_t)atomic_fetch_add(&t->next_producer, 1) * N_ITEMS;
    for (uintptr_t i = 1; i <= N_ITEMS; i++) {
        while (sl_queue_push(t->queue, item_of(base + i)) == SL_BUSY) sched_yield();
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct traffic *t = arg;
    uintptr_t last[N_PRODUCERS] = {0};
    void *item;
    while (sl_queue_pop(t->queue, -1, &item) == SL_OK) {
        uintptr_t number = (uintptr_t)item, producer = (number - 1) / N_ITEMS;
        if (number <= last[producer]) return item_of(1); /* out of order */
        last[producer] = number;
        atomic_fetch_add(&t->sum, number);
        atomic_fetch_add(&t->n_popped, 1);
    }
    return NULL;
}

static void threads_lose_and_double_nothing(void **state)
{
    (void)state;
    struct traffic t = {0};
    pthread_t producers[N_PRODUCERS], consumers[N_CONSUMERS];
    assert_int_equal(sl_queue_create(7, &t.queue), SL_OK);
    for (int i = 0; i < N_CONSUMERS; i++)
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, &t), 0);
    for (int i = 0; i < N_PRODUCERS; i++)
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &t), 0);
    for (int i = 0; i < N_PRODUCERS; i++) pthread_join(producers[i], NULL);
    sl_queue_close(t.queue);
    for (int i = 0; i < N_CONSUMERS; i++) {
        void *out_of_order;
        pthread_join(consumers[i], &out_of_order);
        assert_null(out_of_order);
    }
    uint64_t n = N_PRODUCERS * N_ITEMS;
    assert_int_equal(atomic_load(&t.n_popped), n);
    assert_int_equal(atomic_load(&t.sum), n * (n + 1) / 2);
    sl_queue_destroy(t.queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_capacity_of_zero_is_refused),
        cmocka_unit_test(creation_survives_every_lost_allocation),
        cmocka_unit_test(items_leave_in_order_and_a_full_queue_is_busy),
        cmocka_unit_test(an_empty_queue_times_out),
        cmocka_unit_test(a_closed_queue_drains),
        cmocka_unit_test(threads_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
