/* registry_test.c: the map of members, how it is spread, and how it is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "grid/db.h"
#include "grid/registry_store.h"
#include "grid/registry_sync.h"
#include "support/members.h"
#include "support/temp_dir.h"

static struct registry *made(void)
{
    struct registry *registry = NULL;
    assert_int_equal(registry_create(&registry), SL_OK);
    return registry;
}

static void merge(struct registry *registry, const struct member *member)
{
    assert_int_equal(registry_merge(registry, member, NULL, NULL), SL_OK);
}

static void the_order_of_messages_does_not_matter(void **state)
{
    (void)state;
    struct registry *a = made(), *b = made();
    struct member v[3] = {member_made(1), member_made(1), member_made(2)};
    v[1].version = 2;
    strcpy(v[1].labels, "x=y");
    for (int i = 0; i < 3; i++) merge(a, &v[i]);
    for (int i = 2; i >= 0; i--) merge(b, &v[i]);
    assert_int_equal(registry_count(a), 2);
    assert_true(registry_digest(a) == registry_digest(b));
    assert_string_equal(registry_find(b, v[0].id)->labels, "x=y");
    assert_true(strcmp(registry_at(a, 0)->id, registry_at(a, 1)->id) < 0);
    assert_null(registry_at(a, 2));
    registry_destroy(a);
    registry_destroy(b);
}

static void a_put_is_a_new_version_unless_nothing_changes(void **state)
{
    (void)state;
    struct registry *registry = made();
    struct member member = member_made(1), writer = member_made(9);
    merge(registry, &member);
    uint64_t digest = registry_digest(registry);
    assert_int_equal(registry_put(registry, &member, writer.id, NULL), SL_OK);
    assert_true(registry_digest(registry) == digest);
    strcpy(member.labels, "a=b");
    assert_int_equal(registry_put(registry, &member, writer.id, NULL), SL_OK);
    const struct member *known = registry_find(registry, member.id);
    assert_int_equal(known->version, 2);
    assert_string_equal(known->origin, writer.id);
    assert_true(registry_digest(registry) != digest);
    registry_destroy(registry);
}

/* At two gateways that have not heard of each other's. */
static void a_label_is_not_lost_to_an_address(void **state)
{
    (void)state;
    struct registry *a = made(), *b = made();
    struct member member = member_made(1), low = member_made(8), high = member_made(9);
    struct member labelled = member, moved = member;
    const struct member *known;
    merge(a, &member);
    merge(b, &member);
    strcpy(labelled.labels, "site=bonn");
    assert_int_equal(registry_put(a, &labelled, low.id, NULL), SL_OK);
    for (int i = 1; i <= 3; i++) {
        snprintf(moved.addresses, sizeof moved.addresses, "10.0.0.%d:4230", i);
        assert_int_equal(registry_put(b, &moved, high.id, NULL), SL_OK);
    }
    known = registry_find(b, member.id);
    assert_int_equal(known->version, 1);
    assert_int_equal(known->place_version, 3);
    labelled = *registry_find(a, member.id);
    merge(a, known);
    merge(b, &labelled);
    assert_true(registry_digest(a) == registry_digest(b));
    assert_string_equal(registry_find(a, member.id)->labels, "site=bonn");
    assert_string_equal(registry_find(a, member.id)->addresses, "10.0.0.3:4230");
    registry_destroy(a);
    registry_destroy(b);
}

static void a_removed_member_stays_removed(void **state)
{
    (void)state;
    struct registry *registry = made();
    struct member member = member_made(1), late = member;
    bool changed = true;
    merge(registry, &member);
    assert_true(registry_is_member(registry, member.id));
    member.removed = true;
    assert_int_equal(registry_put(registry, &member, member.id, NULL), SL_OK);
    late.version = 50; /* what somebody changed who had not heard of it */
    assert_int_equal(registry_merge(registry, &late, &changed, NULL), SL_OK);
    assert_false(changed);
    assert_false(registry_is_member(registry, member.id));
    late.joins = 2;
    merge(registry, &late);
    assert_true(registry_is_member(registry, member.id));
    registry_destroy(registry);
}

static void members_are_found_by_name_when_it_is_clear(void **state)
{
    (void)state;
    struct registry *registry = made();
    struct member a = member_made(1), b = member_made(2), c = member_made(3);
    const struct member *found = NULL;
    struct sl_err err = SL_ERR_INIT;
    strcpy(b.name, "twin");
    strcpy(c.name, "twin");
    merge(registry, &a);
    merge(registry, &b);
    merge(registry, &c);
    assert_int_equal(registry_resolve(registry, "member-1", &found, &err), SL_OK);
    assert_string_equal(found->id, a.id);
    assert_int_equal(registry_resolve(registry, b.id, &found, &err), SL_OK);
    assert_int_equal(registry_resolve(registry, "twin", &found, &err), SL_INVALID);
    assert_int_equal(registry_resolve(registry, "nobody", &found, &err), SL_NOT_FOUND);
    c.removed = true;
    merge(registry, &c);
    assert_int_equal(registry_resolve(registry, "twin", &found, &err), SL_OK);
    assert_string_equal(found->id, b.id);
    assert_int_equal(registry_resolve(registry, c.id, &found, &err), SL_NOT_FOUND);
    registry_destroy(registry);
}

static void without_memory_it_is_as_before(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        struct registry *registry = NULL;
        struct member member = member_made(1);
        sl_mem_fail_at(nth, false);
        sl_status status = registry_create(&registry);
        if (status == SL_OK) status = registry_merge(registry, &member, NULL, NULL);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (registry && status != SL_OK) {
            assert_int_equal(registry_count(registry), 0);
            assert_true(registry_digest(registry) == 0);
        }
        registry_destroy(registry);
        assert_int_equal(sl_mem_live(), live);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        if (!hit) return;
    }
}

/* --- keeping --- */

static void what_is_saved_is_loaded(void **state)
{
    (void)state;
    struct registry *before = made(), *after = made();
    struct member v[2] = {member_made(1), member_made(2)};
    struct db *db = NULL;
    assert_int_equal(db_open(temp_path("state.db"), NULL, &db, NULL), SL_OK);
    for (int i = 0; i < 2; i++) merge(before, &v[i]);
    assert_int_equal(registry_save_all(db, before, NULL), SL_OK);
    v[1].version = 9;
    merge(before, &v[1]);
    assert_int_equal(registry_save(db, &v[1], 1, NULL), SL_OK);
    assert_int_equal(db_exec(db, "INSERT INTO members VALUES('junk', '{')", NULL), SL_OK);
    assert_int_equal(registry_load(after, db, NULL), SL_OK);
    assert_true(registry_digest(before) == registry_digest(after));
    assert_int_equal(registry_save_all(db, after, NULL), SL_OK);
    int64_t n;
    assert_int_equal(db_query_int(db, "SELECT count(*) FROM members", &n, NULL), SL_OK);
    assert_int_equal(n, 2);
    db_close(db);
    registry_destroy(before);
    registry_destroy(after);
}

/* --- spreading --- */

struct heard {
    struct sl_buf last;
    int n_sent, n_stale;
};

static void on_send(void *ctx, const void *bytes, size_t n)
{
    struct heard *heard = ctx;
    heard->n_sent++;
    sl_buf_clear(&heard->last);
    assert_int_equal(sl_buf_add(&heard->last, bytes, n), SL_OK);
}

static void on_stale(void *ctx)
{
    ((struct heard *)ctx)->n_stale++;
}

static struct registry_sync *sync_made(struct registry *registry, bool speaks, struct heard *heard)
{
    struct registry_sync *sync = NULL;
    const struct registry_sync_cfg cfg = {.registry = registry,
                                          .speaks = speaks,
                                          .send = on_send,
                                          .on_stale = on_stale,
                                          .ctx = heard};
    *heard = (struct heard){0};
    sl_buf_init(&heard->last, REGISTRY_MESSAGE_BYTES_MAX);
    assert_int_equal(registry_sync_create(&cfg, &sync), SL_OK);
    return sync;
}

static void a_change_is_told_at_once_and_by_gateways_only(void **state)
{
    (void)state;
    struct registry *theirs = made(), *ours = made();
    struct heard heard, silent;
    struct registry_sync *gateway = sync_made(theirs, true, &heard);
    struct registry_sync *node = sync_made(ours, false, &silent);
    struct member member = member_made(1);
    merge(theirs, &member);
    registry_sync_tell(gateway, &member);
    assert_int_equal(heard.n_sent, 1);
    assert_int_equal(registry_sync_receive(node, member.id, heard.last.data, heard.last.len, NULL),
                     SL_OK);
    assert_true(registry_digest(ours) == registry_digest(theirs));
    registry_sync_tell(node, &member);
    registry_sync_tick(node, 100 * REGISTRY_DIGEST_NS);
    assert_int_equal(silent.n_sent, 0);
    registry_sync_destroy(gateway);
    registry_sync_destroy(node);
    sl_buf_done(&heard.last);
    sl_buf_done(&silent.last);
    registry_destroy(theirs);
    registry_destroy(ours);
}

static void a_node_that_knows_less_says_so_after_some_digests(void **state)
{
    (void)state;
    static const char digest[] = "{\"digest\":\"00000000deadbeef\"}";
    struct registry *ours = made();
    struct heard heard;
    struct registry_sync *node = sync_made(ours, false, &heard);
    struct member from = member_made(1), other = member_made(2);
    for (int i = 0; i < REGISTRY_STALE_DIGESTS; i++) {
        const char *id = i ? from.id : other.id; /* one that has died since */
        assert_int_equal(registry_sync_receive(node, id, digest, strlen(digest), NULL), SL_OK);
    }
    assert_int_equal(heard.n_stale, 0);
    assert_int_equal(registry_sync_receive(node, from.id, digest, strlen(digest), NULL), SL_OK);
    assert_int_equal(heard.n_stale, 1);
    registry_sync_destroy(node);
    sl_buf_done(&heard.last);
    registry_destroy(ours);
}

static void nonsense_changes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "[", "7", "{}", "{\"members\":7}", "{\"members\":[{}]}", "{\"members\":[[[]]]}"};
    struct registry *ours = made();
    struct heard heard;
    struct registry_sync *sync = sync_made(ours, true, &heard);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(registry_sync_receive(sync, "n", texts[i], strlen(texts[i]), &err),
                         SL_CORRUPT);
    }
    assert_int_equal(registry_count(ours), 0);
    registry_sync_destroy(sync);
    sl_buf_done(&heard.last);
    registry_destroy(ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_messages_does_not_matter),
        cmocka_unit_test(a_put_is_a_new_version_unless_nothing_changes),
        cmocka_unit_test(a_label_is_not_lost_to_an_address),
        cmocka_unit_test(a_removed_member_stays_removed),
        cmocka_unit_test(members_are_found_by_name_when_it_is_clear),
        cmocka_unit_test(without_memory_it_is_as_before),
        cmocka_unit_test_setup_teardown(what_is_saved_is_loaded, temp_dir_setup, temp_dir_teardown),
        cmocka_unit_test(a_change_is_told_at_once_and_by_gateways_only),
        cmocka_unit_test(a_node_that_knows_less_says_so_after_some_digests),
        cmocka_unit_test(nonsense_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
