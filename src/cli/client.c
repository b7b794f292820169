#include "cli/client.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_client.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define POLL_MS 100 /* how soon Ctrl-C is seen while nothing comes */
/* Of the question whether a server is there: one that lives answers in a millisecond. */
#define FIND_TIMEOUT_NS INT64_C(2000000000)
#define CLIENT_TENSOR_BYTES_MAX (256u << 20) /* 64 MB as JSON takes three times as much */
#define ERROR_BYTES_MAX (64u << 10)          /* of an error's body; what is longer is no message */

struct client {
    struct http_client *http;
    char url[HTTP_URL_SIZE];
    char *api_key; /* NULL: none */
    const volatile sig_atomic_t *stop;
    bool named;
};

/* --- where --- */

/* What stands between scheme and port. False: there is none, or it is not a host. */
static bool split_port(const char *host, size_t *n_host, const char **port)
{
    const char *end = host[0] == '[' ? strchr(host, ']') : NULL;
    if (host[0] == '[' && !end) return false;
    const char *colon = strchr(end ? end : host, ':');
    *n_host = colon ? (size_t)(colon - host) : strlen(host);
    *port = colon ? colon + 1 : "";
    if (strspn(*port, "0123456789") != strlen(*port) || strlen(*port) > 5) return false;
    return strcspn(host, " /?#@") == strlen(host);
}

sl_status client_url(const char *server, char *out, size_t out_size, struct sl_err *err)
{
    bool https = strncmp(server, "https://", 8) == 0;
    bool http = strncmp(server, "http://", 7) == 0;
    const char *host = server + (https ? 8 : http ? 7 : 0), *port, *here = "127.0.0.1";
    char text[256];
    size_t n_host, n = strlen(host);
    if (n > 0 && host[n - 1] == '/') n--;
    if (n >= sizeof text) return sl_err_set(err, SL_INVALID, "the server's name is too long");
    memcpy(text, host, n);
    text[n] = '\0';
    if (!split_port(text, &n_host, &port))
        return sl_err_set(err, SL_INVALID, "%.100s: give a server as host, host:port or a URL",
                          server);
    bool everywhere = n_host == 0 || (n_host == 7 && memcmp(text, "0.0.0.0", 7) == 0) ||
                      (n_host == 4 && memcmp(text, "[::]", 4) == 0);
    int default_port = https ? 443 : http ? 80 : CLIENT_DEFAULT_PORT;
    int n_out = snprintf(out, out_size, "%s://%.*s:%d", https ? "https" : "http",
                         everywhere ? (int)strlen(here) : (int)n_host, everywhere ? here : text,
                         *port ? atoi(port) : default_port);
    if (n_out < 0 || (size_t)n_out >= out_size)
        return sl_err_set(err, SL_INVALID, "the server's name is too long");
    return SL_OK;
}

static const char *or_environment(const char *given, const char *name)
{
    const char *value = given ? given : getenv(name);
    return value && *value ? value : NULL;
}

sl_status client_create(const struct client_cfg *cfg, struct client **out, struct sl_err *err)
{
    const char *server = or_environment(cfg->server, "STARLANE_HOST");
    const char *api_key = or_environment(cfg->api_key, "STARLANE_API_KEY");
    struct client *client = sl_calloc(1, sizeof *client);
    if (!client) return sl_err_set(err, SL_NOMEM, "client");
    client->stop = cfg->stop;
    client->named = server != NULL;
    sl_status status =
        client_url(server ? server : "127.0.0.1", client->url, sizeof client->url, err);
    if (status != SL_OK) goto fail;
    if (api_key && !(client->api_key = sl_strdup(api_key))) {
        status = sl_err_set(err, SL_NOMEM, "client");
        goto fail;
    }
    *out = client;
    return SL_OK;
fail:
    client_destroy(client);
    return status;
}

void client_destroy(struct client *client)
{
    if (!client) return;
    http_client_destroy(client->http);
    sl_free(client->api_key);
    sl_free(client);
}

const char *client_server(const struct client *client)
{
    return client->url;
}

bool client_is_named(const struct client *client)
{
    return client->named;
}

sl_status client_escape(const char *name, struct sl_buf *out)
{
    sl_status status = SL_OK;
    for (const char *s = name; *s && status == SL_OK; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = isalnum(c) || strchr("-._~/:", c);
        status = plain ? sl_buf_addc(out, *s) : sl_buf_addf(out, "%%%02X", c);
    }
    return status;
}

const char *client_error_text(const struct sl_json_value *value)
{
    const struct sl_json_value *error = sl_json_get(value, "error");
    const char *message = sl_json_to_str(sl_json_get(error, "message"), NULL, NULL);
    return message ? message : sl_json_to_str(error, NULL, NULL);
}

/* --- one exchange --- */

struct exchange {
    struct client *client;
    struct client_sse *sse; /* NULL: the whole body is kept */
    struct sl_buf body;     /* the answer, or what an error says */
    struct http_head head;
    int64_t deadline_ns; /* 0: none */
    bool done;
    sl_status status; /* how the transfer ended */
    sl_status taken;  /* how its bytes were taken */
    struct sl_err *err;
};

static bool on_body(void *ctx, const void *bytes, size_t n)
{
    struct exchange *x = ctx;
    x->taken = x->sse && http_status_meaning(x->head.status) == SL_OK
                   ? client_sse_push(x->sse, bytes, n)
                   : sl_buf_add(&x->body, bytes, n);
    return x->taken == SL_OK;
}

static bool on_head(void *ctx, const struct http_head *head)
{
    ((struct exchange *)ctx)->head = *head;
    return true;
}

static void on_done(void *ctx, sl_status status, const struct http_head *head,
                    const struct sl_err *err)
{
    struct exchange *x = ctx;
    x->done = true;
    x->head = *head;
    x->status = status;
    if (status != SL_OK && x->taken == SL_OK)
        (void)sl_err_set(x->err, status, "%s: %s", x->client->url, err->text);
}

/* Why it must end before its answer has come; OK: it goes on. */
static sl_status check_end(const struct exchange *x)
{
    if (x->client->stop && *x->client->stop) return sl_err_set(x->err, SL_CANCELLED, "stopped");
    if (x->deadline_ns && sl_now_ns() > x->deadline_ns)
        return sl_err_set(x->err, SL_TIMEOUT, "%s does not answer", x->client->url);
    return SL_OK;
}

static sl_status transfer(struct exchange *x, const struct http_request *request)
{
    struct client *client = x->client;
    struct http_transfer *transfer;
    if (!client->http) {
        sl_status status = http_client_create(&client->http, x->err);
        if (status != SL_OK) return status;
    }
    sl_status status = http_client_start(client->http, request, &transfer, x->err);
    while (status == SL_OK && !x->done) {
        status = http_client_poll(client->http, POLL_MS, x->err);
        if (status == SL_OK && !x->done) status = check_end(x);
        if (status != SL_OK && !x->done) http_client_stop(client->http, transfer);
    }
    return status;
}

/* The answer's status, with what the server says about it. */
static sl_status read_outcome(struct exchange *x)
{
    struct sl_json_value *value = NULL;
    if (x->taken == SL_LIMIT || x->taken == SL_NOMEM)
        return sl_err_set(x->err, x->taken, "%s: the answer is too long", x->client->url);
    if (x->taken != SL_OK) return SL_OK; /* the caller has what it wanted */
    if (x->status != SL_OK) return x->status;
    sl_status status = http_status_meaning(x->head.status);
    if (status == SL_OK) return SL_OK;
    const char *hint = "";
    if (x->head.status == 401) {
        status = SL_UNAUTHENTICATED;
        hint = "; give --api-key or set STARLANE_API_KEY";
    }
    if (sl_json_parse(x->body.data, x->body.len, &value, NULL) != SL_OK) value = NULL;
    const char *text = client_error_text(value);
    if (text)
        (void)sl_err_set(x->err, status, "%s%s", text, hint);
    else
        (void)sl_err_set(x->err, status, "%s: HTTP status %d%s", x->client->url, x->head.status,
                         hint);
    sl_json_free(value);
    return status;
}

/* Fills in what all requests have in common. */
static sl_status send_request(struct exchange *x, const char *path, const struct http_request *what)
{
    struct http_request request = *what;
    char url[HTTP_URL_SIZE];
    int n = snprintf(url, sizeof url, "%s%s", x->client->url, path);
    if (n < 0 || (size_t)n >= sizeof url)
        return sl_err_set(x->err, SL_INVALID, "the name is too long");
    request.url = url;
    request.bearer = x->client->api_key;
    request.allow_http = true; /* the user chose the server and its scheme */
    request.on_head = on_head;
    request.on_body = on_body;
    request.on_done = on_done;
    request.ctx = x;
    sl_status status = transfer(x, &request);
    return status == SL_OK ? read_outcome(x) : status;
}

static sl_status run_exchange(struct exchange *x, const char *method, const char *path,
                              const struct sl_buf *body)
{
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Expect:", "X-Starlane-Class: interactive"};
    const struct http_request request = {
        .method = method,
        .body = body ? body->data : NULL,
        .n_body = body ? body->len : 0,
        .headers = headers,
        .n_headers = sizeof headers / sizeof *headers,
    };
    return send_request(x, path, &request);
}

struct question {
    const char *method, *path; /* method NULL: GET, or POST with a body */
    const struct sl_buf *body;
    int64_t timeout_ns; /* 0: none */
};

static sl_status call(struct client *client, const struct question *what,
                      struct sl_json_value **out, struct sl_err *err)
{
    struct sl_err own = SL_ERR_INIT;
    struct exchange x = {.client = client,
                         .deadline_ns = what->timeout_ns ? sl_now_ns() + what->timeout_ns : 0,
                         .err = err ? err : &own};
    sl_buf_init(&x.body, CLIENT_ANSWER_BYTES_MAX);
    sl_status status = run_exchange(&x, what->method, what->path, what->body);
    if (status == SL_OK && sl_json_parse(x.body.data, x.body.len, out, NULL) != SL_OK)
        status = sl_err_set(x.err, SL_UNAVAILABLE, "%s: the answer is no JSON", client->url);
    sl_buf_done(&x.body);
    return status;
}

sl_status client_call(struct client *client, const char *path, const struct sl_buf *body,
                      struct sl_json_value **out, struct sl_err *err)
{
    const struct question what = {.path = path, .body = body};
    return call(client, &what, out, err);
}

sl_status client_call_as(struct client *client, const char *method, const char *path,
                         const struct sl_buf *body, struct sl_json_value **out, struct sl_err *err)
{
    const struct question what = {.method = method, .path = path, .body = body};
    return call(client, &what, out, err);
}

sl_status client_post(struct client *client, const struct client_post *post, struct sl_buf *out,
                      char *kept, struct sl_err *err)
{
    struct exchange x = {.client = client, .err = err};
    const struct http_request request = {.body = post->body,
                                         .n_body = post->n_body,
                                         .headers = post->headers,
                                         .n_headers = post->n_headers,
                                         .keep = post->keep};
    sl_buf_init(&x.body, CLIENT_TENSOR_BYTES_MAX);
    sl_status status = send_request(&x, post->path, &request);
    if (status == SL_OK) {
        memcpy(kept, x.head.kept, sizeof x.head.kept);
        status = sl_buf_add(out, x.body.data, x.body.len);
        if (status != SL_OK) (void)sl_err_set(err, status, "%s: the answer", client->url);
    }
    sl_buf_done(&x.body);
    return status;
}

/* --- is it there --- */

/* To load the HTTP library only to learn that nobody listens would cost every `run` some
 * milliseconds. */
static bool somebody_listens_here(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(CLIENT_DEFAULT_PORT)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listens = fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof at) == 0;
    if (fd >= 0) close(fd);
    return listens;
}

/* Other servers have a /health too; ours also counts. */
static bool is_ours(const struct sl_json_value *health)
{
    return sl_json_is(sl_json_get(health, "version"), SL_JSON_STR) &&
           sl_json_is(sl_json_get(health, "running"), SL_JSON_INT) &&
           sl_json_is(sl_json_get(health, "waiting"), SL_JSON_INT);
}

sl_status client_find(struct client *client, struct sl_err *err)
{
    struct sl_json_value *health = NULL;
    sl_status status = client->named || somebody_listens_here() ? SL_OK : SL_UNAVAILABLE;
    const struct question what = {.path = "/health", .timeout_ns = FIND_TIMEOUT_NS};
    if (status == SL_OK) status = call(client, &what, &health, err);
    if (status == SL_CANCELLED || status == SL_NOMEM || status == SL_DENIED) return status;
    if (status == SL_OK && !is_ours(health)) status = SL_NOT_FOUND;
    sl_json_free(health);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, SL_UNAVAILABLE, "no server at %s; start one with `starlane serve`",
                      client->url);
}

/* --- streams --- */

struct stream {
    client_event_fn *event;
    void *ctx;
    bool ended; /* [DONE] */
    sl_status status;
    struct sl_err *err;
};

static bool on_event(void *ctx, const char *data, size_t n)
{
    static const char done[] = "[DONE]";
    struct stream *s = ctx;
    struct sl_json_value *value = NULL;
    s->ended = n == sizeof done - 1 && memcmp(data, done, n) == 0;
    if (s->ended) return false;
    /* An error is rare: only what looks like one is read twice. */
    if (n > 9 && memcmp(data, "{\"error\":", 9) == 0 &&
        sl_json_parse(data, n, &value, NULL) == SL_OK) {
        const char *text = client_error_text(value);
        s->status = sl_err_set(s->err, SL_UNAVAILABLE, "%s", text ? text : "the server failed");
        sl_json_free(value);
        return false;
    }
    return s->event(s->ctx, data, n);
}

sl_status client_stream(struct client *client, const char *path, const struct sl_buf *body,
                        client_event_fn *event, void *ctx, struct sl_err *err)
{
    struct client_sse sse;
    struct stream stream = {.event = event, .ctx = ctx, .err = err};
    struct exchange x = {.client = client, .sse = &sse, .err = err};
    client_sse_init(&sse, on_event, &stream);
    sl_buf_init(&x.body, ERROR_BYTES_MAX);
    sl_status status = run_exchange(&x, NULL, path, body);
    if (status == SL_OK) status = stream.status;
    if (status == SL_OK && x.taken == SL_OK && !stream.ended)
        status = sl_err_set(err, SL_UNAVAILABLE, "%s: the answer ended early", client->url);
    client_sse_done(&sse);
    sl_buf_done(&x.body);
    return status;
}
