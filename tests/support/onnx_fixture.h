/* onnx_fixture.h: an ONNX engine for tests: opened, driven until all requests have ended, with what
 * each of them got. Thread: one. A call that fails where it should not fails the test. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "exec/engine.h"
#include "exec/engine_open.h"

#define ONNX_ANSWERS_MAX 256

struct onnx_answer {
    int n_tensor_events, n_done_events;
    enum engine_finish finish;
    sl_status status;
    char message[SL_ERR_TEXT_MAX];
    struct sl_arena arena;
    struct tensor *tensors;
    size_t n_tensors;
    float *embedding;
    int32_t n_embd;
    struct engine_usage usage;
};

struct onnx_fixture {
    struct engine *engine;
    struct onnx_answer answers[ONNX_ANSWERS_MAX]; /* by the request's id */
    int n_live;
    /* Set by a test: called with every event, after it is kept. */
    void (*hook)(struct onnx_fixture *f, const struct engine_event *event);
};

/* Skips the test where no ONNX Runtime is to be had. */
void onnx_fixture_need_runtime(void);

SL_CHECK sl_status onnx_fixture_try_open(struct onnx_fixture *f, const char *path,
                                         const char *options, struct sl_err *err);
void onnx_fixture_open(struct onnx_fixture *f, const char *path, const char *options);
/* Unloads; the answers are freed. */
void onnx_fixture_close(struct onnx_fixture *f);

/* Submits with all outputs wanted. */
void onnx_fixture_submit(struct onnx_fixture *f, uint64_t id, const struct tensor *inputs,
                         size_t n_inputs);
/* Steps, and waits as the worker does, until every request has its DONE. */
void onnx_fixture_drive(struct onnx_fixture *f);

/* A file in the test's folder (temp_dir.h). */
void onnx_fixture_write(const char *path, const struct sl_buf *bytes);

/* NodeProto with names of inputs and outputs, a NULL ending each list; `attributes` (fields 5 of
 * the node) NULL: none. */
void onnx_put_operator(struct sl_buf *graph, const char *op_type, const char *const *inputs,
                       const char *const *outputs, const struct sl_buf *attributes);
/* AttributeProto with an integer, for onnx_put_operator. */
void onnx_put_int_attribute(struct sl_buf *out, const char *name, int64_t value);
