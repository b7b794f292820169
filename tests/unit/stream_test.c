/* stream_test.c: streams over real TLS on loopback: opened by an upgrade at a grid port, and what
 * comes instead when that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/stream.h"
#include "net/tls.h"
#include "support/stage_fixture.h"

#define A 0
#define B 1
#define PATH "/grid/v1/test"
#define PROTOCOL "starlane-test"
#define BIG (3u << 20)
#define UNSENT_MAX (4u << 20)

struct end {
    struct stream *stream;
    bool open, ended, destroys;
    struct sl_err why;
    struct sl_buf got;
};

static struct {
    struct stage_fixture f;
    struct tls_client *tls;
    struct end here, there;
    sl_status refusal;   /* that the path answers with; OK: it upgrades */
    sl_status upgraded;  /* what http_exchange_upgrade said */
    const char *expects; /* whose protocol the path speaks */
} w;

static void on_open(void *ctx)
{
    ((struct end *)ctx)->open = true;
}

static void on_bytes(void *ctx, const void *bytes, size_t n)
{
    struct end *end = ctx;
    assert_false(end->ended);
    assert_int_equal(sl_buf_add(&end->got, bytes, n), SL_OK);
    if (!end->destroys) return;
    stream_destroy(end->stream);
    end->stream = NULL;
}

static void on_end(void *ctx, const struct sl_err *why)
{
    struct end *end = ctx;
    assert_false(end->ended);
    end->ended = true;
    end->why = *why;
}

static const struct stream_callbacks CALLBACKS = {on_open, on_bytes, on_end};

static void upgrade(void *ctx, struct http_exchange *x)
{
    struct sl_err err = SL_ERR_INIT;
    (void)ctx;
    if (w.refusal != SL_OK) {
        grid_port_fail(x, w.refusal, "no");
        return;
    }
    w.upgraded = http_exchange_upgrade(x, w.expects, UNSENT_MAX, &w.there.stream, &err);
    if (w.upgraded == SL_OK)
        stream_listen(w.there.stream, &CALLBACKS, &w.there);
    else
        grid_port_fail(x, w.upgraded, err.text);
}

static int set_up(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    if (temp_dir_setup(state) != 0) return -1;
    memset(&w, 0, sizeof w);
    w.expects = PROTOCOL;
    stage_fixture_init(&w.f);
    sl_buf_init(&w.here.got, 16u << 20);
    sl_buf_init(&w.there.got, 16u << 20);
    const struct stage_member *a = &w.f.members[A];
    if (tls_client_create(a->cert, a->key, w.f.root, &w.tls, &err) != SL_OK)
        fail_msg("%s", err.text);
    return grid_port_route(w.f.members[B].port, HTTP_METHOD_GET, PATH, false, upgrade, NULL);
}

static int tear_down(void **state)
{
    stream_destroy(w.here.stream);
    stream_destroy(w.there.stream);
    tls_client_destroy(w.tls);
    sl_buf_done(&w.here.got);
    sl_buf_done(&w.there.got);
    stage_fixture_done(&w.f);
    return temp_dir_teardown(state);
}

static struct stream_connect connect_cfg(void)
{
    return (struct stream_connect){.address = w.f.members[B].address,
                                   .tls = w.tls,
                                   .peer_id = stage_fixture_id(&w.f, B),
                                   .path = PATH,
                                   .protocol = PROTOCOL,
                                   .timeout_ns = 2000 * STAGE_FIXTURE_MS,
                                   .unsent_bytes_max = UNSENT_MAX};
}

static void connect_with(const struct stream_connect *cfg)
{
    struct sl_err err = SL_ERR_INIT;
    if (stream_connect(w.f.loop, cfg, &CALLBACKS, &w.here, &w.here.stream, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_false(w.here.open || w.here.ended);
    STAGE_FIXTURE_UNTIL(&w.f, w.here.open || w.here.ended);
}

static void open_stream(void)
{
    const struct stream_connect cfg = connect_cfg();
    connect_with(&cfg);
    if (w.here.ended) fail_msg("%s", w.here.why.text);
}

static void fill(unsigned char *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)((i * 31 + seed) >> 3);
}

/* --- open --- */

static void bytes_go_both_ways(void **state)
{
    static unsigned char one[BIG], two[BIG];
    (void)state;
    fill(one, sizeof one, 1);
    fill(two, sizeof two, 2);
    open_stream();
    assert_int_equal(stream_write(w.here.stream, one, sizeof one), SL_OK);
    assert_int_equal(stream_write(w.there.stream, two, sizeof two), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.here.got.len == BIG && w.there.got.len == BIG);
    assert_memory_equal(w.there.got.data, one, BIG);
    assert_memory_equal(w.here.got.data, two, BIG);
    assert_int_equal(stream_unsent(w.here.stream), 0);
    assert_string_equal(stream_peer(w.here.stream)->id, stage_fixture_id(&w.f, B));
    assert_string_equal(stream_peer(w.there.stream)->id, stage_fixture_id(&w.f, A));
    assert_string_equal(stream_address(w.here.stream), w.f.members[B].address);
    assert_memory_equal(stream_address(w.there.stream), "127.0.0.1:", 10);
}

static void no_more_waits_than_the_bound(void **state)
{
    static unsigned char big[BIG];
    (void)state;
    open_stream();
    assert_int_equal(stream_write(w.here.stream, big, sizeof big), SL_OK);
    assert_int_equal(stream_write(w.here.stream, big, sizeof big), SL_LIMIT);
    assert_int_equal(stream_unsent(w.here.stream), BIG);
    STAGE_FIXTURE_UNTIL(&w.f, w.there.got.len == BIG); /* what was taken arrives */
}

static void the_last_words_arrive(void **state)
{
    (void)state;
    open_stream();
    assert_int_equal(stream_write(w.here.stream, "bye", 3), SL_OK);
    stream_destroy(w.here.stream);
    w.here.stream = NULL;
    STAGE_FIXTURE_UNTIL(&w.f, w.there.ended);
    assert_string_equal(w.there.got.data, "bye");
    assert_int_equal(w.there.why.status, SL_CANCELLED);
    assert_int_equal(stream_write(w.there.stream, "x", 1), SL_OK); /* into the void */
}

static void one_may_be_destroyed_within_its_callback(void **state)
{
    (void)state;
    open_stream();
    w.there.destroys = true;
    assert_int_equal(stream_write(w.here.stream, "x", 1), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.here.ended);
    assert_null(w.there.stream);
}

static void the_server_goes_on(void **state)
{
    struct stream_connect cfg = connect_cfg();
    struct end second = {0};
    (void)state;
    open_stream();
    cfg.path = "/grid/v1/nothing";
    assert_int_equal(stream_connect(w.f.loop, &cfg, &CALLBACKS, &second, &second.stream, NULL),
                     SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, second.ended);
    assert_non_null(strstr(second.why.text, "404"));
    stream_destroy(second.stream);
    assert_int_equal(stream_write(w.here.stream, "x", 1), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.there.got.len == 1);
    grid_port_destroy(w.f.members[B].port); /* a stream is not the server's any more */
    w.f.members[B].port = NULL;
    assert_int_equal(stream_write(w.there.stream, "y", 1), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.here.got.len == 1);
}

/* --- not open --- */

static void expect_end(const struct stream_connect *cfg, sl_status status, const char *words)
{
    connect_with(cfg);
    assert_true(w.here.ended && !w.here.open);
    assert_int_equal(w.here.why.status, status);
    if (!strstr(w.here.why.text, words)) fail_msg("%s", w.here.why.text);
}

static void another_path_is_no_stream(void **state)
{
    struct stream_connect cfg = connect_cfg();
    (void)state;
    cfg.path = "/grid/v1/nothing";
    expect_end(&cfg, SL_UNAVAILABLE, "404");
}

static void a_refusal_is_told_by_its_status(void **state)
{
    const struct stream_connect cfg = connect_cfg();
    (void)state;
    w.refusal = SL_DENIED;
    expect_end(&cfg, SL_DENIED, "403");
}

static void another_protocol_is_not_agreed_to(void **state)
{
    const struct stream_connect cfg = connect_cfg();
    (void)state;
    w.expects = "something-else";
    expect_end(&cfg, SL_UNAVAILABLE, "501");
    assert_int_equal(w.upgraded, SL_UNSUPPORTED);
}

static void another_member_at_the_address_is_refused(void **state)
{
    struct stream_connect cfg = connect_cfg();
    (void)state;
    cfg.peer_id = stage_fixture_id(&w.f, 2);
    expect_end(&cfg, SL_DENIED, "another member");
}

static void a_port_where_nobody_listens_is_told(void **state)
{
    struct stream_connect cfg = connect_cfg();
    char address[32];
    (void)state;
    snprintf(address, sizeof address, "%s", w.f.members[2].address);
    grid_port_destroy(w.f.members[2].port);
    w.f.members[2].port = NULL;
    cfg.address = address;
    expect_end(&cfg, SL_UNAVAILABLE, "refused");
}

static void one_who_never_answers_is_given_up(void **state)
{
    struct stream_connect cfg = connect_cfg();
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    char address[32];
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    cfg.address = address;
    cfg.timeout_ns = 100 * STAGE_FIXTURE_MS;
    expect_end(&cfg, SL_TIMEOUT, "in time");
    close(fd);
}

static void a_name_is_looked_up(void **state)
{
    struct stream_connect cfg = connect_cfg();
    char address[64];
    (void)state;
    snprintf(address, sizeof address, "localhost:%s", strchr(w.f.members[B].address, ':') + 1);
    cfg.address = address;
    connect_with(&cfg);
    if (w.here.open) return;
    assert_non_null(strstr(w.here.why.text, "refused")); /* it is ::1 here, and nobody there */
}

static void a_name_that_nobody_has_is_told(void **state)
{
    struct stream_connect cfg = connect_cfg();
    (void)state;
    cfg.address = "no such host:4230";
    expect_end(&cfg, SL_UNAVAILABLE, "no such host");
}

static void a_look_up_may_be_given_up(void **state)
{
    struct stream_connect cfg = connect_cfg();
    (void)state;
    cfg.address = "localhost:1";
    for (int i = 0; i < 20; i++) {
        assert_int_equal(stream_connect(w.f.loop, &cfg, &CALLBACKS, &w.here, &w.here.stream, NULL),
                         SL_OK);
        if (i % 2) stage_fixture_turn(&w.f);
        stream_destroy(w.here.stream);
        w.here.stream = NULL;
        w.here.ended = false;
    }
}

static void what_is_no_address_is_refused_at_once(void **state)
{
    static const char *const addresses[] = {
        "", "127.0.0.1", "::1:1", ":4230", "[::1]", "127.0.0.1:http", "127.0.0.1:1234567"};
    struct stream_connect cfg = connect_cfg();
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        cfg.address = addresses[i];
        assert_int_equal(stream_connect(w.f.loop, &cfg, &CALLBACKS, &w.here, &w.here.stream, &err),
                         SL_INVALID);
    }
}

static void credentials_that_are_none_are_refused(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct tls_client *tls;
    const struct stage_member *a = &w.f.members[A];
    (void)state;
    assert_int_equal(tls_client_create("/nowhere", a->key, w.f.root, &tls, &err), SL_NOT_FOUND);
    assert_int_equal(tls_client_create(a->cert, w.f.members[B].key, w.f.root, &tls, &err),
                     SL_INVALID);
}

static void without_memory_nothing_stays(void **state)
{
    const struct stream_connect cfg = connect_cfg();
    struct stream *stream = NULL;
    sl_status status = SL_NOMEM;
    (void)state;
    const uint64_t before = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = stream_connect(w.f.loop, &cfg, &CALLBACKS, &w.here, &stream, NULL);
        sl_mem_fail_at(0, false);
        if (status == SL_OK) stream_destroy(stream);
        assert_int_equal(sl_mem_live(), before);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_go_both_ways),
        TEST(no_more_waits_than_the_bound),
        TEST(the_last_words_arrive),
        TEST(one_may_be_destroyed_within_its_callback),
        TEST(the_server_goes_on),
        TEST(another_path_is_no_stream),
        TEST(a_refusal_is_told_by_its_status),
        TEST(another_protocol_is_not_agreed_to),
        TEST(another_member_at_the_address_is_refused),
        TEST(a_port_where_nobody_listens_is_told),
        TEST(one_who_never_answers_is_given_up),
        TEST(a_name_is_looked_up),
        TEST(a_name_that_nobody_has_is_told),
        TEST(a_look_up_may_be_given_up),
        TEST(what_is_no_address_is_refused_at_once),
        TEST(credentials_that_are_none_are_refused),
        TEST(without_memory_nothing_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
