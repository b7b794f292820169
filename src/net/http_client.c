#include "net/http_client.h"
#include "base/arena.h"
#include "base/mem.h"
#include "net/tls.h"
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define STALL_BYTES_PER_S 100 /* under it a connection is as good as dead */
#define USER_AGENT "starlane"
#define REDIRECT_BODY_MAX 65536    /* a page nobody reads; read so that the connection lives on */
#define RECEIVE_BYTES (256L << 10) /* libcurl's buffer: fewer calls than with its 16 kB */
#define TRUST_BYTES_MAX (64 << 10) /* of a request's copied paths, id and root */

struct http_client {
    CURLM *multi;
    struct http_transfer *transfers; /* a list */
};

struct http_transfer {
    struct http_transfer *next;
    struct http_client *client;
    CURL *easy;
    struct curl_slist *headers;
    struct http_request req; /* url, headers and bearer of it are not used: */
    char *origin;            /* the request's own URL */
    char *url;               /* where it stands now */
    char *bearer;
    struct sl_arena strings; /* those of trust */
    struct http_trust trust; /* zeroed: the web's rules */
    struct tls_expected expected;
    struct curl_slist *connect_to;
    struct http_head head;
    size_t head_bytes;
    size_t redirect_bytes; /* of the bodies of redirects */
    int n_redirects;
    bool has_location;
    bool head_told; /* on_head was called */
    bool refused;   /* a callback said no */
    bool head_too_long;
    char error[CURL_ERROR_SIZE];
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_status;

static void global_init(void)
{
    global_status = curl_global_init(CURL_GLOBAL_DEFAULT);
}

sl_status http_client_create(struct http_client **out, struct sl_err *err)
{
    pthread_once(&global_once, global_init);
    struct http_client *client = sl_calloc(1, sizeof *client);
    if (!client || global_status != CURLE_OK) goto fail;
    client->multi = curl_multi_init();
    if (!client->multi) goto fail;
    *out = client;
    return SL_OK;
fail:
    http_client_destroy(client);
    return sl_err_set(err, SL_NOMEM, "HTTP client");
}

static void free_transfer(struct http_transfer *transfer)
{
    if (transfer->easy) {
        (void)curl_multi_remove_handle(transfer->client->multi, transfer->easy);
        curl_easy_cleanup(transfer->easy);
    }
    curl_slist_free_all(transfer->headers);
    curl_slist_free_all(transfer->connect_to);
    sl_arena_done(&transfer->strings);
    sl_free(transfer->bearer);
    sl_free(transfer->origin);
    sl_free(transfer->url);
    sl_free(transfer);
}

void http_client_stop(struct http_client *client, struct http_transfer *transfer)
{
    struct http_transfer **link = &client->transfers;
    while (*link != transfer) link = &(*link)->next;
    *link = transfer->next;
    free_transfer(transfer);
}

void http_client_destroy(struct http_client *client)
{
    if (!client) return;
    while (client->transfers) http_client_stop(client, client->transfers);
    if (client->multi) (void)curl_multi_cleanup(client->multi);
    sl_free(client);
}

/* The parts of a URL that decide who may see what. */
struct origin {
    char *scheme, *host, *port;
};

static void origin_done(struct origin *o)
{
    curl_free(o->scheme);
    curl_free(o->host);
    curl_free(o->port);
}

static bool origin_of(const char *url, struct origin *out)
{
    CURLU *parts = curl_url();
    *out = (struct origin){0};
    bool ok = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_SCHEME, &out->scheme, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_HOST, &out->host, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    curl_url_cleanup(parts);
    if (!ok) origin_done(out);
    return ok;
}

static bool same_origin(const char *a, const char *b)
{
    struct origin x = {0}, y = {0};
    bool same = origin_of(a, &x) && origin_of(b, &y) && strcasecmp(x.scheme, y.scheme) == 0 &&
                strcasecmp(x.host, y.host) == 0 && strcmp(x.port, y.port) == 0;
    if (x.scheme) origin_done(&x);
    if (y.scheme) origin_done(&y);
    return same;
}

/* This machine, as a URL writes it: a name that only looks like it ("127.0.0.1.example.org") is
 * not. */
static bool is_loopback(const char *host)
{
    int a, b, c, d, n = 0;
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0) return true;
    return sscanf(host, "%3d.%3d.%3d.%3d%n", &a, &b, &c, &d, &n) == 4 && host[n] == '\0' &&
           a == 127;
}

static bool url_is_loopback(const char *url)
{
    struct origin o;
    if (!origin_of(url, &o)) return false;
    bool loopback = is_loopback(o.host);
    origin_done(&o);
    return loopback;
}

sl_status http_url_check(const char *url, bool allow_http, struct sl_err *err)
{
    struct origin o;
    if (!origin_of(url, &o)) return sl_err_set(err, SL_INVALID, "%.200s: not a URL", url);
    sl_status status = SL_OK;
    if (strcasecmp(o.scheme, "http") == 0 && !allow_http && !is_loopback(o.host))
        status =
            sl_err_set(err, SL_INVALID,
                       "%.200s: plain http to another machine; use https (or --insecure)", url);
    else if (strcasecmp(o.scheme, "http") != 0 && strcasecmp(o.scheme, "https") != 0)
        status = sl_err_set(err, SL_INVALID, "%.200s: neither https nor http", url);
    origin_done(&o);
    return status;
}

static bool take_field(const char *line, size_t n, const char *name, char out[HTTP_FIELD_SIZE])
{
    size_t n_name = strlen(name);
    if (n <= n_name || line[n_name] != ':' || strncasecmp(line, name, n_name) != 0) return false;
    line += n_name + 1;
    n -= n_name + 1;
    while (n > 0 && (*line == ' ' || *line == '\t')) line++, n--;
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ')) n--;
    out[0] = '\0';
    if (n >= HTTP_FIELD_SIZE) return true;
    memcpy(out, line, n);
    out[n] = '\0';
    return true;
}

/* RFC 9110, 14.4: "bytes 0-99/1234" or "bytes 0-99/" and a star. */
static void parse_content_range(const char *value, struct http_head *head)
{
    uint64_t first, last, total = UINT64_MAX;
    int n = 0;
    if (sscanf(value, "bytes %" SCNu64 "-%" SCNu64 "/%n", &first, &last, &n) != 2 || n == 0) return;
    bool any = strcmp(value + n, "*") == 0;
    if (!any && sscanf(value + n, "%" SCNu64, &total) != 1) return;
    if (last < first || last == UINT64_MAX || (!any && last >= total)) return;
    head->has_range = true;
    head->begin = first;
    head->end = last + 1;
    head->total = total;
}

/* RFC 9110, 10.2.3: seconds or a date. */
static void parse_retry_after(const char *value, struct http_head *head)
{
    char *end;
    errno = 0;
    long long seconds = strtoll(value, &end, 10);
    if (end != value && *end == '\0' && seconds >= 0 && errno == 0) {
        head->retry_after_s = seconds;
        return;
    }
    time_t when = curl_getdate(value, NULL);
    if (when == (time_t)-1) return;
    time_t now = time(NULL);
    head->retry_after_s = when > now ? (int64_t)(when - now) : 0;
}

static void reset_head(struct http_transfer *t)
{
    t->head = (struct http_head){.length = -1, .retry_after_s = -1};
    t->head_bytes = 0;
    t->has_location = false;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
    struct http_transfer *t = ctx;
    struct http_head *head = &t->head;
    char value[HTTP_FIELD_SIZE];
    n *= size;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) reset_head(t);
    t->head_bytes += n;
    t->head_too_long = t->head_bytes > HTTP_HEAD_BYTES_MAX;
    if (t->head_too_long) return 0;
    if (take_field(line, n, "etag", head->etag) ||
        take_field(line, n, "last-modified", head->last_modified) ||
        take_field(line, n, "content-type", head->content_type))
        return n;
    if (t->req.keep && take_field(line, n, t->req.keep, head->kept)) return n;
    if (take_field(line, n, "location", value)) t->has_location = true;
    if (take_field(line, n, "content-range", value)) parse_content_range(value, head);
    if (take_field(line, n, "retry-after", value)) parse_retry_after(value, head);
    return n;
}

static bool is_redirect(struct http_transfer *t)
{
    long status = 0;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 300 && status < 400 && t->has_location;
}

/* Tells the head once, when it is that of the final answer. False: stop. */
static bool tell_head(struct http_transfer *t)
{
    long status = 0;
    curl_off_t length = -1;
    if (t->head_told) return true;
    t->head_told = true;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->head.status = (int)status;
    t->head.length = length;
    if (strlen(t->url) < sizeof t->head.url) memcpy(t->head.url, t->url, strlen(t->url) + 1);
    if (t->req.on_head && !t->req.on_head(t->req.ctx, &t->head)) t->refused = true;
    return !t->refused;
}

static size_t on_write(char *bytes, size_t size, size_t n, void *ctx)
{
    struct http_transfer *t = ctx;
    n *= size;
    if (is_redirect(t)) {
        t->redirect_bytes += n;
        return t->redirect_bytes <= REDIRECT_BODY_MAX ? n : 0;
    }
    if (!tell_head(t)) return 0;
    if (t->req.on_body && n > 0 && !t->req.on_body(t->req.ctx, bytes, n)) t->refused = true;
    return t->refused ? 0 : n;
}

/* Is the server known by its key, whatever its name is? */
static bool is_member_known(const struct http_trust *trust)
{
    return trust->member_id || trust->any_gateway;
}

static sl_status check_trust(const struct http_request *req, struct sl_err *err)
{
    const struct http_trust *trust = req->trust;
    if (!trust) return SL_OK;
    bool has_root = trust->root_path || trust->root_text;
    if (strncasecmp(req->url, "https:", 6) != 0)
        return sl_err_set(err, SL_INVALID, "%.200s: not https", req->url);
    if (!trust->cert_path != !trust->key_path)
        return sl_err_set(err, SL_INVALID, "a certificate and its key go together");
    if (is_member_known(trust) && !has_root)
        return sl_err_set(err, SL_INVALID, "no root to know members by");
    if (trust->member_id && !pki_id_valid(trust->member_id))
        return sl_err_set(err, SL_INVALID, "%.40s: not a member's id", trust->member_id);
    if (trust->unverified && (has_root || is_member_known(trust) || trust->cert_path ||
                              req->bearer || req->body || req->method))
        return sl_err_set(err, SL_INVALID, "something secret over an unverified connection");
    return SL_OK;
}

static bool copy_string(struct http_transfer *t, const char **to, const char *from)
{
    if (from) *to = sl_arena_strndup(&t->strings, from, strlen(from));
    return !from || *to;
}

static bool copy_trust(struct http_transfer *t, const struct http_trust *from)
{
    struct http_trust *to = &t->trust;
    t->req.trust = NULL;
    if (!from) return true;
    *to = (struct http_trust){.any_gateway = from->any_gateway, .unverified = from->unverified};
    t->expected.gateway = from->any_gateway;
    if (from->member_id) memcpy(t->expected.id, from->member_id, strlen(from->member_id) + 1);
    return copy_string(t, &to->root_path, from->root_path) &&
           copy_string(t, &to->root_text, from->root_text) &&
           copy_string(t, &to->cert_path, from->cert_path) &&
           copy_string(t, &to->key_path, from->key_path) &&
           copy_string(t, &to->member_id, from->member_id);
}

static bool add_header(struct http_transfer *t, const char *line)
{
    struct curl_slist *list = curl_slist_append(t->headers, line);
    if (list) t->headers = list;
    return list != NULL;
}

static bool copy_strings(struct http_transfer *t, const struct http_request *req)
{
    bool ok = (t->url = sl_strdup(req->url)) != NULL;
    ok = ok && (t->origin = sl_strdup(req->url)) != NULL;
    if (req->bearer) ok = ok && (t->bearer = sl_strdup(req->bearer)) != NULL;
    for (int i = 0; i < req->n_headers; i++) ok = ok && add_header(t, req->headers[i]);
    return ok && copy_trust(t, req->trust);
}

/* The first option that fails makes all fail: it is lost memory, or a libcurl without TLS. */
#define SET(option, value) ok = ok && curl_easy_setopt(t->easy, option, value) == CURLE_OK

/* The URL with the member's own name for its host, and the host that it named for the place to
 * connect to. So libcurl checks the name in the certificate, and shares a connection only among
 * requests to the same member. */
static bool aim_at_member(struct http_transfer *t)
{
    char dns[PKI_DNS_SIZE], place[HTTP_FIELD_SIZE + 16];
    char *url = NULL;
    struct origin o;
    CURLU *parts = curl_url();
    pki_id_dns(t->trust.member_id, dns);
    bool ok = parts && curl_url_set(parts, CURLUPART_URL, t->url, 0) == CURLUE_OK &&
              curl_url_set(parts, CURLUPART_HOST, dns, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_URL, &url, 0) == CURLUE_OK && origin_of(t->url, &o);
    if (ok) {
        int n = snprintf(place, sizeof place, "::%s:%s", o.host, o.port);
        origin_done(&o);
        t->connect_to = n > 0 && (size_t)n < sizeof place ? curl_slist_append(NULL, place) : NULL;
        ok = t->connect_to != NULL;
        SET(CURLOPT_URL, url);
        SET(CURLOPT_CONNECT_TO, t->connect_to);
    }
    curl_free(url);
    curl_url_cleanup(parts);
    return ok;
}

static CURLcode on_ssl_ctx(CURL *easy, void *ssl_ctx, void *ctx)
{
    struct http_transfer *t = ctx;
    (void)easy;
    tls_client_expect(ssl_ctx, &t->expected);
    return CURLE_OK;
}

static bool set_root(struct http_transfer *t)
{
    const char *text = t->trust.root_text;
    struct curl_blob blob = {(void *)(uintptr_t)text, text ? strlen(text) : 0, CURL_BLOB_COPY};
    bool ok = true;
    SET(CURLOPT_CAPATH, NULL); /* the distribution's folder of the web's roots */
    if (t->trust.root_path)
        SET(CURLOPT_CAINFO, t->trust.root_path);
    else
        SET(CURLOPT_CAINFO_BLOB, &blob);
    return ok;
}

static bool set_trust(struct http_transfer *t)
{
    const struct http_trust *trust = &t->trust;
    bool ok = true;
    if (trust->root_path || trust->root_text) ok = set_root(t);
    if (trust->cert_path) {
        SET(CURLOPT_SSLCERT, trust->cert_path);
        SET(CURLOPT_SSLKEY, trust->key_path);
    }
    if (trust->unverified) SET(CURLOPT_SSL_VERIFYPEER, 0L);
    if (trust->unverified || trust->any_gateway) SET(CURLOPT_SSL_VERIFYHOST, 0L);
    if (!is_member_known(trust)) return ok;
    SET(CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
    SET(CURLOPT_SSL_CTX_DATA, t);
    SET(CURLOPT_PROXY, "");
    return ok && (!trust->member_id || aim_at_member(t));
}

/* What depends on the URL, which a redirect changes. */
static bool aim(struct http_transfer *t)
{
    bool ok = true;
    bool trusted = t->bearer && same_origin(t->url, t->origin);
    SET(CURLOPT_URL, t->url);
    SET(CURLOPT_PROXY, url_is_loopback(t->url) ? "" : NULL);
    SET(CURLOPT_HTTPAUTH, trusted ? CURLAUTH_BEARER : CURLAUTH_NONE);
    SET(CURLOPT_XOAUTH2_BEARER, trusted ? t->bearer : NULL);
    return ok;
}

static bool set_behaviour(struct http_transfer *t)
{
    const char *ca_file = getenv("SSL_CERT_FILE");
    bool ok = true;
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_ERRORBUFFER, t->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_USERAGENT, USER_AGENT);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    /* One connection a range: over HTTP/2 they would share one, and its window. */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L); /* redirects are ours: see follow() */
    SET(CURLOPT_CONNECTTIMEOUT, (long)HTTP_CONNECT_TIMEOUT_S);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_write);
    SET(CURLOPT_WRITEDATA, t);
    if (ca_file && *ca_file) SET(CURLOPT_CAINFO, ca_file);
    return ok;
}

static bool set_request(struct http_transfer *t)
{
    const struct http_request *req = &t->req;
    char range[64];
    bool ok = true;
    if (t->headers) SET(CURLOPT_HTTPHEADER, t->headers);
    if (req->stall_s > 0) {
        SET(CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S);
        SET(CURLOPT_LOW_SPEED_TIME, (long)req->stall_s);
    }
    if (req->range_end > req->range_begin) {
        snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, req->range_begin, req->range_end - 1);
        SET(CURLOPT_RANGE, range);
    }
    if (req->body) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->n_body);
        SET(CURLOPT_POSTFIELDS, req->body);
    }
    if (req->method) SET(CURLOPT_CUSTOMREQUEST, req->method);
    return ok;
}

sl_status http_client_start(struct http_client *client, const struct http_request *req,
                            struct http_transfer **out, struct sl_err *err)
{
    sl_status status = http_url_check(req->url, req->allow_http, err);
    if (status == SL_OK) status = check_trust(req, err);
    if (status != SL_OK) return status;
    struct http_transfer *t = sl_calloc(1, sizeof *t);
    if (!t) return sl_err_set(err, SL_NOMEM, "HTTP transfer");
    t->client = client;
    t->req = *req;
    t->easy = curl_easy_init();
    sl_arena_init(&t->strings, TRUST_BYTES_MAX);
    reset_head(t);
    if (!t->easy || !copy_strings(t, req) || !set_behaviour(t) || !set_request(t) || !aim(t) ||
        !set_trust(t))
        goto fail;
    if (curl_multi_add_handle(client->multi, t->easy) != CURLM_OK) goto fail;
    t->next = client->transfers;
    client->transfers = t;
    *out = t;
    return SL_OK;
fail:
    free_transfer(t);
    return sl_err_set(err, SL_NOMEM, "HTTP transfer");
}

static sl_status refuse_redirect(struct http_transfer *t, const char *target, struct sl_err *err)
{
    bool down = strncasecmp(t->url, "https:", 6) == 0 && strncasecmp(target, "https:", 6) != 0;
    if (++t->n_redirects > HTTP_REDIRECTS_MAX)
        return sl_err_set(err, SL_UNAVAILABLE, "more than %d redirects", HTTP_REDIRECTS_MAX);
    if (down) return sl_err_set(err, SL_INVALID, "a redirect from https to plain http");
    if (is_member_known(&t->trust) || t->trust.unverified)
        return sl_err_set(err, SL_INVALID, "a redirect from a member of the grid");
    sl_status status = http_url_check(target, t->req.allow_http, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "redirect");
    return status;
}

/* Begins again at the target. */
static sl_status follow(struct http_transfer *t, struct sl_err *err)
{
    char *target = NULL; /* libcurl has made an absolute URL of Location */
    (void)curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &target);
    if (!target) return sl_err_set(err, SL_UNAVAILABLE, "a redirect to nowhere");
    sl_status status = refuse_redirect(t, target, err);
    if (status != SL_OK) return status;
    char *url = sl_strdup(target);
    if (!url) return sl_err_set(err, SL_NOMEM, "redirect");
    sl_free(t->url);
    t->url = url;
    reset_head(t);
    (void)curl_multi_remove_handle(t->client->multi, t->easy);
    if (aim(t) && curl_multi_add_handle(t->client->multi, t->easy) == CURLM_OK) return SL_OK;
    return sl_err_set(err, SL_NOMEM, "redirect");
}

static sl_status meaning_of(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return SL_TIMEOUT;
    case CURLE_OUT_OF_MEMORY: return SL_NOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CLIENTCERT: /* the server wants a certificate */
    case CURLE_SSL_CACERT_BADFILE: return SL_DENIED;
    case CURLE_SSL_CERTPROBLEM: /* ours cannot be read */
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return SL_INVALID;
    default: return SL_UNAVAILABLE;
    }
}

static sl_status outcome(struct http_transfer *t, CURLcode code, struct sl_err *err)
{
    if (t->refused) return sl_err_set(err, SL_CANCELLED, "stopped");
    if (t->head_too_long)
        return sl_err_set(err, SL_LIMIT, "header lines of more than %d bytes", HTTP_HEAD_BYTES_MAX);
    if (code == CURLE_OK) return SL_OK;
    return sl_err_set(err, meaning_of(code), "%s",
                      t->error[0] ? t->error : curl_easy_strerror(code));
}

static void finish(struct http_client *client, struct http_transfer *t, CURLcode code)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = outcome(t, code, &err);
    if (status == SL_OK && is_redirect(t)) {
        status = follow(t, &err);
        if (status == SL_OK) return;
    } else if (status == SL_OK && !tell_head(t)) {
        status = sl_err_set(&err, SL_CANCELLED, "stopped");
    }
    if (t->req.on_done) t->req.on_done(t->req.ctx, status, &t->head, &err);
    http_client_stop(client, t);
}

sl_status http_client_poll(struct http_client *client, int timeout_ms, struct sl_err *err)
{
    int n_running, n_left;
    CURLMsg *message;
    CURLMcode code = curl_multi_poll(client->multi, NULL, 0, timeout_ms, NULL);
    if (code == CURLM_OK) code = curl_multi_perform(client->multi, &n_running);
    if (code != CURLM_OK)
        return sl_err_set(err, code == CURLM_OUT_OF_MEMORY ? SL_NOMEM : SL_INTERNAL, "HTTP: %s",
                          curl_multi_strerror(code));
    while ((message = curl_multi_info_read(client->multi, &n_left))) {
        struct http_transfer *t = NULL;
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode result = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
        finish(client, t, result);
    }
    return SL_OK;
}

sl_status http_status_meaning(int http_status)
{
    if (http_status >= 200 && http_status < 300) return SL_OK;
    if (http_status == 404 || http_status == 410) return SL_NOT_FOUND;
    if (http_status == 401 || http_status == 403) return SL_DENIED;
    if (http_status == 429) return SL_BUSY;
    if (http_status == 408) return SL_TIMEOUT;
    if (http_status >= 500) return SL_UNAVAILABLE;
    return SL_INVALID;
}

struct fetch {
    struct sl_buf *out;
    struct http_head *head;
    struct sl_err *err;
    sl_status status, added;
    bool done;
};

static bool fetch_body(void *ctx, const void *bytes, size_t n)
{
    struct fetch *fetch = ctx;
    fetch->added = sl_buf_add(fetch->out, bytes, n);
    return fetch->added == SL_OK;
}

static void fetch_done(void *ctx, sl_status status, const struct http_head *head,
                       const struct sl_err *err)
{
    struct fetch *fetch = ctx;
    fetch->done = true;
    fetch->status = status;
    *fetch->head = *head;
    if (fetch->added != SL_OK)
        fetch->status = sl_err_set(fetch->err, fetch->added, "an answer of more than %zu bytes",
                                   fetch->out->max);
    else if (status != SL_OK)
        fetch->status = sl_err_set(fetch->err, status, "%s", err->text);
}

sl_status http_client_fetch(struct http_client *client, const struct http_request *req,
                            const atomic_bool *cancel, struct http_head *head, struct sl_buf *out,
                            struct sl_err *err)
{
    struct fetch fetch = {.out = out, .head = head, .err = err};
    struct http_request own = *req;
    struct http_transfer *transfer;
    own.on_head = NULL;
    own.on_body = fetch_body;
    own.on_done = fetch_done;
    own.ctx = &fetch;
    *head = (struct http_head){.length = -1, .retry_after_s = -1};
    sl_status status = http_client_start(client, &own, &transfer, err);
    while (status == SL_OK && !fetch.done) {
        status = http_client_poll(client, 100, err);
        if (status == SL_OK && !fetch.done && cancel && atomic_load(cancel))
            status = sl_err_set(err, SL_CANCELLED, "stopped");
        if (status != SL_OK && !fetch.done) http_client_stop(client, transfer);
    }
    if (status == SL_OK) status = fetch.status;
    if (status != SL_OK) return status;
    status = http_status_meaning(head->status);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "HTTP status %d", head->status);
}
