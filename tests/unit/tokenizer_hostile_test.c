/* tokenizer_hostile_test.c: vocabularies and texts that mean harm, limits, lost memory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "exec/llm/tokenizer.h"
#include "support/tiny_tokenizer.h"

#define HOSTILE_BYTES 100000

/* --- hostile files --- */

static const struct tiny_token TWO_TOKENS[] = {{"a", 1, 0}, {"b", 1, 0}};

static void put_model(struct tiny_gguf *g)
{
    tiny_str(g, "tokenizer.ggml.model", "gpt2");
}

static void put_no_model(struct tiny_gguf *g)
{
    tiny_tokens(g, TWO_TOKENS, 2, false);
}

static void put_other_model(struct tiny_gguf *g)
{
    tiny_str(g, "tokenizer.ggml.model", "bert");
}

static void put_other_pre(struct tiny_gguf *g)
{
    tiny_bpe(g, "no-such-pre-split");
}

static void put_token_numbers(struct tiny_gguf *g)
{
    put_model(g);
    tiny_array(g, "tokenizer.ggml.tokens", GGUF_U32, 1);
    tiny_u32_raw(g, 7);
}

static void put_zero_tokens(struct tiny_gguf *g)
{
    put_model(g);
    tiny_array(g, "tokenizer.ggml.tokens", GGUF_STRING, 0);
}

static void put_types(struct tiny_gguf *g, uint64_t n, uint32_t type)
{
    put_model(g);
    tiny_array(g, "tokenizer.ggml.tokens", GGUF_STRING, 2);
    tiny_str_raw(g, "a", 1);
    tiny_str_raw(g, "b", 1);
    tiny_array(g, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint64_t i = 0; i < n; i++) tiny_u32_raw(g, type);
}

static void put_one_type(struct tiny_gguf *g)
{
    put_types(g, 1, 1);
}

static void put_many_types(struct tiny_gguf *g)
{
    put_types(g, 3, 1);
}

static void put_odd_types(struct tiny_gguf *g)
{
    put_types(g, 2, 99);
}

static void put_no_merges(struct tiny_gguf *g)
{
    put_model(g);
    tiny_tokens(g, TWO_TOKENS, 2, false);
}

static void put_merge_numbers(struct tiny_gguf *g)
{
    put_no_merges(g);
    tiny_u32(g, "tokenizer.ggml.merges", 1);
}

static void put_no_scores(struct tiny_gguf *g)
{
    tiny_str(g, "tokenizer.ggml.model", "llama");
    tiny_tokens(g, TWO_TOKENS, 2, false);
}

static void put_bos_outside(struct tiny_gguf *g)
{
    tiny_bpe(g, "qwen2");
    tiny_u32(g, "tokenizer.ggml.bos_token_id", TINY_BPE_N);
}

static void put_eos_text(struct tiny_gguf *g)
{
    tiny_bpe(g, "qwen2");
    tiny_str(g, "tokenizer.ggml.eos_token_id", "</s>");
}

static void put_flag_text(struct tiny_gguf *g)
{
    tiny_spm(g);
    tiny_str(g, "tokenizer.ggml.add_bos_token", "yes");
}

static void put_long_special(struct tiny_gguf *g)
{
    static char text[2000];
    memset(text, 'x', sizeof text - 1);
    struct tiny_token token = {text, 3, 0};
    put_model(g);
    tiny_tokens(g, &token, 1, false);
    tiny_array(g, "tokenizer.ggml.merges", GGUF_STRING, 0);
}

static void inconsistent_vocabularies_are_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        void (*put)(struct tiny_gguf *g);
        sl_status status;
        const char *key;
    } cases[] = {
        {put_no_model, SL_CORRUPT, "tokenizer.ggml.model"},
        {put_other_model, SL_UNSUPPORTED, "tokenizer.ggml.model"},
        {put_other_pre, SL_UNSUPPORTED, "tokenizer.ggml.pre"},
        {put_model, SL_CORRUPT, "tokenizer.ggml.tokens"},
        {put_token_numbers, SL_CORRUPT, "tokenizer.ggml.tokens"},
        {put_zero_tokens, SL_CORRUPT, "tokenizer.ggml.tokens"},
        {put_one_type, SL_CORRUPT, "tokenizer.ggml.token_type"},
        {put_many_types, SL_CORRUPT, "tokenizer.ggml.token_type"},
        {put_odd_types, SL_CORRUPT, "tokenizer.ggml.token_type"},
        {put_no_merges, SL_CORRUPT, "tokenizer.ggml.merges"},
        {put_merge_numbers, SL_CORRUPT, "tokenizer.ggml.merges"},
        {put_no_scores, SL_CORRUPT, "tokenizer.ggml.scores"},
        {put_bos_outside, SL_CORRUPT, "tokenizer.ggml.bos_token_id"},
        {put_eos_text, SL_CORRUPT, "tokenizer.ggml.eos_token_id"},
        {put_flag_text, SL_CORRUPT, "tokenizer.ggml.add_bos_token"},
        {put_long_special, SL_LIMIT, "tokenizer.ggml.tokens"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tiny_gguf g;
        struct gguf_file *file;
        struct tokenizer *tok = NULL;
        struct sl_err err = SL_ERR_INIT;
        tiny_begin(&g);
        cases[i].put(&g);
        assert_int_equal(tiny_open(&g, &file, &err), SL_OK);
        uint64_t before = sl_mem_live();
        assert_int_equal(tokenizer_create(file, &tok, &err), cases[i].status);
        assert_non_null(strstr(err.text, cases[i].key));
        assert_null(tok);
        assert_int_equal(sl_mem_live(), before);
        gguf_close(file);
        tiny_done(&g);
    }
}

static void odd_merges_and_tokens_are_lived_with(void **state)
{
    (void)state;
    static const struct tiny_token tokens[] = {{"a", 1, 0},    {"", 1, 0}, {"b", 1, 0},
                                               {"a", 1, 0},    {"", 3, 0}, {"ab", 1, 0},
                                               {"Ā\xff", 1, 0}};
    static const char *const merges[] = {"a b", "b a", "a",   "",      " ",
                                         "a ",  "c d", "a b", "ab zz", "  a"};
    struct fixture f;
    tiny_begin(&f.gguf);
    put_model(&f.gguf);
    tiny_tokens(&f.gguf, tokens, COUNT(tokens), false);
    tiny_array(&f.gguf, "tokenizer.ggml.merges", GGUF_STRING, COUNT(merges));
    for (size_t i = 0; i < COUNT(merges); i++) tiny_str_raw(&f.gguf, merges[i], strlen(merges[i]));
    open_fixture(&f);
    assert_string_equal(tokenizer_kind(f.tok), "bpe/default");
    CHECK(f.tok, "aab", 0, 3, 5); /* of two tokens with one spelling the last is found */
    /* nothing here can say this */
    check_list(f.tok, "\xf0\x9f\x98\x80", TOKENIZE_PARSE_SPECIAL, NULL, 0);
    close_fixture(&f);
}

/* --- hostile texts --- */

static void long_runs_of_one_thing_are_taken(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2",          "starcoder",   "llama-bpe", "qwen2",
                                       "qwen35",         "gpt-4o",      "tekken",    "deepseek-llm",
                                       "deepseek-coder", "deepseek-v3", "falcon",    "default"};
    static const char *const units[] = {"a",  "A",        " ",         "\n", " \n",  "7",
                                        "😀",  "\xcc\x81", "a\xcc\x81", "!",  "'s",   "\x01",
                                        "中", "\xc2\xa0", "<|im_",     "aA", "\xff", "▁"};
    static const char *const tails[] = {"", "x", "中"};
    static char text[HOSTILE_BYTES + 16];
    for (size_t p = 0; p <= COUNT(pres); p++) {
        struct fixture f;
        if (p == COUNT(pres))
            open_spm(&f);
        else
            open_bpe(&f, pres[p]);
        for (size_t i = 0; i < COUNT(units) * COUNT(tails); i++) {
            const char *unit = units[i / COUNT(tails)], *tail = tails[i % COUNT(tails)];
            size_t n = 0;
            for (; n + strlen(unit) <= HOSTILE_BYTES; n += strlen(unit))
                memcpy(text + n, unit, strlen(unit));
            memcpy(text + n, tail, strlen(tail));
            n += strlen(tail);
            if (sl_utf8_valid(text, n)) {
                check_round_trip(f.tok, text, n);
            } else {
                struct sl_buf ids;
                encode(f.tok, text, n, 0, &ids);
                assert_true(ids.len >= HOSTILE_BYTES * sizeof(int32_t));
                sl_buf_done(&ids);
            }
        }
        close_fixture(&f);
    }
}

static void texts_and_outputs_have_limits(void **state)
{
    (void)state;
    struct fixture f;
    struct sl_buf out;
    struct sl_err err = SL_ERR_INIT;
    open_bpe(&f, "qwen2");
    sl_buf_init(&out, 3 * sizeof(int32_t));
    assert_int_equal(tokenizer_encode(f.tok, "qr", 2, 0, &out, &err), SL_OK);
    assert_int_equal(tokenizer_encode(f.tok, "qr", 2, 0, &out, &err), SL_LIMIT);
    /* what was there stays, nothing half is added */
    assert_int_equal(out.len, 2 * sizeof(int32_t));
    assert_int_equal(tokenizer_encode(f.tok, "q", SIZE_MAX, 0, &out, &err), SL_LIMIT);
    sl_buf_done(&out);
    close_fixture(&f);
}

/* --- memory --- */

static void every_lost_allocation_is_survived(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct fixture f;
        if (spm)
            open_spm(&f);
        else
            open_bpe(&f, "llama-bpe");
        uint64_t before = sl_mem_live();
        bool hit = true;
        for (uint64_t nth = 1; hit; nth++) {
            struct tokenizer *tok = NULL;
            struct sl_err err = SL_ERR_INIT;
            struct sl_buf out;
            sl_buf_init(&out, IDS_BYTES_MAX);
            sl_mem_fail_at(nth, false);
            sl_status status = tokenizer_create(f.file, &tok, &err);
            if (status == SL_OK)
                status = tokenizer_encode(tok, "<think>ab xyz é\xff", 17, 0, &out, &err);
            hit = sl_mem_fail_hit();
            sl_mem_fail_at(0, false);
            assert_true(status == SL_OK || status == SL_NOMEM);
            if (!hit) assert_int_equal(status, SL_OK);
            if (status == SL_NOMEM) assert_int_equal(out.len, 0);
            sl_buf_done(&out);
            tokenizer_destroy(tok);
            assert_int_equal(sl_mem_live(), before);
        }
        close_fixture(&f);
    }
}

static void destroying_nothing_is_fine(void **state)
{
    (void)state;
    uint64_t before = sl_mem_live();
    tokenizer_destroy(NULL);
    assert_int_equal(sl_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inconsistent_vocabularies_are_refused_by_key),
        cmocka_unit_test(odd_merges_and_tokens_are_lived_with),
        cmocka_unit_test(long_runs_of_one_thing_are_taken),
        cmocka_unit_test(texts_and_outputs_have_limits),
        cmocka_unit_test(every_lost_allocation_is_survived),
        cmocka_unit_test(destroying_nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
