/* http_client.h: outgoing HTTP/1.1 over TLS with libcurl: several transfers at once, driven by
 * http_client_poll, with the rules of this program on redirects, credentials and plain http.
 * Floor: net.  Thread: one at a time per client.  Allocates: libcurl's connections; a transfer.
 * Invariants: a transfer ends by exactly one done callback, or by http_client_stop without one.
 * http:// is spoken only to this machine, unless allow_http; no redirect leads from https to http.
 * A bearer token goes to the origin (scheme, host, port) of the request's own URL and nowhere
 * else, whatever redirects say. The server's certificate is checked, but where `unverified` says
 * otherwise; such a request carries nothing that is secret. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HTTP_REDIRECTS_MAX 10
#define HTTP_FIELD_SIZE 256        /* of the header fields kept below; longer ones are dropped */
#define HTTP_URL_SIZE 8192         /* signed URLs of clouds reach 2,000 */
#define HTTP_CONNECT_TIMEOUT_S 20  /* TLS included */
#define HTTP_HEAD_BYTES_MAX 262144 /* all header lines of one answer */

struct http_client;   /* opaque */
struct http_transfer; /* opaque */

/* The final answer's head: that of a redirect is never seen. */
struct http_head {
    int status;                 /* 200 */
    int64_t length;             /* Content-Length; -1: unknown */
    bool has_range;             /* Content-Range: bytes begin-(end-1)/total */
    uint64_t begin, end, total; /* total UINT64_MAX: "*" */
    int64_t retry_after_s;      /* -1: none; a date is turned into seconds from now */
    char etag[HTTP_FIELD_SIZE]; /* with its quotes, W/ too; "" */
    char last_modified[HTTP_FIELD_SIZE];
    char content_type[HTTP_FIELD_SIZE];
    char kept[HTTP_FIELD_SIZE]; /* of the field that the request wants kept; "" without it */
    char url[HTTP_URL_SIZE];    /* where it came from, after redirects; "" when it is longer */
};

/* False ends the transfer: done gets CANCELLED. */
typedef bool http_head_fn(void *ctx, const struct http_head *head);
typedef bool http_body_fn(void *ctx, const void *bytes, size_t n);

/* OK: the whole answer has come, whatever its status. UNAVAILABLE (no connection, a drop), TIMEOUT
 * (stalled), DENIED (a certificate), INVALID (URL, a redirect that is not allowed, our certificate
 * or key cannot be read), CANCELLED,
 * LIMIT, NOMEM. The transfer is freed after it. */
typedef void http_done_fn(void *ctx, sl_status status, const struct http_head *head,
                          const struct sl_err *err);

/* How members of a grid know each other; https only. With `member_id` or `any_gateway` the server
 * is known by its certificate's key, whatever its address and name are; redirects are then refused,
 * and no proxy is used. */
struct http_trust {
    const char *root_path; /* PEM file of the only root trusted; NULL: root_text */
    const char *root_text; /* the same as text; NULL with root_path NULL: the system's roots */
    const char *cert_path; /* PEM file of our chain; NULL: we show no certificate */
    const char *key_path;  /* and of its key */
    const char *member_id; /* the server must be this member */
    bool any_gateway;      /* the server must be some gateway of the grid */
    bool unverified;       /* it may be anybody: for GET of what is checked by other means (a pin);
                             * INVALID with a bearer, a body, a certificate or a root */
};

struct http_request {
    const char *url;
    const char *body; /* not NULL: a POST of n_body bytes, borrowed until done */
    size_t n_body;
    const char *method;         /* in place of GET and POST: "DELETE", "PATCH"; a literal; NULL */
    const char *const *headers; /* "Accept: application/json", ...; copied */
    int n_headers;
    const char *keep;                /* name of one more header field; borrowed; NULL: none */
    const char *bearer;              /* token; NULL: none */
    uint64_t range_begin, range_end; /* asks for [begin, end); end 0: no Range */
    bool allow_http;                 /* plain http beyond this machine */
    const struct http_trust *trust;  /* within a grid; copied; NULL: the web's rules */
    int stall_s;                     /* under 1 kB in so many seconds is the end; 0: never */
    http_head_fn *on_head;           /* each may be NULL */
    http_body_fn *on_body;
    http_done_fn *on_done;
    void *ctx;
};

SL_CHECK sl_status http_client_create(struct http_client **out, struct sl_err *err);
void http_client_destroy(struct http_client *client); /* stops what runs; NULL is fine */

/* Begins; callbacks come from http_client_poll only. INVALID: the URL, or plain http. NOMEM. */
SL_CHECK sl_status http_client_start(struct http_client *client, const struct http_request *req,
                                     struct http_transfer **out, struct sl_err *err);
/* Not from within a callback of the same client; there, return false. */
void http_client_stop(struct http_client *client, struct http_transfer *transfer);

/* Moves what can be moved, after waiting at most timeout_ms for something to happen. */
SL_CHECK sl_status http_client_poll(struct http_client *client, int timeout_ms, struct sl_err *err);

/* One small document, blocking: appends the body of a 2xx answer to out; *head is filled in any
 * case. NOT_FOUND (404, 410), DENIED (401, 403), BUSY (429), UNAVAILABLE (5xx), INVALID (the other
 * 4xx), LIMIT (past out's maximum), CANCELLED, and what done may say. cancel NULL is fine. on_*
 * and ctx of req are not used. */
SL_CHECK sl_status http_client_fetch(struct http_client *client, const struct http_request *req,
                                     const atomic_bool *cancel, struct http_head *head,
                                     struct sl_buf *out, struct sl_err *err);

/* The status that an HTTP status means to a client: see http_client_fetch; 2xx is OK. */
sl_status http_status_meaning(int http_status);

/* May this URL be fetched: https, or http to this machine, or allow_http? INVALID says why not. */
SL_CHECK sl_status http_url_check(const char *url, bool allow_http, struct sl_err *err);
