/* Memory that an agent and a worker share: the pieces, and workers that lie about them. For these
 * the program starts itself as a worker, whose title says how it misbehaves. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/worker.h"
#include "exec/worker_child.h"
#include "exec/worker_share.h"
#include "net/frame.h"
#include "net/loop.h"

#define DEADLINE_NS 60000000000
#define MIB (1u << 20)
#define BIG_FLOATS 300000 /* 1.2 MB, 19 slots */

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

/* --- the pieces, both sides in one process --- */

struct sides {
    struct worker_share agent, worker;
    struct sl_arena arena;
};

static void sides_init(struct sides *s)
{
    struct sl_err err = SL_ERR_INIT;
    int fds[2];
    sl_arena_init(&s->arena, 64 * MIB);
    assert_int_equal(worker_share_create(&s->agent, fds, &err), SL_OK);
    assert_int_equal(worker_share_open(&s->worker, fds, &err), SL_OK);
}

static void sides_done(struct sides *s)
{
    worker_share_done(&s->agent);
    worker_share_done(&s->worker);
    sl_arena_done(&s->arena);
}

static struct tensor bytes_of(const void *data, size_t n)
{
    return (struct tensor){.name = "x",
                           .type = TENSOR_UINT8,
                           .rank = 1,
                           .shape = {(int64_t)n},
                           .data = data,
                           .n_bytes = n};
}

static sl_status find(struct sides *s, const struct worker_share *share, uint32_t piece, size_t n,
                      const struct tensor **out)
{
    struct sl_err err = SL_ERR_INIT;
    const struct tensor tensor = bytes_of(NULL, n);
    sl_status status = worker_share_find(share, &tensor, &piece, 1, &s->arena, out, &err);
    if (status != SL_OK) assert_true(err.text[0]);
    return status;
}

static void pieces_go_both_ways(void **state)
{
    struct sides s;
    const struct tensor *got;
    (void)state;
    sides_init(&s);
    char *data = malloc(MIB);
    assert_non_null(data);
    for (int round = 0; round < 300; round++) { /* 300 MiB through 64 */
        struct worker_share *from = round % 2 ? &s.agent : &s.worker;
        struct worker_share *to = round % 2 ? &s.worker : &s.agent;
        memset(data, round, MIB);
        const struct tensor tensor = bytes_of(data, MIB - (size_t)round);
        uint32_t piece = worker_share_put(from, &tensor);
        assert_true(piece);
        assert_int_equal(find(&s, to, piece, tensor.n_bytes, &got), SL_OK);
        assert_memory_equal(got->data, data, tensor.n_bytes);
        worker_share_release(to, &piece, 1);
    }
    free(data);
    sides_done(&s);
}

static void a_full_area_takes_no_more_until_something_is_released(void **state)
{
    struct sides s;
    uint32_t pieces[16];
    (void)state;
    sides_init(&s);
    char *data = calloc(5, MIB);
    assert_non_null(data);
    const struct tensor tensor = bytes_of(data, 4 * (size_t)MIB);
    for (size_t i = 0; i < 16; i++) {
        pieces[i] = worker_share_put(&s.agent, &tensor);
        assert_true(pieces[i]);
    }
    const struct tensor small = bytes_of(data, WORKER_SHARE_DATA_MIN);
    assert_int_equal(worker_share_put(&s.agent, &small), 0);
    worker_share_release(&s.worker, &pieces[7], 1);
    assert_int_equal(worker_share_put(&s.agent, &tensor), pieces[7]);
    worker_share_take_back(&s.agent, pieces[3]);
    worker_share_take_back(&s.agent, pieces[4]);
    const struct tensor twice = bytes_of(data, 4 * (size_t)MIB + 1);
    assert_int_equal(worker_share_put(&s.agent, &twice), pieces[3]);
    free(data);
    sides_done(&s);
}

static void what_does_not_belong_there_is_left_out(void **state)
{
    static struct worker_share nothing;
    struct sides s;
    (void)state;
    sides_init(&s);
    char *data = calloc(1, MIB);
    assert_non_null(data);
    struct tensor tensor = bytes_of(data, MIB);
    assert_int_equal(worker_share_put(&nothing, &tensor), 0);
    tensor.type = TENSOR_BYTES; /* lengths are read twice */
    assert_int_equal(worker_share_put(&s.agent, &tensor), 0);
    tensor.type = TENSOR_BOOL; /* an engine writes to them */
    assert_int_equal(worker_share_put(&s.agent, &tensor), 0);
    tensor = bytes_of(data, WORKER_SHARE_DATA_MIN - 1);
    assert_int_equal(worker_share_put(&s.agent, &tensor), 0);
    tensor = bytes_of(data, 64 * (size_t)MIB + 1);
    assert_int_equal(worker_share_put(&s.agent, &tensor), 0);
    free(data);
    sides_done(&s);
}

static void a_piece_must_lie_within_the_area(void **state)
{
    static struct worker_share nothing;
    static const uint32_t wild[] = {WORKER_SHARE_SLOTS + 1, UINT32_MAX, 0x80000000u};
    struct sides s;
    const struct tensor *got;
    (void)state;
    sides_init(&s);
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        assert_int_equal(find(&s, &s.agent, wild[i], 1, &got), SL_CORRUPT);
        worker_share_release(&s.agent, &wild[i], 1); /* touches nothing */
    }
    assert_int_equal(find(&s, &s.agent, WORKER_SHARE_SLOTS, WORKER_SHARE_SLOT_BYTES, &got), SL_OK);
    assert_int_equal(find(&s, &s.agent, WORKER_SHARE_SLOTS, WORKER_SHARE_SLOT_BYTES + 1, &got),
                     SL_CORRUPT);
    assert_int_equal(find(&s, &s.agent, 1, SIZE_MAX, &got), SL_CORRUPT);
    assert_int_equal(find(&s, &nothing, 1, 1, &got), SL_CORRUPT);
    sides_done(&s);
}

static void pieces_may_not_add_up_to_more_than_a_request(void **state)
{
    struct sides s;
    struct tensor tensors[3];
    const struct tensor *got;
    const uint32_t pieces[3] = {1, 1, 1};
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    sides_init(&s);
    for (size_t i = 0; i < 3; i++) tensors[i] = bytes_of(NULL, 30 * (size_t)MIB);
    assert_int_equal(worker_share_find(&s.agent, tensors, pieces, 2, &s.arena, &got, &err), SL_OK);
    assert_int_equal(worker_share_find(&s.agent, tensors, pieces, 3, &s.arena, &got, &err),
                     SL_CORRUPT);
    sides_done(&s);
}

static void marks_of_what_is_not_given_away_count_for_nothing(void **state)
{
    struct sides s;
    (void)state;
    sides_init(&s);
    char *data = calloc(1, MIB);
    assert_non_null(data);
    const struct tensor tensor = bytes_of(data, MIB);
    uint32_t first = worker_share_put(&s.agent, &tensor);
    for (uint32_t piece = 1; piece <= WORKER_SHARE_SLOTS; piece++)
        if (piece != first) worker_share_release(&s.worker, &piece, 1);
    assert_int_not_equal(worker_share_put(&s.agent, &tensor), first);
    free(data);
    sides_done(&s);
}

static void areas_cannot_be_cut_short_and_others_are_refused(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct worker_share agent, worker;
    int fds[2], n_fds = count_fds();
    (void)state;
    assert_int_equal(worker_share_create(&agent, fds, &err), SL_OK);
    assert_int_equal(ftruncate(fds[1], 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fds[1], 1 << 30), -1);
    const int with_pipe[2] = {fds[0], dup(STDERR_FILENO)};
    assert_int_equal(worker_share_open(&worker, with_pipe, &err), SL_INVALID);
    const int unsealed[2] = {fds[1], memfd_create("x", MFD_CLOEXEC)};
    assert_int_equal(ftruncate(unsealed[1], WORKER_SHARE_BYTES), 0);
    assert_int_equal(worker_share_open(&worker, unsealed, &err), SL_INVALID);
    const int closed[2] = {-1, -1};
    assert_int_equal(worker_share_open(&worker, closed, &err), SL_INVALID);
    worker_share_done(&worker);
    worker_share_done(&agent);
    assert_int_equal(count_fds(), n_fds);
}

/* --- workers --- */

struct client {
    struct loop *loop;
    struct worker *worker;
    bool loaded, exited;
    int n_done, n_tensors, n_wrong;
    enum worker_end end;
    char reason[WORKER_REASON_MAX];
};

static float big[BIG_FLOATS];

static void on_loaded(void *ctx, const struct wire_loaded *loaded)
{
    (void)loaded;
    ((struct client *)ctx)->loaded = true;
}

static void take_tensors(struct client *c, const struct engine_event *e)
{
    for (size_t i = 0; i < e->n_tensors; i++) {
        const struct tensor *tensor = &e->tensors[i];
        bool same = tensor->n_bytes == sizeof big && !memcmp(tensor->data, big, sizeof big);
        c->n_tensors++;
        c->n_wrong += !same;
    }
}

static void on_events(void *ctx, const struct wire_event *events, size_t n)
{
    struct client *c = ctx;
    for (size_t i = 0; i < n; i++) {
        const struct engine_event *e = &events[i].engine;
        if (events[i].type != WIRE_EVENT_ENGINE) continue;
        if (e->type == ENGINE_EVENT_TENSORS) take_tensors(c, e);
        c->n_done += e->type == ENGINE_EVENT_DONE;
    }
}

static void on_exit_of(void *ctx, const struct worker_exit *how)
{
    struct client *c = ctx;
    c->exited = true;
    c->end = how->end;
    (void)snprintf(c->reason, sizeof c->reason, "%s", how->reason);
}

static const struct worker_callbacks callbacks = {
    .on_loaded = on_loaded, .on_events = on_events, .on_exit = on_exit_of};

static void turn(struct client *c)
{
    struct sl_err err;
    assert_int_equal(loop_turn(c->loop, 20000000, &err), SL_OK);
}

static void client_init(struct client *c, const char *exe, const char *title)
{
    struct sl_err err = SL_ERR_INIT;
    const int64_t end = sl_now_ns() + DEADLINE_NS;
    struct worker_cfg cfg = {.exe = exe, .grace_ms = 200};
    cfg.load.engine.kind = "echo";
    cfg.load.engine.path = "echo:?slots=16";
    cfg.load.title = title;
    *c = (struct client){0};
    for (size_t i = 0; i < BIG_FLOATS; i++) big[i] = (float)i;
    assert_int_equal(loop_create(0, &c->loop, &err), SL_OK);
    if (worker_spawn(c->loop, &cfg, &callbacks, c, &c->worker, &err) != SL_OK)
        fail_msg("%s", err.text);
    while (!c->loaded && !c->exited && sl_now_ns() < end) turn(c);
    if (!c->loaded) fail_msg("it did not load: %s", c->reason);
}

static void client_done(struct client *c)
{
    worker_destroy(c->worker);
    loop_destroy(c->loop);
}

static void infer(struct client *c, uint64_t id)
{
    struct sl_err err = SL_ERR_INIT;
    const struct tensor input = {.name = "x",
                                 .type = TENSOR_FP32,
                                 .rank = 1,
                                 .shape = {BIG_FLOATS},
                                 .data = big,
                                 .n_bytes = sizeof big};
    const struct wire_infer req = {.id = id, .inputs = &input, .n_inputs = 1};
    if (worker_infer(c->worker, &req, &err) != SL_OK) fail_msg("%s", err.text);
}

/* Until n requests are done, or the worker is. */
static void wait_done(struct client *c, int n)
{
    const int64_t end = sl_now_ns() + DEADLINE_NS;
    while (c->n_done < n && !c->exited && sl_now_ns() < end) turn(c);
    assert_true(c->n_done >= n || c->exited);
}

static const char *executable(void)
{
    const char *given = getenv("STARLANE_BIN");
    return given ? given : STARLANE_BIN;
}

/* Sixty at once do not fit, so that some go through the socket. */
static void large_tensors_come_back_as_they_went(void **state)
{
    struct client c;
    int n_fds = count_fds();
    (void)state;
    client_init(&c, executable(), "test");
    for (uint64_t id = 1; id <= 60; id++) infer(&c, id);
    wait_done(&c, 60);
    for (uint64_t id = 61; id <= 120; id++) {
        infer(&c, id);
        wait_done(&c, (int)id);
    }
    assert_false(c.exited);
    assert_int_equal(c.n_tensors, 120);
    assert_int_equal(c.n_wrong, 0);
    client_done(&c);
    assert_int_equal(count_fds(), n_fds);
}

/* --- the worker that lies: this program, started as `worker TITLE` --- */

struct liar {
    const char *how;
    struct frame_reader reader;
    struct sl_buf out;
};

static void tell(struct liar *liar, const struct wire_msg *msg)
{
    struct sl_err err;
    size_t sent = 0;
    if (wire_encode(msg, &liar->out, &err) != SL_OK) exit(3);
    while (sent < liar->out.len) {
        ssize_t n = send(WORKER_FD, liar->out.data + sent, liar->out.len - sent, MSG_NOSIGNAL);
        if (n < 0) exit(4);
        sent += (size_t)n;
    }
    sl_buf_clear(&liar->out);
}

static void tell_loaded(struct liar *liar)
{
    struct wire_msg msg = {.type = WIRE_LOADED};
    msg.loaded.info = (struct engine_info){
        .architecture = "", .name = "", .bos_text = "", .eos_text = "", .quantization = ""};
    tell(liar, &msg);
}

/* One output of n_bytes in a piece, and the end. */
static void tell_piece(struct liar *liar, uint64_t id, uint32_t piece, struct tensor tensor)
{
    const struct engine_usage usage = {0};
    struct wire_event events[2] = {{.type = WIRE_EVENT_ENGINE, .id = id, .pieces = &piece},
                                   {.type = WIRE_EVENT_ENGINE, .id = id}};
    struct wire_msg msg = {.type = WIRE_EVENTS, .events = {.v = events, .n = 2}};
    events[0].engine = (struct engine_event){
        .type = ENGINE_EVENT_TENSORS, .id = id, .tensors = &tensor, .n_tensors = 1};
    events[1].engine = (struct engine_event){
        .type = ENGINE_EVENT_DONE, .id = id, .text = "", .message = "", .usage = &usage};
    tell(liar, &msg);
}

static void flood_with_fds(void)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * 100)];
    } control;
    /* A PONG frame, with descriptors at its first byte. */
    static const char pong[] = {0, 0, 0, 1, WIRE_PONG};
    struct iovec iov = {(void *)(uintptr_t)pong, sizeof pong};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
    msg.msg_controllen = sizeof control;
    control.head = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int) * 100), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    for (int i = 0; i < 100; i++) memcpy(CMSG_DATA(&control.head) + i * 4, &(int){2}, 4);
    for (int i = 0; i < 20; i++)
        if (sendmsg(WORKER_FD, &msg, MSG_NOSIGNAL) < 0) exit(5);
}

static void scribble(bool marks)
{
    unsigned char *area =
        mmap(NULL, WORKER_SHARE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_SHARE_FD + 1, 0);
    if (area == MAP_FAILED) exit(6);
    for (size_t i = 0; marks && i < WORKER_SHARE_SLOTS / 8; i++) area[i] ^= 0xff;
    if (!marks) memset(area + WORKER_SHARE_HEAD_BYTES, 7, MIB);
    munmap(area, WORKER_SHARE_BYTES);
}

static void lie(struct liar *liar, uint64_t id)
{
    struct tensor tensor = {
        .name = "y", .type = TENSOR_UINT8, .rank = 1, .shape = {MIB}, .n_bytes = MIB};
    uint32_t piece = 1;
    if (!strcmp(liar->how, "wild")) piece = 70000;
    if (!strcmp(liar->how, "long")) piece = WORKER_SHARE_SLOTS;
    if (!strcmp(liar->how, "text")) tensor.type = TENSOR_BYTES;
    if (!strcmp(liar->how, "huge")) tensor.n_bytes = (size_t)(tensor.shape[0] = INT64_C(1) << 62);
    if (!strcmp(liar->how, "marks")) scribble(true);
    if (!strcmp(liar->how, "flood")) flood_with_fds();
    if (!strcmp(liar->how, "shrink")) {
        scribble(false);
        if (ftruncate(WORKER_SHARE_FD + 1, 0) == 0 || ftruncate(WORKER_SHARE_FD, 0) == 0) exit(7);
        if (fallocate(WORKER_SHARE_FD + 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                      WORKER_SHARE_BYTES) != 0)
            exit(8);
    }
    if (!strcmp(liar->how, "missing")) {
        close(WORKER_SHARE_FD);
        close(WORKER_SHARE_FD + 1);
    }
    tell_piece(liar, id, piece, tensor);
}

static void hear(struct liar *liar, const struct frame *frame)
{
    struct sl_arena arena;
    struct wire_msg msg;
    struct sl_err err;
    sl_arena_init(&arena, WIRE_ARENA_BYTES_MAX);
    if (wire_decode(frame, &arena, &msg, &err) != SL_OK) exit(9);
    if (msg.type == WIRE_LOAD) tell_loaded(liar);
    if (msg.type == WIRE_INFER) lie(liar, msg.infer.id);
    sl_arena_done(&arena);
}

static int be_a_liar(const char *how)
{
    static char chunk[65536];
    struct liar liar = {.how = how};
    frame_reader_init(&liar.reader, WIRE_FRAME_BYTES_MAX);
    sl_buf_init(&liar.out, WIRE_FRAME_BYTES_MAX);
    ssize_t n;
    while ((n = recv(WORKER_FD, chunk, sizeof chunk, 0)) > 0) {
        struct frame frame;
        struct sl_err err;
        bool have = true;
        if (frame_reader_feed(&liar.reader, chunk, (size_t)n) != SL_OK) return 2;
        while (frame_reader_next(&liar.reader, &frame, &have, &err) == SL_OK && have)
            hear(&liar, &frame);
    }
    return 0;
}

static void one_that_lies_of_a_piece_is_killed(void **state)
{
    static const char *const lies[] = {"wild", "long", "text", "huge"};
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct client c;
        int n_fds = count_fds();
        uint64_t live = sl_mem_live();
        client_init(&c, "/proc/self/exe", lies[i]);
        infer(&c, 1);
        wait_done(&c, 1);
        if (!c.exited || c.end != WORKER_END_PROTOCOL) fail_msg("%s: %s", lies[i], c.reason);
        assert_int_equal(c.n_tensors, 0);
        client_done(&c);
        assert_int_equal(count_fds(), n_fds);
        assert_int_equal(sl_mem_live(), live);
    }
}

/* It can only spoil what is its own: nobody crashes, and nothing is left behind. */
static void one_that_spoils_the_memory_harms_nobody(void **state)
{
    static const char *const lies[] = {"marks", "flood", "shrink", "missing"};
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct client c;
        int n_fds = count_fds();
        client_init(&c, "/proc/self/exe", lies[i]);
        int n_live = count_fds();
        for (int n = 1; n <= 5; n++) {
            infer(&c, (uint64_t)n);
            wait_done(&c, n);
            if (c.exited) fail_msg("%s: %s", lies[i], c.reason);
        }
        assert_int_equal(count_fds(), n_live);
        assert_int_equal(c.n_tensors, 5);
        client_done(&c);
        assert_int_equal(count_fds(), n_fds);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_go_both_ways),
        cmocka_unit_test(a_full_area_takes_no_more_until_something_is_released),
        cmocka_unit_test(what_does_not_belong_there_is_left_out),
        cmocka_unit_test(a_piece_must_lie_within_the_area),
        cmocka_unit_test(pieces_may_not_add_up_to_more_than_a_request),
        cmocka_unit_test(marks_of_what_is_not_given_away_count_for_nothing),
        cmocka_unit_test(areas_cannot_be_cut_short_and_others_are_refused),
        cmocka_unit_test(large_tensors_come_back_as_they_went),
        cmocka_unit_test(one_that_lies_of_a_piece_is_killed),
        cmocka_unit_test(one_that_spoils_the_memory_harms_nobody),
    };
    if (argc > 2 && !strcmp(argv[1], "worker")) return be_a_liar(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
