/* jinja_method.c: methods of strings, dicts, lists and tuples. Those that would change a value are
 * refused, as in jinja2's immutable sandbox. */
#include "exec/chat/jinja_string.h"

#include "base/utf8.h"

#include <string.h>

#define SELF(call) ((call)->args[0].str)

static bool no_arguments(struct jinja_run *run, const struct jinja_call *call)
{
    return (call->n_args == 1 && call->n_keywords == 0) ||
           jinja_fail(run, SL_INVALID, "%s() takes no arguments", call->name);
}

static bool change_case(struct jinja_run *run, const struct jinja_call *call,
                        enum sl_unicode_case to, struct jinja_value *out)
{
    size_t mark = run->out.len;
    return no_arguments(run, call) && jinja_put_case(run, SELF(call)->s, SELF(call)->n, to) &&
           jinja_take(run, mark, out);
}

static bool str_upper(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return change_case(run, call, SL_UNICODE_UPPER, out);
}

static bool str_lower(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return change_case(run, call, SL_UNICODE_LOWER, out);
}

static bool str_title(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return change_case(run, call, SL_UNICODE_TITLE, out);
}

static bool str_capitalize(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    return no_arguments(run, call) && jinja_capitalize(run, SELF(call), out);
}

static bool strip_with(struct jinja_run *run, const struct jinja_call *call, bool left, bool right,
                       struct jinja_value *out)
{
    const struct jinja_value *chars = call->n_args > 1 ? &call->args[1] : NULL;
    if (call->n_args > 2 || call->n_keywords)
        return jinja_fail(run, SL_INVALID, "%s() takes one argument", call->name);
    if (chars && chars->kind == JINJA_NONE) chars = NULL;
    if (chars && !jinja_expect_string(run, chars)) return false;
    return jinja_strip(run, SELF(call), chars ? chars->str : NULL, left, right, out);
}

static bool str_strip(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return strip_with(run, call, true, true, out);
}

static bool str_lstrip(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return strip_with(run, call, true, false, out);
}

static bool str_rstrip(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return strip_with(run, call, false, true, out);
}

/* --- splitting */

static bool add_piece(struct jinja_run *run, struct jinja_value *list, const char *s, size_t n)
{
    struct jinja_value piece;
    return jinja_charge(run, 1) && jinja_string(run, s, n, &piece) &&
           jinja_list_add(run, list, piece);
}

static bool split_at(struct jinja_run *run, const struct jinja_string *str,
                     const struct jinja_string *by, int64_t max, struct jinja_value *out)
{
    size_t at = 0;
    for (; max != 0; max--) {
        const char *found = memmem(str->s + at, str->n - at, by->s, by->n);
        if (!found) break;
        size_t to = (size_t)(found - str->s);
        if (!add_piece(run, out, str->s + at, to - at)) return false;
        at = to + by->n;
    }
    return add_piece(run, out, str->s + at, str->n - at);
}

static size_t space_length(const struct jinja_string *str, size_t at)
{
    uint32_t c;
    size_t len = at < str->n ? sl_utf8_decode(str->s + at, str->n - at, &c) : 0;
    return len && sl_unicode_is_space(c) ? len : 0;
}

static bool split_words(struct jinja_run *run, const struct jinja_string *str, int64_t max,
                        struct jinja_value *out)
{
    for (size_t at = 0;;) {
        for (size_t len; (len = space_length(str, at)) > 0;) at += len;
        if (at >= str->n) return true;
        size_t end = at;
        if (max-- == 0) return add_piece(run, out, str->s + at, str->n - at);
        while (end < str->n && !space_length(str, end)) end++;
        if (!add_piece(run, out, str->s + at, end - at)) return false;
        at = end;
    }
}

static void reverse_items(struct jinja_list *list)
{
    for (size_t i = 0; i < list->n / 2; i++) {
        struct jinja_value item = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = item;
    }
}

/* From the right; the pieces come out last first and are turned round. */
static bool rsplit_at(struct jinja_run *run, const struct jinja_string *str,
                      const struct jinja_string *by, int64_t max, struct jinja_value *out)
{
    size_t end = str->n;
    for (size_t at = end; max != 0 && at-- > 0;) {
        if (at + by->n > end || memcmp(str->s + at, by->s, by->n) != 0) continue;
        if (!add_piece(run, out, str->s + at + by->n, end - at - by->n)) return false;
        end = at;
        max--;
    }
    if (!add_piece(run, out, str->s, end)) return false;
    reverse_items(out->list);
    return true;
}

static bool split_with(struct jinja_run *run, const struct jinja_call *call, bool right,
                       struct jinja_value *out)
{
    static const char *const names[] = {"self", "sep", "maxsplit", NULL};
    struct jinja_value args[3];
    int64_t max;
    if (!jinja_bind(run, call, names, 1, args) ||
        !jinja_optional_integer(run, &args[2], -1, &max) || !jinja_list(run, JINJA_LIST, 0, out) ||
        !jinja_charge_bytes(run, args[0].str->n))
        return false;
    if (args[1].kind == JINJA_ABSENT || args[1].kind == JINJA_NONE) {
        if (right && max >= 0)
            return jinja_fail(run, SL_INVALID,
                              "rsplit() at white space with a maximum is not "
                              "supported");
        return split_words(run, args[0].str, max, out);
    }
    if (!jinja_expect_string(run, &args[1])) return false;
    if (args[1].str->n == 0) return jinja_fail(run, SL_INVALID, "empty separator");
    return right ? rsplit_at(run, args[0].str, args[1].str, max, out)
                 : split_at(run, args[0].str, args[1].str, max, out);
}

static bool str_split(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    return split_with(run, call, false, out);
}

static bool str_rsplit(struct jinja_run *run, const struct jinja_call *call,
                       struct jinja_value *out)
{
    return split_with(run, call, true, out);
}

static bool str_splitlines(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    return no_arguments(run, call) && jinja_splitlines(run, SELF(call), out);
}

static bool partition_with(struct jinja_run *run, const struct jinja_call *call, bool right,
                           struct jinja_value *out)
{
    static const char *const names[] = {"self", "sep", NULL};
    struct jinja_value args[2], pieces;
    if (!jinja_bind(run, call, names, 2, args) || !jinja_expect_string(run, &args[1]) ||
        !jinja_list(run, JINJA_LIST, 0, &pieces) || !jinja_list(run, JINJA_TUPLE, 3, out))
        return false;
    if (args[1].str->n == 0) return jinja_fail(run, SL_INVALID, "empty separator");
    if (right ? !rsplit_at(run, args[0].str, args[1].str, 1, &pieces)
              : !split_at(run, args[0].str, args[1].str, 1, &pieces))
        return false;
    struct jinja_value *v = out->list->items, empty;
    if (!jinja_string(run, "", 0, &empty)) return false;
    out->list->n = 3;
    v[0] = v[1] = v[2] = empty;
    if (pieces.list->n == 1) {
        v[right ? 2 : 0] = args[0];
        return true;
    }
    v[0] = pieces.list->items[0];
    v[1] = args[1];
    v[2] = pieces.list->items[1];
    return true;
}

static bool str_partition(struct jinja_run *run, const struct jinja_call *call,
                          struct jinja_value *out)
{
    return partition_with(run, call, false, out);
}

static bool str_rpartition(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    return partition_with(run, call, true, out);
}

/* --- searching */

/* The part [start, end) of the string that the optional arguments 2 and 3 name. */
static bool searched_part(struct jinja_run *run, const struct jinja_value *args, int64_t *first,
                          struct jinja_value *out)
{
    struct jinja_value bounds[3] = {args[2], args[3], jinja_none()};
    int64_t ignored, n = (int64_t)jinja_string_chars(args[0].str);
    for (int i = 0; i < 2; i++) {
        if (!jinja_optional_integer(run, &bounds[i], 0, &ignored)) return false;
        if (bounds[i].kind == JINJA_ABSENT) bounds[i] = jinja_none();
    }
    *first = bounds[0].kind == JINJA_NONE ? 0 : jinja_integer(&bounds[0]);
    if (*first < 0) *first = *first + n < 0 ? 0 : *first + n;
    return jinja_slice(run, &args[0], bounds, out);
}

static const char *const search_names[] = {"self", "sub", "start", "end", NULL};

static bool has_affix(const struct jinja_string *str, const struct jinja_value *affix, bool end)
{
    const struct jinja_string *a = affix->str;
    return a->n <= str->n && memcmp(end ? str->s + str->n - a->n : str->s, a->s, a->n) == 0;
}

static bool test_affix(struct jinja_run *run, const struct jinja_call *call, bool end,
                       struct jinja_value *out)
{
    struct jinja_value args[4], part;
    int64_t first;
    bool found = false;
    if (!jinja_bind(run, call, search_names, 2, args) || !searched_part(run, args, &first, &part))
        return false;
    bool outside = first > (int64_t)jinja_string_chars(args[0].str);
    bool tuple = args[1].kind == JINJA_TUPLE;
    size_t n = tuple ? args[1].list->n : 1;
    for (size_t i = 0; i < n && !found; i++) {
        const struct jinja_value *affix = tuple ? &args[1].list->items[i] : &args[1];
        if (!jinja_expect_string(run, affix)) return false;
        found = !outside && has_affix(part.str, affix, end);
    }
    return *out = jinja_bool(found), true;
}

static bool str_startswith(struct jinja_run *run, const struct jinja_call *call,
                           struct jinja_value *out)
{
    return test_affix(run, call, false, out);
}

static bool str_endswith(struct jinja_run *run, const struct jinja_call *call,
                         struct jinja_value *out)
{
    return test_affix(run, call, true, out);
}

static const char *find_last(const struct jinja_string *str, const struct jinja_string *sub)
{
    if (sub->n > str->n) return NULL;
    for (size_t at = str->n - sub->n + 1; at-- > 0;) {
        if (memcmp(str->s + at, sub->s, sub->n) == 0) return str->s + at;
    }
    return NULL;
}

/* Index of the first, or last, occurrence in code points, or -1. */
static bool search(struct jinja_run *run, const struct jinja_call *call, bool last, int64_t *out)
{
    struct jinja_value args[4], part;
    int64_t first;
    *out = -1;
    if (!jinja_bind(run, call, search_names, 2, args) || !jinja_expect_string(run, &args[1]) ||
        !searched_part(run, args, &first, &part) ||
        !jinja_charge(run, part.str->n / JINJA_BYTES_A_STEP * (last ? 1 + args[1].str->n / 8 : 1)))
        return false;
    if (first > (int64_t)jinja_string_chars(args[0].str)) return true;
    const struct jinja_string *str = part.str, *sub = args[1].str;
    const char *found = last ? find_last(str, sub) : memmem(str->s, str->n, sub->s, sub->n);
    if (!found) return true;
    struct jinja_string before = {str->s, (size_t)(found - str->s), JINJA_CHARS_UNKNOWN};
    *out = first + (int64_t)jinja_string_chars(&before);
    return true;
}

static bool str_find(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    int64_t i;
    return search(run, call, false, &i) && (*out = jinja_int(i), true);
}

static bool str_rfind(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    int64_t i;
    return search(run, call, true, &i) && (*out = jinja_int(i), true);
}

static bool str_index(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    int64_t i;
    if (!search(run, call, call->name[0] == 'r', &i)) return false;
    if (i < 0) return jinja_fail(run, SL_INVALID, "substring not found");
    return *out = jinja_int(i), true;
}

static bool str_count(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    struct jinja_value args[4], part, pieces;
    int64_t first;
    if (!jinja_bind(run, call, search_names, 2, args) || !jinja_expect_string(run, &args[1]) ||
        !searched_part(run, args, &first, &part) || !jinja_list(run, JINJA_LIST, 0, &pieces))
        return false;
    if (args[1].str->n == 0)
        return *out = jinja_int((int64_t)jinja_string_chars(part.str) + 1), true;
    if (!split_at(run, part.str, args[1].str, -1, &pieces)) return false;
    return *out = jinja_int((int64_t)pieces.list->n - 1), true;
}

static bool str_replace(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    static const char *const names[] = {"self", "old", "new", "count", NULL};
    struct jinja_value args[4];
    int64_t count;
    return jinja_bind(run, call, names, 3, args) && jinja_expect_string(run, &args[1]) &&
           jinja_expect_string(run, &args[2]) &&
           jinja_optional_integer(run, &args[3], -1, &count) &&
           jinja_replace(run, args[0].str, args[1].str, args[2].str, count, out);
}

static bool str_join(struct jinja_run *run, const struct jinja_call *call, struct jinja_value *out)
{
    static const char *const names[] = {"self", "iterable", NULL};
    struct jinja_value args[2], items;
    if (!jinja_bind(run, call, names, 2, args) || !jinja_items(run, &args[1], &items)) return false;
    for (size_t i = 0; i < items.list->n; i++) {
        if (!jinja_expect_string(run, &items.list->items[i])) return false;
    }
    return jinja_join(run, args[0].str, &items, out);
}

static bool remove_affix(struct jinja_run *run, const struct jinja_call *call, bool end,
                         struct jinja_value *out)
{
    static const char *const names[] = {"self", "affix", NULL};
    struct jinja_value args[2];
    if (!jinja_bind(run, call, names, 2, args) || !jinja_expect_string(run, &args[1])) return false;
    const struct jinja_string *str = args[0].str;
    size_t n = has_affix(str, &args[1], end) ? args[1].str->n : 0;
    return jinja_string(run, end ? str->s : str->s + n, str->n - n, out);
}

static bool str_removeprefix(struct jinja_run *run, const struct jinja_call *call,
                             struct jinja_value *out)
{
    return remove_affix(run, call, false, out);
}

static bool str_removesuffix(struct jinja_run *run, const struct jinja_call *call,
                             struct jinja_value *out)
{
    return remove_affix(run, call, true, out);
}

/* --- classes of characters */

static bool all_are(struct jinja_run *run, const struct jinja_call *call, bool (*is)(uint32_t c),
                    struct jinja_value *out)
{
    const struct jinja_string *str = SELF(call);
    bool all = str->n > 0;
    if (!no_arguments(run, call) || !jinja_charge(run, str->n)) return false;
    for (size_t at = 0; all && at < str->n;) {
        uint32_t c;
        size_t len = sl_utf8_decode(str->s + at, str->n - at, &c);
        all = len && is(c);
        at += len;
    }
    return *out = jinja_bool(all), true;
}

#define CLASS_METHOD(name) \
    static bool str_is##name(struct jinja_run *run, const struct jinja_call *call, \
                             struct jinja_value *out) \
    { \
        return all_are(run, call, sl_unicode_is_##name, out); \
    }

CLASS_METHOD(alpha)
CLASS_METHOD(alnum)
CLASS_METHOD(decimal)
CLASS_METHOD(digit)
CLASS_METHOD(numeric)
CLASS_METHOD(space)

static bool str_islower(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    return no_arguments(run, call) && jinja_test_find("lower")->run(run, call, out);
}

static bool str_isupper(struct jinja_run *run, const struct jinja_call *call,
                        struct jinja_value *out)
{
    return no_arguments(run, call) && jinja_test_find("upper")->run(run, call, out);
}

const struct jinja_builtin jinja_string_methods[] = {
    {"strip", str_strip},
    {"split", str_split},
    {"startswith", str_startswith},
    {"endswith", str_endswith},
    {"lstrip", str_lstrip},
    {"rstrip", str_rstrip},
    {"replace", str_replace},
    {"upper", str_upper},
    {"lower", str_lower},
    {"title", str_title},
    {"capitalize", str_capitalize},
    {"find", str_find},
    {"rfind", str_rfind},
    {"index", str_index},
    {"rindex", str_index},
    {"count", str_count},
    {"join", str_join},
    {"rsplit", str_rsplit},
    {"splitlines", str_splitlines},
    {"partition", str_partition},
    {"rpartition", str_rpartition},
    {"removeprefix", str_removeprefix},
    {"isalpha", str_isalpha},
    {"removesuffix", str_removesuffix},
    {"isalnum", str_isalnum},
    {"isdecimal", str_isdecimal},
    {"isdigit", str_isdigit},
    {"isnumeric", str_isnumeric},
    {"isspace", str_isspace},
    {"islower", str_islower},
    {"isupper", str_isupper},
    {"format", jinja_format_braces},
    {NULL, NULL},
};
