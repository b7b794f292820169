/* queue_prop.c: random pushes, pops and a close on the queue and on a shifted array. SEED=n repeats
 * a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/queue.h"
#include "support/prop.h"

#define N_ROUNDS 500
#define N_STEPS 200
#define CAPACITY_MAX 17

struct model {
    void *items[CAPACITY_MAX];
    size_t len, capacity;
    bool closed;
};

static void step_push(struct sl_queue *queue, struct model *model)
{
    void *item = (void *)(uintptr_t)prop_draw(SIZE_MAX);
    sl_status expected = model->closed                   ? SL_CANCELLED
                         : model->len == model->capacity ? SL_BUSY
                                                         : SL_OK;
    assert_int_equal(sl_queue_push(queue, item), expected);
    if (expected == SL_OK) model->items[model->len++] = item;
}

static void step_pop(struct sl_queue *queue, struct model *model)
{
    void *item = NULL;
    sl_status expected = model->len > 0 ? SL_OK : model->closed ? SL_CANCELLED : SL_TIMEOUT;
    /* Waiting for ever is allowed only where an answer is certain. */
    int64_t timeout_ns = expected != SL_TIMEOUT && prop_draw(2) ? -1 : 0;
    assert_int_equal(sl_queue_pop(queue, timeout_ns, &item), expected);
    if (expected != SL_OK) return;
    assert_ptr_equal(item, model->items[0]);
    model->len--;
    memmove(model->items, model->items + 1, model->len * sizeof model->items[0]);
}

static void random_operations_agree_with_an_array(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    for (int round = 0; round < N_ROUNDS; round++) {
        struct model model = {.capacity = 1 + prop_draw(CAPACITY_MAX)};
        struct sl_queue *queue;
        assert_int_equal(sl_queue_create(model.capacity, &queue), SL_OK);
        size_t push_share = 1 + prop_draw(9); /* of 10: some rounds run full, some run dry */
        for (int i = 0; i < N_STEPS; i++) {
            if (prop_draw(100) == 0) {
                sl_queue_close(queue);
                model.closed = true;
            } else if (prop_draw(10) < push_share) {
                step_push(queue, &model);
            } else {
                step_pop(queue, &model);
            }
            assert_int_equal(sl_queue_len(queue), model.len);
        }
        sl_queue_destroy(queue);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operations_agree_with_an_array)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
