/* ollama_show.c: POST /api/show. */
#include "access/ollama_int.h"
#include "exec/chat/chat_template.h"
#include "exec/llm/gguf.h"
#include "grid/grid_msg.h"
#include "grid/store.h"
#include "grid/store_details.h"
#include <stdio.h>
#include <string.h>

#define SHOW_MAX CALL_BODY_MAX
#define PARAMETERS_MAX (256u << 10)
#define ARRAY_ITEMS_MAX 16 /* of longer arrays an empty one is shown, unless "verbose" asks */
#define KEY_TEMPLATE "tokenizer.chat_template"
#define KEY_SIZE 256

struct show {
    struct store_model stored;
    struct gguf_file *file;    /* NULL: the model has another format */
    const char *chat_template; /* Jinja; NULL: none */
    size_t n_chat_template;
    struct sl_buf parameters, modelfile;
    bool verbose;
};

/* --- finding it --- */

/* A model that was given by its path has no name in the store: the node knows where it is. */
static sl_status find_unstored(struct call *call, const char *name, struct store_model *out,
                               struct sl_err *err)
{
    struct node_model model;
    sl_status status = grid_model_find(call->gateway->cfg.grid, name, &model, err);
    if (status != SL_OK) return status;
    *out = (struct store_model){.modified_ms = call->gateway->started_ms, .local = true};
    snprintf(out->name, sizeof out->name, "%s", model.name);
    if (model.card) { /* another member of the grid has its file */
        out->modified_ms = model.card->modified_ms;
        ollama_card_details(model.card, &out->details);
        return SL_OK;
    }
    if (*model.path != '/') return sl_err_set(err, SL_NOT_FOUND, "%s has no file", model.name);
    snprintf(out->path, sizeof out->path, "%s", model.path);
    snprintf(out->details.format, sizeof out->details.format, "%s",
             model.format ? model.format : "gguf");
    return SL_OK;
}

static sl_status find(struct call *call, const char *name, struct show *show, struct sl_err *err)
{
    struct gguf_str text;
    struct sl_err absent = SL_ERR_INIT;
    sl_status status = store_find(call->gateway->cfg.store, name, &show->stored, err);
    if (status == SL_NOT_FOUND) status = find_unstored(call, name, &show->stored, err);
    if (status != SL_OK) return status;
    if (strcmp(show->stored.details.format, "gguf") != 0 || !*show->stored.path) return SL_OK;
    status = gguf_open(show->stored.path, &show->file, err);
    if (status != SL_OK) return status;
    if (show->stored.local) store_details_read(show->file, &show->stored.details);
    show->chat_template = show->stored.chat_template;
    if (show->chat_template) {
        show->n_chat_template = strlen(show->chat_template);
    } else if (gguf_get_str(show->file, KEY_TEMPLATE, &text, &absent) == SL_OK) {
        show->chat_template = text.s;
        show->n_chat_template = text.len;
    }
    return SL_OK;
}

/* --- what `ollama show` prints --- */

static sl_status put_parameter(struct sl_buf *out, const char *prefix, const char *key,
                               const struct sl_json_value *value)
{
    struct sl_json json;
    sl_status status = sl_buf_addf(out, "%s%s%-30s ", out->len ? "\n" : "", prefix, key);
    if (status != SL_OK) return status;
    sl_json_begin(&json, out, false);
    sl_json_put(&json, value);
    return sl_json_end(&json);
}

/* A line for each parameter, and for each item of a list: `stop "</s>"`. */
static sl_status put_parameters(const char *text, const char *prefix, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_json_value *object = NULL;
    const struct sl_json_value *value;
    void *iter = NULL;
    const char *key;
    size_t n_key;
    if (!text) return SL_OK;
    sl_status status = sl_json_parse(text, strlen(text), &object, &err);
    while (status == SL_OK && sl_json_next(object, &iter, &key, &n_key, &value)) {
        size_t n = sl_json_size(value);
        if (!sl_json_is(value, SL_JSON_ARRAY)) status = put_parameter(out, prefix, key, value);
        for (size_t i = 0; i < n && status == SL_OK; i++)
            status = put_parameter(out, prefix, key, sl_json_at(value, i));
    }
    sl_json_free(object);
    return status;
}

static sl_status put_modelfile(struct show *show)
{
    const struct store_model *stored = &show->stored;
    struct sl_buf *out = &show->modelfile;
    sl_status status = sl_buf_addf(out,
                                   "# Made by starlane; the template is Jinja, not Go's.\n"
                                   "FROM %s",
                                   stored->name);
    if (status == SL_OK && show->chat_template) {
        status = sl_buf_adds(out, "\nTEMPLATE \"\"\"");
        if (status == SL_OK) status = sl_buf_add(out, show->chat_template, show->n_chat_template);
        if (status == SL_OK) status = sl_buf_adds(out, "\"\"\"");
    }
    if (status == SL_OK && stored->system)
        status = sl_buf_addf(out, "\nSYSTEM \"\"\"%s\"\"\"", stored->system);
    if (status == SL_OK) status = put_parameters(stored->parameters, "PARAMETER ", out);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

/* --- model_info --- */

static void put_element(struct sl_json *json, const struct gguf_kv *kv, uint64_t i)
{
    int64_t whole;
    double real;
    if (kv->type == GGUF_STRING)
        sl_json_strn(json, kv->strs[i].s, kv->strs[i].len);
    else if (kv->type == GGUF_BOOL)
        sl_json_bool(json, kv->raw[i] != 0);
    else if (kv->type != GGUF_F32 && kv->type != GGUF_F64 && gguf_kv_i64(kv, i, &whole))
        sl_json_int(json, whole);
    else if (gguf_kv_f64(kv, i, &real))
        sl_json_num(json, real);
    else
        sl_json_null(json);
}

static void put_value(struct sl_json *json, const struct gguf_kv *kv, bool verbose)
{
    if (!kv->is_array) {
        put_element(json, kv, 0);
        return;
    }
    sl_json_array(json);
    for (uint64_t i = 0; i < kv->n && (verbose || kv->n <= ARRAY_ITEMS_MAX); i++)
        put_element(json, kv, i);
    sl_json_array_end(json);
}

static void put_model_info(struct sl_json *json, const struct show *show)
{
    sl_json_key(json, "model_info");
    sl_json_object(json);
    for (size_t i = 0; i < gguf_n_kvs(show->file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(show->file, i);
        if (kv->key.len == strlen(KEY_TEMPLATE) && !memcmp(kv->key.s, KEY_TEMPLATE, kv->key.len))
            continue; /* it stands in "template" */
        sl_json_keyn(json, kv->key.s, kv->key.len);
        put_value(json, kv, show->verbose);
    }
    if (!gguf_find(show->file, "general.parameter_count"))
        sl_json_kv_int(json, "general.parameter_count", (int64_t)show->stored.details.n_params);
    sl_json_object_end(json);
}

/* Ollama's clients read these two of every model. */
/* Of a model whose file is none of ours to open: on tensors, or on another member of the grid. */
static bool is_text_elsewhere(const struct show *show)
{
    return !show->file && !strcmp(show->stored.details.format, "gguf");
}

static void put_info_of_details(struct sl_json *json, const struct show *show)
{
    const struct store_details *details = &show->stored.details;
    char key[STORE_WORD_SIZE + sizeof ".context_length"];
    sl_json_key(json, "model_info");
    sl_json_object(json);
    sl_json_kv_str(json, "general.architecture",
                   is_text_elsewhere(show) ? details->family : details->format);
    if (details->n_params)
        sl_json_kv_int(json, "general.parameter_count", (int64_t)details->n_params);
    if (is_text_elsewhere(show)) {
        snprintf(key, sizeof key, "%s.context_length", details->family);
        sl_json_kv_int(json, key, (int64_t)details->context_length);
    }
    sl_json_object_end(json);
}

/* --- capabilities --- */

/* A file that says how to pool is of a model that was made for embeddings. */
static bool embeds(const struct show *show)
{
    char key[STORE_WORD_SIZE + sizeof ".pooling_type"];
    snprintf(key, sizeof key, "%s.pooling_type", show->stored.details.family);
    return gguf_find(show->file, key) != NULL;
}

/* A model of tensors with a tokenizer beside it is an encoder; Ollama has no word for others. */
static void put_capabilities_of_details(struct sl_json *json, const struct show *show)
{
    sl_json_key(json, "capabilities");
    sl_json_array(json);
    if (is_text_elsewhere(show)) sl_json_str(json, "completion");
    for (size_t i = 0; i < show->stored.n_layers; i++)
        if (!strcmp(show->stored.layers[i].role, "tokenizer")) sl_json_str(json, "embedding");
    sl_json_array_end(json);
}

static void put_capabilities(struct sl_json *json, const struct show *show)
{
    struct chat_traits traits = {0};
    struct chat_template *chat_template = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (show->chat_template && chat_template_create(show->chat_template, show->n_chat_template,
                                                    NULL, NULL, &chat_template, &err) == SL_OK)
        chat_template_traits(chat_template, &traits);
    chat_template_destroy(chat_template);
    sl_json_key(json, "capabilities");
    sl_json_array(json);
    sl_json_str(json, embeds(show) ? "embedding" : "completion");
    if (traits.tools != CHAT_TOOLS_NONE) sl_json_str(json, "tools");
    if (traits.thinks || traits.tools == CHAT_TOOLS_HARMONY) sl_json_str(json, "thinking");
    sl_json_array_end(json);
}

/* --- the answer --- */

static void put_texts(struct sl_json *json, const struct show *show)
{
    const struct store_model *stored = &show->stored;
    const char *old = stored->ollama_template ? stored->ollama_template : "";
    if (stored->licence) sl_json_kv_str(json, "license", stored->licence);
    sl_json_key(json, "modelfile");
    sl_json_strn(json, show->modelfile.data, show->modelfile.len);
    sl_json_key(json, "parameters");
    sl_json_strn(json, show->parameters.data, show->parameters.len);
    sl_json_key(json, "template");
    if (show->chat_template)
        sl_json_strn(json, show->chat_template, show->n_chat_template);
    else
        sl_json_str(json, old);
    if (stored->system) sl_json_kv_str(json, "system", stored->system);
}

static sl_status write_answer(struct show *show, struct sl_buf *out)
{
    char modified[OLLAMA_TIME_SIZE];
    struct sl_json json;
    sl_status status = put_modelfile(show);
    if (status == SL_OK) status = put_parameters(show->stored.parameters, "", &show->parameters);
    if (status != SL_OK) return status;
    ollama_time_text(show->stored.modified_ms * 1000000, modified);
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    put_texts(&json, show);
    ollama_put_details(&json, &show->stored.details);
    if (show->file) {
        put_model_info(&json, show);
        put_capabilities(&json, show);
    } else {
        put_info_of_details(&json, show);
        put_capabilities_of_details(&json, show);
    }
    sl_json_kv_str(&json, "modified_at", modified);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

void ollama_show(struct call *call)
{
    struct show show = {0};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf body;
    if (!call_read_json(call)) return;
    const char *name = ollama_need_model(call);
    if (!name) return;
    if (!call_allows(call, name)) {
        call_fail(call, SL_DENIED, "model", NULL, "this key may not use that model");
        return;
    }
    show.verbose = sl_json_to_bool(sl_json_get(call->body, "verbose"), false);
    sl_buf_init(&body, SHOW_MAX);
    sl_buf_init(&show.parameters, PARAMETERS_MAX);
    sl_buf_init(&show.modelfile, SHOW_MAX);
    if (find(call, name, &show, &err) == SL_OK)
        call_respond_json(call, 200, &body, write_answer(&show, &body));
    else
        call_fail_node(call, err.status, err.text, 0);
    sl_buf_done(&show.modelfile);
    sl_buf_done(&show.parameters);
    sl_buf_done(&body);
    gguf_close(show.file);
    store_model_done(&show.stored);
}
