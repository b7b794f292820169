/* oip_run.c: one inference: admitted, checked, given to the node, its tensors to the face. */
#include "access/oip_int.h"
#include "base/mem.h"
#include <string.h>

#define NS_PER_US INT64_C(1000)

/* --- life --- */

void oip_run_free(void *work)
{
    struct oip_run *run = work;
    if (run->infer.face->done) run->infer.face->done(run->infer.data);
    oip_text_free(run->text);
    sl_buf_done(&run->out);
    sl_free(run);
}

static void on_gone(struct call *call)
{
    struct oip_run *run = call->work;
    if (run->request) grid_cancel(run->request);
    run->request = NULL;
}

bool oip_run_put(struct oip_run *run, const struct tensor *tensors, size_t n, bool is_last)
{
    struct sl_err err = SL_ERR_INIT;
    struct call *call = run->call;
    const struct oip_answer answer = {.model = run->infer.model,
                                      .version = run->version,
                                      .id = run->infer.id ? run->infer.id : "",
                                      .tensors = tensors,
                                      .n_tensors = n,
                                      .is_last = is_last};
    metrics_count(call->metrics, METRICS_INFER_OUTPUT_BYTES, tensors_bytes(tensors, n));
    run->is_put = is_last;
    sl_status status = run->infer.face->put(run, &answer, &err);
    if (status == SL_OK) return true;
    if (run->request) grid_cancel(run->request);
    run->request = NULL;
    call_fail(call, status, NULL, NULL, err.text);
    return false;
}

static void send_answer(struct call *call)
{
    struct oip_run *run = call->work;
    if (call->row_failed)
        call_fail(call, SL_UNAVAILABLE, NULL, "usage_not_stored",
                  "the usage of this request could not be stored");
    else
        run->infer.face->send(run);
}

void oip_run_end(struct oip_run *run, const struct node_event *event, enum metrics_end end,
                 const char *finish)
{
    struct call *call = run->call;
    run->request = NULL;
    run->queue_ns = event->queue_ns;
    call->end = end;
    metrics_count(call->metrics, METRICS_INFER_REQUESTS, 1);
    metrics_count(call->metrics, METRICS_INFER_ROWS, (uint64_t)run->n_rows);
    metrics_count(call->metrics, METRICS_INFER_INPUT_BYTES,
                  tensors_bytes(run->infer.inputs, run->infer.n_inputs));
    call_note(call, event, finish, 200);
    call_commit(call, send_answer);
}

void oip_run_fail(struct oip_run *run, const struct node_event *event)
{
    struct call *call = run->call;
    run->request = NULL;
    call_note(call, event, "error", sl_status_http(event->status));
    /* Of a text, a limit is that of the context; of tensors, the request is too large. */
    if (event->status == SL_LIMIT && !run->text)
        call_fail(call, SL_LIMIT, NULL, NULL, event->message);
    else
        call_fail_node(call, event->status, event->message, event->retry_after_ms);
}

/* --- tensors --- */

static void on_tensors(void *ctx, const struct node_event *event)
{
    struct oip_run *run = ctx;
    if (event->type == NODE_EVENT_RESULT) {
        run->n_rows = event->n_rows;
        oip_run_put(run, event->tensors, event->n_tensors, true);
    } else if (event->type == NODE_EVENT_DONE && run->is_put) {
        oip_run_end(run, event, METRICS_END_STOP, "stop");
    } else if (event->type == NODE_EVENT_DONE) {
        run->request = NULL;
        call_fail(run->call, SL_INTERNAL, NULL, NULL, "the model gave no tensors");
    } else if (event->type == NODE_EVENT_FAILED) {
        oip_run_fail(run, event);
    }
}

static void start_tensors(struct oip_run *run)
{
    struct call *call = run->call;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    const struct node_submit submit = {.task = NODE_INFER,
                                       .model = run->name,
                                       .qos = call->qos,
                                       .tenant = call_tenant(call),
                                       .request_id = call->id,
                                       .queue_timeout_ns = oip_queue_timeout_ns(run),
                                       .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
                                       .inputs = run->infer.inputs,
                                       .n_inputs = run->infer.n_inputs,
                                       .outputs = run->infer.outputs,
                                       .n_outputs = run->infer.n_outputs,
                                       .inputs_stay = true};
    sl_status status = grid_submit(call->gateway->cfg.grid, &submit, on_tensors, run, &run->request,
                                   &retry_after_ms, &err);
    if (status == SL_LIMIT)
        call_fail_err(call, &err, NULL);
    else if (status != SL_OK)
        call_fail_node(call, status, err.text, retry_after_ms);
}

/* --- the request --- */

int64_t oip_queue_timeout_ns(const struct oip_run *run)
{
    const struct oip_param *timeout = oip_param(&run->infer, "timeout");
    int64_t by_param = 0;
    if (timeout && timeout->type == OIP_PARAM_INT && timeout->integer > 0)
        by_param = timeout->integer < INT64_MAX / NS_PER_US ? timeout->integer * NS_PER_US
                                                            : SCHED_NEVER - 1;
    const int64_t all[] = {by_param, run->infer.queue_timeout_ns, call_queue_timeout_ns(run->call)};
    int64_t shortest = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] > 0 && (!shortest || all[i] < shortest)) shortest = all[i];
    return shortest;
}

/* False: the call has failed. */
static bool read_params(struct oip_run *run)
{
    struct call *call = run->call;
    const struct oip_param *priority = oip_param(&run->infer, "priority");
    const struct oip_param *timeout = oip_param(&run->infer, "timeout");
    const struct oip_param *sequence = oip_param(&run->infer, "sequence_id");
    const char *wrong = NULL;
    if (priority && (priority->type != OIP_PARAM_INT || priority->integer < 0))
        wrong = "parameter priority: a whole number from 0 is needed";
    else if (timeout && (timeout->type != OIP_PARAM_INT || timeout->integer < 0))
        wrong = "parameter timeout: a whole number of microseconds is needed";
    else if (sequence && (sequence->integer || sequence->n_text))
        wrong = "parameter sequence_id: models here keep no state between requests";
    if (wrong) {
        call_fail(call, SL_INVALID, NULL, NULL, wrong);
        return false;
    }
    if (priority && priority->integer)
        call->qos = priority->integer == 1   ? SCHED_INTERACTIVE
                    : priority->integer == 2 ? SCHED_STANDARD
                                             : SCHED_BATCH;
    return true;
}

/* False: the call has failed. */
static bool check_tensors(struct oip_run *run)
{
    struct sl_err err = SL_ERR_INIT;
    const struct oip_infer *infer = &run->infer;
    sl_status status = SL_OK;
    if (infer->n_inputs > TENSORS_MAX || infer->n_outputs > TENSORS_MAX)
        status = sl_err_set(&err, SL_INVALID, "more than %d inputs or outputs", TENSORS_MAX);
    else if (tensors_bytes(infer->inputs, infer->n_inputs) > TENSOR_BYTES_MAX)
        status = sl_err_set(&err, SL_LIMIT, "the inputs hold more than %u MiB",
                            (unsigned)(TENSOR_BYTES_MAX >> 20));
    for (size_t i = 0; i < infer->n_inputs && status == SL_OK; i++) {
        status = tensor_check(&infer->inputs[i], &err);
        if (status == SL_LIMIT) err.status = SL_INVALID; /* a shape, not what was sent */
        if (status != SL_OK) sl_err_prefix(&err, "input \"%.100s\"", infer->inputs[i].name);
    }
    if (status != SL_OK) call_fail_err(run->call, &err, NULL);
    return status == SL_OK;
}

/* An encoder takes texts beside its own inputs, and so does every language model; the scripted
 * engine answers whatever it is asked. */
static enum oip_kind kind_of(const struct oip_infer *infer, const struct node_model *model)
{
    const struct engine_info *info = model->info;
    if (oip_is_echo(model) && oip_input(infer, "text_input")) return OIP_KIND_TEXT;
    if (oip_input(infer, "text") && info && info->embeds &&
        tensor_spec_find(info->signature.inputs, info->signature.n_inputs, "text") < 0)
        return OIP_KIND_VECTORS;
    return oip_kind_of(model);
}

/* Asked before the request waits for its turn. */
static sl_status check_signature(const struct oip_infer *infer, const struct node_model *model,
                                 struct sl_err *err)
{
    if (!model->info || oip_is_echo(model)) return SL_OK;
    return tensor_signature_check(&model->info->signature, infer->inputs, infer->n_inputs,
                                  infer->outputs, infer->n_outputs, err);
}

/* The model is known, so it is known what its requests are made of. */
static void start_kind(struct oip_run *run, const struct node_model *model)
{
    struct sl_err err = SL_ERR_INIT;
    switch (kind_of(&run->infer, model)) {
    case OIP_KIND_TEXT: oip_text_start(run, model); break;
    case OIP_KIND_VECTORS: oip_vectors_start(run); break;
    case OIP_KIND_TENSORS:
        if (check_signature(&run->infer, model, &err) == SL_OK)
            start_tensors(run);
        else
            call_fail_err(run->call, &err, NULL);
        break;
    }
}

static void start_known(struct oip_run *run)
{
    struct node_model model;
    if (call_find_model(run->call, run->name, &model)) start_kind(run, &model);
}

/* The model that was loaded to know what it takes. */
static void on_loaded(void *ctx, const struct node_event *event)
{
    struct oip_run *run = ctx;
    if (event->type == NODE_EVENT_DONE) {
        run->request = NULL;
        start_known(run);
    } else if (event->type == NODE_EVENT_FAILED) {
        oip_run_fail(run, event);
    }
}

static void load(struct oip_run *run)
{
    struct call *call = run->call;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    const struct node_submit submit = {.task = NODE_LOAD,
                                       .model = run->name,
                                       .qos = call->qos,
                                       .tenant = call_tenant(call),
                                       .request_id = call->id,
                                       .queue_timeout_ns = oip_queue_timeout_ns(run),
                                       .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT};
    sl_status status = grid_submit(call->gateway->cfg.grid, &submit, on_loaded, run, &run->request,
                                   &retry_after_ms, &err);
    if (status != SL_OK) call_fail_node(call, status, err.text, retry_after_ms);
}

/* A guess at the tokens of what texts there are, for quotas; tensors have none. */
static int64_t tokens_guess(const struct oip_run *run)
{
    const struct tensor *text = oip_input(&run->infer, "text_input");
    if (!text) text = oip_input(&run->infer, "text");
    return text ? (int64_t)text->n_bytes / 4 + 1 : 0;
}

static void begin(struct oip_run *run)
{
    struct call *call = run->call;
    struct sl_err err = SL_ERR_INIT;
    struct node_model model;
    size_t n_base;
    if (oip_store_name(run->infer.model, run->infer.version, run->name, &err) != SL_OK) {
        call_fail_err(call, &err, "model");
        return;
    }
    if (!read_params(run) || !call_admit(call, run->name, tokens_guess(run)) ||
        !check_tensors(run) || !call_find_model(call, run->name, &model))
        return;
    strcpy(run->version, oip_version_of(model.name, &n_base));
    if (model.info || oip_is_echo(&model))
        start_kind(run, &model);
    else
        load(run);
}

void oip_infer_start(struct call *call, const struct oip_infer *infer)
{
    struct oip_run *run = sl_calloc(1, sizeof *run);
    if (!run) {
        if (infer->face->done) infer->face->done(infer->data);
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    run->call = call;
    run->infer = *infer;
    sl_buf_init(&run->out, OIP_OUT_MAX);
    call->work = run;
    call->free_work = oip_run_free;
    call->on_gone = on_gone;
    begin(run);
}
