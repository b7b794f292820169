/* netlab-switch: an Ethernet switch in user space whose links are as slow, lossy, narrow or cut as
 * a test wants them.
 *
 *     netlab-switch --control PATH [--seed N] PORT[:SEGMENT]...
 *
 * Makes a TAP device for each port, in the network namespace it is started in and named as the
 * port; whoever uses it moves the devices to where they belong, and they end with this process.
 * Says "ready" on stdout once the devices and the control socket are there; ends on SIGTERM or
 * SIGINT. One thread: frames that are due are written, those that are not wait in a queue whose
 * first sets a timer of nanoseconds. */
#include "base/clock.h"
#include "netlab/control_socket.h"
#include "netlab/frame_queue.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define FRAME_BYTES_MAX 65536 /* of a TAP device with the largest MTU */
#define FRAMES_A_TURN 64      /* from one port, before the others and what is due have theirs */
#define EVENTS_MAX 16

/* What an epoll event is about: a port below FABRIC_PORTS_MAX, or one of these. */
enum source { SOURCE_TIMER = FABRIC_PORTS_MAX, SOURCE_SIGNAL, SOURCE_CONTROL };

struct options {
    const char *control;
    uint64_t seed;
    char **ports;
    int n_ports;
};

struct lab_switch {
    struct fabric *fabric;
    struct frame_queue queue;
    struct control_socket control;
    bool has_control;
    int taps[FABRIC_PORTS_MAX];
    int epoll_fd, timer_fd, signal_fd;
    int64_t timer_ns;   /* what the timer is set to; 0: off */
    uint64_t n_dropped; /* for want of room, or because a device was down */
    bool stopping;
    char frame[FRAME_BYTES_MAX];
};

static sl_status watch(struct lab_switch *sw, int fd, unsigned source, struct sl_err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};
    if (epoll_ctl(sw->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return SL_OK;
    return sl_err_errno(err, errno, "watch a descriptor");
}

static sl_status open_tap(const char *name, int *out_fd, struct sl_err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    memcpy(request.ifr_name, name, strlen(name) + 1);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return sl_err_errno(err, errno, "open /dev/net/tun");
    if (ioctl(fd, TUNSETIFF, &request)) {
        int code = errno;
        close(fd);
        return sl_err_errno(err, code, "make device %s", name);
    }
    *out_fd = fd;
    return SL_OK;
}

/* PORT[:SEGMENT], cut apart in place. */
static sl_status add_port(struct lab_switch *sw, char *text, struct sl_err *err)
{
    char *colon = strchr(text, ':');
    long segment = 0;
    if (colon) {
        char *end = NULL;
        segment = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || *end || segment < 0 || segment >= FABRIC_SEGMENTS_MAX)
            return sl_err_set(err, SL_INVALID, "%s: no segment", text);
        *colon = '\0';
    }
    int port = fabric_n_ports(sw->fabric);
    sl_status status = fabric_add_port(sw->fabric, text, (int)segment, err);
    if (status == SL_OK) status = open_tap(text, &sw->taps[port], err);
    if (status == SL_OK) status = watch(sw, sw->taps[port], (unsigned)port, err);
    return status;
}

static sl_status open_descriptors(struct lab_switch *sw, struct sl_err *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sw->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    sw->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (sw->epoll_fd < 0 || sw->timer_fd < 0) return sl_err_errno(err, errno, "epoll, timer");
    if (sigprocmask(SIG_BLOCK, &signals, NULL)) return sl_err_errno(err, errno, "block signals");
    sw->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (sw->signal_fd < 0) return sl_err_errno(err, errno, "signalfd");
    sl_status status = watch(sw, sw->timer_fd, SOURCE_TIMER, err);
    if (status == SL_OK) status = watch(sw, sw->signal_fd, SOURCE_SIGNAL, err);
    return status;
}

static sl_status switch_init(struct lab_switch *sw, const struct options *options,
                             struct sl_err *err)
{
    sw->epoll_fd = sw->timer_fd = sw->signal_fd = -1;
    for (int i = 0; i < FABRIC_PORTS_MAX; i++) sw->taps[i] = -1;
    frame_queue_init(&sw->queue);
    if (fabric_create(options->seed, &sw->fabric) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for the links");
    sl_status status = open_descriptors(sw, err);
    for (int i = 0; i < options->n_ports && status == SL_OK; i++)
        status = add_port(sw, options->ports[i], err);
    if (status) return status;
    status = control_socket_init(&sw->control, options->control, sw->fabric, err);
    if (status) return status;
    sw->has_control = true;
    return watch(sw, sw->control.epoll_fd, SOURCE_CONTROL, err);
}

static void switch_done(struct lab_switch *sw)
{
    if (sw->has_control) control_socket_done(&sw->control);
    for (int i = 0; i < FABRIC_PORTS_MAX; i++)
        if (sw->taps[i] >= 0) close(sw->taps[i]);
    int fds[] = {sw->epoll_fd, sw->timer_fd, sw->signal_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0) close(fds[i]);
    frame_queue_done(&sw->queue);
    fabric_destroy(sw->fabric);
}

static void write_frame(struct lab_switch *sw, int to, const void *bytes, size_t n)
{
    if (write(sw->taps[to], bytes, n) != (ssize_t)n) sw->n_dropped++;
}

/* At once when it is due and nothing that waits is due before it. */
static void send_frame(struct lab_switch *sw, const struct frame *frame, int64_t now_ns)
{
    const struct frame *first = frame_queue_first(&sw->queue);
    if (frame->due_ns <= now_ns && (!first || first->due_ns > now_ns))
        write_frame(sw, frame->to, frame->bytes, frame->n);
    else if (frame_queue_put(&sw->queue, frame) != SL_OK)
        sw->n_dropped++;
}

static void read_port(struct lab_switch *sw, int from)
{
    struct fabric_hop hops[FABRIC_PORTS_MAX];
    for (int i = 0; i < FRAMES_A_TURN; i++) {
        ssize_t n = read(sw->taps[from], sw->frame, sizeof sw->frame);
        if (n <= 0) return;
        int64_t now_ns = sl_now_ns();
        int n_hops = fabric_offer(sw->fabric, from, sw->frame, (size_t)n, now_ns, hops);
        for (int k = 0; k < n_hops; k++) {
            struct frame frame = {.due_ns = hops[k].due_ns,
                                  .from = from,
                                  .to = hops[k].to,
                                  .n = (size_t)n,
                                  .bytes = sw->frame};
            send_frame(sw, &frame, now_ns);
        }
    }
}

static void send_due(struct lab_switch *sw)
{
    int64_t now_ns = sl_now_ns();
    const struct frame *frame;
    while ((frame = frame_queue_first(&sw->queue)) && frame->due_ns <= now_ns) {
        if (fabric_arrives(sw->fabric, frame->from, frame->to))
            write_frame(sw, frame->to, frame->bytes, frame->n);
        frame_queue_drop_first(&sw->queue);
    }
}

static void set_timer(struct lab_switch *sw)
{
    const struct frame *first = frame_queue_first(&sw->queue);
    int64_t due_ns = first ? first->due_ns : 0;
    if (due_ns == sw->timer_ns) return;
    struct itimerspec spec = {.it_value = {due_ns / 1000000000, due_ns % 1000000000}};
    if (timerfd_settime(sw->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0) sw->timer_ns = due_ns;
}

static void take_event(struct lab_switch *sw, unsigned source)
{
    uint64_t n_expired = 0;
    switch (source) {
    case SOURCE_TIMER:
        /* What is due is sent after every turn; only the descriptor has to become quiet. */
        if (read(sw->timer_fd, &n_expired, sizeof n_expired) > 0) sw->timer_ns = 0;
        break;
    case SOURCE_SIGNAL: sw->stopping = true; break;
    case SOURCE_CONTROL: control_socket_run(&sw->control); break;
    default: read_port(sw, (int)source);
    }
}

static sl_status switch_run(struct lab_switch *sw, struct sl_err *err)
{
    struct epoll_event events[EVENTS_MAX];
    while (!sw->stopping) {
        set_timer(sw);
        int n = epoll_wait(sw->epoll_fd, events, EVENTS_MAX, -1);
        if (n < 0 && errno != EINTR) return sl_err_errno(err, errno, "epoll_wait");
        for (int i = 0; i < n; i++) {
            take_event(sw, events[i].data.u32);
            send_due(sw);
        }
    }
    return SL_OK;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"control", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, 's'}, {0}};
    char *end = "";
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'c')
            options->control = optarg;
        else if (option == 's')
            options->seed = strtoull(optarg, &end, 10);
        else
            return false;
    }
    options->ports = argv + optind;
    options->n_ports = argc - optind;
    return options->control && options->n_ports > 0 && *end == '\0';
}

/* A switch that waits for its turn on a busy machine is a delay that nobody asked for. Without the
 * right to go first it does without. */
static void go_first(void)
{
    struct sched_param param = {.sched_priority = sched_get_priority_min(SCHED_FIFO)};
    if (sched_setscheduler(0, SCHED_FIFO, &param))
        fprintf(stderr, "netlab-switch: not real-time: %s\n", strerror(errno));
}

int main(int argc, char **argv)
{
    static struct lab_switch sw; /* zeroed, and with a frame too large for a stack */
    struct options options = {.seed = 1};
    struct sl_err err = SL_ERR_INIT;
    if (!parse_options(argc, argv, &options)) {
        fprintf(stderr, "usage: netlab-switch --control PATH [--seed N] PORT[:SEGMENT]...\n");
        return 2;
    }
    sl_status status = switch_init(&sw, &options, &err);
    if (status == SL_OK) {
        go_first();
        puts("ready");
        fflush(stdout);
        status = switch_run(&sw, &err);
        fprintf(stderr, "netlab-switch: %llu frames dropped for want of room\n",
                (unsigned long long)sw.n_dropped);
    }
    switch_done(&sw);
    if (status) fprintf(stderr, "netlab-switch: %s\n", err.text);
    return status ? 1 : 0;
}
