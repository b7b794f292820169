#include "support/split_fixture.h"
#include "base/clock.h"
#include "grid/blobs.h"
#include "grid/fetch_part.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL STARLANE_ROOT "/models/starling.gguf"
#define DEADLINE_NS INT64_C(120000000000)

static void check(sl_status status, const struct sl_err *err)
{
    if (status != SL_OK) fail_msg("%s", err->text);
}

static void init_machine(struct split_fixture *f, size_t i)
{
    struct node_fixture *m = &f->machines[i];
    const char *given = getenv("STARLANE_BIN");
    struct sl_err err = SL_ERR_INIT;
    char home[32];
    snprintf(home, sizeof home, "home%zu", i);
    m->loop = f->grid.loop;
    m->end_ns = f->grid.end_ns = sl_now_ns() + DEADLINE_NS;
    check(store_open(temp_path(home), &m->store, &err), &err);
    node_cfg_default(&m->cfg);
    m->cfg.loop = m->loop;
    m->cfg.store = m->store;
    m->cfg.worker_binary = given ? given : STARLANE_BIN;
    m->cfg.n_threads = 1;
    m->cfg.seed = 1;
    m->cfg.memory_bytes = UINT64_C(2) << 30;
}

void split_fixture_init(struct split_fixture *f)
{
    memset(f, 0, sizeof *f);
    stage_fixture_init(&f->grid);
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) init_machine(f, i);
    f->has_model[0] = true;
}

static void give(void *ctx, struct http_exchange *x)
{
    if (!blobs_handle(ctx, x)) grid_port_fail(x, SL_NOT_FOUND, "no such path");
}

static void start_machine(struct split_fixture *f, size_t i)
{
    struct node_fixture *m = &f->machines[i];
    const struct stage_member *member = &f->grid.members[i];
    const struct blobs_cfg blobs = {.loop = m->loop, .store = m->store};
    const struct fetch_parts_cfg parts = {.loop = m->loop,
                                          .store = m->store,
                                          .ca_path = f->grid.root,
                                          .cert_path = member->cert,
                                          .key_path = member->key};
    struct sl_err err = SL_ERR_INIT;
    if (f->has_model[i]) check(store_import_file(m->store, MODEL, "star", &err), &err);
    check(blobs_create(&blobs, &f->blobs[i], &err), &err);
    static const char *const paths[] = {"/grid/v1/blobs/*", "/grid/v1/models/*"};
    for (size_t k = 0; k < 2; k++)
        assert_int_equal(
            grid_port_route(member->port, HTTP_METHOD_GET, paths[k], false, give, f->blobs[i]),
            SL_OK);
    check(fetch_parts_create(&parts, &f->parts[i], &err), &err);
    node_fixture_start(m);
    const struct stage_host_cfg host = {
        .loop = m->loop, .links = member->links, .node = m->node, .parts = f->parts[i]};
    check(stage_host_create(&host, &f->hosts[i], &err), &err);
    node_set_links(m->node, member->links);
}

void split_fixture_start(struct split_fixture *f)
{
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) f->grid.members[i].keeps_to_bus = f->relayed;
    stage_fixture_start(&f->grid);
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) start_machine(f, i);
}

void split_fixture_done(struct split_fixture *f)
{
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) {
        if (f->machines[i].node) node_set_links(f->machines[i].node, NULL);
        stage_host_destroy(f->hosts[i]);
    }
    stage_fixture_stop(&f->grid);
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) {
        node_destroy(f->machines[i].node);
        fetch_parts_destroy(f->parts[i]);
        grid_port_destroy(f->grid.members[i].port);
        f->grid.members[i].port = NULL;
        blobs_destroy(f->blobs[i]);
        store_close(f->machines[i].store);
    }
    stage_fixture_done(&f->grid);
}

const struct grid_split *split_over(const struct split_fixture *f, size_t n_stages,
                                    const int32_t *borders)
{
    static struct grid_stage stages[STAGE_FIXTURE_MAX];
    static struct grid_split split;
    for (size_t i = 0; i < n_stages; i++)
        stages[i] = (struct grid_stage){.member = f->grid.members[i].who.id,
                                        .address = f->grid.members[i].address,
                                        .first = borders[i],
                                        .last = borders[i + 1]};
    split = (struct grid_split){
        .stages = stages, .n_stages = n_stages, .n_ctx = 512, .n_seqs = 4, .link = 0};
    return &split;
}

void split_pin(struct split_fixture *f, const struct grid_split *split)
{
    struct sl_err err = SL_ERR_INIT;
    check(node_pin_split(f->machines[0].node, SPLIT_MODEL, split, NULL, &err), &err);
}

void split_wait_ready(struct split_fixture *f)
{
    struct node_model model;
    do {
        turn(&f->machines[0]);
        assert_true(model_state(&f->machines[0], SPLIT_MODEL, &model));
        if (*model.last_error) fail_msg("%s", model.last_error);
    } while (model.sched_state != SCHED_READY);
}

size_t split_stages_at(const struct split_fixture *f, size_t member)
{
    struct grid_stage_hosted stages[STAGE_HOST_MAX];
    return stage_host_list(f->hosts[member], stages, STAGE_HOST_MAX);
}

int split_follower_pid(struct split_fixture *f)
{
    char path[64];
    int pid = 0, own = model_pid(&f->machines[0], SPLIT_MODEL);
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(path, "r");
    assert_non_null(children);
    while (fscanf(children, "%d", &pid) == 1 && pid == own) pid = 0;
    fclose(children);
    return pid == own ? 0 : pid;
}
