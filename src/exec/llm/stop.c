#include "exec/llm/stop.h"
#include "base/mem.h"
#include <stdint.h>
#include <string.h>

/* One Knuth-Morris-Pratt automaton a string. Its state is how many of the string's bytes the
 * text ends with, so the text held back never needs storing: it is the beginning of the string
 * with the largest state. */
struct pattern {
    const char *bytes;
    uint16_t *fail; /* fail[i]: longest proper prefix that also ends bytes[0..i] */
    uint16_t len;
};

struct stop_matcher {
    int n_patterns;
    bool hit;
    struct pattern patterns[STOP_STRINGS_MAX];
    uint16_t states[STOP_STRINGS_MAX];
    char *bytes; /* all strings, one after the other */
    uint16_t *fails;
};

static void fill_fail(struct pattern *p)
{
    uint16_t len = 0;
    p->fail[0] = 0;
    for (uint16_t i = 1; i < p->len; i++) {
        while (len > 0 && p->bytes[i] != p->bytes[len]) len = p->fail[len - 1];
        if (p->bytes[i] == p->bytes[len]) len++;
        p->fail[i] = len;
    }
}

static sl_status check_strings(const char *const *strings, int n, size_t *out_total,
                               struct sl_err *err)
{
    *out_total = 0;
    if (n < 0 || n > STOP_STRINGS_MAX) {
        return sl_err_set(err, SL_INVALID, "%d stop strings, at most %d are allowed", n,
                          STOP_STRINGS_MAX);
    }
    for (int i = 0; i < n; i++) {
        size_t len = strings[i] ? strnlen(strings[i], STOP_STRING_BYTES_MAX + 1) : 0;
        if (len == 0) return sl_err_set(err, SL_INVALID, "stop string %d is empty", i);
        if (len > STOP_STRING_BYTES_MAX) {
            return sl_err_set(err, SL_INVALID, "stop string %d is longer than %d bytes", i,
                              STOP_STRING_BYTES_MAX);
        }
        *out_total += len;
    }
    return SL_OK;
}

sl_status stop_create(const char *const *strings, int n, struct stop_matcher **out,
                      struct sl_err *err)
{
    size_t total, at = 0;
    sl_status status = check_strings(strings, n, &total, err);
    if (status != SL_OK) return status;
    struct stop_matcher *m = sl_calloc(1, sizeof *m);
    if (!m) goto fail;
    if (!(m->bytes = sl_malloc(total))) goto fail;
    if (!(m->fails = sl_calloc(total, sizeof *m->fails))) goto fail;
    m->n_patterns = n;
    for (int i = 0; i < n; i++) {
        struct pattern *p = &m->patterns[i];
        size_t len = strlen(strings[i]);
        memcpy(m->bytes + at, strings[i], len);
        *p = (struct pattern){m->bytes + at, m->fails + at, (uint16_t)len};
        fill_fail(p);
        at += len;
    }
    *out = m;
    return SL_OK;
fail:
    stop_destroy(m);
    return sl_err_set(err, SL_NOMEM, "no memory for stop strings");
}

void stop_destroy(struct stop_matcher *m)
{
    if (!m) return;
    sl_free(m->bytes);
    sl_free(m->fails);
    sl_free(m);
}

static uint16_t step(const struct pattern *p, uint16_t state, char byte)
{
    while (state > 0 && p->bytes[state] != byte) state = p->fail[state - 1];
    return p->bytes[state] == byte ? state + 1 : 0;
}

/* The pattern most of whose beginning the text ends with; -1 when it ends with none. */
static int longest_begun(const uint16_t *states, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (states[i] > 0 && (best < 0 || states[i] > states[best])) best = i;
    }
    return best;
}

/* Runs the automata over text until one matches. Returns the bytes read; *out_match is the
 * length of the longest match that ends there, 0 without one. */
static size_t scan(const struct stop_matcher *m, const char *text, size_t n, uint16_t *states,
                   size_t *out_match)
{
    *out_match = 0;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < m->n_patterns; k++) {
            states[k] = step(&m->patterns[k], states[k], text[i]);
            if (states[k] == m->patterns[k].len && states[k] > *out_match) *out_match = states[k];
        }
        if (*out_match > 0) return i + 1;
    }
    return n;
}

/* Appends the first n bytes of the held-back text followed by `text`; nothing at all on failure. */
static sl_status show(const struct stop_matcher *m, const char *text, size_t n, struct sl_buf *out)
{
    int begun = longest_begun(m->states, m->n_patterns);
    size_t held = begun < 0 ? 0 : m->states[begun], before = out->len;
    size_t from_held = n < held ? n : held;
    sl_status status = from_held > 0 ? sl_buf_add(out, m->patterns[begun].bytes, from_held) : SL_OK;
    if (status == SL_OK && n > from_held) status = sl_buf_add(out, text, n - from_held);
    if (status != SL_OK) sl_buf_truncate(out, before);
    return status;
}

static size_t held_len(const uint16_t *states, int n)
{
    int begun = longest_begun(states, n);
    return begun < 0 ? 0 : states[begun];
}

sl_status stop_push(struct stop_matcher *m, const char *text, size_t n, struct sl_buf *out,
                    bool *out_hit)
{
    *out_hit = m->hit;
    if (m->hit) return SL_OK;
    uint16_t states[STOP_STRINGS_MAX];
    memcpy(states, m->states, sizeof states);
    size_t match, pending = held_len(m->states, m->n_patterns);
    pending += scan(m, text, n, states, &match);
    size_t hidden = match > 0 ? match : held_len(states, m->n_patterns);
    sl_status status = show(m, text, pending - hidden, out);
    if (status != SL_OK) return status;
    memcpy(m->states, states, sizeof states);
    *out_hit = m->hit = match > 0;
    return SL_OK;
}

sl_status stop_finish(struct stop_matcher *m, struct sl_buf *out)
{
    if (m->hit) return SL_OK;
    sl_status status = show(m, "", held_len(m->states, m->n_patterns), out);
    if (status == SL_OK) memset(m->states, 0, sizeof m->states);
    return status;
}
