/* The handle on a worker, against the real executable with the echo engine and the bundled model.
 * */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "exec/worker.h"
#include "net/loop.h"

#define DEADLINE_NS 60000000000
#define STREAMS_MAX 256
#define MODEL STARLANE_ROOT "/models/starling.gguf"

struct stream {
    bool accepted, rejected, done, opens_thinking;
    sl_status status;
    char message[256];
    struct sl_buf text, tokens, prompt;
    enum engine_finish finish;
    struct engine_usage usage;
    float embedding[1024];
    int32_t n_embd;
};

struct client {
    struct loop *loop;
    struct worker *worker;
    struct worker_cfg cfg;
    bool loaded, exited, told_stats;
    int n_loading;
    double fraction;
    sl_status load_status;
    char load_message[512], reason[WORKER_REASON_MAX], logged[256];
    struct worker_exit how;
    struct stream streams[STREAMS_MAX]; /* by id */
    uint64_t cancel_at_token_of;        /* cancels this request at its first token */
};

static void on_loading(void *ctx, double fraction)
{
    struct client *c = ctx;
    assert_true(fraction >= c->fraction);
    c->fraction = fraction;
    c->n_loading++;
}

static void on_loaded(void *ctx, const struct wire_loaded *loaded)
{
    struct client *c = ctx;
    assert_non_null(loaded->info.architecture);
    c->loaded = true;
}

static void on_load_failed(void *ctx, sl_status status, const char *message)
{
    struct client *c = ctx;
    c->load_status = status;
    (void)snprintf(c->load_message, sizeof c->load_message, "%s", message);
}

static void on_stats(void *ctx, const struct engine_stats *stats)
{
    struct client *c = ctx;
    (void)stats;
    c->told_stats = worker_ready(c->worker);
}

static void on_log(void *ctx, const char *line)
{
    struct client *c = ctx;
    (void)snprintf(c->logged, sizeof c->logged, "%s", line);
}

static void take_engine_event(struct stream *s, const struct engine_event *e)
{
    assert_true(s->accepted);
    assert_false(s->done);
    switch (e->type) {
    case ENGINE_EVENT_TOKEN:
        assert_int_equal(sl_buf_add(&s->tokens, &e->token, sizeof e->token), SL_OK);
        assert_int_equal(sl_buf_add(&s->text, e->text, e->n_text), SL_OK);
        break;
    case ENGINE_EVENT_EMBEDDING:
        assert_true(e->n_embd <= 1024);
        s->n_embd = e->n_embd;
        memcpy(s->embedding, e->embedding, (size_t)e->n_embd * sizeof(float));
        break;
    case ENGINE_EVENT_TENSORS: fail_msg("tensors nobody asked for"); break;
    case ENGINE_EVENT_DONE:
        assert_int_equal(sl_buf_add(&s->text, e->text, e->n_text), SL_OK);
        s->done = true;
        s->finish = e->finish;
        s->usage = *e->usage;
        break;
    case ENGINE_EVENT_PREFILL: break;
    }
}

static void take_event(struct stream *s, const struct wire_event *e)
{
    switch (e->type) {
    case WIRE_EVENT_ACCEPTED:
        assert_false(s->accepted);
        s->accepted = true;
        s->opens_thinking = e->opens_thinking;
        assert_int_equal(sl_buf_add(&s->prompt, e->text, e->n_text), SL_OK);
        break;
    case WIRE_EVENT_REJECTED:
        s->rejected = s->done = true;
        s->status = e->status;
        (void)snprintf(s->message, sizeof s->message, "%s", e->message);
        break;
    case WIRE_EVENT_ENGINE: take_engine_event(s, &e->engine); break;
    case WIRE_EVENT_TOKENS:
        s->done = true;
        assert_int_equal(sl_buf_add(&s->tokens, e->tokens, e->n_tokens * sizeof *e->tokens), SL_OK);
        break;
    case WIRE_EVENT_TEXT:
        s->done = true;
        assert_int_equal(sl_buf_add(&s->text, e->text, e->n_text), SL_OK);
        break;
    }
}

static void on_events(void *ctx, const struct wire_event *events, size_t n)
{
    struct client *c = ctx;
    for (size_t i = 0; i < n; i++) {
        const struct wire_event *e = &events[i];
        assert_true(e->id < STREAMS_MAX);
        take_event(&c->streams[e->id], e);
        bool token = e->type == WIRE_EVENT_ENGINE && e->engine.type == ENGINE_EVENT_TOKEN;
        if (token && c->cancel_at_token_of == e->id) {
            struct sl_err err;
            c->cancel_at_token_of = 0;
            assert_int_equal(worker_cancel(c->worker, e->id, &err), SL_OK);
        }
    }
}

static void on_exit_of(void *ctx, const struct worker_exit *how)
{
    struct client *c = ctx;
    assert_false(c->exited);
    c->exited = true;
    c->how = *how;
    (void)snprintf(c->reason, sizeof c->reason, "%s", how->reason);
}

static const struct worker_callbacks callbacks = {
    .on_loading = on_loading,
    .on_loaded = on_loaded,
    .on_load_failed = on_load_failed,
    .on_events = on_events,
    .on_stats = on_stats,
    .on_log = on_log,
    .on_exit = on_exit_of,
};

static const char *executable(void)
{
    const char *given = getenv("STARLANE_BIN");
    return given ? given : STARLANE_BIN;
}

static struct client *client_create(const char *kind, const char *path)
{
    struct sl_err err;
    struct client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    assert_int_equal(loop_create(0, &c->loop, &err), SL_OK);
    for (int i = 0; i < STREAMS_MAX; i++) {
        sl_buf_init(&c->streams[i].text, 1 << 20);
        sl_buf_init(&c->streams[i].tokens, 1 << 20);
        sl_buf_init(&c->streams[i].prompt, 1 << 20);
    }
    c->cfg.exe = executable();
    c->cfg.load.engine.kind = kind;
    c->cfg.load.engine.path = path;
    c->cfg.load.engine.n_threads = 1;
    c->cfg.load.title = "test-model";
    return c;
}

static void spawn(struct client *c)
{
    struct sl_err err = SL_ERR_INIT;
    c->loaded = c->exited = false;
    if (worker_spawn(c->loop, &c->cfg, &callbacks, c, &c->worker, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void free_streams(struct client *c)
{
    for (int i = 0; i < STREAMS_MAX; i++) {
        sl_buf_done(&c->streams[i].text);
        sl_buf_done(&c->streams[i].tokens);
        sl_buf_done(&c->streams[i].prompt);
    }
}

static void client_destroy(struct client *c)
{
    worker_destroy(c->worker);
    free_streams(c);
    loop_destroy(c->loop);
    free(c);
}

/* Turns the loop until *flag. */
static void wait_for(struct client *c, const bool *flag)
{
    struct sl_err err;
    int64_t end = sl_now_ns() + DEADLINE_NS;
    while (!*flag) {
        if (sl_now_ns() > end) fail_msg("waited in vain; exited %d: %s", c->exited, c->reason);
        if (c->exited && flag != &c->exited) fail_msg("the worker exited: %s", c->reason);
        assert_int_equal(loop_turn(c->loop, 20000000, &err), SL_OK);
    }
}

static struct client *loaded_client(const char *kind, const char *path)
{
    struct client *c = client_create(kind, path);
    spawn(c);
    wait_for(c, &c->loaded);
    return c;
}

static struct wire_generate request(uint64_t id, const char *text)
{
    struct wire_generate req = {.id = id};
    req.prompt.text = text;
    req.prompt.n_text = strlen(text);
    sampler_cfg_default(&req.sampler);
    req.sampler.temp = 0;
    return req;
}

static void generate(struct client *c, const struct wire_generate *req)
{
    struct sl_err err = SL_ERR_INIT;
    if (worker_generate(c->worker, req, &err) != SL_OK) fail_msg("%s", err.text);
}

static void unload(struct client *c)
{
    worker_unload(c->worker);
    wait_for(c, &c->exited);
    assert_int_equal(c->how.end, WORKER_END_UNLOADED);
    assert_int_equal(c->how.exit_code, 0);
    client_destroy(c);
}

static void test_generates(void **state)
{
    struct client *c = loaded_client("echo", "echo:?bytes=12345");
    struct wire_generate req = request(1, "h\xc3\xa9llo");
    (void)state;
    req.want_text = true;
    generate(c, &req);
    wait_for(c, &c->streams[1].done);
    const struct stream *s = &c->streams[1];
    assert_string_equal(s->text.data, "h\xc3\xa9llo");
    assert_string_equal(s->prompt.data, "h\xc3\xa9llo");
    assert_int_equal(s->tokens.len, 6 * sizeof(int32_t));
    assert_int_equal(s->finish, ENGINE_FINISH_STOP);
    assert_int_equal(s->usage.n_prompt, 6);
    assert_int_equal(s->usage.n_generated, 6);
    assert_int_equal(worker_loaded(c->worker)->weight_bytes, 12345);
    assert_string_equal(worker_loaded(c->worker)->info.architecture, "echo");
    unload(c);
}

static void test_streams_do_not_mix(void **state)
{
    struct client *c = loaded_client("echo", "echo:?pace_us=200&tokens=50&slots=64");
    char text[STREAMS_MAX][32];
    (void)state;
    for (uint64_t i = 1; i < STREAMS_MAX; i++) {
        (void)snprintf(text[i], sizeof text[i], "<%llu>", (unsigned long long)i);
        const struct wire_generate req = request(i, text[i]);
        generate(c, &req);
    }
    for (uint64_t i = 1; i < STREAMS_MAX; i++) {
        wait_for(c, &c->streams[i].done);
        const struct stream *s = &c->streams[i];
        size_t n = strlen(text[i]);
        assert_int_equal(s->text.len, 50);
        for (size_t k = 0; k < 50; k++) assert_int_equal(s->text.data[k], text[i][k % n]);
    }
    unload(c);
}

static void test_cancel(void **state)
{
    struct client *c = loaded_client("echo", "echo:?pace_us=1000&tokens=30000");
    const struct wire_generate req = request(7, "to and fro");
    (void)state;
    c->cancel_at_token_of = 7;
    generate(c, &req);
    wait_for(c, &c->streams[7].done);
    assert_int_equal(c->streams[7].finish, ENGINE_FINISH_CANCELLED);
    assert_true(c->streams[7].tokens.len < 30000 * sizeof(int32_t));
    unload(c);
}

static void test_unload_ends_requests(void **state)
{
    struct client *c = loaded_client("echo", "echo:?pace_us=1000000&tokens=100");
    const struct wire_generate req = request(1, "slow");
    struct sl_err err;
    (void)state;
    generate(c, &req);
    wait_for(c, &c->streams[1].accepted);
    worker_unload(c->worker);
    assert_int_equal(worker_generate(c->worker, &req, &err), SL_UNAVAILABLE);
    wait_for(c, &c->exited);
    assert_true(c->streams[1].done);
    assert_int_equal(c->streams[1].finish, ENGINE_FINISH_CANCELLED);
    assert_int_equal(c->how.end, WORKER_END_UNLOADED);
    client_destroy(c);
}

static void test_crash(void **state)
{
    struct client *c = loaded_client("echo", "echo:?crash_at=3");
    const struct wire_generate req = request(1, "abcdef");
    (void)state;
    generate(c, &req);
    wait_for(c, &c->exited);
    assert_int_equal(c->how.end, WORKER_END_CRASHED);
    assert_int_equal(c->how.signal, SIGABRT);
    assert_int_equal(c->how.exit_code, -1);
    assert_non_null(strstr(c->reason, "died of SIGABRT"));
    assert_false(c->streams[1].done);
    client_destroy(c);
}

static void test_hang(void **state)
{
    struct client *c = client_create("echo", "echo:?hang_at=3");
    const struct wire_generate req = request(1, "abcdef");
    (void)state;
    c->cfg.ping_ms = 50;
    c->cfg.watchdog_ms = 2000;
    spawn(c);
    wait_for(c, &c->told_stats);
    generate(c, &req);
    wait_for(c, &c->exited);
    assert_int_equal(c->how.end, WORKER_END_HUNG);
    assert_int_equal(c->how.signal, SIGKILL);
    assert_non_null(strstr(c->reason, "no answer for 2.0 s"));
    client_destroy(c);
}

/* Pings are answered while it loads, or the watchdog would not wait so long. */
static void test_slow_load(void **state)
{
    struct client *c = client_create("echo", "echo:?load_ms=4000");
    const struct wire_generate req = request(1, "early");
    struct sl_err err;
    (void)state;
    c->cfg.ping_ms = 50;
    c->cfg.watchdog_ms = c->cfg.load_watchdog_ms = 3000;
    spawn(c);
    assert_int_equal(worker_generate(c->worker, &req, &err), SL_UNAVAILABLE);
    assert_null(worker_loaded(c->worker));
    wait_for(c, &c->loaded);
    assert_true(c->n_loading > 10);
    assert_true(c->fraction == 1);
    unload(c);
}

static void test_load_is_given_up(void **state)
{
    struct client *c = client_create("echo", "echo:?load_ms=60000");
    bool begun = false;
    struct sl_err err;
    (void)state;
    spawn(c);
    while (!begun) {
        assert_int_equal(loop_turn(c->loop, 20000000, &err), SL_OK);
        begun = c->n_loading > 0;
    }
    unload(c);
}

static void expect_load_failure(const char *kind, const char *path, sl_status status,
                                const char *part)
{
    struct client *c = client_create(kind, path);
    spawn(c);
    wait_for(c, &c->exited);
    assert_int_equal(c->load_status, status);
    if (!strstr(c->load_message, part)) fail_msg("%s: no \"%s\"", c->load_message, part);
    assert_int_equal(c->how.end, WORKER_END_LOAD_FAILED);
    assert_non_null(strstr(c->reason, part));
    client_destroy(c);
}

static void test_load_failures(void **state)
{
    (void)state;
    expect_load_failure("echo", "echo:?load_fail=blk.3+is+short", SL_CORRUPT, "blk.3 is short");
    expect_load_failure("echo", "echo:?pace=1", SL_INVALID, "unknown part pace");
    expect_load_failure("dream", "x", SL_UNSUPPORTED, "no engine called dream");
    expect_load_failure("llm", "/nowhere/model.gguf", SL_NOT_FOUND, "/nowhere/model.gguf");
    expect_load_failure("llm", STARLANE_ROOT "/README.md", SL_CORRUPT, "README.md");
}

static void test_crash_on_load(void **state)
{
    struct client *c = client_create("echo", "echo:?crash_on_load");
    (void)state;
    spawn(c);
    wait_for(c, &c->exited);
    assert_int_equal(c->load_status, SL_OK);
    assert_int_equal(c->how.end, WORKER_END_CRASHED);
    assert_int_equal(c->how.signal, SIGABRT);
    client_destroy(c);
}

/* A program that is no worker at all, as a shell script. */
static void run_impostor(const char *script, enum worker_end end, const char *words)
{
    char path[] = "/tmp/starlane-impostor-XXXXXX";
    struct client *c = client_create("echo", "echo:");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "#!/bin/sh\n%s\n", script) > 0);
    assert_int_equal(fchmod(fd, 0700), 0);
    close(fd);
    c->cfg.exe = path;
    c->cfg.grace_ms = 200;
    spawn(c);
    wait_for(c, &c->exited);
    unlink(path);
    assert_int_equal(c->how.end, end);
    if (!strstr(c->reason, words)) fail_msg("%s: no \"%s\"", c->reason, words);
    client_destroy(c);
}

static void test_impostors(void **state)
{
    (void)state;
    run_impostor("head -c 300000 /dev/zero >&3; exec sleep 60", WORKER_END_PROTOCOL, "frame");
    run_impostor("printf '\\377\\377\\377\\377xyz' >&3; exec sleep 60", WORKER_END_PROTOCOL,
                 "bytes; at most");
    run_impostor("printf '\\0\\0\\0\\1\\44' >&3; exec sleep 60", WORKER_END_PROTOCOL, "before");
    run_impostor("printf '\\0\\0\\0\\1\\1' >&3; exec sleep 60", WORKER_END_PROTOCOL,
                 "load message from a worker");
    run_impostor("exec 3>&-; exec sleep 60", WORKER_END_CRASHED, "died of SIGKILL");
    run_impostor("echo first; echo cannot go on >&2; exit 7", WORKER_END_CRASHED,
                 "exited with code 7; last words: first | cannot go on");
    run_impostor("yes garbage | head -c 2000000 >&3; exec sleep 60", WORKER_END_PROTOCOL,
                 "bytes; at most");
}

static void test_missing_executable(void **state)
{
    struct client *c = client_create("echo", "echo:");
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    c->cfg.exe = "/nowhere/starlane";
    assert_int_not_equal(worker_spawn(c->loop, &c->cfg, &callbacks, c, &c->worker, &err), SL_OK);
    assert_non_null(strstr(err.text, "/nowhere/starlane"));
    assert_null(c->worker);
    client_destroy(c);
}

static void test_full_buffer_is_busy(void **state)
{
    struct client *c = client_create("echo", "echo:?ctx=2000000");
    char *text = malloc(1 << 20);
    struct sl_err err;
    sl_status status = SL_OK;
    int n = 0;
    (void)state;
    assert_non_null(text);
    memset(text, 'x', (1 << 20) - 1);
    text[(1 << 20) - 1] = '\0';
    c->cfg.send_bytes_max = 4 << 20;
    spawn(c);
    wait_for(c, &c->loaded);
    assert_int_equal(kill(worker_pid(c->worker), SIGSTOP), 0);
    for (; n < 100 && status == SL_OK; n++) {
        struct wire_generate req = request((uint64_t)n + 1, text);
        req.max_tokens = 1;
        status = worker_generate(c->worker, &req, &err);
        assert_int_equal(loop_turn(c->loop, 0, &err), SL_OK);
    }
    assert_int_equal(status, SL_BUSY);
    assert_true(n > 3 && n < 20);
    assert_int_equal(worker_cancel(c->worker, 1, &err), SL_OK);
    assert_int_equal(kill(worker_pid(c->worker), SIGCONT), 0);
    for (int i = 1; i < n; i++) wait_for(c, &c->streams[i].done);
    free(text);
    unload(c);
}

static void test_rejections(void **state)
{
    struct client *c = loaded_client("echo", "echo:?ctx=8");
    struct wire_generate req = request(1, "longer than that");
    (void)state;
    generate(c, &req);
    wait_for(c, &c->streams[1].done);
    assert_int_equal(c->streams[1].status, SL_LIMIT);
    assert_non_null(strstr(c->streams[1].message, "16"));
    assert_non_null(strstr(c->streams[1].message, "8"));
    req = request(2, "abc");
    req.prompt.chat = "{\"messages\": [}";
    req.prompt.n_chat = strlen(req.prompt.chat);
    generate(c, &req);
    wait_for(c, &c->streams[2].done);
    assert_int_equal(c->streams[2].status, SL_INVALID);
    /* Without a limit of its own an answer goes on until the context is full. */
    req = request(3, "abc");
    req.ignore_end = true;
    generate(c, &req);
    wait_for(c, &c->streams[3].done);
    assert_string_equal(c->streams[3].text.data, "abcab");
    assert_int_equal(c->streams[3].finish, ENGINE_FINISH_LENGTH);
    unload(c);
}

static void test_chat(void **state)
{
    static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"ping\"}]}";
    struct client *c = client_create("echo", "echo:");
    struct wire_generate req = request(1, "");
    (void)state;
    c->cfg.load.chat_template =
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}<think>\n";
    spawn(c);
    wait_for(c, &c->loaded);
    req.prompt = (struct wire_prompt){.chat = chat, .n_chat = strlen(chat), .now_s = 1};
    req.want_text = true;
    generate(c, &req);
    wait_for(c, &c->streams[1].done);
    assert_string_equal(c->streams[1].prompt.data, "[user]ping<think>");
    assert_string_equal(c->streams[1].text.data, "[user]ping<think>");
    assert_true(c->streams[1].opens_thinking);
    assert_string_equal(worker_loaded(c->worker)->info.chat_template, c->cfg.load.chat_template);
    unload(c);
}

static void test_tokens_and_embeddings(void **state)
{
    static const int32_t ids[] = {'h', 'i'};
    struct client *c = loaded_client("echo", "echo:");
    const struct wire_tokenize tokenize = {.id = 1, .prompt = {.text = "hi", .n_text = 2}};
    const struct wire_detokenize detokenize = {.id = 2, .tokens = ids, .n_tokens = 2};
    const struct wire_embed embed = {.id = 3, .prompt = {.text = "hi", .n_text = 2}};
    struct sl_err err;
    double norm = 0;
    (void)state;
    assert_int_equal(worker_tokenize(c->worker, &tokenize, &err), SL_OK);
    assert_int_equal(worker_detokenize(c->worker, &detokenize, &err), SL_OK);
    assert_int_equal(worker_embed(c->worker, &embed, &err), SL_OK);
    for (int i = 1; i <= 3; i++) wait_for(c, &c->streams[i].done);
    assert_int_equal(c->streams[1].tokens.len, sizeof ids);
    assert_memory_equal(c->streams[1].tokens.data, ids, sizeof ids);
    assert_string_equal(c->streams[2].text.data, "hi");
    assert_int_equal(c->streams[3].n_embd, 16);
    for (int i = 0; i < 16; i++) norm += c->streams[3].embedding[i] * c->streams[3].embedding[i];
    assert_true(fabs(norm - 1) < 1e-5);
    unload(c);
}

static void read_proc(int pid, const char *file, char *out, size_t n)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_non_null(fgets(out, (int)n, f));
    (void)fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

static void test_process_is_settled(void **state)
{
    struct client *c = loaded_client("echo", "echo:");
    char name[32], score[32], own_score[32], path[64];
    (void)state;
    read_proc(worker_pid(c->worker), "comm", name, sizeof name);
    assert_string_equal(name, "sl:test-model");
    read_proc(worker_pid(c->worker), "oom_score_adj", score, sizeof score);
    read_proc(getpid(), "oom_score_adj", own_score, sizeof own_score);
    assert_true(atoi(score) > atoi(own_score) || atoi(own_score) == 1000);
    (void)snprintf(path, sizeof path, "/proc/%d/fd/4", worker_pid(c->worker));
    assert_int_equal(access(path, F_OK), -1);
    unload(c);
}

/* The one who spawns dies at once; the worker must follow. Orphans come to us, so we see it. */
static void test_worker_follows_its_agent(void **state)
{
    int fds[2], worker_pid_got = 0, status;
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(pipe(fds), 0);
    pid_t agent = fork();
    if (agent == 0) {
        struct client *c = loaded_client("echo", "echo:");
        int pid = worker_pid(c->worker);
        ssize_t n = write(fds[1], &pid, sizeof pid);
        _exit(n == (ssize_t)sizeof pid ? 0 : 1);
    }
    assert_int_equal(read(fds[0], &worker_pid_got, sizeof worker_pid_got), sizeof worker_pid_got);
    assert_int_equal(waitpid(agent, &status, 0), agent);
    int64_t end = sl_now_ns() + DEADLINE_NS;
    pid_t reaped = 0;
    while (reaped == 0 && sl_now_ns() < end) reaped = waitpid(worker_pid_got, &status, WNOHANG);
    assert_int_equal(reaped, worker_pid_got);
    close(fds[0]);
    close(fds[1]);
}

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void test_cycles_leak_nothing(void **state)
{
    struct client *c = client_create("echo", "echo:?tokens=100&pace_us=100000");
    uint64_t live = sl_mem_live();
    int fds = count_fds();
    (void)state;
    for (int i = 0; i < 100; i++) {
        spawn(c);
        if (i % 3) {
            const struct wire_generate req = request(1 + (uint64_t)i, "abc");
            wait_for(c, &c->loaded);
            generate(c, &req);
            if (i % 2) wait_for(c, &c->streams[1 + i].accepted);
        }
        if (i % 4 == 1)
            worker_unload(c->worker);
        else if (i % 4)
            worker_kill(c->worker);
        if (i % 4) wait_for(c, &c->exited);
        worker_destroy(c->worker);
        c->worker = NULL;
        free_streams(c);
    }
    assert_int_equal(count_fds(), fds);
    assert_int_equal(sl_mem_live(), live);
    client_destroy(c);
}

static void test_spawn_without_memory(void **state)
{
    struct client *c = client_create("echo", "echo:");
    uint64_t live = sl_mem_live();
    int fds = count_fds();
    struct sl_err err;
    sl_status status = SL_NOMEM;
    (void)state;
    for (uint64_t n = 1; n < 100 && status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = worker_spawn(c->loop, &c->cfg, &callbacks, c, &c->worker, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (status == SL_OK) {
            assert_false(hit);
            break;
        }
        assert_null(c->worker);
        assert_int_equal(sl_mem_live(), live);
        assert_int_equal(count_fds(), fds);
    }
    assert_int_equal(status, SL_OK);
    wait_for(c, &c->loaded);
    unload(c);
}

/* The greedy text of a request that moves from one worker to another is what one would have given.
 * */
static void test_bundled_model(void **state)
{
    struct client *c = loaded_client("llm", MODEL);
    struct wire_generate req = request(1, "Once upon a time");
    (void)state;
    assert_true(c->fraction == 1);
    assert_true(worker_loaded(c->worker)->weight_bytes > 1000000);
    req.max_tokens = 12;
    generate(c, &req);
    wait_for(c, &c->streams[1].done);
    assert_int_equal(c->streams[1].usage.n_generated, 12);
    req.id = 2;
    req.resume = (const int32_t *)(const void *)c->streams[1].tokens.data;
    req.n_resume = 5;
    req.want_tokens = true;
    generate(c, &req);
    wait_for(c, &c->streams[2].done);
    const struct sl_buf *whole = &c->streams[1].text, *rest = &c->streams[2].text;
    assert_int_equal(c->streams[2].tokens.len, 7 * sizeof(int32_t));
    assert_true(rest->len > 0 && rest->len < whole->len);
    assert_string_equal(whole->data + whole->len - rest->len, rest->data);
    unload(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generates),
        cmocka_unit_test(test_streams_do_not_mix),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_unload_ends_requests),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_hang),
        cmocka_unit_test(test_slow_load),
        cmocka_unit_test(test_load_is_given_up),
        cmocka_unit_test(test_load_failures),
        cmocka_unit_test(test_crash_on_load),
        cmocka_unit_test(test_impostors),
        cmocka_unit_test(test_missing_executable),
        cmocka_unit_test(test_full_buffer_is_busy),
        cmocka_unit_test(test_rejections),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_tokens_and_embeddings),
        cmocka_unit_test(test_process_is_settled),
        cmocka_unit_test(test_worker_follows_its_agent),
        cmocka_unit_test(test_cycles_leak_nothing),
        cmocka_unit_test(test_spawn_without_memory),
        cmocka_unit_test(test_bundled_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
