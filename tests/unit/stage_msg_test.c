/* Messages between stages: what is written is read, and what is not within the receiver's limits is
 * refused. */
#include "base/mem.h"
#include "exec/llm/hidden_row.h"
#include "exec/llm/stage_msg.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EMBD 64
#define VOCAB 100

static struct stage_limits limits = {.n_stages = 3,
                                     .n_batch = 8,
                                     .n_ctx = 64,
                                     .n_seqs_max = 4,
                                     .kv_blocks = 20,
                                     .n_embd = EMBD,
                                     .n_vocab = VOCAB,
                                     .link = ENGINE_LINK_F32};

static struct stage_group groups[] = {{2, 14, 4, 0, 2}, {0, 31, 1, 1, 1}};
static int32_t blocks[] = {7, 19, 3};
static struct stage_copy copies[] = {{5, 3}};
static struct stage_output outputs[] = {{3, 2}, {4, 1}};
static int32_t samplers[] = {2, 3, 0};
static int32_t rows[] = {0, 2};
static struct stage_stamp stamps[] = {{1, 2}, {3, 4}};
static float hidden[5 * EMBD];

static const struct stage_batch good_batch = {.step = 77,
                                              .flags = STAGE_WANT_LOGITS,
                                              .n_tokens = 5,
                                              .n_groups = 2,
                                              .n_blocks = 3,
                                              .n_copies = 1,
                                              .n_outputs = 2,
                                              .n_samplers = 3,
                                              .n_rows = 2,
                                              .groups = groups,
                                              .blocks = blocks,
                                              .copies = copies,
                                              .outputs = outputs,
                                              .samplers = samplers,
                                              .rows = rows,
                                              .stamps = stamps};

static void encode_batch(const struct stage_batch *b, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    for (int i = 0; i < 5 * EMBD; i++) hidden[i] = (float)i - 100.5f;
    sl_buf_init(out, 1 << 20);
    assert_int_equal(stage_batch_encode(&limits, b, hidden, out, &err), SL_OK);
}

static void test_batch(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_batch b;
    struct sl_buf buf;
    (void)state;
    encode_batch(&good_batch, &buf);
    assert_int_equal(stage_msg_kind(buf.data, buf.len), STAGE_MSG_BATCH);
    assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &b, &err), SL_OK);
    assert_int_equal(b.step, 77);
    assert_int_equal(b.flags, STAGE_WANT_LOGITS);
    assert_int_equal(b.n_tokens, 5);
    assert_int_equal(b.n_groups, 2);
    assert_memory_equal(b.groups, groups, sizeof groups);
    assert_memory_equal(b.blocks, blocks, sizeof blocks);
    assert_memory_equal(b.copies, copies, sizeof copies);
    assert_memory_equal(b.outputs, outputs, sizeof outputs);
    assert_memory_equal(b.samplers, samplers, sizeof samplers);
    assert_memory_equal(b.rows, rows, sizeof rows);
    assert_memory_equal(b.stamps, stamps, sizeof stamps);
    assert_memory_equal(b.hidden, hidden, sizeof hidden);
    sl_buf_done(&buf);
}

static void refuses_batch(const struct stage_batch *b)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_batch out;
    struct sl_buf buf;
    encode_batch(b, &buf);
    assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &out, &err), SL_CORRUPT);
    assert_true(strlen(err.text) > strlen("stage message: "));
    sl_buf_done(&buf);
}

/* One number of what a batch points to is another for a moment. */
static void refuses_number(int32_t *at, int32_t value)
{
    int32_t was = *at;
    *at = value;
    refuses_batch(&good_batch);
    *at = was;
}

static void test_batches_out_of_range(void **state)
{
    (void)state;
    refuses_number(&groups[0].table, 4);
    refuses_number(&groups[0].table, -1);
    refuses_number(&groups[0].pos, -1);
    refuses_number(&groups[0].pos, 61);     /* past the context */
    refuses_number(&groups[0].pos, 29);     /* past its blocks */
    refuses_number(&groups[0].n_tokens, 0); /* and another sum */
    refuses_number(&groups[0].n_tokens, 5);
    refuses_number(&groups[0].n_tokens, INT32_MAX);
    refuses_number(&groups[0].n_keep, -1);
    refuses_number(&groups[0].n_keep, INT32_MAX);
    refuses_number(&groups[0].n_new, 3);
    refuses_number(&groups[0].n_new, INT32_MIN);
    refuses_number(&blocks[1], 20);
    refuses_number(&blocks[1], -1);
    refuses_number(&copies[0].src, 20);
    refuses_number(&copies[0].dst, -1);
    refuses_number(&outputs[0].row, 4); /* twice the same */
    refuses_number(&outputs[1].row, 5);
    refuses_number(&outputs[0].row, -1);
    refuses_number(&outputs[0].n_samplers, 3);
    refuses_number(&outputs[0].n_samplers, -1);
    refuses_number(&samplers[1], 4);
    refuses_number(&samplers[1], -1);
    refuses_number(&rows[1], 0);
    refuses_number(&rows[1], 5);
}

/* Counts that are not those of what follows, and flags that nobody knows. */
static void test_batches_of_other_counts(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_batch b;
    struct sl_buf buf;
    (void)state;
    encode_batch(&good_batch, &buf);
    for (size_t at = 16; at < 16 + 8 * 4; at += 4) {
        for (int by = -1; by <= 1; by += 2) {
            buf.data[at] = (char)(buf.data[at] + by);
            assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &b, &err), SL_CORRUPT);
            buf.data[at] = (char)(buf.data[at] - by);
        }
        buf.data[at + 3] = (char)0x80;
        assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &b, &err), SL_CORRUPT);
        buf.data[at + 3] = 0;
    }
    buf.data[2] = 2;
    assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &b, &err), SL_CORRUPT);
    sl_buf_done(&buf);
}

/* Every length but the right one, and every other kind and version. */
static void test_cut_and_foreign(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_batch b;
    struct sl_buf buf;
    (void)state;
    encode_batch(&good_batch, &buf);
    for (size_t n = 0; n < buf.len; n++)
        assert_int_equal(stage_batch_decode(&limits, buf.data, n, &b, &err), SL_CORRUPT);
    assert_int_equal(sl_buf_addc(&buf, 0), SL_OK);
    assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &b, &err), SL_CORRUPT);
    sl_buf_truncate(&buf, buf.len - 1);
    for (int i = 0; i < 2; i++) {
        buf.data[i]++;
        assert_int_equal(stage_batch_decode(&limits, buf.data, buf.len, &b, &err), SL_CORRUPT);
        buf.data[i]--;
    }
    struct stage_limits other = limits;
    other.link = ENGINE_LINK_F16;
    assert_int_equal(stage_batch_decode(&other, buf.data, buf.len, &b, &err), SL_CORRUPT);
    assert_int_equal(stage_msg_kind("", 0), 0);
    sl_buf_done(&buf);
}

static const struct sampler_bias bias[] = {{4, 1.5f}, {5, -INFINITY}};
static const int32_t breakers[] = {9, 8, 7}, tokens[] = {1, 2, 99};

static void fill_samplers(struct stage_sampler v[2])
{
    v[0] = (struct stage_sampler){.id = 3, .open = true, .tokens = tokens, .n_tokens = 3};
    sampler_cfg_default(&v[0].cfg);
    v[0].cfg.seed = 0x123456789abcdef0;
    v[0].cfg.dry_breakers = breakers;
    v[0].cfg.n_dry_breakers = 3;
    v[0].cfg.bias = bias;
    v[0].cfg.n_bias = 2;
    v[0].cfg.n_logprobs = 5;
    v[1] = (struct stage_sampler){.id = 0};
}

static void encode_samplers(const struct stage_sampler *v, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    const struct stage_samplers m = {v, 2};
    sl_buf_init(out, 1 << 20);
    assert_int_equal(stage_samplers_encode(&m, out, &err), SL_OK);
}

static void test_samplers(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_sampler v[2];
    struct stage_samplers out;
    struct sl_arena arena;
    struct sl_buf buf;
    (void)state;
    fill_samplers(v);
    encode_samplers(v, &buf);
    sl_arena_init(&arena, 1 << 20);
    assert_int_equal(stage_samplers_decode(&limits, buf.data, buf.len, &arena, &out, &err), SL_OK);
    assert_int_equal(out.n, 2);
    assert_true(out.v[0].open);
    assert_int_equal(out.v[0].id, 3);
    assert_memory_equal(out.v[0].tokens, tokens, sizeof tokens);
    assert_memory_equal(out.v[0].cfg.bias, bias, sizeof bias);
    assert_memory_equal(out.v[0].cfg.dry_breakers, breakers, sizeof breakers);
    struct sampler_cfg cfg = out.v[0].cfg; /* the rest is equal too */
    cfg.bias = bias;
    cfg.dry_breakers = breakers;
    assert_memory_equal(&cfg, &v[0].cfg, sizeof cfg);
    assert_false(out.v[1].open);
    assert_int_equal(out.v[1].id, 0);
    for (size_t n = 0; n < buf.len; n++)
        assert_int_equal(stage_samplers_decode(&limits, buf.data, n, &arena, &out, &err),
                         SL_CORRUPT);
    sl_arena_done(&arena);
    sl_buf_done(&buf);
}

static void refuses_samplers(const struct stage_sampler *v)
{
    struct sl_err err = SL_ERR_INIT;
    struct stage_samplers out;
    struct sl_arena arena;
    struct sl_buf buf;
    encode_samplers(v, &buf);
    sl_arena_init(&arena, 1 << 20);
    assert_int_equal(stage_samplers_decode(&limits, buf.data, buf.len, &arena, &out, &err),
                     SL_CORRUPT);
    sl_arena_done(&arena);
    sl_buf_done(&buf);
}

static void test_samplers_out_of_range(void **state)
{
    static const int32_t foreign[] = {1, 2, VOCAB};
    static int32_t many[SAMPLER_HISTORY_MAX + 1];
    struct stage_sampler v[2];
    (void)state;
    fill_samplers(v);
    v[1].id = 4;
    refuses_samplers(v);
    v[1].id = -1;
    refuses_samplers(v);
    fill_samplers(v);
    v[0].tokens = foreign;
    refuses_samplers(v);
    v[0].tokens = many;
    v[0].n_tokens = SAMPLER_HISTORY_MAX + 1;
    refuses_samplers(v);
}

static struct stage_choice choices[2];
static float logits[2 * VOCAB], result_rows[EMBD];

static struct stage_result good_result(void)
{
    choices[0] = (struct stage_choice){SL_OK, {.token = 42, .logprob = -1.5f, .n_top = 2}};
    choices[0].result.top[0] = (struct sampler_logprob){41, -0.5f};
    choices[0].result.top[1] = (struct sampler_logprob){42, -1.5f};
    choices[1] = (struct stage_choice){.status = SL_CORRUPT};
    for (int i = 0; i < 2 * VOCAB; i++) logits[i] = (float)i;
    for (int i = 0; i < EMBD; i++) result_rows[i] = (float)-i;
    return (struct stage_result){.step = 9,
                                 .n_choices = 2,
                                 .n_outputs = 2,
                                 .n_rows = 1,
                                 .choices = choices,
                                 .logits = logits,
                                 .rows = result_rows,
                                 .stamps = stamps};
}

static sl_status pass_result(const struct stage_result *r, struct sl_buf *buf,
                             struct sl_arena *arena, struct stage_result *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(buf, 1 << 20);
    sl_arena_init(arena, 1 << 20);
    assert_int_equal(stage_result_encode(&limits, r, buf, &err), SL_OK);
    return stage_result_decode(&limits, buf->data, buf->len, arena, out, &err);
}

static void test_result(void **state)
{
    struct stage_result r = good_result(), out;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct sl_buf buf;
    (void)state;
    assert_int_equal(pass_result(&r, &buf, &arena, &out), SL_OK);
    assert_int_equal(out.step, 9);
    assert_int_equal(out.n_choices, 2);
    assert_int_equal(out.choices[0].result.token, 42);
    assert_true(out.choices[0].result.logprob == -1.5f);
    assert_int_equal(out.choices[0].result.n_top, 2);
    assert_memory_equal(out.choices[0].result.top, choices[0].result.top, 16);
    assert_int_equal(out.choices[1].status, SL_CORRUPT);
    assert_int_equal(out.n_outputs, 2);
    assert_memory_equal(out.logits, logits, sizeof logits);
    assert_memory_equal(out.rows, result_rows, sizeof result_rows);
    assert_memory_equal(out.stamps, stamps, sizeof stamps);
    for (size_t n = 0; n < buf.len; n++)
        assert_int_equal(stage_result_decode(&limits, buf.data, n, &arena, &out, &err), SL_CORRUPT);
    sl_arena_done(&arena);
    sl_buf_done(&buf);
}

static void refuses_result(const struct stage_result *r)
{
    struct stage_result out;
    struct sl_arena arena;
    struct sl_buf buf;
    assert_int_equal(pass_result(r, &buf, &arena, &out), SL_CORRUPT);
    sl_arena_done(&arena);
    sl_buf_done(&buf);
}

static void test_results_out_of_range(void **state)
{
    struct stage_result r = good_result();
    (void)state;
    choices[0].result.token = VOCAB;
    refuses_result(&r);
    r = good_result();
    choices[0].result.token = -1;
    refuses_result(&r);
    r = good_result();
    choices[1].status = (sl_status)SL_STATUS_COUNT;
    refuses_result(&r);
    r = good_result();
    choices[0].result.top[1].token = VOCAB;
    refuses_result(&r);
    r = good_result();
    choices[0].result.top[1].logprob = NAN;
    refuses_result(&r);
}

/* ---- rows ---- */

static double worst_error(enum engine_link_type link, const float *in, int32_t n)
{
    static _Alignas(8) char bytes[8 * EMBD];
    float out[EMBD];
    double worst = 0, most = 0;
    hidden_rows_pack(link, in, 1, n, bytes);
    hidden_rows_unpack(link, bytes, 1, n, out);
    for (int32_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)out[i] - (double)in[i]));
        most = fmax(most, fabs((double)in[i]));
    }
    return worst / most;
}

static void test_rows(void **state)
{
    float in[EMBD];
    (void)state;
    for (int i = 0; i < EMBD; i++) in[i] = sinf((float)i) * 20;
    assert_true(worst_error(ENGINE_LINK_F32, in, EMBD) == 0);
    assert_true(worst_error(ENGINE_LINK_F16, in, EMBD) < 1.0 / 2048);
    assert_true(worst_error(ENGINE_LINK_F16, in, EMBD - 1) < 1.0 / 2048);
    assert_true(worst_error(ENGINE_LINK_Q8_0, in, EMBD) < 1.0 / 250);
    in[5] = 3e7f; /* beyond halves */
    assert_true(worst_error(ENGINE_LINK_F16, in, EMBD) < 1.0 / 2048);
    in[5] = -3e38f;
    assert_true(worst_error(ENGINE_LINK_F16, in, EMBD) < 1.0 / 2048);
}

static void test_row_sizes(void **state)
{
    (void)state;
    assert_int_equal(hidden_row_bytes(ENGINE_LINK_F32, 33), 132);
    assert_int_equal(hidden_row_bytes(ENGINE_LINK_F16, 33), 4 + 68);
    assert_int_equal(hidden_row_bytes(ENGINE_LINK_Q8_0, 33), 0);
    assert_int_equal(hidden_row_bytes(ENGINE_LINK_Q8_0, 64), 68);
    assert_int_equal(hidden_row_bytes(ENGINE_LINK_Q8_0, 96), 104);
    assert_int_equal(hidden_row_bytes((enum engine_link_type)9, 64), 0);
    assert_string_equal(engine_link_name(ENGINE_LINK_Q8_0), "q8_0");
    assert_string_equal(engine_link_name((enum engine_link_type)9), "?");
}

static void test_without_memory(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf buf;
    (void)state;
    sl_buf_init(&buf, 100); /* too small: what was there stays */
    assert_int_equal(sl_buf_adds(&buf, "12345678"), SL_OK);
    assert_int_equal(stage_batch_encode(&limits, &good_batch, hidden, &buf, &err), SL_LIMIT);
    assert_string_equal(buf.data, "12345678");
    sl_buf_done(&buf);
    sl_buf_init(&buf, 1 << 20);
    sl_mem_fail_at(1, true);
    assert_int_equal(stage_batch_encode(&limits, &good_batch, hidden, &buf, &err), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(buf.len, 0);
    sl_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_batches_out_of_range),
        cmocka_unit_test(test_batches_of_other_counts),
        cmocka_unit_test(test_cut_and_foreign),
        cmocka_unit_test(test_samplers),
        cmocka_unit_test(test_samplers_out_of_range),
        cmocka_unit_test(test_result),
        cmocka_unit_test(test_results_out_of_range),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_row_sizes),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
