/* split_engine: the pipeline of a split model alone: each stage's engine is a thread on a core of
 * its own, and messages between them arrive after a set delay, over no network. What the real
 * service takes beyond this is workers, agents, TLS and the network (bench/split.py). Prints one
 * line of JSON.
 *
 *     split_engine --model M.gguf --stages 2 --delay-ms 10 --streams 8 --prompt 16 --tokens 64 */
#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"
#include "base/rng.h"
#include "exec/engine_open.h"
#include "exec/llm/kv_cache.h"
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_MESSAGES 4096 /* under way between two stages: many times what flights allow */
#define STREAMS_MAX 256
#define IDLE_NS INT64_C(20000000) /* a stage looks whether it is all over */
#define SPIN_NS INT64_C(60000) /* sleeping is not exact: the last part of a delay is waited out */
#define FIRST_WORD 1000        /* prompts are random tokens of these */
#define N_WORDS 19000

struct options {
    const char *model;
    int32_t n_stages, n_streams, n_prompt, n_tokens, n_ctx, n_flights;
    enum engine_link_type link;
    double delay_ms;
    int32_t first[ENGINE_STAGES_MAX + 1]; /* layers of stages; first[1] 0: equal parts */
};

struct message {
    int32_t from;
    int64_t due_ns;
    size_t n;
    /* aligned as engine_deliver wants it */
    _Alignas(8) unsigned char bytes[];
};

struct stream {
    int64_t first_ns, last_ns;
    int32_t n_tokens;
    bool done;
};

struct bench;

struct stage {
    struct bench *bench;
    int32_t index;
    struct engine *engine;
    struct sl_queue *inbox;
    struct message *next; /* has come out of the inbox and is not due yet */
    pthread_t thread;
};

struct bench {
    struct options o;
    struct stage stages[ENGINE_STAGES_MAX];
    struct stream streams[STREAMS_MAX];
    int32_t n_done;
    int64_t begin_ns, begin_all_ns, end_any_ns;
    _Atomic bool over;
};

static void die(const struct sl_err *err)
{
    fprintf(stderr, "split_engine: %s\n", err->text);
    exit(1);
}

/* ---- messages ---- */

static void on_frame(void *ctx, int32_t to, const void *bytes, size_t n)
{
    struct stage *stage = ctx;
    struct bench *b = stage->bench;
    struct message *m = sl_malloc(sizeof *m + n);
    if (!m) abort();
    m->from = stage->index;
    m->due_ns = sl_now_ns() + (int64_t)(b->o.delay_ms * 1e6);
    m->n = n;
    memcpy(m->bytes, bytes, n);
    if (sl_queue_push(b->stages[to].inbox, m) != SL_OK) abort();
}

static void sleep_until(int64_t due_ns)
{
    int64_t left_ns = due_ns - sl_now_ns() - SPIN_NS;
    if (left_ns > 0) usleep((useconds_t)(left_ns / 1000));
    while (sl_now_ns() < due_ns) continue;
}

/* Hands over what is due; with `wait`, waits for one message at least, or a while. */
static void receive(struct stage *stage, bool wait)
{
    struct sl_err err = SL_ERR_INIT;
    for (;;) {
        void *item = NULL;
        if (!stage->next && sl_queue_pop(stage->inbox, wait ? IDLE_NS : 0, &item) == SL_OK)
            stage->next = item;
        struct message *m = stage->next;
        if (!m || (!wait && m->due_ns > sl_now_ns())) return;
        sleep_until(m->due_ns);
        if (engine_deliver(stage->engine, m->from, m->bytes, m->n, &err) != SL_OK) die(&err);
        sl_free(m);
        stage->next = NULL;
        wait = false;
    }
}

/* ---- streams ---- */

static void on_event(void *ctx, const struct engine_event *event)
{
    struct bench *b = ((struct stage *)ctx)->bench;
    struct stream *s = &b->streams[event->id];
    int64_t now_ns = sl_now_ns();
    if (event->type == ENGINE_EVENT_DONE) {
        if (event->finish == ENGINE_FINISH_ERROR) {
            fprintf(stderr, "split_engine: %s\n", event->message);
            exit(1);
        }
        if (!b->n_done++) b->end_any_ns = s->last_ns;
    }
    if (event->type != ENGINE_EVENT_TOKEN) return;
    if (!s->n_tokens++) b->begin_all_ns = s->first_ns = now_ns;
    s->last_ns = now_ns;
}

static void submit(struct bench *b)
{
    struct sl_err err = SL_ERR_INIT;
    int32_t *tokens = sl_calloc((size_t)b->o.n_prompt, sizeof *tokens);
    if (!tokens) abort();
    b->begin_ns = sl_now_ns();
    for (int32_t i = 0; i < b->o.n_streams; i++) {
        for (int32_t k = 0; k < b->o.n_prompt; k++)
            tokens[k] = FIRST_WORD + (int32_t)(sl_rng_u64(1, (uint64_t)i, (uint64_t)k) % N_WORDS);
        const struct engine_generate request = {.id = (uint64_t)i,
                                                .tokens = tokens,
                                                .n_tokens = (size_t)b->o.n_prompt,
                                                .max_tokens = b->o.n_tokens,
                                                .ignore_end = true};
        if (engine_submit(b->stages[0].engine, &request, &err) != SL_OK) die(&err);
    }
    sl_free(tokens);
}

/* ---- stages ---- */

/* The first layer of a stage. */
static int32_t border(const struct options *o, int32_t stage, int32_t n_layers)
{
    return o->first[1] && stage < o->n_stages ? o->first[stage] : n_layers * stage / o->n_stages;
}

static void open_stage(struct stage *stage)
{
    struct bench *b = stage->bench;
    const struct options *o = &b->o;
    struct sl_err err = SL_ERR_INIT;
    struct engine_info info;
    struct engine *whole = NULL;
    int32_t blocks = (o->n_ctx / KV_BLOCK_TOKENS + 1) * o->n_streams;
    struct engine_load load = {.kind = "llm",
                               .path = o->model,
                               .n_threads = 1,
                               .n_ctx = o->n_ctx,
                               .n_seqs_max = o->n_streams,
                               .no_prefix_cache = true,
                               .kv_contexts = o->n_streams};
    const struct engine_open_cfg cfg = {.on_event = on_event, .on_frame = on_frame, .ctx = stage};
    if (o->n_stages > 1) {
        if (engine_open(&load, &cfg, &whole, &err) != SL_OK) die(&err);
        engine_info(whole, &info);
        engine_unload(whole);
        load.split = (struct engine_split){.n_stages = o->n_stages,
                                           .stage = stage->index,
                                           .first = border(o, stage->index, info.n_layer),
                                           .last = border(o, stage->index + 1, info.n_layer),
                                           .kv_blocks = blocks,
                                           .link = o->link,
                                           .n_flights = o->n_flights};
    }
    if (engine_open(&load, &cfg, &stage->engine, &err) != SL_OK) die(&err);
}

static void pin(int32_t core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static void *run_stage(void *arg)
{
    struct stage *stage = arg;
    struct bench *b = stage->bench;
    struct sl_err err = SL_ERR_INIT;
    bool idle = true;
    pin(stage->index);
    while (!b->over) {
        receive(stage, idle);
        if (engine_step(stage->engine, &idle, &err) != SL_OK) die(&err);
        if (b->n_done == b->o.n_streams) b->over = true;
    }
    return NULL;
}

static void print_result(const struct bench *b)
{
    struct engine_stats stats;
    int32_t n_tokens = 0;
    engine_stats(b->stages[0].engine, &stats);
    for (int32_t i = 0; i < b->o.n_streams; i++) n_tokens += b->streams[i].n_tokens - 1;
    double seconds = (double)(b->end_any_ns - b->begin_all_ns) / 1e9;
    printf("{\"stages\": %d, \"streams\": %d, \"first_token_s\": %.4f, \"tokens_per_s\": %.2f, "
           "\"flights\": %d, \"steps\": %llu",
           b->o.n_stages, b->o.n_streams, (double)(b->begin_all_ns - b->begin_ns) / 1e9,
           seconds > 0 ? n_tokens / seconds : 0.0, stats.n_flights,
           (unsigned long long)stats.n_steps);
    if (stats.n_hop_steps) {
        double steps = (double)stats.n_hop_steps * 1e6;
        printf(", \"round_ms\": %.3f, \"wire_ms\": %.3f, \"hops\": [",
               (double)stats.round_ns / steps, (double)stats.wire_ns / steps);
        for (int32_t i = 0; i < stats.n_stages; i++)
            printf("%s{\"compute_ms\": %.3f, \"wait_ms\": %.3f}", i ? ", " : "",
                   (double)stats.hops[i].compute_ns / steps, (double)stats.hops[i].wait_ns / steps);
        printf("]");
    }
    printf("}\n");
}

/* "12,18": the first layers of stages 1 and 2. */
static void read_borders(char *text, struct options *o)
{
    char *rest = NULL;
    int32_t i = 1;
    for (char *word = strtok_r(text, ",", &rest); word && i < ENGINE_STAGES_MAX;
         word = strtok_r(NULL, ",", &rest))
        o->first[i++] = atoi(word);
}

static bool read_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"model", 1, NULL, 'm'},   {"stages", 1, NULL, 's'}, {"delay-ms", 1, NULL, 'd'},
        {"streams", 1, NULL, 'n'}, {"prompt", 1, NULL, 'p'}, {"tokens", 1, NULL, 't'},
        {"borders", 1, NULL, 'b'}, {"ctx", 1, NULL, 'c'},    {"flights", 1, NULL, 'f'},
        {"link", 1, NULL, 'l'},    {NULL, 0, NULL, 0},
    };
    *o = (struct options){.n_stages = 2,
                          .n_streams = 1,
                          .n_prompt = 16,
                          .n_tokens = 64,
                          .n_ctx = 2048,
                          .link = ENGINE_LINK_F16};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 'm': o->model = optarg; break;
        case 's': o->n_stages = atoi(optarg); break;
        case 'd': o->delay_ms = atof(optarg); break;
        case 'n': o->n_streams = atoi(optarg); break;
        case 'p': o->n_prompt = atoi(optarg); break;
        case 't': o->n_tokens = atoi(optarg); break;
        case 'c': o->n_ctx = atoi(optarg); break;
        case 'f': o->n_flights = atoi(optarg); break;
        case 'b': read_borders(optarg, o); break;
        case 'l':
            for (int i = 0; i <= ENGINE_LINK_Q8_0; i++)
                if (!strcmp(optarg, engine_link_name((enum engine_link_type)i)))
                    o->link = (enum engine_link_type)i;
            break;
        default: return false;
        }
    return o->model && o->n_stages >= 1 && o->n_stages <= ENGINE_STAGES_MAX && o->n_streams >= 1 &&
           o->n_streams <= STREAMS_MAX && o->n_prompt >= 1 && o->n_tokens >= 1;
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (!read_options(argc, argv, &b.o)) {
        fprintf(stderr, "usage: split_engine --model FILE [--stages N] [--delay-ms MS] "
                        "[--borders FIRST,...] [--streams N] [--prompt TOKENS] [--tokens N] [--ctx "
                        "N] [--flights N] "
                        "[--link f32|f16|q8_0]\n");
        return 2;
    }
    for (int32_t i = 0; i < b.o.n_stages; i++) {
        b.stages[i] = (struct stage){.bench = &b, .index = i};
        if (sl_queue_create(QUEUE_MESSAGES, &b.stages[i].inbox) != SL_OK) abort();
        open_stage(&b.stages[i]);
    }
    submit(&b);
    for (int32_t i = 0; i < b.o.n_stages; i++)
        if (pthread_create(&b.stages[i].thread, NULL, run_stage, &b.stages[i])) abort();
    for (int32_t i = 0; i < b.o.n_stages; i++) pthread_join(b.stages[i].thread, NULL);
    print_result(&b);
    for (int32_t i = 0; i < b.o.n_stages; i++) {
        engine_unload(b.stages[i].engine);
        sl_free(b.stages[i].next);
        sl_queue_destroy(b.stages[i].inbox);
    }
    return 0;
}
