#include "netlab/control_socket.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define EVENTS_MAX 8
#define LISTENER CONTROL_CLIENTS_MAX /* its number among the events; the clients' are below */

static sl_status watch(struct control_socket *server, int fd, unsigned number, struct sl_err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return SL_OK;
    return sl_err_errno(err, errno, "watch a socket");
}

static sl_status listen_at(struct control_socket *server, const char *path, struct sl_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return sl_err_set(err, SL_INVALID, "%s: longer than %zu bytes", path,
                          sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    server->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->listen_fd < 0) return sl_err_errno(err, errno, "socket");
    unlink(path);
    mode_t mask = umask(0177);
    int failed = bind(server->listen_fd, (struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (failed || listen(server->listen_fd, CONTROL_CLIENTS_MAX))
        return sl_err_errno(err, errno, "listen at %s", path);
    return watch(server, server->listen_fd, LISTENER, err);
}

sl_status control_socket_init(struct control_socket *server, const char *path,
                              struct fabric *fabric, struct sl_err *err)
{
    *server = (struct control_socket){.fabric = fabric, .listen_fd = -1};
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        server->clients[i].fd = -1;
        sl_buf_init(&server->clients[i].out, CONTROL_ANSWER_MAX);
    }
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0) return sl_err_errno(err, errno, "epoll");
    sl_status status = listen_at(server, path, err);
    if (status) control_socket_done(server);
    return status;
}

static void close_client(struct control_client *client)
{
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
    client->n_line = 0;
    sl_buf_done(&client->out);
}

void control_socket_done(struct control_socket *server)
{
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) close_client(&server->clients[i]);
    if (server->listen_fd >= 0) close(server->listen_fd);
    close(server->epoll_fd);
}

/* One more than there is room for is turned away. */
static void accept_client(struct control_socket *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    unsigned i = 0;
    if (fd < 0) return;
    while (i < CONTROL_CLIENTS_MAX && server->clients[i].fd >= 0) i++;
    if (i == CONTROL_CLIENTS_MAX || watch(server, fd, i, NULL) != SL_OK) {
        close(fd);
        return;
    }
    server->clients[i].fd = fd;
}

/* Answers the whole lines that have come. False when the client has to go. */
static bool answer_lines(struct control_socket *server, struct control_client *client)
{
    const char *end = NULL;
    while ((end = memchr(client->line, '\n', client->n_line))) {
        size_t n = (size_t)(end - client->line);
        if (control_answer(server->fabric, client->line, n, &client->out) != SL_OK) return false;
        client->n_line -= n + 1;
        memmove(client->line, end + 1, client->n_line);
    }
    return client->n_line < sizeof client->line;
}

static bool read_lines(struct control_socket *server, struct control_client *client)
{
    ssize_t n =
        read(client->fd, client->line + client->n_line, sizeof client->line - client->n_line);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    client->n_line += (size_t)n;
    return answer_lines(server, client);
}

static bool write_answers(struct control_client *client)
{
    if (!client->out.len) return true;
    ssize_t n = send(client->fd, client->out.data, client->out.len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    sl_buf_consume(&client->out, (size_t)n);
    return true;
}

static void serve_client(struct control_socket *server, unsigned number)
{
    struct control_client *client = &server->clients[number];
    bool well = client->out.len > 0 || read_lines(server, client);
    if (!well || !write_answers(client)) {
        close_client(client);
        return;
    }
    struct epoll_event event = {.events = client->out.len ? EPOLLOUT : EPOLLIN, .data.u32 = number};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, client->fd, &event)) close_client(client);
}

void control_socket_run(struct control_socket *server)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(server->epoll_fd, events, EVENTS_MAX, 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == LISTENER)
            accept_client(server);
        else
            serve_client(server, events[i].data.u32);
    }
}
