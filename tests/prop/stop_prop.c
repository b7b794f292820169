/* stop_prop.c: the stop matcher against a search over the whole text: small alphabets make
 * overlaps and near misses common. SEED=n repeats a run. */
#include "base/rng.h"
#include "exec/llm/stop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20000
#define SEED_DEFAULT 0x5107
#define TEXT_MAX 60
#define STOPS_MAX 4
#define STOP_LEN_MAX 6

static uint64_t seed = SEED_DEFAULT;

struct random {
    uint64_t stream, index;
};

static int pick(struct random *r, int n)
{
    return (int)(sl_rng_u64(seed, r->stream, r->index++) % (uint64_t)n);
}

static void random_text(struct random *r, int alphabet, int len, char *out)
{
    for (int i = 0; i < len; i++) out[i] = (char)('a' + pick(r, alphabet));
    out[len] = '\0';
}

/* Length of the text to show: up to the start of the longest match among those that end first. */
static size_t shown_len(const char *text, char stops[][STOP_LEN_MAX + 1], int n_stops, bool *hit)
{
    size_t n = strlen(text);
    *hit = false;
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int i = 0; i < n_stops; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && len > longest && memcmp(text + end - len, stops[i], len) == 0)
                longest = len;
        }
        *hit = longest > 0;
        if (*hit) return end - longest;
    }
    return n;
}

/* No suffix of shown text may begin a stop string: then it was handed out too early. */
static void check_nothing_early(const char *text, size_t fed, size_t shown,
                                char stops[][STOP_LEN_MAX + 1], int n_stops)
{
    for (size_t from = 0; from < shown; from++) {
        for (int i = 0; i < n_stops; i++) {
            size_t len = fed - from;
            assert_false(len < strlen(stops[i]) && memcmp(text + from, stops[i], len) == 0);
        }
    }
}

static void one_round(uint64_t round)
{
    struct random r = {round, 0};
    char text[TEXT_MAX + 1], stops[STOPS_MAX][STOP_LEN_MAX + 1];
    const char *pointers[STOPS_MAX];
    int alphabet = 1 + pick(&r, 3), n_stops = pick(&r, STOPS_MAX + 1);
    random_text(&r, alphabet, pick(&r, TEXT_MAX + 1), text);
    for (int i = 0; i < n_stops; i++) {
        random_text(&r, alphabet, 1 + pick(&r, STOP_LEN_MAX), stops[i]);
        pointers[i] = stops[i];
    }
    struct stop_matcher *m;
    struct sl_buf out;
    struct sl_err err = SL_ERR_INIT;
    bool hit = false, expect_hit;
    size_t n = strlen(text), expected = shown_len(text, stops, n_stops, &expect_hit);
    assert_int_equal(stop_create(pointers, n_stops, &m, &err), SL_OK);
    sl_buf_init(&out, TEXT_MAX);
    for (size_t at = 0; at < n;) {
        size_t piece = (size_t)pick(&r, 6);
        if (piece > n - at) piece = n - at;
        assert_int_equal(stop_push(m, text + at, piece, &out, &hit), SL_OK);
        at += piece;
        if (!hit) check_nothing_early(text, at, out.len, stops, n_stops);
    }
    assert_int_equal(stop_finish(m, &out), SL_OK);
    assert_int_equal(hit, expect_hit);
    assert_int_equal(out.len, expected);
    assert_memory_equal(out.data, text, expected);
    sl_buf_done(&out);
    stop_destroy(m);
}

static void equals_a_search_over_the_whole_text(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) one_round(round);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_a_search_over_the_whole_text)};
    if (getenv("SEED")) seed = strtoull(getenv("SEED"), NULL, 0);
    printf("seed %llu, %d rounds\n", (unsigned long long)seed, ROUNDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
