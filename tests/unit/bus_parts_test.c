/* bus_parts_test.c: what a message looks like on the wire, and the limits on what is half there. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/bus_parts.h"
#include <stdio.h>
#include <string.h>

static struct bus_parts *parts;
static struct bus_whole whole;
static uint64_t n_lost;
static uint8_t part[BUS_PART_HEADER_BYTES + BUS_PART_BYTES];

#define BYTES_MAX (4 * BUS_PART_BYTES)

static int setup(void **state)
{
    (void)state;
    n_lost = 0;
    return bus_parts_create(BYTES_MAX, &parts) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    bus_parts_destroy(parts);
    return 0;
}

static sl_status take(const char *subject, size_t n, int64_t now_ns)
{
    return bus_parts_take(parts, 1, subject, part, n, now_ns, &whole, &n_lost);
}

/* A full part of a message of two and a bit. */
static sl_status take_part(const char *subject, uint64_t message, uint32_t index, int64_t now_ns)
{
    bus_part_header(part, message, index, 2 * BUS_PART_BYTES + 1);
    size_t n = index < 2 ? BUS_PART_BYTES : 1;
    return take(subject, BUS_PART_HEADER_BYTES + n, now_ns);
}

static void a_header_is_as_drawn(void **state)
{
    (void)state;
    static const uint8_t expected[BUS_PART_HEADER_BYTES] = {1, 1, 2, 3, 4, 5, 6, 7,   8,
                                                            0, 0, 1, 2, 0, 1, 0, 0xff};
    uint8_t bytes[BUS_PART_HEADER_BYTES], kind[BUS_WHOLE_HEADER_BYTES];
    bus_part_header(bytes, 0x0102030405060708, 0x102, 0x100ff);
    assert_memory_equal(bytes, expected, sizeof expected);
    bus_whole_header(kind);
    assert_int_equal(kind[0], 0);
}

static void a_whole_message_is_lent(void **state)
{
    (void)state;
    memcpy(part, "\0abc", 4);
    assert_int_equal(take("s", 4, 0), SL_OK);
    assert_ptr_equal(whole.bytes, part + 1);
    assert_int_equal(whole.n, 3);
    assert_null(whole.owned);
    assert_int_equal(take("s", 1, 0), SL_OK);
    assert_non_null(whole.bytes);
    assert_int_equal(whole.n, 0);
}

static void what_is_not_ours_is_refused(void **state)
{
    (void)state;
    part[0] = 2;
    assert_int_equal(take("s", 5, 0), SL_CORRUPT);
    assert_int_equal(take("s", 0, 0), SL_CORRUPT);
    bus_part_header(part, 1, 0, 10);
    assert_int_equal(take("s", BUS_PART_HEADER_BYTES, 0), SL_CORRUPT);
    assert_int_equal(take("s", BUS_PART_HEADER_BYTES + 9, 0), SL_CORRUPT);
    assert_int_equal(take("s", BUS_PART_HEADER_BYTES + 11, 0), SL_CORRUPT);
    bus_part_header(part, 1, 1, BUS_PART_BYTES);
    assert_int_equal(take("s", BUS_PART_HEADER_BYTES + 1, 0), SL_CORRUPT);
    bus_part_header(part, 1, 0, BUS_MESSAGE_BYTES_MAX + 1);
    assert_int_equal(take("s", sizeof part, 0), SL_CORRUPT);
    bus_part_header(part, 1, UINT32_MAX, BUS_MESSAGE_BYTES_MAX);
    assert_int_equal(take("s", sizeof part, 0), SL_CORRUPT);
    assert_int_equal(n_lost, 8);
    assert_int_equal(bus_parts_count(parts), 0);
}

static void a_gap_ends_a_message(void **state)
{
    (void)state;
    assert_int_equal(take_part("s", 1, 0, 0), SL_OK);
    assert_int_equal(take_part("s", 1, 2, 0), SL_OK); /* 1 is missing */
    assert_null(whole.bytes);
    assert_int_equal(n_lost, 1);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(take_part("s", 2, i, 0), SL_OK);
    assert_int_equal(whole.n, 2 * BUS_PART_BYTES + 1);
    sl_free(whole.owned);
}

static void the_stalest_makes_room(void **state)
{
    (void)state;
    assert_int_equal(take_part("a", 1, 0, 1), SL_OK);
    assert_int_equal(take_part("b", 1, 0, 2), SL_OK); /* four parts are the limit */
    assert_int_equal(bus_parts_count(parts), 1);
    assert_int_equal(n_lost, 1);
    assert_int_equal(take_part("b", 1, 1, 3), SL_OK);
    assert_int_equal(take_part("b", 1, 2, 4), SL_OK);
    assert_non_null(whole.bytes);
    sl_free(whole.owned);
}

static void what_stands_still_is_dropped(void **state)
{
    (void)state;
    assert_int_equal(take_part("a", 1, 0, 0), SL_OK);
    assert_int_equal(bus_parts_expire(parts, BUS_PARTIAL_IDLE_NS - 1), 0);
    assert_int_equal(take_part("a", 1, 1, BUS_PARTIAL_IDLE_NS - 1), SL_OK);
    assert_int_equal(bus_parts_expire(parts, BUS_PARTIAL_IDLE_NS), 0);
    assert_int_equal(bus_parts_expire(parts, 2 * BUS_PARTIAL_IDLE_NS), 1);
    assert_int_equal(bus_parts_count(parts), 0);
}

static void senders_are_bounded(void **state)
{
    (void)state;
    char subject[16];
    bus_part_header(part, 1, 0, BUS_PART_BYTES + 1);
    struct bus_parts *many;
    assert_int_equal(bus_parts_create(BUS_PARTIAL_BYTES_MAX, &many), SL_OK);
    for (int i = 0; i < 2 * BUS_PARTIALS_MAX; i++) {
        snprintf(subject, sizeof subject, "s.%d", i);
        assert_int_equal(bus_parts_take(many, 1, subject, part, sizeof part, i, &whole, &n_lost),
                         SL_OK);
    }
    assert_int_equal(bus_parts_count(many), BUS_PARTIALS_MAX);
    assert_int_equal(n_lost, BUS_PARTIALS_MAX);
    bus_parts_destroy(many);
}

static void without_memory_a_message_is_lost(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    sl_mem_fail_at(1, false);
    assert_int_equal(take_part("s", 1, 0, 0), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(sl_mem_live(), live);
    assert_int_equal(n_lost, 1);
    struct bus_parts *none;
    sl_mem_fail_at(1, false);
    assert_int_equal(bus_parts_create(1, &none), SL_NOMEM);
    sl_mem_fail_at(0, false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_header_is_as_drawn),        TEST(a_whole_message_is_lent),
        TEST(what_is_not_ours_is_refused), TEST(a_gap_ends_a_message),
        TEST(the_stalest_makes_room),      TEST(what_stands_still_is_dropped),
        TEST(senders_are_bounded),         TEST(without_memory_a_message_is_lost),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
