/* grid_fixture.c: see grid_fixture.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/grid_fixture.h"

struct node_report grid_report(uint32_t node, uint64_t version, struct hosted_load *load)
{
    *load = (struct hosted_load){.state = SCHED_READY,
                                 .n_slots = 4,
                                 .n_queue_max = 4,
                                 .kv_tokens_max = 10000,
                                 .prefill_tps = 1000,
                                 .decode_tps = 20,
                                 .service_s = 2};
    return (struct node_report){
        .node = node, .boot = 1, .version = version, .hosted = load, .n_hosted = 1};
}

void grid_table_init(struct node_table *table)
{
    struct node_table_config config;
    struct sl_err err;
    node_table_config_default(&config);
    config.n_nodes_max = 8;
    config.n_models_max = 2;
    config.n_prefix_blocks = 64;
    assert_int_equal(node_table_init(table, &config, &err), SL_OK);
}

void grid_table_hear(struct node_table *table, uint32_t n_nodes, int64_t now_ns)
{
    for (uint32_t node = 0; node < n_nodes; node++) {
        struct hosted_load load;
        bool restarted;
        struct node_report report = grid_report(node, 1, &load);
        assert_true(node_table_report(table, &report, now_ns, &restarted));
    }
}
