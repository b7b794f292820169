/* A stage gets its part of a model from other members, over TLS between certificates of one grid:
 * these bytes and no others, checked, kept through a kill, and enough to compute with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/logits.h"
#include "grid/fetch_part.h"
#include "grid/part_get.h"
#include "grid/store_chunks.h"
#include "grid/store_int.h"
#include "grid/store_parts.h"
#include "net/loop.h"
#include "support/blob_giver.h"
#include "support/model_edit.h"
#include "support/model_shards.h"
#include "support/temp_dir.h"
#include "support/no_memory.h"
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "big:1"
#define WAIT_S 60
#define N_LAYERS 3
#define CHUNK (UINT64_C(128) << 10) /* of a model of that size */
#define N_EMBD 32
#define N_FF 32768 /* so that each of a layer's three tensors is many chunks */
#define N_FLOATS (N_EMBD * N_FF)

static char model_path[MODEL_PATH_MAX];

/* --- a model whose layers lie in chunks of their own --- */

static int make_model(void **state)
{
    static float floats[N_FLOATS + 16];
    static char names[N_LAYERS * 3][GGUF_NAME_MAX + 1];
    static const char *const parts[] = {"ffn_gate", "ffn_up", "ffn_down"};
    struct edit edits[N_LAYERS * 3 + 1] = {SET_U32("llama.feed_forward_length", N_FF)};
    if (model_folder_make(state) != 0) return -1;
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        floats[i] = (float)((i * 2654435761u >> 16) % 1000) / 50000.0f - 0.01f;
    for (int i = 0; i < N_LAYERS * 3; i++) {
        snprintf(names[i], sizeof names[i], "blk.%d.%s.weight", i / 3, parts[i % 3]);
        edits[i + 1] = (struct edit)FLOATS(names[i], floats + i, 2, N_EMBD, N_FF);
        if (i % 3 == 2) {
            edits[i + 1].ne[0] = N_FF;
            edits[i + 1].ne[1] = N_EMBD;
        }
    }
    snprintf(model_path, sizeof model_path, "%s",
             model_edit(golden_path("llama"), edits, sizeof edits / sizeof *edits));
    return 0;
}

static bool is_of(const struct gguf_tensor *t, const struct llm_range *range)
{
    int layer = -1;
    if (sscanf(t->name, "blk.%d.", &layer) == 1)
        return layer >= range->first && layer < range->last;
    return !strcmp(t->name, "token_embd.weight") ? range->embeds : range->heads;
}

static void mark(bool *chunks, uint64_t begin, uint64_t end)
{
    for (uint64_t i = begin / CHUNK; i * CHUNK < end; i++) chunks[i] = true;
}

/* The bytes of all chunks that the header or a tensor of one of the ranges touches, worked out here
 * from the tensors' names. */
static uint64_t bytes_of(const struct llm_range *ranges, size_t n_ranges)
{
    struct gguf_file *file;
    bool chunks[1024] = {true};
    size_t size;
    uint64_t n = 0;
    assert_int_equal(gguf_open(model_path, &file, NULL), SL_OK);
    const char *map = gguf_shard_map(file, 0, &size);
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        uint64_t begin = (uint64_t)((const char *)t->data - map);
        for (size_t r = 0; r < n_ranges; r++)
            if (is_of(t, &ranges[r])) mark(chunks, begin, begin + t->n_bytes);
    }
    assert_int_equal(chunk_bytes_of(size), CHUNK);
    for (uint64_t at = 0; at < size; at += CHUNK)
        if (chunks[at / CHUNK]) n += size - at < CHUNK ? size - at : CHUNK;
    gguf_close(file);
    return n;
}

static const struct llm_range FIRST = {.first = 0, .last = 1, .embeds = true};
static const struct llm_range MIDDLE = {.first = 1, .last = 2};
static const struct llm_range LAST = {.first = 2, .last = N_LAYERS, .heads = true};

/* --- a machine that fetches, and others that have the model --- */

struct outcome {
    int n_done;
    sl_status status;
    char path[PATH_MAX], message[SL_ERR_TEXT_MAX];
    uint64_t done, total;
    struct fetch_part *part;
};

struct bench {
    struct test_grid grid;
    struct test_member third;
    struct loop *loop;
    struct store *store;
    struct fetch_parts *parts;
    struct blob_giver givers[2];
    char digest[STORE_DIGEST_SIZE];
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct outcome *outcome = ctx;
    assert_true(done >= outcome->done && done <= total);
    outcome->done = done;
    outcome->total = total;
}

static void on_done(void *ctx, const char *path, const struct sl_err *why)
{
    struct outcome *outcome = ctx;
    assert_true((path == NULL) == (why != NULL));
    outcome->n_done++;
    outcome->status = why ? why->status : SL_OK;
    snprintf(outcome->path, sizeof outcome->path, "%s", path ? path : "");
    snprintf(outcome->message, sizeof outcome->message, "%s", why ? why->text : "");
}

static void parts_create(struct bench *b, const char *home)
{
    char cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX], root[TEMP_PATH_MAX];
    struct sl_err err = SL_ERR_INIT;
    snprintf(root, sizeof root, "%s", temp_path("root.pem"));
    snprintf(cert, sizeof cert, "%s", temp_path("me.cert.pem"));
    snprintf(key, sizeof key, "%s", temp_path("me.key.pem"));
    assert_int_equal(loop_create(0, &b->loop, &err), SL_OK);
    assert_int_equal(store_open(temp_path(home), &b->store, NULL), SL_OK);
    const struct fetch_parts_cfg cfg = {
        .loop = b->loop, .store = b->store, .ca_path = root, .cert_path = cert, .key_path = key};
    assert_int_equal(fetch_parts_create(&cfg, &b->parts, &err), SL_OK);
}

static void grid_start(struct bench *b)
{
    *b = (struct bench){0};
    blob_grid_init(&b->grid);
    test_member_init(&b->third, b->grid.gateway.key, b->grid.gateway.chain.data, false,
                     sl_unix_time_ms() / 1000);
}

static void givers_start(struct bench *b)
{
    blob_giver_start(&b->givers[0], b->loop, &b->grid.gateway, "g");
    blob_giver_start(&b->givers[1], b->loop, &b->third, "t");
    for (int i = 0; i < 2; i++) blob_giver_import(&b->givers[i], model_path, NAME, b->digest);
}

static void bench_start(struct bench *b)
{
    grid_start(b);
    parts_create(b, "mine");
    givers_start(b);
}

static void bench_stop(struct bench *b)
{
    fetch_parts_destroy(b->parts);
    for (int i = 0; i < 2; i++) blob_giver_stop(&b->givers[i]);
    store_close(b->store);
    loop_destroy(b->loop);
    test_member_done(&b->third);
    test_grid_done(&b->grid);
}

static void start(struct bench *b, const struct llm_range *range, size_t n_sources,
                  struct outcome *outcome)
{
    const struct fetch_source sources[] = {b->givers[0].source, b->givers[1].source};
    const struct fetch_part_request request = {.name = NAME,
                                               .digest = b->digest,
                                               .sources = sources,
                                               .n_sources = n_sources,
                                               .range = *range};
    const struct fetch_part_events events = {
        .on_progress = on_progress, .on_done = on_done, .ctx = outcome};
    struct sl_err err = SL_ERR_INIT;
    *outcome = (struct outcome){0};
    if (fetch_part_start(b->parts, &request, &events, &outcome->part, &err) != SL_OK)
        fail_msg("%s", err.text);
}

#define UNTIL(b, condition) \
    do { \
        int64_t deadline_ns = sl_now_ns() + WAIT_S * INT64_C(1000000000); \
        while (!(condition)) { \
            assert_true(sl_now_ns() < deadline_ns); \
            assert_int_equal(loop_turn((b)->loop, 5000000, NULL), SL_OK); \
        } \
    } while (0)

static void fetch(struct bench *b, const struct llm_range *range, size_t n_sources,
                  struct outcome *outcome)
{
    start(b, range, n_sources, outcome);
    UNTIL(b, outcome->n_done);
    if (outcome->status != SL_OK) print_message("%s\n", outcome->message);
}

static uint64_t bytes_sent(const struct bench *b)
{
    return blob_giver_bytes(&b->givers[0]) + blob_giver_bytes(&b->givers[1]);
}

struct pair {
    const struct gguf_file *whole;
    size_t n;
};

static sl_status assert_same(void *ctx, const struct gguf_tensor *t, struct sl_err *err)
{
    struct pair *pair = ctx;
    const struct gguf_tensor *there = gguf_tensor_find(pair->whole, t->name);
    (void)err;
    assert_non_null(there);
    assert_memory_equal(t->data, there->data, t->n_bytes);
    pair->n++;
    return SL_OK;
}

/* The model at `path` has the range's tensors. */
static void assert_has(const char *path, const struct llm_range *range)
{
    struct gguf_file *whole, *part;
    struct llm_hparams hp;
    struct pair pair = {0};
    assert_int_equal(gguf_open(model_path, &whole, NULL), SL_OK);
    assert_int_equal(gguf_open(path, &part, NULL), SL_OK);
    assert_int_equal(llm_hparams_read(part, &hp, NULL), SL_OK);
    pair.whole = whole;
    assert_int_equal(llm_tensors_each(part, &hp, range, assert_same, &pair, NULL), SL_OK);
    assert_true(pair.n >= 9);
    gguf_close(part);
    gguf_close(whole);
}

/* --- what comes, and what does not --- */

static void test_only_its_chunks_come(void **state)
{
    struct bench b;
    struct outcome outcome;
    struct stat st;
    struct fetch_part_stats stats;
    struct store_models models;
    (void)state;
    bench_start(&b);
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(outcome.status, SL_OK);
    uint64_t n = bytes_of(&MIDDLE, 1);
    assert_int_equal(bytes_sent(&b), n);
    assert_int_equal(outcome.total, n);
    assert_int_equal(outcome.done, n);
    assert_has(outcome.path, &MIDDLE);
    assert_int_equal(stat(model_path, &st), 0);
    off_t size = st.st_size;
    assert_int_equal(stat(outcome.path, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_true((uint64_t)st.st_blocks * 512 < n + CHUNK / 2); /* the others are holes */
    fetch_part_stats_get(b.parts, &stats);
    assert_int_equal(stats.n_done, 1);
    assert_int_equal(stats.bytes, n);
    assert_int_equal(store_list(b.store, &models, NULL),
                     SL_OK); /* it is no model of this machine */
    assert_int_equal(models.n, 1);
    assert_true(models.v[0].bundled);
    assert_int_equal(models.n_broken, 0);
    store_models_done(&models);
    fetch_part_release(outcome.part);
    bench_stop(&b);
}

/* All stages in one file: what comes twice comes once, and they compute what the whole computes. */
static void test_stages_share_a_file(void **state)
{
    static const int32_t tokens[] = {19, 236, 180, 244, 75, 202, 5, 255};
    const struct llm_range ranges[] = {FIRST, MIDDLE, LAST};
    const struct llm_logits_cfg cfg = {.n_threads = 1, .n_stages = 3};
    struct bench b;
    struct outcome outcomes[3];
    float *whole, *parts;
    int32_t n_vocab;
    (void)state;
    bench_start(&b);
    for (int i = 0; i < 3; i++) start(&b, &ranges[i], 2, &outcomes[i]);
    for (int i = 0; i < 3; i++) {
        UNTIL(&b, outcomes[i].n_done);
        assert_string_equal(outcomes[i].message, "");
        assert_string_equal(outcomes[i].path, outcomes[0].path);
        assert_has(outcomes[i].path, &ranges[i]);
    }
    assert_int_equal(bytes_sent(&b), bytes_of(ranges, 3));
    assert_int_equal(llm_logits(model_path, &cfg, tokens, 8, &whole, &n_vocab, NULL), SL_OK);
    assert_int_equal(llm_logits(outcomes[0].path, &cfg, tokens, 8, &parts, &n_vocab, NULL), SL_OK);
    assert_memory_equal(parts, whole, 8 * (size_t)n_vocab * sizeof *whole);
    sl_free(whole);
    sl_free(parts);
    for (int i = 0; i < 3; i++) fetch_part_release(outcomes[i].part);
    bench_stop(&b);
}

/* What is here needs nobody; what is in use stays, what is not goes with a sweep. */
static void test_kept_while_in_use(void **state)
{
    struct bench b;
    struct outcome first, again, other;
    uint64_t freed = 0;
    (void)state;
    bench_start(&b);
    fetch(&b, &LAST, 2, &first);
    uint64_t n = bytes_sent(&b);
    fetch(&b, &LAST, 0, &again);
    assert_int_equal(again.status, SL_OK);
    assert_int_equal(again.total, 0);
    fetch(&b, &FIRST, 0, &other);
    assert_int_equal(other.status, SL_NOT_FOUND);
    assert_int_equal(bytes_sent(&b), n);
    fetch_part_release(other.part);
    fetch_part_release(first.part);
    assert_int_equal(store_sweep(b.store, &freed, NULL), SL_OK);
    assert_int_equal(freed, 0);
    assert_has(again.path, &LAST);
    fetch_part_release(again.part);
    assert_int_equal(store_sweep(b.store, &freed, NULL), SL_OK);
    assert_true(freed >= n);
    assert_int_not_equal(access(again.path, F_OK), 0);
    fetch(&b, &LAST, 2, &again);
    assert_int_equal(again.status, SL_OK);
    assert_int_equal(bytes_sent(&b), 2 * n);
    fetch_part_release(again.part);
    bench_stop(&b);
}

/* A model of several files: of each comes what its shard has of the stage. */
static void test_shards(void **state)
{
    struct bench b;
    struct outcome outcome;
    (void)state;
    model_shards_write(model_path);
    bench_start(&b);
    for (int i = 0; i < 2; i++)
        blob_giver_import(&b.givers[i], model_shard_path(0), NAME, b.digest);
    fetch(&b, &LAST, 2, &outcome);
    assert_int_equal(outcome.status, SL_OK);
    assert_has(outcome.path, &LAST);
    assert_true(bytes_sent(&b) < bytes_of(&LAST, 1) + MODEL_SHARDS * CHUNK);
    fetch_part_release(outcome.part);
    bench_stop(&b);
}

static void test_whole_model_is_taken_at_once(void **state)
{
    struct bench b;
    struct outcome outcome;
    (void)state;
    bench_start(&b);
    assert_int_equal(store_import_file(b.store, model_path, "other:1", NULL), SL_OK);
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(outcome.status, SL_OK);
    assert_non_null(strstr(outcome.path, "/blobs/"));
    assert_int_equal(bytes_sent(&b), 0);
    fetch_part_release(outcome.part);
    bench_stop(&b);
}

/* --- members that are wrong --- */

/* Other bytes at that place of the member's blob, behind the store's back. */
static void spoil(const struct blob_giver *giver, const char *digest, size_t at, const void *bytes,
                  size_t n)
{
    char path[PATH_MAX];
    struct sl_buf text;
    sl_buf_init(&text, 64u << 20);
    assert_int_equal(store_blob_path(giver->store, digest, path, NULL), SL_OK);
    assert_int_equal(store_read_file(path, &text, NULL), SL_OK);
    memcpy(text.data + at, bytes, n);
    assert_int_equal(store_write_file(path, text.data, text.len, NULL), SL_OK);
    sl_buf_done(&text);
}

static void keep_list(const struct blob_giver *giver, const char *digest)
{
    struct sl_buf list;
    sl_buf_init(&list, CHUNK_LIST_BYTES_MAX);
    assert_int_equal(store_chunks(giver->store, digest, NULL, &list, NULL), SL_OK);
    sl_buf_done(&list);
}

static void test_wrong_byte_is_found(void **state)
{
    struct bench b;
    struct outcome outcome;
    struct fetch_part_stats stats;
    (void)state;
    bench_start(&b);
    keep_list(&b.givers[0], b.digest);
    spoil(&b.givers[0], b.digest, 20 << 20, "?", 1);
    fetch(&b, &MIDDLE, 1, &outcome); /* the wrong one alone */
    assert_int_equal(outcome.status, SL_CORRUPT);
    assert_non_null(strstr(outcome.message, b.givers[0].source.id));
    fetch_part_release(outcome.part);
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(outcome.status, SL_OK);
    assert_has(outcome.path, &MIDDLE);
    fetch_part_stats_get(b.parts, &stats);
    assert_true(stats.n_bad_chunks >= 1);
    fetch_part_release(outcome.part);
    bench_stop(&b);
}

static void test_lists_disagree(void **state)
{
    struct bench b;
    struct outcome outcome;
    (void)state;
    bench_start(&b);
    spoil(&b.givers[1], b.digest, 20 << 20, "?", 1);
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(outcome.status, SL_CORRUPT);
    assert_non_null(strstr(outcome.message, "disagree"));
    assert_int_equal(bytes_sent(&b), 0);
    fetch_part_release(outcome.part);
    bench_stop(&b);
}

static void test_hostile_header(void **state)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t n;
        sl_status status;
    } rows[] = {
        {0, "JUNK", 4, SL_CORRUPT},
        {4, "\x63", 1, SL_UNSUPPORTED},
        {8, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8, SL_LIMIT},    /* tensors */
        {16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, SL_LIMIT},   /* keys */
        {24, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, SL_LIMIT},   /* the first key's length */
        {24, "\x00\x00\x00\x04\x00\x00\x00\x00", 8, SL_CORRUPT}, /* 64 MiB: past the file */
        {32, "x", 1, SL_CORRUPT},                                /* no general.architecture */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bench b;
        struct outcome outcome;
        assert_int_equal(temp_dir_setup(state), 0);
        bench_start(&b);
        spoil(&b.givers[0], b.digest, rows[i].at, rows[i].bytes, rows[i].n);
        fetch(&b, &MIDDLE, 1, &outcome);
        if (outcome.status == SL_OK) fail_msg("row %zu was taken", i);
        assert_int_equal(outcome.status, rows[i].status);
        fetch_part_release(outcome.part);
        bench_stop(&b);
        assert_int_equal(temp_dir_teardown(state), 0);
    }
}

static void test_no_such_layers(void **state)
{
    const struct llm_range beyond = {.first = 2, .last = N_LAYERS + 1, .heads = true};
    const struct llm_range none = {.first = 1, .last = 1};
    const struct fetch_part_events events = {.on_done = on_done};
    struct bench b;
    struct outcome outcome;
    struct fetch_part *part;
    (void)state;
    bench_start(&b);
    fetch(&b, &beyond, 2, &outcome);
    assert_int_equal(outcome.status, SL_INVALID);
    fetch_part_release(outcome.part);
    struct fetch_part_request request = {.name = NAME, .digest = b.digest, .range = none};
    assert_int_equal(fetch_part_start(b.parts, &request, &events, &part, NULL), SL_INVALID);
    request.range = MIDDLE;
    request.digest = "";
    assert_int_equal(fetch_part_start(b.parts, &request, &events, &part, NULL), SL_INVALID);
    request.digest = b.digest;
    request.name = "../x";
    assert_int_equal(fetch_part_start(b.parts, &request, &events, &part, NULL), SL_INVALID);
    memset(b.digest, '0', 8); /* the members have another model of that name */
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(outcome.status, SL_NOT_FOUND);
    fetch_part_release(outcome.part);
    bench_stop(&b);
}

/* --- ends in the middle --- */

static void test_released_under_way(void **state)
{
    struct bench b;
    struct outcome outcome, other;
    (void)state;
    bench_start(&b);
    start(&b, &MIDDLE, 2, &outcome);
    UNTIL(&b, outcome.total);
    fetch_part_release(outcome.part);
    fetch(&b, &MIDDLE, 2, &other);
    assert_int_equal(other.status, SL_OK);
    assert_int_equal(outcome.n_done, 0);
    fetch_part_release(other.part);
    start(&b, &FIRST, 2, &outcome); /* and one that is left to the end of all */
    UNTIL(&b, outcome.total);
    bench_stop(&b);
    assert_int_equal(outcome.n_done, 0);
}

/* The process that fetches, until it is killed: tells nothing, and never returns. */
static void fetch_and_hang(int from)
{
    struct bench b = {0};
    struct outcome outcome;
    struct {
        struct fetch_source sources[2];
        char digest[STORE_DIGEST_SIZE];
    } told;
    if (read(from, &told, sizeof told) != sizeof told) _exit(1);
    parts_create(&b, "mine");
    memcpy(b.digest, told.digest, sizeof b.digest);
    for (int i = 0; i < 2; i++) b.givers[i].source = told.sources[i];
    start(&b, &MIDDLE, 1, &outcome);
    for (;;)
        if (loop_turn(b.loop, 5000000, NULL) != SL_OK) _exit(1);
}

static void tell_child(const struct bench *b, int to)
{
    struct {
        struct fetch_source sources[2];
        char digest[STORE_DIGEST_SIZE];
    } told;
    memset(&told, 0, sizeof told);
    for (int i = 0; i < 2; i++) told.sources[i] = b->givers[i].source;
    memcpy(told.digest, b->digest, sizeof told.digest);
    assert_int_equal(write(to, &told, sizeof told), sizeof told);
}

static void test_goes_on_after_a_kill(void **state)
{
    struct bench b;
    struct outcome outcome;
    int pipes[2];
    char journal[PATH_MAX];
    (void)state;
    grid_start(&b);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork(); /* while this process has one thread */
    assert_true(child >= 0);
    if (child == 0) fetch_and_hang(pipes[0]);
    parts_create(&b, "mine");
    givers_start(&b);
    b.givers[0].holds_after = 3; /* the manifest, the list, and the chunk with the header */
    tell_child(&b, pipes[1]);
    assert_int_equal(
        store_path(journal, NULL, "%s/parts/%s/model.gguf.journal", b.store->root, b.digest),
        SL_OK);
    UNTIL(&b, access(journal, F_OK) == 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    b.givers[0].holds_after = 0;
    assert_int_equal(bytes_sent(&b), CHUNK);
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(outcome.status, SL_OK);
    assert_has(outcome.path, &MIDDLE);
    assert_int_equal(outcome.total, bytes_of(&MIDDLE, 1) - CHUNK);
    fetch_part_release(outcome.part);
    close(pipes[0]);
    close(pipes[1]);
    bench_stop(&b);
}

/* --- room --- */

static void test_room_is_made(void **state)
{
    struct bench b;
    struct outcome outcome, other;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    bench_start(&b);
    fetch(&b, &MIDDLE, 2, &outcome);
    assert_int_equal(store_parts_make_room(b.store, 1, &err), SL_OK);
    fetch_part_release(outcome.part);
    assert_int_equal(store_parts_make_room(b.store, 1, &err), SL_OK);
    assert_int_equal(access(outcome.path, F_OK), 0); /* there was room */
    fetch(&b, &MIDDLE, 2, &other);
    assert_int_equal(store_parts_make_room(b.store, UINT64_MAX / 2, &err), SL_LIMIT);
    assert_non_null(strstr(err.text, "GB needed"));
    assert_int_equal(access(outcome.path, F_OK), 0); /* in use */
    fetch_part_release(other.part);
    assert_int_equal(store_parts_make_room(b.store, UINT64_MAX / 2, &err), SL_LIMIT);
    assert_int_not_equal(access(outcome.path, F_OK), 0);
    bench_stop(&b);
}

static sl_status create_once(void *ctx)
{
    struct fetch_parts *parts;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = fetch_parts_create(ctx, &parts, &err);
    if (status == SL_OK) fetch_parts_destroy(parts);
    return status;
}

static void test_without_memory(void **state)
{
    struct fetch_parts_cfg cfg = {0};
    (void)state;
    no_memory_each(create_once, &cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_goes_on_after_a_kill),
        TEST(test_only_its_chunks_come),
        TEST(test_stages_share_a_file),
        TEST(test_kept_while_in_use),
        TEST(test_shards),
        TEST(test_whole_model_is_taken_at_once),
        TEST(test_wrong_byte_is_found),
        TEST(test_lists_disagree),
        cmocka_unit_test(test_hostile_header),
        TEST(test_no_such_layers),
        TEST(test_released_under_way),
        TEST(test_room_is_made),
        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, make_model, model_folder_remove);
}
