/* grid_port_test.c: the port of the grid over real TLS on loopback, with its loop on a thread of
 * its own: which routes there are, who may use them, what others are told, and where it listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/grid_port.h"
#include "grid/registry.h"
#include "net/loop.h"
#include "support/ask_member.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"
#include <pthread.h> /* after sched/local.h: both have a SCHED_BATCH */

#define ANSWER_BYTES_MAX 4096

static struct {
    struct test_grid grid;
    char root[TEMP_PATH_MAX], cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX];
    char node_cert[TEMP_PATH_MAX], node_key[TEMP_PATH_MAX];
    struct registry *registry;
    struct loop *loop;
    struct grid_port *port;
    pthread_t thread;
    struct sl_buf body;
    struct sl_err err;
} w;

static void keep_path(char out[TEMP_PATH_MAX], const char *name)
{
    snprintf(out, TEMP_PATH_MAX, "%s", temp_path(name));
}

static struct grid_port_cfg port_cfg(void)
{
    return (struct grid_port_cfg){.loop = w.loop,
                                  .registry = w.registry,
                                  .host = "127.0.0.1",
                                  .any_port = true,
                                  .cert = w.cert,
                                  .key = w.key,
                                  .ca = w.root};
}

static int set_up(void **state)
{
    if (temp_dir_setup(state) != 0) return -1;
    memset(&w, 0, sizeof w);
    test_grid_init(&w.grid, sl_unix_time_ms() / 1000);
    test_member_write(&w.grid.gateway, "gateway");
    test_member_write(&w.grid.node, "node");
    keep_path(w.root, "ca.pem");
    keep_path(w.cert, "gateway.cert.pem");
    keep_path(w.key, "gateway.key.pem");
    keep_path(w.node_cert, "node.cert.pem");
    keep_path(w.node_key, "node.key.pem");
    sl_buf_init(&w.body, ANSWER_BYTES_MAX);
    if (pki_file_write(w.root, w.grid.root.data, w.grid.root.len, NULL) != SL_OK) return -1;
    if (registry_create(&w.registry) != SL_OK) return -1;
    if (loop_create(0, &w.loop, NULL) != SL_OK) return -1;
    const struct grid_port_cfg cfg = port_cfg();
    return grid_port_create(&cfg, &w.port, NULL) == SL_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    grid_port_destroy(w.port);
    loop_destroy(w.loop);
    registry_destroy(w.registry);
    sl_buf_done(&w.body);
    test_grid_done(&w.grid);
    return temp_dir_teardown(state);
}

/* Answers with what the route was given as context. */
static void say(void *ctx, struct http_exchange *x)
{
    struct sl_buf body;
    sl_buf_init(&body, ANSWER_BYTES_MAX);
    grid_port_answer(x, 200, &body, sl_buf_add(&body, ctx, strlen(ctx)));
}

static void add_routes(void)
{
    assert_int_equal(grid_port_route(w.port, HTTP_METHOD_GET, "/open", true, say, "open"), SL_OK);
    assert_int_equal(grid_port_route(w.port, HTTP_METHOD_GET, "/members", false, say, "members"),
                     SL_OK);
    assert_int_equal(grid_port_route(w.port, HTTP_METHOD_POST, "/members", false, say, "posted"),
                     SL_OK);
    assert_int_equal(grid_port_route(w.port, HTTP_METHOD_GET, "/blobs/*", true, say, "blob"),
                     SL_OK);
}

/* The registry learns of one of the grid's members. */
static void put_member(const struct test_member *who, bool removed)
{
    struct pki_peer peer;
    struct member member = {.name = "somebody", .joins = 1, .version = 1, .removed = removed};
    struct sl_err err = SL_ERR_INIT;
    int64_t now_s = sl_unix_time_ms() / 1000;
    assert_int_equal(pki_chain_check(who->chain.data, w.grid.root.data, now_s, &peer, NULL), SL_OK);
    memcpy(member.id, peer.id, sizeof member.id);
    memcpy(member.origin, peer.id, sizeof member.origin);
    sha256_hex(peer.key_sha256, member.key);
    if (registry_merge(w.registry, &member, NULL, &err) != SL_OK) fail_msg("%s", err.text);
}

static void *run(void *arg)
{
    return loop_run(arg, NULL) == SL_OK ? arg : NULL;
}

static void start(void)
{
    struct sl_err err = SL_ERR_INIT;
    add_routes();
    if (grid_port_listen(w.port, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_not_equal(grid_port_number(w.port), 0);
    assert_int_equal(pthread_create(&w.thread, NULL, run, w.loop), 0);
}

static void stop(void)
{
    loop_stop(w.loop);
    assert_int_equal(pthread_join(w.thread, NULL), 0);
}

/* Asks as the node, or as nobody: what comes is in w.body, or what is wrong in w.err. */
static sl_status ask(const char *path, bool as_node, bool post)
{
    const struct ask_member question = {.port = grid_port_number(w.port),
                                        .member_id = w.grid.gateway.id,
                                        .root_path = w.root,
                                        .cert_path = as_node ? w.node_cert : NULL,
                                        .key_path = as_node ? w.node_key : NULL,
                                        .post = post};
    sl_buf_clear(&w.body);
    w.err = (struct sl_err)SL_ERR_INIT;
    return ask_member(&question, path, &w.body, &w.err);
}

static void a_member_uses_all_routes(void **state)
{
    (void)state;
    put_member(&w.grid.node, false);
    start();
    assert_int_equal(ask("/members", true, false), SL_OK);
    assert_string_equal(w.body.data, "members");
    assert_int_equal(ask("/members", true, true), SL_OK);
    assert_string_equal(w.body.data, "posted");
    assert_int_equal(ask("/open", true, false), SL_OK);
    assert_string_equal(w.body.data, "open");
    assert_int_equal(ask("/blobs/abc", true, false), SL_OK);
    assert_string_equal(w.body.data, "blob");
    stop();
}

static void without_a_certificate_only_open_routes_are_there(void **state)
{
    (void)state;
    start();
    assert_int_equal(ask("/open", false, false), SL_OK);
    assert_string_equal(w.body.data, "open");
    assert_int_equal(ask("/members", false, false), SL_UNAUTHENTICATED);
    assert_non_null(strstr(w.err.text, "this needs a member's certificate"));
    stop();
}

static void one_who_is_not_known_yet_is_told_to_come_again(void **state)
{
    (void)state;
    start();
    assert_int_equal(ask("/members", true, false), SL_UNAVAILABLE);
    assert_non_null(strstr(w.err.text, "not heard of that member yet"));
    assert_int_equal(ask("/open", true, false), SL_OK);
    stop();
}

static void one_who_was_removed_is_refused(void **state)
{
    (void)state;
    put_member(&w.grid.node, true);
    start();
    assert_int_equal(ask("/members", true, false), SL_DENIED);
    assert_non_null(strstr(w.err.text, "was removed"));
    stop();
}

static void other_paths_and_methods_are_not_found(void **state)
{
    (void)state;
    put_member(&w.grid.node, false);
    start();
    assert_int_equal(ask("/member", true, false), SL_NOT_FOUND);
    assert_int_equal(ask("/members/", true, false), SL_NOT_FOUND);
    assert_int_equal(ask("/blobs", true, false), SL_NOT_FOUND);
    assert_int_equal(ask("/open", true, true), SL_NOT_FOUND);
    assert_non_null(strstr(w.err.text, "no such path"));
    stop();
}

static int connect_only(void)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(grid_port_number(w.port)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* They never shake hands; a member that comes after them is let in before they time out. */
static void a_crowd_of_strangers_keeps_no_member_out(void **state)
{
    static int crowd[GRID_PORT_CONNECTIONS_MAX + 200];
    const size_t n = sizeof crowd / sizeof *crowd;
    struct rlimit limit;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 3 * n) skip(); /* the server has raised it as far as it goes */
    put_member(&w.grid.node, false);
    start();
    for (size_t i = 0; i < n; i++) crowd[i] = connect_only();
    assert_int_equal(ask("/members", true, false), SL_OK);
    assert_string_equal(w.body.data, "members");
    struct pollfd first = {.fd = crowd[0], .events = POLLRDHUP};
    struct pollfd last = {.fd = crowd[n - 1], .events = POLLRDHUP};
    assert_int_equal(poll(&first, 1, 10000), 1);
    assert_int_equal(poll(&last, 1, 0), 0);
    stop();
    for (size_t i = 0; i < n; i++) close(crowd[i]);
}

static void there_is_room_for_so_many_routes(void **state)
{
    (void)state;
    for (int i = 0; i < GRID_PORT_ROUTES_MAX; i++)
        assert_int_equal(grid_port_route(w.port, HTTP_METHOD_GET, "/x", true, say, ""), SL_OK);
    assert_int_equal(grid_port_route(w.port, HTTP_METHOD_GET, "/x", true, say, ""), SL_LIMIT);
}

static void a_port_that_is_taken_is_refused(void **state)
{
    struct grid_port *second;
    struct sl_err err = SL_ERR_INIT;
    struct grid_port_cfg cfg = port_cfg();
    (void)state;
    assert_int_equal(grid_port_number(w.port), 0);
    assert_int_equal(grid_port_listen(w.port, &err), SL_OK);
    cfg.port = grid_port_number(w.port);
    assert_int_equal(grid_port_create(&cfg, &second, &err), SL_OK);
    assert_int_equal(grid_port_listen(second, &err), SL_EXISTS);
    assert_non_null(strstr(err.text, "the grid port"));
    grid_port_destroy(second);
}

static void without_a_number_the_first_free_one_is_taken(void **state)
{
    struct grid_port *v[2];
    struct sl_err err = SL_ERR_INIT;
    struct grid_port_cfg cfg = port_cfg();
    (void)state;
    cfg.any_port = false;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(grid_port_create(&cfg, &v[i], &err), SL_OK);
        if (grid_port_listen(v[i], &err) != SL_OK) fail_msg("%s", err.text);
        assert_in_range(grid_port_number(v[i]), GRID_PORT_FIRST, GRID_PORT_LAST);
    }
    assert_int_not_equal(grid_port_number(v[0]), grid_port_number(v[1]));
    for (int i = 0; i < 2; i++) grid_port_destroy(v[i]);
}

static void a_renewed_certificate_is_shown(void **state)
{
    struct test_member renewed;
    (void)state;
    put_member(&w.grid.node, false);
    start();
    test_member_init(&renewed, w.grid.root_key, w.grid.root.data, true, sl_unix_time_ms() / 1000);
    test_member_write(&renewed, "gateway");
    stop();
    assert_int_equal(grid_port_reload(w.port, NULL), SL_OK);
    assert_int_equal(pthread_create(&w.thread, NULL, run, w.loop), 0);
    memcpy(w.grid.gateway.id, renewed.id, sizeof renewed.id); /* which `ask` insists on */
    assert_int_equal(ask("/members", true, false), SL_OK);
    stop();
    test_member_done(&renewed);
}

static void without_memory_nothing_stays(void **state)
{
    const struct grid_port_cfg cfg = port_cfg();
    sl_status status = SL_NOMEM;
    (void)state;
    const uint64_t before = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct grid_port *port = NULL;
        sl_mem_fail_at(n, false);
        status = grid_port_create(&cfg, &port, NULL);
        sl_mem_fail_at(0, false);
        assert_int_equal(status == SL_OK, port != NULL);
        grid_port_destroy(port);
        assert_int_equal(sl_mem_live(), before);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_member_uses_all_routes),
        TEST(without_a_certificate_only_open_routes_are_there),
        TEST(one_who_is_not_known_yet_is_told_to_come_again),
        TEST(one_who_was_removed_is_refused),
        TEST(other_paths_and_methods_are_not_found),
        TEST(a_crowd_of_strangers_keeps_no_member_out),
        TEST(there_is_room_for_so_many_routes),
        TEST(a_port_that_is_taken_is_refused),
        TEST(without_a_number_the_first_free_one_is_taken),
        TEST(a_renewed_certificate_is_shown),
        TEST(without_memory_nothing_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
