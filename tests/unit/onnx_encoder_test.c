/* onnx/onnx_encoder.h through the engine: a text encoder and a cross-encoder made here, with their
 * tokenizer and configuration files. The hidden state of a token is its row of a table. */
#include "exec/onnx/ort_abi.h"
#include "support/onnx_fixture.h"
#include "support/onnx_write.h"
#include "support/temp_dir.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka needs what stands above */
#include <cmocka.h>

#define N_VOCAB 8
#define N_EMBD 2

/* [PAD] [UNK] [CLS] [SEP] sun moon star sky */
static const float table[N_VOCAB][N_EMBD] = {{100, 100}, {0, 9}, {0, 0}, {0, 0},
                                             {4, 0},     {0, 3}, {2, 2}, {-4, 3}};
static const char tokenizer[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["
    "{\"id\":0,\"content\":\"[PAD]\",\"special\":true},{\"id\":1,\"content\":\"[UNK]\",\"special\":"
    "true},"
    "{\"id\":2,\"content\":\"[CLS]\",\"special\":true},{\"id\":3,\"content\":\"[SEP]\",\"special\":"
    "true}],"
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Whitespace\"},"
    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},"
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##"
    "\","
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,"
    "\"sun\":4,\"moon\":5,\"star\":6,\"sky\":7}}}";

static struct onnx_fixture fixture;

static void write_text(const char *path, const char *text)
{
    struct sl_buf bytes;
    sl_buf_init(&bytes, 1 << 16);
    assert_int_equal(sl_buf_adds(&bytes, text), SL_OK);
    onnx_fixture_write(path, &bytes);
    sl_buf_done(&bytes);
}

static void put_table(struct sl_buf *graph)
{
    struct sl_buf tensor;
    sl_buf_init(&tensor, ONNX_WRITE_BYTES_MAX);
    onnx_put_tensor_head(&tensor, "table", ORT_ABI_FLOAT, 2, (int64_t[]){N_VOCAB, N_EMBD});
    pb_bytes(&tensor, 9, table, sizeof table);
    pb_message(graph, 5, &tensor);
}

static const char *write_model(struct sl_buf *graph)
{
    struct sl_buf model;
    const char *path = temp_path("model.onnx");
    sl_buf_init(&model, ONNX_WRITE_BYTES_MAX);
    onnx_put_model(&model, graph);
    onnx_fixture_write(path, &model);
    sl_buf_done(&model);
    return path;
}

/* last_hidden_state [batch, tokens, 2] = table[input_ids]; attention_mask is taken and passed on,
 * as "seen". */
static const char *write_encoder(void)
{
    struct sl_buf graph;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    onnx_put_operator(&graph, "Gather", (const char *const[]){"table", "input_ids", NULL},
                      (const char *const[]){"last_hidden_state", NULL}, NULL);
    onnx_put_operator(&graph, "Identity", (const char *const[]){"attention_mask", NULL},
                      (const char *const[]){"seen", NULL}, NULL);
    pb_str(&graph, 2, "encoder");
    put_table(&graph);
    onnx_put_value(&graph, 11, "input_ids", ORT_ABI_INT64, 2, (int64_t[]){-1, -1});
    onnx_put_value(&graph, 11, "attention_mask", ORT_ABI_INT64, 2, (int64_t[]){-1, -1});
    onnx_put_value(&graph, 12, "last_hidden_state", ORT_ABI_FLOAT, 3, (int64_t[]){-1, -1, N_EMBD});
    onnx_put_value(&graph, 12, "seen", ORT_ABI_INT64, 2, (int64_t[]){-1, -1});
    write_text(temp_path("tokenizer.json"), tokenizer);
    return write_model(&graph);
}

/* logits [batch, 1] = the sum of token_type_ids, in 32 bits: how long the second text is. */
static const char *write_ranker(void)
{
    struct sl_buf graph, cast, sum, axes;
    const int64_t axis = 1;
    sl_buf_init(&graph, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&cast, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&sum, ONNX_WRITE_BYTES_MAX);
    sl_buf_init(&axes, ONNX_WRITE_BYTES_MAX);
    onnx_put_int_attribute(&cast, "to", ORT_ABI_FLOAT);
    onnx_put_int_attribute(&sum, "keepdims", 1);
    onnx_put_operator(&graph, "Cast", (const char *const[]){"token_type_ids", NULL},
                      (const char *const[]){"types", NULL}, &cast);
    onnx_put_operator(&graph, "ReduceSum", (const char *const[]){"types", "axes", NULL},
                      (const char *const[]){"logits", NULL}, &sum);
    pb_str(&graph, 2, "ranker");
    onnx_put_tensor_head(&axes, "axes", ORT_ABI_INT64, 1, (int64_t[]){1});
    pb_bytes(&axes, 9, &axis, sizeof axis);
    pb_message(&graph, 5, &axes);
    onnx_put_value(&graph, 11, "input_ids", ORT_ABI_INT32, 2, (int64_t[]){-1, -1});
    onnx_put_value(&graph, 11, "token_type_ids", ORT_ABI_INT32, 2, (int64_t[]){-1, -1});
    onnx_put_value(&graph, 12, "logits", ORT_ABI_FLOAT, 2, (int64_t[]){-1, 1});
    sl_buf_done(&cast);
    sl_buf_done(&sum);
    write_text(temp_path("tokenizer.json"), tokenizer);
    return write_model(&graph);
}

static sl_status try_embed(uint64_t id, const char *text, const char *pair,
                           enum engine_pooling pooling, struct sl_err *err)
{
    const struct engine_embed req = {.id = id,
                                     .text = text,
                                     .n_text = strlen(text),
                                     .pair = pair,
                                     .n_pair = pair ? strlen(pair) : 0,
                                     .pooling = pooling,
                                     .no_normalize = true};
    return engine_submit_embed(fixture.engine, &req, err);
}

static void embed(uint64_t id, const char *text, const char *pair, enum engine_pooling pooling)
{
    struct sl_err err = SL_ERR_INIT;
    fixture.n_live++;
    if (try_embed(id, text, pair, pooling, &err) != SL_OK) fail_msg("%s", err.text);
}

static void has_vector(uint64_t id, float x, float y)
{
    const struct onnx_answer *answer = &fixture.answers[id];
    if (answer->finish != ENGINE_FINISH_STOP) fail_msg("%s", answer->message);
    assert_int_equal(answer->n_embd, N_EMBD);
    assert_float_equal(answer->embedding[0], x, 1e-6);
    assert_float_equal(answer->embedding[1], y, 1e-6);
}

/* Texts of several lengths share a run; padding, whose hidden state is large, does not show. */
static void test_pools(void **state)
{
    struct engine_stats stats;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_encoder(), NULL);
    embed(0, "sun moon", NULL, ENGINE_POOLING_MODEL); /* [CLS] sun moon [SEP] */
    embed(1, "star", NULL, ENGINE_POOLING_MEAN);
    embed(2, "star sun sun sun", NULL, ENGINE_POOLING_CLS);
    embed(3, "sky", NULL, ENGINE_POOLING_LAST);
    onnx_fixture_drive(&fixture);
    has_vector(0, 1, 0.75f);
    has_vector(1, 2.0f / 3, 2.0f / 3);
    has_vector(2, 0, 0);
    has_vector(3, 0, 0);
    assert_int_equal(fixture.answers[0].usage.n_prompt, 4);
    engine_stats(fixture.engine, &stats);
    assert_int_equal(stats.n_runs, 1);
    assert_int_equal(stats.n_rows, 4);
    assert_int_equal(stats.n_prompt_tokens, 4 + 3 + 6 + 3);
    onnx_fixture_close(&fixture);
}

static void test_takes_tokens_and_normalizes(void **state)
{
    static const int32_t tokens[] = {7}, unknown[] = {8};
    struct engine_embed req = {.id = 0, .tokens = tokens, .n_tokens = 1};
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_encoder(), NULL);
    fixture.n_live = 1;
    assert_int_equal(engine_submit_embed(fixture.engine, &req, &err), SL_OK);
    onnx_fixture_drive(&fixture);
    has_vector(0, -0.8f, 0.6f);
    req.id = 1;
    req.tokens = unknown;
    assert_int_equal(engine_submit_embed(fixture.engine, &req, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "token 8"));
    onnx_fixture_close(&fixture);
}

/* Tensors go on being served beside texts. */
static void test_tensors_too(void **state)
{
    static const int64_t ids[2] = {4, 5}, mask[2] = {1, 1};
    const struct tensor inputs[] = {{.name = "input_ids",
                                     .type = TENSOR_INT64,
                                     .rank = 2,
                                     .shape = {1, 2},
                                     .data = ids,
                                     .n_bytes = 16},
                                    {.name = "attention_mask",
                                     .type = TENSOR_INT64,
                                     .rank = 2,
                                     .shape = {1, 2},
                                     .data = mask,
                                     .n_bytes = 16}};
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_encoder(), NULL);
    onnx_fixture_submit(&fixture, 0, inputs, 2);
    embed(1, "sun", NULL, ENGINE_POOLING_MEAN);
    onnx_fixture_drive(&fixture);
    assert_memory_equal(fixture.answers[0].tensors[0].data, table[4], 2 * sizeof table[4]);
    has_vector(1, 4.0f / 3, 0);
    onnx_fixture_close(&fixture);
}

static void test_ranks(void **state)
{
    struct engine_info info;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_ranker(), NULL);
    engine_info(fixture.engine, &info);
    assert_true(info.ranks && !info.embeds);
    embed(0, "sun", "moon star", ENGINE_POOLING_RANK); /* the second text and its [SEP] */
    embed(1, "sun sun sun", "moon", ENGINE_POOLING_RANK);
    onnx_fixture_drive(&fixture);
    assert_int_equal(fixture.answers[0].n_embd, 1);
    assert_float_equal(fixture.answers[0].embedding[0], 3, 0);
    assert_float_equal(fixture.answers[1].embedding[0], 2, 0);
    assert_int_equal(try_embed(2, "sun", NULL, ENGINE_POOLING_MEAN, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "gives no embeddings"));
    onnx_fixture_close(&fixture);
    onnx_fixture_open(&fixture, write_encoder(), NULL);
    assert_int_equal(try_embed(2, "sun", "moon", ENGINE_POOLING_RANK, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "no classifier"));
    onnx_fixture_close(&fixture);
}

static void test_limits(void **state)
{
    struct engine_info info;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_encoder(), "{\"max_tokens\":4}");
    engine_info(fixture.engine, &info);
    assert_int_equal(info.n_ctx, 4);
    assert_int_equal(info.n_vocab, N_VOCAB);
    assert_int_equal(info.n_embd, N_EMBD);
    assert_true(info.embeds && !info.ranks);
    assert_int_equal(try_embed(0, "sun moon star", NULL, ENGINE_POOLING_MEAN, &err), SL_LIMIT);
    assert_non_null(strstr(err.text, "4"));
    assert_non_null(strstr(err.text, "5"));
    onnx_fixture_close(&fixture);
    onnx_fixture_open(&fixture, write_encoder(), "{\"max_tokens\":4,\"truncate\":true}");
    embed(0, "sun moon star", NULL, ENGINE_POOLING_MEAN);
    onnx_fixture_drive(&fixture);
    has_vector(0, 1, 0.75f);
    onnx_fixture_close(&fixture);
}

/* The files beside the model: what they say, and what is wrong with them. */
static void test_configuration(void **state)
{
    struct engine_info info;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    onnx_fixture_need_runtime();
    assert_int_equal(mkdir(temp_path("1_Pooling"), 0700), 0);
    write_text(temp_path("1_Pooling/config.json"), "{\"pooling_mode_cls_token\":true}");
    write_text(temp_path("config.json"),
               "{\"model_type\":\"xlm-roberta\",\"max_position_embeddings\":514}");
    onnx_fixture_open(&fixture, write_encoder(), NULL);
    engine_info(fixture.engine, &info);
    assert_int_equal(info.n_ctx, 512);
    embed(0, "sun", NULL, ENGINE_POOLING_MODEL);
    onnx_fixture_drive(&fixture);
    has_vector(0, 0, 0); /* [CLS]'s */
    onnx_fixture_close(&fixture);
    write_text(temp_path("1_Pooling/config.json"), "{\"pooling_mode_max_tokens\":true}");
    assert_int_equal(onnx_fixture_try_open(&fixture, write_encoder(), NULL, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "1_Pooling/config.json"));
    onnx_fixture_close(&fixture);
    assert_int_equal(unlink(temp_path("1_Pooling/config.json")), 0);
    assert_int_equal(rmdir(temp_path("1_Pooling")), 0);
    write_text(temp_path("config.json"), "{");
    assert_int_equal(onnx_fixture_try_open(&fixture, write_encoder(), NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "config.json"));
    onnx_fixture_close(&fixture);
    assert_int_equal(unlink(temp_path("config.json")), 0);
}

static void test_tokenizes(void **state)
{
    static const int32_t wanted[] = {2, 4, 1, 3};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    (void)state;
    onnx_fixture_need_runtime();
    onnx_fixture_open(&fixture, write_encoder(), NULL);
    sl_buf_init(&out, 1000);
    assert_int_equal(engine_tokenize(fixture.engine, "sun sea", 7, false, &out, &err), SL_OK);
    assert_int_equal(out.len, sizeof wanted);
    assert_memory_equal(out.data, wanted, sizeof wanted);
    sl_buf_clear(&out);
    assert_int_equal(engine_detokenize(fixture.engine, (int32_t[]){4, 5}, 2, &out, &err), SL_OK);
    assert_string_equal(out.data, "sun moon");
    sl_buf_done(&out);
    onnx_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pools),       cmocka_unit_test(test_takes_tokens_and_normalizes),
        cmocka_unit_test(test_tensors_too), cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_tokenizes),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
