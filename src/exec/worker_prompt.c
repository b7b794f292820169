#include "exec/worker_prompt.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "exec/chat/chat_template.h"
#include <string.h>

#define TEXT_BYTES_MAX (16u << 20) /* four million tokens: past every context of today */

sl_status worker_prompter_init(struct worker_prompter *prompter, struct engine *engine,
                               const char *source, struct sl_err *err)
{
    *prompter = (struct worker_prompter){.engine = engine};
    sl_buf_init(&prompter->text, TEXT_BYTES_MAX);
    sl_buf_init(&prompter->tokens, (size_t)TEXT_BYTES_MAX * sizeof(int32_t));
    engine_info(engine, &prompter->info);
    const struct engine_info *info = &prompter->info;
    if (!source || !*source) source = info->chat_template;
    if (source && !(prompter->source = sl_strdup(source)))
        return sl_err_set(err, SL_NOMEM, "chat template");
    const char *used = source ? source : chat_template_plain;
    sl_status status = chat_template_create(used, strlen(used), info->bos_text, info->eos_text,
                                            &prompter->tmpl, err);
    if (status == SL_OK) chat_template_traits(prompter->tmpl, &prompter->traits);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "chat template");
}

void worker_prompter_done(struct worker_prompter *prompter)
{
    if (!prompter->engine) return;
    chat_template_destroy(prompter->tmpl);
    sl_free(prompter->source);
    sl_buf_done(&prompter->text);
    sl_buf_done(&prompter->tokens);
    *prompter = (struct worker_prompter){0};
}

static sl_status render(struct worker_prompter *prompter, const struct wire_prompt *prompt,
                        struct worker_prompt *out, struct sl_err *err)
{
    struct sl_json_value *variables = NULL;
    const char *bos = prompter->info.bos_text;
    size_t n_bos = prompter->info.adds_bos && bos ? strlen(bos) : 0;
    sl_status status = sl_json_parse(prompt->chat, prompt->n_chat, &variables, err);
    if (status == SL_OK && !sl_json_is(variables, SL_JSON_OBJECT))
        status = sl_err_set(err, SL_INVALID, "chat variables are no JSON object");
    sl_buf_clear(&prompter->text);
    if (status == SL_OK)
        status =
            chat_template_render(prompter->tmpl, variables, prompt->now_s, &prompter->text, err);
    sl_json_free(variables);
    if (status != SL_OK) return sl_err_prefix(err, "chat");
    out->text = prompter->text.data;
    out->n_text = prompter->text.len;
    out->parse_special = true;
    out->opens_thinking = chat_prompt_opens_thinking(out->text, out->n_text);
    if (n_bos && out->n_text >= n_bos && memcmp(out->text, bos, n_bos) == 0) {
        out->text += n_bos;
        out->n_text -= n_bos;
    }
    return SL_OK;
}

static sl_status tokenize(struct worker_prompter *prompter, struct worker_prompt *out,
                          struct sl_err *err)
{
    static const int32_t none[1];
    struct sl_buf *tokens = &prompter->tokens;
    sl_buf_clear(tokens);
    sl_status status =
        engine_tokenize(prompter->engine, out->text, out->n_text, out->parse_special, tokens, err);
    out->n_tokens = tokens->len / sizeof(int32_t);
    out->tokens = out->n_tokens ? (const int32_t *)(const void *)tokens->data : none;
    return status;
}

sl_status worker_prompt_make(struct worker_prompter *prompter, const struct wire_prompt *prompt,
                             bool want_tokens, struct worker_prompt *out, struct sl_err *err)
{
    sl_status status = SL_OK;
    *out = (struct worker_prompt){0};
    if (prompt->chat) {
        status = render(prompter, prompt, out, err);
    } else if (prompt->tokens) {
        out->tokens = prompt->tokens;
        out->n_tokens = prompt->n_tokens;
    } else {
        out->text = prompt->text;
        out->n_text = prompt->n_text;
        out->parse_special = prompt->parse_special;
    }
    if (status == SL_OK && want_tokens && !out->tokens) status = tokenize(prompter, out, err);
    if (status != SL_OK) *out = (struct worker_prompt){0};
    return status;
}
