/* text_template.c: what is put around one text or a pair: [CLS] A [SEP] B [SEP] and the like. */
#include "exec/text/text_int.h"

static sl_status add_item(struct text_items *items, struct text_item item, struct sl_err *err)
{
    if (items->n == TEXT_TEMPLATE_MAX)
        return sl_err_set(err, SL_LIMIT, "post_processor: more than %d items", TEXT_TEMPLATE_MAX);
    items->at[items->n++] = item;
    return SL_OK;
}

void text_template_default(struct text_template *t)
{
    t->single = (struct text_items){{{TEXT_ITEM_A, 0, 0}}, 1};
    t->pair = (struct text_items){{{TEXT_ITEM_A, 0, 0}, {TEXT_ITEM_B, 0, 1}}, 2};
}

size_t text_items_added(const struct text_items *items)
{
    size_t n = 0;
    for (size_t i = 0; i < items->n; i++) n += items->at[i].kind == TEXT_ITEM_SPECIAL;
    return n;
}

static sl_status check_id(int64_t id, const char *name, struct sl_err *err)
{
    if (id >= 0 && id < TEXT_IDS_MAX) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "post_processor: '%.40s' has the id %lld", name,
                      (long long)id);
}

/* {"SpecialToken": {"id": name, "type_id": n}}; the ids of a name stand in "special_tokens". */
static sl_status add_special(struct text_items *items, const struct sl_json_value *item,
                             const struct sl_json_value *specials, struct sl_err *err)
{
    const char *name = sl_json_to_str(sl_json_get(item, "id"), "", NULL);
    const struct sl_json_value *ids = sl_json_get(sl_json_get(specials, name), "ids");
    if (!sl_json_is(ids, SL_JSON_ARRAY))
        return sl_err_set(err, SL_CORRUPT, "post_processor: '%.40s' has no ids", name);
    for (size_t i = 0; i < sl_json_size(ids); i++) {
        int64_t id = sl_json_to_int(sl_json_at(ids, i), -1);
        sl_status status = check_id(id, name, err);
        if (status == SL_OK)
            status = add_item(items,
                              (struct text_item){TEXT_ITEM_SPECIAL, (int32_t)id,
                                                 sl_json_to_int(sl_json_get(item, "type_id"), 0)},
                              err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status add_sequence(struct text_items *items, const struct sl_json_value *item,
                              struct sl_err *err)
{
    const char *name = sl_json_to_str(sl_json_get(item, "id"), "", NULL);
    if (strcmp(name, "A") != 0 && strcmp(name, "B") != 0)
        return sl_err_set(err, SL_UNSUPPORTED, "post_processor: a sequence '%.40s'", name);
    enum text_item_kind kind = *name == 'A' ? TEXT_ITEM_A : TEXT_ITEM_B;
    for (size_t i = 0; i < items->n; i++)
        if (items->at[i].kind == kind)
            return sl_err_set(err, SL_UNSUPPORTED, "post_processor: a template with %s twice",
                              name);
    struct text_item added = {kind, 0, sl_json_to_int(sl_json_get(item, "type_id"), 0)};
    return add_item(items, added, err);
}

static sl_status parse_items(struct text_items *items, const struct sl_json_value *list,
                             const struct sl_json_value *specials, struct sl_err *err)
{
    items->n = 0;
    for (size_t i = 0; i < sl_json_size(list); i++) {
        const struct sl_json_value *special = sl_json_get(sl_json_at(list, i), "SpecialToken");
        const struct sl_json_value *sequence = sl_json_get(sl_json_at(list, i), "Sequence");
        sl_status status;
        if (special)
            status = add_special(items, special, specials, err);
        else if (sequence)
            status = add_sequence(items, sequence, err);
        else
            status = sl_err_set(err, SL_UNSUPPORTED, "post_processor: item %zu of a template", i);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status parse_template(struct text_template *t, const struct sl_json_value *json,
                                struct sl_err *err)
{
    const struct sl_json_value *specials = sl_json_get(json, "special_tokens");
    const struct sl_json_value *pair = sl_json_get(json, "pair");
    sl_status status = parse_items(&t->single, sl_json_get(json, "single"), specials, err);
    if (status == SL_OK && sl_json_size(pair) > 0)
        status = parse_items(&t->pair, pair, specials, err);
    return status;
}

/* ["[CLS]", 101] */
static sl_status parse_named_id(const struct sl_json_value *json, const char *key, int32_t *out,
                                struct sl_err *err)
{
    const struct sl_json_value *pair = sl_json_get(json, key);
    int64_t id = sl_json_to_int(sl_json_at(pair, 1), -1);
    sl_status status = check_id(id, key, err);
    *out = (int32_t)id;
    return status;
}

/* BERT: [CLS] A [SEP] B [SEP], types 0 and 1. RoBERTa: <s> A </s></s> B </s>, all types 0. */
static sl_status parse_fixed(struct text_template *t, const struct sl_json_value *json,
                             bool roberta, struct sl_err *err)
{
    int32_t cls, sep;
    sl_status status = parse_named_id(json, "cls", &cls, err);
    if (status == SL_OK) status = parse_named_id(json, "sep", &sep, err);
    if (status != SL_OK) return status;
    int64_t second = roberta ? 0 : 1;
    struct text_item begin = {TEXT_ITEM_SPECIAL, cls, 0}, end = {TEXT_ITEM_SPECIAL, sep, 0};
    struct text_item last = {TEXT_ITEM_SPECIAL, sep, second};
    struct text_item a = {TEXT_ITEM_A, 0, 0}, b = {TEXT_ITEM_B, 0, second};
    t->single = (struct text_items){{begin, a, end}, 3};
    t->pair = roberta ? (struct text_items){{begin, a, end, end, b, end}, 6}
                      : (struct text_items){{begin, a, end, b, last}, 5};
    return SL_OK;
}

static sl_status parse_sequence(struct text_template *t, const struct sl_json_value *json,
                                int depth, struct sl_err *err)
{
    const struct sl_json_value *list = sl_json_get(json, "processors");
    for (size_t i = 0; i < sl_json_size(list); i++) {
        sl_status status = text_template_parse(t, sl_json_at(list, i), depth + 1, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

sl_status text_template_parse(struct text_template *t, const struct sl_json_value *json, int depth,
                              struct sl_err *err)
{
    const char *type = text_type(json);
    if (sl_json_is(json, SL_JSON_NULL)) return SL_OK;
    if (depth > TEXT_NESTING_MAX)
        return sl_err_set(err, SL_LIMIT, "post_processor nested deeper than %d", TEXT_NESTING_MAX);
    if (strcmp(type, "ByteLevel") == 0) return SL_OK; /* it moves offsets only */
    if (strcmp(type, "Sequence") == 0) return parse_sequence(t, json, depth, err);
    bool is_template = strcmp(type, "TemplateProcessing") == 0;
    bool roberta = strcmp(type, "RobertaProcessing") == 0;
    if (!is_template && !roberta && strcmp(type, "BertProcessing") != 0)
        return text_unknown_type(json, "post_processor", err);
    if (t->given)
        return sl_err_set(err, SL_UNSUPPORTED, "post_processor: a second one that adds tokens");
    t->given = true;
    return is_template ? parse_template(t, json, err) : parse_fixed(t, json, roberta, err);
}
