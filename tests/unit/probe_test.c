/* probe_test.c: the direct way between members over real TLS on loopback: what is measured, and
 * when it is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "grid/probe.h"
#include "net/stream.h"
#include "net/tls.h"
#include "support/stage_fixture.h"

static struct {
    struct stage_fixture f;
    struct probes *probes[2];
    struct probe_result result;
    struct sl_err why;
    int n_done;
    bool good;
} w;

static int setup(void **state)
{
    assert_int_equal(temp_dir_setup(state), 0);
    memset(&w, 0, sizeof w);
    stage_fixture_init(&w.f);
    for (size_t i = 0; i < 2; i++) {
        const struct probes_cfg cfg = {.loop = w.f.loop,
                                       .port = w.f.members[i].port,
                                       .cert = w.f.members[i].cert,
                                       .key = w.f.members[i].key,
                                       .ca = w.f.root};
        struct sl_err err = SL_ERR_INIT;
        assert_int_equal(probes_create(&cfg, &w.probes[i], &err), SL_OK);
    }
    return 0;
}

static int teardown(void **state)
{
    probes_destroy(w.probes[0]);
    probes_destroy(w.probes[1]);
    stage_fixture_done(&w.f);
    return temp_dir_teardown(state);
}

static void on_done(void *ctx, const struct probe_result *result, const struct sl_err *why)
{
    (void)ctx;
    w.n_done++;
    w.good = result != NULL;
    if (result) w.result = *result;
    if (why) w.why = *why;
}

static sl_status measure(const char *member, const char *address, bool wide)
{
    struct sl_err err = SL_ERR_INIT;
    return probes_measure(w.probes[0], member, address, wide, on_done, NULL, &err);
}

static void test_a_way_is_measured(void **state)
{
    const char *id = stage_fixture_id(&w.f, 1), *address = w.f.members[1].address;
    (void)state;
    assert_int_equal(measure(id, address, false), SL_OK);
    assert_int_equal(measure(id, address, false), SL_BUSY);
    assert_int_equal(w.n_done, 0); /* not from within */
    STAGE_FIXTURE_UNTIL(&w.f, w.n_done);
    assert_true(w.good);
    assert_true(w.result.rtt_s > 0);
    assert_true(w.result.bytes_per_s == 0);
    assert_int_equal(measure(id, address, true), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.n_done == 2);
    assert_true(w.good);
    assert_true(w.result.bytes_per_s > 0);
}

static void test_another_member_is_not_measured(void **state)
{
    (void)state;
    assert_int_equal(measure(stage_fixture_id(&w.f, 2), w.f.members[1].address, true), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.n_done);
    assert_false(w.good);
    assert_int_equal(w.why.status, SL_DENIED);
    /* And then the right one is. */
    assert_int_equal(measure(stage_fixture_id(&w.f, 1), w.f.members[1].address, false), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, w.n_done == 2);
    assert_true(w.good);
}

static void test_nobody_there(void **state)
{
    (void)state;
    assert_int_not_equal(measure(stage_fixture_id(&w.f, 1), "no address", false), SL_OK);
    assert_int_equal(w.n_done, 0);
    if (measure(stage_fixture_id(&w.f, 1), "127.0.0.1:1", false) != SL_OK) return;
    STAGE_FIXTURE_UNTIL(&w.f, w.n_done);
    assert_false(w.good);
}

/* --- who asks too much --- */

static struct {
    struct stream *stream;
    bool open, ended;
    size_t n_answers;
} rude;

static void rude_open(void *ctx)
{
    (void)ctx;
    rude.open = true;
}

static void rude_bytes(void *ctx, const void *bytes, size_t n)
{
    (void)ctx;
    (void)bytes;
    rude.n_answers += n;
}

static void rude_end(void *ctx, const struct sl_err *why)
{
    (void)ctx;
    (void)why;
    rude.ended = true;
}

static void test_too_much_ends_it(void **state)
{
    static const struct stream_callbacks callbacks = {rude_open, rude_bytes, rude_end};
    static const unsigned char two_empty[] = {0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char too_many[] = {0xff, 0xff, 0xff, 0xff};
    struct tls_client *tls;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    memset(&rude, 0, sizeof rude);
    assert_int_equal(
        tls_client_create(w.f.members[0].cert, w.f.members[0].key, w.f.root, &tls, &err), SL_OK);
    const struct stream_connect connect = {.address = w.f.members[1].address,
                                           .tls = tls,
                                           .peer_id = stage_fixture_id(&w.f, 1),
                                           .path = PROBE_PATH,
                                           .protocol = PROBE_PROTOCOL,
                                           .timeout_ns = PROBE_TIMEOUT_NS,
                                           .unsent_bytes_max = 4096};
    assert_int_equal(stream_connect(w.f.loop, &connect, &callbacks, NULL, &rude.stream, &err),
                     SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, rude.open);
    assert_int_equal(stream_write(rude.stream, two_empty, sizeof two_empty), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, rude.n_answers == 2);
    assert_int_equal(stream_write(rude.stream, too_many, sizeof too_many), SL_OK);
    STAGE_FIXTURE_UNTIL(&w.f, rude.ended);
    assert_int_equal(rude.n_answers, 2);
    stream_destroy(rude.stream);
    tls_client_destroy(tls);
}

static void test_creation_without_memory(void **state)
{
    uint64_t live = sl_mem_live();
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        const struct probes_cfg cfg = {.loop = w.f.loop,
                                       .cert = w.f.members[0].cert,
                                       .key = w.f.members[0].key,
                                       .ca = w.f.root};
        struct probes *probes = NULL;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(nth, false);
        sl_status status = probes_create(&cfg, &probes, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (status == SL_OK) probes_destroy(probes);
        assert_int_equal(sl_mem_live(), live);
        if (status == SL_OK && !hit) break;
        if (status != SL_OK) assert_null(probes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_way_is_measured, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_member_is_not_measured, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_much_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_creation_without_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
