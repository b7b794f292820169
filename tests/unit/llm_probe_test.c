/* llm_probe_test.c: made-up stages of every type of weights can be computed and timed, and the
 * shape of a model file is what its tensors say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "exec/llm/backend.h"
#include "exec/llm/gguf.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/probe.h"
#include "grid/model_shape.h"

#define MODEL STARLANE_ROOT "/models/starling.gguf"

static struct llm_backends backends;

static int setup(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    return llm_backends_open(&backends, 1, false, &err) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    llm_backends_close(&backends);
    return 0;
}

static struct llm_probe_shape shape_of(const char *type)
{
    return (struct llm_probe_shape){.type = type,
                                    .n_layer = 2,
                                    .n_embd = 256,
                                    .n_ff = 512,
                                    .n_head = 4,
                                    .n_head_kv = 2,
                                    .n_ctx = 200};
}

static void test_every_type_computes(void **state)
{
    (void)state;
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) {
        struct llm_probe_shape shape = shape_of(split_weight_name((enum split_weight)w));
        struct llm_probe *probe;
        struct sl_err err = SL_ERR_INIT;
        double cpu_s = -1, wall_s = -1;
        if (llm_probe_open(&backends, &shape, &probe, &err) != SL_OK) fail_msg("%s", err.text);
        /* Two square products, two of half as many rows, three of the feed-forward part. */
        assert_true(llm_probe_layer_flops(probe) == 2 * 256.0 * (256 + 128 + 128 + 256 + 3 * 512));
        assert_true(llm_probe_attn_flops(probe) == 2.0 * 4 * (64 + 64));
        assert_true(llm_probe_layer_bytes(probe) <= 2 * llm_probe_layer_flops(probe));
        assert_true(llm_probe_layer_bytes(probe) > llm_probe_layer_flops(probe) / 4);
        assert_int_equal(llm_probe_run(probe, 1, 0, &cpu_s, &wall_s, &err), SL_OK);
        assert_true(cpu_s >= 0 && wall_s > 0);
        assert_int_equal(
            llm_probe_run(probe, LLM_PROBE_ROWS_MAX, 200 - LLM_PROBE_ROWS_MAX, &cpu_s, NULL, &err),
            SL_OK);
        assert_int_equal(llm_probe_run(probe, 33, 7, &cpu_s, NULL, &err), SL_OK);
        llm_probe_close(probe);
    }
}

static void test_bad_shapes(void **state)
{
    struct llm_probe_shape shape = shape_of("q4_9");
    struct llm_probe *probe = NULL;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    assert_int_equal(llm_probe_open(&backends, &shape, &probe, &err), SL_INVALID);
    shape = shape_of("q4_K");
    shape.n_ff = 300; /* no whole blocks of 256 */
    assert_int_equal(llm_probe_open(&backends, &shape, &probe, &err), SL_INVALID);
    assert_null(probe);
}

static void test_no_memory(void **state)
{
    struct llm_probe_shape shape = shape_of("q8_0");
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    (void)state;
    for (uint64_t n = 1; status != SL_OK; n++) {
        struct llm_probe *probe;
        struct sl_err err = SL_ERR_INIT;
        sl_mem_fail_at(n, false);
        status = llm_probe_open(&backends, &shape, &probe, &err);
        sl_mem_fail_at(0, false);
        if (status == SL_OK) llm_probe_close(probe);
        assert_int_equal(sl_mem_live(), live);
        assert_true(n < 10000);
    }
}

static void test_shape_of_a_file(void **state)
{
    struct model_shape *shape = sl_calloc(2, sizeof *shape);
    struct gguf_file *file;
    struct sl_err err = SL_ERR_INIT;
    uint64_t sum = 0, all = 0;
    (void)state;
    if (model_shape_read(MODEL, shape, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(gguf_open(MODEL, &file, &err), SL_OK);
    for (size_t i = 0; i < gguf_n_tensors(file); i++) all += gguf_tensor_at(file, i)->n_bytes;
    const struct split_model *model = &shape->model;
    for (int32_t i = 0; i < model->n_layer; i++) sum += model->layer_bytes[i];
    const struct gguf_tensor *embd = gguf_tensor_find(file, "token_embd.weight");
    assert_int_equal(model->embd_bytes, embd->n_bytes);
    assert_true(sum > 0 && model->head_bytes >= 4 * (uint64_t)model->n_embd);
    /* The output is the embedding again, or a tensor of its own. */
    bool tied = !gguf_tensor_find(file, "output.weight");
    assert_int_equal(sum + model->head_bytes + (tied ? 0 : model->embd_bytes), all);
    assert_true(model->active == 1);
    assert_true(model->layer_flops > (double)sum / model->n_layer / 4);
    assert_true(model->head_flops == 2.0 * (double)embd->ne[0] * (double)embd->ne[1]);
    assert_true(model->kv_bytes > 0 && model->kv_bytes % 4 == 0);
    assert_true(model->stage_bytes > 1 << 20);

    assert_int_equal(model_shape_copy(model, &shape[1], &err), SL_OK);
    assert_ptr_equal(shape[1].model.layer_bytes, shape[1].layer_bytes);
    assert_memory_equal(shape[0].layer_bytes, shape[1].layer_bytes,
                        (size_t)model->n_layer * sizeof *model->layer_bytes);
    shape[0].model.n_layer = SPLIT_LAYERS_MAX + 1;
    assert_int_equal(model_shape_copy(model, &shape[1], &err), SL_LIMIT);
    assert_int_equal(model_shape_read(STARLANE_ROOT "/README.md", shape, &err), SL_CORRUPT);
    assert_int_equal(model_shape_read("/nowhere.gguf", shape, &err), SL_NOT_FOUND);
    gguf_close(file);
    sl_free(shape);
}

static uint64_t stage_takes(const struct split_plan *plan, int32_t i, int32_t n_ctx)
{
    struct llm_engine_cfg cfg;
    struct llm_engine_estimate estimate;
    struct sl_err err = SL_ERR_INIT;
    llm_engine_cfg_default(&cfg);
    cfg.n_ctx = n_ctx;
    cfg.n_seqs_max = 4;
    cfg.n_batch = plan->chunk;
    cfg.split = (struct engine_split){.n_stages = (int32_t)plan->n_stages,
                                      .stage = i,
                                      .first = plan->stages[i].first,
                                      .last = plan->stages[i].last,
                                      .kv_blocks = 4 * (n_ctx / KV_BLOCK_TOKENS + 1)};
    if (llm_engine_estimate(MODEL, &cfg, &estimate, &err) != SL_OK) fail_msg("%s", err.text);
    return estimate.weight_bytes + estimate.kv_bytes + estimate.compute_bytes;
}

/* Whatever the chunks are: the logits of long ones are most of what the last stage takes. */
static void test_memory_of_stages_is_foretold(void **state)
{
    struct model_shape *shape = sl_calloc(1, sizeof *shape);
    struct split_node nodes[3] = {{0}};
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    if (model_shape_read(MODEL, shape, &err) != SL_OK) fail_msg("%s", err.text);
    struct split_problem problem = {.model = &shape->model,
                                    .nodes = nodes,
                                    .n_nodes = 3,
                                    .goal = {.n_seqs = 4, .context = shape->n_ctx_train}};
    for (int i = 0; i < 3; i++) {
        nodes[i].memory_bytes = UINT64_C(1) << 40;
        nodes[i].machine.memory_bytes_s = 1e10;
    }
    for (int32_t chunk = 32; chunk <= SPLIT_ROWS_MAX; chunk *= 2) {
        struct split_plan plan = {.n_stages = 3, .chunk = chunk};
        for (int32_t i = 0; i < 3; i++)
            plan.stages[i] = (struct split_stage){
                .node = (uint32_t)i, .first = i, .last = i < 2 ? i + 1 : shape->model.n_layer};
        if (split_predict(&problem, &plan, &err) != SL_OK) fail_msg("%s", err.text);
        for (int32_t i = 0; i < 3; i++) {
            uint64_t takes = stage_takes(&plan, i, problem.goal.context);
            print_message("chunks of %d, stage %d: %llu bytes foretold, %llu\n", chunk, i,
                          (unsigned long long)plan.stages[i].memory_bytes,
                          (unsigned long long)takes);
            assert_true(plan.stages[i].memory_bytes >= takes);
            /* A process besides is a megabyte of it. */
            assert_true(plan.stages[i].memory_bytes <= takes + takes / 10 + (1 << 20));
        }
    }
    sl_free(shape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_of_stages_is_foretold),
        cmocka_unit_test(test_every_type_computes),
        cmocka_unit_test(test_bad_shapes),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_shape_of_a_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
