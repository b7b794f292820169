/* bus_test.c: the bus inside one process, without servers: subjects, delivery, limits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/bus.h"
#include "grid/bus_subject.h"
#include "net/loop.h"
#include <stdio.h>
#include <string.h>

static struct loop *loop;
static struct bus *bus;

static int setup(void **state)
{
    (void)state;
    struct bus_cfg cfg = {.self = "nself"};
    if (loop_create(0, &loop, NULL) != SL_OK) return -1;
    cfg.loop = loop;
    return bus_create(&cfg, &bus, NULL) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    bus_destroy(bus);
    loop_destroy(loop);
    return 0;
}

static void turn(void)
{
    assert_int_equal(loop_turn(loop, 0, NULL), SL_OK);
}

static void note(void *ctx, const char *subject, const void *bytes, size_t n)
{
    char *text = ctx;
    snprintf(text + strlen(text), 256 - strlen(text), "%s=%.*s ", subject, (int)n,
             (const char *)bytes);
}

static struct bus_subscription *hear(const char *pattern, bus_message_fn fn, void *ctx)
{
    struct bus_subscription *subscription;
    assert_int_equal(bus_subscribe(bus, pattern, fn, ctx, &subscription, NULL), SL_OK);
    return subscription;
}

static void say(const char *subject, const char *text)
{
    assert_int_equal(bus_publish(bus, subject, text, strlen(text), NULL), SL_OK);
}

static void subjects_are_tokens(void **state)
{
    (void)state;
    char longest[BUS_SUBJECT_SIZE + 1];
    memset(longest, 'a', sizeof longest);
    longest[BUS_SUBJECT_SIZE - 1] = '\0';
    assert_true(bus_subject_valid("sl.run.a.b"));
    assert_true(bus_subject_valid(longest));
    longest[BUS_SUBJECT_SIZE - 1] = 'a';
    longest[BUS_SUBJECT_SIZE] = '\0';
    assert_false(bus_subject_valid(longest));
    static const char *const bad[] = {"",    ".",   "a.", ".a",  "a..b",
                                      "a b", "a.*", ">",  "a\n", "\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(bus_subject_valid(bad[i]));
    assert_true(bus_pattern_valid("a.*.b"));
    assert_true(bus_pattern_valid("a.>"));
    assert_false(bus_pattern_valid("a.>.b"));
    assert_false(bus_pattern_valid("a.b*"));
}

static void patterns_match_as_in_nats(void **state)
{
    (void)state;
    assert_true(bus_subject_matches("a.b", "a.b"));
    assert_true(bus_subject_matches("a.*", "a.b"));
    assert_true(bus_subject_matches("*.*", "a.b"));
    assert_true(bus_subject_matches("a.>", "a.b.c"));
    assert_true(bus_subject_matches(">", "a"));
    assert_false(bus_subject_matches("a.>", "a"));
    assert_false(bus_subject_matches("a.*", "a.b.c"));
    assert_false(bus_subject_matches("a.*", "a"));
    assert_false(bus_subject_matches("a.b", "a.bc"));
    assert_false(bus_subject_matches("a.b.c", "a.b"));
}

static void addressed_subjects_have_four_tokens(void **state)
{
    (void)state;
    assert_true(bus_subject_is_to("sl.run.nself.x", "nself"));
    assert_false(bus_subject_is_to("sl.run.nselfish.x", "nself"));
    assert_false(bus_subject_is_to("sl.run.x.nself", "nself"));
    assert_false(bus_subject_is_to("sl.report.nself", "nself"));
    assert_false(bus_subject_is_to("sl.run.nself.x.y", "nself"));
    assert_false(bus_subject_is_to("xx.run.nself.x", "nself"));
}

static void delivery_is_at_the_end_of_the_turn(void **state)
{
    (void)state;
    char text[256] = "", other[256] = "";
    hear("sl.run.*.*", note, text);
    hear("sl.>", note, other);
    say("sl.run.a.b", "1");
    say("sl.run.a.b", "2");
    say("sl.report.b", "3");
    assert_string_equal(text, "");
    turn();
    assert_string_equal(text, "sl.run.a.b=1 sl.run.a.b=2 ");
    assert_string_equal(other, "sl.run.a.b=1 sl.run.a.b=2 sl.report.b=3 ");
}

static void the_ended_hear_nothing(void **state)
{
    (void)state;
    char text[256] = "", other[256] = "";
    struct bus_subscription *subscription = hear("a", note, text);
    hear("a", note, other);
    say("a", "1");
    bus_unsubscribe(subscription);
    turn();
    assert_string_equal(text, "");
    assert_string_equal(other, "a=1 ");
}

static struct bus_subscription *pair[2];

/* The first that is called ends both. */
static void end_both(void *ctx, const char *subject, const void *bytes, size_t n)
{
    ++*(int *)ctx;
    (void)subject;
    (void)bytes;
    (void)n;
    bus_unsubscribe(pair[0]);
    bus_unsubscribe(pair[1]);
}

static void callbacks_may_unsubscribe(void **state)
{
    (void)state;
    int n_calls = 0;
    pair[0] = hear("a", end_both, &n_calls);
    pair[1] = hear("a", end_both, &n_calls);
    say("a", "1");
    turn();
    assert_int_equal(n_calls, 1);
}

static void again(void *ctx, const char *subject, const void *bytes, size_t n)
{
    if (++*(int *)ctx < 3) assert_int_equal(bus_publish(bus, subject, bytes, n, NULL), SL_OK);
}

static void callbacks_may_publish(void **state)
{
    (void)state;
    int n_calls = 0;
    hear("a", again, &n_calls);
    say("a", "1");
    for (int i = 0; i < 5; i++) turn();
    assert_int_equal(n_calls, 3);
}

static void limits_are_kept(void **state)
{
    (void)state;
    struct bus_subscription *subscriptions[BUS_SUBSCRIPTIONS_MAX], *one_more;
    struct sl_err err = SL_ERR_INIT;
    char text[256] = "";
    assert_int_equal(bus_publish(bus, "a.*", "", 0, &err), SL_INVALID);
    assert_int_equal(bus_subscribe(bus, "a..b", note, text, &one_more, &err), SL_INVALID);
    for (int i = 0; i < BUS_SUBSCRIPTIONS_MAX; i++) subscriptions[i] = hear("a", note, text);
    assert_int_equal(bus_subscribe(bus, "a", note, text, &one_more, &err), SL_LIMIT);
    bus_unsubscribe(subscriptions[7]);
    hear("a", note, text);
}

static void waiting_messages_are_bounded(void **state)
{
    (void)state;
    char text[256] = "";
    char *bytes = sl_calloc(1, BUS_MESSAGE_BYTES_MAX);
    hear("a", note, text);
    assert_int_equal(bus_publish(bus, "a", bytes, BUS_MESSAGE_BYTES_MAX + 1, NULL), SL_LIMIT);
    assert_int_equal(bus_publish(bus, "a", bytes, BUS_MESSAGE_BYTES_MAX, NULL), SL_OK);
    assert_int_equal(bus_publish(bus, "a", bytes, BUS_MESSAGE_BYTES_MAX, NULL), SL_OK);
    assert_int_equal(bus_publish(bus, "a", bytes, BUS_MESSAGE_BYTES_MAX, NULL), SL_BUSY);
    /* Nobody hears it, so nothing waits. */
    assert_int_equal(bus_publish(bus, "b", bytes, BUS_MESSAGE_BYTES_MAX, NULL), SL_OK);
    turn();
    assert_int_equal(bus_publish(bus, "a", bytes, BUS_MESSAGE_BYTES_MAX, NULL), SL_OK);
    sl_free(bytes);
}

static void servers_are_checked(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    static const char *const bad[] = {"127.0.0.1:4222", "http://a:1", "tls://a:1#me",
                                      "nats://a:1#naaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bus_set_urls(bus, &bad[i], 1, &err), SL_INVALID);
    assert_false(bus_connected(bus));
}

/* A server that is not there: everything but the connection works. */
static void without_its_servers_a_bus_is_alone(void **state)
{
    (void)state;
    char text[256] = "";
    const char *urls[] = {"nats://127.0.0.1:1"};
    hear("sl.>", note, text);
    assert_int_equal(bus_set_urls(bus, urls, 1, NULL), SL_OK);
    assert_int_equal(bus_publish(bus, "sl.report.x", "1", 1, NULL), SL_UNAVAILABLE);
    say("sl.run.nself.x", "2"); /* for this process alone */
    turn();
    assert_string_equal(text, "sl.report.x=1 sl.run.nself.x=2 ");
}

static void construction_survives_no_memory(void **state)
{
    (void)state;
    struct loop *own;
    assert_int_equal(loop_create(0, &own, NULL), SL_OK);
    struct bus_cfg cfg = {.loop = own, .self = "nself", .user = "a", .password = "b"};
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t i = 1; status != SL_OK; i++) {
        struct bus *made = NULL;
        struct bus_subscription *subscription;
        sl_mem_fail_at(i, false);
        status = bus_create(&cfg, &made, NULL);
        if (status == SL_OK) status = bus_subscribe(made, "a", note, NULL, &subscription, NULL);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        bus_destroy(made);
        assert_int_equal(sl_mem_live(), live);
    }
    loop_destroy(own);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subjects_are_tokens),
        cmocka_unit_test(patterns_match_as_in_nats),
        cmocka_unit_test(addressed_subjects_have_four_tokens),
        TEST(delivery_is_at_the_end_of_the_turn),
        TEST(the_ended_hear_nothing),
        TEST(callbacks_may_unsubscribe),
        TEST(callbacks_may_publish),
        TEST(limits_are_kept),
        TEST(waiting_messages_are_bounded),
        TEST(servers_are_checked),
        TEST(without_its_servers_a_bus_is_alone),
        cmocka_unit_test(construction_survives_no_memory),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
