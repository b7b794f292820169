/* control_socket.h: the unix socket on which control.h's lines come in and its answers go out.
 * Part of netlab-switch.  Thread: the caller's, which calls control_socket_run when `epoll_fd` (the
 * server's own, to be watched by the caller's) is readable.  Allocates: the answers.
 * Invariant: nothing here waits; a client that does not read its answers is not read from. */
#pragma once
#include "netlab/control.h"

#define CONTROL_CLIENTS_MAX 16 /* one at a time is usual */

struct control_client {
    int fd; /* -1: free */
    size_t n_line;
    char line[CONTROL_LINE_MAX + 1]; /* one more than a line: what fills it is too long */
    struct sl_buf out;
};

struct control_socket {
    struct fabric *fabric; /* borrowed */
    int epoll_fd, listen_fd;
    struct control_client clients[CONTROL_CLIENTS_MAX];
};

/* Listens at `path`, which only the owner may use; a socket that lies there is replaced. IO, NOMEM,
 * INVALID: the path is too long. On failure there is nothing to undo. */
SL_CHECK sl_status control_socket_init(struct control_socket *server, const char *path,
                                       struct fabric *fabric, struct sl_err *err);
void control_socket_done(struct control_socket *server);
void control_socket_run(struct control_socket *server);
