/* member_server.c: see member_server.h. */
#include "support/member_server.h"

#include "net/http_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct member_server {
    struct loop *loop;
    struct http_server *http;
    struct tls_server *tls;
    struct sl_buf root;
    pthread_t thread;
    uint16_t port;
};

static void answer_who(struct http_exchange *x)
{
    char text[64] = "nobody";
    const struct http_request *request = http_exchange_request(x);
    if (request->peer_id)
        snprintf(text, sizeof text, "%s %s", request->peer_id,
                 request->peer_is_gateway ? "gateway" : "node");
    http_respond(x, 200, "text/plain", text, strlen(text));
}

static void answer_away(struct member_server *server, struct http_exchange *x)
{
    char target[64];
    snprintf(target, sizeof target, "https://localhost:%d/who", server->port);
    if (http_exchange_header_add(x, "Location", target) == SL_OK)
        http_respond(x, 302, NULL, NULL, 0);
    else
        http_exchange_abort(x);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    struct member_server *server = ctx;
    const struct http_request *request = http_exchange_request(x);
    if (strcmp(request->path, "/who") == 0)
        answer_who(x);
    else if (strcmp(request->path, "/away") == 0)
        answer_away(server, x);
    else if (strcmp(request->path, "/root") == 0)
        http_respond(x, 200, "text/plain", server->root.data, server->root.len);
    else if (strcmp(request->path, "/echo") == 0)
        http_respond(x, 200, "text/plain", request->body, request->body_len);
    else
        http_respond(x, 404, NULL, NULL, 0);
}

static void *run(void *arg)
{
    struct member_server *server = arg;
    return loop_run(server->loop, NULL) == SL_OK ? server : NULL;
}

struct member_server *member_server_start(const char *cert_path, const char *key_path,
                                          const char *root_path)
{
    struct member_server *server = calloc(1, sizeof *server);
    struct sl_err err = SL_ERR_INIT;
    assert_non_null(server);
    const struct http_server_cfg cfg = {.on_request = on_request, .ctx = server};
    sl_buf_init(&server->root, PKI_TEXT_MAX);
    assert_int_equal(pki_file_read(root_path, &server->root, NULL), SL_OK);
    assert_int_equal(loop_create(0, &server->loop, &err), SL_OK);
    assert_int_equal(tls_server_create_for_grid(cert_path, key_path, root_path, &server->tls, &err),
                     SL_OK);
    assert_int_equal(http_server_create(server->loop, &cfg, &server->http, &err), SL_OK);
    assert_int_equal(
        http_server_listen(server->http, "127.0.0.1", 0, server->tls, &server->port, &err), SL_OK);
    assert_int_equal(pthread_create(&server->thread, NULL, run, server), 0);
    return server;
}

struct member_server_counts member_server_stop(struct member_server *server)
{
    struct http_server_stats stats;
    loop_stop(server->loop);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    http_server_stats(server->http, &stats);
    http_server_destroy(server->http);
    tls_server_destroy(server->tls);
    loop_destroy(server->loop);
    sl_buf_done(&server->root);
    free(server);
    return (struct member_server_counts){stats.n_connections_total, stats.n_handshakes_failed,
                                         stats.n_requests};
}

const char *member_server_url(const struct member_server *server, const char *path)
{
    static char url[128];
    snprintf(url, sizeof url, "https://127.0.0.1:%d%s", server->port, path);
    return url;
}
