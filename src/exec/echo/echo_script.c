#include "exec/echo/echo_script.h"
#include "base/mem.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "echo:"

struct number_row {
    const char *name;
    size_t offset;
    int64_t initial, min, max;
};

#define FIELD(name) #name, offsetof(struct echo_script, name)
static const struct number_row numbers[] = {
    {FIELD(tokens), 0, 0, 1 << 30},        {FIELD(pace_us), 0, 0, 1000000000},
    {FIELD(prefill_us), 0, 0, 1000000000}, {FIELD(slots), 1024, 1, 1 << 20},
    {FIELD(queue), 65536, 1, 1 << 20},     {FIELD(ctx), 32768, 1, 1 << 30},
    {FIELD(bytes), 0, 0, INT64_MAX},       {FIELD(load_ms), 0, 0, 3600000},
    {FIELD(crash_on_load), 0, 0, 1},       {FIELD(crash_at), 0, 0, INT64_MAX},
    {FIELD(hang_at), 0, 0, INT64_MAX},
};

static const struct {
    const char *name;
    size_t offset;
} texts[] = {{FIELD(text)}, {FIELD(load_fail)}, {FIELD(chat_template)}, {FIELD(poison)}};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static int64_t *number_at(struct echo_script *script, size_t offset)
{
    return (int64_t *)(void *)((char *)script + offset);
}

static char **text_at(struct echo_script *script, size_t offset)
{
    return (char **)(void *)((char *)script + offset);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
    return -1;
}

/* RFC 3986, 2.1; a stray '%' stands for itself, and '+' for a space as in forms. */
static char *percent_decode(const char *s, size_t n)
{
    char *out = sl_malloc(n + 1);
    size_t len = 0;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++) {
        int high = s[i] == '%' && n - i > 2 ? hex_digit(s[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s[i + 2]) : -1;
        if (low >= 0) {
            out[len++] = (char)(high << 4 | low);
            i += 2;
        } else {
            out[len++] = s[i] == '+' ? ' ' : s[i];
        }
    }
    out[len] = '\0';
    return out;
}

static sl_status set_number(const struct number_row *row, const char *value, int64_t *out,
                            struct sl_err *err)
{
    char *end;
    errno = 0;
    int64_t v = strtoll(value, &end, 10);
    if (errno || *end || end == value || v < row->min || v > row->max)
        return sl_err_set(err, SL_INVALID, "%s=%s: wants a number from %lld to %lld", row->name,
                          value, (long long)row->min, (long long)row->max);
    *out = v;
    return SL_OK;
}

/* Takes ownership of value. */
static sl_status set_part(struct echo_script *script, const char *name, char *value,
                          struct sl_err *err)
{
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (strcmp(texts[i].name, name) != 0) continue;
        sl_free(*text_at(script, texts[i].offset));
        *text_at(script, texts[i].offset) = value;
        return SL_OK;
    }
    sl_status status = SL_INVALID;
    const struct number_row *row = NULL;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        if (strcmp(numbers[i].name, name) == 0) row = &numbers[i];
    }
    if (row)
        status = set_number(row, value, number_at(script, row->offset), err);
    else
        (void)sl_err_set(err, status, "unknown part %s", name);
    sl_free(value);
    return status;
}

static sl_status read_part(struct echo_script *script, const char *part, size_t n,
                           struct sl_err *err)
{
    char name[32];
    const char *equals = memchr(part, '=', n);
    size_t n_name = equals ? (size_t)(equals - part) : n;
    if (n_name >= sizeof name) return sl_err_set(err, SL_INVALID, "unknown part");
    memcpy(name, part, n_name);
    name[n_name] = '\0';
    char *value = equals ? percent_decode(equals + 1, n - n_name - 1) : sl_strdup("1");
    if (!value) return sl_err_set(err, SL_NOMEM, "script");
    return set_part(script, name, value, err);
}

sl_status echo_script_parse(const char *script, struct echo_script *out, struct sl_err *err)
{
    size_t n_scheme = strlen(SCHEME);
    sl_status status = SL_OK;
    *out = (struct echo_script){0};
    for (size_t i = 0; i < COUNT(numbers); i++)
        *number_at(out, numbers[i].offset) = numbers[i].initial;
    if (strncmp(script, SCHEME, n_scheme) != 0)
        return sl_err_set(err, SL_INVALID, "echo engine: %.100s does not begin with " SCHEME,
                          script);
    const char *part = script + n_scheme;
    if (*part == '?') part++;
    while (*part && status == SL_OK) {
        size_t n = strcspn(part, "&");
        if (n) status = read_part(out, part, n, err);
        part += n + (part[n] == '&');
    }
    if (status == SL_OK) return SL_OK;
    echo_script_done(out);
    return sl_err_prefix(err, "echo engine");
}

void echo_script_done(struct echo_script *script)
{
    for (size_t i = 0; i < COUNT(texts); i++) {
        sl_free(*text_at(script, texts[i].offset));
        *text_at(script, texts[i].offset) = NULL;
    }
}
