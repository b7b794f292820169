/* dispatch_prop.c: a dispatcher in a grid where everything goes wrong: messages are lost, delayed
 * and come twice, nodes die and come back, links and the bus are cut, nodes refuse, clients leave,
 * our own process stalls. Whatever happens, every request ends exactly once, with the tokens of the
 * quiet run, each once and in order. SEED=n repeats a run; ROUNDS=n makes it longer or shorter. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support/fake_grid.h"
#include "support/prop.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define N_ROUNDS 4000
#define N_STEPS 25
#define N_CLIENTS 8
#define HEAL_NS (90 * S) /* far more than any schedule has needed */

static struct fake_grid grid;
static struct fake_client clients[N_CLIENTS];
static size_t n_clients;

static void submit_one(void)
{
    struct sl_err err = SL_ERR_INIT;
    char text[64];
    if (n_clients == N_CLIENTS) return;
    struct fake_client *client = &clients[n_clients];
    snprintf(text, sizeof text, "prompt %zu of %zu", n_clients, prop_draw(100000));
    fake_client_init(client, text);
    client->n_choices = 1 + (int32_t)prop_draw(FAKE_CHOICES_MAX);
    if (prop_draw(8) == 0) client->cancel_after = (int32_t)prop_draw(6);
    if (prop_draw(10) == 0) client->task = NODE_EMBED;
    if (client->task == NODE_EMBED) client->n_choices = 1;
    client->qos = (enum sched_class)prop_draw(SCHED_CLASS_COUNT);
    sl_status status = fake_submit(&grid, client, &err);
    if (status != SL_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SL_OK);
    n_clients++;
}

static void cancel_one(void)
{
    if (n_clients == 0) return;
    struct fake_client *client = &clients[prop_draw(n_clients)];
    if (client->ended || client->cancelled) return;
    client->cancelled = true;
    dispatch_cancel(client->request);
}

/* The gateway's own machine does not die: then there is no dispatcher. */
static struct fake_node *other_node(void)
{
    return &grid.nodes[1 + prop_draw(grid.n_nodes - 1)];
}

static void one_thing(void)
{
    struct fake_node *node = other_node();
    switch (prop_draw(13)) {
    case 0:
    case 1:
    case 2: submit_one(); break;
    case 3: fake_node_die(node); break;
    case 4:
    case 5: fake_node_start(&grid, node); break;
    case 6: node->cut = !node->cut; break;
    case 7: grid.connection = grid.connection ? 0 : ++grid.n_connections; break;
    case 8: grid.loss_percent = (uint32_t)prop_draw(40); break;
    case 9: node->refuse_percent = (uint32_t)prop_draw(101); break;
    case 10:
        if (prop_draw(3) == 0) cancel_one();
        break;
    case 11: grid.now_ns += (int64_t)prop_draw(4000) * MS; break; /* a stall */
    case 12: node->delay_ns = (int64_t)prop_draw(60) * MS; break;
    }
}

static void begin(void)
{
    n_clients = 0;
    fake_grid_begin(&grid, 2 + (uint32_t)prop_draw(3));
    grid.twice_percent = (uint32_t)prop_draw(20);
    for (uint32_t i = 0; i < grid.n_nodes; i++) {
        struct fake_node *node = &grid.nodes[i];
        node->n_slots = 1 + (uint32_t)prop_draw(4);
        node->n_queue = (uint32_t)prop_draw(4);
        node->token_ns = (5 + (int64_t)prop_draw(60)) * MS;
        node->hosts = i > 0 && prop_draw(4) > 0;
        node->has_file = i == 1 || prop_draw(2);
    }
    grid.cfg.hedge_share = prop_draw(2);
    fake_grid_create(&grid);
    fake_grid_run(&grid, 1100 * MS);
}

/* All is well again: whatever is left must end. */
static void heal(void)
{
    grid.loss_percent = grid.twice_percent = 0;
    if (!grid.connection) grid.connection = ++grid.n_connections;
    for (uint32_t i = 0; i < grid.n_nodes; i++) {
        grid.nodes[i].cut = false;
        grid.nodes[i].refuse_percent = 0;
        fake_node_start(&grid, &grid.nodes[i]);
    }
    for (size_t i = 0; i < n_clients; i++)
        if (!clients[i].cancelled) fake_grid_run_until_ended(&grid, &clients[i], HEAL_NS);
    fake_grid_run(&grid, S);
}

static void check(void)
{
    struct dispatch_stats stats;
    dispatch_stats_get(grid.dispatch, &stats);
    for (size_t i = 0; i < n_clients; i++)
        if (!clients[i].cancelled) fake_client_check(&clients[i]);
    assert_int_equal(stats.router.n_live, 0);
    for (uint32_t i = 0; i < grid.n_nodes; i++)
        for (int k = 0; k < FAKE_ATTEMPTS_MAX; k++) assert_false(grid.nodes[i].attempts[k].used);
}

static void test_answers_in_trouble(void **state)
{
    (void)state;
    const char *rounds = getenv("ROUNDS");
    long n_rounds = rounds ? atol(rounds) : N_ROUNDS;
    struct dispatch_stats sum = {0};
    uint64_t live = sl_mem_live(), n_lost = 0;
    for (long round = 0; round < n_rounds; round++) {
        struct dispatch_stats stats;
        begin();
        for (int i = 0; i < N_STEPS; i++) {
            one_thing();
            fake_grid_run(&grid, (int64_t)prop_draw(500) * MS);
        }
        heal();
        check();
        dispatch_stats_get(grid.dispatch, &stats);
        sum.n_gaps += stats.n_gaps;
        sum.n_runs_again += stats.n_runs_again;
        sum.n_duplicates += stats.n_duplicates;
        sum.n_resumed += stats.n_resumed;
        sum.n_loads += stats.n_loads;
        sum.router.n_finished += stats.router.n_finished;
        sum.router.n_cancelled += stats.router.n_cancelled;
        sum.router.n_hedged += stats.router.n_hedged;
        sum.router.n_refused += stats.router.n_refused;
        n_lost += grid.n_lost;
        fake_grid_end(&grid);
    }
    assert_int_equal(sl_mem_live(), live);
    /* A property of what never happens proves nothing. */
    assert_true(n_rounds < 100 ||
                (sum.n_gaps && sum.n_runs_again && sum.n_duplicates && sum.n_resumed &&
                 sum.n_loads && sum.router.n_finished && sum.router.n_cancelled &&
                 sum.router.n_hedged && sum.router.n_refused && n_lost));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers_in_trouble)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
