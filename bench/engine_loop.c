/* engine_loop: asks an engine worker itself at a set rate, without any gateway: what the answers
 * take then is the engine and its process boundary, and a gateway's own part is what comes on
 * top. Prints one line of JSON, as open_loop does.
 *
 *     STARLANE_BIN=build/starlane engine_loop --model 'echo:?text=x&tokens=1' --rate 10000
 * --seconds 5 */
#include "base/thread.h"
#include "base/mem.h"
#include "exec/worker.h"
#include "load.h"
#include "net/loop.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RING (1u << 16) /* requests under way at most; power of two */
#define LATE_NS (5LL * LOAD_NS_PER_S)

struct bench {
    struct loop *loop;
    struct loop_watch *alarm;
    struct worker *worker;
    int timer; /* a timerfd: the loop's own timers are good to a millisecond */
    const char *model;
    double rate, seconds, warmup;
    bool poisson, ready;
    uint64_t id_last, n_left;
    int64_t due_ns[RING];
    int64_t measure_ns;
    struct load_schedule schedule;
    struct load_histogram histogram;
    struct load_result result;
};

static void die(const struct sl_err *err)
{
    fprintf(stderr, "engine_loop: %s\n", err->text);
    exit(1);
}

static void on_loaded(void *ctx, const struct wire_loaded *loaded)
{
    (void)loaded;
    ((struct bench *)ctx)->ready = true;
}

static void on_events(void *ctx, const struct wire_event *events, size_t n)
{
    struct bench *b = ctx;
    int64_t now_ns = sl_now_ns();
    for (size_t i = 0; i < n; i++) {
        const struct wire_event *e = &events[i];
        bool failed = e->type == WIRE_EVENT_REJECTED;
        if (!failed && !(e->type == WIRE_EVENT_ENGINE && e->engine.type == ENGINE_EVENT_DONE))
            continue;
        int64_t due_ns = b->due_ns[e->id % RING];
        b->n_left--;
        if (due_ns < b->measure_ns) continue;
        load_histogram_add(&b->histogram, now_ns - due_ns);
        b->result.n_errors += failed;
    }
}

static void on_exit_of_worker(void *ctx, const struct worker_exit *how)
{
    (void)ctx;
    fprintf(stderr, "engine_loop: the worker ended: %s\n", how->reason);
    exit(1);
}

static void submit(struct bench *b, int64_t due_ns)
{
    struct sl_err err = SL_ERR_INIT;
    struct wire_generate request = {
        .id = ++b->id_last, .prompt = {.text = "Hello", .n_text = 5}, .max_tokens = 1};
    sampler_cfg_default(&request.sampler);
    b->due_ns[request.id % RING] = due_ns;
    b->result.n_sent++;
    b->n_left++;
    if (b->n_left == RING || worker_generate(b->worker, &request, &err) != SL_OK) die(&err);
}

static void on_alarm(void *ctx, unsigned ready)
{
    uint64_t n;
    ssize_t got = read(((struct bench *)ctx)->timer, &n, sizeof n);
    (void)got, (void)ready;
}

/* One turn of the loop, which ends at that time at the latest. */
static void turn(struct bench *b, int64_t until_ns)
{
    struct sl_err err = SL_ERR_INIT;
    const struct itimerspec at = {
        .it_value = {.tv_sec = until_ns / LOAD_NS_PER_S, .tv_nsec = until_ns % LOAD_NS_PER_S}};
    timerfd_settime(b->timer, TFD_TIMER_ABSTIME, &at, NULL);
    if (loop_turn(b->loop, -1, &err) != SL_OK) die(&err);
}

static void run(struct bench *b)
{
    int64_t begin_ns = sl_now_ns();
    int64_t end_ns = begin_ns + (int64_t)((b->warmup + b->seconds) * LOAD_NS_PER_S);
    b->measure_ns = begin_ns + (int64_t)(b->warmup * LOAD_NS_PER_S);
    load_schedule_init(&b->schedule, b->rate, b->poisson, begin_ns);
    while (sl_now_ns() < end_ns) {
        while (b->schedule.next_ns <= (double)sl_now_ns())
            submit(b, load_schedule_take(&b->schedule));
        turn(b, (int64_t)b->schedule.next_ns);
    }
    while (b->n_left && sl_now_ns() < end_ns + LATE_NS) turn(b, end_ns + LATE_NS);
    b->result.n_errors += b->n_left;
    b->result.seconds = b->seconds;
}

static void read_options(int argc, char **argv, struct bench *b)
{
    static const struct option longs[] = {{"model", 1, NULL, 'm'},   {"rate", 1, NULL, 'r'},
                                          {"seconds", 1, NULL, 's'}, {"warmup", 1, NULL, 'w'},
                                          {"poisson", 0, NULL, 'P'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 'm': b->model = optarg; break;
        case 'r': b->rate = atof(optarg); break;
        case 's': b->seconds = atof(optarg); break;
        case 'w': b->warmup = atof(optarg); break;
        case 'P': b->poisson = true; break;
        default: exit(2);
        }
    if (b->model && b->rate > 0 && b->seconds > 0) return;
    fprintf(stderr,
            "usage: engine_loop --model ECHO --rate R --seconds S [--warmup S] [--poisson]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    static struct bench b;
    static const struct worker_callbacks callbacks = {
        .on_loaded = on_loaded, .on_events = on_events, .on_exit = on_exit_of_worker};
    struct sl_err err = SL_ERR_INIT;
    read_options(argc, argv, &b);
    sl_thread_wake_soon();
    (void)prctl(PR_SET_TIMERSLACK, 1UL);
    const struct worker_cfg cfg = {.exe = getenv("STARLANE_BIN"),
                                   .load = {.engine = {.kind = "echo", .path = b.model}}};
    if (loop_create(0, &b.loop, &err) != SL_OK) die(&err);
    b.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop_watch_create(b.loop, b.timer, LOOP_READ, on_alarm, &b, &b.alarm) != SL_OK) die(&err);
    if (worker_spawn(b.loop, &cfg, &callbacks, &b, &b.worker, &err) != SL_OK) die(&err);
    while (!b.ready) turn(&b, sl_now_ns() + LOAD_NS_PER_S);
    run(&b);
    load_print(&b.histogram, &b.result);
    worker_destroy(b.worker);
    loop_watch_destroy(b.alarm);
    loop_destroy(b.loop);
    return 0;
}
