/* sched.c: what a decision of the grid's scheduler costs: time of a router step that sends a
 * request, on many nodes with many models, 1,000 x 50 unless said otherwise.
 *     sched [NODES [MODELS [SAMPLE]]] */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sched/router.h"

#include <stdio.h>
#include <stdlib.h>

#define N_DECISIONS 200000
#define N_HOSTED 8  /* models on one node */
#define N_BLOCKS 64 /* of a prompt: 32,768 tokens in blocks of 512 */
#define N_PREFIXES 5000
#define N_LIVE 4000 /* requests in flight */

struct bench {
    struct router *router;
    uint32_t n_nodes, n_models;
    int64_t now_ns;
    uint64_t blocks[N_BLOCKS];
    int64_t *spent_ns;
    uint32_t *nodes; /* by request: where it was sent */
};

static uint32_t lot(uint64_t stream, uint64_t i, uint32_t below)
{
    return (uint32_t)(sl_rng_uniform(1, stream, i) * below);
}

static bool step(struct bench *bench, const struct router_event *event, uint32_t *out_node)
{
    const struct router_action *actions;
    size_t n;
    if (router_step(bench->router, event, bench->now_ns, &actions, &n) != SL_OK) return false;
    for (size_t i = 0; i < n && out_node; i++)
        if (actions[i].kind == ROUTER_SEND) *out_node = actions[i].node;
    return true;
}

static bool report(struct bench *bench, uint32_t node, uint64_t version)
{
    struct hosted_load loads[N_HOSTED];
    uint32_t n = bench->n_models < N_HOSTED ? bench->n_models : N_HOSTED;
    for (uint32_t i = 0; i < n; i++)
        loads[i] = (struct hosted_load){.model = (node + i * 7) % bench->n_models,
                                        .state = SCHED_READY,
                                        .n_slots = 64,
                                        .n_queue_max = 128,
                                        .n_running = lot(2, version * 8 + i, 32),
                                        .prefill_backlog = lot(3, version * 8 + i, 4000),
                                        .prefill_tps = 500 + lot(4, node, 8000),
                                        .decode_tps = 5 + lot(5, node, 60),
                                        .service_s = 5};
    /* The same model twice makes no report: 7 and n_models have to be coprime, or n is cut. */
    while (n > 1 && bench->n_models % 7 == 0) n--;
    struct node_report what = {.node = node,
                               .boot = 1,
                               .version = version,
                               .covers = UINT64_MAX,
                               .facts = {.rtt_s = 0.001 * lot(6, node, 50)},
                               .hosted = loads,
                               .n_hosted = n};
    return step(bench, &(struct router_event){.kind = ROUTER_REPORT, .report = &what}, NULL);
}

/* A prompt begins like one of N_PREFIXES, to a random length. */
static void prompt_make(struct bench *bench, uint64_t request)
{
    uint64_t prefix = lot(7, request, N_PREFIXES), shared = lot(8, request, N_BLOCKS);
    for (uint64_t i = 0; i < N_BLOCKS; i++)
        bench->blocks[i] = sl_rng_u64(i < shared ? prefix : N_PREFIXES + request, 9, i);
}

static bool decide(struct bench *bench, uint64_t request)
{
    uint32_t node = NODE_NONE;
    if (request >= N_LIVE) {
        uint64_t old = request - N_LIVE;
        if (!step(bench,
                  &(struct router_event){.kind = ROUTER_FINISHED,
                                         .request = old,
                                         .attempt = 1,
                                         .node = bench->nodes[old],
                                         .n_tokens = 1},
                  NULL))
            return false;
    }
    prompt_make(bench, request);
    struct router_submit submit = {.ask = {.model = lot(10, request, bench->n_models),
                                           .prompt_tokens = N_BLOCKS * 512,
                                           .output_tokens = 200,
                                           .blocks = bench->blocks,
                                           .n_blocks = N_BLOCKS,
                                           .block_tokens = 512},
                                   .deadline_ns = SCHED_NEVER};
    struct router_event event = {.kind = ROUTER_SUBMIT, .request = request, .submit = &submit};
    int64_t begin_ns = sl_now_ns();
    bool ok = step(bench, &event, &node);
    bench->spent_ns[request] = sl_now_ns() - begin_ns;
    bench->nodes[request] = node;
    return ok && node != NODE_NONE;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool run(struct bench *bench)
{
    if (bench->n_nodes == 0) return false;
    for (uint32_t node = 0; node < bench->n_nodes; node++)
        if (!report(bench, node, 1)) return false;
    for (uint64_t i = 0; i < N_DECISIONS; i++) {
        /* Every node reports once a second; some thousand requests come in that time. */
        bench->now_ns += 200000;
        if (!report(bench, (uint32_t)(i % bench->n_nodes), 2 + i)) return false;
        if (!decide(bench, i)) return false;
    }
    qsort(bench->spent_ns, N_DECISIONS, sizeof *bench->spent_ns, by_value);
    const int64_t *spent_ns = bench->spent_ns;
    int64_t p50 = spent_ns[N_DECISIONS / 2], p99 = spent_ns[N_DECISIONS / 100 * 99];
    int64_t p999 = spent_ns[N_DECISIONS / 1000 * 999];
    printf("%u nodes, %u models: p50 %.1f us, p99 %.1f us, p99.9 %.1f us\n", bench->n_nodes,
           bench->n_models, (double)p50 / 1000, (double)p99 / 1000, (double)p999 / 1000);
    return true;
}

int main(int argc, char **argv)
{
    struct bench bench = {.n_nodes = argc > 1 ? (uint32_t)atoi(argv[1]) : 1000,
                          .n_models = argc > 2 ? (uint32_t)atoi(argv[2]) : 50};
    struct router_config config;
    struct sl_err err = SL_ERR_INIT;
    router_config_default(&config);
    config.n_requests_max = N_LIVE + 1;
    config.table.n_nodes_max = bench.n_nodes;
    config.table.n_models_max = bench.n_models;
    if (argc > 3) config.policy.n_sample = (uint32_t)atoi(argv[3]);
    bench.spent_ns = sl_calloc(N_DECISIONS, sizeof *bench.spent_ns);
    bench.nodes = sl_calloc(N_DECISIONS, sizeof *bench.nodes);
    if (bench.spent_ns && bench.nodes && router_create(&config, &bench.router, &err) == SL_OK &&
        run(&bench)) {
        router_destroy(bench.router);
        return 0;
    }
    fprintf(stderr, "sched: %s\n", err.text[0] ? err.text : "it did not run");
    return 1;
}
