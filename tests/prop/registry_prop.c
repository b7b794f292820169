/* registry_prop.c: gateways that change members at the same time, over a network that loses,
 * repeats, reorders and parts, come to know the same once it heals; a removal is never undone but
 * by joining anew. */
#include "base/mem.h"
#include "grid/registry_sync.h"
#include "support/members.h"
#include "support/prop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define N_GATEWAYS 4
#define N_MEMBERS 12
#define N_SCHEDULES 200
#define N_STEPS 300
#define STEP_NS INT64_C(500000000)
#define IN_FLIGHT_MAX 256 /* more are lost: a network's buffers end somewhere too */

struct message {
    int from, to;
    char *bytes;
    size_t n;
};

struct world {
    struct registry *registries[N_GATEWAYS];
    struct registry_sync *syncs[N_GATEWAYS];
    struct sender {
        struct world *world;
        int self;
    } senders[N_GATEWAYS];
    char ids[N_GATEWAYS][GRID_ID_SIZE];
    int side[N_GATEWAYS]; /* messages pass within a side only */
    size_t loss_percent;
    struct message messages[IN_FLIGHT_MAX];
    size_t n_messages;
    int64_t now_ns;
    uint32_t joins[N_MEMBERS], removed_at[N_MEMBERS]; /* the model: highest joins; removed then */
};

static void on_send(void *ctx, const void *bytes, size_t n)
{
    struct sender *sender = ctx;
    struct world *w = sender->world;
    for (int to = 0; to < N_GATEWAYS; to++) {
        if (to == sender->self || w->side[to] != w->side[sender->self]) continue;
        int copies = prop_draw(100) < w->loss_percent ? 0 : 1 + (prop_draw(20) == 0);
        for (; copies && w->n_messages < IN_FLIGHT_MAX; copies--) {
            char *copy = sl_memdup(bytes, n);
            assert_non_null(copy);
            w->messages[w->n_messages++] = (struct message){sender->self, to, copy, n};
        }
    }
}

/* Any of those on the way, not the oldest. */
static void deliver_one(struct world *w)
{
    if (!w->n_messages) return;
    size_t i = prop_draw(w->n_messages);
    struct message m = w->messages[i];
    w->messages[i] = w->messages[--w->n_messages];
    assert_int_equal(registry_sync_receive(w->syncs[m.to], w->ids[m.from], m.bytes, m.n, NULL),
                     SL_OK);
    sl_free(m.bytes);
}

static void begin(struct world *w)
{
    *w = (struct world){.loss_percent = 30};
    for (int i = 0; i < N_GATEWAYS; i++) {
        struct member self = member_made(1000 + i);
        memcpy(w->ids[i], self.id, sizeof self.id);
        w->senders[i] = (struct sender){w, i};
        assert_int_equal(registry_create(&w->registries[i]), SL_OK);
        const struct registry_sync_cfg cfg = {.registry = w->registries[i],
                                              .speaks = true,
                                              .send = on_send,
                                              .ctx = &w->senders[i],
                                              .seed = prop_draw(SIZE_MAX)};
        assert_int_equal(registry_sync_create(&cfg, &w->syncs[i]), SL_OK);
    }
}

static void end(struct world *w)
{
    for (size_t i = 0; i < w->n_messages; i++) sl_free(w->messages[i].bytes);
    for (int i = 0; i < N_GATEWAYS; i++) {
        registry_sync_destroy(w->syncs[i]);
        registry_destroy(w->registries[i]);
    }
}

static void put(struct world *w, int gateway, const struct member *member)
{
    struct registry *registry = w->registries[gateway];
    assert_int_equal(registry_put(registry, member, w->ids[gateway], NULL), SL_OK);
    registry_sync_tell(w->syncs[gateway], registry_find(registry, member->id));
}

/* Some gateway admits, changes or removes some member, by what it knows itself. */
static void change(struct world *w)
{
    int gateway = (int)prop_draw(N_GATEWAYS), n = (int)prop_draw(N_MEMBERS);
    struct member member = member_made(n);
    const struct member *known = registry_find(w->registries[gateway], member.id);
    size_t what = prop_draw(10);
    if (known) member = *known;
    if (!known || what == 0) {
        member.joins = known ? known->joins + 1 : 1;
        member.removed = false;
        if (member.joins > w->joins[n]) w->joins[n] = member.joins;
    } else if (what <= 2) {
        member.removed = true;
        if (member.joins > w->removed_at[n]) w->removed_at[n] = member.joins;
    } else if (!member.removed) {
        if (what <= 5) {
            snprintf(member.addresses, sizeof member.addresses, "10.0.0.%d:1", (int)prop_draw(99));
        } else {
            member.duty = (enum node_duty)prop_draw(NODE_DUTY_COUNT);
            member.name[0] = (char)('a' + prop_draw(26));
        }
    }
    put(w, gateway, &member);
}

static void part(struct world *w)
{
    for (int i = 0; i < N_GATEWAYS; i++) w->side[i] = (int)prop_draw(3);
}

static void tick(struct world *w)
{
    w->now_ns += STEP_NS;
    for (int i = 0; i < N_GATEWAYS; i++) registry_sync_tick(w->syncs[i], w->now_ns);
}

static bool agree(const struct world *w)
{
    for (int i = 1; i < N_GATEWAYS; i++) {
        if (registry_digest(w->registries[i]) != registry_digest(w->registries[0])) return false;
    }
    return true;
}

/* Whole again, and without loss: some digests later all know the same. */
static void heal(struct world *w)
{
    w->loss_percent = 0;
    memset(w->side, 0, sizeof w->side);
    int64_t end_ns = w->now_ns + 4 * REGISTRY_DIGEST_NS;
    while (w->now_ns < end_ns) {
        tick(w);
        while (w->n_messages) deliver_one(w);
    }
    assert_true(agree(w));
}

static void compare_with_model(const struct world *w)
{
    for (int n = 0; n < N_MEMBERS; n++) {
        struct member member = member_made(n);
        const struct member *known = registry_find(w->registries[0], member.id);
        assert_int_equal(known ? known->joins : 0, w->joins[n]);
        if (known) assert_int_equal(known->removed, w->removed_at[n] == w->joins[n]);
    }
}

static void entries_are_equal(const struct world *w)
{
    for (int i = 1; i < N_GATEWAYS; i++) {
        assert_int_equal(registry_count(w->registries[i]), registry_count(w->registries[0]));
        for (size_t k = 0; k < registry_count(w->registries[0]); k++)
            assert_true(
                member_equal(registry_at(w->registries[0], k), registry_at(w->registries[i], k)));
    }
}

static void gateways_come_to_know_the_same(void **state)
{
    (void)state;
    prop_begin();
    for (int schedule = 0; schedule < N_SCHEDULES; schedule++) {
        struct world w;
        begin(&w);
        for (int step = 0; step < N_STEPS; step++) {
            size_t what = prop_draw(20);
            if (what == 0) part(&w);
            if (what < 5) change(&w);
            if (what < 8) tick(&w);
            deliver_one(&w);
        }
        heal(&w);
        compare_with_model(&w);
        entries_are_equal(&w);
        end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gateways_come_to_know_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
