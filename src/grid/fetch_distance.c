/* fetch_distance.c: which members are near: how long a TCP connection to each takes. */
#include "base/clock.h"
#include "grid/fetch.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAR INT64_MAX

struct probe {
    struct fetch_source source;
    int fd; /* -1: none, or it is over */
    int64_t took_ns;
};

/* "host:port", "[v6]:port". False: it is neither. */
static bool split(const char *address, char host[GRID_ADDRESS_SIZE], const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    if (!n || n >= GRID_ADDRESS_SIZE || !colon[1]) return false;
    if (address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    memcpy(host, address, n);
    host[n] = '\0';
    *port = colon + 1;
    return true;
}

/* Addresses only: a name would have to be looked up, for who knows how long. */
static void begin(struct probe *probe)
{
    char host[GRID_ADDRESS_SIZE];
    const char *port;
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    probe->fd = -1;
    probe->took_ns = FAR;
    if (!split(probe->source.address, host, &port) || getaddrinfo(host, port, &hints, &found) != 0)
        return;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (connect(fd, found->ai_addr, found->ai_addrlen) == 0 || errno == EINPROGRESS))
        probe->fd = fd;
    else if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
}

static void end(struct probe *probe, int64_t took_ns)
{
    int why = 0;
    socklen_t n = sizeof why;
    if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &why, &n) == 0 && why == 0)
        probe->took_ns = took_ns;
    close(probe->fd);
    probe->fd = -1;
}

static void wait_all(struct probe *probes, size_t n, int timeout_ms)
{
    struct pollfd fds[FETCH_SOURCES_MAX];
    int64_t began = sl_now_ns(), until = began + (int64_t)timeout_ms * 1000000;
    for (;;) {
        size_t n_open = 0;
        int64_t now = sl_now_ns();
        for (size_t i = 0; i < n; i++) {
            fds[i] = (struct pollfd){.fd = probes[i].fd, .events = POLLOUT};
            n_open += probes[i].fd >= 0;
        }
        if (!n_open || now >= until) break;
        if (poll(fds, n, (int)((until - now) / 1000000) + 1) < 0 && errno != EINTR) break;
        for (size_t i = 0; i < n; i++)
            if (fds[i].fd >= 0 && fds[i].revents) end(&probes[i], sl_now_ns() - began);
    }
    for (size_t i = 0; i < n; i++)
        if (probes[i].fd >= 0) close(probes[i].fd);
}

static int by_time(const void *a, const void *b)
{
    const struct probe *x = a, *y = b;
    return (x->took_ns > y->took_ns) - (x->took_ns < y->took_ns);
}

size_t fetch_sort_by_distance(struct fetch_source *sources, size_t n, int timeout_ms)
{
    struct probe probes[FETCH_SOURCES_MAX];
    size_t n_near = 0;
    if (n > FETCH_SOURCES_MAX) n = FETCH_SOURCES_MAX;
    for (size_t i = 0; i < n; i++) {
        probes[i].source = sources[i];
        begin(&probes[i]);
    }
    wait_all(probes, n, timeout_ms);
    qsort(probes, n, sizeof *probes, by_time);
    for (size_t i = 0; i < n; i++) {
        sources[i] = probes[i].source;
        n_near += probes[i].took_ns != FAR;
    }
    return n_near;
}
