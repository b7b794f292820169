/* http_answer.c: answers over HTTP/1: status lines, header fields (RFC 9110), chunks (RFC 9112),
 * and the refusals of requests that never became an exchange. */
#include "base/decimal.h"
#include "net/http_int.h"

#include <string.h>
#include <time.h>

#define CHUNK_HEAD_MAX 20 /* 16 digits, CR LF, NUL */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status) return reasons[i].reason;
    }
    return "";
}

/* RFC 9110 5.6.7, by hand because strftime speaks the locale's language. */
const char *http_answer_date_line(struct http_server *server)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = time(NULL);
    if (now == server->date_s) return server->date_line;
    struct tm tm;
    gmtime_r(&now, &tm);
    snprintf(server->date_line, sizeof server->date_line,
             "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + 3 * (size_t)tm.tm_wday,
             tm.tm_mday, months + 3 * (size_t)tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
             tm.tm_sec);
    server->date_s = now;
    return server->date_line;
}

/* A status that sticks, so that a head is a list of pieces. */
struct writer {
    struct http_conn *conn;
    sl_status status;
};

static void put(struct writer *w, const char *s, size_t n)
{
    if (w->status == SL_OK) w->status = http_conn_add(w->conn, s, n);
}

static void put_str(struct writer *w, const char *s)
{
    put(w, s, strlen(s));
}

static void put_field(struct writer *w, const char *name, const char *value)
{
    put_str(w, name);
    put(w, ": ", 2);
    put_str(w, value);
    put(w, "\r\n", 2);
}

static void put_status_line(struct writer *w, int status)
{
    if (status == 200) {
        put_str(w, "HTTP/1.1 200 OK\r\n");
        return;
    }
    char code[24];
    snprintf(code, sizeof code, "HTTP/1.1 %d ", status);
    put_str(w, code);
    put_str(w, reason_of(status));
    put(w, "\r\n", 2);
}

static void put_length(struct writer *w, int64_t n)
{
    char text[SL_DECIMAL_MAX];
    (void)sl_decimal(n, text);
    put_field(w, "Content-Length", text);
}

/* Decides whether the connection lives on: not while draining, and not when its end is the only way
 * to mark the end of the body. */
static void put_connection(struct writer *w, const struct http_exchange *x, bool ends_by_close)
{
    struct http_conn *conn = w->conn;
    if (conn->server->draining || ends_by_close) conn->keep_alive = false;
    if (!conn->keep_alive) {
        put_str(w, "Connection: close\r\n");
    } else if (!x->request.version_1_1) {
        put_str(w, "Connection: keep-alive\r\n");
    }
}

static void put_added(struct writer *w, const struct http_added_header *first)
{
    for (const struct http_added_header *h = first; h; h = h->next) {
        put(w, h->name, h->name_len);
        put(w, ": ", 2);
        put(w, h->value, h->value_len);
        put(w, "\r\n", 2);
    }
}

/* body_len < 0: chunked if x->chunked, else until the end of the connection. */
static sl_status add_head(const struct http_exchange *x, int status, const char *content_type,
                          int64_t body_len)
{
    struct http_conn *conn = x->conn;
    struct writer w = {conn, SL_OK};
    bool may_have_body = status != 204 && status != 304;
    put_status_line(&w, status);
    put_str(&w, http_answer_date_line(conn->server));
    if (conn->server->cfg.server_name) put_field(&w, "Server", conn->server->cfg.server_name);
    if (content_type) put_field(&w, "Content-Type", content_type);
    if (may_have_body && body_len >= 0) put_length(&w, body_len);
    if (may_have_body && body_len < 0 && x->chunked) put_field(&w, "Transfer-Encoding", "chunked");
    put_connection(&w, x, body_len < 0 && !x->chunked && !x->bodiless);
    put_added(&w, x->added);
    put(&w, "\r\n", 2);
    return w.status;
}

size_t http_answer_reject_body(enum http_reject reject, char out[HTTP_REJECT_BYTES_MAX])
{
    int n = snprintf(out, HTTP_REJECT_BYTES_MAX,
                     "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\","
                     "\"param\":null,\"code\":null}}",
                     http_reject_message(reject));
    return (size_t)n;
}

sl_status http_answer_reject(struct http_conn *conn, enum http_reject reject)
{
    struct writer w = {conn, SL_OK};
    char body[HTTP_REJECT_BYTES_MAX];
    size_t n = http_answer_reject_body(reject, body);
    put_status_line(&w, http_reject_status(reject));
    put_str(&w, http_answer_date_line(conn->server));
    put_field(&w, "Content-Type", "application/json");
    put_length(&w, (int64_t)n);
    if (http_reject_status(reject) == 503) put_field(&w, "Retry-After", "1");
    put_str(&w, "Connection: close\r\n\r\n");
    put(&w, body, n);
    return w.status;
}

/* --- the face of HTTP/1 --- */

static sl_status respond(struct http_exchange *x, int status, const char *content_type,
                         const void *body, size_t n, struct sl_buf *own)
{
    (void)own; /* the body goes behind the head, and so does what follows it */
    sl_status result = add_head(x, status, content_type, (int64_t)n);
    if (result != SL_OK || x->bodiless) return result;
    return http_conn_add(x->conn, body, n);
}

static sl_status begin(struct http_exchange *x, int status, const char *content_type)
{
    x->chunked = x->request.version_1_1;
    return add_head(x, status, content_type, -1);
}

static sl_status write_piece(struct http_exchange *x, const void *bytes, size_t n)
{
    if (!x->chunked) return http_conn_add(x->conn, bytes, n);
    char head[CHUNK_HEAD_MAX];
    int head_len = snprintf(head, sizeof head, "%zx\r\n", n);
    size_t before = x->conn->out.len;
    struct writer w = {x->conn, SL_OK};
    put(&w, head, (size_t)head_len);
    put(&w, bytes, n);
    put(&w, "\r\n", 2);
    if (w.status != SL_OK) sl_buf_truncate(&x->conn->out, before);
    return w.status;
}

static sl_status finish(struct http_exchange *x)
{
    if (!x->chunked || x->bodiless) return SL_OK;
    struct writer w = {x->conn, SL_OK};
    put(&w, "0\r\n", 3);
    put_added(&w, x->trailers);
    put(&w, "\r\n", 2);
    return w.status;
}

static size_t backlog(const struct http_exchange *x)
{
    return http_conn_unsent(x->conn);
}

static void body_wanted(struct http_exchange *x)
{
    (void)x; /* it came whole */
}

static void release(struct http_conn *conn, struct http2_stream *stream, bool cut_off)
{
    (void)stream;
    conn->exchange = NULL;
    if (cut_off) {
        http_conn_reset(conn);
    } else {
        http_conn_answered(conn);
    }
}

const struct http_face http1_face = {
    .respond = respond,
    .begin = begin,
    .write = write_piece,
    .finish = finish,
    .backlog = backlog,
    .body_wanted = body_wanted,
    .release = release,
};
