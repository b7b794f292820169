/* oip_data_cut.c: finds the lists of numbers in a request, so that no JSON reader has to. */
#include "access/oip_data.h"
#include <stdbool.h>

struct cutter {
    const char *at, *end;
    const char *kept; /* what stands from here on is not copied yet */
    int depth;        /* of objects and lists around `at` */
    bool in_inputs;   /* within the list "inputs" of the top object */
    struct sl_buf *rest;
    struct oip_data *lists;
    size_t n_lists;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Past the string that begins at `at`, whose text is *out_text[0..*out_n) with its escapes. */
static void skip_string(struct cutter *c, const char **out_text, size_t *out_n)
{
    const char *p = c->at + 1;
    *out_text = p;
    while (p < c->end && *p != '"') p += *p == '\\' && p + 1 < c->end ? 2 : 1;
    *out_n = (size_t)(p - *out_text);
    c->at = p < c->end ? p + 1 : c->end;
}

/* The first byte that is no space, at or after p. */
static const char *skip_space(const struct cutter *c, const char *p)
{
    while (p < c->end && is_space(*p)) p++;
    return p;
}

/* Past the list that begins at `at`; false when it has no end. */
static bool skip_list(struct cutter *c)
{
    int depth = 0;
    const char *text;
    size_t n;
    while (c->at < c->end) {
        char byte = *c->at;
        if (byte == '"') {
            skip_string(c, &text, &n);
            continue;
        }
        c->at++;
        if (byte == '[') depth++;
        if (byte == ']' && !--depth) return true;
    }
    return false;
}

static sl_status cut_list(struct cutter *c, struct sl_err *err)
{
    const char *begin = c->at;
    if (!skip_list(c)) return SL_OK; /* the JSON reader will say so */
    if (c->n_lists == TENSORS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %d inputs", TENSORS_MAX);
    sl_status status = sl_buf_add(c->rest, c->kept, (size_t)(begin - c->kept));
    if (status == SL_OK) status = sl_buf_addf(c->rest, "{\"\":%zu}", c->n_lists);
    if (status != SL_OK) return sl_err_set(err, status, "no memory for this request");
    c->lists[c->n_lists++] = (struct oip_data){begin, (size_t)(c->at - begin)};
    c->kept = c->at;
    return SL_OK;
}

static bool is_word(const char *text, size_t n, const char *word)
{
    return n == strlen(word) && !memcmp(text, word, n);
}

/* A string, which may be the name of a member. */
static sl_status on_string(struct cutter *c, struct sl_err *err)
{
    const char *text;
    size_t n;
    skip_string(c, &text, &n);
    const char *p = skip_space(c, c->at);
    if (p == c->end || *p != ':') return SL_OK;
    p = skip_space(c, p + 1);
    if (p == c->end || *p != '[') return SL_OK;
    c->at = p;
    if (c->depth == 1 && is_word(text, n, "inputs")) c->in_inputs = true;
    return c->depth == 3 && c->in_inputs && is_word(text, n, "data") ? cut_list(c, err) : SL_OK;
}

sl_status oip_data_cut(const char *text, size_t n, struct sl_buf *rest,
                       struct oip_data lists[TENSORS_MAX], size_t *out_n, struct sl_err *err)
{
    struct cutter c = {.at = text, .end = text + n, .kept = text, .rest = rest, .lists = lists};
    sl_status status = SL_OK;
    while (c.at < c.end && status == SL_OK) {
        char byte = *c.at;
        if (byte == '"') {
            status = on_string(&c, err);
            continue;
        }
        c.at++;
        c.depth += (byte == '{' || byte == '[') - (byte == '}' || byte == ']');
        if (c.depth <= 1) c.in_inputs = c.in_inputs && byte == '[';
    }
    if (status == SL_OK && sl_buf_add(rest, c.kept, (size_t)(c.end - c.kept)) != SL_OK)
        status = sl_err_set(err, SL_NOMEM, "no memory for this request");
    *out_n = c.n_lists;
    return status;
}
