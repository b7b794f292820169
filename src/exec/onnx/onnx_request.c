#include "exec/onnx/onnx_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

/* Copies align each tensor, and there are a thousand at most; the rest is names and shapes. */
#define REQUEST_ARENA_BYTES_MAX ((size_t)TENSOR_BYTES_MAX + (4u << 20))

static struct onnx_request *create(uint64_t id, struct sl_err *err)
{
    struct onnx_request *request = sl_calloc(1, sizeof *request);
    if (!request) {
        (void)sl_err_set(err, SL_NOMEM, "request");
        return NULL;
    }
    request->id = id;
    request->submit_ns = sl_now_ns();
    sl_arena_init(&request->arena, REQUEST_ARENA_BYTES_MAX);
    return request;
}

void onnx_request_destroy(struct onnx_request *request)
{
    if (!request) return;
    if (request->hold) request->hold->release(request->hold);
    sl_arena_done(&request->arena);
    sl_free(request);
}

/* The inputs in the signature's order and with its very names, so that requests are quick to
 * compare; their data are copied, unless they stay. */
static sl_status copy_inputs(const struct tensor_signature *signature,
                             const struct engine_infer *req, struct onnx_request *request)
{
    struct tensor *ordered = sl_arena_array(&request->arena, req->n_inputs + 1, sizeof *ordered);
    size_t n = 0;
    if (!ordered) return SL_NOMEM;
    for (size_t i = 0; i < signature->n_inputs && n < req->n_inputs; i++) {
        for (size_t j = 0; j < req->n_inputs; j++) {
            bool stays = req->hold && req->held[j];
            if (strcmp(signature->inputs[i].name, req->inputs[j].name)) continue;
            ordered[n] = req->inputs[j];
            ordered[n].name = signature->inputs[i].name;
            if (!stays && tensor_copy_data(&ordered[n], &request->arena) != SL_OK) return SL_NOMEM;
            n++;
        }
    }
    request->inputs = ordered;
    request->n_inputs = n;
    return SL_OK;
}

static sl_status copy_wanted(const struct tensor_signature *signature,
                             const struct engine_infer *req, struct onnx_request *request)
{
    request->n_wanted = req->n_outputs ? req->n_outputs : signature->n_outputs;
    request->wanted = sl_arena_array(&request->arena, request->n_wanted, sizeof(int32_t));
    if (!request->wanted) return SL_NOMEM;
    for (size_t i = 0; i < request->n_wanted; i++)
        request->wanted[i] =
            req->n_outputs
                ? tensor_spec_find(signature->outputs, signature->n_outputs, req->outputs[i])
                : (int32_t)i;
    return SL_OK;
}

/* A truth value that is neither 0 nor 1 is undefined in the library's language. */
static void settle_bools(struct tensor *inputs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char *p = (unsigned char *)(uintptr_t)inputs[i].data;
        if (inputs[i].type != TENSOR_BOOL) continue;
        for (size_t j = 0; j < inputs[i].n_bytes; j++) p[j] = p[j] != 0;
    }
}

static int64_t common_rows(const struct tensor *inputs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (inputs[i].rank < 1 || inputs[i].shape[0] != inputs[0].shape[0]) return 0;
    return n ? inputs[0].shape[0] : 0;
}

/* Says more of an output that the model has and we cannot give. */
static sl_status check(const struct onnx_engine *engine, const struct engine_infer *req,
                       struct sl_err *err)
{
    for (size_t i = 0; i < req->n_outputs; i++) {
        const char *why = onnx_model_refused(engine->model, req->outputs[i]);
        if (why)
            return sl_err_set(err, SL_INVALID, "output \"%.80s\" cannot be given: %s",
                              req->outputs[i], why);
    }
    sl_status status = tensor_signature_check(onnx_model_signature(engine->model), req->inputs,
                                              req->n_inputs, req->outputs, req->n_outputs, err);
    if (status != SL_OK) return status;
    size_t n_bytes = tensors_bytes(req->inputs, req->n_inputs);
    if (n_bytes <= TENSOR_BYTES_MAX) return SL_OK;
    return sl_err_set(err, SL_LIMIT, "inputs of %zu bytes; at most %u are taken", n_bytes,
                      TENSOR_BYTES_MAX);
}

sl_status onnx_request_infer(const struct onnx_engine *engine, const struct engine_infer *req,
                             struct onnx_request **out, struct sl_err *err)
{
    const struct tensor_signature *signature = onnx_model_signature(engine->model);
    sl_status status = check(engine, req, err);
    if (status != SL_OK) return status;
    struct onnx_request *request = create(req->id, err);
    if (!request) return SL_NOMEM;
    status = copy_inputs(signature, req, request);
    if (status == SL_OK) status = copy_wanted(signature, req, request);
    if (status != SL_OK) {
        onnx_request_destroy(request);
        return sl_err_set(err, status, "no memory for the request's tensors");
    }
    settle_bools(request->inputs, request->n_inputs);
    request->n_rows = common_rows(request->inputs, request->n_inputs);
    request->n_bytes = tensors_bytes(request->inputs, request->n_inputs);
    request->hold = req->hold;
    *out = request;
    return SL_OK;
}

static sl_status encode(const struct onnx_engine *engine, const struct engine_embed *req,
                        struct onnx_request *request, struct sl_err *err)
{
    const struct onnx_encoder *encoder = engine->encoder;
    if (req->tokens)
        return onnx_encoder_take_tokens(encoder, req->tokens, req->n_tokens, &request->arena,
                                        &request->text, err);
    const struct text_input text = {req->text, req->n_text};
    const struct text_input pair = {req->pair, req->n_pair};
    return onnx_encoder_encode(encoder, text, pair, &request->arena, &request->text, err);
}

sl_status onnx_request_embed(const struct onnx_engine *engine, const struct engine_embed *req,
                             struct onnx_request **out, struct sl_err *err)
{
    if (!engine->encoder)
        return sl_err_set(err, SL_UNSUPPORTED,
                          "the model takes no text: no tokenizer.json came with it");
    struct onnx_request *request = create(req->id, err);
    if (!request) return SL_NOMEM;
    request->is_text = true;
    request->n_rows = 1;
    request->normalize = !req->no_normalize && req->pooling != ENGINE_POOLING_RANK;
    request->n_wanted = 1;
    request->wanted = sl_arena_array(&request->arena, 1, sizeof(int32_t));
    sl_status status = request->wanted ? SL_OK : sl_err_set(err, SL_NOMEM, "request");
    if (status == SL_OK)
        status = onnx_encoder_choose(engine->encoder, req->pooling, &request->pooling,
                                     request->wanted, err);
    if (status == SL_OK) status = encode(engine, req, request, err);
    if (status != SL_OK) {
        onnx_request_destroy(request);
        return status;
    }
    request->n_bytes = request->text.n * ONNX_ENCODER_TOKEN_BYTES;
    *out = request;
    return SL_OK;
}
