/* sched_request_queue_test.c: the queue by itself, and the table and the heap that it stands on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "sched/request_queue.h"

#define CAPACITY 200

static struct sched_config config;
static struct request_table table;
static struct request_queue queue;

static int begin(void **state)
{
    (void)state;
    sched_config_default(&config);
    config.n_models_max = 2;
    config.n_waiting_max = CAPACITY;
    assert_int_equal(request_table_init(&table, CAPACITY), SL_OK);
    assert_int_equal(request_queue_init(&queue, &config, &table), SL_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    request_queue_done(&queue);
    request_table_done(&table);
    return 0;
}

/* n_attempts above 0: it comes back from a dead worker. */
static uint32_t push(uint64_t id, enum sched_class class, uint32_t n_attempts)
{
    uint32_t index = request_table_add(&table, id);
    assert_int_not_equal(index, INDEX_NONE);
    struct request *request = &table.requests[index];
    request->qos_class = class;
    request->n_attempts = n_attempts;
    request->deadline_ns = 1000 - (int64_t)id;
    request_queue_push(&queue, index);
    return index;
}

static uint64_t pop(void)
{
    uint32_t index = request_queue_pop(&queue, 0, true);
    assert_int_not_equal(index, INDEX_NONE);
    uint64_t id = table.requests[index].id;
    request_table_remove(&table, index);
    return id;
}

static void shares_follow_the_weights(void **state)
{
    (void)state;
    unsigned n_of_class[SCHED_CLASS_COUNT] = {0};
    for (uint64_t id = 0; id < 180; id++) push(id, (enum sched_class)(id % SCHED_CLASS_COUNT), 0);
    for (int i = 0; i < 63; i++) n_of_class[pop() % SCHED_CLASS_COUNT]++;
    assert_int_equal(n_of_class[SCHED_INTERACTIVE], 48);
    assert_int_equal(n_of_class[SCHED_STANDARD], 12);
    assert_int_equal(n_of_class[SCHED_BATCH], 3);
    assert_int_equal(request_queue_turn_bound(&queue, SCHED_BATCH), 1 + 17 + 5);
}

static void a_pause_saves_up_nothing(void **state)
{
    (void)state;
    for (uint64_t id = 0; id < 50; id++) push(id, SCHED_BATCH, 0);
    for (int i = 0; i < 40; i++) pop();
    for (uint64_t id = 100; id < 150; id++) push(id, SCHED_STANDARD, 0);
    unsigned n_batch = 0;
    for (int i = 0; i < 15; i++) n_batch += pop() < 100;
    assert_int_equal(n_batch, 2);
}

static void retries_are_the_head_of_their_class(void **state)
{
    (void)state;
    push(1, SCHED_STANDARD, 0);
    push(2, SCHED_STANDARD, 1);
    push(3, SCHED_STANDARD, 1);
    assert_int_equal(request_queue_n_fresh(&queue), 1);
    assert_int_equal(pop(), 2);
    assert_int_equal(pop(), 3);
    assert_int_equal(request_queue_pop(&queue, 0, false), INDEX_NONE); /* only fresh ones left */
    assert_int_equal(pop(), 1);
}

static void the_earliest_deadline_is_known(void **state)
{
    (void)state;
    assert_int_equal(request_queue_next_deadline(&queue), SCHED_NEVER);
    push(1, SCHED_BATCH, 0);
    uint32_t second = push(5, SCHED_INTERACTIVE, 0);
    assert_int_equal(request_queue_next_deadline(&queue), 995);
    assert_int_equal(request_queue_expired(&queue, 994), INDEX_NONE);
    assert_int_equal(request_queue_expired(&queue, 995), second);
    request_queue_remove(&queue, second);
    assert_int_equal(request_queue_next_deadline(&queue), 999);
}

static void ids_are_found_among_many(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < CAPACITY; i++)
        assert_int_not_equal(request_table_add(&table, i << 32), INDEX_NONE);
    assert_int_equal(request_table_add(&table, 1), INDEX_NONE);
    for (uint64_t i = 0; i < CAPACITY; i++) {
        uint32_t index = request_table_find(&table, i << 32);
        assert_int_not_equal(index, INDEX_NONE);
        assert_int_equal(table.requests[index].id, i << 32);
    }
    assert_int_equal(request_table_find(&table, 7), INDEX_NONE);
}

static void the_service_time_moves_slowly(void **state)
{
    (void)state;
    assert_int_equal(request_queue_retry_after_ms(&queue, 0, 1), SCHED_RETRY_MIN_MS);
    request_queue_note_service(&queue, 0, INT64_C(8000000000));
    assert_int_equal(request_queue_retry_after_ms(&queue, 0, 2), 4000);
    request_queue_note_service(&queue, 0, INT64_C(16000000000));
    assert_int_equal(request_queue_retry_after_ms(&queue, 0, 1), 9000);
    request_queue_note_service(&queue, 0, INT64_MAX / 2);
    assert_int_equal(request_queue_retry_after_ms(&queue, 0, 1), SCHED_RETRY_MAX_MS);
}

static sl_status make_all(void)
{
    sl_status status = request_table_init(&table, CAPACITY);
    if (status != SL_OK) return status;
    status = request_queue_init(&queue, &config, &table);
    if (status != SL_OK) request_table_done(&table);
    return status;
}

static void constructors_survive_lost_memory(void **state)
{
    (void)state;
    end(NULL);
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    int nth = 0;
    while (status != SL_OK) {
        sl_mem_fail_at((uint64_t)++nth, false);
        status = make_all();
        assert_int_equal(status, sl_mem_fail_hit() ? SL_NOMEM : SL_OK);
        sl_mem_fail_at(0, false);
        if (status != SL_OK) assert_int_equal(sl_mem_live(), live);
    }
    assert_int_equal(nth, 3 + 5 + 2 + 1);
}

#define RULE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULE(shares_follow_the_weights),
        RULE(a_pause_saves_up_nothing),
        RULE(retries_are_the_head_of_their_class),
        RULE(the_earliest_deadline_is_known),
        RULE(ids_are_found_among_many),
        RULE(the_service_time_moves_slowly),
        RULE(constructors_survive_lost_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
