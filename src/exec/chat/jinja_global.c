/* jinja_global.c: functions that every template can call, and how built-in names are found. */
#include "exec/chat/jinja_run.h"

#include <string.h>
#include <time.h>

#define DATE_BYTES_MAX 256 /* of what strftime_now writes */

const struct jinja_builtin *jinja_builtin_find(const struct jinja_builtin *table, const char *name)
{
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0) return table;
    }
    return NULL;
}

const struct jinja_builtin *jinja_filter_find(const char *name)
{
    const struct jinja_builtin *filter = jinja_builtin_find(jinja_text_filters, name);
    if (!filter) filter = jinja_builtin_find(jinja_sequence_filters, name);
    return filter ? filter : jinja_builtin_find(jinja_select_filters, name);
}

static bool make_range(struct jinja_run *run, const int64_t bounds[3], struct jinja_value *out)
{
    int64_t start = bounds[0], stop = bounds[1], step = bounds[2];
    if (step == 0) return jinja_fail(run, SL_INVALID, "range() arg 3 must not be zero");
    uint64_t span = 0, each = step < 0 ? 0 - (uint64_t)step : (uint64_t)step;
    if (step > 0 ? start < stop : start > stop)
        span = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t n = span ? (span - 1) / each + 1 : 0;
    if (n > (uint64_t)run->limits->range_items)
        return jinja_fail(run, SL_LIMIT, "range() of %llu items; at most %lld are made",
                          (unsigned long long)n, (long long)run->limits->range_items);
    struct jinja_range *range = jinja_alloc(run, 1, sizeof *range);
    if (!range) return false;
    *range = (struct jinja_range){start, step, (size_t)n, stop};
    *out = (struct jinja_value){JINJA_RANGE, {.range = range}};
    return true;
}

static bool call_range(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    int64_t given[3] = {0, 0, 1};
    if (call->n_args < 1 || call->n_args > 3 || call->n_keywords)
        return jinja_fail(run, SL_INVALID, "range() takes 1 to 3 arguments");
    for (size_t i = 0; i < call->n_args; i++) {
        if (!jinja_is_integer(&call->args[i]))
            return jinja_type_error(run, "cannot be interpreted as an integer", &call->args[i]);
        given[i] = jinja_integer(&call->args[i]);
    }
    if (call->n_args == 1) {
        given[1] = given[0];
        given[0] = 0;
    }
    return make_range(run, given, out);
}

/* dict(mapping or pairs, **more) */
static bool call_dict(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    if (call->n_args > 1) return jinja_fail(run, SL_INVALID, "%s() takes one argument", call->name);
    if (!jinja_dict(run, call->n_keywords, out)) return false;
    if (call->n_args == 1) {
        const struct jinja_value *from = &call->args[0];
        if (from->kind != JINJA_DICT) return jinja_type_error(run, "is not a mapping", from);
        for (size_t i = 0; i < from->dict->n; i++) {
            const struct jinja_entry *entry = &from->dict->entries[i];
            if (!jinja_dict_put(run, out, entry->key, entry->value)) return false;
        }
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        struct jinja_value key;
        const char *name = call->keywords[i].name;
        if (!jinja_string(run, name, strlen(name), &key) ||
            !jinja_dict_put(run, out, key, call->keywords[i].value))
            return false;
    }
    return true;
}

static bool call_namespace(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    if (!call_dict(run, call, out)) return false;
    out->kind = JINJA_NAMESPACE;
    return true;
}

static bool call_raise(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    static const char *const names[] = {"message", NULL};
    struct jinja_value message;
    if (!jinja_bind(run, call, names, 1, &message) || !jinja_to_string(run, &message, out))
        return false;
    return jinja_fail(run, SL_INVALID, "%.*s", (int)(out->str->n > 400 ? 400 : out->str->n),
                      out->str->s);
}

static bool call_strftime_now(struct jinja_run *run, const struct jinja_call *call,
                              struct jinja_value *out)
{
    static const char *const names[] = {"format", NULL};
    struct jinja_value format;
    char fmt[DATE_BYTES_MAX] = "", text[DATE_BYTES_MAX];
    struct tm tm;
    time_t now = (time_t)run->input->now_s;
    if (!jinja_bind(run, call, names, 1, &format)) return false;
    if (format.kind != JINJA_STRING || format.str->n >= sizeof fmt)
        return jinja_type_error(run, "is no date format", &format);
    memcpy(fmt, format.str->s, format.str->n);
    if (!localtime_r(&now, &tm)) return jinja_fail(run, SL_INVALID, "the time is out of range");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, fmt, &tm);
#pragma GCC diagnostic pop
    if (n == 0 && fmt[0]) return jinja_fail(run, SL_LIMIT, "the date is too long");
    return jinja_string_copy(run, text, n, out);
}

static const struct jinja_builtin globals[] = {
    {"range", call_range},
    {"dict", call_dict},
    {"namespace", call_namespace},
    {"raise_exception", call_raise},
    {"strftime_now", call_strftime_now},
    {NULL, NULL},
};

const struct jinja_builtin *jinja_global_find(const char *name)
{
    return jinja_builtin_find(globals, name);
}
