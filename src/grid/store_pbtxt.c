#include "grid/store_pbtxt.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 128  /* of the names of nested fields; longer ones are none of ours */
#define TOKEN_SIZE 256 /* of a name or value; longer ones are cut, and none of ours */
#define NUMBER_MAX INT32_MAX

struct reader {
    const char *p, *end;
    struct store_pbtxt *out;
    struct sl_err *err;
    int line;
};

static sl_status bad(struct reader *r, const char *what)
{
    return sl_err_set(r->err, SL_CORRUPT, "line %d: %s", r->line, what);
}

/* The next character that means something; '\0' at the end. */
static char peek(struct reader *r)
{
    while (r->p < r->end) {
        if (*r->p == '#') {
            while (r->p < r->end && *r->p != '\n') r->p++;
            continue;
        }
        if (!isspace((unsigned char)*r->p)) return *r->p;
        if (*r->p++ == '\n') r->line++;
    }
    return '\0';
}

static bool take(struct reader *r, char c)
{
    if (peek(r) != c) return false;
    r->p++;
    return true;
}

static void append(char out[TOKEN_SIZE], size_t *n, char c)
{
    if (*n < TOKEN_SIZE - 1) out[(*n)++] = c;
    out[*n] = '\0';
}

/* A name, a number or a word. */
static sl_status read_word(struct reader *r, char out[TOKEN_SIZE])
{
    size_t n = 0;
    *out = '\0';
    (void)peek(r);
    while (r->p < r->end && (isalnum((unsigned char)*r->p) || strchr("_+-./", *r->p)))
        append(out, &n, *r->p++);
    return n > 0 ? SL_OK : bad(r, "a name or a value is missing");
}

/* Escapes keep their letter: no path has any. */
static sl_status read_string(struct reader *r, char out[TOKEN_SIZE])
{
    size_t n = 0;
    *out = '\0';
    for (char quote = peek(r); quote == '"' || quote == '\''; quote = peek(r)) {
        for (r->p++; r->p < r->end && *r->p != quote; r->p++) {
            if (*r->p == '\n') return bad(r, "a string does not end");
            if (*r->p == '\\' && r->p + 1 < r->end) r->p++;
            append(out, &n, *r->p);
        }
        if (r->p == r->end) return bad(r, "a string does not end");
        r->p++;
    }
    return SL_OK;
}

/* Whole numbers from 0 on; what is none, or larger than sense, counts as the nearest. */
static int64_t number_of(const char *word)
{
    long long v = strtoll(word, NULL, 10);
    return v < 0 ? 0 : v < NUMBER_MAX ? v : NUMBER_MAX;
}

static void note(struct store_pbtxt *out, const char *path, const char *value)
{
    int64_t v = number_of(value);
    if (strcmp(path, "/max_batch_size") == 0)
        out->max_batch_size = v;
    else if (strcmp(path, "/dynamic_batching/max_queue_delay_microseconds") == 0)
        out->delay_us = v;
    else if (strcmp(path, "/instance_group/count") == 0)
        out->instances = out->instances + v < NUMBER_MAX ? out->instances + v : NUMBER_MAX;
    else if (strcmp(path, "/output/label_filename") == 0)
        snprintf(out->labels, sizeof out->labels, "%s", value);
}

static sl_status read_fields(struct reader *r, const char *path, char close, int depth);

/* What follows a field's name; a list's items one by one. */
static sl_status read_value(struct reader *r, const char *path, int depth)
{
    char value[TOKEN_SIZE], open = peek(r);
    if (open == '{' || open == '<') {
        r->p++;
        return read_fields(r, path, open == '{' ? '}' : '>', depth + 1);
    }
    sl_status status = open == '"' || open == '\'' ? read_string(r, value) : read_word(r, value);
    if (status == SL_OK) note(r->out, path, value);
    return status;
}

static sl_status read_list(struct reader *r, const char *path, int depth)
{
    if (take(r, ']')) return SL_OK;
    for (;;) {
        if (peek(r) == '[') return bad(r, "a list in a list");
        sl_status status = read_value(r, path, depth);
        if (status != SL_OK) return status;
        if (take(r, ']')) return SL_OK;
        if (!take(r, ',')) return bad(r, "a list does not end");
    }
}

static sl_status read_field(struct reader *r, const char *above, int depth)
{
    char name[TOKEN_SIZE], path[PATH_SIZE];
    sl_status status = read_word(r, name);
    if (status != SL_OK) return status;
    int n = snprintf(path, sizeof path, "%s/%s", above, name);
    if (n < 0 || n >= PATH_SIZE) snprintf(path, sizeof path, "/?");
    if (strcmp(path, "/dynamic_batching") == 0) r->out->batches = true;
    bool colon = take(r, ':');
    char next = peek(r);
    if (next == '[') {
        r->p++;
        return read_list(r, path, depth);
    }
    if (!colon && next != '{' && next != '<') return bad(r, "':' is missing");
    return read_value(r, path, depth);
}

/* Fields up to `close`; '\0': up to the end. */
static sl_status read_fields(struct reader *r, const char *path, char close, int depth)
{
    if (depth > STORE_PBTXT_DEPTH_MAX)
        return sl_err_set(r->err, SL_LIMIT, "line %d: nested deeper than %d", r->line,
                          STORE_PBTXT_DEPTH_MAX);
    for (;;) {
        char next = peek(r);
        if (next == close && r->p < r->end) r->p++;
        if (next == close) return SL_OK;
        if (next == '\0') return bad(r, "it ends in the middle");
        sl_status status = read_field(r, path, depth);
        if (status != SL_OK) return status;
        if (!take(r, ',')) (void)take(r, ';');
    }
}

sl_status store_pbtxt_parse(const char *text, size_t n, struct store_pbtxt *out, struct sl_err *err)
{
    struct store_pbtxt config = {0};
    struct reader reader = {text, text + n, &config, err, 1};
    if (memchr(text, '\0', n)) return sl_err_set(err, SL_CORRUPT, "a NUL in it");
    sl_status status = read_fields(&reader, "", '\0', 0);
    if (status == SL_OK) *out = config;
    return status;
}
