/* oip_grpc_stream.c: ModelStreamInfer: many requests on one stream, each a call of its own,
 * answered as they are done. Triton's clients tell them apart by their ids. */
#include "access/grpc.h"
#include "access/oip_grpc.h"
#include "access/oip_message.h"
#include "base/mem.h"
#include <string.h>

#define RUNNING_MAX 64                                  /* of one stream; then it is not read on */
#define RUNNING_BYTES_MAX NODE_TENSOR_REQUEST_BYTES_MAX /* of their messages, likewise */

struct infer_stream {
    struct call *call;
    struct stream_request *first;
    size_t n_running, n_bytes;
    bool entering; /* a request is being started: what it does must not end the stream */
    bool draining;
};

/* The carrier of a child. */
struct stream_request {
    struct infer_stream *stream; /* NULL: the stream has ended */
    struct gateway *gateway;
    struct call *call;
    struct oip_message message;
    uint8_t *bytes; /* that it was read from */
    size_t n_bytes;
    struct stream_request *next, *previous;
};

/* --- one request --- */

static void unlink_request(struct stream_request *r)
{
    struct infer_stream *stream = r->stream;
    if (!stream) return;
    if (r->previous)
        r->previous->next = r->next;
    else
        stream->first = r->next;
    if (r->next) r->next->previous = r->previous;
    stream->n_running--;
    stream->n_bytes -= r->n_bytes;
    r->stream = NULL;
}

static void request_free(void *carrier)
{
    struct stream_request *r = carrier;
    unlink_request(r);
    r->gateway->n_grpc_in_bytes -= r->n_bytes;
    oip_message_done(&r->message);
    sl_free(r->bytes);
    sl_free(r);
}

/* Reads on, or not, or ends the stream, whatever has changed. It may be gone afterwards. */
static void settle(struct infer_stream *stream)
{
    struct call *call = stream->call;
    bool full = stream->n_running >= RUNNING_MAX || stream->n_bytes >= RUNNING_BYTES_MAX ||
                grpc_is_full(call);
    if (stream->entering) return;
    if (!stream->n_running && stream->draining)
        grpc_end(call, GRPC_UNAVAILABLE, "the server is going down");
    else if (!stream->n_running && grpc_is_all_in(call))
        grpc_end(call, 0, NULL);
    else
        grpc_pause(call, full || stream->draining);
}

static void end_request(struct stream_request *r)
{
    struct infer_stream *stream = r->stream;
    call_free(r->call);
    if (stream) settle(stream);
}

static void request_failed(struct call *call)
{
    struct stream_request *r = call->carrier;
    struct sl_buf out;
    size_t mark;
    const char *id = r->message.infer.id ? r->message.infer.id : "";
    sl_buf_init(&out, GRPC_SMALL_MAX);
    if (r->stream && grpc_frame_begin(&out, &mark) == SL_OK &&
        oip_message_put_error(&out, id, call->body_out.data) == SL_OK &&
        grpc_frame_end(&out, mark) == SL_OK)
        (void)!grpc_send(r->stream->call, out.data, out.len);
    sl_buf_done(&out);
    end_request(r);
}

/* --- answers --- */

static sl_status put_answer(struct oip_run *run, const struct oip_answer *answer,
                            struct sl_err *err)
{
    struct stream_request *r = run->infer.data;
    size_t mark;
    sl_status status = grpc_frame_begin(&run->out, &mark);
    if (status == SL_OK) status = oip_message_put_streamed(&run->out, answer);
    if (status == SL_OK) status = grpc_frame_end(&run->out, mark);
    if (status == SL_OK && !answer->is_last && r->stream)
        status = grpc_send(r->stream->call, run->out.data, run->out.len);
    if (status != SL_OK) return sl_err_set(err, status, "the answer does not fit into memory");
    if (!answer->is_last) sl_buf_clear(&run->out);
    return SL_OK;
}

static void send_answer(struct oip_run *run)
{
    struct stream_request *r = run->infer.data;
    sl_status status = SL_OK;
    if (r->stream) status = grpc_send(r->stream->call, run->out.data, run->out.len);
    if (status == SL_OK)
        end_request(r);
    else
        call_fail(run->call, status, NULL, NULL, "the client does not take its answers");
}

static const struct oip_face whole_face = {.put = put_answer, .send = send_answer};
static const struct oip_face pieces_face = {
    .put = put_answer, .send = send_answer, .streams = true};

/* As Triton's vLLM backend is asked for pieces of text: by an input or parameter "stream". */
static bool wants_pieces(const struct oip_infer *infer)
{
    for (size_t i = 0; i < infer->n_params; i++)
        if (!strcmp(infer->params[i].name, "stream") && infer->params[i].flag) return true;
    for (size_t i = 0; i < infer->n_inputs; i++) {
        const struct tensor *input = &infer->inputs[i];
        if (!strcmp(input->name, "stream") && input->type == TENSOR_BOOL && input->n_bytes)
            return *(const uint8_t *)input->data != 0;
    }
    return false;
}

/* --- the stream --- */

static struct stream_request *request_create(struct infer_stream *stream, const uint8_t *bytes,
                                             size_t n)
{
    struct stream_request *r = sl_calloc(1, sizeof *r);
    if (!r) return NULL;
    r->gateway = stream->call->gateway;
    oip_message_init(&r->message);
    r->bytes = (uint8_t *)sl_memdup(bytes, n);
    r->call = r->bytes ? call_fork(stream->call) : NULL;
    if (!r->call) {
        request_free(r);
        return NULL;
    }
    r->call->carrier = r;
    r->call->free_carrier = request_free;
    r->call->on_fail = request_failed;
    r->stream = stream;
    r->n_bytes = n;
    r->gateway->n_grpc_in_bytes += n;
    r->next = stream->first;
    if (r->next) r->next->previous = r;
    stream->first = r;
    stream->n_running++;
    stream->n_bytes += n;
    return r;
}

static void start(struct stream_request *r)
{
    struct sl_err err = SL_ERR_INIT;
    struct oip_infer *infer = &r->message.infer;
    sl_status status = SL_OK;
    if (r->gateway->n_grpc_in_bytes > GRPC_IN_ALL_MAX)
        status = sl_err_set(&err, SL_BUSY, "too many requests hold tensors; try again");
    if (status == SL_OK) status = oip_message_read(&r->message, r->bytes, r->n_bytes, &err);
    if (status != SL_OK) {
        call_fail_err(r->call, &err, NULL);
        return;
    }
    if (!call_authenticate(r->call)) return;
    infer->face = wants_pieces(infer) ? &pieces_face : &whole_face;
    infer->data = r;
    oip_infer_start(r->call, infer);
}

static void on_message(struct call *call, const uint8_t *bytes, size_t n)
{
    struct infer_stream *stream = call->work;
    struct stream_request *r = request_create(stream, bytes, n);
    if (!r) {
        call->on_gone(call);
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    stream->entering = true;
    start(r);
    stream->entering = false;
    settle(stream);
}

static void on_gone(struct call *call)
{
    struct infer_stream *stream = call->work;
    while (stream->first) {
        struct stream_request *r = stream->first;
        unlink_request(r);
        call_abort(r->call);
    }
}

static void on_change(struct call *call)
{
    settle(call->work);
}

static void on_drain(struct call *call)
{
    struct infer_stream *stream = call->work;
    stream->draining = true;
    settle(stream);
}

static void stream_free(void *work)
{
    struct infer_stream *stream = work;
    while (stream->first) unlink_request(stream->first);
    sl_free(stream);
}

void oip_grpc_model_stream_infer(struct call *call)
{
    static const struct grpc_stream functions = {
        .on_message = on_message, .on_end = on_change, .on_drain = on_drain, .on_room = on_change};
    struct infer_stream *stream = sl_calloc(1, sizeof *stream);
    if (!stream) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    stream->call = call;
    call->work = stream;
    call->free_work = stream_free;
    call->on_gone = on_gone;
    grpc_stream(call, &functions);
}
