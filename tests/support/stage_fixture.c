#include "support/stage_fixture.h"
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DEADLINE_NS INT64_C(60000000000)
#define TURN_NS 5000000

static void check(sl_status status, const struct sl_err *err)
{
    if (status != SL_OK) fail_msg("%s", err->text);
}

static void init_member(struct stage_fixture *f, size_t i)
{
    struct stage_member *m = &f->members[i];
    struct sl_err err = SL_ERR_INIT;
    char name[32];
    test_member_init(&m->who, f->grid.gateway.key, f->grid.gateway.chain.data, false,
                     sl_unix_time_ms() / 1000);
    snprintf(name, sizeof name, "member%zu", i);
    test_member_write(&m->who, name);
    snprintf(name, sizeof name, "member%zu.cert.pem", i);
    snprintf(m->cert, sizeof m->cert, "%s", temp_path(name));
    snprintf(name, sizeof name, "member%zu.key.pem", i);
    snprintf(m->key, sizeof m->key, "%s", temp_path(name));
    const struct grid_port_cfg cfg = {.loop = f->loop,
                                      .registry = f->registry,
                                      .host = "127.0.0.1",
                                      .any_port = true,
                                      .cert = m->cert,
                                      .key = m->key,
                                      .ca = f->root};
    check(grid_port_create(&cfg, &m->port, &err), &err);
    check(grid_port_listen(m->port, &err), &err);
    snprintf(m->address, sizeof m->address, "127.0.0.1:%u", (unsigned)grid_port_number(m->port));
    stage_fixture_put(f, i, false);
}

void stage_fixture_init(struct stage_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    memset(f, 0, sizeof *f);
    f->end_ns = sl_now_ns() + DEADLINE_NS;
    test_grid_init(&f->grid, sl_unix_time_ms() / 1000);
    snprintf(f->root, sizeof f->root, "%s", temp_path("ca.pem"));
    check(pki_file_write(f->root, f->grid.root.data, f->grid.root.len, &err), &err);
    check(loop_create(0, &f->loop, &err), &err);
    assert_int_equal(registry_create(&f->registry), SL_OK);
    const struct bus_cfg bus = {.loop = f->loop, .self = "nobody"};
    check(bus_create(&bus, &f->bus, &err), &err);
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) init_member(f, i);
}

struct stage_links_cfg stage_fixture_links(struct stage_fixture *f, size_t member)
{
    const struct stage_member *m = &f->members[member];
    return (struct stage_links_cfg){.loop = f->loop,
                                    .port = m->port,
                                    .bus = f->bus,
                                    .registry = f->registry,
                                    .self = m->who.id,
                                    .cert = m->cert,
                                    .key = m->key,
                                    .ca = f->root,
                                    .relay_only = m->keeps_to_bus,
                                    .ping_ns = STAGE_PING_NS / 10,
                                    .silence_ns = STAGE_SILENCE_NS / 10};
}

void stage_fixture_start(struct stage_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) {
        const struct stage_links_cfg cfg = stage_fixture_links(f, i);
        check(stage_links_create(&cfg, &f->members[i].links, &err), &err);
    }
}

void stage_fixture_stop(struct stage_fixture *f)
{
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) {
        stage_links_destroy(f->members[i].links);
        f->members[i].links = NULL;
    }
}

void stage_fixture_done(struct stage_fixture *f)
{
    stage_fixture_stop(f);
    for (size_t i = 0; i < STAGE_FIXTURE_MAX; i++) {
        grid_port_destroy(f->members[i].port);
        test_member_done(&f->members[i].who);
    }
    bus_destroy(f->bus);
    registry_destroy(f->registry);
    loop_destroy(f->loop);
    test_grid_done(&f->grid);
}

void stage_fixture_put(struct stage_fixture *f, size_t i, bool removed)
{
    const struct stage_member *m = &f->members[i];
    struct member member = {.name = "somebody", .joins = 1, .version = 1, .removed = removed};
    struct sl_err err = SL_ERR_INIT;
    struct pki_peer peer;
    check(pki_chain_check(m->who.chain.data, f->grid.root.data, sl_unix_time_ms() / 1000, &peer,
                          &err),
          &err);
    memcpy(member.id, peer.id, sizeof member.id);
    memcpy(member.origin, peer.id, sizeof member.origin);
    snprintf(member.addresses, sizeof member.addresses, "%s", m->address);
    sha256_hex(peer.key_sha256, member.key);
    check(registry_merge(f->registry, &member, NULL, &err), &err);
}

const char *stage_fixture_id(const struct stage_fixture *f, size_t member)
{
    return f->members[member].who.id;
}

void stage_fixture_turn(struct stage_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    if (sl_now_ns() > f->end_ns) fail_msg("it waited for a minute in vain");
    check(loop_turn(f->loop, TURN_NS, &err), &err);
}
