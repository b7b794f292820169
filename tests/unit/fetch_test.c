/* Models come from other members, over TLS between certificates of one grid: from one that has
 * them, from the next when one fails, and not from strangers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/loop.h"
#include "support/blob_giver.h"
#include "support/temp_dir.h"
#include "support/no_memory.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#define MODEL STARLANE_ROOT "/models/starling.gguf"
#define NAME "tale:1"
#define WAIT_S 60

struct bench {
    struct test_grid grid;
    struct loop *loop;
    struct store *store;
    struct fetch *fetch;
    int n_done;
    sl_status status;
    char message[512];
};

static void on_done(void *ctx, const char *name, const struct sl_err *why)
{
    struct bench *b = ctx;
    assert_string_equal(name, NAME);
    b->n_done++;
    b->status = why ? why->status : SL_OK;
    snprintf(b->message, sizeof b->message, "%s", why ? why->text : "");
}

static void bench_start(struct bench *b)
{
    char cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX], root[TEMP_PATH_MAX];
    struct sl_err err = SL_ERR_INIT;
    *b = (struct bench){0};
    setenv("STARLANE_OLLAMA_REGISTRY", "http://127.0.0.1:9", 1); /* nobody is there */
    blob_grid_init(&b->grid);
    snprintf(root, sizeof root, "%s", temp_path("root.pem"));
    snprintf(cert, sizeof cert, "%s", temp_path("me.cert.pem"));
    snprintf(key, sizeof key, "%s", temp_path("me.key.pem"));
    assert_int_equal(loop_create(0, &b->loop, &err), SL_OK);
    assert_int_equal(store_open(temp_path("mine"), &b->store, NULL), SL_OK);
    const struct fetch_cfg cfg = {.loop = b->loop,
                                  .store = b->store,
                                  .ca_path = root,
                                  .cert_path = cert,
                                  .key_path = key,
                                  .on_done = on_done,
                                  .ctx = b};
    assert_int_equal(fetch_create(&cfg, &b->fetch, &err), SL_OK);
}

static void bench_stop(struct bench *b)
{
    fetch_destroy(b->fetch);
    store_close(b->store);
    loop_destroy(b->loop);
    test_grid_done(&b->grid);
}

static void wait_done(struct bench *b, int n)
{
    int64_t until = sl_now_ns() + WAIT_S * INT64_C(1000000000);
    while (b->n_done < n) {
        assert_true(sl_now_ns() < until);
        assert_int_equal(loop_turn(b->loop, 5000000, NULL), SL_OK);
    }
}

static void assert_here(struct bench *b, const char *digest)
{
    struct store_model model;
    assert_int_equal(store_find(b->store, NAME, &model, NULL), SL_OK);
    assert_string_equal(model.digest, digest);
    store_model_done(&model);
}

static void count(void *ctx, const struct fetch_progress *progress)
{
    assert_string_equal(progress->name, NAME);
    ++*(int *)ctx;
}

static void test_from_a_member(void **state)
{
    struct bench b;
    struct blob_giver giver;
    char digest[STORE_DIGEST_SIZE];
    struct fetch_stats stats;
    int n = 0;
    (void)state;
    bench_start(&b);
    blob_giver_start(&giver, b.loop, &b.grid.gateway, "g");
    blob_giver_import(&giver, MODEL, NAME, digest);
    assert_int_equal(fetch_start(b.fetch, NAME, digest, &giver.source, 1, NULL), SL_OK);
    assert_int_equal(fetch_start(b.fetch, NAME, digest, &giver.source, 1, NULL), SL_OK);
    fetch_each(b.fetch, count, &n);
    assert_int_equal(n, 1);
    wait_done(&b, 1);
    assert_string_equal(b.message, "");
    assert_here(&b, digest);
    assert_string_equal(giver.last_peer, b.grid.node.id);
    fetch_stats_get(b.fetch, &stats);
    assert_int_equal(stats.n_from_members, 1);
    assert_true(stats.bytes > 1000000);
    blob_giver_stop(&giver);
    bench_stop(&b);
}

static void test_the_next_goes_on(void **state)
{
    struct bench b;
    struct blob_giver giver, other;
    struct test_member third;
    char digest[STORE_DIGEST_SIZE];
    (void)state;
    bench_start(&b);
    blob_giver_start(&giver, b.loop, &b.grid.gateway, "g");
    test_member_init(&third, b.grid.gateway.key, b.grid.gateway.chain.data, false,
                     sl_unix_time_ms() / 1000);
    blob_giver_start(&other, b.loop, &third, "t");
    giver.n_left = other.n_left = 2; /* whoever is first gives the manifest and stops there */
    const struct fetch_source sources[] = {giver.source, other.source};
    blob_giver_import(&giver, MODEL, NAME, digest);
    blob_giver_import(&other, MODEL, NAME, digest);
    assert_int_equal(fetch_start(b.fetch, NAME, digest, sources, 2, NULL), SL_OK);
    while (giver.n_left != 1 && other.n_left != 1) /* the first has been asked once */
        assert_int_equal(loop_turn(b.loop, 5000000, NULL), SL_OK);
    if (giver.n_left == 1)
        other.n_left = 0;
    else
        giver.n_left = 0;
    wait_done(&b, 1);
    assert_string_equal(b.message, "");
    assert_here(&b, digest);
    blob_giver_stop(&giver);
    blob_giver_stop(&other);
    test_member_done(&third);
    bench_stop(&b);
}

static void test_not_from_strangers(void **state)
{
    struct bench b;
    struct blob_giver giver;
    struct test_grid elsewhere;
    char digest[STORE_DIGEST_SIZE];
    (void)state;
    bench_start(&b);
    test_grid_init(&elsewhere, sl_unix_time_ms() / 1000);
    blob_giver_start(&giver, b.loop, &elsewhere.node, "stranger");
    blob_giver_import(&giver, MODEL, NAME, digest);
    assert_int_equal(fetch_start(b.fetch, NAME, digest, &giver.source, 1, NULL), SL_OK);
    wait_done(&b, 1);
    assert_int_not_equal(b.status, SL_OK);
    assert_string_equal(giver.last_peer, "");
    blob_giver_stop(&giver);
    /* a member, but not the one that was named */
    blob_giver_start(&giver, b.loop, &b.grid.gateway, "g");
    blob_giver_import(&giver, MODEL, NAME, digest);
    snprintf(giver.source.id, sizeof giver.source.id, "%s", b.grid.node.id);
    assert_int_equal(fetch_start(b.fetch, NAME, digest, &giver.source, 1, NULL), SL_OK);
    wait_done(&b, 2);
    assert_int_not_equal(b.status, SL_OK);
    blob_giver_stop(&giver);
    test_grid_done(&elsewhere);
    bench_stop(&b);
}

static void test_nobody_has_it(void **state)
{
    struct bench b;
    struct fetch_source nobody = {.id = "naaaaaaaaaaaaa", .address = "127.0.0.1:1"};
    (void)state;
    bench_start(&b);
    assert_int_equal(fetch_start(b.fetch, NAME, "", &nobody, 1, NULL), SL_OK);
    wait_done(&b, 1);
    assert_int_equal(b.status, SL_UNAVAILABLE);
    assert_int_equal(fetch_start(b.fetch, NAME, "", &nobody, 1, NULL), SL_OK);
    fetch_cancel(b.fetch, NAME);
    wait_done(&b, 2);
    assert_int_not_equal(b.status, SL_OK);
    assert_int_equal(fetch_start(b.fetch, "../x", "", &nobody, 1, NULL), SL_INVALID);
    bench_stop(&b);
}

/* A socket that listens is nearer than one that does not, and than no address at all. */
static void test_distance(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    struct fetch_source sources[3] = {{.id = "closed", .address = "127.0.0.1:1"},
                                      {.id = "nonsense", .address = "nowhere"}};
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    snprintf(sources[2].id, sizeof sources[2].id, "open");
    snprintf(sources[2].address, sizeof sources[2].address, "127.0.0.1:%u",
             ntohs(address.sin_port));
    assert_int_equal(fetch_sort_by_distance(sources, 3, 1000), 1);
    assert_string_equal(sources[0].id, "open");
    close(fd);
}

static sl_status create_once(void *ctx)
{
    struct fetch *fetch;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = fetch_create(ctx, &fetch, &err);
    if (status == SL_OK) fetch_destroy(fetch);
    return status;
}

static void test_without_memory(void **state)
{
    struct fetch_cfg cfg = {0};
    (void)state;
    no_memory_each(create_once, &cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_from_a_member), TEST(test_the_next_goes_on), TEST(test_not_from_strangers),
        TEST(test_nobody_has_it), TEST(test_distance),         TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
