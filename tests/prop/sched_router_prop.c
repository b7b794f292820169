/* sched_router_prop.c: a router in a cluster where everything goes wrong: no request is lost,
 * none is answered twice, no token is delivered twice or out of order, no node gets more than it
 * takes, and once the trouble is over everything ends. SEED=n repeats a run; ROUNDS=n makes it
 * longer or shorter. / */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/mem.h"
#include "support/prop.h"
#include "support/virtual_cluster.h"

#define N_ROUNDS 100000
#define N_STEPS 120
#define TWIN_EVERY 16 /* of the rounds have a second router, which has to do the same */

static void test_router_in_trouble(void **state)
{
    (void)state;
    static struct cluster cluster;
    const char *rounds = getenv("ROUNDS");
    long n_rounds = rounds ? atol(rounds) : N_ROUNDS;
    uint64_t n_actions[ROUTER_ACTION_KIND_COUNT] = {0}, n_ends[SL_STATUS_COUNT] = {0}, n_hedges = 0;
    uint64_t live = sl_mem_live();
    for (long round = 0; round < n_rounds; round++) {
        cluster_begin(&cluster, round % TWIN_EVERY == 0);
        for (int i = 0; i < N_STEPS; i++) cluster_chaos(&cluster);
        cluster_calm(&cluster);
        cluster_end(&cluster);
        for (int i = 0; i < ROUTER_ACTION_KIND_COUNT; i++) n_actions[i] += cluster.n_actions[i];
        for (int i = 0; i < SL_STATUS_COUNT; i++) n_ends[i] += cluster.n_ends[i];
        n_hedges += cluster.n_hedges;
    }
    assert_int_equal(sl_mem_live(), live);
    /* A property of what never happens proves nothing. */
    for (int i = 0; i < ROUTER_ACTION_KIND_COUNT; i++) assert_true(n_actions[i] > 0);
    assert_true(n_ends[SL_OK] > 0 && n_ends[SL_TIMEOUT] > 0 && n_hedges > 0);
    assert_true(n_rounds < 1000 || n_ends[SL_UNAVAILABLE] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_router_in_trouble)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
