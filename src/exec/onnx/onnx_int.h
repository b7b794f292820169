/* onnx_int.h: what the files of the ONNX engine share: requests, the jobs they run in, the engine.
 * Floor: exec/onnx.  Thread: the engine's; a job that runs belongs to the thread that runs it.
 *
 * A request waits in the queue, runs in a job, alone or with others whose tensors have the same
 * shapes but for the first dimension, and ends:
 *
 *     WAITING --> RUNNING --> ENDED          a batch that fails sends its requests back to
 *        ^           |                       WAITING, to run alone, so that one bad request
 *        +-----------+                       does not spoil the others.
 *
 * Invariant: a request is in `live` until its DONE is told; an ended one that a job still uses is
 * freed with the job. */
#pragma once
#include "base/arena.h"
#include "base/idmap.h"
#include "exec/engine.h"
#include "exec/onnx/onnx_encoder.h"
#include "exec/onnx/onnx_options.h"
#include "exec/onnx/onnx_run.h"

struct onnx_pool;

enum onnx_request_state { ONNX_REQUEST_WAITING, ONNX_REQUEST_RUNNING, ONNX_REQUEST_ENDED };

struct onnx_request {
    uint64_t id;
    enum onnx_request_state state;
    struct onnx_request *prev, *next; /* while WAITING */
    struct sl_arena arena;            /* all that it points at */
    struct tensor *inputs; /* in the signature's order, with its names; NULL for a text */
    size_t n_inputs;
    struct engine_hold *hold; /* of data that stay where they were given; NULL: none */
    int32_t *wanted;          /* [n_wanted] outputs, by their places in the signature */
    size_t n_wanted;
    int64_t n_rows; /* of every input; 0: they have no first dimension in common */
    size_t n_bytes; /* of the inputs, or what they will take */
    bool alone;     /* not to be run with others */
    bool is_text;
    struct onnx_text text;
    enum engine_pooling pooling; /* of a text */
    bool normalize;
    int64_t submit_ns;
};

/* One run, of one or more requests. */
struct onnx_job {
    struct onnx_run run;
    struct sl_err err; /* of the run */
    int64_t n_rows;
    _Atomic int64_t start_ns; /* 0: it waits for a thread */
    int64_t end_ns;
    size_t n_requests;
    struct onnx_request *requests[]; /* [engine's batch_max] */
};

struct onnx_engine {
    struct onnx_model *model;
    struct onnx_encoder *encoder; /* NULL: no tokenizer stands beside the model */
    struct onnx_options options;
    engine_event_fn on_event;
    void *event_ctx;
    struct sl_idmap live;
    struct onnx_request *first_waiting, *last_waiting;
    int32_t n_waiting, n_running; /* requests */
    int32_t n_jobs;               /* in the pool */
    size_t waiting_bytes;
    int32_t batch_max, queue_max;
    struct onnx_pool *pool; /* NULL with one instance */
    struct onnx_job **jobs; /* [jobs_max] those in the pool */
    /* In the pool at once: those that run, and one more for each thread, so that a thread that is
     * done goes on at once. */
    int32_t jobs_max;
    struct engine_stats stats;
    uint64_t n_params;     /* elements of the stored tensors */
    const char *main_type; /* that of most of their bytes: "FP32" */
};

extern const struct engine_ops onnx_ops;

/* onnx_request.c */

/* NOMEM. */
SL_CHECK sl_status onnx_request_infer(const struct onnx_engine *engine,
                                      const struct engine_infer *req, struct onnx_request **out,
                                      struct sl_err *err);
SL_CHECK sl_status onnx_request_embed(const struct onnx_engine *engine,
                                      const struct engine_embed *req, struct onnx_request **out,
                                      struct sl_err *err);
void onnx_request_destroy(struct onnx_request *request); /* NULL is fine */

/* onnx_batch.c */

/* A job of the first waiting request and those that can share its run, taken from the queue; *out
 * stays NULL while the first should wait for more, or when none waits. NOMEM: the first waits. */
SL_CHECK sl_status onnx_batch_form(struct onnx_engine *engine, int64_t now_ns,
                                   struct onnx_job **out, struct sl_err *err);
/* Computes; err in the job says how it went. Any thread. */
void onnx_batch_run(struct onnx_job *job);
/* The part of an output that is the request's, whose rows begin at first_row. False: the output
 * does not have the rows of all inputs. */
bool onnx_batch_part(const struct onnx_job *job, const struct tensor *output, int64_t first_row,
                     int64_t n_rows, struct tensor *out);
void onnx_job_destroy(struct onnx_job *job); /* not its requests */

/* Would nothing be won if the first waiting request waited for more? */
bool onnx_batch_is_full(const struct onnx_engine *engine);
/* When the first waiting request is due to run: its time in the queue is up, or its batch full. */
int64_t onnx_batch_due_ns(const struct onnx_engine *engine);

void onnx_queue_append(struct onnx_engine *engine, struct onnx_request *request);
void onnx_queue_prepend(struct onnx_engine *engine, struct onnx_request *request);
void onnx_queue_remove(struct onnx_engine *engine, struct onnx_request *request);

/* onnx_finish.c */

/* Tells DONE; the request is the caller's to destroy, or its job's. */
void onnx_finish_request(struct onnx_engine *engine, struct onnx_request *request,
                         enum engine_finish how, const struct sl_err *err,
                         const struct onnx_job *job);
/* Tells what the job's requests get and destroys it, or sends them back to run alone. */
void onnx_finish_job(struct onnx_engine *engine, struct onnx_job *job);
