/* grid_http.c: net/http_client.h with a deadline and our own shape of errors. */
#include "grid/grid_http.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "net/http_client.h"

#include <stdio.h>

#define POLL_MS 100

struct asking {
    const struct grid_question *what;
    struct sl_buf *out;
    sl_status taken; /* of the body, so far */
    sl_status status;
    int http_status;
    bool done;
    struct sl_err *err;
};

static bool on_body(void *ctx, const void *bytes, size_t n)
{
    struct asking *q = ctx;
    q->taken = sl_buf_add(q->out, bytes, n);
    return q->taken == SL_OK;
}

static void on_done(void *ctx, sl_status status, const struct http_head *head,
                    const struct sl_err *err)
{
    struct asking *q = ctx;
    q->done = true;
    q->status = q->taken == SL_OK ? status : q->taken;
    q->http_status = head->status;
    if (q->taken != SL_OK)
        sl_err_set(q->err, q->taken, "the answer is too long");
    else if (status != SL_OK)
        sl_err_set(q->err, status, "%s", err->text);
}

static sl_status run(struct http_client *client, const struct http_request *request,
                     struct asking *q)
{
    struct http_transfer *transfer;
    int64_t end_ns = sl_now_ns() + GRID_HTTP_SECONDS * INT64_C(1000000000);
    sl_status status = http_client_start(client, request, &transfer, q->err);
    while (status == SL_OK && !q->done) {
        status = http_client_poll(client, POLL_MS, q->err);
        if (status == SL_OK && !q->done && sl_now_ns() > end_ns)
            status = sl_err_set(q->err, SL_TIMEOUT, "no answer within %d s", GRID_HTTP_SECONDS);
        if (status == SL_OK && !q->done && q->what->cancel && atomic_load(q->what->cancel))
            status = sl_err_set(q->err, SL_CANCELLED, "stopped");
        if (status != SL_OK && !q->done) http_client_stop(client, transfer);
    }
    return status == SL_OK ? q->status : status;
}

static sl_status meaning(int http_status)
{
    switch (http_status) {
    case 401: return SL_UNAUTHENTICATED;
    case 403: return SL_DENIED;
    case 409: return SL_EXISTS;
    default: return http_status_meaning(http_status);
    }
}

/* What went wrong over there, in its own words, which are taken for one line of text. */
static sl_status read_failure(struct asking *q)
{
    struct sl_json_value *root = NULL;
    sl_status status = meaning(q->http_status);
    if (sl_json_parse(q->out->data, q->out->len, &root, NULL) != SL_OK) root = NULL;
    const char *text = sl_json_to_str(sl_json_get(root, "error"), NULL, NULL);
    if (text)
        sl_err_set(q->err, status, "%s", text);
    else
        sl_err_set(q->err, status, "HTTP status %d", q->http_status);
    sl_json_free(root);
    sl_buf_clear(q->out);
    return status;
}

sl_status grid_http_ask(const struct grid_question *question, struct sl_buf *out, bool *out_heard,
                        struct sl_err *err)
{
    static const char *const headers[] = {"Content-Type: application/json", "Expect:"};
    char url[HTTP_URL_SIZE];
    struct http_client *client = NULL;
    struct sl_err own = SL_ERR_INIT;
    struct asking q = {.what = question, .out = out, .err = err ? err : &own};
    struct http_request request = {.url = url,
                                   .body = question->body ? question->body->data : NULL,
                                   .n_body = question->body ? question->body->len : 0,
                                   .headers = headers,
                                   .n_headers = sizeof headers / sizeof *headers,
                                   .trust = question->trust,
                                   .on_body = on_body,
                                   .on_done = on_done,
                                   .ctx = &q};
    snprintf(url, sizeof url, "https://%s%s", question->address, question->path);
    sl_status status = http_client_create(&client, q.err);
    if (status == SL_OK) status = run(client, &request, &q);
    http_client_destroy(client);
    if (out_heard) *out_heard = status == SL_OK;
    if (status != SL_OK || q.http_status / 100 == 2) return status;
    return read_failure(&q);
}
