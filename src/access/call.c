#include "access/gateway_int.h"
#include "access/grpc.h"
#include "access/origin.h"
#include "base/clock.h"
#include "base/decimal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_BODY_MAX (8u << 10)
/* Those that clients of these APIs send; "*" would leave out Authorization. */
#define ALLOWED_HEADERS \
    "Authorization, Content-Type, X-Api-Key, X-Starlane-Class, X-Starlane-Queue-Timeout-Ms, " \
    "X-Requested-With, User-Agent, Accept, OpenAI-Beta, X-Stainless-Lang, " \
    "X-Stainless-Package-Version, X-Stainless-Os, X-Stainless-Arch, X-Stainless-Runtime, " \
    "X-Stainless-Runtime-Version, X-Stainless-Retry-Count, X-Stainless-Timeout, " \
    "X-Stainless-Helper-Method"
#define BYTES_PER_TOKEN 4     /* of English, about */
#define STREAM_ID UINT64_C(1) /* of the random numbers that ids are made of */

/* What is too long is cut. */
static void copy_text(char *out, size_t size, const char *text)
{
    size_t n = strnlen(text, size - 1);
    memcpy(out, text, n);
    out[n] = '\0';
}

/* --- life --- */

static struct call **list_of(const struct call *call)
{
    return call->is_child ? &call->gateway->children : &call->gateway->calls;
}

static void link_call(struct call *call)
{
    struct call **list = list_of(call);
    call->next = *list;
    if (call->next) call->next->previous = call;
    *list = call;
}

static void unlink_call(struct call *call)
{
    if (call->previous)
        call->previous->next = call->next;
    else
        *list_of(call) = call->next;
    if (call->next) call->next->previous = call->previous;
}

void call_free(struct call *call)
{
    int64_t now_ns = sl_now_ns();
    if (call->admitted)
        quota_release(&call->key->quota, now_ns / 1000000, call->n_reserved,
                      call->row.prompt_tokens + call->row.completion_tokens);
    if (call->metrics) {
        metrics_end(call->metrics, call->end);
        metrics_observe(call->metrics, METRICS_E2E, now_ns - call->begin_ns);
    }
    if (call->work && call->free_work) call->free_work(call->work);
    if (call->carrier) call->free_carrier(call->carrier);
    unlink_call(call);
    sl_json_free(call->body);
    sl_buf_done(&call->body_out);
    sl_arena_done(&call->arena);
    sl_free(call);
}

struct sl_arena *call_arena(struct call *call)
{
    return call->is_child ? &call->arena : http_exchange_arena(call->x);
}

static void end_gone(struct call *call)
{
    if (!call->is_child) http_exchange_abort(call->x);
    call_free(call);
}

/* The answer of a child has no head of its own. */
static void add_header(struct call *call, const char *name, const char *value)
{
    if (!call->is_child) (void)!http_exchange_header_add(call->x, name, value);
}

void call_abort(struct call *call)
{
    call->gone = true;
    if (call->saving) return; /* settle ends it */
    if (call->on_gone) call->on_gone(call);
    call->end = METRICS_END_ABORT;
    if (call->metrics) metrics_count(call->metrics, METRICS_DISCONNECTS, 1);
    if (call->row.model[0]) {
        /* What was computed for it counts, and waits for its place like every other row. */
        copy_text(call->row.finish, sizeof call->row.finish, "cancelled");
        call->row.http_status = sl_status_http(SL_CANCELLED);
        call_commit(call, end_gone);
    } else {
        end_gone(call);
    }
}

static void on_closed(void *ctx, struct http_exchange *x)
{
    (void)x;
    call_abort(ctx);
}

static char *put_hex(char *out, uint64_t v, int n_digits)
{
    for (int i = n_digits; i-- > 0; v >>= 4) out[i] = "0123456789abcdef"[v & 15];
    return out + n_digits;
}

/* "req_", 16 random digits, 8 of a counter. */
static void make_id(struct gateway *gateway, char out[CALL_ID_MAX])
{
    uint64_t n = gateway->n_ids++;
    char *end = put_hex(stpcpy(out, "req_"), sl_rng_u64(gateway->id_seed, STREAM_ID, n), 16);
    *put_hex(end, n, 8) = '\0';
}

bool call_authenticate(struct call *call)
{
    return call->route->open || call_check_key(call);
}

bool call_check_key(struct call *call)
{
    struct keys *keys = call->gateway->cfg.keys;
    struct sl_err err = SL_ERR_INIT;
    if (!keys || !keys_any(keys)) return true;
    const char *credential = http_request_header(call->request, "authorization");
    if (!credential) credential = http_request_header(call->request, "x-api-key");
    if (keys_check(keys, credential, sl_unix_time_ms(), &call->key, &err) == SL_OK) return true;
    call->key = NULL;
    add_header(call, "WWW-Authenticate", "Bearer");
    call_fail(call, SL_UNAUTHENTICATED, NULL, "invalid_api_key", err.text);
    return false;
}

static void no_route(struct call *call, bool path_known)
{
    char message[256], allowed[64];
    if (path_known) {
        route_methods(call->request->path, allowed, sizeof allowed);
        (void)!http_exchange_header_add(call->x, "Allow", allowed); /* RFC 9110, 15.5.6 */
    }
    snprintf(message, sizeof message, "%s: %s %.150s",
             path_known                        ? "this path has another method"
             : call->route->family == API_GRPC ? "no such gRPC method"
                                               : "no such path",
             call->request->method_text, call->request->path);
    if (call->route->family == API_GRPC)
        call_fail(call, SL_UNSUPPORTED, NULL, NULL, message);
    else
        call_fail(call, SL_NOT_FOUND, NULL, path_known ? "method_not_allowed" : "unknown_url",
                  message);
}

/* False: it comes from a web page that has no business here, and has been told. */
static bool check_origin(struct call *call)
{
    const struct gateway_cfg *cfg = &call->gateway->cfg;
    bool keys = cfg->keys && keys_any(cfg->keys);
    const char *origin = http_request_header(call->request, "origin");
    const char *host = http_request_header(call->request, "host");
    bool allowed = origin && origin_is_allowed(origin, cfg->origins);
    if (allowed) {
        (void)!http_exchange_header_add(call->x, "Access-Control-Allow-Origin", origin);
        (void)!http_exchange_header_add(call->x, "Vary", "Origin");
        (void)!http_exchange_header_add(call->x, "Access-Control-Expose-Headers", "*");
    }
    /* A page that knows a key was given it. */
    if (keys) return true;
    if (origin && !allowed) {
        call_fail(call, SL_DENIED, NULL, "origin_not_allowed",
                  "web pages of this origin may not use the service (serve --origins allows them)");
        return false;
    }
    if (cfg->local_only && host && !origin_host_is_ours(host, cfg->origins)) {
        call_fail(call, SL_DENIED, NULL, "host_not_allowed",
                  "the Host header names another machine; use localhost or an address");
        return false;
    }
    return true;
}

/* What a browser asks before it sends a page's request (Fetch Standard, section 4.8). */
static void answer_preflight(struct call *call)
{
    (void)!http_exchange_header_add(call->x, "Access-Control-Allow-Methods",
                                    "GET, POST, PATCH, DELETE, OPTIONS");
    (void)!http_exchange_header_add(call->x, "Access-Control-Allow-Headers", ALLOWED_HEADERS);
    (void)!http_exchange_header_add(call->x, "Access-Control-Max-Age", "86400");
    call_respond(call, 204, NULL, "", 0);
}

static const struct route *nowhere(enum api_family family)
{
    static const struct route routes[] = {[API_OPENAI] = {.family = API_OPENAI, .open = true},
                                          [API_OLLAMA] = {.family = API_OLLAMA, .open = true},
                                          [API_OIP] = {.family = API_OIP, .open = true},
                                          [API_GRPC] = {.family = API_GRPC, .open = true},
                                          [API_PLAIN] = {.family = API_PLAIN, .open = true}};
    return &routes[family];
}

static struct call *create(struct gateway *gateway, struct http_exchange *x, bool is_child)
{
    struct call *call = sl_calloc(1, sizeof *call);
    if (!call) return NULL;
    call->gateway = gateway;
    call->x = x;
    call->is_child = is_child;
    call->request = http_exchange_request(x);
    call->rest = "";
    call->begin_ns = sl_now_ns();
    call->qos = gateway->cfg.qos_default;
    sl_buf_init(&call->body_out, ERROR_BODY_MAX);
    sl_arena_init(&call->arena, GATEWAY_ARENA_BYTES_MAX);
    call->row.queue_us = call->row.first_token_us = -1;
    make_id(gateway, call->id);
    link_call(call);
    return call;
}

struct call *call_fork(struct call *parent)
{
    struct call *call = create(parent->gateway, parent->x, true);
    if (!call) return NULL;
    call->route = parent->route;
    call->qos = parent->qos;
    return call;
}

void call_begin(struct gateway *gateway, struct http_exchange *x)
{
    struct call *call = create(gateway, x, false);
    bool path_known = false;
    enum api_family family = API_OPENAI;
    if (!call) {
        http_respond(x, sl_status_http(SL_NOMEM), NULL, "", 0);
        return;
    }
    http_exchange_set_close_handler(x, on_closed, call);
    (void)!http_exchange_header_add(x, "X-Starlane-Request-Id", call->id);
    call->route =
        route_find(call->request->method, call->request->path, &call->rest, &path_known, &family);
    bool preflight = !call->route && path_known && call->request->method == HTTP_METHOD_OPTIONS;
    bool found = call->route != NULL;
    if (!found) call->route = nowhere(grpc_is_request(call->request) ? API_GRPC : family);
    if (call->route->family == API_GRPC && !grpc_open(call)) return;
    if (!check_origin(call)) return;
    if (preflight) {
        answer_preflight(call);
        return;
    }
    if (!found) {
        no_route(call, path_known);
        return;
    }
    if (!call_authenticate(call)) return;
    call->qos = call_class(call);
    call->route->handle(call);
}

/* --- failing --- */

static const char *type_of(int http_status)
{
    switch (http_status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    default: return http_status < 500 ? "invalid_request_error" : "server_error";
    }
}

sl_status call_error_json(const struct call *call, int http_status, const char *param,
                          const char *code, const char *message, struct sl_buf *out)
{
    struct sl_json json;
    if (call->route->family == API_PLAIN) return sl_buf_addf(out, "%s\n", message);
    if (call->route->family == API_GRPC) return sl_buf_adds(out, message);
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    if (call->route->family == API_OLLAMA || call->route->family == API_OIP) {
        sl_json_kv_str(&json, "error", message);
    } else {
        sl_json_key(&json, "error");
        sl_json_object(&json);
        sl_json_kv_str(&json, "message", message);
        sl_json_kv_str(&json, "type", type_of(http_status));
        sl_json_kv_str(&json, "param", param);
        sl_json_kv_str(&json, "code", code);
        sl_json_object_end(&json);
    }
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static void send_failure(struct call *call)
{
    const char *type = call->route->family == API_PLAIN ? "text/plain" : CONTENT_JSON;
    if (call->on_fail) {
        call->on_fail(call);
        return;
    }
    http_respond(call->x, call->http_status, type, call->body_out.data, call->body_out.len);
    call_free(call);
}

static void fail_with(struct call *call, int http_status, const char *param, const char *code,
                      const char *message)
{
    call->http_status = http_status;
    call->end = http_status < 500 ? METRICS_END_REFUSED : METRICS_END_ERROR;
    sl_buf_clear(&call->body_out);
    if (call_error_json(call, http_status, param, code, message, &call->body_out) != SL_OK)
        sl_buf_clear(&call->body_out);
    if (!call->row.model[0]) {
        send_failure(call);
        return;
    }
    copy_text(call->row.finish, sizeof call->row.finish, "error");
    call->row.http_status = http_status;
    call_commit(call, send_failure);
}

void call_fail(struct call *call, sl_status status, const char *param, const char *code,
               const char *message)
{
    int http_status = sl_status_http(status);
    if (code && !strcmp(code, "method_not_allowed")) http_status = 405;
    call->grpc_status = grpc_code(status);
    fail_with(call, http_status, param, code, message);
}

void call_fail_err(struct call *call, const struct sl_err *err, const char *param)
{
    call_fail(call, err->status, param, NULL, err->text);
}

static void add_retry_after(struct call *call, int64_t retry_after_ms)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, retry_after_ms > 0 ? (retry_after_ms + 999) / 1000 : 1);
    add_header(call, "Retry-After", text);
}

void call_fail_node(struct call *call, sl_status status, const char *message,
                    int64_t retry_after_ms)
{
    int http_status = sl_status_http(status);
    const char *code = NULL, *param = NULL;
    call->grpc_status = grpc_code(status == SL_LIMIT ? SL_INVALID : status);
    if (status == SL_LIMIT) {
        http_status = 400;
        code = "context_length_exceeded";
    } else if (status == SL_CORRUPT) {
        http_status = 500;
    } else if (status == SL_UNSUPPORTED) {
        http_status = 400; /* another model could do it, but no repetition will */
        code = "unsupported_by_model";
    } else if (status == SL_NOT_FOUND) {
        code = "model_not_found";
        param = "model";
    } else if (status == SL_BUSY) {
        code = "queue_full";
    }
    /* What the service lacks for good is not there in a second either. */
    if (sl_status_retryable(status) && (http_status != 503 || retry_after_ms > 0))
        add_retry_after(call, retry_after_ms);
    fail_with(call, http_status, param, code, message);
}

/* --- answering --- */

void call_respond(struct call *call, int http_status, const char *content_type, const char *body,
                  size_t n)
{
    http_respond(call->x, http_status, content_type, body, n);
    call_free(call);
}

void call_respond_buf(struct call *call, int http_status, const char *content_type,
                      struct sl_buf *body)
{
    http_respond_buf(call->x, http_status, content_type, body);
    call_free(call);
}

void call_respond_json(struct call *call, int http_status, struct sl_buf *body, sl_status status)
{
    if (status == SL_OK)
        call_respond(call, http_status, CONTENT_JSON, body->data, body->len);
    else
        call_fail(call, SL_INTERNAL, NULL, NULL, "the answer does not fit into memory");
}

bool call_read_json(struct call *call)
{
    struct sl_err err = SL_ERR_INIT;
    char message[SL_ERR_TEXT_MAX + 64];
    const struct http_request *request = call->request;
    sl_status status = sl_json_parse(request->body, request->body_len, &call->body, &err);
    if (status == SL_OK && sl_json_is(call->body, SL_JSON_OBJECT)) return true;
    if (status == SL_OK)
        snprintf(message, sizeof message, "the body must be a JSON object");
    else
        snprintf(message, sizeof message, "the body is %s JSON: %s",
                 status == SL_LIMIT ? "too much" : "not valid", err.text);
    call_fail(call, status == SL_NOMEM ? SL_NOMEM : SL_INVALID, NULL, NULL, message);
    return false;
}

const char *call_need_str(struct call *call, const char *field)
{
    char message[128];
    size_t n;
    const char *text = sl_json_to_str(sl_json_get(call->body, field), NULL, &n);
    if (text && n && strlen(text) == n) return text;
    snprintf(message, sizeof message, "%s: a text is needed here", field);
    call_fail(call, SL_INVALID, field, NULL, message);
    return NULL;
}

/* --- who, and how much --- */

static void add_gauge(struct call *call, const char *what, const struct quota_gauge *gauge)
{
    static const char prefix[] = "x-ratelimit-";
    char name[64], value[QUOTA_TIME_TEXT_MAX];
    if (!gauge->limit) return;
    snprintf(name, sizeof name, "%slimit-%s", prefix, what);
    snprintf(value, sizeof value, "%" PRId64, gauge->limit);
    add_header(call, name, value);
    snprintf(name, sizeof name, "%sremaining-%s", prefix, what);
    snprintf(value, sizeof value, "%" PRId64, gauge->remaining);
    add_header(call, name, value);
    snprintf(name, sizeof name, "%sreset-%s", prefix, what);
    add_header(call, name, quota_time_text(gauge->reset_ms, value));
}

static bool admit_key(struct call *call, int64_t n_tokens)
{
    int64_t now_ms = call->begin_ns / 1000000;
    struct quota_refusal refusal;
    struct quota_view view;
    sl_status status = quota_admit(&call->key->quota, now_ms, n_tokens, &refusal);
    quota_view(&call->key->quota, now_ms, &view);
    add_gauge(call, "requests", &view.requests);
    add_gauge(call, "tokens", &view.tokens);
    if (status == SL_OK) {
        call->admitted = true;
        call->n_reserved = n_tokens;
        return true;
    }
    char message[160];
    snprintf(message, sizeof message, "this key's limit of %s is reached; try again in %.1f s",
             quota_limit_name(refusal.limit), (double)refusal.retry_after_ms / 1000);
    add_retry_after(call, refusal.retry_after_ms);
    call_fail(call, SL_BUSY, NULL, "rate_limit_exceeded", message);
    return false;
}

bool call_allows(const struct call *call, const char *model)
{
    return !call->key || keys_allows(call->key, model);
}

int64_t call_tokens_guess(const struct call *call)
{
    return (int64_t)call->request->body_len / BYTES_PER_TOKEN + 1;
}

bool call_find_model(struct call *call, const char *name, struct node_model *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = grid_model_find(call->gateway->cfg.grid, name, out, &err);
    if (status == SL_INVALID)
        call_fail_err(call, &err, "model"); /* no name at all */
    else if (status != SL_OK)
        call_fail_node(call, status, err.text, 0);
    return status == SL_OK;
}

bool call_admit(struct call *call, const char *model, int64_t n_tokens)
{
    struct gateway *gateway = call->gateway;
    struct node_model known;
    if (!call_allows(call, model)) {
        call_fail(call, SL_DENIED, "model", "model_not_allowed", "this key may not use that model");
        return false;
    }
    if (!call_find_model(call, model, &known)) return false;
    struct usage_row *row = &call->row;
    copy_text(row->request_id, sizeof row->request_id, call->id);
    copy_text(row->model, sizeof row->model, known.name);
    copy_text(row->endpoint, sizeof row->endpoint, call->route->path);
    if (call->key) copy_text(row->key_id, sizeof row->key_id, call->key->id);
    row->qos_class = (int)call->qos;
    call->metrics = metrics_model(gateway->metrics, known.name);
    return !call->key || admit_key(call, n_tokens);
}

enum sched_class call_class(const struct call *call)
{
    enum sched_class qos = call->gateway->cfg.qos_default;
    const char *asked = http_request_header(call->request, "x-starlane-class");
    if (asked && sched_class_parse(asked, &qos)) return qos;
    const char *tier = sl_json_to_str(sl_json_get(call->body, "service_tier"), "", NULL);
    if (!strcmp(tier, "flex")) return SCHED_BATCH;
    if (!strcmp(tier, "priority")) return SCHED_INTERACTIVE;
    if (call->key && call->key->qos_class != KEYS_CLASS_NONE)
        return (enum sched_class)call->key->qos_class;
    return qos;
}

int64_t call_queue_timeout_ns(const struct call *call)
{
    const char *text = http_request_header(call->request, "x-starlane-queue-timeout-ms");
    long long ms = text ? strtoll(text, NULL, 10) : 0;
    if (ms <= 0) return 0;
    return (ms < 86400000 ? ms : 86400000) * INT64_C(1000000);
}

uint64_t call_tenant(const struct call *call)
{
    uint64_t tenant = 0;
    if (call->key) memcpy(&tenant, call->key->hash, sizeof tenant);
    return tenant;
}

/* --- the row of usage --- */

static int64_t in_us(int64_t ns)
{
    return ns > 0 ? ns / 1000 : -1;
}

void call_note(struct call *call, const struct node_event *event, const char *finish,
               int http_status)
{
    struct usage_row *row = &call->row;
    copy_text(row->finish, sizeof row->finish, finish);
    row->http_status = http_status;
    row->prompt_tokens = event->n_prompt;
    row->cached_tokens = event->n_cached;
    row->completion_tokens = event->n_generated;
    row->queue_us = in_us(event->queue_ns);
    row->first_token_us = in_us(event->first_token_ns);
    struct metrics_model *m = call->metrics;
    metrics_count(m, METRICS_PROMPT_TOKENS, (uint64_t)event->n_prompt);
    metrics_count(m, METRICS_CACHED_TOKENS, (uint64_t)event->n_cached);
    metrics_count(m, METRICS_GENERATION_TOKENS, (uint64_t)event->n_generated);
    metrics_count(m, METRICS_REASONING_TOKENS, (uint64_t)row->reasoning_tokens);
    if (event->n_attempts > 1) metrics_count(m, METRICS_REPLAYS, (uint64_t)event->n_attempts - 1);
    if (event->queue_ns > 0) metrics_observe(m, METRICS_QUEUE, event->queue_ns);
    if (event->load_ns > 0) metrics_observe(m, METRICS_LOAD, event->load_ns);
    if (event->first_token_ns > 0) metrics_observe(m, METRICS_TTFT, event->first_token_ns);
}

/* The row is stored, or lost, but is not handed in twice. */
static void settle(struct call *call, sl_status status, const struct sl_err *err)
{
    call->saving = false;
    call->row.model[0] = '\0';
    if (status != SL_OK) {
        call->gateway->n_usage_failed++;
        sl_log(SL_LOG_ERROR, "usage", "a row is lost: %s", err->text);
        call->row_failed = call->key != NULL;
    }
    if (call->gone)
        end_gone(call);
    else
        call->then(call);
}

static void on_row(void *arg, sl_status status, const struct sl_err *err);

/* False: the queue is full, and the call waits in line. */
static bool submit_row(struct call *call)
{
    struct gateway *gateway = call->gateway;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = usage_submit(gateway->cfg.usage, &call->row, on_row, call);
    if (status == SL_BUSY) {
        call->next_unsaved = NULL;
        *(gateway->unsaved ? &gateway->unsaved_last->next_unsaved : &gateway->unsaved) = call;
        gateway->unsaved_last = call;
    } else if (status != SL_OK) {
        sl_err_set(&err, status, "%s", sl_status_text(status));
        settle(call, status, &err);
    }
    return status != SL_BUSY;
}

static void on_row(void *arg, sl_status status, const struct sl_err *err)
{
    settle(arg, status, err);
}

void gateway_save_rest(struct gateway *gateway)
{
    for (bool room = true; room && gateway->unsaved;) {
        struct call *next = gateway->unsaved;
        gateway->unsaved = next->next_unsaved;
        room = submit_row(next);
    }
}

void call_commit(struct call *call, call_fn then)
{
    call->row.finished_ms = sl_unix_time_ms();
    call->row.total_us = (sl_now_ns() - call->begin_ns) / 1000;
    call->then = then;
    if (!call->gateway->cfg.usage) {
        then(call);
        return;
    }
    call->saving = true;
    submit_row(call);
}

void call_add_times(struct call *call, int64_t queue_ns, int64_t first_token_ns)
{
    char text[SL_DECIMAL_MAX];
    if (queue_ns >= 0) {
        (void)sl_decimal_thousandths(queue_ns / 1000, text);
        add_header(call, "X-Starlane-Queue-Ms", text);
    }
    if (first_token_ns >= 0) {
        (void)sl_decimal_thousandths(first_token_ns / 1000, text);
        add_header(call, "X-Starlane-First-Token-Ms", text);
    }
}
