#include "netlab/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <cmocka.h>

#define MS ((int64_t)1000000)
#define S (1000 * MS)
#define FRAME 1500
#define SEED 7

/* The moment a frame sent now arrives, -1 when it is gone. */
static int64_t offer(struct link *link, int64_t now_ns)
{
    int64_t due_ns = -1;
    return link_offer(link, FRAME, now_ns, SEED, 3, &due_ns) ? due_ns : -1;
}

static void a_perfect_link_delivers_at_once(void **state)
{
    struct link link;
    (void)state;
    link_init(&link);
    for (int64_t now_ns = 0; now_ns < 10; now_ns++) assert_int_equal(offer(&link, now_ns), now_ns);
    assert_int_equal(link.stats.n_frames, 10);
    assert_int_equal(link.stats.n_bytes, 10 * FRAME);
}

static void delay_is_added(void **state)
{
    struct link link;
    (void)state;
    link_init(&link);
    link.settings.delay_ns = 20 * MS;
    assert_int_equal(offer(&link, 5 * MS), 25 * MS);
    link.settings.delay_ns = 1 * MS; /* what left before still comes first */
    assert_int_equal(offer(&link, 6 * MS), 25 * MS);
    assert_int_equal(offer(&link, 30 * MS), 31 * MS);
}

static void jitter_is_even_and_keeps_the_order(void **state)
{
    struct link link;
    int64_t last_ns = 0, sum_ns = 0, least_ns = S, most_ns = 0;
    const int n = 2000;
    (void)state;
    link_init(&link);
    link.settings.delay_ns = 20 * MS;
    link.settings.jitter_ns = 5 * MS;
    for (int i = 0; i < n; i++) { /* so far apart that none waits for the one before */
        int64_t taken_ns = offer(&link, i * S) - i * S;
        sum_ns += taken_ns;
        least_ns = taken_ns < least_ns ? taken_ns : least_ns;
        most_ns = taken_ns > most_ns ? taken_ns : most_ns;
    }
    assert_in_range(sum_ns / n, 19 * MS, 21 * MS);
    assert_in_range(least_ns, 15 * MS, 16 * MS);
    assert_in_range(most_ns, 24 * MS, 25 * MS);
    for (int i = 0; i < n; i++) {
        int64_t due_ns = offer(&link, n * S + i);
        assert_true(due_ns >= last_ns);
        last_ns = due_ns;
    }
}

static void jitter_above_the_delay_is_not_a_time_machine(void **state)
{
    struct link link;
    (void)state;
    link_init(&link);
    link.settings.jitter_ns = 5 * MS;
    for (int64_t now_ns = 0; now_ns < 100 * S; now_ns += S)
        assert_true(offer(&link, now_ns) >= now_ns);
}

static void loss_is_as_likely_as_asked(void **state)
{
    struct link link;
    const double n = 20000, loss = 0.1;
    (void)state;
    link_init(&link);
    link.settings.loss = loss;
    for (int i = 0; i < (int)n; i++) (void)offer(&link, i);
    /* 5 standard deviations of a binomial; with this seed it is the same each time. */
    assert_true(fabs((double)link.stats.n_lost - n * loss) < 5 * sqrt(n * loss * (1 - loss)));
    assert_int_equal(link.stats.n_lost + link.stats.n_frames, (uint64_t)n);
    link.settings.loss = 1;
    assert_int_equal(offer(&link, 0), -1);
}

/* A sender that always has a frame gets the rate, after the burst. */
static void the_bucket_fills_at_its_rate(void **state)
{
    struct link link;
    int64_t now_ns = 0;
    int n_passed = 0;
    (void)state;
    link_init(&link);
    link.settings.rate_bps = 12 * 1000 * 1000; /* a frame a millisecond */
    for (; now_ns < 10 * S; now_ns += MS / 4) n_passed += offer(&link, now_ns) >= 0;
    int64_t queued = LINK_QUEUE_BYTES_DEFAULT / FRAME;
    assert_in_range(n_passed, 10000 + queued, 10000 + queued + 3);
    assert_int_equal(link.stats.n_overrun, 40000 - n_passed);
    int64_t due_ns = offer(&link, now_ns);
    assert_true(due_ns < 0 || due_ns - now_ns <= queued * MS);
}

static void silence_saves_up_a_burst_and_no_more(void **state)
{
    struct link link;
    (void)state;
    link_init(&link);
    link.settings.rate_bps = 12 * 1000 * 1000;
    for (int round = 1; round <= 3; round++) {
        int64_t now_ns = round * 100 * S;
        assert_int_equal(offer(&link, now_ns), now_ns);
        assert_int_equal(offer(&link, now_ns), now_ns);
        assert_in_range(offer(&link, now_ns), now_ns + MS / 2, now_ns + MS);
    }
}

static void a_queue_of_nothing_polices(void **state)
{
    struct link link;
    (void)state;
    link_init(&link);
    link.settings.rate_bps = 12 * 1000 * 1000;
    link.settings.queue_bytes = 0;
    assert_int_equal(offer(&link, 100 * S), 100 * S);
    assert_int_equal(offer(&link, 100 * S), 100 * S);
    assert_int_equal(offer(&link, 100 * S), -1);
    assert_int_equal(link.stats.n_overrun, 1);
}

static void a_cut_link_passes_nothing(void **state)
{
    struct link link;
    (void)state;
    link_init(&link);
    link.cut = true;
    assert_int_equal(offer(&link, 1), -1);
    link.cut = false;
    assert_int_equal(offer(&link, 2), 2);
    assert_int_equal(link.stats.n_cut, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_perfect_link_delivers_at_once),
        cmocka_unit_test(delay_is_added),
        cmocka_unit_test(jitter_is_even_and_keeps_the_order),
        cmocka_unit_test(jitter_above_the_delay_is_not_a_time_machine),
        cmocka_unit_test(loss_is_as_likely_as_asked),
        cmocka_unit_test(the_bucket_fills_at_its_rate),
        cmocka_unit_test(silence_saves_up_a_burst_and_no_more),
        cmocka_unit_test(a_queue_of_nothing_polices),
        cmocka_unit_test(a_cut_link_passes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
