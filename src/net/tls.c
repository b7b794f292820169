/* tls.c: OpenSSL on the socket itself. */
#include "net/tls.h"

#include "base/mem.h"
#include "net/pki_int.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <unistd.h>

/* RFC 9325 section 4.2: forward secrecy and AEAD. TLS 1.3 has its own list, which is fine. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

struct tls_server {
    SSL_CTX *ctx;
    char *cert_path, *key_path;
    char *root_path; /* NULL: clients have no certificates */
};

struct tls_client {
    struct tls_server files; /* the same three; `ctx` is a client's */
};

struct tls_session {
    SSL *ssl;
    bool has_peer, is_client;
    struct pki_peer peer;
    struct tls_expected expected; /* of a client's */
};

/* --- the server's context --- */

static const char *last_error(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "unknown reason";
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    (void)ssl, (void)arg;
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen;
    int rc = SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len);
    if (rc != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* OpenSSL says only that a file would not load; the system says why. */
static sl_status check_readable(const char *path, struct sl_err *err)
{
    return access(path, R_OK) == 0 ? SL_OK : sl_err_errno(err, errno, "%s", path);
}

static sl_status load_files(SSL_CTX *ctx, const char *cert_path, const char *key_path,
                            struct sl_err *err)
{
    sl_status status = check_readable(cert_path, err);
    if (status == SL_OK) status = check_readable(key_path, err);
    if (status != SL_OK) return status;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert_path) != 1) {
        return sl_err_set(err, SL_INVALID, "%s: not a PEM certificate: %s", cert_path,
                          last_error());
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1) {
        return sl_err_set(err, SL_INVALID, "%s: not the certificate's PEM key: %s", key_path,
                          last_error());
    }
    return SL_OK;
}

/* OpenSSL's hook in place of its own check, of a server's certificate or a client's. */
static int verify_peer(X509_STORE_CTX *ctx, void *expected_arg)
{
    const struct tls_expected *expected = expected_arg;
    struct pki_peer peer;
    if (!pki_verify(ctx, &peer)) return 0;
    if (!expected || ((!expected->id[0] || strcmp(expected->id, peer.id) == 0) &&
                      (!expected->gateway || peer.is_gateway)))
        return 1;
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

/* A resumed session would bring a member back whose certificate was checked long ago. */
static bool forbid_resumption(SSL_CTX *ctx)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    return SSL_CTX_set_num_tickets(ctx, 0) == 1;
}

static sl_status ask_for_members(SSL_CTX *ctx, const char *root_path, struct sl_err *err)
{
    struct sl_buf text;
    X509 *root = NULL;
    sl_buf_init(&text, PKI_TEXT_MAX);
    sl_status status = pki_file_read(root_path, &text, err);
    if (status == SL_OK && (status = pki_root_read(text.data, &root, err)) != SL_OK)
        sl_err_prefix(err, "%s", root_path);
    sl_buf_done(&text);
    if (status != SL_OK) return status;
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) != 1 ||
        SSL_CTX_add_client_CA(ctx, root) != 1 || !pki_set_rules(SSL_CTX_get0_param(ctx)) ||
        !forbid_resumption(ctx))
        status = sl_err_set(err, SL_NOMEM, "%s: %s", root_path, last_error());
    X509_free(root);
    SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN); /* or it would send the root along */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify_peer, NULL);
    return status;
}

/* `files` says whose; the method, which side's. */
static sl_status context_create(const struct tls_server *files, const SSL_METHOD *method,
                                SSL_CTX **out, struct sl_err *err)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx) return sl_err_set(err, SL_NOMEM, "out of memory");
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    sl_status status = SL_INTERNAL;
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2) != 1) {
        sl_err_set(err, status, "%s", last_error());
    } else {
        status = load_files(ctx, files->cert_path, files->key_path, err);
    }
    if (status == SL_OK && files->root_path) status = ask_for_members(ctx, files->root_path, err);
    ERR_clear_error();
    if (status == SL_OK) {
        *out = ctx;
    } else {
        SSL_CTX_free(ctx);
    }
    return status;
}

static void files_done(struct tls_server *files)
{
    SSL_CTX_free(files->ctx);
    sl_free(files->cert_path);
    sl_free(files->key_path);
    sl_free(files->root_path);
}

/* On failure `files` is still to be done with. */
static sl_status files_init(struct tls_server *files, const SSL_METHOD *method,
                            const char *cert_path, const char *key_path, const char *root_path,
                            struct sl_err *err)
{
    files->cert_path = sl_strdup(cert_path);
    files->key_path = sl_strdup(key_path);
    if (root_path) files->root_path = sl_strdup(root_path);
    sl_status status = SL_NOMEM;
    if (!files->cert_path || !files->key_path || (root_path && !files->root_path))
        sl_err_set(err, status, "out of memory");
    else
        status = context_create(files, method, &files->ctx, err);
    if (status != SL_OK) sl_err_prefix(err, "TLS");
    return status;
}

static sl_status server_create(const char *cert_path, const char *key_path, const char *root_path,
                               struct tls_server **out, struct sl_err *err)
{
    struct tls_server *server = sl_calloc(1, sizeof *server);
    if (!server) return sl_err_set(err, SL_NOMEM, "TLS: out of memory");
    sl_status status = files_init(server, TLS_server_method(), cert_path, key_path, root_path, err);
    if (status == SL_OK)
        *out = server;
    else
        tls_server_destroy(server);
    return status;
}

sl_status tls_server_create(const char *cert_path, const char *key_path, struct tls_server **out,
                            struct sl_err *err)
{
    return server_create(cert_path, key_path, NULL, out, err);
}

sl_status tls_server_create_for_grid(const char *cert_path, const char *key_path,
                                     const char *root_path, struct tls_server **out,
                                     struct sl_err *err)
{
    return server_create(cert_path, key_path, root_path, out, err);
}

void tls_server_destroy(struct tls_server *server)
{
    if (!server) return;
    files_done(server);
    sl_free(server);
}

sl_status tls_server_reload(struct tls_server *server, struct sl_err *err)
{
    SSL_CTX *fresh = NULL;
    sl_status status = context_create(server, TLS_server_method(), &fresh, err);
    if (status != SL_OK) {
        sl_err_prefix(err, "TLS");
        return status;
    }
    SSL_CTX_free(server->ctx); /* its sessions hold references */
    server->ctx = fresh;
    return SL_OK;
}

/* --- sessions --- */

static sl_status session_create(SSL_CTX *ctx, int fd, struct tls_session **out)
{
    struct tls_session *session = sl_calloc(1, sizeof *session);
    if (!session) return SL_NOMEM;
    session->ssl = SSL_new(ctx);
    if (!session->ssl || SSL_set_fd(session->ssl, fd) != 1) {
        tls_session_destroy(session);
        return SL_NOMEM;
    }
    *out = session;
    return SL_OK;
}

sl_status tls_session_create(struct tls_server *server, int fd, struct tls_session **out)
{
    sl_status status = session_create(server->ctx, fd, out);
    if (status == SL_OK) SSL_set_accept_state((*out)->ssl);
    return status;
}

void tls_session_destroy(struct tls_session *session)
{
    if (!session) return;
    SSL_free(session->ssl);
    sl_free(session);
}

void tls_goodbye(struct tls_session *session)
{
    SSL_shutdown(session->ssl);
    ERR_clear_error();
}

/* What OpenSSL's result means. Its error queue is the thread's, so it is emptied: leftovers of one
 * session would be taken for errors of the next. */
static long result_of(struct tls_session *session, int rc, enum tls_want *want)
{
    *want = TLS_WANT_NOTHING;
    if (rc > 0) return rc;
    int error = SSL_get_error(session->ssl, rc);
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    if (error == SSL_ERROR_WANT_READ) *want = TLS_WANT_READ;
    if (error == SSL_ERROR_WANT_WRITE) *want = TLS_WANT_WRITE;
    return -1;
}

long tls_handshake(struct tls_session *session, enum tls_want *want)
{
    long done = result_of(session, SSL_do_handshake(session->ssl), want);
    X509 *cert = done > 0 ? SSL_get0_peer_certificate(session->ssl) : NULL;
    if (!cert) return done;
    session->has_peer = pki_cert_peer(cert, &session->peer, NULL) == SL_OK;
    return session->has_peer ? done : -1;
}

const struct pki_peer *tls_peer(const struct tls_session *session)
{
    return session->has_peer ? &session->peer : NULL;
}

static int int_size(size_t n)
{
    return n < INT_MAX ? (int)n : INT_MAX;
}

long tls_read(struct tls_session *session, void *out, size_t n, enum tls_want *want)
{
    return result_of(session, SSL_read(session->ssl, out, int_size(n)), want);
}

long tls_write(struct tls_session *session, const void *bytes, size_t n, enum tls_want *want)
{
    return result_of(session, SSL_write(session->ssl, bytes, int_size(n)), want);
}

size_t tls_pending(const struct tls_session *session)
{
    return (size_t)SSL_pending(session->ssl);
}

bool tls_is_http2(const struct tls_session *session)
{
    const unsigned char *protocol;
    unsigned n;
    SSL_get0_alpn_selected(session->ssl, &protocol, &n);
    return n == 2 && memcmp(protocol, "h2", 2) == 0;
}

/* --- clients --- */

/* As verify_peer; whom is expected stands in the session. */
static int verify_server(X509_STORE_CTX *ctx, void *unused)
{
    (void)unused;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls_session *session = SSL_get_app_data(ssl);
    return verify_peer(ctx, (void *)(uintptr_t)&session->expected);
}

sl_status tls_client_create(const char *cert_path, const char *key_path, const char *root_path,
                            struct tls_client **out, struct sl_err *err)
{
    struct tls_client *client = sl_calloc(1, sizeof *client);
    if (!client) return sl_err_set(err, SL_NOMEM, "TLS: out of memory");
    sl_status status =
        files_init(&client->files, TLS_client_method(), cert_path, key_path, root_path, err);
    if (status == SL_OK) {
        SSL_CTX_set_cert_verify_callback(client->files.ctx, verify_server, NULL);
        *out = client;
    } else {
        tls_client_destroy(client);
    }
    return status;
}

void tls_client_destroy(struct tls_client *client)
{
    if (!client) return;
    files_done(&client->files);
    sl_free(client);
}

sl_status tls_client_session(struct tls_client *client, int fd, const struct tls_expected *expected,
                             struct tls_session **out)
{
    static const unsigned char protocol[] = "\x08http/1.1";
    struct tls_session *session;
    sl_status status = session_create(client->files.ctx, fd, &session);
    if (status != SL_OK) return status;
    session->is_client = true;
    session->expected = *expected;
    SSL_set_app_data(session->ssl, session);
    SSL_set_connect_state(session->ssl);
    if (SSL_set_alpn_protos(session->ssl, protocol, sizeof protocol - 1) != 0) {
        tls_session_destroy(session);
        return SL_NOMEM;
    }
    *out = session;
    return SL_OK;
}

const char *tls_refusal(const struct tls_session *session)
{
    long error = SSL_get_verify_result(session->ssl);
    if (!session->is_client || error == X509_V_OK) return NULL;
    if (error == X509_V_ERR_HOSTNAME_MISMATCH) return "another member answers there";
    return X509_verify_cert_error_string(error);
}

void tls_client_expect(void *ssl_ctx, const struct tls_expected *expected)
{
    SSL_CTX *ctx = ssl_ctx;
    /* No handshake after the first: the caller's struct may be gone by then. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify_peer, (void *)(uintptr_t)expected);
}
