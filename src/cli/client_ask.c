#include "cli/client_ask.h"
#include "base/clock.h"
#include <string.h>

#define BODY_BYTES_MAX (256u << 20) /* a prompt at its limit, every byte escaped */

static void put_sampling(struct sl_json *json, const struct talk *talk, bool is_chat)
{
    const struct talk_options *o = talk->o;
    int64_t max_tokens = o->max_tokens ? o->max_tokens : is_chat ? 0 : TALK_CONTINUE_TOKENS;
    if (max_tokens) sl_json_kv_int(json, "max_tokens", max_tokens);
    if (o->temp >= 0) sl_json_kv_num(json, "temperature", o->temp);
    if (o->top_p >= 0) sl_json_kv_num(json, "top_p", o->top_p);
    if (o->top_k >= 0) sl_json_kv_int(json, "top_k", o->top_k);
    if (o->min_p >= 0) sl_json_kv_num(json, "min_p", o->min_p);
    if (o->repeat_penalty > 0) sl_json_kv_num(json, "repetition_penalty", o->repeat_penalty);
    if (o->stop) sl_json_kv_str(json, "stop", o->stop);
    if (o->ignore_end) sl_json_kv_bool(json, "ignore_eos", true);
    sl_json_kv_int(json, "seed", (int64_t)talk->seed);
}

static void put_thinking(struct sl_json *json, const struct talk_options *o)
{
    if (!o->think && !o->no_think) return;
    sl_json_key(json, "chat_template_kwargs");
    sl_json_object(json);
    sl_json_kv_bool(json, "enable_thinking", o->think);
    sl_json_object_end(json);
}

static sl_status write_body(const struct talk *talk, const struct question *question,
                            struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", talk->model);
    sl_json_kv_bool(&json, "stream", true);
    sl_json_key(&json, "stream_options");
    sl_json_object(&json);
    sl_json_kv_bool(&json, "include_usage", true);
    sl_json_object_end(&json);
    put_sampling(&json, talk, question->history != NULL);
    if (question->history) {
        put_thinking(&json, talk->o);
        sl_json_key(&json, "messages");
        chat_history_put(question->history, NULL, &json);
    } else {
        sl_json_key(&json, "prompt");
        sl_json_strn(&json, question->text, question->n);
    }
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static void take_usage(struct answer *answer, const struct sl_json_value *usage)
{
    const struct sl_json_value *details = sl_json_get(usage, "prompt_tokens_details");
    if (!sl_json_is(usage, SL_JSON_OBJECT)) return;
    answer->usage.n_prompt = (int32_t)sl_json_to_int(sl_json_get(usage, "prompt_tokens"), 0);
    answer->usage.n_cached = (int32_t)sl_json_to_int(sl_json_get(details, "cached_tokens"), 0);
    answer->usage.n_generated = (int32_t)sl_json_to_int(sl_json_get(usage, "completion_tokens"), 0);
}

static void take_choice(struct answer *answer, const struct sl_json_value *choice)
{
    const struct sl_json_value *delta = sl_json_get(choice, "delta");
    const char *finish = sl_json_to_str(sl_json_get(choice, "finish_reason"), NULL, NULL);
    size_t n;
    const char *text = sl_json_to_str(sl_json_get(delta, "reasoning_content"), NULL, &n);
    if (text) answer_add_reasoning(answer, text, n);
    text = sl_json_to_str(sl_json_get(delta ? delta : choice, delta ? "content" : "text"), "", &n);
    answer_add_text(answer, text, n);
    if (finish)
        answer->finish = strcmp(finish, "length") == 0 ? ENGINE_FINISH_LENGTH : ENGINE_FINISH_STOP;
}

bool client_take_chunk(struct answer *answer, const char *data, size_t n)
{
    struct sl_json_value *chunk = NULL;
    if (sl_json_parse(data, n, &chunk, NULL) != SL_OK) return false;
    size_t before = answer->text.len + answer->reasoning.len;
    const struct sl_json_value *choices = sl_json_get(chunk, "choices");
    if (sl_json_size(choices)) take_choice(answer, sl_json_at(choices, 0));
    take_usage(answer, sl_json_get(chunk, "usage"));
    int64_t now_ns = sl_now_ns();
    bool has_text = answer->text.len + answer->reasoning.len > before;
    if (has_text && !answer->first_token_at_ns) {
        answer->first_token_at_ns = now_ns;
        answer->usage.first_token_ns = answer->usage.prefill_ns = now_ns - answer->begin_ns;
    }
    if (has_text) answer->usage.decode_ns = now_ns - answer->first_token_at_ns;
    sl_json_free(chunk);
    return true;
}

static bool on_event(void *ctx, const char *data, size_t n)
{
    struct answer *answer = ctx;
    if (!client_take_chunk(answer, data, n))
        answer_fail(answer, SL_UNAVAILABLE, "the server sent what is no JSON");
    return answer->failure.status == SL_OK && !answer->reader_gone;
}

sl_status client_ask(const struct talk *talk, const struct question *question,
                     struct answer *answer, struct sl_err *err)
{
    const char *path = question->history ? "/v1/chat/completions" : "/v1/completions";
    struct sl_buf body;
    sl_buf_init(&body, BODY_BYTES_MAX);
    sl_status status = write_body(talk, question, &body);
    if (status == SL_OK)
        status = client_stream(talk->client, path, &body, on_event, answer, err);
    else
        (void)sl_err_set(err, status, "the prompt: %s", sl_status_text(status));
    sl_buf_done(&body);
    answer_end(answer);
    if (status == SL_CANCELLED && talk->stop && *talk->stop) {
        answer->finish = ENGINE_FINISH_CANCELLED;
        status = SL_OK;
    }
    if (status == SL_OK && answer->failure.status != SL_OK)
        status = sl_err_set(err, answer->failure.status, "%s", answer->failure.text);
    return status;
}
