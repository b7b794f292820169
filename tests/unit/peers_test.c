/* peers_test.c: whom to ping, and what the answers tell, on a clock of the test's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "grid/peers.h"
#include "support/prop.h"

#define SECOND INT64_C(1000000000)
#define MS INT64_C(1000000)

static struct peers *peers_of(size_t n)
{
    struct peers *peers = NULL;
    struct sl_err err = SL_ERR_INIT;
    char id[PEERS_ID_SIZE];
    assert_int_equal(peers_create(n, &peers, &err), SL_OK);
    for (size_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "n%zu", i);
        assert_int_equal(peers_add(peers, id), SL_OK);
    }
    return peers;
}

static struct peers_stats stats_of(const struct peers *peers, const char *id)
{
    struct peers_stats stats;
    assert_true(peers_get(peers, id, &stats));
    return stats;
}

/* A way of so much delay and bandwidth: the round's pings are answered as it would. */
static size_t answer_round(struct peers *peers, int64_t now_ns, int64_t rtt_ns, double bytes_per_s)
{
    struct peers_ping pings[PEERS_ROUND_MAX];
    size_t n = peers_round(peers, now_ns, pings), n_padding = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t extra_ns = (int64_t)((double)pings[i].n_padding / bytes_per_s * 1e9);
        assert_true(peers_pong(peers, pings[i].id, pings[i].seq, now_ns + rtt_ns + extra_ns));
        if (pings[i].n_padding) n_padding = pings[i].n_padding;
    }
    return n_padding;
}

static void members_come_and_go(void **state)
{
    (void)state;
    struct peers *peers = peers_of(3);
    struct peers_stats stats;
    assert_int_equal(peers_add(peers, "n1"), SL_OK);
    assert_int_equal(peers_count(peers), 3);
    assert_int_equal(peers_add(peers, "n9"), SL_LIMIT);
    assert_int_equal(peers_add(peers, ""), SL_INVALID);
    assert_int_equal(peers_add(peers, "0123456789012345"), SL_INVALID);
    peers_remove(peers, "n1");
    peers_remove(peers, "n1");
    assert_false(peers_get(peers, "n1", &stats));
    assert_int_equal(peers_add(peers, "n9"), SL_OK);
    assert_true(stats_of(peers, "n9").rtt_s < 0);
    assert_true(stats_of(peers, "n9").bytes_per_s < 0);
    peers_destroy(peers);
}

static void each_comes_in_order_of_ids(void *ctx, const struct peers_stats *stats)
{
    char *last = ctx;
    assert_true(strcmp(last, stats->id) < 0);
    snprintf(last, PEERS_ID_SIZE, "%s", stats->id);
}

static void the_list_is_in_order(void **state)
{
    (void)state;
    char last[PEERS_ID_SIZE] = "";
    struct peers *peers = peers_of(12);
    peers_remove(peers, "n10");
    peers_each(peers, each_comes_in_order_of_ids, last);
    assert_string_equal(last, "n9");
    peers_destroy(peers);
}

static void rtt_is_smoothed_and_its_least_kept(void **state)
{
    (void)state;
    struct peers *peers = peers_of(1);
    answer_round(peers, 0, 20 * MS, INFINITY);
    struct peers_stats stats = stats_of(peers, "n0");
    assert_true(fabs(stats.rtt_s - 0.020) < 1e-9 && fabs(stats.rtt_jitter_s - 0.010) < 1e-9);
    answer_round(peers, 10 * SECOND, 100 * MS, INFINITY);
    stats = stats_of(peers, "n0");
    assert_true(fabs(stats.rtt_s - 0.030) < 1e-9 && fabs(stats.rtt_min_s - 0.020) < 1e-9);
    assert_int_equal(stats.heard_ns, 10 * SECOND + 100 * MS);
    /* A way that has become longer is known as such in the end. */
    for (int i = 2; i < 200; i++) answer_round(peers, i * 10 * SECOND, 50 * MS, INFINITY);
    stats = stats_of(peers, "n0");
    assert_true(fabs(stats.rtt_s - 0.050) < 1e-6 && fabs(stats.rtt_min_s - 0.050) < 1e-9);
    peers_destroy(peers);
}

static void only_the_answer_asked_for_counts(void **state)
{
    (void)state;
    struct peers_ping pings[PEERS_ROUND_MAX];
    struct peers *peers = peers_of(2);
    assert_int_equal(peers_round(peers, SECOND, pings), 2);
    assert_false(peers_pong(peers, pings[0].id, pings[1].seq, 2 * SECOND));
    assert_false(peers_pong(peers, "nobody", pings[0].seq, 2 * SECOND));
    assert_false(peers_pong(peers, pings[0].id, 0, 2 * SECOND));
    assert_false(peers_pong(peers, pings[0].id, pings[0].seq, 0)); /* before it was asked */
    assert_true(peers_pong(peers, pings[0].id, pings[0].seq, 2 * SECOND));
    assert_false(peers_pong(peers, pings[0].id, pings[0].seq, 2 * SECOND));
    /* The other one's is lost, and comes after all. */
    struct peers_ping later[PEERS_ROUND_MAX];
    assert_int_equal(peers_round(peers, SECOND + PEERS_LOST_NS, later), 2);
    assert_false(peers_pong(peers, pings[1].id, pings[1].seq, 9 * SECOND));
    assert_int_equal(stats_of(peers, pings[1].id).n_lost, 1);
    assert_int_equal(stats_of(peers, pings[0].id).n_lost, 0);
    peers_destroy(peers);
}

static double bandwidth_found(double bytes_per_s, int64_t rtt_ns, bool *out_at_least)
{
    struct peers *peers = peers_of(1);
    for (int i = 0; i < 300; i++) answer_round(peers, i * 2 * SECOND, rtt_ns, bytes_per_s);
    struct peers_stats stats = stats_of(peers, "n0");
    peers_destroy(peers);
    *out_at_least = stats.at_least;
    return stats.bytes_per_s;
}

static void bandwidth_is_what_padding_takes_longer(void **state)
{
    (void)state;
    static const double ways[] = {125e3, 1.25e6, 12.5e6, 125e6, 1.25e9}; /* 1 Mbit/s to 10 Gbit/s */
    bool at_least;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        double found = bandwidth_found(ways[i], 20 * MS, &at_least);
        assert_true(fabs(found / ways[i] - 1) < 0.01 && !at_least);
    }
    /* What makes no difference is known to be no less. */
    double found = bandwidth_found(INFINITY, 20 * MS, &at_least);
    assert_true(at_least && found > 1e9);
}

static void a_slow_way_is_not_stuffed(void **state)
{
    (void)state;
    struct peers *peers = peers_of(1);
    size_t most = 0;
    for (int i = 0; i < 600; i++) {
        size_t padding = answer_round(peers, i * 2 * SECOND, 50 * MS, 10e3);
        if (padding > most) most = padding;
    }
    assert_int_equal(most, PEERS_PADDING_MIN);
    peers_destroy(peers);
}

static void transfers_save_the_probe(void **state)
{
    (void)state;
    struct peers *peers = peers_of(1);
    for (int i = 0; i < 100; i++) {
        peers_transferred(peers, "n0", 50u << 20, SECOND / 2, i * 2 * SECOND);
        assert_int_equal(answer_round(peers, i * 2 * SECOND, MS, 1e9), 0);
    }
    assert_true(fabs(stats_of(peers, "n0").bytes_per_s - (100 << 20)) < 1);
    peers_transferred(peers, "n0", 1000, 1, 0);
    peers_transferred(peers, "n0", 50u << 20, 0, 0);
    peers_transferred(peers, "nobody", 50u << 20, 1, 0);
    assert_true(fabs(stats_of(peers, "n0").bytes_per_s - (100 << 20)) < 1);
    peers_destroy(peers);
}

/* --- the promises of the header, under any loss and delay --- */

#define N_PEERS 40
#define N_ROUNDS 3000

struct promise {
    int64_t pinged_ns, probed_ns;
};

static void check_round(struct promise *promises, const struct peers_ping *pings, size_t n,
                        int64_t now_ns)
{
    size_t n_padded = 0;
    assert_true(n <= PEERS_ROUND_MAX);
    for (size_t i = 0; i < n; i++) {
        int number = 0;
        assert_int_equal(sscanf(pings[i].id, "n%d", &number), 1);
        struct promise *p = &promises[number];
        assert_true(p->pinged_ns < 0 || now_ns - p->pinged_ns >= PEERS_PING_NS);
        p->pinged_ns = now_ns;
        if (!pings[i].n_padding) continue;
        n_padded++;
        assert_true(pings[i].n_padding <= PEERS_PADDING_MAX);
        assert_true(p->probed_ns < 0 || now_ns - p->probed_ns >= PEERS_PROBE_NS);
        p->probed_ns = now_ns;
    }
    assert_true(n_padded <= 1);
}

static void promises_hold_whatever_comes(void **state)
{
    (void)state;
    struct promise promises[N_PEERS];
    struct peers_ping pings[PEERS_ROUND_MAX];
    struct peers *peers = peers_of(N_PEERS);
    int64_t now_ns = 0;
    prop_begin();
    for (int i = 0; i < N_PEERS; i++) promises[i] = (struct promise){-1, -1};
    for (int round = 0; round < N_ROUNDS; round++) {
        size_t n = peers_round(peers, now_ns, pings);
        check_round(promises, pings, n, now_ns);
        for (size_t i = 0; i < n; i++)
            if (prop_draw(4))
                peers_pong(peers, pings[i].id, pings[i].seq, now_ns + (int64_t)prop_draw(400) * MS);
        now_ns += (int64_t)prop_draw(2000) * MS;
        /* Nobody waits for longer than it takes to serve all others, and the lost ones. */
        for (int i = 0; round > 100 && i < N_PEERS; i++)
            assert_true(now_ns - promises[i].pinged_ns < 60 * SECOND);
    }
    peers_destroy(peers);
}

static void sizes_have_limits(void **state)
{
    (void)state;
    struct peers *peers = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(peers_create(0, &peers, &err), SL_LIMIT);
    assert_int_equal(peers_create(PEERS_LIMIT + 1, &peers, &err), SL_LIMIT);
    assert_null(peers);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct peers *peers = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        status = peers_create(8, &peers, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || (status == SL_NOMEM && !peers));
        peers_destroy(peers);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_and_go),
        cmocka_unit_test(the_list_is_in_order),
        cmocka_unit_test(rtt_is_smoothed_and_its_least_kept),
        cmocka_unit_test(only_the_answer_asked_for_counts),
        cmocka_unit_test(bandwidth_is_what_padding_takes_longer),
        cmocka_unit_test(a_slow_way_is_not_stuffed),
        cmocka_unit_test(transfers_save_the_probe),
        cmocka_unit_test(promises_hold_whatever_comes),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
