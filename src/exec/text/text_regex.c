/* text_regex.c: wraps PCRE2, https://www.pcre.org/current/doc/html/pcre2api.html. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "exec/text/text_regex.h"

#include "base/buf.h"
#include "base/mem.h"
#include <pcre2.h>

#define PATTERN_MAX 16384 /* the longest known lists 80 ranges in 2,000 bytes */
/* Steps of the matcher for each byte of text: linear expressions take 4 at most. */
#define STEPS_PER_BYTE 16
#define STEPS_MIN 10000
#define HEAP_KIB 65536 /* of the interpreting matcher, where no JIT exists */
#define JIT_STACK_MIN ((size_t)32 << 10)
#define JIT_STACK_MAX ((size_t)1 << 20)

#define WHITE_SPACE "\\t-\\r\\x{85}\\p{Z}" /* inside a class */
#define WORD "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

struct text_regex {
    pcre2_general_context *memory;
    pcre2_code *code;
};

struct text_regex_scratch {
    pcre2_general_context *memory;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack; /* NULL: the machine's own 32 KiB */
};

static void *pcre_malloc(size_t n_bytes, void *unused)
{
    (void)unused;
    return sl_malloc(n_bytes);
}

static void pcre_free(void *p, void *unused)
{
    (void)unused;
    sl_free(p);
}

/* Writes what PCRE2 calls the escape `\c`; returns how many characters after it were used. */
static sl_status translate_escape(const char *s, size_t n, bool in_class, struct sl_buf *out,
                                  size_t *out_used)
{
    const char *open = in_class ? "" : "[", *close = in_class ? "" : "]";
    *out_used = 0;
    switch (s[0]) {
    case 's': return sl_buf_addf(out, "%s" WHITE_SPACE "%s", open, close);
    case 'w': return sl_buf_addf(out, "%s" WORD "%s", open, close);
    case 'S':
        if (!in_class) return sl_buf_adds(out, "[^" WHITE_SPACE "]");
        break;
    case 'W':
        if (!in_class) return sl_buf_adds(out, "[^" WORD "]");
        break;
    case 'u':
        if (n < 5) break;
        *out_used = 4;
        return sl_buf_addf(out, "\\x{%.4s}", s + 1);
    default: break;
    }
    sl_status status = sl_buf_addc(out, '\\');
    return status == SL_OK ? sl_buf_addc(out, s[0]) : status;
}

static sl_status translate(const char *pattern, size_t n, struct sl_buf *out, struct sl_err *err)
{
    bool in_class = false;
    for (size_t i = 0; i < n; i++) {
        sl_status status;
        if (pattern[i] == '\\' && i + 1 < n) {
            size_t used;
            status = translate_escape(pattern + i + 1, n - i - 1, in_class, out, &used);
            i += 1 + used;
        } else {
            if (pattern[i] == '[') in_class = true;
            if (pattern[i] == ']') in_class = false;
            if (in_class && i + 1 < n && pattern[i] == '&' && pattern[i + 1] == '&')
                return sl_err_set(err, SL_UNSUPPORTED,
                                  "a regular expression with an intersection of classes (&&)");
            status = sl_buf_addc(out, pattern[i]);
        }
        if (status != SL_OK) return sl_err_set(err, status, "a regular expression of %zu bytes", n);
    }
    return SL_OK;
}

static sl_status compile(struct text_regex *regex, const struct sl_buf *pattern, struct sl_err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(regex->memory);
    if (!context) return sl_err_set(err, SL_NOMEM, "no memory for a regular expression");
    int code = 0;
    PCRE2_SIZE at = 0;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern->data, pattern->len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &code, &at, context);
    pcre2_compile_context_free(context);
    if (!regex->code) {
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return sl_err_set(err, SL_NOMEM, "no memory for a regular expression");
        return sl_err_set(err, SL_INVALID, "regular expression '%.100s': PCRE2 error %d at %zu",
                          pattern->data, code, (size_t)at);
    }
    /* No JIT on this machine is fine: pcre2_match interprets then. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    return SL_OK;
}

sl_status text_regex_compile(const char *pattern, size_t n, struct text_regex **out,
                             struct sl_err *err)
{
    struct sl_buf translated;
    sl_buf_init(&translated, PATTERN_MAX);
    struct text_regex *regex = sl_calloc(1, sizeof *regex);
    sl_status status = sl_err_set(err, SL_NOMEM, "no memory for a regular expression");
    if (!regex) goto fail;
    regex->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (!regex->memory) goto fail;
    status = translate(pattern, n, &translated, err);
    if (status == SL_OK) status = compile(regex, &translated, err);
    if (status != SL_OK) goto fail;
    sl_buf_done(&translated);
    *out = regex;
    return SL_OK;
fail:
    sl_buf_done(&translated);
    text_regex_destroy(regex);
    return status;
}

void text_regex_destroy(struct text_regex *regex)
{
    if (!regex) return;
    pcre2_code_free(regex->code);
    pcre2_general_context_free(regex->memory);
    sl_free(regex);
}

sl_status text_regex_scratch_create(struct text_regex_scratch **out)
{
    struct text_regex_scratch *scratch = sl_calloc(1, sizeof *scratch);
    if (!scratch) return SL_NOMEM;
    scratch->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (!scratch->memory) goto fail;
    scratch->match = pcre2_match_data_create(1, scratch->memory);
    scratch->limits = pcre2_match_context_create(scratch->memory);
    if (!scratch->match || !scratch->limits) goto fail;
    pcre2_set_heap_limit(scratch->limits, HEAP_KIB);
    scratch->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, scratch->memory);
    if (scratch->stack) pcre2_jit_stack_assign(scratch->limits, NULL, scratch->stack);
    *out = scratch;
    return SL_OK;
fail:
    text_regex_scratch_destroy(scratch);
    return SL_NOMEM;
}

void text_regex_scratch_destroy(struct text_regex_scratch *scratch)
{
    if (!scratch) return;
    pcre2_jit_stack_free(scratch->stack);
    pcre2_match_context_free(scratch->limits);
    pcre2_match_data_free(scratch->match);
    pcre2_general_context_free(scratch->memory);
    sl_free(scratch);
}

sl_status text_regex_find(const struct text_regex *regex, struct text_regex_scratch *scratch,
                          const char *text, size_t n, size_t from, bool *out_found,
                          size_t *out_start, size_t *out_end)
{
    size_t steps = STEPS_MIN + STEPS_PER_BYTE * n;
    pcre2_set_match_limit(scratch->limits, steps > UINT32_MAX ? UINT32_MAX : (uint32_t)steps);
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, scratch->match,
                         scratch->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(regex->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         scratch->match, scratch->limits);
    if (rc == PCRE2_ERROR_NOMEMORY) return SL_NOMEM;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) return SL_LIMIT;
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(scratch->match);
    *out_found = rc >= 0;
    *out_start = rc >= 0 ? range[0] : n;
    *out_end = rc >= 0 ? range[1] : n;
    /* \K in a look-ahead could give a start past the end. */
    if (*out_start > *out_end || *out_start < from) return SL_LIMIT;
    return SL_OK;
}
