/* tls_test.c: HTTP over TLS with a certificate made here, reloads, and handshakes that fail. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/http_fixture.h"

#define H "Host: h\r\n"
#define MS INT64_C(1000000)

static char folder[] = "/tmp/starlane-tls-XXXXXX";
static char cert_path[64], key_path[64], bad_path[64];

static struct http_fixture f;
static struct http_peer peer;
static struct tls_server *tls;
static SSL_CTX *client_ctx;
static SSL *client;

static void write_certificate(const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert_true(key && cert);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *cert_file = fopen(cert_path, "w"), *key_file = fopen(key_path, "w");
    assert_true(cert_file && key_file);
    assert_int_equal(PEM_write_X509(cert_file, cert), 1);
    assert_int_equal(PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(cert_file);
    fclose(key_file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(cert_path, sizeof cert_path, "%s/cert.pem", folder);
    snprintf(key_path, sizeof key_path, "%s/key.pem", folder);
    snprintf(bad_path, sizeof bad_path, "%s/bad.pem", folder);
    write_certificate("first");
    FILE *bad = fopen(bad_path, "w");
    if (!bad) return -1;
    fputs("not PEM\n", bad);
    return fclose(bad);
}

static int remove_files(void **state)
{
    (void)state;
    unlink(cert_path);
    unlink(key_path);
    unlink(bad_path);
    return rmdir(folder);
}

static void begin(const struct http_server_cfg *cfg)
{
    fixture_start(&f, cfg);
    assert_int_equal(tls_server_create(cert_path, key_path, &tls, NULL), SL_OK);
    assert_int_equal(http_server_listen(f.server, "127.0.0.1", 0, tls, &f.port, NULL), SL_OK);
}

/* protocols: as ALPN has them, each behind its length. */
static void client_connect_with(int version_max, const char *protocols)
{
    peer_connect(&f, &peer);
    client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(client_ctx, version_max);
    SSL_CTX_set_alpn_protos(client_ctx, (const unsigned char *)protocols,
                            (unsigned)strlen(protocols));
    client = SSL_new(client_ctx);
    SSL_set_fd(client, peer.fd);
    struct timeval timeout = {.tv_usec = 1000}; /* reads give the loop its turns */
    setsockopt(peer.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    int rc = 0;
    FIXTURE_UNTIL(&f, (rc = SSL_connect(client)) == 1 ||
                          SSL_get_error(client, rc) != SSL_ERROR_WANT_READ);
}

static void client_connect(int version_max)
{
    client_connect_with(version_max, "\x08http/1.1");
}

static void client_done(void)
{
    SSL_free(client);
    SSL_CTX_free(client_ctx);
    peer_done(&peer);
}

static void end(void)
{
    http_server_destroy(f.server);
    f.server = NULL;
    tls_server_destroy(tls);
    fixture_stop(&f);
}

static void client_send(const char *s, size_t n)
{
    size_t sent = 0;
    FIXTURE_UNTIL(&f, sent == n || (SSL_write_ex(client, s, n, &sent), sent == n));
}

static size_t client_read(char *out, size_t max)
{
    size_t n = 0;
    return SSL_read_ex(client, out, max, &n) ? n : 0;
}

static void expect_answer(const char *text)
{
    static char got[100000];
    size_t len = 0;
    got[0] = '\0';
    FIXTURE_UNTIL(&f, (len += client_read(got + len, sizeof got - len - 1), got[len] = '\0',
                       strstr(got, text)));
}

static void requests_go_over_tls_1_2_and_1_3(void **state)
{
    (void)state;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        const unsigned char *protocol;
        unsigned protocol_len;
        begin(&(struct http_server_cfg){0});
        client_connect(version);
        assert_int_equal(SSL_version(client), version);
        SSL_get0_alpn_selected(client, &protocol, &protocol_len);
        assert_int_equal(protocol_len, 8);
        assert_memory_equal(protocol, "http/1.1", 8);
        for (int i = 0; i < 3; i++) {
            const char *text = "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello";
            client_send(text, strlen(text));
            expect_answer("[POST /echo ? 5 hello]");
        }
        client_done();
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 0);
        end();
    }
}

static void http_2_is_chosen_by_alpn(void **state)
{
    (void)state;
    static const char request[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
                                  "\0\0\x0c\1\5\0\0\0\1\x82\x87\x04\x05/echo\x01\x01h";
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        char got[2000];
        size_t len = 0;
        begin(&(struct http_server_cfg){0});
        client_connect_with(version, "\x08http/1.1\x02h2"); /* ours is preferred */
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_http2_connections == 1);
        client_send(request, sizeof request - 1);
        FIXTURE_UNTIL(&f, (len += client_read(got + len, sizeof got - len),
                           len > 16 && memcmp(got + len - 16, "[GET /echo ? 0 ]", 16) == 0));
        assert_int_equal(got[3], 4); /* SETTINGS come first */
        client_done();
        FIXTURE_UNTIL(&f, fixture_stats(&f).n_connections == 0);
        assert_int_equal(fixture_stats(&f).n_http2_connections, 0);
        end();
    }
}

/* RFC 9113 3.3: over TLS the preface alone does not choose it. */
static void a_preface_without_alpn_is_refused(void **state)
{
    (void)state;
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    begin(&(struct http_server_cfg){0});
    client_connect(TLS1_3_VERSION);
    client_send(preface, sizeof preface - 1);
    expect_answer("HTTP/1.1 505 ");
    client_done();
    end();
}

static void large_bodies_go_over_tls(void **state)
{
    (void)state;
    enum { N = 1000000 };
    char *text = malloc(N + 100), *got = malloc(2 * N);
    assert_true(text && got);
    int head = sprintf(text, "POST /echo HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", N);
    memset(text + head, 'x', N);
    begin(&(struct http_server_cfg){.arena_bytes_max = 4 << 20});
    client_connect(TLS1_3_VERSION);
    SSL_set_mode(client, SSL_MODE_ENABLE_PARTIAL_WRITE);
    for (size_t at = 0, sent; at < (size_t)head + N; at += sent) {
        size_t left = (size_t)head + N - at;
        sent = 0;
        FIXTURE_UNTIL(&f, SSL_write_ex(client, text + at, left < 16000 ? left : 16000, &sent));
    }
    size_t len = 0;
    FIXTURE_UNTIL(&f, (len += client_read(got + len, 2 * N - len), len > N && got[len - 1] == ']'));
    assert_memory_equal(got + len - 1 - N, text + head, N);
    client_done();
    end();
    free(text);
    free(got);
}

static void a_client_gone_is_seen_through_tls(void **state)
{
    (void)state;
    const char *text = "GET /hold HTTP/1.1\r\n" H "\r\n";
    begin(&(struct http_server_cfg){0});
    client_connect(TLS1_3_VERSION);
    client_send(text, strlen(text));
    FIXTURE_UNTIL(&f, f.n_held == 1);
    assert_true(http_exchange_request(f.held[0])->is_tls);
    client_done();
    FIXTURE_UNTIL(&f, f.n_closed == 1);
    end();
}

static void what_is_not_tls_is_closed(void **state)
{
    (void)state;
    begin(&(struct http_server_cfg){.head_timeout_ns = 20 * MS});
    peer_connect(&f, &peer);
    peer_send_str(&f, &peer, "GET / HTTP/1.1\r\n" H "\r\n");
    peer_expect_close(&f, &peer);
    assert_int_equal(fixture_stats(&f).n_handshakes_failed, 1);
    peer_done(&peer);
    peer_connect(&f, &peer); /* says nothing: the handshake has its time */
    peer_expect_close(&f, &peer);
    assert_int_equal(fixture_stats(&f).n_handshakes_failed, 2);
    peer_done(&peer);
    end();
}

static void name_of_server(char *out, int max)
{
    X509 *cert = SSL_get1_peer_certificate(client);
    assert_non_null(cert);
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, max);
    X509_free(cert);
}

static void a_reload_serves_the_new_certificate(void **state)
{
    (void)state;
    char name[32];
    struct sl_err err = SL_ERR_INIT;
    begin(&(struct http_server_cfg){0});
    write_certificate("second");
    assert_int_equal(tls_server_reload(tls, &err), SL_OK);
    client_connect(TLS1_3_VERSION);
    name_of_server(name, sizeof name);
    assert_string_equal(name, "second");
    client_done();

    assert_int_equal(truncate(key_path, 10), 0);
    assert_int_equal(tls_server_reload(tls, &err), SL_INVALID);
    client_connect(TLS1_3_VERSION);
    name_of_server(name, sizeof name);
    assert_string_equal(name, "second");
    client_done();
    write_certificate("first");
    end();
}

static void bad_files_are_named(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    struct tls_server *server = NULL;
    assert_int_equal(tls_server_create("/no/such.pem", key_path, &server, &err), SL_NOT_FOUND);
    assert_non_null(strstr(err.text, "/no/such.pem"));
    assert_int_equal(tls_server_create(bad_path, key_path, &server, &err), SL_INVALID);
    assert_non_null(strstr(err.text, bad_path));
    assert_int_equal(tls_server_create(cert_path, bad_path, &server, &err), SL_INVALID);
    assert_null(server);
}

static void creation_without_memory_leaks_nothing(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        struct tls_server *server = NULL;
        struct tls_session *session = NULL;
        sl_mem_fail_at(nth, false);
        sl_status status = tls_server_create(cert_path, key_path, &server, NULL);
        if (status == SL_OK) status = tls_session_create(server, 0, &session);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        tls_session_destroy(session);
        tls_server_destroy(server);
        assert_int_equal(sl_mem_live(), live);
        assert_int_equal(status, hit ? SL_NOMEM : SL_OK);
        if (!hit) return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_over_tls_1_2_and_1_3),
        cmocka_unit_test(http_2_is_chosen_by_alpn),
        cmocka_unit_test(a_preface_without_alpn_is_refused),
        cmocka_unit_test(large_bodies_go_over_tls),
        cmocka_unit_test(a_client_gone_is_seen_through_tls),
        cmocka_unit_test(what_is_not_tls_is_closed),
        cmocka_unit_test(a_reload_serves_the_new_certificate),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(creation_without_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
