/* chat_template.c: a Jinja template with what chats need around it. How a template takes messages
 * is found at create by rendering three small conversations: what a source looks like says less
 * than what it does. */
#include "exec/chat/chat_template.h"

#include "base/mem.h"
#include "exec/chat/jinja.h"
#include "exec/chat/jinja_value.h"

#include <string.h>

const char chat_template_plain[] =
    "{% for message in messages %}{{ message.content }}{% if not loop.last %}{{ '\\n' }}{% endif %}"
    "{% endfor %}";

enum content_form {
    CONTENT_TEXT,      /* lists of parts must become one text */
    CONTENT_EITHER,    /* the template walks over parts when it gets them */
    CONTENT_PARTS_ONLY /* a text must become a list of one part */
};

struct chat_template {
    struct jinja_template *jinja;
    char *bos, *eos; /* may be NULL */
    struct chat_traits traits;
    enum content_form content;
    bool null_is_empty; /* the template cannot work with a content of none */
};

/* --- messages */

static bool is_text_part(const struct jinja_value *part)
{
    if (part->kind != JINJA_DICT) return false;
    const struct jinja_value *type = jinja_dict_find(part, "type", 4);
    const struct jinja_value *text = jinja_dict_find(part, "text", 4);
    return type && jinja_is_text(type, "text") && text && text->kind == JINJA_STRING;
}

/* A list of nothing but text parts becomes their text; anything else stays. */
static bool flatten(struct jinja_run *run, struct jinja_value *content)
{
    const struct jinja_list *parts = content->list;
    size_t n = 0, at = 0;
    for (size_t i = 0; i < parts->n; i++) {
        if (!is_text_part(&parts->items[i])) return true;
        n += jinja_dict_find(&parts->items[i], "text", 4)->str->n;
    }
    char *text = sl_malloc(n);
    if (!text) return jinja_fail_memory(run);
    for (size_t i = 0; i < parts->n; i++) {
        const struct jinja_string *part = jinja_dict_find(&parts->items[i], "text", 4)->str;
        memcpy(text + at, part->s, part->n);
        at += part->n;
    }
    bool ok = jinja_string_copy(run, text, n, content);
    sl_free(text);
    return ok;
}

static bool put_member(struct jinja_run *run, struct jinja_value *dict, const char *key,
                       struct jinja_value value)
{
    struct jinja_value name;
    return jinja_string(run, key, strlen(key), &name) && jinja_dict_put(run, dict, name, value);
}

/* [{"type": "text", "text": content}] */
static bool wrap(struct jinja_run *run, struct jinja_value *content)
{
    struct jinja_value part, type, list;
    if (!jinja_dict(run, 2, &part) || !jinja_string(run, "text", 4, &type) ||
        !put_member(run, &part, "type", type) || !put_member(run, &part, "text", *content) ||
        !jinja_list(run, JINJA_LIST, 1, &list) || !jinja_list_add(run, &list, part))
        return false;
    *content = list;
    return true;
}

static bool adapt_content(const struct chat_template *tmpl, struct jinja_run *run,
                          struct jinja_value *message)
{
    struct jinja_value *content = jinja_dict_find(message, "content", 7);
    if (!content) { /* clients leave it out next to tool calls */
        if (!jinja_dict_find(message, "tool_calls", 10)) return true;
        if (!put_member(run, message, "content", jinja_none())) return false;
        content = jinja_dict_find(message, "content", 7);
    }
    if (content->kind == JINJA_NONE && tmpl->null_is_empty)
        return jinja_string(run, "", 0, content);
    if (content->kind == JINJA_LIST && tmpl->content == CONTENT_TEXT) return flatten(run, content);
    if (content->kind == JINJA_STRING && tmpl->content == CONTENT_PARTS_ONLY)
        return wrap(run, content);
    return true;
}

/* Arguments that are the text of a JSON object become the object. */
static bool adapt_arguments(struct jinja_run *run, struct jinja_value *arguments)
{
    struct sl_json_value *json = NULL;
    if (arguments->kind != JINJA_STRING) return true;
    sl_status status = sl_json_parse(arguments->str->s, arguments->str->n, &json, NULL);
    if (status == SL_NOMEM) return jinja_fail_memory(run);
    bool ok = true;
    if (status == SL_OK && sl_json_is(json, SL_JSON_OBJECT))
        ok = jinja_from_json(run, json, true, arguments);
    sl_json_free(json);
    return ok;
}

static bool adapt_tool_calls(struct jinja_run *run, struct jinja_value *message)
{
    const struct jinja_value *calls = jinja_dict_find(message, "tool_calls", 10);
    if (!calls || calls->kind != JINJA_LIST) return true;
    for (size_t i = 0; i < calls->list->n; i++) {
        const struct jinja_value *call = &calls->list->items[i];
        const struct jinja_value *function =
            call->kind == JINJA_DICT ? jinja_dict_find(call, "function", 8) : NULL;
        struct jinja_value *arguments = function && function->kind == JINJA_DICT
                                            ? jinja_dict_find(function, "arguments", 9)
                                            : NULL;
        if (arguments && !adapt_arguments(run, arguments)) return false;
    }
    return true;
}

static bool adapt(const void *context, struct jinja_run *run, const char *name,
                  struct jinja_value *value)
{
    if (strcmp(name, "messages") != 0 || value->kind != JINJA_LIST) return true;
    for (size_t i = 0; i < value->list->n; i++) {
        struct jinja_value *message = &value->list->items[i];
        if (message->kind != JINJA_DICT) continue;
        if (!adapt_content(context, run, message) || !adapt_tool_calls(run, message)) return false;
    }
    return true;
}

sl_status chat_template_render(const struct chat_template *tmpl,
                               const struct sl_json_value *variables, int64_t now_s,
                               struct sl_buf *out, struct sl_err *err)
{
    const struct jinja_text texts[] = {
        {"bos_token", tmpl->bos}, {"eos_token", tmpl->eos}, {NULL, NULL}};
    const struct jinja_input input = {
        .variables = variables,
        .texts = texts,
        .now_s = now_s,
        .adapt = adapt,
        .context = tmpl,
    };
    return jinja_render(tmpl->jinja, &input, out, err);
}

/* --- how the template takes messages */

#define NEEDLE "Nadel3141"
#define PROBE_BYTES_MAX (1u << 20) /* a prompt of a few words and a template's own text */

static const char probe_parts[] = "{\"messages\":[{\"role\":\"user\",\"content\":"
                                  "[{\"type\":\"text\",\"text\":\"" NEEDLE "\"}]}]}";
static const char probe_text[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"" NEEDLE "\"}]}";
static const char probe_null[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":null,"
    "\"tool_calls\":[{\"type\":\"function\",\"id\":\"123456789\",\"function\":"
    "{\"name\":\"f\",\"arguments\":{}}}]}]}";

/* Renders a probe. OK also when the template refuses it: then *out_ok is false. */
static sl_status render_probe(const struct chat_template *tmpl, const char *json,
                              struct sl_buf *out, bool *out_ok)
{
    struct sl_json_value *variables = NULL;
    sl_buf_clear(out);
    sl_status status = sl_json_parse(json, strlen(json), &variables, NULL);
    if (status == SL_OK) status = chat_template_render(tmpl, variables, 0, out, NULL);
    sl_json_free(variables);
    *out_ok = status == SL_OK;
    return status == SL_INVALID || status == SL_LIMIT ? SL_OK : status;
}

/* Is the needle there as text of its own, and not inside a printed list? */
static bool shows_text(const struct sl_buf *prompt)
{
    const char *at = strstr(prompt->data, NEEDLE);
    if (!at) return false;
    char before = at > prompt->data ? at[-1] : '\n', behind = at[strlen(NEEDLE)];
    return !((before == '\'' || before == '"') && behind == before);
}

static sl_status probe(struct chat_template *tmpl)
{
    struct sl_buf out;
    bool ok, parts_shown, text_shown = true;
    sl_buf_init(&out, PROBE_BYTES_MAX);
    tmpl->content = CONTENT_EITHER;
    sl_status status = render_probe(tmpl, probe_parts, &out, &ok);
    parts_shown = status == SL_OK && ok && shows_text(&out);
    if (status == SL_OK && parts_shown) {
        status = render_probe(tmpl, probe_text, &out, &ok);
        text_shown = ok && shows_text(&out);
    }
    tmpl->content = !parts_shown ? CONTENT_TEXT : text_shown ? CONTENT_EITHER : CONTENT_PARTS_ONLY;
    if (status == SL_OK) status = render_probe(tmpl, probe_null, &out, &ok);
    if (status == SL_OK && !ok) {
        tmpl->null_is_empty = true;
        status = render_probe(tmpl, probe_null, &out, &ok);
        tmpl->null_is_empty = ok;
    }
    sl_buf_done(&out);
    return status;
}

/* --- traits */

static bool has(const char *source, size_t n, const char *text)
{
    return memmem(source, n, text, strlen(text)) != NULL;
}

static void find_traits(const char *source, size_t n, struct chat_traits *out)
{
    static const struct {
        const char *mark;
        enum chat_tool_format format;
    } known[] = {
        {"<｜tool▁calls▁begin｜>", CHAT_TOOLS_DEEPSEEK},
        {"<|channel|>", CHAT_TOOLS_HARMONY},
        {"[TOOL_CALLS]", CHAT_TOOLS_MISTRAL},
        {"<|python_tag|>", CHAT_TOOLS_LLAMA3},
        {"<tool_call>", CHAT_TOOLS_HERMES},
    };
    *out = (struct chat_traits){.tools = CHAT_TOOLS_NONE, .thinks = has(source, n, "<think>")};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!has(source, n, known[i].mark)) continue;
        out->tools = known[i].format;
        return;
    }
    /* Llama 3.2 and others prompt for the same object without the tag. */
    if (has(source, n, "<|start_header_id|>") && has(source, n, "\"parameters\": "))
        out->tools = CHAT_TOOLS_LLAMA3;
}

void chat_template_traits(const struct chat_template *tmpl, struct chat_traits *out)
{
    *out = tmpl->traits;
}

static bool is_white(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool chat_prompt_opens_thinking(const char *prompt, size_t n)
{
    static const char tag[] = "<think>";
    size_t n_tag = sizeof tag - 1;
    while (n > 0 && is_white(prompt[n - 1])) n--;
    return n >= n_tag && memcmp(prompt + n - n_tag, tag, n_tag) == 0;
}

/* --- life cycle */

sl_status chat_template_create(const char *source, size_t n, const char *bos_text,
                               const char *eos_text, struct chat_template **out, struct sl_err *err)
{
    sl_status status = SL_NOMEM;
    struct chat_template *tmpl = sl_calloc(1, sizeof *tmpl);
    if (!tmpl) return sl_err_set(err, status, "template: no memory");
    if ((bos_text && !(tmpl->bos = sl_strdup(bos_text))) ||
        (eos_text && !(tmpl->eos = sl_strdup(eos_text)))) {
        sl_err_set(err, status, "template: no memory");
        goto fail;
    }
    status = jinja_create(source, n, NULL, &tmpl->jinja, err);
    if (status != SL_OK) goto fail;
    find_traits(source, n, &tmpl->traits);
    status = probe(tmpl);
    if (status != SL_OK) {
        sl_err_set(err, status, "template: no memory to try it");
        goto fail;
    }
    *out = tmpl;
    return SL_OK;
fail:
    chat_template_destroy(tmpl);
    return status;
}

void chat_template_destroy(struct chat_template *tmpl)
{
    if (!tmpl) return;
    jinja_destroy(tmpl->jinja);
    sl_free(tmpl->bos);
    sl_free(tmpl->eos);
    sl_free(tmpl);
}
