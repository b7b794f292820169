#include "netlab/frame_queue.h"
#include "base/mem.h"
#include "support/prop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static sl_status put(struct frame_queue *queue, int64_t due_ns, int mark)
{
    char bytes[4] = {(char)mark, 1, 2, 3};
    struct frame frame = {.due_ns = due_ns, .from = mark, .n = sizeof bytes, .bytes = bytes};
    return frame_queue_put(queue, &frame);
}

static void an_empty_queue_has_no_first(void **state)
{
    struct frame_queue queue;
    (void)state;
    frame_queue_init(&queue);
    assert_null(frame_queue_first(&queue));
    frame_queue_drop_first(&queue);
    assert_null(frame_queue_first(&queue));
    frame_queue_done(&queue);
}

static void equal_moments_keep_their_order(void **state)
{
    struct frame_queue queue;
    (void)state;
    frame_queue_init(&queue);
    for (int i = 0; i < 100; i++) assert_int_equal(put(&queue, 5, i), SL_OK);
    assert_int_equal(put(&queue, 4, 100), SL_OK);
    assert_int_equal(frame_queue_first(&queue)->from, 100);
    frame_queue_drop_first(&queue);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(frame_queue_first(&queue)->from, i);
        assert_int_equal(*(char *)frame_queue_first(&queue)->bytes, i);
        frame_queue_drop_first(&queue);
    }
    assert_int_equal(queue.n_bytes, 0);
    frame_queue_done(&queue);
}

/* Against a plain array in which the earliest is searched. */
static void random_use_equals_a_naive_queue(void **state)
{
    enum { N = 300 };
    struct frame_queue queue;
    int64_t due_ns[N];
    int n = 0, n_put = 0, marks[N];
    (void)state;
    prop_begin();
    frame_queue_init(&queue);
    for (int step = 0; step < 20000; step++) {
        if (n < N && prop_draw(2)) {
            due_ns[n] = (int64_t)prop_draw(50);
            marks[n] = n_put++;
            assert_int_equal(put(&queue, due_ns[n], marks[n]), SL_OK);
            n++;
        } else if (n) {
            int first = 0;
            for (int i = 1; i < n; i++) first = due_ns[i] < due_ns[first] ? i : first;
            assert_int_equal(frame_queue_first(&queue)->from, marks[first]);
            frame_queue_drop_first(&queue);
            n--;
            memmove(due_ns + first, due_ns + first + 1, (size_t)(n - first) * sizeof *due_ns);
            memmove(marks + first, marks + first + 1, (size_t)(n - first) * sizeof *marks);
        }
        assert_int_equal(queue.n, n);
    }
    frame_queue_done(&queue);
}

static void bytes_are_bounded(void **state)
{
    struct frame_queue queue;
    static char bytes[1 << 20];
    struct frame frame = {.n = sizeof bytes, .bytes = bytes};
    unsigned n = 0;
    (void)state;
    frame_queue_init(&queue);
    while (frame_queue_put(&queue, &frame) == SL_OK) n++;
    assert_int_equal(n, FRAME_QUEUE_BYTES_MAX / sizeof bytes);
    assert_int_equal(frame_queue_put(&queue, &frame), SL_LIMIT);
    frame_queue_drop_first(&queue);
    assert_int_equal(frame_queue_put(&queue, &frame), SL_OK);
    frame_queue_done(&queue);
}

static void a_failed_put_changes_nothing(void **state)
{
    struct frame_queue queue;
    uint64_t live = sl_mem_live();
    (void)state;
    frame_queue_init(&queue);
    for (uint64_t nth = 1;; nth++) {
        sl_mem_fail_at(nth, false);
        sl_status status = put(&queue, 1, 1);
        sl_mem_fail_at(0, false);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(queue.n, 0);
    }
    assert_int_equal(queue.n, 1);
    frame_queue_done(&queue);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_queue_has_no_first),
        cmocka_unit_test(equal_moments_keep_their_order),
        cmocka_unit_test(random_use_equals_a_naive_queue),
        cmocka_unit_test(bytes_are_bounded),
        cmocka_unit_test(a_failed_put_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
