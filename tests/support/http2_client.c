/* http2_client.c: bytes between nghttp2 and a socket on loopback. */
#include "support/http2_client.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READ_BYTES 65536

static struct http2_call *call_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx)
{
    (void)flags, (void)ctx;
    struct http2_call *call = call_of(session, frame->hd.stream_id);
    if (!call) return 0;
    char *text = call->has_head ? call->trailers : call->head;
    size_t len = strlen(text);
    snprintf(text + len, HTTP2_FIELDS_TEXT - len, "%.*s: %.*s\n", (int)name_len, (const char *)name,
             (int)value_len, (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t n, void *ctx)
{
    (void)flags;
    struct http2_client *client = ctx;
    struct http2_call *call = call_of(session, id);
    if (!client->holds_windows) nghttp2_session_consume(session, id, n);
    if (!call) return 0;
    call->body = realloc(call->body, call->len + n + 1);
    if (!call->body) return NGHTTP2_ERR_CALLBACK_FAILURE;
    memcpy(call->body + call->len, bytes, n);
    call->len += n;
    call->body[call->len] = '\0';
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct http2_client *client = ctx;
    struct http2_call *call = call_of(session, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_DATA) client->n_data_frames++;
    if (frame->hd.type == NGHTTP2_PING) client->n_pongs += frame->hd.flags & NGHTTP2_FLAG_ACK;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->goaway = true;
        client->n_goaways++;
        client->goaway_code = frame->goaway.error_code;
        client->goaway_last = frame->goaway.last_stream_id;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && call) {
        bool informational = strncmp(call->head, ":status: 1", 10) == 0 && !call->has_head;
        if (call->has_head) call->has_trailers = true;
        call->has_head = !informational;
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *ctx)
{
    (void)ctx;
    struct http2_call *call = call_of(session, id);
    if (!call) return 0;
    call->closed = true;
    call->error_code = error_code;
    return 0;
}

static ssize_t read_upload(nghttp2_session *session, int32_t id, uint8_t *out, size_t max,
                           uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
    (void)session, (void)id, (void)ctx;
    struct http2_call *call = source->ptr;
    size_t left = call->upload_len - call->upload_sent;
    if (left == 0 && !call->upload_ends) return NGHTTP2_ERR_DEFERRED;
    size_t n = left < max ? left : max;
    if (n) memcpy(out, call->upload + call->upload_sent, n);
    call->upload_sent += n;
    if (n == left && call->upload_ends) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

void http2_client_connect(struct http_fixture *f, struct http2_client *client, uint32_t window)
{
    nghttp2_session_callbacks *calls;
    nghttp2_option *options;
    *client = (struct http2_client){.f = f};
    peer_connect(f, &client->peer);
    assert_int_equal(nghttp2_session_callbacks_new(&calls), 0);
    assert_int_equal(nghttp2_option_new(&options), 0);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_close);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_http_messaging(options, 1); /* it may say what is wrong */
    nghttp2_option_set_peer_max_concurrent_streams(options, HTTP2_CALLS_MAX);
    assert_int_equal(nghttp2_session_client_new2(&client->session, calls, client, options), 0);
    nghttp2_session_callbacks_del(calls);
    nghttp2_option_del(options);
    nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};
    assert_int_equal(
        nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, &entry, window ? 1 : 0), 0);
}

void http2_client_done(struct http2_client *client)
{
    for (size_t i = 0; i < client->n_calls; i++) {
        free(client->calls[i]->body);
        free(client->calls[i]->upload);
        free(client->calls[i]);
    }
    nghttp2_session_del(client->session);
    peer_done(&client->peer);
}

static void send_all(struct http2_client *client)
{
    const uint8_t *bytes;
    for (ssize_t n; (n = nghttp2_session_mem_send(client->session, &bytes)) > 0;) {
        if (!client->peer.closed) peer_send(client->f, &client->peer, bytes, (size_t)n);
    }
}

static void read_all(struct http2_client *client)
{
    static uint8_t bytes[READ_BYTES];
    while (!client->peer.closed && !client->deaf) {
        ssize_t n = recv(client->peer.fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        client->peer.closed = n <= 0;
        client->peer.reset = n < 0;
        if (n > 0 && nghttp2_session_mem_recv(client->session, bytes, (size_t)n) < 0) {
            client->peer.closed = true;
        }
    }
}

void http2_client_turn(struct http2_client *client)
{
    send_all(client);
    fixture_turn(client->f);
    read_all(client);
    send_all(client);
}

static struct http2_call *call_create(struct http2_client *client)
{
    assert_true(client->n_calls < HTTP2_CALLS_MAX);
    struct http2_call *call = calloc(1, sizeof *call);
    assert_non_null(call);
    call->body = calloc(1, 1);
    call->client = client;
    client->calls[client->n_calls++] = call;
    return call;
}

struct http2_call *http2_call_with(struct http2_client *client, const nghttp2_nv *fields,
                                   size_t n_fields, bool ends)
{
    struct http2_call *call = call_create(client);
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_upload};
    call->id = nghttp2_submit_request(client->session, NULL, fields, n_fields,
                                      ends ? NULL : &provider, call);
    assert_true(call->id > 0);
    return call;
}

struct http2_call *http2_call(struct http2_client *client, const char *method, const char *path,
                              const void *body, size_t n, bool ends)
{
    nghttp2_nv fields[] = {HTTP2_NV(":method", ""), HTTP2_NV(":scheme", "http"),
                           HTTP2_NV(":path", ""), HTTP2_NV(":authority", "h")};
    fields[0].value = (uint8_t *)method;
    fields[0].valuelen = strlen(method);
    fields[2].value = (uint8_t *)path;
    fields[2].valuelen = strlen(path);
    struct http2_call *call = http2_call_with(client, fields, 4, !body && ends);
    if (body) http2_call_add(call, body, n, ends);
    return call;
}

void http2_call_add(struct http2_call *call, const void *bytes, size_t n, bool ends)
{
    call->upload = realloc(call->upload, call->upload_len + n + 1);
    assert_non_null(call->upload);
    if (n) memcpy(call->upload + call->upload_len, bytes, n);
    call->upload_len += n;
    call->upload_ends = ends;
    nghttp2_session_resume_data(call->client->session, call->id);
}

void http2_call_reset(struct http2_call *call, uint32_t error_code)
{
    nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->id, error_code);
}
