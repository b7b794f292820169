/* sched_queue_prop.c: nobody starves. Random tenants of all classes keep one model busy for ever;
 * each request must be popped within the bound that request_queue.h states. And the timer heap
 * against a plain array. SEED=n repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>

#include "sched/index_heap.h"
#include "sched/request_queue.h"
#include "support/prop.h"

#define N_ROUNDS 200
#define N_EVENTS 600
#define N_WAITING_MAX 300
#define N_TENANTS 5
#define N_HEAP_ITEMS 40

struct promise {
    uint64_t pops_latest; /* the pop by which the request must be out; 0: it is out */
};

struct bench {
    struct sched_config config;
    struct request_table table;
    struct request_queue queue;
    struct promise promises[N_EVENTS];
    uint64_t n_arrived, n_pops;
    uint64_t popped_last[SCHED_CLASS_COUNT][N_TENANTS]; /* id + 1 */
    uint32_t n_waiting[SCHED_CLASS_COUNT][N_TENANTS];
};

static void arrive(struct bench *bench, enum sched_class class, uint64_t tenant)
{
    uint64_t id = bench->n_arrived++;
    uint32_t index = request_table_add(&bench->table, id);
    assert_int_not_equal(index, INDEX_NONE);
    struct request *request = &bench->table.requests[index];
    request->qos_class = class;
    request->tenant = tenant;
    request->deadline_ns = SCHED_NEVER;
    request_queue_push(&bench->queue, index);
    uint64_t place = ++bench->n_waiting[class][tenant];
    uint64_t bound = place * N_TENANTS * request_queue_turn_bound(&bench->queue, class);
    bench->promises[id].pops_latest = bench->n_pops + bound;
}

static void pop(struct bench *bench)
{
    uint32_t index = request_queue_pop(&bench->queue, 0, true);
    if (index == INDEX_NONE) {
        assert_int_equal(request_queue_n_fresh(&bench->queue), 0);
        return;
    }
    bench->n_pops++;
    const struct request *request = &bench->table.requests[index];
    uint64_t *last = &bench->popped_last[request->qos_class][request->tenant];
    assert_true(request->id >= *last); /* a tenant's requests leave in the order they came */
    *last = request->id + 1;
    assert_true(bench->n_pops <= bench->promises[request->id].pops_latest);
    bench->promises[request->id].pops_latest = 0;
    bench->n_waiting[request->qos_class][request->tenant]--;
    request_table_remove(&bench->table, index);
}

static void check_promises(const struct bench *bench)
{
    for (uint64_t id = 0; id < bench->n_arrived; id++) {
        uint64_t latest = bench->promises[id].pops_latest;
        assert_true(latest == 0 || bench->n_pops < latest);
    }
}

/* Interactive ones and a flooding tenant come faster than they can be served. */
static void live_under_endless_load(struct bench *bench)
{
    while (bench->n_arrived < N_EVENTS) {
        size_t draw = prop_draw(10);
        bool room = request_queue_n_fresh(&bench->queue) < N_WAITING_MAX;
        if (room && draw < 3)
            arrive(bench, SCHED_INTERACTIVE, 0);
        else if (room && draw < 5)
            arrive(bench, (enum sched_class)prop_draw(SCHED_CLASS_COUNT), prop_draw(N_TENANTS));
        else
            pop(bench);
        check_promises(bench);
    }
    while (request_queue_n_fresh(&bench->queue) > 0) pop(bench);
}

static void everybody_is_served_within_the_bound(void **state)
{
    (void)state;
    for (int round = 0; round < N_ROUNDS; round++) {
        static struct bench bench;
        bench = (struct bench){0};
        sched_config_default(&bench.config);
        bench.config.n_models_max = 1;
        bench.config.n_waiting_max = N_WAITING_MAX;
        for (int class = 0; class < SCHED_CLASS_COUNT; class ++)
            if (round > 0) bench.config.class_weight[class] = 1 + (uint32_t)prop_draw(40);
        assert_int_equal(request_table_init(&bench.table, N_WAITING_MAX), SL_OK);
        assert_int_equal(request_queue_init(&bench.queue, &bench.config, &bench.table), SL_OK);
        live_under_endless_load(&bench);
        assert_int_equal(bench.table.n_used, 0);
        request_queue_done(&bench.queue);
        request_table_done(&bench.table);
    }
}

static void the_heap_agrees_with_an_array(void **state)
{
    (void)state;
    for (int round = 0; round < N_ROUNDS; round++) {
        int64_t keys[N_HEAP_ITEMS];
        for (int i = 0; i < N_HEAP_ITEMS; i++) keys[i] = INT64_MAX; /* absent */
        struct index_heap heap;
        assert_int_equal(index_heap_init(&heap, N_HEAP_ITEMS), SL_OK);
        for (int i = 0; i < N_EVENTS; i++) {
            uint32_t item = (uint32_t)prop_draw(N_HEAP_ITEMS);
            if (prop_draw(3) == 0) {
                index_heap_remove(&heap, item);
                keys[item] = INT64_MAX;
            } else {
                keys[item] = (int64_t)prop_draw(30);
                index_heap_set(&heap, item, keys[item]);
            }
            uint32_t least = 0, min_item = 0;
            int64_t min_key = INT64_MAX;
            for (uint32_t j = 1; j < N_HEAP_ITEMS; j++)
                if (keys[j] < keys[least]) least = j;
            bool any = index_heap_min(&heap, &min_item, &min_key);
            assert_int_equal(any, keys[least] != INT64_MAX);
            if (any) assert_int_equal(min_item, least);
            assert_int_equal(min_key, keys[least]);
        }
        index_heap_done(&heap);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_is_served_within_the_bound),
        cmocka_unit_test(the_heap_agrees_with_an_array),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
