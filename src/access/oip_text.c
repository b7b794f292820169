/* oip_text.c: language models in the Open Inference Protocol: text_input to text_output, drawn as
 * POST /v1/completions draws it. */
#include "access/oip_int.h"
#include "access/sampling.h"
#include "base/clock.h"
#include "base/mem.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MAX_TOKENS_DEFAULT 16           /* as of /v1/completions */
#define OPTIONS_MAX (1u << 20)          /* of what drawing takes, as JSON: stop strings */
#define TEXT_MAX (TENSOR_BYTES_MAX / 2) /* of an answer: with its length it fits a tensor */

static const struct tensor_spec INPUTS[] = {{"text_input", TENSOR_BYTES, 1, {1}, false}};
static const struct tensor_spec OUTPUTS[] = {{"text_output", TENSOR_BYTES, 1, {1}, false},
                                             {"finish_reason", TENSOR_BYTES, 1, {1}, true},
                                             {"prompt_tokens", TENSOR_INT32, 1, {1}, true},
                                             {"completion_tokens", TENSOR_INT32, 1, {1}, true}};
#define N_OUTPUTS (sizeof OUTPUTS / sizeof OUTPUTS[0])

const struct tensor_signature OIP_TEXT_SIGNATURE = {INPUTS, OUTPUTS, 1, 1};

/* Beside text_input; each is a parameter too. */
const struct tensor_spec OIP_TEXT_EXTRAS[] = {
    {"max_tokens", TENSOR_INT32, 1, {1}, true},
    {"temperature", TENSOR_FP32, 1, {1}, true},
    {"top_p", TENSOR_FP32, 1, {1}, true},
    {"top_k", TENSOR_INT32, 1, {1}, true},
    {"min_p", TENSOR_FP32, 1, {1}, true},
    {"repetition_penalty", TENSOR_FP32, 1, {1}, true},
    {"presence_penalty", TENSOR_FP32, 1, {1}, true},
    {"frequency_penalty", TENSOR_FP32, 1, {1}, true},
    {"seed", TENSOR_INT64, 1, {1}, true},
    {"stop", TENSOR_BYTES, 1, {-1}, true},
    {"ignore_eos", TENSOR_BOOL, 1, {1}, true},
    {"chat", TENSOR_BOOL, 1, {1}, true},
    {"stream", TENSOR_BOOL, 1, {1}, true}, /* read by the faces that can */
};
const size_t OIP_TEXT_N_EXTRAS = sizeof OIP_TEXT_EXTRAS / sizeof OIP_TEXT_EXTRAS[0];

struct oip_text {
    struct sl_buf options;        /* JSON object of inputs and parameters */
    struct sl_json_value *values; /* it, parsed */
    struct sampling sampling;     /* from it */
    struct sl_buf prompt;         /* variables of the chat template */
    struct sl_buf text;           /* of the answer, or of the next piece, after its length */
    struct sl_buf finish;         /* as an element of BYTES */
    int32_t n_prompt, n_generated;
    int64_t last_token_ns;
    enum engine_finish end;
};

void oip_text_free(struct oip_text *text)
{
    if (!text) return;
    sl_json_free(text->values);
    sl_buf_done(&text->options);
    sl_buf_done(&text->prompt);
    sl_buf_done(&text->text);
    sl_buf_done(&text->finish);
    sl_free(text);
}

/* --- the request --- */

/* The elements of BYTES, as a list. tensor_check has seen that they are whole. */
static void put_texts(struct sl_json *json, const struct tensor *tensor)
{
    const unsigned char *p = tensor->data, *end = p + tensor->n_bytes;
    sl_json_array(json);
    while (p < end) {
        uint32_t n = oip_element_length(p);
        sl_json_strn(json, (const char *)p + OIP_LENGTH_BYTES, n);
        p += OIP_LENGTH_BYTES + n;
    }
    sl_json_array_end(json);
}

static int64_t integer_of(const struct tensor *tensor)
{
    unsigned char bytes[8] = {0};
    int64_t value;
    size_t size = tensor_type_size(tensor->type);
    memcpy(bytes, tensor->data, size);
    bool is_signed = tensor->type >= TENSOR_INT8 && tensor->type <= TENSOR_INT64;
    if (is_signed && bytes[size - 1] & 0x80) memset(bytes + size, 0xff, sizeof bytes - size);
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* The one element of a tensor, or the list of its texts. False: it has no such form. */
static bool put_input(struct sl_json *json, const struct tensor *tensor)
{
    float f;
    double d;
    if (tensor->type == TENSOR_BYTES) {
        put_texts(json, tensor);
        return true;
    }
    if (tensor->n_bytes != tensor_type_size(tensor->type)) return false;
    switch (tensor->type) {
    case TENSOR_BOOL: sl_json_bool(json, *(const char *)tensor->data != 0); return true;
    case TENSOR_FP32:
        memcpy(&f, tensor->data, sizeof f);
        sl_json_num(json, (double)f);
        return true;
    case TENSOR_FP64:
        memcpy(&d, tensor->data, sizeof d);
        sl_json_num(json, d);
        return true;
    case TENSOR_FP16:
    case TENSOR_BF16: return false;
    default: sl_json_int(json, integer_of(tensor)); return true;
    }
}

static void put_param(struct sl_json *json, const struct oip_param *param)
{
    switch (param->type) {
    case OIP_PARAM_BOOL: sl_json_bool(json, param->flag); break;
    case OIP_PARAM_INT: sl_json_int(json, param->integer); break;
    case OIP_PARAM_NUM: sl_json_num(json, param->number); break;
    case OIP_PARAM_STR: sl_json_strn(json, param->text, param->n_text); break;
    }
}

static bool is_extra(const char *name)
{
    for (size_t i = 0; i < OIP_TEXT_N_EXTRAS; i++)
        if (!strcmp(OIP_TEXT_EXTRAS[i].name, name)) return true;
    return false;
}

/* {"max_tokens": ..., ...} of the parameters and, over them, the inputs. */
static sl_status write_options(const struct oip_infer *infer, struct sl_buf *out,
                               struct sl_err *err)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    for (size_t i = 0; i < infer->n_params; i++) {
        if (!is_extra(infer->params[i].name)) continue;
        sl_json_key(&json, infer->params[i].name);
        put_param(&json, &infer->params[i]);
    }
    for (size_t i = 0; i < infer->n_inputs; i++) {
        const struct tensor *input = &infer->inputs[i];
        if (!strcmp(input->name, "text_input")) continue;
        if (!is_extra(input->name))
            return sl_err_set(err, SL_INVALID, "input \"%.100s\": the model takes no such input",
                              input->name);
        sl_json_key(&json, input->name);
        if (!put_input(&json, input))
            return sl_err_set(err, SL_INVALID, "input \"%s\": one element is needed, not %s",
                              input->name, tensor_type_name(input->type));
    }
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "the options are too large");
}

/* The one text of text_input; NULL with err set. */
static const char *read_prompt(const struct oip_infer *infer, size_t *out_n, struct sl_err *err)
{
    const struct tensor *input = oip_input(infer, "text_input");
    if (!input) {
        sl_err_set(err, SL_INVALID, "input \"text_input\" is missing");
    } else if (input->type != TENSOR_BYTES) {
        sl_err_set(err, SL_INVALID, "input \"text_input\": %s where the model takes BYTES",
                   tensor_type_name(input->type));
    } else if (input->n_bytes < OIP_LENGTH_BYTES ||
               (*out_n = oip_element_length(input->data)) + OIP_LENGTH_BYTES != input->n_bytes) {
        sl_err_set(err, SL_INVALID, "input \"text_input\": one text is needed");
    } else {
        return (const char *)input->data + OIP_LENGTH_BYTES;
    }
    return NULL;
}

static sl_status check_outputs(const struct oip_infer *infer, struct sl_err *err)
{
    for (size_t i = 0; i < infer->n_outputs; i++)
        if (tensor_spec_find(OUTPUTS, N_OUTPUTS, infer->outputs[i]) < 0)
            return sl_err_set(err, SL_INVALID, "output \"%.100s\": the model has no such output",
                              infer->outputs[i]);
    return SL_OK;
}

/* {"messages":[{"role":"user",...}],"add_generation_prompt":true} */
static sl_status write_chat(const char *text, size_t n, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_key(&json, "messages");
    sl_json_array(&json);
    sl_json_object(&json);
    sl_json_kv_str(&json, "role", "user");
    sl_json_key(&json, "content");
    sl_json_strn(&json, text, n);
    sl_json_object_end(&json);
    sl_json_array_end(&json);
    sl_json_kv_bool(&json, "add_generation_prompt", true);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* How it is to be drawn, from inputs and parameters over the model's defaults. */
static sl_status read_sampling(struct oip_run *run, const struct node_model *model,
                               struct sl_err *err)
{
    struct oip_text *text = run->text;
    struct sampling *out = &text->sampling;
    struct sl_arena *arena = call_arena(run->call);
    const char *param = NULL;
    sl_status status = write_options(&run->infer, &text->options, err);
    if (status == SL_OK)
        status = sl_json_parse(text->options.data, text->options.len, &text->values, err);
    if (status != SL_OK) return status;
    sampling_init(out, model->parameters, arena);
    status = sampling_read_openai(out, text->values, arena, &param, err);
    if (!out->max_tokens && !sl_json_to_bool(sl_json_get(text->values, "chat"), false))
        out->max_tokens = MAX_TOKENS_DEFAULT;
    out->n_choices = 1;
    return status;
}

/* --- the answer --- */

static void set_length(struct sl_buf *element)
{
    size_t n = element->len - OIP_LENGTH_BYTES;
    for (int i = 0; i < OIP_LENGTH_BYTES; i++) element->data[i] = (char)(n >> 8 * i);
}

static sl_status begin_element(struct sl_buf *element)
{
    sl_buf_clear(element);
    return sl_buf_add(element, "\0\0\0\0", OIP_LENGTH_BYTES);
}

static struct tensor bytes_tensor(const struct oip_run *run, const char *name,
                                  struct sl_buf *element)
{
    const struct tensor *input = oip_input(&run->infer, "text_input");
    struct tensor tensor = *input; /* its shape: [1], or [1,1] from who sends batches */
    set_length(element);
    tensor.name = name;
    tensor.data = element->data;
    tensor.n_bytes = element->len;
    return tensor;
}

/* The outputs that were asked for, in that order. */
static size_t make_outputs(struct oip_run *run, bool is_last, struct tensor out[N_OUTPUTS])
{
    struct oip_text *text = run->text;
    struct tensor all[N_OUTPUTS] = {
        bytes_tensor(run, "text_output", &text->text),
        bytes_tensor(run, "finish_reason", &text->finish),
        {"prompt_tokens", TENSOR_INT32, 1, {1}, &text->n_prompt, sizeof text->n_prompt},
        {"completion_tokens", TENSOR_INT32, 1, {1}, &text->n_generated, sizeof text->n_generated},
    };
    size_t n_all = is_last ? N_OUTPUTS : 1, n = 0;
    if (!run->infer.n_outputs) {
        out[0] = all[0];
        return 1;
    }
    for (size_t i = 0; i < run->infer.n_outputs && n < N_OUTPUTS; i++) {
        int32_t at = tensor_spec_find(OUTPUTS, N_OUTPUTS, run->infer.outputs[i]);
        if (at >= 0 && (size_t)at < n_all) out[n++] = all[at];
    }
    return n;
}

/* False: the call has failed. */
static bool put(struct oip_run *run, bool is_last)
{
    struct tensor outputs[N_OUTPUTS];
    size_t n = make_outputs(run, is_last, outputs);
    return (!n && !is_last) || oip_run_put(run, outputs, n, is_last);
}

static void no_room(struct oip_run *run)
{
    if (run->request) grid_cancel(run->request);
    run->request = NULL;
    call_fail(run->call, SL_NOMEM, NULL, NULL, "the answer does not fit into memory");
}

static void on_token(struct oip_run *run, const struct node_event *event)
{
    struct oip_text *text = run->text;
    int64_t now = sl_now_ns();
    if (text->last_token_ns)
        metrics_observe(run->call->metrics, METRICS_ITL, now - text->last_token_ns);
    text->last_token_ns = now;
    text->n_generated++;
    if (sl_buf_add(&text->text, event->text, event->n_text) != SL_OK) {
        no_room(run);
        return;
    }
    if (!run->infer.face->streams || !event->n_text) return;
    if (put(run, false) && begin_element(&text->text) != SL_OK) no_room(run);
}

static void on_choice_done(struct oip_run *run, const struct node_event *event)
{
    struct oip_text *text = run->text;
    text->end = event->finish;
    text->n_generated = event->n_generated;
    if (sl_buf_add(&text->text, event->text, event->n_text) != SL_OK ||
        sl_buf_adds(&text->finish, engine_finish_name(event->finish)) != SL_OK)
        no_room(run);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct oip_run *run = ctx;
    switch (event->type) {
    case NODE_EVENT_STARTED: run->text->n_prompt = event->n_prompt; break;
    case NODE_EVENT_TOKEN: on_token(run, event); break;
    case NODE_EVENT_CHOICE_DONE: on_choice_done(run, event); break;
    case NODE_EVENT_DONE:
        run->request = NULL;
        if (put(run, true))
            oip_run_end(run, event,
                        run->text->end == ENGINE_FINISH_LENGTH ? METRICS_END_LENGTH
                                                               : METRICS_END_STOP,
                        engine_finish_name(run->text->end));
        break;
    case NODE_EVENT_FAILED: oip_run_fail(run, event); break;
    default: break;
    }
}

/* The client has gone: what was computed counts. */
static void on_gone(struct call *call)
{
    struct oip_run *run = call->work;
    call->row.prompt_tokens = run->text->n_prompt;
    call->row.completion_tokens = run->text->n_generated;
    if (run->request) grid_cancel(run->request);
    run->request = NULL;
}

/* --- start --- */

static sl_status text_create(struct oip_text **out, struct sl_err *err)
{
    struct oip_text *text = sl_calloc(1, sizeof *text);
    if (!text) return sl_err_set(err, SL_NOMEM, "no memory for this request");
    sl_buf_init(&text->options, OPTIONS_MAX);
    sl_buf_init(&text->prompt, CALL_VARIABLES_MAX);
    sl_buf_init(&text->text, TEXT_MAX);
    sl_buf_init(&text->finish, OPTIONS_MAX);
    *out = text;
    if (begin_element(&text->text) != SL_OK || begin_element(&text->finish) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for this request");
    return SL_OK;
}

static sl_status plan(struct oip_run *run, const struct node_model *model,
                      struct node_submit *submit, struct sl_err *err)
{
    size_t n = 0;
    const char *prompt = read_prompt(&run->infer, &n, err);
    if (!prompt) return err->status;
    sl_status status = check_outputs(&run->infer, err);
    if (status == SL_OK) status = text_create(&run->text, err);
    if (status == SL_OK) status = read_sampling(run, model, err);
    if (status != SL_OK) return status;
    bool chat = sl_json_to_bool(sl_json_get(run->text->values, "chat"), false);
    if (chat && write_chat(prompt, n, &run->text->prompt) != SL_OK)
        return sl_err_set(err, SL_NOMEM, "no memory for this request");
    *submit = (struct node_submit){.model = run->name,
                                   .qos = run->call->qos,
                                   .tenant = call_tenant(run->call),
                                   .request_id = run->call->id,
                                   .queue_timeout_ns = oip_queue_timeout_ns(run),
                                   .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
                                   .prompt = chat ? NODE_PROMPT_CHAT : NODE_PROMPT_TEXT,
                                   .text = chat ? run->text->prompt.data : prompt,
                                   .n_text = chat ? run->text->prompt.len : n,
                                   .parse_special = true};
    sampling_fill_submit(&run->text->sampling, submit);
    return SL_OK;
}

void oip_text_start(struct oip_run *run, const struct node_model *model)
{
    struct call *call = run->call;
    struct sl_err err = SL_ERR_INIT;
    struct node_submit submit;
    int64_t retry_after_ms = 0;
    sl_status status = plan(run, model, &submit, &err);
    if (status != SL_OK) {
        call_fail_err(call, &err, NULL);
        return;
    }
    run->n_rows = 1;
    call->on_gone = on_gone;
    status = grid_submit(call->gateway->cfg.grid, &submit, on_event, run, &run->request,
                         &retry_after_ms, &err);
    if (status != SL_OK) call_fail_node(call, status, err.text, retry_after_ms);
}
