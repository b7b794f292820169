/* process_floor: what the way from a client through a gateway to a worker costs when nothing is
 * done on it, as a floor for what a service in processes of its own adds to calls in one process.
 * Three processes: client, over loopback TCP, gateway, over a socketpair, worker; the worker keeps
 * --threads CPUs busy for --busy-us and answers. What a request brings and an answer takes goes
 * over TCP alone: no HTTP, no parsing, no copy to the worker. Prints by how much the median and the
 * fastest tenth are above the busy time, as one line of JSON.
 *
 *     process_floor --busy-us 3500 --threads 2 --in 8192 --out 1024 --requests 500 */
#include "base/clock.h"
#include "load.h"
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_BYTES 64 /* of a message between gateway and worker */
#define THREADS_MAX 256
#define NS_PER_US 1000

struct options {
    int64_t busy_ns;
    int n_threads, n_requests;
    size_t n_in, n_out;
};

struct helpers {
    sem_t go[THREADS_MAX];
    int n, next;
    _Atomic int64_t end_ns;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* --- bytes; the end of a peer is the end of a process --- */

static void receive(int fd, char *bytes, size_t n)
{
    for (ssize_t got; n > 0; bytes += got, n -= (size_t)got)
        if ((got = recv(fd, bytes, n, 0)) <= 0) exit(0);
}

static void send_all(int fd, const char *bytes, size_t n)
{
    for (ssize_t sent; n > 0; bytes += sent, n -= (size_t)sent)
        if ((sent = send(fd, bytes, n, MSG_NOSIGNAL)) <= 0) exit(0);
}

/* Sleeps until something is there, as an event loop does. */
static void wait_for(int poller)
{
    struct epoll_event event;
    if (epoll_wait(poller, &event, 1, -1) < 0) die("epoll_wait");
}

static int poller_of(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll");
    return poller;
}

static void send_at_once(int fd)
{
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)) die("setsockopt");
}

static char *buffer_of(size_t n)
{
    char *bytes = malloc(n + 1);
    if (!bytes) die("buffer");
    memset(bytes, 1, n + 1); /* so that no page is new later */
    return bytes;
}

/* --- the worker --- */

static void spin_until(int64_t end_ns)
{
    while (sl_now_ns() < end_ns) continue;
}

static void *help(void *arg)
{
    struct helpers *helpers = arg;
    int own = helpers->next++;
    for (;;) {
        while (sem_wait(&helpers->go[own])) continue;
        spin_until(atomic_load(&helpers->end_ns));
    }
    return NULL;
}

/* One after the other, so that each finds its number. */
static void start_helpers(struct helpers *helpers, int n)
{
    for (helpers->n = 0; helpers->n < n; helpers->n++) {
        pthread_t thread;
        if (sem_init(&helpers->go[helpers->n], 0, 1)) die("semaphore");
        if (pthread_create(&thread, NULL, help, helpers)) die("thread");
        int left = 1;
        while (left > 0)
            if (sem_getvalue(&helpers->go[helpers->n], &left)) die("semaphore");
    }
}

static void run_worker(int fd, const struct options *o)
{
    static struct helpers helpers;
    char frame[FRAME_BYTES];
    int poller = poller_of(fd);
    start_helpers(&helpers, o->n_threads - 1);
    for (;;) {
        wait_for(poller);
        receive(fd, frame, sizeof frame);
        int64_t end_ns = sl_now_ns() + o->busy_ns;
        atomic_store(&helpers.end_ns, end_ns);
        for (int i = 0; i < helpers.n; i++) (void)sem_post(&helpers.go[i]);
        spin_until(end_ns);
        send_all(fd, frame, sizeof frame);
    }
}

/* --- the gateway --- */

static void run_gateway(int listener, int worker, const struct options *o)
{
    char frame[FRAME_BYTES] = {0}, *in = buffer_of(o->n_in), *out = buffer_of(o->n_out);
    int client = accept(listener, NULL, NULL);
    if (client < 0) die("accept");
    send_at_once(client);
    int from_client = poller_of(client), from_worker = poller_of(worker);
    for (;;) {
        wait_for(from_client);
        receive(client, in, o->n_in);
        send_all(worker, frame, sizeof frame);
        wait_for(from_worker);
        receive(worker, frame, sizeof frame);
        send_all(client, out, o->n_out);
    }
}

/* --- the client --- */

static void ask(int fd, const struct options *o, struct load_histogram *latency)
{
    char *in = buffer_of(o->n_in), *out = buffer_of(o->n_out);
    int poller = poller_of(fd);
    for (int i = 0; i < o->n_requests; i++) {
        int64_t begin_ns = sl_now_ns();
        send_all(fd, in, o->n_in);
        wait_for(poller);
        receive(fd, out, o->n_out);
        load_histogram_add(latency, sl_now_ns() - begin_ns);
    }
    free(in);
    free(out);
}

static pid_t start(int listener, const int pair[2], bool is_worker, const struct options *o)
{
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid) return pid;
    (void)close(pair[is_worker ? 0 : 1]);
    if (is_worker)
        run_worker(pair[1], o);
    else
        run_gateway(listener, pair[0], o);
    exit(0);
}

static int listen_on_loopback(struct sockaddr_in *out)
{
    socklen_t n = sizeof *out;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *out = (struct sockaddr_in){.sin_family = AF_INET};
    out->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)out, n) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)out, &n))
        die("listen");
    return fd;
}

static void measure(const struct options *o, struct load_histogram *latency)
{
    struct sockaddr_in to;
    int pair[2], listener = listen_on_loopback(&to);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) die("socketpair");
    const pid_t pids[] = {start(listener, pair, true, o), start(listener, pair, false, o)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    send_at_once(fd);
    ask(fd, o, latency);
    for (size_t i = 0; i < sizeof pids / sizeof *pids; i++) {
        (void)kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], NULL, 0);
    }
}

static bool read_options(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"busy-us", required_argument, NULL, 'b'},  {"threads", required_argument, NULL, 't'},
        {"in", required_argument, NULL, 'i'},       {"out", required_argument, NULL, 'o'},
        {"requests", required_argument, NULL, 'n'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (c) {
        case 'b': o->busy_ns = (int64_t)(atof(optarg) * NS_PER_US); break;
        case 't': o->n_threads = atoi(optarg); break;
        case 'i': o->n_in = strtoul(optarg, NULL, 10); break;
        case 'o': o->n_out = strtoul(optarg, NULL, 10); break;
        case 'n': o->n_requests = atoi(optarg); break;
        default: return false;
        }
    return o->busy_ns >= 0 && o->n_threads >= 1 && o->n_threads <= THREADS_MAX && o->n_in > 0 &&
           o->n_out > 0 && o->n_requests > 0;
}

int main(int argc, char **argv)
{
    static struct load_histogram latency;
    struct options o = {.n_threads = 1, .n_in = 1024, .n_out = 1024, .n_requests = 1000};
    if (!read_options(argc, argv, &o)) {
        fprintf(stderr, "usage: process_floor --busy-us N [--threads N] [--in BYTES] "
                        "[--out BYTES] [--requests N]\n");
        return 2;
    }
    measure(&o, &latency);
    printf("{\"requests\":%d,\"added_p50_us\":%.1f,\"added_p10_us\":%.1f}\n", o.n_requests,
           (double)(load_histogram_at(&latency, 0.5) - o.busy_ns) / NS_PER_US,
           (double)(load_histogram_at(&latency, 0.1) - o.busy_ns) / NS_PER_US);
    return 0;
}
