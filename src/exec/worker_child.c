#include "exec/worker_child.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "exec/worker_batch.h"
#include "exec/worker_prompt.h"
#include "exec/worker_share.h"
#include "net/frame.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES (64u << 10)
/* Between two steps so much is taken in at most, lest a flood of requests
 * starve those that run. */
#define READ_BYTES_A_STEP (4u << 20)
#define SEND_BYTES_MAX ((size_t)WIRE_FRAME_BYTES_MAX * 2)
#define OOM_SCORE_MORE 300 /* of 1000: the kernel takes the worker well before its agent */
#define OOM_SCORE_MAX 1000
#define LOADING_STEP 0.01 /* progress is told in such steps */
/* After a step the child stays awake for half as long as the step took, and so long at most: who
 * asks one thing after the other asks again within it, and waking an idle CPU takes longer than
 * such a question's way (measured: 60 of 200 us that a small model's answer took besides its
 * run). */
#define AWAKE_NS_MAX 200000

struct child {
    int fd;
    struct frame_reader reader;
    struct sl_buf out;
    struct worker_share share;
    struct worker_batch batch;
    struct worker_prompter prompter;
    struct engine *engine; /* NULL until it is loaded */
    bool load_begun, ending;
    double told; /* progress of the load */
    /* Its outputs were too large to tell; its end, the next event, says so. */
    bool too_large;
    /* The first failure of the engine, or to tell the agent something; it ends the process. */
    struct sl_err failure;
    int64_t step_ns; /* of the last step that did something; 0 once the child has slept */
    char chunk[READ_BYTES];
};

static void fail(struct child *child, sl_status status, const char *what)
{
    if (child->failure.status == SL_OK) (void)sl_err_set(&child->failure, status, "%s", what);
}

/* The socket blocks: an agent that does not read stops us, and no unbounded
 * list grows here. */
static void send_out(struct child *child)
{
    size_t sent = 0;
    while (sent < child->out.len && child->failure.status == SL_OK) {
        ssize_t n = send(child->fd, child->out.data + sent, child->out.len - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (errno == EPIPE || errno == ECONNRESET)
            break; /* the next read sees the end */
        else if (errno != EINTR)
            (void)sl_err_errno(&child->failure, errno, "send to the agent");
    }
    sl_buf_clear(&child->out);
}

static void tell(struct child *child, const struct wire_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    if (wire_encode(msg, &child->out, &err) == SL_OK)
        send_out(child);
    else
        fail(child, err.status, err.text);
}

static void flush(struct child *child)
{
    struct wire_msg msg;
    if (!worker_batch_count(&child->batch)) return;
    worker_batch_message(&child->batch, &msg);
    tell(child, &msg);
    worker_batch_clear(&child->batch);
}

static void add_event(struct child *child, const struct wire_event *event)
{
    sl_status status = worker_batch_add(&child->batch, event);
    if (status != SL_OK) fail(child, status, "no memory for an event");
    if (worker_batch_full(&child->batch)) flush(child);
}

static void on_event(void *ctx, const struct engine_event *event)
{
    struct child *child = ctx;
    struct wire_event own = {.type = WIRE_EVENT_ENGINE, .id = event->id, .engine = *event};
    if (event->type == ENGINE_EVENT_TENSORS &&
        tensors_bytes(event->tensors, event->n_tensors) > TENSOR_BYTES_MAX) {
        child->too_large = true;
        return;
    }
    if (child->too_large && event->type == ENGINE_EVENT_DONE) {
        own.engine.finish = ENGINE_FINISH_ERROR;
        own.engine.status = SL_LIMIT;
        own.engine.message = "the outputs are over 64 MiB together; ask for fewer of them";
    }
    child->too_large = false;
    add_event(child, &own);
}

static void on_frame(void *ctx, int32_t to, const void *bytes, size_t n)
{
    const struct wire_msg msg = {.type = WIRE_FRAME, .frame = {to, bytes, n}};
    tell(ctx, &msg);
}

static void pong(struct child *child, uint64_t seq)
{
    struct wire_msg msg = {.type = WIRE_PONG};
    msg.pong.seq = seq;
    msg.pong.loaded = child->engine != NULL;
    if (child->engine) engine_stats(child->engine, &msg.pong.stats);
    flush(child);
    tell(child, &msg);
}

static void reject(struct child *child, uint64_t id, const struct sl_err *err)
{
    const struct wire_event event = {
        .type = WIRE_EVENT_REJECTED, .id = id, .status = err->status, .message = err->text};
    add_event(child, &event);
}

static void accepted(struct child *child, const struct wire_generate *req,
                     const struct worker_prompt *prompt)
{
    struct wire_event event = {.type = WIRE_EVENT_ACCEPTED, .id = req->id};
    event.opens_thinking = prompt->opens_thinking;
    if (req->want_text && prompt->text) {
        event.text = prompt->text;
        event.n_text = prompt->n_text;
    }
    if (req->want_tokens) {
        event.tokens = prompt->tokens;
        event.n_tokens = prompt->n_tokens;
    }
    add_event(child, &event);
}

/* Does the chat parser on the other side look for this model's control tokens? */
static bool speaks_in_markers(const struct child *child)
{
    const struct chat_traits *traits = &child->prompter.traits;
    return traits->tools != CHAT_TOOLS_NONE || traits->thinks;
}

static void generate(struct child *child, const struct wire_generate *req)
{
    struct sl_err err = SL_ERR_INIT;
    struct worker_prompt prompt;
    sl_status status =
        worker_prompt_make(&child->prompter, &req->prompt, req->want_tokens, &prompt, &err);
    struct engine_generate own = {
        .id = req->id,
        .max_tokens = req->max_tokens > 0 ? req->max_tokens : child->prompter.info.n_ctx,
        .n_choices = req->n_choices,
        .ignore_end = req->ignore_end,
        .sampler = &req->sampler,
        .stop = req->stop,
        .n_stop = req->n_stop,
        .resume = req->resume,
        .n_resume = req->n_resume,
        .choice_base = req->choice_base,
        .parse_special = prompt.parse_special,
        .show_control = req->prompt.chat && speaks_in_markers(child),
    };
    if (prompt.tokens) {
        own.tokens = prompt.tokens;
        own.n_tokens = prompt.n_tokens;
    } else {
        own.text = prompt.text;
        own.n_text = prompt.n_text;
    }
    if (status == SL_OK) status = engine_submit(child->engine, &own, &err);
    if (status == SL_OK)
        accepted(child, req, &prompt);
    else
        reject(child, req->id, &err);
}

static void answer_submit(struct child *child, uint64_t id, sl_status status,
                          const struct sl_err *err)
{
    const struct wire_event event = {.type = WIRE_EVENT_ACCEPTED, .id = id};
    if (status == SL_OK)
        add_event(child, &event);
    else
        reject(child, id, err);
}

static void embed(struct child *child, const struct wire_embed *req)
{
    struct sl_err err = SL_ERR_INIT;
    struct worker_prompt prompt;
    sl_status status = worker_prompt_make(&child->prompter, &req->prompt, false, &prompt, &err);
    const struct engine_embed own = {
        .id = req->id,
        .text = prompt.tokens ? NULL : prompt.text,
        .n_text = prompt.n_text,
        .tokens = prompt.tokens,
        .n_tokens = prompt.n_tokens,
        .parse_special = prompt.parse_special,
        .pooling = req->pooling,
        .no_normalize = req->no_normalize,
        .pair = req->pair,
        .n_pair = req->n_pair,
    };
    if (status == SL_OK) status = engine_submit_embed(child->engine, &own, &err);
    answer_submit(child, req->id, status, &err);
}

/* The pieces of a request whose data the engine reads where they are. */
struct held {
    struct engine_hold base;
    struct worker_share *share;
    size_t n;
    uint32_t pieces[];
};

static void release(struct engine_hold *base)
{
    struct held *held = (struct held *)(void *)base;
    worker_share_release(held->share, held->pieces, held->n);
    sl_free(held);
}

/* NULL: no memory. */
static struct held *hold(struct child *child, const struct wire_infer *req)
{
    struct held *held = sl_calloc(1, sizeof *held + req->n_inputs * sizeof *held->pieces);
    if (!held) return NULL;
    held->base.release = release;
    held->share = &child->share;
    held->n = req->n_inputs;
    memcpy(held->pieces, req->pieces, req->n_inputs * sizeof *held->pieces);
    return held;
}

/* With data in pieces. An agent that names one that is not there talks nonsense: it ends the
 * process. */
static sl_status submit_held(struct child *child, const struct wire_infer *req,
                             struct engine_infer *own, struct sl_err *err)
{
    struct sl_arena arena;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    struct held *held = hold(child, req);
    sl_status status = held ? worker_share_find(&child->share, req->inputs, req->pieces,
                                                req->n_inputs, &arena, &own->inputs, err)
                            : sl_err_set(err, SL_NOMEM, "request");
    if (status == SL_CORRUPT) fail(child, status, err->text);
    own->held = req->pieces;
    own->hold = held ? &held->base : NULL;
    if (status == SL_OK) status = engine_submit_infer(child->engine, own, err);
    if (status != SL_OK && held) release(&held->base);
    sl_arena_done(&arena);
    return status;
}

static void infer(struct child *child, const struct wire_infer *req)
{
    struct sl_err err = SL_ERR_INIT;
    struct engine_infer own = {.id = req->id,
                               .inputs = req->inputs,
                               .n_inputs = req->n_inputs,
                               .outputs = req->outputs,
                               .n_outputs = req->n_outputs};
    sl_status status = req->pieces ? submit_held(child, req, &own, &err)
                                   : engine_submit_infer(child->engine, &own, &err);
    answer_submit(child, req->id, status, &err);
}

static void tokenize(struct child *child, const struct wire_tokenize *req)
{
    struct sl_err err = SL_ERR_INIT;
    struct worker_prompt prompt;
    struct wire_event event = {.type = WIRE_EVENT_TOKENS, .id = req->id};
    if (worker_prompt_make(&child->prompter, &req->prompt, true, &prompt, &err) != SL_OK) {
        reject(child, req->id, &err);
        return;
    }
    size_t skip = req->no_bos && child->prompter.info.adds_bos && prompt.n_tokens > 0;
    event.tokens = prompt.tokens + skip;
    event.n_tokens = prompt.n_tokens - skip;
    add_event(child, &event);
}

static void detokenize(struct child *child, const struct wire_detokenize *req)
{
    struct sl_err err = SL_ERR_INIT;
    struct wire_event event = {.type = WIRE_EVENT_TEXT, .id = req->id};
    struct sl_buf text;
    sl_buf_init(&text, WIRE_FRAME_BYTES_MAX / 2);
    if (engine_detokenize(child->engine, req->tokens, req->n_tokens, &text, &err) == SL_OK) {
        event.text = text.data;
        event.n_text = text.len;
        add_event(child, &event);
    } else {
        reject(child, req->id, &err);
    }
    sl_buf_done(&text);
}

static void cancel(struct child *child, uint64_t id)
{
    sl_status status = engine_cancel(child->engine, id);
    (void)status; /* NOT_FOUND: the request's end and the cancel crossed on their ways */
}

static void deliver(struct child *child, const struct wire_stage *msg)
{
    struct sl_err err = SL_ERR_INIT;
    sl_status status = engine_deliver(child->engine, msg->stage, msg->bytes, msg->n, &err);
    if (status != SL_OK) fail(child, status, err.text);
}

/* Requests: only once an engine is there, which the agent knows. */
static bool serve(struct child *child, const struct wire_msg *msg)
{
    if (!child->engine) return false;
    switch (msg->type) {
    case WIRE_GENERATE: generate(child, &msg->generate); return true;
    case WIRE_EMBED: embed(child, &msg->embed); return true;
    case WIRE_INFER: infer(child, &msg->infer); return true;
    case WIRE_TOKENIZE: tokenize(child, &msg->tokenize); return true;
    case WIRE_DETOKENIZE: detokenize(child, &msg->detokenize); return true;
    case WIRE_CANCEL: cancel(child, msg->cancel_id); return true;
    case WIRE_DELIVER: deliver(child, &msg->deliver); return true;
    default: return false;
    }
}

static void load(struct child *child, const struct wire_load *load);

static void dispatch(struct child *child, const struct wire_msg *msg)
{
    switch (msg->type) {
    case WIRE_PING: pong(child, msg->ping_seq); return;
    case WIRE_UNLOAD: child->ending = true; return;
    case WIRE_LOAD:
        if (child->load_begun) break;
        load(child, &msg->load);
        return;
    default:
        if (serve(child, msg)) return;
    }
    (void)sl_err_set(&child->failure, SL_INVALID, "the agent sent %s at the wrong time",
                     wire_type_name(msg->type));
}

/* Handles the frames that are here in full. A load calls this again from within, so the arena is of
 * this call. */
static void handle_frames(struct child *child)
{
    struct sl_arena arena;
    bool have = true;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    while (have && child->failure.status == SL_OK && !child->ending) {
        struct frame frame;
        struct wire_msg msg;
        sl_status status = frame_reader_next(&child->reader, &frame, &have, &child->failure);
        if (status == SL_OK && have) status = wire_decode(&frame, &arena, &msg, &child->failure);
        if (status == SL_OK && have) dispatch(child, &msg);
        sl_arena_reset(&arena);
    }
    sl_arena_done(&arena);
}

/* Takes in what the socket holds. */
static void receive(struct child *child)
{
    size_t total = 0;
    while (child->failure.status == SL_OK && !child->ending && total < READ_BYTES_A_STEP) {
        ssize_t n = recv(child->fd, child->chunk, READ_BYTES, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) child->ending = true;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN && errno != ECONNRESET)
            (void)sl_err_errno(&child->failure, errno, "read from the agent");
        if (n <= 0) return;
        total += (size_t)n;
        sl_status status = frame_reader_feed(&child->reader, child->chunk, (size_t)n);
        if (status != SL_OK) fail(child, status, "no memory for a message");
        handle_frames(child);
        if ((size_t)n < READ_BYTES) return;
    }
}

static bool on_load(void *ctx, double fraction)
{
    struct child *child = ctx;
    const struct wire_msg msg = {.type = WIRE_LOADING, .loading = fraction};
    if (fraction >= child->told + LOADING_STEP || (fraction >= 1 && child->told < 1)) {
        child->told = fraction;
        tell(child, &msg);
    }
    receive(child);
    return !child->ending && child->failure.status == SL_OK;
}

static void tell_loaded(struct child *child, int64_t load_ns)
{
    struct wire_msg msg = {.type = WIRE_LOADED};
    struct engine_stats stats;
    engine_stats(child->engine, &stats);
    msg.loaded.info = child->prompter.info;
    msg.loaded.info.chat_template = child->prompter.source;
    msg.loaded.traits = child->prompter.traits;
    msg.loaded.weight_bytes = stats.weight_bytes;
    msg.loaded.kv_bytes = stats.kv_bytes;
    msg.loaded.compute_bytes = stats.compute_bytes;
    msg.loaded.load_ns = load_ns;
    tell(child, &msg);
}

static void load(struct child *child, const struct wire_load *load)
{
    const struct engine_open_cfg cfg = {
        .on_event = on_event, .on_load = on_load, .on_frame = on_frame, .ctx = child};
    struct sl_err err = SL_ERR_INIT;
    struct engine *engine = NULL;
    int64_t begin = sl_now_ns();
    child->load_begun = true;
    sl_status status = engine_open(&load->engine, &cfg, &engine, &err);
    if (status == SL_OK)
        status = worker_prompter_init(&child->prompter, engine, load->chat_template, &err);
    if (child->ending || child->failure.status != SL_OK) {
        engine_unload(engine);
        return;
    }
    if (status != SL_OK) {
        const struct wire_msg msg = {.type = WIRE_LOAD_FAILED, .load_failed = {status, err.text}};
        tell(child, &msg);
        engine_unload(engine);
        child->ending = true;
        return;
    }
    child->engine = engine;
    tell_loaded(child, sl_now_ns() - begin);
}

/* Others who want this CPU get it meanwhile. */
static bool comes_soon(struct child *child, struct pollfd *fds, nfds_t n)
{
    int64_t awake_ns = child->step_ns / 2 < AWAKE_NS_MAX ? child->step_ns / 2 : AWAKE_NS_MAX;
    int64_t end_ns = sl_now_ns() + awake_ns;
    child->step_ns = 0;
    while (sl_now_ns() < end_ns) {
        if (poll(fds, n, 0) > 0) return true;
        (void)sched_yield();
    }
    return false;
}

static void wait_for_work(struct child *child)
{
    int64_t next_ns = child->engine ? engine_next_ns(child->engine) : -1;
    const struct timespec timeout = {.tv_sec = next_ns / 1000000000,
                                     .tv_nsec = next_ns % 1000000000};
    struct pollfd fds[] = {
        {.fd = child->fd, .events = POLLIN},
        {.fd = child->engine ? engine_wake_fd(child->engine) : -1, .events = POLLIN},
    };
    nfds_t n = sizeof fds / sizeof *fds;
    if (next_ns < 0 && comes_soon(child, fds, n)) return;
    (void)ppoll(fds, n, next_ns < 0 ? NULL : &timeout, NULL);
}

static bool step(struct child *child)
{
    struct sl_err err = SL_ERR_INIT; /* a step that was good may have tried what was not */
    int64_t begin_ns = sl_now_ns();
    bool idle = true;
    sl_status status = engine_step(child->engine, &idle, &err);
    if (status != SL_OK) fail(child, status, err.text);
    if (!idle) child->step_ns = sl_now_ns() - begin_ns;
    return idle;
}

static void turn(struct child *child)
{
    bool idle = true;
    receive(child);
    if (child->engine && !child->ending && child->failure.status == SL_OK) idle = step(child);
    flush(child);
    if (idle && !child->ending && child->failure.status == SL_OK) wait_for_work(child);
}

/* The failure that ended the turns is kept: telling the end of requests may
 * fail once more. */
static void finish(struct child *child, struct sl_err *err)
{
    *err = child->failure;
    child->failure = (struct sl_err)SL_ERR_INIT;
    engine_unload(child->engine);
    flush(child);
    worker_prompter_done(&child->prompter);
    worker_batch_done(&child->batch);
    frame_reader_done(&child->reader);
    worker_share_done(&child->share);
    sl_buf_done(&child->out);
}

sl_status worker_child_run(int fd, struct sl_err *err)
{
    static struct child child; /* too large for a stack, and one a process */
    const int share_fds[2] = {WORKER_SHARE_FD, WORKER_SHARE_FD + 1};
    struct sl_err why = SL_ERR_INIT;
    child = (struct child){.fd = fd, .failure = SL_ERR_INIT};
    if (worker_share_open(&child.share, share_fds, &why) != SL_OK)
        sl_log(SL_LOG_WARN, "worker", "%s", why.text);
    frame_reader_init(&child.reader, WIRE_FRAME_BYTES_MAX);
    sl_buf_init(&child.out, SEND_BYTES_MAX);
    worker_batch_init(&child.batch, &child.share);
    while (!child.ending && child.failure.status == SL_OK) turn(&child);
    finish(&child, err);
    return err->status;
}

static void raise_oom_score(void)
{
    int score = 0;
    FILE *file = fopen("/proc/self/oom_score_adj", "r+e");
    if (!file) return;
    if (fscanf(file, "%d", &score) == 1) {
        score = score > OOM_SCORE_MAX - OOM_SCORE_MORE ? OOM_SCORE_MAX : score + OOM_SCORE_MORE;
        rewind(file);
        fprintf(file, "%d", score);
    }
    (void)fclose(file);
}

void worker_child_settle(const char *title)
{
    char name[16]; /* PR_SET_NAME takes 15 bytes */
    /* Should the agent be dead already, the socket has ended and says so. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)close_range(WORKER_SHARE_FD + 2, ~0u, 0);
    for (int signo = 1; signo < NSIG; signo++) (void)signal(signo, SIG_DFL);
    (void)snprintf(name, sizeof name, "sl:%s", title);
    (void)prctl(PR_SET_NAME, name);
    raise_oom_score();
}
