/* http_trust_test.c: who may talk to whom over the grid's port: the HTTP client and server over TLS
 * with certificates on both sides, good ones and all kinds of others. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http_client.h"
#include "net/tls.h"
#include "support/forged_cert.h"
#include "support/member_server.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"

static struct test_grid grid, other_grid;
static char root_path[TEMP_PATH_MAX], node_cert[TEMP_PATH_MAX], node_key[TEMP_PATH_MAX];
static char gateway_cert[TEMP_PATH_MAX], gateway_key[TEMP_PATH_MAX];
static char stranger_cert[TEMP_PATH_MAX], stranger_key[TEMP_PATH_MAX];
static struct http_client *client;

static void keep_path(char out[TEMP_PATH_MAX], const char *name)
{
    snprintf(out, TEMP_PATH_MAX, "%s", temp_path(name));
}

static int make_grids(void **state)
{
    int64_t now_s = sl_unix_time_ms() / 1000;
    if (temp_dir_setup(state) != 0) return -1;
    test_grid_init(&grid, now_s);
    test_grid_init(&other_grid, now_s);
    test_member_write(&grid.node, "node");
    test_member_write(&grid.gateway, "gateway");
    test_member_write(&other_grid.node, "stranger");
    keep_path(root_path, "ca.pem");
    keep_path(node_cert, "node.cert.pem");
    keep_path(node_key, "node.key.pem");
    keep_path(gateway_cert, "gateway.cert.pem");
    keep_path(gateway_key, "gateway.key.pem");
    keep_path(stranger_cert, "stranger.cert.pem");
    keep_path(stranger_key, "stranger.key.pem");
    assert_int_equal(pki_file_write(root_path, grid.root.data, grid.root.len, NULL), SL_OK);
    return http_client_create(&client, NULL) == SL_OK ? 0 : -1;
}

static int end_grids(void **state)
{
    http_client_destroy(client);
    test_grid_done(&grid);
    test_grid_done(&other_grid);
    return temp_dir_teardown(state);
}

static struct http_trust as_node(const char *member_id)
{
    return (struct http_trust){.root_path = root_path,
                               .cert_path = node_cert,
                               .key_path = node_key,
                               .member_id = member_id};
}

/* Fetches and compares what came, where something should; each time over a new connection. */
static sl_status fetch(const char *url, struct http_trust trust, const char *expected)
{
    struct http_client *own;
    struct http_head head;
    struct sl_buf body;
    struct sl_err err = SL_ERR_INIT;
    const struct http_request request = {.url = url, .trust = &trust};
    sl_buf_init(&body, PKI_TEXT_MAX);
    assert_int_equal(http_client_create(&own, NULL), SL_OK);
    sl_status status = http_client_fetch(own, &request, NULL, &head, &body, &err);
    if (status == SL_OK)
        assert_string_equal(body.data, expected);
    else
        assert_true(err.text[0]);
    http_client_destroy(own);
    sl_buf_done(&body);
    return status;
}

/* --- as it should be --- */

static void members_see_who_asks(void **state)
{
    (void)state;
    char expected[64];
    struct member_server *server = member_server_start(gateway_cert, gateway_key, root_path);
    const char *url = member_server_url(server, "/who");
    snprintf(expected, sizeof expected, "%s node", grid.node.id);
    assert_int_equal(fetch(url, as_node(grid.gateway.id), expected), SL_OK);
    struct http_trust trust = as_node(grid.gateway.id);
    trust.cert_path = gateway_cert;
    trust.key_path = gateway_key;
    snprintf(expected, sizeof expected, "%s gateway", grid.gateway.id);
    assert_int_equal(fetch(url, trust, expected), SL_OK);
    trust.cert_path = trust.key_path = NULL;
    assert_int_equal(fetch(url, trust, "nobody"), SL_OK);
    struct member_server_counts counts = member_server_stop(server);
    assert_int_equal(counts.n_handshakes_failed, 0);
    assert_int_equal(counts.n_requests, 3);
}

static void newcomers_know_the_grid_by_its_pin(void **state)
{
    (void)state;
    struct http_head head;
    struct sl_buf root, answer;
    struct sl_err err = SL_ERR_INIT;
    unsigned char pin[SHA256_BYTES], wrong[SHA256_BYTES];
    struct member_server *server = member_server_start(gateway_cert, gateway_key, root_path);
    const struct http_trust nobody = {.unverified = true};
    struct http_request request = {.url = member_server_url(server, "/root"), .trust = &nobody};
    sl_buf_init(&root, PKI_TEXT_MAX);
    sl_buf_init(&answer, PKI_TEXT_MAX);
    assert_int_equal(pki_root_pin(grid.root.data, pin, NULL), SL_OK);
    assert_int_equal(pki_root_pin(other_grid.root.data, wrong, NULL), SL_OK);
    assert_int_equal(http_client_fetch(client, &request, NULL, &head, &root, &err), SL_OK);
    assert_int_equal(pki_pin_check(root.data, wrong, NULL), SL_DENIED);
    assert_int_equal(pki_pin_check(root.data, pin, NULL), SL_OK);
    /* The unverified connection is not used again for what is secret. */
    const struct http_trust gateway = {.root_text = root.data, .any_gateway = true};
    request = (struct http_request){.url = member_server_url(server, "/echo"),
                                    .trust = &gateway,
                                    .body = "secret",
                                    .n_body = 6};
    assert_int_equal(http_client_fetch(client, &request, NULL, &head, &answer, &err), SL_OK);
    assert_string_equal(answer.data, "secret");
    sl_buf_done(&root);
    sl_buf_done(&answer);
    assert_int_equal(member_server_stop(server).n_connections, 2);
}

static void a_connection_is_shared_by_requests_to_one_member(void **state)
{
    (void)state;
    struct http_head head;
    struct sl_buf body;
    struct sl_err err = SL_ERR_INIT;
    struct member_server *server = member_server_start(gateway_cert, gateway_key, root_path);
    struct http_trust trust = as_node(grid.gateway.id);
    const struct http_request request = {.url = member_server_url(server, "/who"), .trust = &trust};
    sl_buf_init(&body, 1000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(http_client_fetch(client, &request, NULL, &head, &body, &err), SL_OK);
    trust.member_id = grid.node.id; /* at the same address */
    assert_int_equal(http_client_fetch(client, &request, NULL, &head, &body, &err), SL_DENIED);
    sl_buf_done(&body);
    struct member_server_counts counts = member_server_stop(server);
    assert_int_equal(counts.n_connections, 2);
    assert_int_equal(counts.n_requests, 3);
}

/* --- servers that are not whom the client wants --- */

static void another_member_is_not_taken_for_the_one_asked_for(void **state)
{
    (void)state;
    struct member_server *server = member_server_start(node_cert, node_key, root_path);
    const char *url = member_server_url(server, "/who");
    assert_int_equal(fetch(url, as_node(grid.gateway.id), ""), SL_DENIED);
    struct http_trust trust = {.root_path = root_path, .any_gateway = true};
    assert_int_equal(fetch(url, trust, ""), SL_DENIED); /* a node is no gateway */
    trust = (struct http_trust){.root_path = root_path};
    assert_int_equal(fetch(url, trust, ""), SL_DENIED); /* by its address it is nobody */
    assert_int_equal(fetch(url, (struct http_trust){.cert_path = NULL}, ""), SL_DENIED);
    assert_int_equal(member_server_stop(server).n_requests, 0);
}

static void another_grids_member_is_refused(void **state)
{
    (void)state;
    struct member_server *server = member_server_start(stranger_cert, stranger_key, root_path);
    const char *url = member_server_url(server, "/who");
    assert_int_equal(fetch(url, as_node(other_grid.node.id), ""), SL_DENIED);
    const struct http_trust text = {.root_text = grid.root.data, .any_gateway = true};
    assert_int_equal(fetch(url, text, ""), SL_DENIED);
    const struct http_trust own = {.root_text = other_grid.root.data,
                                   .member_id = other_grid.node.id};
    assert_int_equal(fetch(url, own, "nobody"), SL_OK);
    assert_int_equal(member_server_stop(server).n_requests, 1);
}

/* A gateway's key signs a certificate with the node's name for another key. */
static void write_forged(const struct forgery *forgery, const char *cert_name, const char *key_name)
{
    struct test_member forged = {.id = ""};
    struct forgery f = *forgery;
    sl_buf_init(&forged.chain, PKI_TEXT_MAX);
    assert_int_equal(pki_key_create(&forged.key, NULL), SL_OK);
    f.key = forged_cert_key_of(forged.key);
    f.now_s = sl_unix_time_ms() / 1000;
    forged_cert_append(&f, &forged.chain);
    assert_int_equal(
        pki_file_write(temp_path(cert_name), forged.chain.data, forged.chain.len, NULL), SL_OK);
    assert_int_equal(pki_key_save(forged.key, temp_path(key_name), NULL), SL_OK);
    test_member_done(&forged);
}

static void a_name_without_its_key_is_refused_on_both_sides(void **state)
{
    (void)state;
    char names[128], cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX];
    snprintf(names, sizeof names, "DNS:%s.nodes.starlane.internal", grid.node.id);
    const struct forgery f = {.issuer = &grid.gateway, .name = grid.node.id, .names = names};
    write_forged(&f, "f.cert.pem", "f.key.pem");
    keep_path(cert, "f.cert.pem");
    keep_path(key, "f.key.pem");
    struct member_server *server = member_server_start(cert, key, root_path);
    assert_int_equal(fetch(member_server_url(server, "/who"), as_node(grid.node.id), ""),
                     SL_DENIED);
    assert_int_equal(member_server_stop(server).n_requests, 0);
    server = member_server_start(gateway_cert, gateway_key, root_path);
    struct http_trust trust = as_node(grid.gateway.id);
    trust.cert_path = cert;
    trust.key_path = key;
    assert_int_not_equal(fetch(member_server_url(server, "/who"), trust, ""), SL_OK);
    struct member_server_counts counts = member_server_stop(server);
    assert_int_equal(counts.n_handshakes_failed, 1);
    assert_int_equal(counts.n_requests, 0);
}

/* --- clients that are not members --- */

static void bad_client_certificates_end_the_handshake(void **state)
{
    (void)state;
    char cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX];
    const struct forgery old = {.issuer = &grid.gateway, .begin_s = -7200, .end_s = -60};
    const struct forgery early = {.issuer = &grid.gateway, .begin_s = 600};
    const struct forgery by_node = {.issuer = &grid.node};
    const struct forgery *const bad[] = {&old, &early, &by_node};
    struct member_server *server = member_server_start(gateway_cert, gateway_key, root_path);
    struct http_trust trust = as_node(grid.gateway.id);
    keep_path(cert, "bad.cert.pem");
    keep_path(key, "bad.key.pem");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_forged(bad[i], "bad.cert.pem", "bad.key.pem");
        trust.cert_path = cert;
        trust.key_path = key;
        assert_int_not_equal(fetch(member_server_url(server, "/who"), trust, ""), SL_OK);
    }
    trust.cert_path = stranger_cert;
    trust.key_path = stranger_key;
    assert_int_not_equal(fetch(member_server_url(server, "/who"), trust, ""), SL_OK);
    trust.key_path = node_key; /* not its key: found before a byte leaves */
    assert_int_equal(fetch(member_server_url(server, "/who"), trust, ""), SL_INVALID);
    trust.key_path = "/nonexistent";
    assert_int_equal(fetch(member_server_url(server, "/who"), trust, ""), SL_INVALID);
    struct member_server_counts counts = member_server_stop(server);
    assert_true(counts.n_handshakes_failed >= 4);
    assert_int_equal(counts.n_requests, 0);
}

/* --- rules --- */

static void members_redirect_nobody(void **state)
{
    (void)state;
    struct member_server *server = member_server_start(gateway_cert, gateway_key, root_path);
    const char *url = member_server_url(server, "/away");
    const struct http_trust any = {.root_path = root_path, .any_gateway = true};
    const struct http_trust nobody = {.unverified = true};
    assert_int_equal(fetch(url, as_node(grid.gateway.id), ""), SL_INVALID);
    assert_int_equal(fetch(url, any, ""), SL_INVALID);
    assert_int_equal(fetch(url, nobody, ""), SL_INVALID);
    assert_int_equal(member_server_stop(server).n_requests, 3);
}

static sl_status start(const char *url, struct http_trust trust, const char *bearer,
                       const char *body)
{
    struct http_transfer *transfer;
    const struct http_request request = {
        .url = url, .trust = &trust, .bearer = bearer, .body = body, .n_body = body ? 1 : 0};
    sl_status status = http_client_start(client, &request, &transfer, NULL);
    if (status == SL_OK) http_client_stop(client, transfer);
    return status;
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    const char *url = "https://127.0.0.1:1/";
    const struct http_trust nobody = {.unverified = true};
    struct http_trust both = as_node(grid.node.id);
    assert_int_equal(start(url, nobody, NULL, NULL), SL_OK);
    assert_int_equal(start(url, nobody, "token", NULL), SL_INVALID);
    assert_int_equal(start(url, nobody, NULL, "x"), SL_INVALID);
    assert_int_equal(start("http://127.0.0.1:1/", nobody, NULL, NULL), SL_INVALID);
    assert_int_equal(start("http://127.0.0.1:1/", both, NULL, NULL), SL_INVALID);
    assert_int_equal(start(url, both, "token", "x"), SL_OK);
    both.unverified = true;
    assert_int_equal(start(url, both, NULL, NULL), SL_INVALID);
    assert_int_equal(start(url, (struct http_trust){.member_id = grid.node.id}, NULL, NULL),
                     SL_INVALID);
    assert_int_equal(start(url, (struct http_trust){.any_gateway = true}, NULL, NULL), SL_INVALID);
    assert_int_equal(start(url, (struct http_trust){.cert_path = node_cert}, NULL, NULL),
                     SL_INVALID);
    assert_int_equal(start(url, (struct http_trust){.key_path = node_key}, NULL, NULL), SL_INVALID);
    assert_int_equal(start(url, as_node("n1234567890123/../../x"), NULL, NULL), SL_INVALID);
}

static void servers_need_whole_files(void **state)
{
    (void)state;
    struct tls_server *tls;
    assert_int_equal(tls_server_create_for_grid(node_cert, node_key, node_cert, &tls, NULL),
                     SL_LIMIT); /* a chain is not a root */
    assert_int_equal(tls_server_create_for_grid(node_cert, node_key, node_key, &tls, NULL),
                     SL_CORRUPT);
    assert_int_equal(tls_server_create_for_grid(node_cert, node_key, "/nonexistent", &tls, NULL),
                     SL_NOT_FOUND);
    assert_int_equal(tls_server_create_for_grid(node_cert, gateway_key, root_path, &tls, NULL),
                     SL_INVALID);
}

/* --- memory --- */

static void lost_memory_is_told(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    const struct http_trust trust = as_node(grid.gateway.id);
    const struct http_request request = {.url = "https://127.0.0.1:1/", .trust = &trust};
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct tls_server *tls = NULL;
        struct http_client *own = NULL;
        struct http_transfer *transfer;
        sl_mem_fail_at(n, false);
        status = tls_server_create_for_grid(node_cert, node_key, root_path, &tls, NULL);
        if (status == SL_OK) status = tls_server_reload(tls, NULL);
        if (status == SL_OK) status = http_client_create(&own, NULL);
        if (status == SL_OK) status = http_client_start(own, &request, &transfer, NULL);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        http_client_destroy(own);
        tls_server_destroy(tls);
        assert_int_equal(sl_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_see_who_asks),
        cmocka_unit_test(newcomers_know_the_grid_by_its_pin),
        cmocka_unit_test(a_connection_is_shared_by_requests_to_one_member),
        cmocka_unit_test(another_member_is_not_taken_for_the_one_asked_for),
        cmocka_unit_test(another_grids_member_is_refused),
        cmocka_unit_test(a_name_without_its_key_is_refused_on_both_sides),
        cmocka_unit_test(bad_client_certificates_end_the_handshake),
        cmocka_unit_test(members_redirect_nobody),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(servers_need_whole_files),
        cmocka_unit_test(lost_memory_is_told),
    };
    return cmocka_run_group_tests(tests, make_grids, end_grids);
}
