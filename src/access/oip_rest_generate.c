/* oip_rest_generate.c: POST /v2/models/NAME/generate and generate_stream, Triton's extension for
 * language models: {"text_input", "parameters"} to {"text_output"}. */
#include "access/generation.h"
#include "access/oip.h"
#include "access/oip_rest.h"
#include "access/sampling.h"
#include <string.h>

#define MAX_TOKENS_DEFAULT 16 /* as of /v1/completions */

/* --- the answer --- */

static void put_head(struct sl_json *json, const struct generation *g, const char *text, size_t n)
{
    const char *version = g->request.shape_data;
    sl_json_object(json);
    sl_json_kv_str(json, "model_name", g->request.model);
    if (*version) sl_json_kv_str(json, "model_version", version);
    sl_json_key(json, "text_output");
    sl_json_strn(json, n ? text : "", n);
}

static sl_status put_piece(struct generation *g, const char *text, size_t n, const char *finish)
{
    struct sl_json json;
    sl_status status = sl_buf_adds(&g->out, "data: ");
    if (status != SL_OK) return status;
    sl_json_begin(&json, &g->out, false);
    put_head(&json, g, text, n);
    if (finish) sl_json_kv_str(&json, "finish_reason", finish);
    sl_json_object_end(&json);
    status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_adds(&g->out, "\n\n") : status;
}

static sl_status begin(struct generation *g)
{
    (void)g;
    return SL_OK;
}

static sl_status piece(struct generation_choice *choice, const struct chat_event *event)
{
    return put_piece(choice->generation, event->text, event->n_text, NULL);
}

static sl_status choice_end(struct generation_choice *choice)
{
    return put_piece(choice->generation, "", 0, generation_finish(choice));
}

/* Triton's streams end with their last piece. */
static sl_status end(struct generation *g)
{
    (void)g;
    return SL_OK;
}

static sl_status error(struct generation *g, int http_status, const char *message)
{
    sl_status status = sl_buf_adds(&g->out, "data: ");
    if (status == SL_OK)
        status = call_error_json(g->call, http_status, NULL, NULL, message, &g->out);
    return status == SL_OK ? sl_buf_adds(&g->out, "\n\n") : status;
}

static sl_status whole(struct generation *g)
{
    const struct generation_choice *choice = &g->choices[0];
    struct sl_json json;
    sl_json_begin(&json, &g->out, false);
    put_head(&json, g, choice->content.data, choice->content.len);
    sl_json_kv_str(&json, "finish_reason", generation_finish(choice));
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static const struct generation_shape SHAPE = {
    .stream_type = "text/event-stream",
    .ping = ": ping\n\n",
    .begin = begin,
    .piece = piece,
    .choice_end = choice_end,
    .end = end,
    .error = error,
    .whole = whole,
};

/* --- the request --- */

/* Fields stand beside text_input or, as in Triton's examples, in "parameters". False: the call has
 * failed. */
static bool read_sampling(struct call *call, const struct node_model *model, struct sampling *out)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena *arena = call_arena(call);
    const struct sl_json_value *params = sl_json_get(call->body, "parameters");
    const char *param = NULL;
    sampling_init(out, model->parameters, arena);
    sl_status status = sampling_read_openai(out, params, arena, &param, &err);
    bool ignore_end = out->ignore_end;
    if (status == SL_OK) status = sampling_read_openai(out, call->body, arena, &param, &err);
    if (status != SL_OK) {
        call_fail_err(call, &err, param);
        return false;
    }
    out->ignore_end = out->ignore_end || ignore_end;
    out->n_choices = 1;
    if (!out->max_tokens) out->max_tokens = MAX_TOKENS_DEFAULT;
    return true;
}

/* Is it a model of text? False: the call has failed. */
static bool check_kind(struct call *call, const struct node_model *model)
{
    bool tensors = model->info && model->info->signature.n_outputs;
    if (!tensors && !(model->format && !strcmp(model->format, "onnx"))) return true;
    call_fail(call, SL_INVALID, "model", "unsupported_by_model",
              "this model takes tensors, not text: use its infer path");
    return false;
}

/* Of one request; in the call's arena. */
struct texts {
    char name[OIP_NAME_SIZE], version[STORE_NAME_SIZE];
    struct sampling sampling;
    struct node_submit submit;
};

/* Reads and admits. False: the call has failed. */
static bool read_texts(struct call *call, const struct oip_path *path, struct texts *t)
{
    struct sl_err err = SL_ERR_INIT;
    struct node_model model;
    size_t n = 0, n_base;
    if (oip_store_name(path->model, path->version, t->name, &err) != SL_OK) {
        call_fail_err(call, &err, "model");
        return false;
    }
    if (!call_read_json(call) || !call_find_model(call, t->name, &model) ||
        !check_kind(call, &model) || !read_sampling(call, &model, &t->sampling))
        return false;
    const char *text = sl_json_to_str(sl_json_get(call->body, "text_input"), NULL, &n);
    if (!text) {
        call_fail(call, SL_INVALID, "text_input", NULL, "text_input: a text is needed here");
        return false;
    }
    strcpy(t->version, oip_version_of(model.name, &n_base));
    t->submit = (struct node_submit){.model = t->name,
                                     .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
                                     .prompt = NODE_PROMPT_TEXT,
                                     .text = text,
                                     .n_text = n,
                                     .parse_special = true};
    sampling_fill_submit(&t->sampling, &t->submit);
    return call_admit(call, t->name, call_tokens_guess(call));
}

void oip_rest_generate(struct call *call, const struct oip_path *path, bool stream)
{
    struct texts *t = sl_arena_alloc(call_arena(call), sizeof *t);
    if (!t) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    if (!read_texts(call, path, t)) return;
    const struct generation_request request = {.shape = &SHAPE,
                                               .submits = &t->submit,
                                               .n_submits = 1,
                                               .stream = stream,
                                               .model = path->model,
                                               .shape_data = t->version};
    generation_start(call, &request);
}
