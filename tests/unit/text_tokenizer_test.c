/* text_tokenizer_test.c: what a tokenizer.json may say, what is refused and how, truncation,
 * hostile texts and allocation failures. That ids are right is for
 * tests/golden/tokenizers_json_test.c to say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/unicode.h"
#include "base/unicode_norm.h"
#include "exec/text/text_tokenizer.h"

#define DOCUMENT_MAX ((size_t)4 << 20)
#define GOLDEN STARLANE_ROOT "/tests/golden/tokenizers_json/"

/* A tokenizer.json of this model and these other members. */
static sl_status try_load(const char *model, const char *rest, struct text_tokenizer **out,
                          struct sl_err *err)
{
    struct sl_buf json;
    sl_buf_init(&json, DOCUMENT_MAX);
    assert_int_equal(sl_buf_addf(&json, "{\"model\":%s%s%s}", model, *rest ? "," : "", rest),
                     SL_OK);
    sl_status status = text_tokenizer_load(json.data, json.len, out, err);
    sl_buf_done(&json);
    return status;
}

static struct text_tokenizer *load(const char *model, const char *rest)
{
    struct sl_err err = SL_ERR_INIT;
    struct text_tokenizer *tok = NULL;
    if (try_load(model, rest, &tok, &err) != SL_OK) fail_msg("%s", err.text);
    return tok;
}

static void assert_refused(const char *model, const char *rest, sl_status status, const char *why)
{
    struct sl_err err = SL_ERR_INIT;
    struct text_tokenizer *tok = NULL;
    uint64_t live = sl_mem_live();
    sl_status got = try_load(model, rest, &tok, &err);
    if (got != status)
        fail_msg("%s instead of %s: %s", sl_status_name(got), sl_status_name(status), err.text);
    if (!strstr(err.text, why)) fail_msg("'%s' does not say '%s'", err.text, why);
    assert_int_equal(sl_mem_live(), live);
}

#define WORDS \
    "{\"type\":\"WordLevel\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"c\":3}}"
#define SPACES "\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}"
#define BERT_POST \
    "\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",8],\"sep\":[\"[SEP]\",9]}"

/* The ids as text: "8 1 2 9". */
static char *encode(const struct text_tokenizer *tok, const char *text, const char *pair,
                    const struct text_encode_cfg *cfg)
{
    static char shown[4096];
    struct text_encoding encoding;
    struct sl_err err = SL_ERR_INIT;
    size_t at = 0;
    text_encoding_init(&encoding);
    sl_status status = text_tokenizer_encode(tok, (struct text_input){text, strlen(text)},
                                             (struct text_input){pair, pair ? strlen(pair) : 0},
                                             cfg, &encoding, &err);
    snprintf(shown, sizeof shown, "%s", status == SL_OK ? "" : err.text);
    for (size_t i = 0; i < encoding.n; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at, i ? " %lld" : "%lld",
                               (long long)encoding.ids[i]);
    text_encoding_done(&encoding);
    return shown;
}

static void test_truncation_is_the_callers_choice(void **state)
{
    (void)state;
    struct text_tokenizer *tok = load(WORDS, SPACES "," BERT_POST);
    struct text_encode_cfg cfg = {.max_tokens = 6, .add_special = true};
    assert_int_equal(text_tokenizer_n_added(tok, false), 2);
    assert_int_equal(text_tokenizer_n_added(tok, true), 3);
    assert_string_equal(encode(tok, "a b c z", NULL, &cfg), "8 1 2 3 0 9");
    assert_string_equal(encode(tok, "a b c a b", NULL, &cfg), "7 tokens, and the limit is 6");
    cfg.truncate = true;
    assert_string_equal(encode(tok, "a b c a b", NULL, &cfg), "8 1 2 3 1 9");
    assert_string_equal(encode(tok, "a", "b b b b b", &cfg), "8 1 9 2 2 9");
    assert_string_equal(encode(tok, "a a a a a", "b", &cfg), "8 1 1 9 2 9");
    assert_string_equal(encode(tok, "a b", "", &cfg), "8 1 2 9 9");
    cfg.max_tokens = 2;
    assert_string_equal(encode(tok, "a b", "c", &cfg), "6 tokens, and the limit is 2");
    cfg = (struct text_encode_cfg){0};
    assert_string_equal(encode(tok, "a b", "c", &cfg), "1 2 3");
    text_tokenizer_destroy(tok);
}

static void test_truncation_at_the_left(void **state)
{
    (void)state;
    struct text_encode_cfg cfg = {.max_tokens = 5, .truncate = true, .add_special = true};
    struct text_tokenizer *tok = load(
        WORDS, SPACES "," BERT_POST ",\"truncation\":{\"max_length\":9,\"direction\":\"Left\"}");
    assert_string_equal(encode(tok, "a a b c b", NULL, &cfg), "8 2 3 2 9");
    assert_string_equal(encode(tok, "a b", "c c b", &cfg), "8 2 9 2 9");
    text_tokenizer_destroy(tok);
}

static void test_queries(void **state)
{
    (void)state;
    struct text_tokenizer *tok =
        load(WORDS,
             SPACES ",\"added_tokens\":[{\"id\":7,\"content\":\"[PAD]\",\"special\":true}],"
                    "\"truncation\":{\"max_length\":512,\"direction\":\"Right\"},\"padding\":null");
    size_t n = 0;
    assert_int_equal(text_tokenizer_n_vocab(tok), 8);
    assert_int_equal(text_tokenizer_max_tokens(tok), 512);
    assert_int_equal(text_tokenizer_pad_id(tok), 7);
    assert_int_equal(text_tokenizer_id(tok, "b", 1), 2);
    assert_int_equal(text_tokenizer_id(tok, "z", 1), -1);
    assert_memory_equal(text_tokenizer_token(tok, 7, &n), "[PAD]", 5);
    assert_int_equal(n, 5);
    assert_null(text_tokenizer_token(tok, 5, &n));
    assert_null(text_tokenizer_token(tok, -1, &n));
    assert_null(text_tokenizer_token(tok, 8, &n));
    assert_true(text_tokenizer_is_special(tok, 7));
    assert_false(text_tokenizer_is_special(tok, 2));
    text_tokenizer_destroy(tok);
}

static void test_unknown_types_are_named(void **state)
{
    (void)state;
    assert_refused("{\"type\":\"Magic\",\"vocab\":{}}", "", SL_UNSUPPORTED, "model: type 'Magic'");
    assert_refused(WORDS, "\"normalizer\":{\"type\":\"Rot13\"}", SL_UNSUPPORTED,
                   "normalizer: type 'Rot13'");
    assert_refused(WORDS,
                   "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"X\"}]}",
                   SL_UNSUPPORTED, "pre_tokenizer: type 'X'");
    assert_refused(WORDS, "\"post_processor\":{\"type\":\"P\"}", SL_UNSUPPORTED,
                   "post_processor: type 'P'");
    assert_refused(WORDS, "\"decoder\":{\"type\":\"D\"}", SL_UNSUPPORTED, "decoder: type 'D'");
    assert_refused(WORDS,
                   "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},"
                   "\"behavior\":\"Isolated\"}",
                   SL_UNSUPPORTED, "&&");
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_refused("{\"type\":\"WordLevel\"}", "", SL_CORRUPT, "no vocabulary");
    assert_refused("{\"type\":\"WordLevel\",\"vocab\":{\"a\":-1}}", "", SL_LIMIT, "'a' has the id");
    assert_refused("{\"type\":\"WordLevel\",\"vocab\":{\"a\":4194304}}", "", SL_LIMIT, "'a'");
    assert_refused("{\"type\":\"WordLevel\",\"vocab\":{\"a\":1.5}}", "", SL_LIMIT, "'a'");
    assert_refused("{\"type\":\"WordLevel\",\"vocab\":{\"a\" 1}}", "", SL_INVALID, "colon");
    assert_refused("{\"type\":\"WordLevel\",\"vocab\":{\"\\ud800\":1}}", "", SL_INVALID, "\\u");
    assert_refused("{\"type\":\"BPE\",\"vocab\":{\"a\":1}}", "", SL_CORRUPT, "without merges");
    assert_refused("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[\"a b\"]}", "", SL_CORRUPT,
                   "merge 0");
    assert_refused("{\"type\":\"BPE\",\"vocab\":{\"a\":1},\"merges\":[[\"a\"]]}", "", SL_INVALID,
                   "pair");
    assert_refused("{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0]]}", "", SL_CORRUPT,
                   "unk_id 1");
    assert_refused("{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}", "", SL_INVALID, "score");
    assert_refused(WORDS,
                   "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}",
                   SL_CORRUPT, "trie");
    assert_refused(WORDS, "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}}",
                   SL_INVALID, "regular expression");
    assert_refused(WORDS,
                   "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":"
                   "[{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}}]}",
                   SL_CORRUPT, "'x' has no ids");
}

static void test_documents_that_are_none(void **state)
{
    (void)state;
    static const char *const DOCUMENTS[] = {"",
                                            "[]",
                                            "{",
                                            "{}",
                                            "{\"model\":",
                                            "{\"model\":{}} x",
                                            "{\"model\":{},}",
                                            "{\"model\":{\"vocab\":\"}",
                                            "\xff"};
    for (size_t i = 0; i < sizeof DOCUMENTS / sizeof *DOCUMENTS; i++) {
        struct text_tokenizer *tok = NULL;
        uint64_t live = sl_mem_live();
        assert_int_not_equal(text_tokenizer_load(DOCUMENTS[i], strlen(DOCUMENTS[i]), &tok, NULL),
                             SL_OK);
        assert_int_equal(sl_mem_live(), live);
    }
}

static void test_deep_documents_are_refused(void **state)
{
    (void)state;
    struct sl_buf deep;
    struct sl_err err = SL_ERR_INIT;
    struct text_tokenizer *tok = NULL;
    sl_buf_init(&deep, DOCUMENT_MAX);
    assert_int_equal(sl_buf_adds(&deep, "{\"model\":"), SL_OK);
    for (int i = 0; i < 100000; i++) assert_int_equal(sl_buf_addc(&deep, '['), SL_OK);
    assert_int_equal(text_tokenizer_load(deep.data, deep.len, &tok, &err), SL_LIMIT);
    assert_non_null(strstr(err.text, "deeper"));
    sl_buf_done(&deep);
}

static void test_texts_that_cannot_be_encoded(void **state)
{
    (void)state;
    struct text_encode_cfg cfg = {0};
    struct text_tokenizer *tok = load("{\"type\":\"WordLevel\",\"vocab\":{\"a\":1}}", SPACES);
    assert_non_null(strstr(encode(tok, "a\xff", NULL, &cfg), "not UTF-8"));
    assert_string_equal(encode(tok, "a z", NULL, &cfg),
                        "'z' is not in the vocabulary, which has no unknown token");
    text_tokenizer_destroy(tok);
}

static struct text_tokenizer *load_golden(const char *name)
{
    char path[512], chunk[4096];
    struct sl_buf json;
    struct sl_err err = SL_ERR_INIT;
    struct text_tokenizer *tok = NULL;
    size_t n;
    snprintf(path, sizeof path, GOLDEN "%s.tokenizer.json", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    sl_buf_init(&json, DOCUMENT_MAX);
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        assert_int_equal(sl_buf_add(&json, chunk, n), SL_OK);
    fclose(file);
    if (text_tokenizer_load(json.data, json.len, &tok, &err) != SL_OK)
        fail_msg("%s: %s", name, err.text);
    sl_buf_done(&json);
    return tok;
}

static const char *const KINDS[] = {"bert",        "bert_cased",  "roberta", "modernbert", "clip",
                                    "subword_bpe", "xlm_roberta", "deberta", "gemma"};
#define N_KINDS (sizeof KINDS / sizeof *KINDS)

/* Quadratic work on these would take minutes. */
static void test_long_monotonous_texts(void **state)
{
    (void)state;
    enum { N = 100 * 1024 };
    static const char *const UNITS[] = {
        "a", " ", ".", "\n", "1", "\xcc\x81", "a ", "\xf0\x9f\x98\x80", "\xe4\xb8\xad"};
    struct text_encode_cfg cfg = {.add_special = true};
    char *text = malloc(N);
    assert_non_null(text);
    for (size_t k = 0; k < N_KINDS; k++) {
        struct text_tokenizer *tok = load_golden(KINDS[k]);
        struct text_encoding encoding;
        text_encoding_init(&encoding);
        for (size_t u = 0; u < sizeof UNITS / sizeof *UNITS; u++) {
            size_t unit = strlen(UNITS[u]), n = N / unit * unit;
            struct sl_err err = SL_ERR_INIT;
            for (size_t i = 0; i < n; i++) text[i] = UNITS[u][i % unit];
            if (text_tokenizer_encode(tok, (struct text_input){text, n}, (struct text_input){0},
                                      &cfg, &encoding, &err) != SL_OK)
                fail_msg("%s, unit %zu: %s", KINDS[k], u, err.text);
            for (size_t i = 0; i < encoding.n; i++)
                assert_in_range(encoding.ids[i], 0, text_tokenizer_n_vocab(tok) - 1);
        }
        text_encoding_done(&encoding);
        text_tokenizer_destroy(tok);
    }
    free(text);
}

/* Loads, encodes and decodes; the status of the first that fails. */
static sl_status load_and_encode(const char *json, size_t n_json)
{
    static const char TEXT[] = "Caf\xc3\xa9 <mask> a\xcc\x81 12 \xe4\xbd\xa0 [MASK] \xef\xac\x81";
    struct text_tokenizer *tok = NULL;
    struct text_encoding encoding;
    struct sl_buf text;
    struct text_encode_cfg cfg = {.add_special = true};
    struct text_input input = {TEXT, sizeof TEXT - 1};
    sl_status status = text_tokenizer_load(json, n_json, &tok, NULL);
    if (status != SL_OK) return status;
    text_encoding_init(&encoding);
    sl_buf_init(&text, DOCUMENT_MAX);
    status = text_tokenizer_encode(tok, input, input, &cfg, &encoding, NULL);
    if (status == SL_OK)
        status = text_tokenizer_decode(tok, encoding.ids, encoding.n, true, &text, NULL);
    sl_buf_done(&text);
    text_encoding_done(&encoding);
    text_tokenizer_destroy(tok);
    return status;
}

/* Small files of three models, between them with every kind of step that allocates. */
static const char *const SMALL[] = {
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"?\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":100,\"vocab\":{\"?\":0,\"c\":1,\"##a\":2,\"##f\":3,\"##e\":4}},"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"added_tokens\":[{\"id\":9,\"content\":\"[MASK]\",\"special\":true}],"
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}," BERT_POST "}",
    "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"?\",0],[\"\xe2\x96\x81\",-1],"
    "[\"C\",-2],[\"a\",-2.5],[\"Ca\",-3]]},\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
    "{\"type\":\"NFKC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" +\"},\"content\":\" \"}]},"
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
    "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"}]}}",
    "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"end_of_word_suffix\":\"/\",\"vocab\":"
    "{\"?\":0,\"C\":1,\"a\":2,\"Ca\":3},\"merges\":[\"C a\"]},"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true},"
    "\"decoder\":{\"type\":\"ByteLevel\"}}",
};

static void test_allocation_failures(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof SMALL / sizeof *SMALL; i++) {
        uint64_t live = sl_mem_live();
        sl_status status = SL_NOMEM;
        bool hit = true;
        for (uint64_t nth = 1; hit; nth++) {
            sl_mem_fail_at(nth, false);
            status = load_and_encode(SMALL[i], strlen(SMALL[i]));
            hit = sl_mem_fail_hit();
            sl_mem_fail_at(0, false);
            assert_int_equal(sl_mem_live(), live);
            /* A just-in-time stack that cannot be had is done without. */
            if (status != SL_OK) assert_int_equal(status, SL_NOMEM);
        }
        assert_int_equal(status, SL_OK);
    }
}

static void assert_form(enum sl_unicode_form form, const char *text, const char *want)
{
    struct sl_buf out;
    sl_buf_init(&out, DOCUMENT_MAX);
    assert_int_equal(sl_unicode_normalize(text, strlen(text), form, &out), SL_OK);
    assert_string_equal(out.data, want);
    sl_buf_done(&out);
}

static void test_normal_forms(void **state)
{
    (void)state;
    assert_form(SL_UNICODE_NFC, "e\xcc\x81", "\xc3\xa9");
    assert_form(SL_UNICODE_NFD, "\xc3\xa9", "e\xcc\x81");
    assert_form(SL_UNICODE_NFC, "plain", "plain");
    /* s with dot below and dot above, however the marks are ordered (UAX 15, figure 6). */
    assert_form(SL_UNICODE_NFC, "s\xcc\x87\xcc\xa3", "\xe1\xb9\xa9");
    assert_form(SL_UNICODE_NFD, "\xe1\xb8\x8b\xcc\xa3", "d\xcc\xa3\xcc\x87");
    assert_form(SL_UNICODE_NFKC, "\xef\xac\x81\xc2\xbd", "fi1\xe2\x81\x84\x32");
    assert_form(SL_UNICODE_NFC, "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c");
    assert_form(SL_UNICODE_NFD, "\xed\x95\x9c", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab");
    assert_form(SL_UNICODE_NFC, "\xe2\x84\xab", "\xc3\x85"); /* a singleton */
}

static void test_character_classes(void **state)
{
    (void)state;
    assert_true(sl_unicode_is_word('_') && sl_unicode_is_word(0x301) && sl_unicode_is_word(0x24b6));
    assert_false(sl_unicode_is_word('-') || sl_unicode_is_word(0x2014));
    assert_true(sl_unicode_is_punctuation(0x3001) && !sl_unicode_is_punctuation(0x2b));
    assert_true(sl_unicode_is_white_space(0x3000) && !sl_unicode_is_white_space(0x1c));
    assert_true(sl_unicode_is_number(0x2167) && !sl_unicode_is_number(0x4e00));
    assert_true(sl_unicode_is_mark(0x903) && !sl_unicode_is_mark_nonspacing(0x903));
    assert_true(sl_unicode_is_format(0x200d) && sl_unicode_is_format(0xe000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation_is_the_callers_choice),
        cmocka_unit_test(test_truncation_at_the_left),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_unknown_types_are_named),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_documents_that_are_none),
        cmocka_unit_test(test_deep_documents_are_refused),
        cmocka_unit_test(test_texts_that_cannot_be_encoded),
        cmocka_unit_test(test_long_monotonous_texts),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_normal_forms),
        cmocka_unit_test(test_character_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
