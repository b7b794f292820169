#include "support/onnx_fixture.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/onnx/onnx_engine.h"
#include "exec/onnx/ort.h"
#include "support/onnx_write.h"
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka needs what stands above */
#include <cmocka.h>

#define DEADLINE_NS (120 * (int64_t)1000000000)
#define ANSWER_BYTES_MAX ((size_t)256 << 20)

void onnx_fixture_need_runtime(void)
{
    const struct ort *ort;
    struct sl_err err = SL_ERR_INIT;
    if (ort_load(&ort, &err) == SL_OK) return;
    print_message("%s\n", err.text);
    skip();
}

static void keep(struct onnx_answer *answer, const struct engine_event *event)
{
    switch (event->type) {
    case ENGINE_EVENT_TENSORS:
        answer->n_tensor_events++;
        if (tensors_copy(event->tensors, event->n_tensors, &answer->arena, &answer->tensors) ==
            SL_OK)
            answer->n_tensors = event->n_tensors;
        else
            assert_true(sl_mem_fail_hit()); /* a test made it fail */
        break;
    case ENGINE_EVENT_EMBEDDING:
        answer->n_embd = event->n_embd;
        answer->embedding = sl_arena_array(&answer->arena, (size_t)event->n_embd, sizeof(float));
        memcpy(answer->embedding, event->embedding, (size_t)event->n_embd * sizeof(float));
        break;
    case ENGINE_EVENT_DONE:
        answer->n_done_events++;
        answer->finish = event->finish;
        answer->status = event->status;
        if (event->usage) answer->usage = *event->usage;
        (void)snprintf(answer->message, sizeof answer->message, "%s", event->message);
        break;
    default: fail_msg("event %d", (int)event->type);
    }
}

static void on_event(void *ctx, const struct engine_event *event)
{
    struct onnx_fixture *f = ctx;
    assert_true(event->id < ONNX_ANSWERS_MAX);
    assert_int_equal(f->answers[event->id].n_done_events, 0);
    keep(&f->answers[event->id], event);
    if (event->type == ENGINE_EVENT_DONE) f->n_live--;
    if (f->hook) f->hook(f, event);
}

sl_status onnx_fixture_try_open(struct onnx_fixture *f, const char *path, const char *options,
                                struct sl_err *err)
{
    const struct engine_load load = {
        .kind = "onnx", .path = path, .n_threads = 1, .options = options};
    const struct engine_open_cfg cfg = {.on_event = on_event, .ctx = f};
    f->engine = NULL;
    f->n_live = 0;
    f->hook = NULL;
    for (int i = 0; i < ONNX_ANSWERS_MAX; i++) {
        f->answers[i] = (struct onnx_answer){0};
        sl_arena_init(&f->answers[i].arena, ANSWER_BYTES_MAX);
    }
    return onnx_engine_load(&load, &cfg, &f->engine, err);
}

void onnx_fixture_open(struct onnx_fixture *f, const char *path, const char *options)
{
    struct sl_err err = SL_ERR_INIT;
    if (onnx_fixture_try_open(f, path, options, &err) != SL_OK) fail_msg("%s", err.text);
}

void onnx_fixture_close(struct onnx_fixture *f)
{
    engine_unload(f->engine);
    f->engine = NULL;
    for (int i = 0; i < ONNX_ANSWERS_MAX; i++) sl_arena_done(&f->answers[i].arena);
}

void onnx_fixture_submit(struct onnx_fixture *f, uint64_t id, const struct tensor *inputs,
                         size_t n_inputs)
{
    const struct engine_infer req = {.id = id, .inputs = inputs, .n_inputs = n_inputs};
    struct sl_err err = SL_ERR_INIT;
    f->n_live++;
    if (engine_submit_infer(f->engine, &req, &err) != SL_OK) fail_msg("%s", err.text);
}

static void wait_for_work(const struct onnx_fixture *f)
{
    int64_t next_ns = engine_next_ns(f->engine);
    const struct timespec timeout = {.tv_sec = next_ns / 1000000000,
                                     .tv_nsec = next_ns % 1000000000};
    struct pollfd wake = {.fd = engine_wake_fd(f->engine), .events = POLLIN};
    if (next_ns < 0 && wake.fd < 0)
        fail_msg("%d requests are live and nothing is to come", f->n_live);
    (void)ppoll(&wake, 1, next_ns < 0 ? NULL : &timeout, NULL);
}

void onnx_fixture_drive(struct onnx_fixture *f)
{
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (f->n_live > 0) {
        struct sl_err err = SL_ERR_INIT;
        bool idle;
        if (engine_step(f->engine, &idle, &err) != SL_OK) fail_msg("%s", err.text);
        if (sl_now_ns() > end_ns) fail_msg("%d requests do not end", f->n_live);
        if (idle && f->n_live) wait_for_work(f);
    }
}

void onnx_fixture_write(const char *path, const struct sl_buf *bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
    assert_int_equal(fclose(file), 0);
}

void onnx_put_operator(struct sl_buf *graph, const char *op_type, const char *const *inputs,
                       const char *const *outputs, const struct sl_buf *attributes)
{
    struct sl_buf node;
    sl_buf_init(&node, ONNX_WRITE_BYTES_MAX);
    for (; *inputs; inputs++) pb_str(&node, 1, *inputs);
    for (; *outputs; outputs++) pb_str(&node, 2, *outputs);
    pb_str(&node, 4, op_type);
    if (attributes) assert_int_equal(sl_buf_add(&node, attributes->data, attributes->len), SL_OK);
    pb_message(graph, 1, &node);
}

void onnx_put_int_attribute(struct sl_buf *out, const char *name, int64_t value)
{
    struct sl_buf attribute;
    sl_buf_init(&attribute, ONNX_WRITE_BYTES_MAX);
    pb_str(&attribute, 1, name);
    pb_int(&attribute, 3, value);
    pb_int(&attribute, 20, 2); /* the type: INT */
    pb_message(out, 5, &attribute);
}
