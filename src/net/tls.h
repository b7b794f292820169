/* tls.h: TLS on non-blocking sockets (OpenSSL): a server's side, and within a grid a client's. TLS
 * 1.2 and 1.3, forward secret AEAD ciphers only, ALPN h2 (preferred) and http/1.1, no
 * renegotiation, no compression.
 * Floor: net.  Thread: the loop's.  Allocates: contexts and sessions; OpenSSL allocates on its own.
 * Invariants: sessions keep the certificate they began with; a reload that fails changes nothing.
 * A client's certificate was checked in this very handshake: nothing is resumed where clients have
 * certificates. */
#pragma once
#include "base/err.h"
#include "net/pki.h"
#include <stdbool.h>
#include <stddef.h>

struct tls_client;
struct tls_server;
struct tls_session;

/* Reads the certificate chain and key (PEM). NOT_FOUND, DENIED, IO: a file cannot be read; INVALID:
 * not PEM, or the key is not the certificate's; NOMEM. */
SL_CHECK sl_status tls_server_create(const char *cert_path, const char *key_path,
                                     struct tls_server **out, struct sl_err *err);
/* As tls_server_create, and asks clients for a certificate. One who has none is served without a
 * name; one whose certificate is not a member's of the grid with that root (a PEM file) is turned
 * away in the handshake. */
SL_CHECK sl_status tls_server_create_for_grid(const char *cert_path, const char *key_path,
                                              const char *root_path, struct tls_server **out,
                                              struct sl_err *err);
void tls_server_destroy(struct tls_server *server); /* NULL is fine; sessions live on */

/* Reads its files again (on SIGHUP); on failure the old ones stay in use. */
SL_CHECK sl_status tls_server_reload(struct tls_server *server, struct sl_err *err);

/* A session on a connected non-blocking socket, which stays the caller's. NOMEM. */
SL_CHECK sl_status tls_session_create(struct tls_server *server, int fd, struct tls_session **out);

/* Frees it without a word, which the peer takes for a cut. NULL is fine. */
void tls_session_destroy(struct tls_session *session);

/* Says that all was sent (close_notify), if the socket takes it at once. */
void tls_goodbye(struct tls_session *session);

/* What the session waits for when it could not go on. */
enum tls_want { TLS_WANT_NOTHING, TLS_WANT_READ, TLS_WANT_WRITE };

/* Each returns the bytes moved (> 0; 1 for a finished handshake), 0 when the peer closed, and -1
 * with *want TLS_WANT_READ or _WRITE to be called again once the socket is ready, or
 * TLS_WANT_NOTHING when the session is dead. */
long tls_handshake(struct tls_session *session, enum tls_want *want);
long tls_read(struct tls_session *session, void *out, size_t n, enum tls_want *want);
long tls_write(struct tls_session *session, const void *bytes, size_t n, enum tls_want *want);

/* After the handshake: did it choose ALPN "h2"? */
bool tls_is_http2(const struct tls_session *session);

/* After the handshake: the member on the other side; NULL: a client without a certificate. Lives
 * as long as the session. */
const struct pki_peer *tls_peer(const struct tls_session *session);

/* Decrypted bytes that wait in the session although the socket may never be readable again. */
size_t tls_pending(const struct tls_session *session);

/* Whom a client wants to find at the other end, within a grid whose root is all that it trusts. */
struct tls_expected {
    char id[PKI_ID_SIZE]; /* "": any */
    bool gateway;         /* a gateway */
};

/* A member that connects to others: shows its chain, and trusts the grid's root alone. As
 * tls_server_create_for_grid. */
SL_CHECK sl_status tls_client_create(const char *cert_path, const char *key_path,
                                     const char *root_path, struct tls_client **out,
                                     struct sl_err *err);
void tls_client_destroy(struct tls_client *client); /* NULL is fine; sessions live on */
/* As tls_session_create; the handshake fails unless the other side is the expected one, which is
 * copied. It speaks HTTP/1.1. */
SL_CHECK sl_status tls_client_session(struct tls_client *client, int fd,
                                      const struct tls_expected *expected,
                                      struct tls_session **out);
/* After a handshake that failed: is it because of who the other side is? Why, for people; else
 * NULL. */
const char *tls_refusal(const struct tls_session *session);

/* For a client that brings its own SSL_CTX (libcurl): besides the chain, the server's certificate
 * must be that of the expected member. The struct must outlive the context's handshakes. */
void tls_client_expect(void *ssl_ctx, const struct tls_expected *expected);
