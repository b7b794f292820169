/* router_query.c: what can be asked of a router, and names. */
#include "sched/router_int.h"

void router_get_totals(const struct router *router, struct router_totals *out)
{
    *out = router->totals;
}

uint32_t router_pending(const struct router *router, uint32_t model)
{
    return model < router->config.table.n_models_max ? router->models[model].n_pending : 0;
}

const struct node_table *router_nodes(const struct router *router)
{
    return &router->nodes;
}

const struct router_explanation *router_explain(const struct router *router, uint64_t request)
{
    uint64_t n_max = router->config.n_explained;
    uint64_t n = router->n_explained < n_max ? router->n_explained : n_max;
    for (uint64_t i = 1; i <= n; i++) {
        const struct router_explanation *explanation =
            &router->explained[(router->n_explained - i) % n_max];
        if (explanation->request == request) return explanation;
    }
    return NULL;
}

void router_explain_ask(struct router *router, const struct pick_ask *ask, int64_t now_ns,
                        struct pick *out, struct pick_rows *rows)
{
    struct pick_state state = router->picks;
    uint32_t turn = ask->model < router->config.table.n_models_max ? state.turns[ask->model] : 0;
    pick_node(&router->nodes, &router->config.policy, ask, &state, now_ns, out, rows);
    if (ask->model < router->config.table.n_models_max) state.turns[ask->model] = turn;
}

const char *router_event_name(enum router_event_kind kind)
{
    static const char *const names[] = {"SUBMIT",    "CANCEL", "ACCEPTED", "REFUSED",
                                        "FAILED",    "TOKENS", "FINISHED", "REPORT",
                                        "NODE_GONE", "HEARD",  "TICK"};
    return (unsigned)kind < ROUTER_EVENT_KIND_COUNT ? names[kind] : "?";
}

const char *router_action_name(enum router_action_kind kind)
{
    static const char *const names[] = {"SEND", "STOP", "DELIVER", "END", "WAKE_AT"};
    return (unsigned)kind < ROUTER_ACTION_KIND_COUNT ? names[kind] : "?";
}
