/* http_exchange.c: one request and the calls that answer it, whatever the HTTP version. Nothing
 * here writes to a socket: output gathers in the connection and leaves at the end of the turn. */
#include "net/http_int.h"

#include "base/mem.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define ARENA_KEPT_MAX 4096 /* an exchange with more is not kept for the next request */

/* --- the request --- */

/* Everything is cut out of one copy of the head: the byte after each piece is a colon, a space or a
 * CR, so that a NUL fits in. */
static const char *cut(char *head, struct http_span span)
{
    head[span.at + span.len] = '\0';
    return head + span.at;
}

static bool copy_headers(struct http_exchange *x, const struct http_parser *parsed, char *head)
{
    struct http_header *headers = sl_arena_array(&x->arena, parsed->n_fields, sizeof *headers);
    if (!headers) return false;
    for (uint32_t i = 0; i < parsed->n_fields; i++) {
        const struct http_field *field = &parsed->fields[i];
        for (uint32_t k = 0; k < field->name.len; k++) {
            char *c = &head[field->name.at + k];
            if (*c >= 'A' && *c <= 'Z') *c |= 0x20;
        }
        headers[i] = (struct http_header){
            .name = cut(head, field->name),
            .value = cut(head, field->value),
            .name_len = field->name.len,
            .value_len = field->value.len,
        };
    }
    x->request.headers = headers;
    x->request.n_headers = parsed->n_fields;
    return true;
}

bool http_exchange_set_target(struct http_exchange *x, const char *target)
{
    struct http_request *request = &x->request;
    size_t path_len = strcspn(target, "?");
    char *path = sl_arena_alloc(&x->arena, path_len + 1);
    if (!path) return false;
    request->target = target;
    request->path = path;
    request->path_len = http_percent_decode(target, path_len, path);
    request->query = target[path_len] ? target + path_len + 1 : "";
    request->query_len = strlen(request->query);
    return request->path_len != SIZE_MAX;
}

/* An absolute-form target without a path means "/" (RFC 9110 4.2.3). */
static bool copy_target(struct http_exchange *x, const struct http_parser *parsed, char *head)
{
    const char *target = cut(head, parsed->target);
    if (*target == '/' || *target == '*') return http_exchange_set_target(x, target);
    char *with_path = sl_arena_alloc(&x->arena, parsed->target.len + 2);
    if (!with_path) return false;
    with_path[0] = '/';
    memcpy(with_path + 1, target, parsed->target.len + 1);
    return http_exchange_set_target(x, with_path);
}

bool http_exchange_set_head(struct http_exchange *x, const struct http_parser *parsed,
                            const char *bytes)
{
    char *head = sl_arena_alloc(&x->arena, parsed->head_bytes);
    if (!head) return false;
    memcpy(head, bytes, parsed->head_bytes);
    x->request.method = parsed->method;
    x->request.method_text = cut(head, parsed->method_text);
    x->request.version_1_1 = parsed->version_1_1;
    return copy_target(x, parsed, head) && copy_headers(x, parsed, head);
}

static struct http_exchange *take_spare(struct http_server *server)
{
    if (server->n_spare_exchanges) return server->spare_exchanges[--server->n_spare_exchanges];
    struct http_exchange *x = sl_calloc(1, sizeof *x);
    if (x) sl_arena_init(&x->arena, server->cfg.arena_bytes_max);
    return x;
}

/* Who asks, copied: x may outlive its connection. */
static bool set_peer(struct http_exchange *x, const struct http_conn *conn)
{
    const struct pki_peer *member = conn->tls ? tls_peer(conn->tls) : NULL;
    x->request.is_tls = conn->tls != NULL;
    x->request.peer = sl_arena_strndup(&x->arena, conn->peer, strlen(conn->peer));
    if (!member) return x->request.peer != NULL;
    x->request.peer_is_gateway = member->is_gateway;
    x->request.peer_id = sl_arena_strndup(&x->arena, member->id, strlen(member->id));
    return x->request.peer && x->request.peer_id;
}

struct http_exchange *http_exchange_create(struct http_conn *conn, const struct http_face *face)
{
    struct http_exchange *x = take_spare(conn->server);
    if (!x) return NULL;
    http_conn_proved(conn);
    http_link_init(&x->link);
    http_list_append(&conn->server->list_live, &x->link);
    x->server = conn->server;
    x->conn = conn;
    x->face = face;
    x->added_end = &x->added;
    x->trailers_end = &x->trailers;
    x->body_deadline_ns = loop_now_ns(conn->server->loop) + conn->server->cfg.body_timeout_ns;
    x->request.begin_ns = conn->begin_ns;
    sl_buf_init(&x->body, conn->server->cfg.body_bytes_max);
    if (set_peer(x, conn)) return x;
    http_exchange_free(x);
    return NULL;
}

void http_exchange_free(struct http_exchange *x)
{
    struct http_server *server = x->server;
    http_link_remove(&x->link);
    server->stats.body_bytes -= x->body.len;
    if (x->given) server->stats.n_active--;
    sl_buf_done(&x->body);
    if (x->arena.used_bytes > ARENA_KEPT_MAX || server->n_spare_exchanges == HTTP_SPARE_EXCHANGES) {
        sl_arena_done(&x->arena);
        sl_free(x);
        return;
    }
    sl_arena_reset(&x->arena);
    *x = (struct http_exchange){.arena = x->arena};
    server->spare_exchanges[server->n_spare_exchanges++] = x;
}

/* Large bodies leave a part of the budget to small ones: a few of them, sent as slowly as allowed,
 * would keep everybody out for an hour. */
static size_t budget_for(const struct http_exchange *x, size_t n)
{
    size_t total = x->server->cfg.body_total_bytes_max;
    return x->body.len + n > HTTP_BODY_SMALL ? total - total / 4 : total;
}

enum http_reject http_exchange_add_body(struct http_exchange *x, const void *data, size_t n)
{
    struct http_server *server = x->server;
    size_t budget = budget_for(x, n);
    if (server->stats.body_bytes > budget || n > budget - server->stats.body_bytes) {
        return HTTP_REJECT_BODY_BUDGET;
    }
    if (sl_buf_add(&x->body, data, n) != SL_OK) return HTTP_REJECT_NO_MEMORY;
    server->stats.body_bytes += n;
    return HTTP_REJECT_NONE;
}

size_t http_exchange_feed(struct http_exchange *x, const char *in, size_t n)
{
    size_t used = 0;
    while (used < n && x->framing.state < HTTP_BODY_DONE) {
        const char *data;
        size_t n_data;
        used += http_body_feed(&x->framing, in + used, n - used, &data, &n_data);
        enum http_reject reject = n_data ? http_exchange_add_body(x, data, n_data) : 0;
        if (!reject) continue;
        x->framing.reject = reject;
        x->framing.state = HTTP_BODY_REJECTED;
    }
    return used;
}

void http_exchange_give(struct http_exchange *x)
{
    struct http_server *server = x->server;
    if (!x->streamed_body) {
        x->request.body = x->body.data;
        x->request.body_len = x->body.len;
    }
    x->given = true;
    server->stats.n_requests++;
    server->stats.n_active++;
    server->cfg.on_request(server->cfg.ctx, x);
}

const struct http_request *http_exchange_request(const struct http_exchange *x)
{
    return &x->request;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < request->n_headers; i++) {
        const struct http_header *header = &request->headers[i];
        if (header->name_len == n && strncasecmp(header->name, name, n) == 0) return header->value;
    }
    return NULL;
}

static const char *decode_query_value(struct sl_arena *arena, const char *s, size_t n)
{
    char *out = sl_arena_alloc(arena, n + 1);
    if (!out) return NULL;
    size_t len = http_percent_decode(s, n, out);
    if (len == SIZE_MAX) return NULL;
    out[len] = '\0';
    return out;
}

const char *http_exchange_query(struct http_exchange *x, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *at = x->request.query; *at;) {
        size_t n = strcspn(at, "&");
        if (n >= name_len && memcmp(at, name, name_len) == 0 &&
            (n == name_len || at[name_len] == '=')) {
            size_t skip = n == name_len ? n : name_len + 1;
            char *value = sl_arena_strndup(&x->arena, at + skip, n - skip);
            if (!value) return NULL;
            for (char *c = value; *c; c++) {
                if (*c == '+') *c = ' ';
            }
            return decode_query_value(&x->arena, value, n - skip);
        }
        at += n + (at[n] == '&');
    }
    return NULL;
}

/* --- the owner's things --- */

struct sl_arena *http_exchange_arena(struct http_exchange *x)
{
    return &x->arena;
}

void http_exchange_set_user(struct http_exchange *x, void *user)
{
    x->user = user;
}

void *http_exchange_user(const struct http_exchange *x)
{
    return x->user;
}

void http_exchange_set_close_handler(struct http_exchange *x, http_exchange_fn fn, void *ctx)
{
    x->on_close = fn;
    x->close_ctx = ctx;
    if (x->conn || x->told || !fn) return;
    http_list_append(&x->server->list_untold, &x->link);
    loop_queue_task(x->server->loop, &x->server->task);
}

bool http_exchange_is_closed(const struct http_exchange *x)
{
    return x->conn == NULL;
}

void http_exchange_orphan(struct http_exchange *x)
{
    if (!x->given) {
        http_exchange_free(x);
        return;
    }
    x->conn = NULL;
    x->stream = NULL;
    x->server->stats.n_client_gone++;
    http_list_append(&x->server->list_untold, &x->link);
    loop_queue_task(x->server->loop, &x->server->task);
}

void http_exchange_tell_closed(struct http_exchange *x)
{
    http_list_append(&x->server->list_told, &x->link);
    if (!x->on_close) return;
    x->told = true;
    x->on_close(x->close_ctx, x);
}

/* --- the answer --- */

/* Framing and connection management are the server's alone. */
static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"content-length", "transfer-encoding", "connection",
                                           "date"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcasecmp(name, reserved[i]) == 0) return true;
    }
    return false;
}

static sl_status add_field(struct http_exchange *x, const char *name, const char *value,
                           struct http_added_header ***end)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    if (!http_is_token(name, name_len) || !http_is_field_value(value, value_len) ||
        is_reserved(name)) {
        return SL_INVALID;
    }
    struct http_added_header *header = sl_arena_alloc(&x->arena, sizeof *header);
    char *name_copy = sl_arena_strndup(&x->arena, name, name_len);
    char *value_copy = sl_arena_strndup(&x->arena, value, value_len);
    if (!header || !name_copy || !value_copy) {
        bool full = x->arena.max_bytes - x->arena.used_bytes < name_len + value_len + 128;
        return full ? SL_LIMIT : SL_NOMEM;
    }
    *header = (struct http_added_header){NULL, name_copy, value_copy, name_len, value_len};
    **end = header;
    *end = &header->next;
    return SL_OK;
}

sl_status http_exchange_header_add(struct http_exchange *x, const char *name, const char *value)
{
    return add_field(x, name, value, &x->added_end);
}

sl_status http_exchange_trailer_add(struct http_exchange *x, const char *name, const char *value)
{
    return add_field(x, name, value, &x->trailers_end);
}

void http_exchange_set_body_handler(struct http_exchange *x, http_body_fn fn, void *ctx)
{
    x->on_body = fn;
    x->body_ctx = ctx;
    if (x->conn && x->streamed_body) x->face->body_wanted(x);
}

void http_exchange_body_pause(struct http_exchange *x, bool paused)
{
    x->body_paused = paused;
    if (x->conn && x->streamed_body) x->face->body_wanted(x);
}

/* Ends x; its connection or stream, if any is left, goes on as its face says, or is cut. */
static void end_exchange(struct http_exchange *x, bool cut_off)
{
    struct http_conn *conn = x->conn;
    struct http2_stream *stream = x->stream;
    const struct http_face *face = x->face;
    http_exchange_free(x);
    if (conn) face->release(conn, stream, cut_off);
}

static bool has_no_body(const struct http_exchange *x, int status)
{
    return x->request.method == HTTP_METHOD_HEAD || status == 204 || status == 304;
}

static void respond(struct http_exchange *x, int status, const char *content_type, const void *body,
                    size_t n, struct sl_buf *own)
{
    assert(x->given && !x->streaming && status >= 200);
    bool failed = false;
    if (x->conn) {
        x->bodiless = has_no_body(x, status);
        failed = x->face->respond(x, status, content_type, body, n, own) != SL_OK;
    }
    end_exchange(x, failed);
}

void http_respond(struct http_exchange *x, int status, const char *content_type, const void *body,
                  size_t n)
{
    respond(x, status, content_type, body, n, NULL);
}

void http_respond_buf(struct http_exchange *x, int status, const char *content_type,
                      struct sl_buf *body)
{
    respond(x, status, content_type, body->data, body->len, body);
}

sl_status http_stream_begin(struct http_exchange *x, int status, const char *content_type)
{
    assert(x->given && !x->streaming && status >= 200);
    if (!x->conn) return SL_CANCELLED;
    x->bodiless = has_no_body(x, status);
    sl_status result = x->face->begin(x, status, content_type);
    x->streaming = result == SL_OK;
    return result;
}

sl_status http_stream_write(struct http_exchange *x, const void *bytes, size_t n)
{
    assert(x->streaming || !x->conn);
    if (!x->conn) return SL_CANCELLED;
    if (n == 0 || x->bodiless) return SL_OK; /* an empty chunk would be the end */
    if (x->face->backlog(x) >= x->server->cfg.stream_backlog_max) {
        x->drain_wanted = true;
        return SL_BUSY;
    }
    return x->face->write(x, bytes, n);
}

void http_stream_set_drain_handler(struct http_exchange *x, http_exchange_fn fn, void *ctx)
{
    x->on_drain = fn;
    x->drain_ctx = ctx;
}

size_t http_stream_backlog(const struct http_exchange *x)
{
    return x->conn ? x->face->backlog(x) : 0;
}

void http_stream_end(struct http_exchange *x)
{
    assert(x->streaming || !x->conn);
    end_exchange(x, x->conn && x->face->finish(x) != SL_OK);
}

void http_exchange_abort(struct http_exchange *x)
{
    end_exchange(x, true);
}
