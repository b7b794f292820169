/* open_loop: asks an HTTP server at a set rate, whether it keeps up or not, and prints how late the
 * answers were as one line of JSON. One thread, keep-alive connections, IPv4.
 *
 *     open_loop --port 8080 --rate 10000 --seconds 5 --path /v1/completions --body '{...}'
 *
 * With --streams N it opens N streams at once instead, takes each to its end and says how many were
 * whole: the events' "text" fields put together, and [DONE] after them. */
#include "base/thread.h"
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16384
#define IN_BYTES 16384 /* an answer, or as much of a stream as one read brings */
#define EVENTS_MAX 256
#define LATE_NS (5LL * LOAD_NS_PER_S) /* answers that come later than this after the last request */
#define STREAM_SECONDS_MAX 120
#define QUEUE_MAX (1u << 20) /* requests that are due while no connection is free; power of two */

struct connection {
    int fd;
    int64_t due_ns; /* of the request under way; 0: none */
    size_t n_in;
    char in[IN_BYTES + 1];
    /* of a stream */
    size_t n_text, n_tokens;
    bool has_head, wrong, done;
};

struct options {
    uint16_t port;
    double rate, seconds, warmup;
    int n_connections, n_streams, n_tokens;
    bool poisson;
    const char *path, *body, *expect;
};

struct generator {
    struct options o;
    int epoll;
    char *request;
    size_t n_request;
    struct connection **connections;
    int *idle, n_idle; /* a stack: few connections stay warm, as behind a proxy */
    int64_t *queue;    /* due times that wait for a connection */
    uint64_t queue_head, queue_tail;
    struct load_schedule schedule;
    struct load_histogram histogram;
    struct load_result result;
    int64_t measure_ns; /* requests due before it are the warm-up */
    int n_streams_left;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* --- connections --- */

static int dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void open_connections(struct generator *g, int n)
{
    g->connections = calloc((size_t)n, sizeof *g->connections);
    g->idle = calloc((size_t)n, sizeof *g->idle);
    if (!g->connections || !g->idle) die("connections");
    for (int i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        g->connections[i] = calloc(1, sizeof **g->connections);
        if (!g->connections[i]) die("connection");
        g->connections[i]->fd = dial(g->o.port);
        if (epoll_ctl(g->epoll, EPOLL_CTL_ADD, g->connections[i]->fd, &event)) die("epoll_ctl");
        g->idle[g->n_idle++] = n - 1 - i;
    }
}

static void write_request(struct generator *g)
{
    size_t n_body = g->o.body ? strlen(g->o.body) : 0;
    size_t size = strlen(g->o.path) + n_body + 256;
    g->request = malloc(size);
    if (!g->request) die("request");
    int n = g->o.body ? snprintf(g->request, size,
                                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                                 "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                 g->o.path, n_body, g->o.body)
                      : snprintf(g->request, size, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                                 g->o.path);
    g->n_request = (size_t)n;
}

static void send_on(struct generator *g, int at, int64_t due_ns)
{
    struct connection *c = g->connections[at];
    c->due_ns = due_ns;
    c->n_in = 0;
    g->result.n_sent++;
    if (send(c->fd, g->request, g->n_request, MSG_NOSIGNAL) != (ssize_t)g->n_request) die("send");
}

/* --- whole answers --- */

/* Bytes of the answer when all of it is there, else 0. */
static size_t answer_length(const struct connection *c)
{
    static const char field[] = "\r\nContent-Length: ";
    const char *end = memmem(c->in, c->n_in, "\r\n\r\n", 4);
    const char *length = end ? strcasestr(c->in, field) : NULL;
    if (!length || length > end) return 0;
    size_t total = (size_t)(end + 4 - c->in) + strtoul(length + sizeof field - 1, NULL, 10);
    return c->n_in >= total ? total : 0;
}

static void take_answer(struct generator *g, int at, int64_t now_ns)
{
    struct connection *c = g->connections[at];
    if (!answer_length(c)) {
        if (c->n_in == IN_BYTES) die("an answer is too long");
        return;
    }
    bool good = !strncmp(c->in, "HTTP/1.1 200", 12) && (!g->o.expect || strstr(c->in, g->o.expect));
    if (c->due_ns >= g->measure_ns) {
        load_histogram_add(&g->histogram, now_ns - c->due_ns);
        g->result.n_errors += !good;
    }
    c->due_ns = 0;
    if (g->queue_head != g->queue_tail)
        send_on(g, at, g->queue[g->queue_head++ % QUEUE_MAX]);
    else
        g->idle[g->n_idle++] = at;
}

/* --- streams --- */

/* Whether the answer goes on as --expect, repeated, does. */
static void check_text(struct generator *g, struct connection *c, const char *text, size_t n)
{
    size_t n_expect = strlen(g->o.expect);
    for (size_t i = 0; i < n; i++)
        if (text[i] != g->o.expect[c->n_text++ % n_expect]) c->wrong = true;
    c->n_tokens += n > 0;
}

static void take_event(struct generator *g, struct connection *c, const char *event)
{
    static const char field[] = "\"text\":\"";
    if (!strncmp(event, "[DONE]", 6)) {
        c->done = true;
        return;
    }
    const char *text = strstr(event, field);
    if (!text) {
        c->wrong = true;
        return;
    }
    text += sizeof field - 1;
    check_text(g, c, text, strcspn(text, "\""));
}

/* Events are whole within chunks, so that framing need not be undone: a line of data is one. */
static void take_lines(struct generator *g, struct connection *c)
{
    char *at = c->in, *end;
    for (; (end = strchr(at, '\n')); at = end + 1) {
        *end = '\0';
        if (!strncmp(at, "HTTP/1.1 ", 9)) c->has_head = !strncmp(at + 9, "200", 3);
        if (!strncmp(at, "data: ", 6)) take_event(g, c, at + 6);
    }
    c->n_in = (size_t)(c->in + c->n_in - at);
    memmove(c->in, at, c->n_in);
}

static void take_stream(struct generator *g, int at, int64_t now_ns)
{
    struct connection *c = g->connections[at];
    take_lines(g, c);
    if (!c->done || !c->due_ns) return;
    bool whole = c->has_head && !c->wrong && c->n_tokens == (size_t)g->o.n_tokens;
    load_histogram_add(&g->histogram, now_ns - c->due_ns);
    g->result.n_errors += !whole;
    c->due_ns = 0;
    g->n_streams_left--;
}

/* --- the loop --- */

static void receive(struct generator *g, int at)
{
    struct connection *c = g->connections[at];
    ssize_t n = recv(c->fd, c->in + c->n_in, IN_BYTES - c->n_in, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }
    c->n_in += (size_t)n;
    c->in[c->n_in] = '\0';
    if (g->o.n_streams)
        take_stream(g, at, sl_now_ns());
    else
        take_answer(g, at, sl_now_ns());
}

static void wait_until(struct generator *g, int64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t left = until_ns - sl_now_ns();
    if (left < 0) left = 0;
    const struct timespec timeout = {.tv_sec = left / LOAD_NS_PER_S,
                                     .tv_nsec = left % LOAD_NS_PER_S};
    int n = epoll_pwait2(g->epoll, events, EVENTS_MAX, &timeout, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) receive(g, (int)events[i].data.u32);
}

static void send_due(struct generator *g, int64_t end_ns)
{
    while (g->schedule.next_ns <= (double)sl_now_ns() && g->schedule.next_ns < (double)end_ns) {
        int64_t due_ns = load_schedule_take(&g->schedule);
        if (g->n_idle)
            send_on(g, g->idle[--g->n_idle], due_ns);
        else if (g->queue_tail - g->queue_head < QUEUE_MAX)
            g->queue[g->queue_tail++ % QUEUE_MAX] = due_ns;
        else
            g->result.n_errors++;
    }
}

static void run_rate(struct generator *g)
{
    int64_t begin_ns = sl_now_ns();
    int64_t end_ns = begin_ns + (int64_t)((g->o.warmup + g->o.seconds) * LOAD_NS_PER_S);
    g->measure_ns = begin_ns + (int64_t)(g->o.warmup * LOAD_NS_PER_S);
    g->queue = calloc(QUEUE_MAX, sizeof *g->queue);
    if (!g->queue) die("queue");
    open_connections(g, g->o.n_connections);
    load_schedule_init(&g->schedule, g->o.rate, g->o.poisson, begin_ns);
    while (sl_now_ns() < end_ns) {
        send_due(g, end_ns);
        wait_until(g, g->schedule.next_ns < (double)end_ns ? (int64_t)g->schedule.next_ns : end_ns);
    }
    while (g->n_idle < g->o.n_connections && sl_now_ns() < end_ns + LATE_NS)
        wait_until(g, end_ns + LATE_NS);
    g->result.n_errors +=
        (uint64_t)(g->o.n_connections - g->n_idle) + g->queue_tail - g->queue_head;
    g->result.seconds = g->o.seconds;
}

static void run_streams(struct generator *g)
{
    open_connections(g, g->o.n_streams);
    int64_t begin_ns = sl_now_ns(), end_ns = begin_ns + STREAM_SECONDS_MAX * (int64_t)LOAD_NS_PER_S;
    g->n_streams_left = g->o.n_streams;
    for (int i = 0; i < g->o.n_streams; i++) send_on(g, i, sl_now_ns());
    while (g->n_streams_left && sl_now_ns() < end_ns) wait_until(g, end_ns);
    g->result.n_errors += (uint64_t)g->n_streams_left;
    g->result.seconds = (double)(sl_now_ns() - begin_ns) / LOAD_NS_PER_S;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: open_loop --port N [--path P] [--body JSON] [--expect TEXT]\n"
            "                 --rate R --seconds S [--warmup S] [--connections N] [--poisson]\n"
            "                 | --streams N --tokens N\n");
    exit(2);
}

static void read_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"port", 1, NULL, 'p'},    {"path", 1, NULL, 'u'},    {"body", 1, NULL, 'b'},
        {"expect", 1, NULL, 'e'},  {"rate", 1, NULL, 'r'},    {"seconds", 1, NULL, 's'},
        {"warmup", 1, NULL, 'w'},  {"poisson", 0, NULL, 'P'}, {"connections", 1, NULL, 'c'},
        {"streams", 1, NULL, 'S'}, {"tokens", 1, NULL, 't'},  {0}};
    *o = (struct options){.path = "/health", .n_connections = 64};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 'p': o->port = (uint16_t)atoi(optarg); break;
        case 'u': o->path = optarg; break;
        case 'b': o->body = optarg; break;
        case 'e': o->expect = optarg; break;
        case 'r': o->rate = atof(optarg); break;
        case 's': o->seconds = atof(optarg); break;
        case 'w': o->warmup = atof(optarg); break;
        case 'P': o->poisson = true; break;
        case 'c': o->n_connections = atoi(optarg); break;
        case 'S': o->n_streams = atoi(optarg); break;
        case 't': o->n_tokens = atoi(optarg); break;
        default: usage();
        }
    bool streams = o->n_streams > 0 && o->n_streams <= CONNECTIONS_MAX && o->expect && *o->expect;
    bool rate = o->rate > 0 && o->seconds > 0 && o->n_connections > 0 &&
                o->n_connections <= CONNECTIONS_MAX && !o->n_streams;
    if (!o->port || !(streams || rate)) usage();
}

int main(int argc, char **argv)
{
    static struct generator g;
    read_options(argc, argv, &g.o);
    sl_thread_wake_soon();
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* else waits are 50 us longer than asked for */
    g.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (g.epoll < 0) die("epoll_create1");
    write_request(&g);
    if (g.o.n_streams)
        run_streams(&g);
    else
        run_rate(&g);
    load_print(&g.histogram, &g.result);
    return 0;
}
