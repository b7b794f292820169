#include "cli/talk.h"
#include "access/sampling.h"
#include "base/clock.h"
#include "cli/client_ask.h"
#include "cli/model_path.h"
#include <string.h>
#include <sys/random.h>

#define NAME_BYTES_MAX 8192
#define VARIABLES_BYTES_MAX (256u << 20) /* a conversation at its limit, every byte escaped */
#define SAMPLING_BYTES_MAX (1u << 20)    /* stop strings of a model's parameters */

static uint64_t choose_seed(int64_t given)
{
    uint64_t seed = 0;
    if (given != TALK_SEED_RANDOM) return (uint64_t)given;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = (uint64_t)sl_now_ns();
    return seed >> 12; /* a number that JSON readers keep exactly */
}

/* --- where --- */

/* Options that say how the engine runs mean the one in this process. */
static bool wants_engine(const struct talk_options *o)
{
    return o->threads || o->ctx || o->batch || o->stages != 1 || o->gpu_layers != -1 || o->kv ||
           o->repeat_last_n >= 0;
}

/* {"model":...} to /api/show. Only Jinja can be run: what has no {% in it is in Go's language. */
static sl_status ask_for_template(struct talk *talk, struct sl_err *err)
{
    struct sl_json_value *shown = NULL;
    struct sl_json json;
    struct sl_buf body;
    sl_buf_init(&body, NAME_BYTES_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", talk->model);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    if (status == SL_OK)
        status = client_call(talk->client, "/api/show", &body, &shown, err);
    else
        (void)sl_err_set(err, status, "the model's name: %s", sl_status_text(status));
    sl_buf_done(&body);
    if (status != SL_OK) return status;
    const char *source = sl_json_to_str(sl_json_get(shown, "template"), "", NULL);
    /* Ollama's own templates, in Go's language, have neither. */
    talk->has_template = strstr(source, "{%") || strstr(source, "messages");
    sl_json_free(shown);
    return SL_OK;
}

/* Does the server have the model, and does the model chat? One without a file to show, or a name
 * that the store could hold, does: whoever runs it has the template. */
static sl_status ask_for_model(struct talk *talk, struct sl_err *err)
{
    struct sl_json_value *model = NULL;
    struct sl_buf path;
    sl_status status = ask_for_template(talk, err);
    if (status != SL_NOT_FOUND && status != SL_INVALID) return status;
    sl_buf_init(&path, 3 * NAME_BYTES_MAX);
    status = sl_buf_adds(&path, "/v1/models/");
    if (status == SL_OK) status = client_escape(talk->model, &path);
    if (status == SL_OK)
        status = client_call(talk->client, path.data, NULL, &model, err);
    else
        (void)sl_err_set(err, status, "the model's name: %s", sl_status_text(status));
    talk->has_template = status == SL_OK;
    sl_json_free(model);
    sl_buf_done(&path);
    return status;
}

/* *found: a server will answer. One that nobody named and that cannot is none. */
static sl_status find_server(struct talk *talk, bool *found, struct sl_err *err)
{
    const struct talk_options *o = talk->o;
    const struct client_cfg cfg = {o->server, o->api_key, talk->stop};
    bool is_path = talk->model[0] == '/' || talk->model[0] == '.';
    *found = false;
    if (o->server && (o->local || wants_engine(o)))
        return sl_err_set(err, SL_INVALID,
                          "--server leaves the engine's options (--local, --ctx, --threads, ...) "
                          "to the server");
    if (o->local || wants_engine(o) || (is_path && !o->server)) return SL_OK;
    sl_status status = client_create(&cfg, &talk->client, err);
    if (status != SL_OK) return status;
    bool named = client_is_named(talk->client);
    status = client_find(talk->client, err);
    if (status == SL_OK) status = ask_for_model(talk, err);
    *found = status == SL_OK;
    if (*found || named || status == SL_CANCELLED) return status;
    client_destroy(talk->client);
    talk->client = NULL;
    return SL_OK;
}

/* What the store's manifest says of the file that was found by this name. */
static void find_manifest(struct talk *talk)
{
    struct store *store;
    struct store_model *model = &talk->manifest;
    if (talk->model[0] == '/' || talk->model[0] == '.') return;
    if (model_store_open(&store, NULL) != SL_OK) return;
    if (store_find(store, talk->model, model, NULL) != SL_OK) *model = (struct store_model){0};
    store_close(store);
    if (model->parameters && sl_json_parse(model->parameters, strlen(model->parameters),
                                           &talk->parameters, NULL) != SL_OK)
        talk->parameters = NULL;
}

sl_status talk_find(struct talk *talk, const struct talk_options *o, const char *model,
                    const volatile sig_atomic_t *stop, struct sl_err *err)
{
    bool on_server;
    talk->o = o;
    talk->model = model;
    talk->stop = stop;
    talk->generator.stop = stop;
    talk->seed = choose_seed(o->seed);
    talk->view.hide_reasoning = o->hide_thinking;
    sl_status status = find_server(talk, &on_server, err);
    if (status != SL_OK || on_server) return status;
    status = model_path_find(model, talk->path, err);
    if (status == SL_OK) find_manifest(talk);
    return status;
}

sl_status talk_load(struct talk *talk, struct sl_err *err)
{
    const struct talk_options *o = talk->o;
    struct llm_engine_cfg cfg;
    struct engine_info info;
    if (talk->client) return SL_OK;
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = (int32_t)o->threads;
    cfg.n_ctx = (int32_t)o->ctx;
    cfg.n_batch = (int32_t)o->batch;
    cfg.n_stages = (int32_t)o->stages;
    cfg.gpu_layers = (int32_t)o->gpu_layers;
    cfg.kv_type = (enum llm_kv_type)o->kv;
    cfg.n_seqs_max = 1;
    sl_status status = generator_load(&talk->generator, talk->path, &cfg, err);
    if (status != SL_OK) return status;
    engine_info(talk->generator.engine, &info);
    talk->has_template = info.chat_template || talk->manifest.chat_template;
    return SL_OK;
}

void talk_done(struct talk *talk)
{
    generator_unload(&talk->generator);
    client_destroy(talk->client);
    sl_json_free(talk->parameters);
    store_model_done(&talk->manifest);
    talk->client = NULL;
    talk->parameters = NULL;
}

int32_t talk_n_ctx(const struct talk *talk)
{
    return talk->client ? 0 : llm_engine_n_ctx(talk->generator.engine);
}

/* --- asking the engine --- */

static void fill_sampling(const struct talk *talk, struct sampling *out, struct sl_arena *arena)
{
    const struct talk_options *o = talk->o;
    struct sampler_cfg *sampler = &out->sampler;
    sampling_init(out, talk->parameters, arena);
    if (o->temp >= 0) sampler->temp = (float)o->temp;
    if (o->top_k >= 0) sampler->top_k = (int32_t)o->top_k;
    if (o->top_p >= 0) sampler->top_p = (float)o->top_p;
    if (o->min_p >= 0) sampler->min_p = (float)o->min_p;
    if (o->repeat_penalty > 0) sampler->repeat_penalty = (float)o->repeat_penalty;
    if (o->repeat_last_n >= 0) sampler->repeat_last_n = (int32_t)o->repeat_last_n;
    sampler->seed = talk->seed;
    if (o->max_tokens) out->max_tokens = (int32_t)o->max_tokens;
    if (!o->stop) return;
    out->stop = &o->stop;
    out->n_stop = 1;
}

static sl_status write_variables(const struct talk *talk, const struct chat_history *history,
                                 struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_bool(&json, "add_generation_prompt", true);
    if (talk->o->think || talk->o->no_think)
        sl_json_kv_bool(&json, "enable_thinking", talk->o->think);
    sl_json_key(&json, "messages");
    chat_history_put(history, talk->manifest.system, &json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status ask_chat(struct talk *talk, const struct chat_history *history,
                          const struct engine_generate *request, struct answer *answer,
                          struct sl_err *err)
{
    struct generator *g = &talk->generator;
    struct sl_buf variables;
    sl_status status = SL_OK;
    if (!g->prompter.engine) status = generator_load_template(g, talk->manifest.chat_template, err);
    if (status != SL_OK) return status;
    sl_buf_init(&variables, VARIABLES_BYTES_MAX);
    status = write_variables(talk, history, &variables);
    if (status == SL_OK)
        status = generator_chat(g, request, &variables, answer, err);
    else
        (void)sl_err_set(err, status, "the conversation: %s", sl_status_text(status));
    sl_buf_done(&variables);
    return status;
}

static sl_status ask_engine(struct talk *talk, const struct question *question,
                            struct answer *answer, struct sl_err *err)
{
    struct sampling sampling;
    struct sl_arena arena;
    sl_status status;
    sl_arena_init(&arena, SAMPLING_BYTES_MAX);
    fill_sampling(talk, &sampling, &arena);
    struct engine_generate request = {.id = 1,
                                      .max_tokens = sampling.max_tokens,
                                      .ignore_end = talk->o->ignore_end,
                                      .sampler = &sampling.sampler,
                                      .stop = sampling.stop,
                                      .n_stop = sampling.n_stop};
    if (question->history) {
        status = ask_chat(talk, question->history, &request, answer, err);
    } else {
        request.text = question->text;
        request.n_text = question->n;
        if (!request.max_tokens) request.max_tokens = TALK_CONTINUE_TOKENS;
        status = generator_run(&talk->generator, &request, answer, err);
    }
    sl_arena_done(&arena);
    return status;
}

sl_status talk_ask(struct talk *talk, const struct question *question, struct answer *answer,
                   struct sl_err *err)
{
    return talk->client ? client_ask(talk, question, answer, err)
                        : ask_engine(talk, question, answer, err);
}
