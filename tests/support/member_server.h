/* member_server.h: the grid's port of one member, for tests of those who connect to it: an HTTP
 * server over TLS on a thread of its own. It answers
 *   /who   with the client's member id, a space and "gateway" or "node"; or "nobody"
 *   /root  with the grid's root
 *   /away  with a redirect to /who under another name of this machine
 *   /echo  with the request's body
 * Thread: one, besides its own. */
#pragma once
#include <stdint.h>

struct member_server; /* opaque */

struct member_server_counts {
    uint64_t n_connections, n_handshakes_failed, n_requests;
};

/* On a free port of 127.0.0.1, with files as tls_server_create_for_grid takes them. */
struct member_server *member_server_start(const char *cert_path, const char *key_path,
                                          const char *root_path);
struct member_server_counts member_server_stop(struct member_server *server);

/* "https://127.0.0.1:PORT/PATH"; static storage, overwritten by the next call. */
const char *member_server_url(const struct member_server *server, const char *path);
