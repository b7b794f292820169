#include "netlab/fabric.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define EVERYBODY 0xff

/* Ports 0 to 2 are a, b, c of segment 0; 3 and 4 are d, e of segment 1. */
static struct fabric *five_ports(void)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    struct fabric *fabric = NULL;
    assert_int_equal(fabric_create(1, &fabric), SL_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(fabric_add_port(fabric, names[i], i / 3, NULL), SL_OK);
    return fabric;
}

/* Sends a frame and returns the ports that get it, as bits. Machine m has the address 02:..:m. */
static unsigned send_frame(struct fabric *fabric, int port, uint8_t to, uint8_t from)
{
    uint8_t frame[60] = {2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from};
    struct fabric_hop hops[FABRIC_PORTS_MAX];
    unsigned ports = 0;
    if (to == EVERYBODY) memset(frame, EVERYBODY, 6);
    int n = fabric_offer(fabric, port, frame, sizeof frame, 100, hops);
    for (int i = 0; i < n; i++) ports |= 1u << hops[i].to;
    return ports;
}

static sl_status apply(struct fabric *fabric, enum fabric_verb verb, const char *a, const char *b,
                       int *out_n)
{
    struct fabric_change change = {.verb = verb};
    strcpy(change.a, a);
    strcpy(change.b, b);
    return fabric_apply(fabric, &change, out_n, NULL);
}

static void it_learns_where_senders_are(void **state)
{
    struct fabric *fabric = five_ports();
    (void)state;
    assert_int_equal(send_frame(fabric, 0, 11, 10), 6); /* unknown: b and c */
    assert_int_equal(send_frame(fabric, 1, 10, 11), 1); /* a is known by now */
    assert_int_equal(send_frame(fabric, 0, 11, 10), 2);
    assert_int_equal(send_frame(fabric, 0, EVERYBODY, 10), 6);
    assert_int_equal(send_frame(fabric, 2, EVERYBODY, 11), 3); /* 11 has moved to c */
    assert_int_equal(send_frame(fabric, 0, 11, 10), 4);
    assert_int_equal(send_frame(fabric, 2, 11, 12), 0); /* is where it comes from */
    fabric_destroy(fabric);
}

static void segments_are_worlds_apart(void **state)
{
    struct fabric *fabric = five_ports();
    (void)state;
    assert_int_equal(send_frame(fabric, 3, EVERYBODY, 20), 16);
    assert_int_equal(send_frame(fabric, 0, 20, 10), 6); /* never to d, though 20 is there */
    fabric_destroy(fabric);
}

static void short_frames_and_group_senders_are_harmless(void **state)
{
    struct fabric *fabric = five_ports();
    uint8_t frame[60] = {2, 0, 0, 0, 0, 9, EVERYBODY, 0, 0, 0, 0, 9};
    struct fabric_hop hops[FABRIC_PORTS_MAX];
    (void)state;
    for (size_t n = 0; n < 14; n++) assert_int_equal(fabric_offer(fabric, 0, frame, n, 1, hops), 0);
    assert_int_equal(fabric_offer(fabric, 0, frame, 14, 1, hops), 2);
    memset(frame, 0, sizeof frame);
    assert_int_equal(fabric_offer(fabric, 0, frame, sizeof frame, 1, hops), 2);
    fabric_destroy(fabric);
}

/* More senders than the table has room for: frames are flooded then, and none goes astray. */
static void too_many_senders_are_flooded(void **state)
{
    struct fabric *fabric = five_ports();
    struct fabric_hop hops[FABRIC_PORTS_MAX];
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t frame[60] = {2, 1, 0, 0, 0, 0, 2, 2, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
        assert_int_equal(fabric_offer(fabric, 0, frame, sizeof frame, 1, hops), 2);
    }
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t frame[60] = {2, 2, 0, 0, (uint8_t)(i >> 8), (uint8_t)i, 2, 3, 0, 0, 0, 1};
        int n = fabric_offer(fabric, 1, frame, sizeof frame, 1, hops);
        assert_true(n == 2 || (n == 1 && hops[0].to == 0));
    }
    fabric_destroy(fabric);
}

static void cuts_and_heals_are_of_pairs(void **state)
{
    struct fabric *fabric = five_ports();
    int n = 0;
    (void)state;
    assert_int_equal(apply(fabric, FABRIC_CUT, "a", "b", &n), SL_OK);
    assert_int_equal(n, 2);
    assert_int_equal(send_frame(fabric, 0, EVERYBODY, 10), 4);
    assert_int_equal(send_frame(fabric, 1, EVERYBODY, 11), 4);
    assert_false(fabric_arrives(fabric, 0, 1));
    assert_true(fabric_arrives(fabric, 0, 2));
    assert_int_equal(fabric_link(fabric, 0, 1)->stats.n_cut, 2);
    assert_int_equal(apply(fabric, FABRIC_CUT, "c", FABRIC_ANY, &n), SL_OK);
    assert_int_equal(n, 4);
    assert_int_equal(send_frame(fabric, 0, EVERYBODY, 10), 0);
    assert_int_equal(apply(fabric, FABRIC_HEAL, FABRIC_ANY, FABRIC_ANY, &n), SL_OK);
    assert_int_equal(n, 8); /* 6 of segment 0, 2 of segment 1 */
    assert_int_equal(send_frame(fabric, 0, EVERYBODY, 10), 6);
    fabric_destroy(fabric);
}

static void one_way_is_one_way(void **state)
{
    struct fabric *fabric = five_ports();
    struct fabric_change change = {.verb = FABRIC_CUT, .a = "a", .b = FABRIC_ANY, .one_way = true};
    int n = 0;
    (void)state;
    assert_int_equal(fabric_apply(fabric, &change, &n, NULL), SL_OK);
    assert_int_equal(n, 2);
    assert_int_equal(send_frame(fabric, 0, EVERYBODY, 10), 0);
    assert_int_equal(send_frame(fabric, 1, EVERYBODY, 11), 5);
    fabric_destroy(fabric);
}

static void unknown_ports_are_told(void **state)
{
    struct fabric *fabric = five_ports();
    int n = 0;
    (void)state;
    assert_int_equal(apply(fabric, FABRIC_CUT, "x", "b", &n), SL_INVALID);
    assert_int_equal(apply(fabric, FABRIC_CUT, "a", "x", &n), SL_INVALID);
    assert_int_equal(apply(fabric, FABRIC_CUT, "a", "d", &n), SL_INVALID); /* another segment */
    assert_int_equal(apply(fabric, FABRIC_CUT, "a", "a", &n), SL_INVALID);
    fabric_destroy(fabric);
}

static void ports_are_checked(void **state)
{
    static const char *const bad[] = {"", "a b", "*", "a/b", "a:1", "sixteen-letters-"};
    struct fabric *fabric = NULL;
    char name[FABRIC_NAME_MAX + 1];
    (void)state;
    assert_int_equal(fabric_create(1, &fabric), SL_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(fabric_add_port(fabric, bad[i], 0, NULL), SL_INVALID);
    assert_int_equal(fabric_add_port(fabric, "a", -1, NULL), SL_INVALID);
    assert_int_equal(fabric_add_port(fabric, "a", FABRIC_SEGMENTS_MAX, NULL), SL_INVALID);
    for (int i = 0; i < FABRIC_PORTS_MAX; i++) {
        snprintf(name, sizeof name, "p%d", i);
        assert_int_equal(fabric_add_port(fabric, name, 0, NULL), SL_OK);
        assert_int_equal(fabric_add_port(fabric, name, 0, NULL), SL_EXISTS);
    }
    assert_int_equal(fabric_add_port(fabric, "more", 0, NULL), SL_LIMIT);
    fabric_destroy(fabric);
}

static void no_memory_is_told(void **state)
{
    struct fabric *fabric = NULL;
    uint64_t live = sl_mem_live();
    (void)state;
    sl_mem_fail_at(1, false);
    assert_int_equal(fabric_create(1, &fabric), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_null(fabric);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns_where_senders_are),
        cmocka_unit_test(segments_are_worlds_apart),
        cmocka_unit_test(short_frames_and_group_senders_are_harmless),
        cmocka_unit_test(too_many_senders_are_flooded),
        cmocka_unit_test(cuts_and_heals_are_of_pairs),
        cmocka_unit_test(one_way_is_one_way),
        cmocka_unit_test(unknown_ports_are_told),
        cmocka_unit_test(ports_are_checked),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
