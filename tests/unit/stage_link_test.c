/* stage_link_test.c: links between members over real TLS on loopback and over a bus in the process:
 * who may open one, what arrives, and what ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/stage_wire.h"
#include "net/stream.h"
#include "net/tls.h"
#include "support/stage_fixture.h"

#define A 0
#define B 1
#define KEPT_MAX 64
#define BIG (4u << 20)

/* What one end of a link was told. */
struct side {
    struct stage_link *link;
    bool open, ended, closes_at_data;
    struct sl_err why;
    enum stage_frame last;
    size_t n_frames, n_data, n_bytes;
    int32_t to, from;
    unsigned char kept[KEPT_MAX]; /* of the last data */
};

static struct {
    struct stage_fixture f;
    struct side opener, acceptor;
    struct stage_hello hello; /* that the acceptor was asked with */
    const char *refuse;       /* why it says no; NULL: it does not */
    size_t n_asked;
} w;

static void on_open(void *ctx)
{
    ((struct side *)ctx)->open = true;
}

static void on_frame(void *ctx, enum stage_frame type, const void *payload, size_t n)
{
    struct side *side = ctx;
    (void)payload;
    side->last = type;
    side->n_frames++;
    side->n_bytes += n;
}

static void on_data(void *ctx, int32_t to, int32_t from, const void *bytes, size_t n)
{
    struct side *side = ctx;
    side->to = to;
    side->from = from;
    side->n_data++;
    side->n_bytes += n;
    memcpy(side->kept, bytes, n < KEPT_MAX ? n : KEPT_MAX);
    if (!side->closes_at_data) return;
    stage_link_close(side->link, "enough");
    side->link = NULL;
}

static void on_end(void *ctx, const struct sl_err *why)
{
    struct side *side = ctx;
    assert_false(side->ended);
    side->ended = true;
    side->why = *why;
}

static const struct stage_link_callbacks CALLBACKS = {on_open, on_frame, on_data, on_end};

static bool accept_link(void *ctx, struct stage_link *link, const struct stage_hello *hello,
                        struct sl_err *err)
{
    (void)ctx;
    w.n_asked++;
    w.hello = *hello;
    if (w.refuse) {
        sl_err_set(err, SL_DENIED, "%s", w.refuse);
        return false;
    }
    w.acceptor = (struct side){.link = link};
    stage_link_listen(link, &CALLBACKS, &w.acceptor);
    return true;
}

static int set_up(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    memset(&w, 0, sizeof w);
    stage_fixture_init(&w.f);
    return 0;
}

static int tear_down(void **state)
{
    stage_link_close(w.opener.link, NULL);
    stage_link_close(w.acceptor.link, NULL);
    stage_fixture_done(&w.f);
    return temp_dir_teardown(state);
}

static void start(bool relayed)
{
    w.f.members[A].keeps_to_bus = relayed;
    stage_fixture_start(&w.f);
    stage_links_accept(w.f.members[B].links, accept_link, NULL);
}

static const struct stage_hello HELLO = {.chain = "c0ffee", .role = STAGE_CONTROL, .to = 1};

static void open_to(size_t member, const char *address)
{
    struct sl_err err = SL_ERR_INIT;
    if (stage_link_open(w.f.members[A].links, stage_fixture_id(&w.f, member), address, &HELLO,
                        &CALLBACKS, &w.opener, &w.opener.link, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void open_link(void)
{
    open_to(B, "");
    STAGE_FIXTURE_UNTIL(&w.f, w.opener.open || w.opener.ended);
    assert_true(w.opener.open);
    assert_non_null(w.acceptor.link);
}

static struct stage_link_stats stats_of(const struct side *side)
{
    struct stage_link_stats stats;
    stage_link_stats(side->link, &stats);
    return stats;
}

static void wait_for_end(struct side *side)
{
    STAGE_FIXTURE_UNTIL(&w.f, side->ended);
}

/* --- what arrives --- */

static void carry(enum stage_transport transport)
{
    static unsigned char big[BIG];
    open_link();
    assert_int_equal(stats_of(&w.opener).transport, transport);
    assert_int_equal(stats_of(&w.acceptor).transport, transport);
    assert_string_equal(stats_of(&w.opener).member, stage_fixture_id(&w.f, B));
    assert_string_equal(stats_of(&w.acceptor).member, stage_fixture_id(&w.f, A));
    assert_string_equal(w.hello.chain, "c0ffee");
    assert_int_equal(stage_link_send(w.opener.link, STAGE_OPEN, "abc", 3), SL_OK);
    assert_int_equal(stage_link_send_data(w.opener.link, 1, 0, "state", 5), SL_OK);
    assert_int_equal(stage_link_send_data(w.acceptor.link, 0, 1, NULL, 0), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.acceptor.n_data == 1 && w.opener.n_data == 1);
    assert_int_equal(w.acceptor.last, STAGE_OPEN);
    assert_int_equal(w.acceptor.n_bytes, 8);
    assert_int_equal(w.acceptor.to, 1);
    assert_memory_equal(w.acceptor.kept, "state", 5);
    assert_int_equal(w.opener.from, 1);
    for (size_t i = 0; i < 10; i++) {
        big[0] = (unsigned char)i;
        assert_int_equal(stage_link_send_data(w.opener.link, 1, 0, big, sizeof big), SL_OK);
    }
    STAGE_FIXTURE_UNTIL(&w.f, w.acceptor.n_data == 11);
    assert_int_equal(w.acceptor.kept[0], 9);
    STAGE_FIXTURE_UNTIL(&w.f, stats_of(&w.opener).rtt_s > 0);
    struct stage_links_stats all;
    stage_links_stats_get(w.f.members[B].links, &all);
    assert_int_equal(transport == STAGE_DIRECT ? all.n_direct : all.n_relayed, 1);
    assert_int_equal(all.n_direct + all.n_relayed, 1);
    assert_true(all.bytes_received > 10 * (uint64_t)BIG);
    assert_int_equal(all.n_broken, 0);
}

static void a_direct_link_carries_frames_both_ways(void **state)
{
    (void)state;
    start(false);
    carry(STAGE_DIRECT);
    assert_string_equal(stats_of(&w.opener).address, w.f.members[B].address);
}

static void a_relayed_link_carries_frames_both_ways(void **state)
{
    (void)state;
    start(true);
    carry(STAGE_RELAYED);
    assert_string_equal(stats_of(&w.opener).address, "");
}

static void a_link_lives_though_nothing_is_said(void **state)
{
    (void)state;
    start(false);
    open_link();
    int64_t end_ns = sl_now_ns() + 2 * STAGE_SILENCE_NS / 10;
    STAGE_FIXTURE_UNTIL(&w.f, sl_now_ns() > end_ns);
    assert_false(w.opener.ended || w.acceptor.ended);
}

static void addresses_are_tried_in_turn_and_then_the_bus(void **state)
{
    (void)state;
    start(false);
    open_to(B, w.f.members[2].address); /* another member answers there */
    STAGE_FIXTURE_UNTIL(&w.f, w.opener.open);
    assert_int_equal(stats_of(&w.opener).transport, STAGE_DIRECT);
    assert_string_equal(stats_of(&w.opener).address, w.f.members[B].address);
    stage_link_close(w.opener.link, NULL);
    wait_for_end(&w.acceptor);
    stage_link_close(w.acceptor.link, NULL);
    w.opener = w.acceptor = (struct side){0};
    grid_port_destroy(w.f.members[B].port);
    w.f.members[B].port = NULL;
    open_link();
    assert_int_equal(stats_of(&w.opener).transport, STAGE_RELAYED);
}

/* --- the end --- */

static void closing_tells_the_peer_why(void **state)
{
    (void)state;
    for (int relayed = 0; relayed < 2; relayed++) {
        start(relayed);
        open_link();
        stage_link_close(w.acceptor.link, "out of memory there");
        w.acceptor.link = NULL;
        wait_for_end(&w.opener);
        assert_int_equal(w.opener.why.status, SL_UNAVAILABLE);
        assert_string_equal(w.opener.why.text, "out of memory there");
        assert_int_equal(stage_link_send(w.opener.link, STAGE_OPEN, "", 0), SL_UNAVAILABLE);
        stage_link_close(w.opener.link, NULL);
        w.opener = (struct side){0};
        stage_fixture_stop(&w.f);
        if (relayed) return;
        /* The port keeps the route of the links that are gone: it goes with them. */
        stage_fixture_done(&w.f);
        stage_fixture_init(&w.f);
    }
}

static void a_link_may_be_closed_within_its_callback(void **state)
{
    (void)state;
    start(false);
    open_link();
    w.acceptor.closes_at_data = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(stage_link_send_data(w.opener.link, 1, 0, "x", 1), SL_OK);
    wait_for_end(&w.opener);
    assert_string_equal(w.opener.why.text, "enough");
    assert_int_equal(w.acceptor.n_data, 1);
}

static void a_refusal_is_told(void **state)
{
    (void)state;
    for (int relayed = 0; relayed < 2; relayed++) {
        start(relayed);
        w.refuse = "no room for stages";
        open_to(B, "");
        wait_for_end(&w.opener);
        assert_string_equal(w.opener.why.text, "no room for stages");
        stage_link_close(w.opener.link, NULL);
        w.opener = (struct side){0};
        stage_fixture_done(&w.f);
        stage_fixture_init(&w.f);
    }
    assert_int_equal(w.n_asked, 2);
}

static void a_silent_peer_ends_the_link(void **state)
{
    (void)state;
    start(true);
    open_link();
    /* The acceptor's side vanishes without a word. */
    stage_links_accept(w.f.members[B].links, NULL, NULL);
    struct stage_links *links = w.f.members[B].links;
    stage_fixture_put(&w.f, A, true); /* B hears A no more */
    wait_for_end(&w.opener);
    assert_non_null(strstr(w.opener.why.text, "silent"));
    assert_ptr_equal(links, w.f.members[B].links);
}

static void a_member_that_was_removed_is_cut_off(void **state)
{
    (void)state;
    start(false);
    open_link();
    stage_fixture_put(&w.f, A, true);
    stage_links_members_changed(w.f.members[B].links);
    wait_for_end(&w.acceptor);
    assert_int_equal(w.acceptor.why.status, SL_DENIED);
    stage_link_close(w.acceptor.link, NULL);
    w.acceptor.link = NULL;
    wait_for_end(&w.opener);
}

static void one_who_is_no_member_any_more_opens_nothing(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_link *link;
    (void)state;
    start(false);
    stage_fixture_put(&w.f, A, true);
    open_to(B, "");
    wait_for_end(&w.opener);
    assert_int_equal(w.n_asked, 0);
    assert_int_equal(stage_link_open(w.f.members[B].links, stage_fixture_id(&w.f, A), "", &HELLO,
                                     &CALLBACKS, &w.opener, &link, &err),
                     SL_NOT_FOUND);
}

static void a_peer_that_does_not_read_ends_the_link(void **state)
{
    static unsigned char big[BIG];
    sl_status status = SL_OK;
    (void)state;
    start(false);
    stage_fixture_stop(&w.f);
    stage_fixture_done(&w.f);
    stage_fixture_init(&w.f);
    struct stage_links_cfg cfg = stage_fixture_links(&w.f, A);
    cfg.unsent_bytes_max = 2 * BIG;
    assert_int_equal(stage_links_create(&cfg, &w.f.members[A].links, NULL), SL_OK);
    cfg = stage_fixture_links(&w.f, B);
    assert_int_equal(stage_links_create(&cfg, &w.f.members[B].links, NULL), SL_OK);
    stage_links_accept(w.f.members[B].links, accept_link, NULL);
    open_link();
    for (int i = 0; i < 3 && status == SL_OK; i++) /* without a turn in between nobody reads */
        status = stage_link_send_data(w.opener.link, 1, 0, big, sizeof big);
    assert_int_equal(status, SL_LIMIT);
    wait_for_end(&w.opener);
    assert_non_null(strstr(w.opener.why.text, "does not read"));
}

/* --- what others may try --- */

static struct {
    struct stream *stream;
    bool open, ended;
    struct sl_err why;
    struct sl_buf got;
} raw;

static void raw_open(void *ctx)
{
    (void)ctx;
    raw.open = true;
}

static void raw_bytes(void *ctx, const void *bytes, size_t n)
{
    (void)ctx;
    assert_int_equal(sl_buf_add(&raw.got, bytes, n), SL_OK);
}

static void raw_end(void *ctx, const struct sl_err *why)
{
    (void)ctx;
    raw.ended = true;
    raw.why = *why;
}

/* A connection to B's path for links, as A or with another's certificate. */
static struct tls_client *raw_connect(const char *cert, const char *key, const char *root)
{
    static const struct stream_callbacks callbacks = {raw_open, raw_bytes, raw_end};
    struct sl_err err = SL_ERR_INIT;
    struct tls_client *tls;
    memset(&raw, 0, sizeof raw);
    sl_buf_init(&raw.got, BIG);
    if (tls_client_create(cert, key, root, &tls, &err) != SL_OK) fail_msg("%s", err.text);
    const struct stream_connect cfg = {.address = w.f.members[B].address,
                                       .tls = tls,
                                       .peer_id = stage_fixture_id(&w.f, B),
                                       .path = STAGE_PATH,
                                       .protocol = STAGE_PROTOCOL,
                                       .timeout_ns = STAGE_CONNECT_NS,
                                       .unsent_bytes_max = 2 * BIG};
    if (stream_connect(w.f.loop, &cfg, &callbacks, NULL, &raw.stream, &err) != SL_OK)
        fail_msg("%s", err.text);
    STAGE_FIXTURE_UNTIL(&w.f, raw.open || raw.ended);
    return tls;
}

static void raw_done(struct tls_client *tls)
{
    stream_destroy(raw.stream);
    tls_client_destroy(tls);
    sl_buf_done(&raw.got);
}

static void hostile_bytes_end_only_their_link(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\x00\x00\x00\x00", 4},        /* a frame of no bytes */
        {"\xff\xff\xff\xff\x09", 5},    /* and one of four gigabytes */
        {"\x00\x00\x00\x01\x09", 5},    /* DATA before HELLO */
        {"\x00\x00\x00\x04\x01xyz", 8}, /* a HELLO that does not parse */
        {"\x00\x00\x00\x01\x63", 5},    /* no such frame */
        {"\x00\x00\x00\x01\x01", 5},    /* a HELLO that says nothing */
        {"GET / HTTP/1.1\r\n\r\n", 18}, /* HTTP again */
    };
    (void)state;
    start(false);
    open_link();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tls_client *tls = raw_connect(w.f.members[A].cert, w.f.members[A].key, w.f.root);
        assert_true(raw.open);
        assert_int_equal(stream_write(raw.stream, cases[i].bytes, cases[i].n), SL_OK);
        STAGE_FIXTURE_UNTIL(&w.f, raw.ended);
        raw_done(tls);
    }
    assert_int_equal(w.n_asked, 1);
    assert_false(w.opener.ended || w.acceptor.ended);
}

static void half_a_message_ends_the_link(void **state)
{
    (void)state;
    struct sl_buf hello;
    start(false);
    struct tls_client *tls = raw_connect(w.f.members[A].cert, w.f.members[A].key, w.f.root);
    sl_buf_init(&hello, 256);
    assert_int_equal(stage_hello_put(&HELLO, &hello), SL_OK);
    const unsigned char head[] = {0, 0, 0, (unsigned char)(hello.len + 1), STAGE_HELLO};
    assert_int_equal(stream_write(raw.stream, head, sizeof head), SL_OK);
    assert_int_equal(stream_write(raw.stream, hello.data, hello.len), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, raw.got.len == 5);
    assert_int_equal(raw.got.data[4], STAGE_WELCOME);
    assert_int_equal(stream_write(raw.stream, "\0\0\0\x03\x09xy", 7), SL_OK);
    wait_for_end(&w.acceptor);
    assert_int_equal(w.acceptor.why.status, SL_CORRUPT);
    sl_buf_done(&hello);
    raw_done(tls);
}

static void a_silent_stranger_is_sent_away(void **state)
{
    (void)state;
    start(false);
    struct tls_client *tls = raw_connect(w.f.members[A].cert, w.f.members[A].key, w.f.root);
    assert_true(raw.open);
    STAGE_FIXTURE_UNTIL(&w.f, raw.ended); /* it never says HELLO */
    raw_done(tls);
    assert_int_equal(w.n_asked, 0);
}

static bool dribble(void)
{
    return stream_write(raw.stream, "x", 1) == SL_OK;
}

static void a_stranger_that_dribbles_is_sent_away(void **state)
{
    (void)state;
    start(false);
    struct tls_client *tls = raw_connect(w.f.members[A].cert, w.f.members[A].key, w.f.root);
    assert_true(raw.open);
    assert_int_equal(stream_write(raw.stream, "\x01\x00\x00\x00\x01", 5), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, raw.ended || !dribble()); /* its HELLO has 16 MiB and never ends */
    STAGE_FIXTURE_UNTIL(&w.f, raw.ended);
    raw_done(tls);
    assert_int_equal(w.n_asked, 0);
}

static void another_grids_member_gets_no_connection(void **state)
{
    struct test_grid other;
    char root[TEMP_PATH_MAX], cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX];
    (void)state;
    start(false);
    test_grid_init(&other, sl_unix_time_ms() / 1000);
    test_member_write(&other.node, "other");
    snprintf(root, sizeof root, "%s", temp_path("other.ca.pem"));
    snprintf(cert, sizeof cert, "%s", temp_path("other.cert.pem"));
    snprintf(key, sizeof key, "%s", temp_path("other.key.pem"));
    /* It trusts us, but we do not trust it; then the other way round. */
    struct tls_client *tls = raw_connect(cert, key, w.f.root);
    STAGE_FIXTURE_UNTIL(&w.f, raw.ended);
    assert_false(raw.open);
    raw_done(tls);
    assert_int_equal(pki_file_write(root, other.root.data, other.root.len, NULL), SL_OK);
    tls = raw_connect(w.f.members[A].cert, w.f.members[A].key, root);
    assert_true(raw.ended);
    assert_int_equal(raw.why.status, SL_DENIED);
    raw_done(tls);
    test_grid_done(&other);
}

/* --- the bus --- */

static struct {
    char subject[BUS_SUBJECT_SIZE];
    unsigned char bytes[64];
    size_t n;
} last;

static void spy(void *ctx, const char *subject, const void *bytes, size_t n)
{
    (void)ctx;
    snprintf(last.subject, sizeof last.subject, "%s", subject);
    last.n = n < sizeof last.bytes ? n : sizeof last.bytes;
    memcpy(last.bytes, bytes, last.n);
}

static void say(const char *to, const char *from, const void *bytes, size_t n)
{
    char subject[BUS_SUBJECT_SIZE];
    snprintf(subject, sizeof subject, "sl.stage.%s.%s", to, from);
    sl_status status = bus_publish(w.f.bus, subject, bytes, n, NULL);
    assert_true(status == SL_OK || status == SL_UNAVAILABLE);
}

static void a_lost_message_ends_a_relayed_link(void **state)
{
    struct bus_subscription *subscription;
    char pattern[BUS_SUBJECT_SIZE];
    (void)state;
    start(true);
    snprintf(pattern, sizeof pattern, "sl.stage.%s.*", stage_fixture_id(&w.f, B));
    assert_int_equal(bus_subscribe(w.f.bus, pattern, spy, NULL, &subscription, NULL), SL_OK);
    open_link();
    last.bytes[10] += 2; /* as if one before it had been lost */
    say(stage_fixture_id(&w.f, B), stage_fixture_id(&w.f, A), last.bytes, last.n);
    wait_for_end(&w.acceptor);
    assert_non_null(strstr(w.acceptor.why.text, "lost on the bus"));
    stage_link_close(w.acceptor.link, NULL);
    w.acceptor.link = NULL;
    wait_for_end(&w.opener);
    bus_unsubscribe(subscription);
}

static void nonsense_on_the_bus_is_not_heard(void **state)
{
    unsigned char hello[64] = {1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, STAGE_HELLO};
    (void)state;
    start(true);
    open_link();
    const char *b = stage_fixture_id(&w.f, B);
    for (size_t n = 0; n <= sizeof hello; n++) say(b, stage_fixture_id(&w.f, 2), hello, n);
    say(b, "nobody", hello, sizeof hello); /* no member says this */
    hello[0] = 9;                          /* another version */
    say(b, stage_fixture_id(&w.f, 2), hello, sizeof hello);
    assert_int_equal(stage_link_send_data(w.opener.link, 1, 0, "x", 1), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.acceptor.n_data == 1);
    assert_int_equal(w.n_asked, 1);
    assert_false(w.opener.ended || w.acceptor.ended);
}

/* --- limits and memory --- */

static void there_are_so_many_links(void **state)
{
    struct stage_link *links[STAGE_LINKS_MAX + 1];
    struct sl_err err = SL_ERR_INIT;
    static struct side sides[STAGE_LINKS_MAX + 1];
    size_t n = 0;
    sl_status status = SL_OK;
    (void)state;
    start(true);
    for (; status == SL_OK && n <= STAGE_LINKS_MAX; n += status == SL_OK)
        status = stage_link_open(w.f.members[A].links, stage_fixture_id(&w.f, B), "", &HELLO,
                                 &CALLBACKS, &sides[n], &links[n], &err);
    assert_int_equal(status, SL_LIMIT);
    assert_int_equal(n, STAGE_LINKS_MAX);
    while (n--) stage_link_close(links[n], NULL);
}

static void fail_to_create(struct bus *bus)
{
    struct stage_links_cfg cfg = stage_fixture_links(&w.f, A);
    sl_status status = SL_NOMEM;
    cfg.port = NULL; /* which would keep its routes */
    cfg.bus = bus;
    const uint64_t before = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct stage_links *links = NULL;
        sl_mem_fail_at(n, false);
        status = stage_links_create(&cfg, &links, NULL);
        sl_mem_fail_at(0, false);
        assert_int_equal(status == SL_OK, links != NULL);
        stage_links_destroy(links);
        if (!bus) assert_int_equal(sl_mem_live(), before); /* the bus's threads have their own */
    }
}

static void without_memory_nothing_stays(void **state)
{
    (void)state;
    fail_to_create(NULL);
    fail_to_create(w.f.bus);
}

static void a_link_without_memory_ends_and_leaks_nothing(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    start(false);
    for (int i = 0; i < 4; i++) stage_fixture_turn(&w.f);
    bool opened = false;
    for (uint64_t n = 1; !opened && n < 200; n++) {
        w.opener = w.acceptor = (struct side){0};
        sl_mem_fail_at(n, false);
        sl_status status = stage_link_open(w.f.members[A].links, stage_fixture_id(&w.f, B), "",
                                           &HELLO, &CALLBACKS, &w.opener, &w.opener.link, &err);
        while (status == SL_OK && !w.opener.open && !w.opener.ended) stage_fixture_turn(&w.f);
        opened = status == SL_OK && w.opener.open && !sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        stage_link_close(w.opener.link, NULL);
        if (w.acceptor.link) wait_for_end(&w.acceptor);
        stage_link_close(w.acceptor.link, NULL);
    }
    assert_true(opened);
    w.opener.link = w.acceptor.link = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_direct_link_carries_frames_both_ways),
        TEST(a_relayed_link_carries_frames_both_ways),
        TEST(a_link_lives_though_nothing_is_said),
        TEST(addresses_are_tried_in_turn_and_then_the_bus),
        TEST(closing_tells_the_peer_why),
        TEST(a_link_may_be_closed_within_its_callback),
        TEST(a_refusal_is_told),
        TEST(a_silent_peer_ends_the_link),
        TEST(a_member_that_was_removed_is_cut_off),
        TEST(one_who_is_no_member_any_more_opens_nothing),
        TEST(a_peer_that_does_not_read_ends_the_link),
        TEST(hostile_bytes_end_only_their_link),
        TEST(half_a_message_ends_the_link),
        TEST(a_silent_stranger_is_sent_away),
        TEST(a_stranger_that_dribbles_is_sent_away),
        TEST(another_grids_member_gets_no_connection),
        TEST(a_lost_message_ends_a_relayed_link),
        TEST(nonsense_on_the_bus_is_not_heard),
        TEST(there_are_so_many_links),
        TEST(without_memory_nothing_stays),
        TEST(a_link_without_memory_ends_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
