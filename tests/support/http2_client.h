/* http2_client.h: an HTTP/2 client (nghttp2's client session) in the same thread as the server of
 * http_fixture.h: each turn moves what both have to say. */
#pragma once
#include "support/http_fixture.h"

#include <nghttp2/nghttp2.h>

#define HTTP2_CALLS_MAX 256
#define HTTP2_FIELDS_TEXT 4096

struct http2_client;

/* A request and what came back. Lives in its client, from http2_call until http2_client_done. */
struct http2_call {
    struct http2_client *client;
    int32_t id;
    char head[HTTP2_FIELDS_TEXT];     /* "name: value\n" of each field */
    char trailers[HTTP2_FIELDS_TEXT]; /* the same, after the body */
    char *body;                       /* NUL-ended */
    size_t len;
    bool has_head, has_trailers;
    bool closed; /* the stream is no more */
    uint32_t error_code;
    char *upload; /* what goes up; what was sent is kept */
    size_t upload_len, upload_sent;
    bool upload_ends;
};

struct http2_client {
    struct http_fixture *f;
    struct http_peer peer;
    nghttp2_session *session;
    struct http2_call *calls[HTTP2_CALLS_MAX];
    size_t n_calls;
    bool holds_windows; /* nothing is consumed: the test returns credit itself */
    bool deaf;          /* reads nothing */
    bool goaway;
    uint32_t goaway_code;
    int32_t goaway_last;
    size_t n_goaways;
    size_t n_pongs;
    size_t n_data_frames;
};

/* window: SETTINGS_INITIAL_WINDOW_SIZE, 0 for the protocol's own. */
void http2_client_connect(struct http_fixture *f, struct http2_client *client, uint32_t window);
void http2_client_done(struct http2_client *client);
void http2_client_turn(struct http2_client *client); /* and the server's loop */

/* Submits a request with the usual pseudo headers; body NULL: none. Without `ends` more may follow
 * by http2_call_add. */
struct http2_call *http2_call(struct http2_client *client, const char *method, const char *path,
                              const void *body, size_t n, bool ends);
struct http2_call *http2_call_with(struct http2_client *client, const nghttp2_nv *fields,
                                   size_t n_fields, bool ends);
void http2_call_add(struct http2_call *call, const void *bytes, size_t n, bool ends);
void http2_call_reset(struct http2_call *call, uint32_t error_code);

#define HTTP2_NV(name, value) \
    { \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1, \
            NGHTTP2_NV_FLAG_NONE \
    }

/* Turns both until the expression holds. */
#define HTTP2_UNTIL(client, condition) \
    do { \
        int64_t http2_deadline_ns = sl_now_ns() + FIXTURE_WAIT_S * INT64_C(1000000000); \
        while (!(condition)) { \
            assert_true(sl_now_ns() < http2_deadline_ns); \
            http2_client_turn(client); \
        } \
    } while (0)
