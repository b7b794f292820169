/* http_server.c: the server's life, its clock tick and the task that ends each turn. */
#include "net/http_int.h"

#include "base/mem.h"

#include <sys/resource.h>
#include <unistd.h>

#define DESCRIPTORS_RESERVED 128 /* models, databases, listeners, workers */
#define TICK_NS_MAX 250000000    /* timeouts are late by at most that */
#define TICK_NS_MIN 2000000      /* short timeouts are for tests */
#define TICKS_PER_TIMEOUT 4
#define NS_PER_S 1000000000

/* --- the task at the end of a turn --- */

/* Those marked meanwhile wait for the next turn, or a fast stream could keep the loop here. */
static void service_dirty(struct http_server *server)
{
    struct http_conn *conn = server->dirty_first;
    server->dirty_first = server->dirty_last = NULL;
    while (conn) {
        struct http_conn *next = conn->next_dirty;
        conn->dirty = false;
        if (conn->state == HTTP_CONN_CLOSED) {
            http_conn_free(conn);
        } else {
            http_conn_service(conn);
        }
        conn = next;
    }
}

static void tell_closed(struct http_server *server)
{
    while (!http_list_empty(&server->list_untold)) {
        http_exchange_tell_closed(HTTP_OF(server->list_untold.next, struct http_exchange, link));
    }
}

static void on_turn_end(void *ctx)
{
    struct http_server *server = ctx;
    service_dirty(server);
    tell_closed(server);
    http_drained_fn on_drained = server->on_drained;
    if (!on_drained || server->stats.n_connections) return;
    server->on_drained = NULL;
    on_drained(server->drained_ctx); /* last: it may destroy the server */
}

/* --- the tick --- */

static void close_expired_idle(struct http_server *server, int64_t now_ns)
{
    while (!http_list_empty(&server->list_idle)) {
        struct http_conn *conn = HTTP_OF(server->list_idle.next, struct http_conn, link);
        if (now_ns < conn->deadline_ns) return;
        http_conn_retire(conn);
    }
}

/* Resets the connection with the most unsent output; false when all together hold little enough. */
static bool shed_output(struct http_server *server)
{
    struct http_conn *largest = NULL;
    size_t total = 0;
    for (struct http_link *at = server->list_busy.next; at != &server->list_busy; at = at->next) {
        struct http_conn *conn = HTTP_OF(at, struct http_conn, link);
        total += http_conn_owed(conn);
        if (!largest || http_conn_owed(conn) > http_conn_owed(largest)) largest = conn;
    }
    if (!largest || total <= server->cfg.out_total_bytes_max) return false;
    server->stats.n_write_stalled++;
    http_conn_reset(largest);
    return true;
}

static void on_tick(void *ctx)
{
    struct http_server *server = ctx;
    int64_t now_ns = loop_now_ns(server->loop);
    close_expired_idle(server, now_ns);
    for (struct http_link *at = server->list_busy.next, *next; at != &server->list_busy;
         at = next) {
        next = at->next;
        http_conn_tick(HTTP_OF(at, struct http_conn, link), now_ns);
    }
    while (shed_output(server)) continue;
    http_listeners_resume(server);
    server->ticking = false;
    http_server_tick(server);
}

void http_server_tick(struct http_server *server)
{
    if (server->ticking || (!server->stats.n_connections && !server->accept_paused)) return;
    server->ticking = true;
    loop_timer_set(server->tick, server->tick_ns);
}

void http_server_conn_closed(struct http_server *server)
{
    if (server->accept_paused) http_listeners_resume(server);
}

/* --- life --- */

static size_t raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return DESCRIPTORS_RESERVED * 2;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur > DESCRIPTORS_RESERVED * 2 ? limit.rlim_cur - DESCRIPTORS_RESERVED
                                                     : DESCRIPTORS_RESERVED;
}

static void set_defaults(struct http_server_cfg *cfg)
{
    size_t n_descriptors = raise_descriptor_limit();
    if (!cfg->n_connections_max) cfg->n_connections_max = 16384;
    if (cfg->n_connections_max > n_descriptors) cfg->n_connections_max = n_descriptors;
    if (!cfg->body_bytes_max) cfg->body_bytes_max = 32 * 1024 * 1024;
    if (!cfg->body_total_bytes_max) cfg->body_total_bytes_max = 256 * 1024 * 1024;
    if (!cfg->stream_backlog_max) cfg->stream_backlog_max = 256 * 1024;
    if (!cfg->out_total_bytes_max) cfg->out_total_bytes_max = 512 * 1024 * 1024;
    if (!cfg->arena_bytes_max) cfg->arena_bytes_max = 1024 * 1024;
    if (!cfg->head_timeout_ns) cfg->head_timeout_ns = 10LL * NS_PER_S;
    if (!cfg->body_timeout_ns) cfg->body_timeout_ns = 30LL * NS_PER_S;
    if (!cfg->body_rate_min) cfg->body_rate_min = 4096;
    if (!cfg->idle_timeout_ns) cfg->idle_timeout_ns = 60LL * NS_PER_S;
    if (!cfg->write_stall_ns) cfg->write_stall_ns = 30LL * NS_PER_S;
    if (!cfg->linger_ns) cfg->linger_ns = 2LL * NS_PER_S;
    if (!cfg->n_streams_max) cfg->n_streams_max = 256;
    if (!cfg->n_streams_total_max) cfg->n_streams_total_max = 65536;
    if (!cfg->ping_after_ns) cfg->ping_after_ns = 60LL * NS_PER_S;
}

static int64_t tick_length(const struct http_server_cfg *cfg)
{
    const int64_t timeouts[] = {cfg->head_timeout_ns, cfg->body_timeout_ns, cfg->idle_timeout_ns,
                                cfg->write_stall_ns,  cfg->linger_ns,       cfg->ping_after_ns};
    int64_t tick = TICK_NS_MAX;
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        if (timeouts[i] / TICKS_PER_TIMEOUT < tick) tick = timeouts[i] / TICKS_PER_TIMEOUT;
    }
    return tick < TICK_NS_MIN ? TICK_NS_MIN : tick;
}

sl_status http_server_create(struct loop *loop, const struct http_server_cfg *cfg,
                             struct http_server **out, struct sl_err *err)
{
    if (!cfg->on_request) return sl_err_set(err, SL_INVALID, "http server: no on_request");
    struct http_server *server = sl_calloc(1, sizeof *server);
    if (!server) return sl_err_set(err, SL_NOMEM, "http server: out of memory");
    server->loop = loop;
    server->cfg = *cfg;
    set_defaults(&server->cfg);
    server->tick_ns = tick_length(&server->cfg);
    server->task = (struct loop_task){.fn = on_turn_end, .ctx = server};
    struct http_link *const lists[] = {&server->list_idle,   &server->list_busy,
                                       &server->list_new,    &server->list_live,
                                       &server->list_untold, &server->list_told};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) http_link_init(lists[i]);
    if (loop_timer_create(loop, on_tick, server, &server->tick) != SL_OK) {
        http_server_destroy(server);
        return sl_err_set(err, SL_NOMEM, "http server: out of memory");
    }
    *out = server;
    return SL_OK;
}

static void close_all(struct http_link *list)
{
    while (!http_list_empty(list)) http_conn_close(HTTP_OF(list->next, struct http_conn, link));
}

static void free_spares(struct http_server *server)
{
    while (server->n_spares) sl_buf_done(&server->spares[--server->n_spares]);
    while (server->n_spare_exchanges) {
        struct http_exchange *x = server->spare_exchanges[--server->n_spare_exchanges];
        sl_arena_done(&x->arena);
        sl_free(x);
    }
}

void http_server_destroy(struct http_server *server)
{
    if (!server) return;
    http_listeners_close(server);
    server->accept_paused = false;
    close_all(&server->list_idle);
    close_all(&server->list_busy);
    tell_closed(server);
    while (!http_list_empty(&server->list_told)) {
        http_exchange_free(HTTP_OF(server->list_told.next, struct http_exchange, link));
    }
    service_dirty(server);
    free_spares(server);
    http2_spare_streams_free(server);
    loop_cancel_task(server->loop, &server->task);
    loop_timer_destroy(server->tick);
    sl_free(server);
}

void http_server_drain(struct http_server *server, http_drained_fn on_drained, void *ctx)
{
    server->draining = true;
    server->on_drained = on_drained;
    server->drained_ctx = ctx;
    http_listeners_close(server);
    for (struct http_link *at = server->list_busy.next, *next; at != &server->list_busy;
         at = next) {
        next = at->next;
        struct http_conn *conn = HTTP_OF(at, struct http_conn, link);
        if (conn->state == HTTP_CONN_HANDSHAKE) http_conn_close(conn);
        if (conn->state == HTTP_CONN_STREAMS) http2_conn_drain(conn);
    }
    while (!http_list_empty(&server->list_idle)) {
        http_conn_retire(HTTP_OF(server->list_idle.next, struct http_conn, link));
    }
    loop_queue_task(server->loop, &server->task);
}

void http_server_stats(const struct http_server *server, struct http_server_stats *out)
{
    *out = server->stats;
}
