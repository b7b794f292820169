/* A store's models over HTTP, as members of a grid get them from each other: ranges, refusals, a
 * pull that moves to another member in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "grid/blobs.h"
#include "grid/chunk_list.h"
#include "grid/pull.h"
#include "grid/store_int.h"
#include "support/http_fixture.h"
#include "support/temp_dir.h"
#include "support/no_memory.h"
#include <pthread.h>
#include <stdatomic.h>

#define MODEL STARLANE_ROOT "/models/starling.gguf"
#define NAME "tale:1"
#define CHUNK 65536

struct member {
    struct store *store;
    struct blobs *blobs;
    bool allows;
    int n_left; /* requests until it allows nothing more; 0: no limit */
};

static void on_request(void *ctx, struct http_exchange *x)
{
    struct member *member = ctx;
    if (member->n_left && --member->n_left == 0) member->allows = false;
    if (!member->allows)
        http_respond(x, 403, "text/plain", "no", 2);
    else if (!blobs_handle(member->blobs, x))
        http_respond(x, 404, NULL, NULL, 0);
}

static struct store *open_store(const char *home)
{
    struct store *store;
    assert_int_equal(store_open(temp_path(home), &store, NULL), SL_OK);
    return store;
}

static void member_start(struct member *member, struct http_fixture *f, const char *home)
{
    struct http_server_cfg cfg = {.on_request = on_request, .ctx = member};
    struct sl_err err = SL_ERR_INIT;
    fixture_start(f, &cfg);
    struct blobs_cfg blobs_cfg = {.loop = f->loop};
    *member = (struct member){.store = open_store(home), .allows = true};
    blobs_cfg.store = member->store;
    assert_int_equal(blobs_create(&blobs_cfg, &member->blobs, &err), SL_OK);
}

static void member_stop(struct member *member, struct http_fixture *f)
{
    blobs_destroy(member->blobs);
    store_close(member->store);
    fixture_stop(f);
}

static void import(struct store *store)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(store_import_file(store, MODEL, NAME, &err), SL_OK);
}

/* A member that has the model. */
static void member_start_with(struct member *member, struct http_fixture *f,
                              struct store_model *model)
{
    struct sl_err err = SL_ERR_INIT;
    member_start(member, f, "a");
    import(member->store);
    assert_int_equal(store_find(member->store, NAME, model, &err), SL_OK);
}

/* A pull on a thread of its own, as it blocks. */
struct puller {
    struct store *store;
    struct pull_request request;
    struct pull_peer peer;
    char base[64];
    atomic_bool ended;
    uint64_t resumed;
    sl_status status;
    struct sl_err err;
    pthread_t thread;
};

static void on_progress(void *ctx, const struct pull_progress *progress)
{
    struct puller *puller = ctx;
    if (progress->resumed) puller->resumed = progress->resumed;
}

static void *pull(void *arg)
{
    struct puller *puller = arg;
    puller->status = pull_run(puller->store, &puller->request, &puller->err);
    atomic_store(&puller->ended, true);
    return NULL;
}

static void pull_from(struct puller *puller, struct http_fixture *f, struct store *store,
                      const char *digest)
{
    snprintf(puller->base, sizeof puller->base, "http://127.0.0.1:%u", f->port);
    puller->store = store;
    puller->peer = (struct pull_peer){.base = puller->base, .digest = digest};
    pull_request_init(&puller->request);
    puller->request.name = NAME;
    puller->request.peer = &puller->peer;
    puller->request.chunk_bytes = CHUNK;
    puller->request.n_retries = 0;
    puller->request.progress = on_progress;
    puller->request.ctx = puller;
    puller->err = (struct sl_err)SL_ERR_INIT;
    atomic_init(&puller->ended, false);
    assert_int_equal(pthread_create(&puller->thread, NULL, pull, puller), 0);
    FIXTURE_UNTIL(f, atomic_load(&puller->ended));
    pthread_join(puller->thread, NULL);
}

static void test_ranges(void **state)
{
    static const struct {
        const char *text;
        bool ok, partial;
        uint64_t begin, end;
    } rows[] = {
        {NULL, true, false, 0, 100},
        {"bytes=0-9", true, true, 0, 10},
        {"bytes=90-", true, true, 90, 100},
        {"bytes=90-200", true, true, 90, 100},
        {"bytes=-7", true, true, 93, 100},
        {"bytes=-700", true, true, 0, 100},
        {"bytes=99-99", true, true, 99, 100},
        {"bytes=100-", false, true, 0, 0},
        {"bytes=-0", false, true, 0, 0},
        {"bytes=9-3", true, false, 0, 100},
        {"bytes=-", true, false, 0, 100},
        {"bytes=1-2,5-6", true, false, 0, 100},
        {"bytes=1-2x", true, false, 0, 100},
        {"lines=1-2", true, false, 0, 100},
        {"bytes=99999999999999999999-", true, false, 0, 100},
        {"", true, false, 0, 100},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t begin, end;
        bool partial;
        bool ok = blobs_range_parse(rows[i].text, 100, &begin, &end, &partial);
        assert_int_equal(ok, rows[i].ok);
        assert_int_equal(partial, rows[i].partial);
        if (!ok) continue;
        assert_int_equal(begin, rows[i].begin);
        assert_int_equal(end, rows[i].end);
    }
    uint64_t begin, end;
    bool partial;
    assert_false(blobs_range_parse("bytes=0-", 0, &begin, &end, &partial));
}

static void ask(struct http_fixture *f, const char *head, const char *expect)
{
    struct http_peer peer;
    peer_connect(f, &peer);
    peer_send_str(f, &peer, head);
    peer_expect(f, &peer, expect);
    peer_done(&peer);
}

static void test_what_is_not_given(void **state)
{
    struct http_fixture f;
    struct member member;
    struct store_model model;
    char head[256];
    (void)state;
    member_start_with(&member, &f, &model);
    ask(&f, "GET /grid/v1/blobs/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", " 400 ");
    ask(&f, "GET /grid/v1/blobs/zz HTTP/1.1\r\nHost: x\r\n\r\n", " 400 ");
    ask(&f, "GET /grid/v1/models/%2e%2e%2fx HTTP/1.1\r\nHost: x\r\n\r\n", " 400 ");
    ask(&f, "GET /grid/v1/models/nobody HTTP/1.1\r\nHost: x\r\n\r\n", " 404 ");
    ask(&f, "GET /grid/v1/models/starling HTTP/1.1\r\nHost: x\r\n\r\n", " 404 ");
    ask(&f, "GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", " 404 ");
    snprintf(head, sizeof head, "GET /grid/v1/blobs/%064d HTTP/1.1\r\nHost: x\r\n\r\n", 7);
    ask(&f, head, " 404 ");
    snprintf(head, sizeof head,
             "GET /grid/v1/blobs/%s HTTP/1.1\r\nHost: x\r\nRange: bytes=99999999999-\r\n\r\n",
             model.digest);
    ask(&f, head, "bytes */");
    snprintf(head, sizeof head,
             "GET /grid/v1/blobs/%s HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n", model.digest);
    ask(&f, head, "GGUF");
    struct blobs_stats stats;
    blobs_stats_get(member.blobs, &stats);
    assert_int_equal(stats.n_refused, 0);
    assert_int_equal(stats.n_sent, 1);
    assert_int_equal(stats.bytes_sent, 4);
    store_model_done(&model);
    member_stop(&member, &f);
}

/* The list of a blob's chunks: the same for all who ask, and none of what is not here. */
static void test_chunks(void **state)
{
    struct http_fixture f;
    struct member member;
    struct http_peer peers[3];
    struct store_model model;
    struct chunk_list lists[3];
    char head[256];
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    member_start_with(&member, &f, &model);
    snprintf(head, sizeof head,
             "GET /grid/v1/blobs/%s/chunks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
             model.digest);
    for (int i = 0; i < 3; i++) {
        peer_connect(&f, &peers[i]);
        peer_send_str(&f, &peers[i], head);
    }
    for (int i = 0; i < 3; i++) {
        peer_expect_close(&f, &peers[i]);
        const char *body = strstr(peers[i].got, "\r\n\r\n") + 4;
        size_t n = peers[i].len - (size_t)(body - peers[i].got);
        assert_int_equal(chunk_list_parse(body, n, &lists[i], &err), SL_OK);
        assert_int_equal(lists[i].size, model.size);
        assert_memory_equal(lists[i].id, lists[0].id, SHA256_BYTES);
        peer_done(&peers[i]);
    }
    for (int i = 0; i < 3; i++) chunk_list_done(&lists[i]);
    snprintf(head, sizeof head, "GET /grid/v1/blobs/%064d/chunks HTTP/1.1\r\nHost: x\r\n\r\n", 7);
    ask(&f, head, " 404 ");
    snprintf(head, sizeof head, "GET /grid/v1/blobs/%s/chunk HTTP/1.1\r\nHost: x\r\n\r\n",
             model.digest);
    ask(&f, head, " 400 ");
    store_model_done(&model);
    member_stop(&member, &f);
}

/* Who asks goes away while its list is made; the server goes before it has one. */
static void test_chunks_are_not_waited_for(void **state)
{
    struct http_fixture f;
    struct member member;
    struct http_peer peer;
    struct store_model model;
    char head[256];
    (void)state;
    member_start_with(&member, &f, &model);
    snprintf(head, sizeof head, "GET /grid/v1/blobs/%s/chunks HTTP/1.1\r\nHost: x\r\n\r\n",
             model.digest);
    for (int i = 0; i < 3; i++) {
        peer_connect(&f, &peer);
        peer_send_str(&f, &peer, head);
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_requests == (uint64_t)i + 1);
        if (i < 2) peer_done(&peer);
    }
    store_model_done(&model);
    member_stop(&member, &f);
    peer_done(&peer);
}

static void test_pulls_whole(void **state)
{
    struct http_fixture f;
    struct member member;
    struct puller puller = {0};
    struct store_model there, here;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    member_start_with(&member, &f, &there);
    struct store *mine = open_store("b");
    pull_from(&puller, &f, mine, there.digest);
    assert_int_equal(puller.status, SL_OK);
    assert_int_equal(store_find(mine, NAME, &here, &err), SL_OK);
    assert_string_equal(here.digest, there.digest);
    assert_string_equal(here.details.family, there.details.family);
    store_model_done(&here);
    assert_int_equal(store_rm(mine, NAME, NULL, &err), SL_OK);
    struct puller other = {0};
    pull_from(&other, &f, mine, "0000000000000000000000000000000000000000000000000000000000000000");
    assert_int_equal(other.status, SL_NOT_FOUND);
    assert_int_equal(store_find(mine, NAME, &here, &err), SL_NOT_FOUND);
    store_model_done(&there);
    store_close(mine);
    member_stop(&member, &f);
}

static void test_goes_on_at_another(void **state)
{
    struct http_fixture first, second;
    struct member a, b;
    struct puller puller = {0}, again = {0};
    struct store_model there;
    char digest[STORE_DIGEST_SIZE];
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    struct store *mine = open_store("c");
    member_start(&a, &first, "a");
    import(a.store);
    assert_int_equal(store_find(a.store, NAME, &there, &err), SL_OK);
    a.n_left = 30;
    memcpy(digest, there.digest, sizeof digest);
    store_model_done(&there);
    pull_from(&puller, &first, mine, digest);
    assert_int_equal(puller.status, SL_DENIED);
    member_stop(&a, &first);
    member_start(&b, &second, "b");
    import(b.store);
    pull_from(&again, &second, mine, digest);
    assert_int_equal(again.status, SL_OK);
    assert_true(again.resumed > 0);
    member_stop(&b, &second);
    store_close(mine);
}

static void test_is_cut_while_sending(void **state)
{
    struct http_fixture f;
    struct member member;
    struct http_peer peer;
    struct store_model model;
    char head[256];
    (void)state;
    member_start_with(&member, &f, &model);
    snprintf(head, sizeof head, "GET /grid/v1/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", model.digest);
    for (int i = 0; i < 3; i++) { /* the client goes first, then the server */
        peer_connect(&f, &peer);
        peer_send_str(&f, &peer, head);
        peer_expect(&f, &peer, "GGUF");
        peer_done(&peer);
    }
    struct blobs_stats stats;
    FIXTURE_UNTIL(&f, (blobs_stats_get(member.blobs, &stats), stats.n_transfers == 0));
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, head);
    peer_expect(&f, &peer, "GGUF");
    store_model_done(&model);
    member_stop(&member, &f);
    peer_done(&peer);
}

static sl_status create_once(void *ctx)
{
    struct blobs *blobs;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = blobs_create(ctx, &blobs, &err);
    if (status == SL_OK) blobs_destroy(blobs);
    return status;
}

static void test_without_memory(void **state)
{
    struct blobs_cfg cfg = {0};
    (void)state;
    no_memory_each(create_once, &cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ranges),
        TEST(test_what_is_not_given),
        TEST(test_chunks),
        TEST(test_chunks_are_not_waited_for),
        TEST(test_pulls_whole),
        TEST(test_goes_on_at_another),
        TEST(test_is_cut_while_sending),
        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
