/* tokenizer_test.c: ids of real vocabularies, the rules of small ones, special tokens,
 * detokenising. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exec/llm/tokenizer.h"
#include "support/tiny_tokenizer.h"

/* `want` is a list of ids as text: " 1 2 3". */
static void check_ids(const struct tokenizer *tok, const char *text, size_t n, unsigned flags,
                      const char *want)
{
    struct sl_buf ids, got;
    encode(tok, text, n, flags, &ids);
    sl_buf_init(&got, IDS_BYTES_MAX);
    for (size_t at = 0; at < ids.len; at += sizeof(int32_t)) {
        int32_t id;
        memcpy(&id, ids.data + at, sizeof id);
        assert_int_equal(sl_buf_addf(&got, " %d", (int)id), SL_OK);
    }
    assert_string_equal(got.data, want);
    sl_buf_done(&got);
    sl_buf_done(&ids);
}

/* --- real vocabularies --- */

static char *read_shared(const char *path, size_t *out_n)
{
    char full[4096];
    const char *root = getenv("STARLANE_SHARED");
    snprintf(full, sizeof full, "%s/%s", root ? root : STARLANE_SHARED, path);
    FILE *file = fopen(full, "rb");
    if (!file) return NULL;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *out_n = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*out_n + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *out_n, file), *out_n);
    text[*out_n] = '\0';
    fclose(file);
    return text;
}

#define GOLDEN_BREAK "\n__ggml_vocab_test__\n"

/* Checks each text of `in` against the line of `out` that belongs to it; returns how many there
 * were. */
static int check_golden_texts(const struct tokenizer *tok, char *in, size_t n_in, char *out)
{
    int n_texts = 0;
    for (char *end = in + n_in; in < end; n_texts++) {
        char *stop = memmem(in, (size_t)(end - in), GOLDEN_BREAK, sizeof GOLDEN_BREAK - 1);
        char *next = stop ? stop + sizeof GOLDEN_BREAK - 1 : end;
        char *line_end = strchr(out, '\n');
        assert_non_null(line_end);
        *line_end = '\0';
        check_ids(tok, in, (size_t)((stop ? stop : end) - in), 0, out);
        out = line_end + 1;
        in = next;
    }
    return n_texts;
}

static void check_golden(const char *name, const char *kind)
{
    char path[256];
    size_t n_in, n_out;
    snprintf(path, sizeof path, "golden/tokenizers/%s.inp", name);
    char *in = read_shared(path, &n_in);
    if (!in) skip();
    snprintf(path, sizeof path, "golden/tokenizers/%s.out", name);
    char *out = read_shared(path, &n_out);
    assert_non_null(out);
    const char *root = getenv("STARLANE_SHARED");
    snprintf(path, sizeof path, "%s/data/tokenizers/%s", root ? root : STARLANE_SHARED, name);
    struct gguf_file *file;
    struct tokenizer *tok = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (gguf_open(path, &file, &err) != SL_OK || tokenizer_create(file, &tok, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_string_equal(tokenizer_kind(tok), kind);
    assert_true(check_golden_texts(tok, in, n_in, out) >= 40);
    tokenizer_destroy(tok);
    gguf_close(file);
    free(in);
    free(out);
}

static void deepseek_llm_ids_are_the_known_ones(void **state)
{
    (void)state;
    check_golden("ggml-vocab-deepseek-llm.gguf", "bpe/deepseek-llm");
}

static void llama3_ids_are_the_known_ones(void **state)
{
    (void)state;
    check_golden("ggml-vocab-llama-bpe.gguf", "bpe/llama-bpe");
}

static void llama2_ids_are_the_known_ones(void **state)
{
    (void)state;
    check_golden("ggml-vocab-llama-spm.gguf", "spm");
}

static void qwen2_ids_are_the_known_ones(void **state)
{
    (void)state;
    check_golden("ggml-vocab-qwen2.gguf", "bpe/qwen2");
}

/* --- byte-level BPE --- */

static void merges_go_by_rank_and_leftmost_first(void **state)
{
    (void)state;
    struct fixture f;
    open_bpe(&f, "gpt-2");
    CHECK(f.tok, "abc", 0, MERGED(0), 'c'); /* "a b" ranks before "b c" */
    CHECK(f.tok, "bcd", 0, MERGED(1), 'd'); /* "b c" before "c d" */
    CHECK(f.tok, "abcd", 0, MERGED(3));
    CHECK(f.tok, "abcdabcdab", 0, MERGED(14), MERGED(0));
    CHECK(f.tok, "11111", 0, MERGED(4), MERGED(5)); /* 11 11 1, then 11 111 */
    CHECK(f.tok, "q", 0, 'q');
    check_list(f.tok, "", 0, NULL, 0);
    close_fixture(&f);
}

static void each_pre_split_cuts_its_own_way(void **state)
{
    (void)state;
    static const struct {
        const char *pre;
        int digits;        /* how many go together: 1, 3 or 0 for all */
        bool cuts_quote;   /* "'" and "s" apart */
        bool joins_suffix; /* "a's" is one word */
        bool cuts_case;
        bool joins_lines;
    } rules[] = {
        {"gpt-2", 0, false, false, false, false},
        {"default", 3, true, false, false, false},
        {"starcoder", 1, false, false, false, false},
        {"falcon", 3, true, false, false, false},
        {"llama-bpe", 3, false, false, false, true},
        {"qwen2", 1, false, false, false, true},
        {"qwen35", 1, false, false, false, true},
        {"gpt-4o", 3, false, true, true, true},
        {"tekken", 1, false, false, true, true},
        {"deepseek-llm", 0, true, false, false, false},
        {"deepseek-coder", 1, true, false, false, false},
        {"deepseek-v3", 3, false, false, false, true},
    };
    static const char mixed[] = "  I'm 1234567 ok!!\r\n\t 中文かな한 é\xcc\x81 \xe1\xa0\x8e x";
    for (size_t i = 0; i < COUNT(rules); i++) {
        struct fixture f;
        open_bpe(&f, rules[i].pre);
        if (rules[i].digits == 0)
            CHECK(f.tok, "1111111", 0, MERGED(4), MERGED(4), MERGED(5));
        else if (rules[i].digits == 3)
            CHECK(f.tok, "1111111", 0, MERGED(5), MERGED(5), '1');
        else
            CHECK(f.tok, "1111111", 0, '1', '1', '1', '1', '1', '1', '1');
        if (rules[i].cuts_quote)
            CHECK(f.tok, "a's", 0, 'a', '\'', 's');
        else if (rules[i].joins_suffix)
            CHECK(f.tok, "a's", 0, MERGED(9));
        else
            CHECK(f.tok, "a's", 0, 'a', MERGED(8));
        if (rules[i].cuts_case)
            CHECK(f.tok, "aB", 0, 'a', 'B');
        else
            CHECK(f.tok, "aB", 0, MERGED(7));
        if (rules[i].joins_lines)
            CHECK(f.tok, "\n\nA", 0, MERGED(13), 'A');
        else
            CHECK(f.tok, "\n\nA", 0, '\n', '\n', 'A');
        CHECK(f.tok, "   a", 0, MERGED(10), MERGED(11)); /* the last space belongs to the word */
        check_round_trip(f.tok, mixed, sizeof mixed - 1);
        close_fixture(&f);
    }
}

static void whole_words_come_first_where_the_model_says_so(void **state)
{
    (void)state;
    struct fixture f;
    open_bpe(&f, "llama-bpe");
    CHECK(f.tok, "xyz", 0, TINY_XY);
    CHECK(f.tok, "xyzx", 0, 'x', 'y', 'z', 'x');
    close_fixture(&f);
    open_bpe(&f, "qwen2");
    CHECK(f.tok, "xyz", 0, 'x', 'y', 'z');
    close_fixture(&f);
}

static void bytes_that_are_not_utf8_come_back(void **state)
{
    (void)state;
    static const char text[] =
        "ab\xff\xfe cd\xc3(\xe2\x82 \xed\xa0\x80\0\xf0\x9f\x98 a's\xc0\x80\x80";
    struct fixture f;
    for (int spm = 0; spm < 2; spm++) {
        if (spm)
            open_spm(&f);
        else
            open_bpe(&f, "qwen2");
        struct sl_buf ids, back;
        encode(f.tok, text, sizeof text - 1, 0, &ids);
        sl_buf_init(&back, IDS_BYTES_MAX);
        for (size_t at = 0; at < ids.len; at += sizeof(int32_t)) {
            int32_t id;
            const char *piece;
            memcpy(&id, ids.data + at, sizeof id);
            size_t n = tokenizer_piece(f.tok, id, 0, &piece);
            assert_int_equal(sl_buf_add(&back, piece, n), SL_OK);
        }
        size_t prefix = spm ? 1 : 0;
        assert_int_equal(back.len, sizeof text - 1 + prefix);
        assert_memory_equal(back.data + prefix, text, sizeof text - 1);
        sl_buf_done(&ids);
        sl_buf_done(&back);
        close_fixture(&f);
    }
}

/* --- SentencePiece --- */

static void pieces_join_by_score_and_leftmost_first(void **state)
{
    (void)state;
    struct fixture f;
    open_spm(&f);
    assert_string_equal(tokenizer_kind(f.tok), "spm");
    CHECK(f.tok, "abc", 0, PIECE(7), PIECE(6));           /* bc first, then _a */
    CHECK(f.tok, "bca", 0, PIECE(0), PIECE(6), PIECE(1)); /* bc and ca score alike */
    CHECK(f.tok, "éé", 0, PIECE(0), PIECE(17));
    CHECK(f.tok, "x€", 0, PIECE(0), SPM_BYTE('x'), SPM_BYTE(0xE2), SPM_BYTE(0x82), SPM_BYTE(0xAC));
    CHECK(f.tok, "  a", 0, PIECE(8), PIECE(7)); /* the prefix, two spaces */
    check_list(f.tok, "", 0, NULL, 0);
    close_fixture(&f);
}

static void the_letter_that_means_space_stays_itself(void **state)
{
    (void)state;
    struct fixture f;
    open_spm(&f);
    CHECK(f.tok, "▁", 0, PIECE(0), SPM_BYTE(0xE2), SPM_BYTE(0x96), SPM_BYTE(0x81));
    check_round_trip(f.tok, " a▁▁ b▁", strlen(" a▁▁ b▁"));
    close_fixture(&f);
}

static void the_space_prefix_can_be_switched_off(void **state)
{
    (void)state;
    struct fixture f;
    tiny_begin(&f.gguf);
    tiny_spm(&f.gguf);
    tiny_str(&f.gguf, "tokenizer.ggml.pre", "default");
    tiny_bool(&f.gguf, "tokenizer.ggml.add_space_prefix", false);
    open_fixture(&f);
    CHECK(f.tok, "a", 0, PIECE(1));
    CHECK(f.tok, " a", 0, PIECE(7));
    check_round_trip(f.tok, " a", 2);
    check_round_trip(f.tok, "a[x] a", 6);
    close_fixture(&f);
}

static void unknown_characters_without_byte_tokens_are_one_unknown(void **state)
{
    (void)state;
    static const struct tiny_token tokens[] = {{"<unk>", 2, 0}, {"a", 1, -1}, {"▁", 1, -2}};
    struct fixture f;
    tiny_begin(&f.gguf);
    tiny_str(&f.gguf, "tokenizer.ggml.model", "llama");
    tiny_tokens(&f.gguf, tokens, COUNT(tokens), true);
    open_fixture(&f);
    CHECK(f.tok, "a€a", 0, 2, 1, 0, 1);
    assert_false(tokenizer_adds_bos(f.tok) && tokenizer_bos(f.tok) >= tokenizer_n_vocab(f.tok));
    close_fixture(&f);
}

/* --- special tokens --- */

static void special_tokens_are_found_when_asked_for(void **state)
{
    (void)state;
    struct fixture f;
    open_bpe(&f, "qwen2");
    CHECK(f.tok, "<|im_start|>q<|im_end|>", TOKENIZE_PARSE_SPECIAL, TINY_START, 'q', TINY_END);
    CHECK(f.tok, "<|im_<|im_end|>", TOKENIZE_PARSE_SPECIAL, '<', '|', 'i', 'm', '_', TINY_END);
    CHECK(f.tok, "<|im_end|>", 0, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>');
    CHECK(f.tok, "<|im_end|", TOKENIZE_PARSE_SPECIAL, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|');
    close_fixture(&f);
}

static void user_tokens_are_always_found_longest_first(void **state)
{
    (void)state;
    struct fixture f;
    open_bpe(&f, "qwen2");
    CHECK(f.tok, "<think>q<think>ing", 0, TINY_THINK, 'q', TINY_THINKING);
    CHECK(f.tok, "<think><think>in", 0, TINY_THINK, TINY_THINK, 'i', 'n');
    close_fixture(&f);
    open_spm(&f);
    CHECK(f.tok, "a[x]a", 0, PIECE(7), PIECE(19), PIECE(7));
    CHECK(f.tok, "a   b", 0, PIECE(7), PIECE(18), PIECE(0), PIECE(2));
    /* not the control token, though all its halves are there */
    CHECK(f.tok, "</s>", 0, PIECE(0), PIECE(15), PIECE(11));
    CHECK(f.tok, "</s>", TOKENIZE_PARSE_SPECIAL, 2);
    CHECK(f.tok, "<unk>", TOKENIZE_PARSE_SPECIAL, 0);
    close_fixture(&f);
}

static void bos_and_eos_go_where_the_file_says(void **state)
{
    (void)state;
    struct fixture f;
    open_spm(&f); /* SentencePiece: bos by default, and ids 1 and 2 */
    assert_true(tokenizer_adds_bos(f.tok));
    CHECK(f.tok, "a", TOKENIZE_ADD_SPECIAL, 1, PIECE(7));
    CHECK(f.tok, "", TOKENIZE_ADD_SPECIAL, 1);
    CHECK(f.tok, "a", 0, PIECE(7));
    close_fixture(&f);

    tiny_begin(&f.gguf);
    tiny_spm(&f.gguf);
    tiny_bool(&f.gguf, "tokenizer.ggml.add_bos_token", false);
    tiny_bool(&f.gguf, "tokenizer.ggml.add_eos_token", true);
    open_fixture(&f);
    CHECK(f.tok, "a", TOKENIZE_ADD_SPECIAL, PIECE(7), 2);
    close_fixture(&f);

    static const char *const pres[] = {"llama-bpe", "tekken", "qwen2"};
    for (size_t i = 0; i < COUNT(pres); i++) {
        tiny_begin(&f.gguf);
        tiny_bpe(&f.gguf, pres[i]);
        tiny_u32(&f.gguf, "tokenizer.ggml.bos_token_id", TINY_START);
        open_fixture(&f);
        assert_int_equal(tokenizer_adds_bos(f.tok), strcmp(pres[i], "qwen2") != 0);
        assert_int_equal(tokenizer_bos(f.tok), TINY_START);
        assert_int_equal(tokenizer_eos(f.tok), -1);
        close_fixture(&f);
    }
}

static void ids_of_all_ones_mean_none(void **state)
{
    (void)state;
    struct fixture f;
    tiny_begin(&f.gguf);
    tiny_spm(&f.gguf);
    tiny_u32(&f.gguf, "tokenizer.ggml.bos_token_id", UINT32_MAX);
    tiny_u32(&f.gguf, "tokenizer.ggml.eos_token_id", UINT32_MAX);
    open_fixture(&f);
    assert_int_equal(tokenizer_bos(f.tok), -1);
    assert_int_equal(tokenizer_eos(f.tok), -1);
    assert_false(tokenizer_adds_bos(f.tok));
    CHECK(f.tok, "a", TOKENIZE_ADD_SPECIAL, PIECE(7));
    close_fixture(&f);
}

static void ends_are_the_named_ids_and_the_known_spellings(void **state)
{
    (void)state;
    struct fixture f;
    tiny_begin(&f.gguf);
    tiny_bpe(&f.gguf, "qwen2");
    tiny_u32(&f.gguf, "tokenizer.ggml.eos_token_id", 'q');
    tiny_u32(&f.gguf, "tokenizer.ggml.eot_token_id", 'r');
    tiny_u32(&f.gguf, "tokenizer.ggml.eom_token_id", 's');
    open_fixture(&f);
    assert_int_equal(tokenizer_eos(f.tok), 'q');
    int n_ends = 0;
    for (int32_t id = -2; id < TINY_BPE_N + 2; id++) n_ends += tokenizer_is_end(f.tok, id);
    assert_int_equal(n_ends, 4);
    assert_true(tokenizer_is_end(f.tok, 'q') && tokenizer_is_end(f.tok, 'r') &&
                tokenizer_is_end(f.tok, 's'));
    assert_true(tokenizer_is_end(f.tok, TINY_END));
    close_fixture(&f);
}

static void a_harmony_message_end_is_not_the_answers_end(void **state)
{
    (void)state;
    static const struct tiny_token tokens[] = {
        {"<|end|>", 3, 0}, {"<|return|>", 3, 0}, {"<|call|>", 3, 0}};
    for (size_t n = 1; n <= COUNT(tokens); n += 2) {
        struct fixture f;
        tiny_begin(&f.gguf);
        tiny_str(&f.gguf, "tokenizer.ggml.model", "gpt2");
        tiny_str(&f.gguf, "tokenizer.ggml.pre", "gpt-4o");
        tiny_tokens(&f.gguf, tokens, n, false);
        tiny_array(&f.gguf, "tokenizer.ggml.merges", GGUF_STRING, 0);
        open_fixture(&f);
        assert_int_equal(tokenizer_is_end(f.tok, 0), n == 1);
        assert_int_equal(tokenizer_is_end(f.tok, 1), n == 3);
        close_fixture(&f);
    }
}

/* --- queries and detokenising --- */

static void pieces_and_types_are_as_the_file_says(void **state)
{
    (void)state;
    struct fixture f;
    const char *piece;
    open_bpe(&f, "qwen2");
    assert_int_equal(tokenizer_n_vocab(f.tok), TINY_BPE_N);
    assert_int_equal(tokenizer_piece(f.tok, MERGED(11), 0, &piece), 2);
    assert_memory_equal(piece, " a", 2);
    assert_int_equal(tokenizer_piece(f.tok, 0xFF, 0, &piece), 1);
    assert_int_equal((unsigned char)piece[0], 0xFF);
    assert_int_equal(tokenizer_piece(f.tok, TINY_END, 0, &piece), 0);
    assert_int_equal(tokenizer_piece(f.tok, TINY_END, DETOKENIZE_SPECIAL, &piece), 10);
    assert_memory_equal(piece, "<|im_end|>", 10);
    assert_int_equal(tokenizer_piece(f.tok, TINY_THINK, 0, &piece), 7);
    assert_int_equal(tokenizer_piece(f.tok, -1, 0, &piece), 0);
    assert_int_equal(tokenizer_piece(f.tok, TINY_BPE_N, DETOKENIZE_SPECIAL, &piece), 0);
    assert_int_equal(tokenizer_type(f.tok, TINY_END), TOKEN_CONTROL);
    assert_int_equal(tokenizer_type(f.tok, INT32_MAX), TOKEN_UNUSED);
    assert_int_equal(tokenizer_type(f.tok, -1), TOKEN_UNUSED);
    assert_int_equal(tokenizer_find(f.tok, "<think>", 7), TINY_THINK);
    assert_int_equal(tokenizer_find(f.tok, "<thin", 5), -1);
    close_fixture(&f);
}

static void detokenising_holds_half_characters_back(void **state)
{
    (void)state;
    static const unsigned char euro_then_cut[] = {0xE2, 0x82, 0xAC, 0xE2, 0x82,
                                                  'a',  0xFF, 0xF0, 0x9F};
    static const char *const after[] = {"", "", "€", "€", "€", "€�a", "€�a�", "€�a�", "€�a�"};
    struct fixture f;
    struct detokenizer d;
    struct sl_buf out;
    open_bpe(&f, "qwen2");
    detokenizer_init(&d, f.tok, 0, true);
    sl_buf_init(&out, 100);
    for (size_t i = 0; i < COUNT(after); i++) {
        assert_int_equal(detokenizer_push(&d, euro_then_cut[i], &out), SL_OK);
        assert_string_equal(out.data, after[i]);
    }
    assert_int_equal(detokenizer_finish(&d, &out), SL_OK);
    assert_string_equal(out.data, "€�a��");
    assert_int_equal(detokenizer_finish(&d, &out), SL_OK);
    assert_string_equal(out.data, "€�a��");
    sl_buf_done(&out);
    close_fixture(&f);
}

static void a_failed_push_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d;
    struct sl_buf out;
    open_bpe(&f, "qwen2");
    detokenizer_init(&d, f.tok, 0, true);
    sl_buf_init(&out, 2);
    assert_int_equal(detokenizer_push(&d, 0xE2, &out), SL_OK);
    assert_int_equal(detokenizer_push(&d, 0x82, &out), SL_OK);
    assert_int_equal(detokenizer_push(&d, 0xAC, &out), SL_LIMIT);
    assert_int_equal(out.len, 0);
    sl_buf_done(&out);
    sl_buf_init(&out, 3);
    assert_int_equal(detokenizer_push(&d, 0xAC, &out), SL_OK);
    assert_string_equal(out.data, "€");
    sl_buf_done(&out);
    close_fixture(&f);
}

static void the_first_space_is_dropped_at_the_start_only(void **state)
{
    (void)state;
    struct fixture f;
    struct detokenizer d;
    struct sl_buf out;
    open_spm(&f);
    for (int at_start = 0; at_start < 2; at_start++) {
        detokenizer_init(&d, f.tok, 0, at_start != 0);
        sl_buf_init(&out, 100);
        assert_int_equal(detokenizer_push(&d, 1, &out), SL_OK); /* <s> says nothing */
        assert_int_equal(detokenizer_push(&d, PIECE(7), &out), SL_OK);
        assert_int_equal(detokenizer_push(&d, PIECE(7), &out), SL_OK);
        assert_string_equal(out.data, at_start ? "a a" : " a a");
        sl_buf_done(&out);
    }
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepseek_llm_ids_are_the_known_ones),
        cmocka_unit_test(llama3_ids_are_the_known_ones),
        cmocka_unit_test(llama2_ids_are_the_known_ones),
        cmocka_unit_test(qwen2_ids_are_the_known_ones),
        cmocka_unit_test(merges_go_by_rank_and_leftmost_first),
        cmocka_unit_test(each_pre_split_cuts_its_own_way),
        cmocka_unit_test(whole_words_come_first_where_the_model_says_so),
        cmocka_unit_test(bytes_that_are_not_utf8_come_back),
        cmocka_unit_test(pieces_join_by_score_and_leftmost_first),
        cmocka_unit_test(the_letter_that_means_space_stays_itself),
        cmocka_unit_test(the_space_prefix_can_be_switched_off),
        cmocka_unit_test(unknown_characters_without_byte_tokens_are_one_unknown),
        cmocka_unit_test(special_tokens_are_found_when_asked_for),
        cmocka_unit_test(user_tokens_are_always_found_longest_first),
        cmocka_unit_test(bos_and_eos_go_where_the_file_says),
        cmocka_unit_test(ids_of_all_ones_mean_none),
        cmocka_unit_test(ends_are_the_named_ids_and_the_known_spellings),
        cmocka_unit_test(a_harmony_message_end_is_not_the_answers_end),
        cmocka_unit_test(pieces_and_types_are_as_the_file_says),
        cmocka_unit_test(detokenising_holds_half_characters_back),
        cmocka_unit_test(a_failed_push_changes_nothing),
        cmocka_unit_test(the_first_space_is_dropped_at_the_start_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
