/* http_listen.c: listening sockets: where they are bound, and what happens when too many come. */
#include "net/http_int.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096 /* the kernel cuts it to somaxconn */

/* --- accepting --- */

static void format_peer(const struct sockaddr_storage *address, socklen_t len, char *out)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(out, HTTP_PEER_TEXT_MAX, "unknown");
        return;
    }
    bool v6 = address->ss_family == AF_INET6;
    snprintf(out, HTTP_PEER_TEXT_MAX, "%s%.48s%s:%.8s", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

static void accept_pause(struct http_server *server)
{
    server->accept_paused = true;
    for (size_t i = 0; i < server->n_listeners; i++) {
        if (loop_watch_set(server->listeners[i]->watch, 0) != SL_OK) continue; /* cannot fail */
    }
    http_server_tick(server);
}

static bool has_room(const struct http_server *server)
{
    return server->stats.n_connections < server->cfg.n_connections_max ||
           !http_list_empty(&server->list_idle) || !http_list_empty(&server->list_new);
}

/* The connection that can be spared most. Those that never sent a request, handshake or not, have
 * half of the places: beyond that the oldest of them goes, so that a crowd which only connects
 * pushes itself out, each after as many others as there is time for a handshake in. Else it is the
 * one that has been idle longest. NULL: all have a request under way. */
static struct http_conn *sparable(const struct http_server *server)
{
    bool crowd = server->n_new > server->cfg.n_connections_max / 2;
    bool idle = !http_list_empty(&server->list_idle);
    if (idle && !crowd) return HTTP_OF(server->list_idle.next, struct http_conn, link);
    if (!server->n_new) return NULL;
    return HTTP_OF(server->list_new.next, struct http_conn, new_link);
}

static bool make_room(struct http_server *server)
{
    struct http_conn *conn = sparable(server);
    if (!conn) return false;
    server->stats.n_evicted++;
    http_conn_close(conn);
    return true;
}

/* Returns false when nothing more can be accepted now. */
static bool accept_one(struct http_listener *listener)
{
    struct http_server *server = listener->server;
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    char peer[HTTP_PEER_TEXT_MAX];
    int fd = accept4(listener->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == ECONNABORTED || errno == EINTR) return true;
        if (errno == EAGAIN) return false;
        server->stats.n_accept_failed++;
        if (!make_room(server)) accept_pause(server);
        return false;
    }
    if (server->stats.n_connections >= server->cfg.n_connections_max) make_room(server);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    format_peer(&address, len, peer);
    if (http_conn_create(server, fd, listener->tls, peer) != SL_OK) server->stats.n_accept_failed++;
    return true;
}

static void on_acceptable(void *ctx, unsigned ready)
{
    (void)ready;
    struct http_listener *listener = ctx;
    struct http_server *server = listener->server;
    for (int i = 0; i < HTTP_ACCEPTS_PER_EVENT && !server->accept_paused; i++) {
        if (!has_room(server)) {
            accept_pause(server);
        } else if (!accept_one(listener)) {
            return;
        }
    }
}

void http_listeners_resume(struct http_server *server)
{
    if (!server->accept_paused || server->held || !has_room(server)) return;
    server->accept_paused = false;
    for (size_t i = 0; i < server->n_listeners; i++) {
        if (loop_watch_set(server->listeners[i]->watch, LOOP_READ) != SL_OK) {
            server->accept_paused = true; /* the next tick tries again */
        }
    }
}

void http_server_hold(struct http_server *server, bool hold)
{
    server->held = hold;
    if (hold)
        accept_pause(server);
    else
        http_listeners_resume(server);
}

/* --- binding --- */

static void listener_destroy(struct http_listener *listener)
{
    if (!listener) return;
    loop_watch_destroy(listener->watch);
    if (listener->fd >= 0) close(listener->fd);
    sl_free(listener);
}

void http_listeners_close(struct http_server *server)
{
    while (server->n_listeners) listener_destroy(server->listeners[--server->n_listeners]);
}

/* A bound and listening socket, or -1 with errno. IPv6 sockets take IPv6 only, so that "all" can
 * bind both. */
static int open_socket(const struct addrinfo *address)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &len);
    bool v6 = address.ss_family == AF_INET6;
    return ntohs(v6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                    : ((struct sockaddr_in *)&address)->sin_port);
}

static void set_port(struct addrinfo *address, uint16_t port)
{
    if (address->ai_family == AF_INET6) {
        ((struct sockaddr_in6 *)address->ai_addr)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)address->ai_addr)->sin_port = htons(port);
    }
}

static sl_status listen_at(struct http_server *server, const struct addrinfo *address,
                           struct tls_server *tls, struct sl_err *err)
{
    if (server->n_listeners == HTTP_LISTENERS_MAX) {
        return sl_err_set(err, SL_LIMIT, "more than %d addresses", HTTP_LISTENERS_MAX);
    }
    struct http_listener *listener = sl_calloc(1, sizeof *listener);
    if (!listener) return sl_err_set(err, SL_NOMEM, "out of memory");
    *listener = (struct http_listener){.server = server, .tls = tls, .fd = open_socket(address)};
    if (listener->fd < 0) {
        int saved = errno;
        listener_destroy(listener);
        if (saved == EADDRINUSE) return sl_err_set(err, SL_EXISTS, "the address is in use");
        return sl_err_errno(err, saved, "cannot bind");
    }
    sl_status status = loop_watch_create(server->loop, listener->fd, LOOP_READ, on_acceptable,
                                         listener, &listener->watch);
    if (status != SL_OK) {
        listener_destroy(listener);
        return sl_err_set(err, status, "%s", sl_status_text(status));
    }
    server->listeners[server->n_listeners++] = listener;
    return SL_OK;
}

/* A host without IPv6 still resolves names to IPv6 addresses. */
static bool family_is_absent(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) close(fd);
    return fd < 0 && errno == EAFNOSUPPORT;
}

static sl_status listen_at_all(struct http_server *server, struct addrinfo *addresses,
                               uint16_t *port, struct tls_server *tls, struct sl_err *err)
{
    size_t before = server->n_listeners;
    for (struct addrinfo *address = addresses; address; address = address->ai_next) {
        if (family_is_absent(address->ai_family)) continue;
        set_port(address, *port);
        sl_status status = listen_at(server, address, tls, err);
        if (status != SL_OK) {
            while (server->n_listeners > before) {
                listener_destroy(server->listeners[--server->n_listeners]);
            }
            return status;
        }
        *port = bound_port(server->listeners[server->n_listeners - 1]->fd);
    }
    return server->n_listeners > before ? SL_OK : sl_err_set(err, SL_INVALID, "no address to use");
}

sl_status http_server_listen(struct http_server *server, const char *host, uint16_t port,
                             struct tls_server *tls, uint16_t *out_port, struct sl_err *err)
{
    bool all = !host || strcmp(host, "*") == 0;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *addresses = NULL;
    int rc = getaddrinfo(all ? NULL : host, "0", &hints, &addresses);
    if (rc != 0) {
        return sl_err_set(err, SL_INVALID, "listen on %s: %s", all ? "*" : host, gai_strerror(rc));
    }
    sl_status status = listen_at_all(server, addresses, &port, tls, err);
    freeaddrinfo(addresses);
    if (status != SL_OK) {
        return sl_err_prefix(err, "listen on %s port %u", all ? "*" : host, (unsigned)port);
    }
    if (out_port) *out_port = port;
    return SL_OK;
}
