#include "netlab/control.h"
#include "base/mem.h"
#include "support/prop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

static struct fabric *three_ports(void)
{
    struct fabric *fabric = NULL;
    assert_int_equal(fabric_create(1, &fabric), SL_OK);
    assert_int_equal(fabric_add_port(fabric, "a", 0, NULL), SL_OK);
    assert_int_equal(fabric_add_port(fabric, "b", 0, NULL), SL_OK);
    assert_int_equal(fabric_add_port(fabric, "c", 0, NULL), SL_OK);
    return fabric;
}

/* The answer to n bytes: one line that is a JSON object with a boolean "ok". */
static json_t *ask_bytes(struct fabric *fabric, const char *line, size_t n)
{
    struct sl_buf out;
    sl_buf_init(&out, CONTROL_ANSWER_MAX);
    assert_int_equal(control_answer(fabric, line, n, &out), SL_OK);
    assert_ptr_equal(strchr(out.data, '\n'), out.data + out.len - 1);
    json_t *answer = json_loads(out.data, 0, NULL);
    assert_true(json_is_boolean(json_object_get(answer, "ok")));
    sl_buf_done(&out);
    return answer;
}

/* How many links the command changed; -1 when it was refused. */
static long long ask(struct fabric *fabric, const char *line)
{
    json_t *answer = ask_bytes(fabric, line, strlen(line));
    bool ok = json_is_true(json_object_get(answer, "ok"));
    assert_true(ok || json_is_string(json_object_get(answer, "error")));
    long long n = ok ? json_integer_value(json_object_get(answer, "links")) : -1;
    json_decref(answer);
    return n;
}

static void link_sets_what_it_names(void **state)
{
    struct fabric *fabric = three_ports();
    const struct link_settings *to_b = &fabric_link(fabric, 0, 1)->settings;
    const struct link_settings *to_a = &fabric_link(fabric, 1, 0)->settings;
    (void)state;
    assert_int_equal(
        ask(fabric, "link a b delay 20ms jitter 1.5ms loss 1% rate 100mbit queue 64kb"), 2);
    assert_int_equal(to_b->delay_ns, 20000000);
    assert_int_equal(to_b->jitter_ns, 1500000);
    assert_float_equal(to_b->loss, 0.01, 1e-9);
    assert_int_equal(to_b->rate_bps, 100000000);
    assert_int_equal(to_b->queue_bytes, 65536);
    assert_memory_equal(to_a, to_b, sizeof *to_a);
    assert_int_equal(ask(fabric, "\tlink  b a  loss 0.25 oneway\r"), 1);
    assert_float_equal(to_a->loss, 0.25, 1e-9);
    assert_float_equal(to_b->loss, 0.01, 1e-9);
    assert_int_equal(to_a->delay_ns, 20000000);
    assert_int_equal(ask(fabric, "link * * delay 0 rate 0"), 6);
    assert_int_equal(to_a->delay_ns, 0);
    assert_int_equal(to_a->rate_bps, 0);
    fabric_destroy(fabric);
}

static void cut_and_heal_name_ports(void **state)
{
    struct fabric *fabric = three_ports();
    (void)state;
    assert_int_equal(ask(fabric, "cut a *"), 4);
    assert_true(fabric_link(fabric, 0, 2)->cut);
    assert_true(fabric_link(fabric, 2, 0)->cut);
    assert_false(fabric_link(fabric, 1, 2)->cut);
    assert_int_equal(ask(fabric, "heal a c oneway"), 1);
    assert_false(fabric_link(fabric, 0, 2)->cut);
    assert_true(fabric_link(fabric, 2, 0)->cut);
    fabric_destroy(fabric);
}

static void stats_tell_every_link(void **state)
{
    struct fabric *fabric = three_ports();
    uint8_t frame[60] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    struct fabric_hop hops[FABRIC_PORTS_MAX];
    (void)state;
    assert_int_equal(ask(fabric, "link a b delay 2ms"), 2);
    assert_int_equal(fabric_offer(fabric, 0, frame, sizeof frame, 1, hops), 2);
    json_t *answer = ask_bytes(fabric, "stats", 5);
    const json_t *links = json_object_get(answer, "links");
    assert_int_equal(json_array_size(links), 6);
    const json_t *link = json_array_get(links, 0);
    assert_string_equal(json_string_value(json_object_get(link, "from")), "a");
    assert_string_equal(json_string_value(json_object_get(link, "to")), "b");
    assert_float_equal(json_number_value(json_object_get(link, "delay_ms")), 2, 1e-9);
    assert_int_equal(json_integer_value(json_object_get(link, "frames")), 1);
    assert_int_equal(json_integer_value(json_object_get(link, "bytes")), 60);
    json_decref(answer);
    fabric_destroy(fabric);
}

static void nonsense_is_refused_and_changes_nothing(void **state)
{
    static const char *const lines[] = {
        "",
        " ",
        "fly",
        "stats now",
        "link",
        "link a",
        "cut a",
        "cut a b c",
        "cut a x",
        "heal a b delay 1ms",
        "link a b delay",
        "link a b delay 20",
        "link a b delay -1ms",
        "link a b delay 61s",
        "link a b jitter x",
        "link a b loss 2",
        "link a b loss -1",
        "link a b loss 101%",
        "link a b loss nan",
        "link a b loss inf",
        "link a b rate 1e9",
        "link a b rate 1mb",
        "link a b rate 101gbit",
        "link a b rate 0x10",
        "link a b queue 65mb",
        "link a b queue 1mbit",
        "link a b colour red",
        "link a b loss 1..2",
        "link a b loss .",
        "link a-name-of-16-let b",
        "link a b oneway oneway loss",
        "LINK a b",
        "link a b loss 0 loss 0 loss 0 loss 0 loss 0 loss 0 loss 0"};
    struct fabric *fabric = three_ports();
    struct link before = *fabric_link(fabric, 0, 1);
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (ask(fabric, lines[i]) != -1) fail_msg("taken: %s", lines[i]);
        assert_memory_equal(&before, fabric_link(fabric, 0, 1), sizeof before);
    }
    fabric_destroy(fabric);
}

static void odd_bytes_and_long_lines_are_refused(void **state)
{
    struct fabric *fabric = three_ports();
    char line[2 * CONTROL_LINE_MAX];
    (void)state;
    memset(line, 'x', sizeof line);
    for (size_t n = CONTROL_LINE_MAX - 1; n <= CONTROL_LINE_MAX + 1; n++) {
        json_t *answer = ask_bytes(fabric, line, n);
        assert_true(json_is_false(json_object_get(answer, "ok")));
        json_decref(answer);
    }
    for (int byte = 0; byte < 256; byte++) {
        char cut[] = "cut a b";
        cut[5] = (char)byte;
        json_t *answer = ask_bytes(fabric, cut, 7);
        bool sane = byte == ' ' || byte == '\t' || byte == '\r';
        assert_int_equal(json_is_true(json_object_get(answer, "ok")), sane);
        json_decref(answer);
    }
    fabric_destroy(fabric);
}

/* Random words of the language and random bytes: an answer to each, and settings within limits. */
static void random_lines_are_answered(void **state)
{
    static const char *const words[] = {
        "link",   "cut",    "heal", "stats", "a", "b",     "*",    "delay", "loss", "rate", "queue",
        "jitter", "oneway", "1ms",  "99%",   "5", "1gbit", "64kb", "-1",    "%",    "\x80"};
    struct fabric *fabric = three_ports();
    (void)state;
    prop_begin();
    for (int i = 0; i < 20000; i++) {
        char line[CONTROL_LINE_MAX + 1] = "";
        size_t n = 0;
        for (size_t k = prop_draw(8); k > 0; k--)
            n += (size_t)snprintf(line + n, sizeof line - n, "%s ",
                                  words[prop_draw(sizeof words / sizeof words[0])]);
        if (n && prop_draw(4) == 0) line[prop_draw(n)] = (char)prop_draw(256);
        json_decref(ask_bytes(fabric, line, n));
        const struct link *link = fabric_link(fabric, 0, 1);
        assert_true(link->settings.loss >= 0 && link->settings.loss <= 1);
        assert_in_range(link->settings.delay_ns, 0, CONTROL_DELAY_NS_MAX);
        assert_in_range(link->settings.rate_bps, 0, CONTROL_RATE_BPS_MAX);
    }
    fabric_destroy(fabric);
}

/* 64 ports with the longest names and settings. */
static void the_longest_answer_fits(void **state)
{
    struct fabric *fabric = NULL;
    struct sl_buf out;
    char name[32];
    (void)state;
    assert_int_equal(fabric_create(1, &fabric), SL_OK);
    for (int i = 0; i < FABRIC_PORTS_MAX; i++) {
        snprintf(name, sizeof name, "port-%010d", i);
        assert_int_equal(fabric_add_port(fabric, name, 0, NULL), SL_OK);
    }
    assert_int_equal(ask(fabric, "link * * delay 12.345678ms jitter 1.234567ms loss 0.123456789"),
                     FABRIC_PORTS_MAX * (FABRIC_PORTS_MAX - 1));
    sl_buf_init(&out, CONTROL_ANSWER_MAX);
    assert_int_equal(control_answer(fabric, "stats", 5, &out), SL_OK);
    assert_true(out.len < CONTROL_ANSWER_MAX / 2); /* counters may grow by some digits yet */
    sl_buf_done(&out);
    fabric_destroy(fabric);
}

static void no_room_for_an_answer_is_told(void **state)
{
    struct fabric *fabric = three_ports();
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, 8);
    assert_int_equal(control_answer(fabric, "stats", 5, &out), SL_LIMIT);
    sl_buf_done(&out);
    sl_buf_init(&out, CONTROL_ANSWER_MAX);
    sl_mem_fail_at(1, true);
    assert_int_equal(control_answer(fabric, "stats", 5, &out), SL_NOMEM);
    sl_mem_fail_at(0, false);
    sl_buf_done(&out);
    fabric_destroy(fabric);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link_sets_what_it_names),
        cmocka_unit_test(cut_and_heal_name_ports),
        cmocka_unit_test(stats_tell_every_link),
        cmocka_unit_test(nonsense_is_refused_and_changes_nothing),
        cmocka_unit_test(odd_bytes_and_long_lines_are_refused),
        cmocka_unit_test(random_lines_are_answered),
        cmocka_unit_test(the_longest_answer_fits),
        cmocka_unit_test(no_room_for_an_answer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
