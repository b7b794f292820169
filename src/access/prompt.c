#include "access/prompt.h"

sl_status prompt_read_tokens(struct sl_arena *arena, const struct sl_json_value *list,
                             struct node_submit *submit)
{
    size_t n = sl_json_size(list);
    if (!sl_json_is(list, SL_JSON_ARRAY)) return SL_INVALID;
    int32_t *tokens = sl_arena_array(arena, n, sizeof *tokens);
    if (!tokens) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        int64_t token = sl_json_to_int(sl_json_at(list, i), -1);
        if (token < 0 || token > INT32_MAX) return SL_INVALID;
        tokens[i] = (int32_t)token;
    }
    submit->prompt = NODE_PROMPT_TOKENS;
    submit->tokens = tokens;
    submit->n_tokens = n;
    return SL_OK;
}

static sl_status read_one(struct sl_arena *arena, const struct sl_json_value *value,
                          struct node_submit *submit)
{
    if (sl_json_is(value, SL_JSON_ARRAY))
        return sl_json_size(value) ? prompt_read_tokens(arena, value, submit) : SL_INVALID;
    submit->prompt = NODE_PROMPT_TEXT;
    submit->text = sl_json_to_str(value, NULL, &submit->n_text);
    return submit->text ? SL_OK : SL_INVALID;
}

sl_status prompt_read_all(struct sl_arena *arena, const struct sl_json_value *value, size_t n_max,
                          struct node_submit **out, size_t *out_n)
{
    bool many = sl_json_is(value, SL_JSON_ARRAY) && !sl_json_is(sl_json_at(value, 0), SL_JSON_INT);
    size_t n = many ? sl_json_size(value) : 1;
    sl_status status = SL_OK;
    if (!n || n > n_max) return SL_INVALID;
    struct node_submit *submits = sl_arena_array(arena, n, sizeof *submits);
    if (!submits) return SL_NOMEM;
    for (size_t i = 0; i < n && status == SL_OK; i++)
        status = read_one(arena, many ? sl_json_at(value, i) : value, &submits[i]);
    *out = submits;
    *out_n = n;
    return status;
}
