/* client.h: speaks HTTP to a running `starlane serve`: finds it, asks it, reads its streams.
 * Floor: cli.  Thread: main.  Allocates: the client; an answer within CLIENT_ANSWER_BYTES_MAX.
 * Invariant: the API key goes to the server that was named, and nowhere else. */
#pragma once
#include "base/err.h"
#include "base/json_read.h"
#include "cli/client_sse.h"
#include <signal.h>
#include <stdbool.h>

#define CLIENT_DEFAULT_PORT 8080
#define CLIENT_ANSWER_BYTES_MAX (64u << 20) /* a list of models */

struct client; /* opaque */

struct client_cfg {      /* all may be NULL */
    const char *server;  /* host, host:port or URL; NULL: $STARLANE_HOST, or else this machine */
    const char *api_key; /* NULL: $STARLANE_API_KEY */
    const volatile sig_atomic_t *stop; /* becomes true when the user wants no more */
};

/* "host", "host:port", ":port", "[::1]:port" or a URL into a URL without a slash at its end; the
 * scheme is http unless it is given, "everywhere" (0.0.0.0, [::]) becomes this machine. INVALID. */
SL_CHECK sl_status client_url(const char *server, char *out, size_t out_size, struct sl_err *err);

/* Nothing is sent yet. INVALID, NOMEM. */
SL_CHECK sl_status client_create(const struct client_cfg *cfg, struct client **out,
                                 struct sl_err *err);
void client_destroy(struct client *client);             /* NULL is fine */
const char *client_server(const struct client *client); /* its URL */
bool client_is_named(const struct client *client);      /* the user said which server */

/* Does a server of ours answer? UNAVAILABLE says how to start one. */
SL_CHECK sl_status client_find(struct client *client, struct sl_err *err);

/* One document: GET when body is NULL, else POST of JSON. The tree is the caller's to sl_json_free.
 * As http_client_fetch, with what the server says; UNAUTHENTICATED says how to give a key;
 * CANCELLED: the user stopped it. */
SL_CHECK sl_status client_call(struct client *client, const char *path, const struct sl_buf *body,
                               struct sl_json_value **out, struct sl_err *err);

/* The same with another method, a literal: "DELETE", "PATCH". */
SL_CHECK sl_status client_call_as(struct client *client, const char *method, const char *path,
                                  const struct sl_buf *body, struct sl_json_value **out,
                                  struct sl_err *err);

/* A POST whose body and answer are more than JSON. */
struct client_post {
    const char *path;
    const char *const *headers; /* "Content-Type: ..." and others */
    int n_headers;
    const void *body;
    size_t n_body;
    const char *keep; /* name of a header field of the answer; NULL: none */
};

/* Appends the answer's body to out; kept (HTTP_FIELD_SIZE bytes) gets the field, "" when it is
 * absent. As client_call. */
SL_CHECK sl_status client_post(struct client *client, const struct client_post *post,
                               struct sl_buf *out, char *kept, struct sl_err *err);

/* POSTs and hands out the events of the answer as they come, until [DONE], the end of the answer,
 * an error, or the user stops it (CANCELLED; the connection is closed, so the server stops too). As
 * client_call; INVALID and others: an event that is an error. */
SL_CHECK sl_status client_stream(struct client *client, const char *path, const struct sl_buf *body,
                                 client_event_fn *event, void *ctx, struct sl_err *err);

/* A name as one piece of a path: all that is neither letter, digit nor one of -._~/: is escaped. */
SL_CHECK sl_status client_escape(const char *name, struct sl_buf *out);

/* {"error":{"message":...}} or {"error":"..."} as a text; NULL: the value is no error. */
const char *client_error_text(const struct sl_json_value *value);
