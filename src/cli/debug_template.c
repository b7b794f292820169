/* debug_template.c: see debug_template.h. */
#include "cli/debug_template.h"

#include "cli/cli.h"
#include "exec/chat/chat_template.h"

#include <string.h>

#define INPUT_BYTES_MAX (256u << 20)
#define PROMPT_BYTES_MAX (64u << 20)

static sl_status render_with(const struct debug_template_cfg *cfg, const char *source, size_t n,
                             const struct sl_json_value *variables, struct sl_buf *prompt,
                             struct sl_err *err)
{
    struct chat_template *tmpl = NULL;
    sl_status status = chat_template_create(source, n, cfg->bos, cfg->eos, &tmpl, err);
    if (status == SL_OK) status = chat_template_render(tmpl, variables, cfg->now_s, prompt, err);
    chat_template_destroy(tmpl);
    return status;
}

/* One line of input to one line of output; only a failure to write the latter is an error. */
static sl_status render_line(const struct debug_template_cfg *cfg, const struct sl_buf *source,
                             const char *line, size_t n, struct sl_buf *out)
{
    struct sl_json_value *input = NULL;
    struct sl_buf prompt;
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    sl_buf_init(&prompt, PROMPT_BYTES_MAX);
    sl_status status = sl_json_parse(line, n, &input, &err);
    if (status == SL_OK && source) {
        status = render_with(cfg, source->data, source->len, input, &prompt, &err);
    } else if (status == SL_OK) {
        size_t n_text;
        const char *text = sl_json_to_str(sl_json_get(input, "template"), "", &n_text);
        status = render_with(cfg, text, n_text, sl_json_get(input, "variables"), &prompt, &err);
    }
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_key(&json, status == SL_OK ? "text" : "error");
    if (status == SL_OK) {
        sl_json_strn(&json, prompt.data, prompt.len);
    } else {
        sl_json_str(&json, err.text);
    }
    sl_json_object_end(&json);
    status = sl_json_end(&json);
    sl_json_free(input);
    sl_buf_done(&prompt);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

sl_status debug_template(const struct debug_template_cfg *cfg, struct sl_buf *out,
                         struct sl_err *err)
{
    struct sl_buf source, input;
    bool own = strcmp(cfg->path, "-") == 0;
    sl_buf_init(&source, INPUT_BYTES_MAX);
    sl_buf_init(&input, INPUT_BYTES_MAX);
    sl_status status = own ? SL_OK : cli_read_file(cfg->path, &source, err);
    if (status == SL_OK) status = cli_read_stdin(&input, err);
    const char *at = input.data, *end = input.data + input.len;
    while (status == SL_OK && at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        if (line_end > at) {
            status = render_line(cfg, own ? NULL : &source, at, (size_t)(line_end - at), out);
            if (status != SL_OK) sl_err_set(err, status, "too much output");
        }
        at = line_end + 1;
    }
    sl_buf_done(&source);
    sl_buf_done(&input);
    return status;
}
