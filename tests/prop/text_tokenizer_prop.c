/* text_tokenizer_prop.c: what must hold for random texts and for damaged tokenizer.json files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/unicode_norm.h"
#include "base/utf8.h"
#include "exec/text/text_tokenizer.h"
#include "support/prop.h"

#define GOLDEN STARLANE_ROOT "/tests/golden/tokenizers_json/"
#define BYTES_MAX ((size_t)1 << 20)
#define TEXT_CHARS 60
#define ROUNDS 300
#define MUTATIONS 150

static void read_file(const char *name, struct sl_buf *out)
{
    char path[512], chunk[4096];
    size_t n;
    snprintf(path, sizeof path, GOLDEN "%s.tokenizer.json", name);
    FILE *file = fopen(path, "rb");
    assert_true(file != NULL);
    sl_buf_init(out, BYTES_MAX);
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        assert_true(sl_buf_add(out, chunk, n) == SL_OK);
    fclose(file);
}

static void random_text(struct sl_buf *out)
{
    static const struct {
        uint32_t first, n;
    } BLOCKS[] = {{0x20, 0x5f},   {0x20, 0x5f},   {0x61, 26},      {0xa0, 0x160},   {0x300, 0x70},
                  {0x370, 0x190}, {0x900, 0x80},  {0x1100, 0x100}, {0x1e00, 0x100}, {0xac00, 0x100},
                  {0x4e00, 0x40}, {0xf900, 0x80}, {0x1f600, 0x40}, {0x9, 5}};
    sl_buf_clear(out);
    for (size_t i = prop_draw(TEXT_CHARS); i > 0; i--) {
        char bytes[4];
        size_t block = prop_draw(sizeof BLOCKS / sizeof *BLOCKS);
        uint32_t c = BLOCKS[block].first + (uint32_t)prop_draw(BLOCKS[block].n);
        assert_true(sl_buf_add(out, bytes, sl_utf8_encode(c, bytes)) == SL_OK);
    }
}

/* Byte-level and byte-fallback tokenizers lose nothing. */
static void texts_come_back(const char *name)
{
    struct sl_buf json, text, back;
    struct text_tokenizer *tok;
    struct text_encoding encoding;
    struct text_encode_cfg cfg = {.add_special = true};
    read_file(name, &json);
    assert_true(text_tokenizer_load(json.data, json.len, &tok, NULL) == SL_OK);
    text_encoding_init(&encoding);
    sl_buf_init(&text, BYTES_MAX);
    sl_buf_init(&back, BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        random_text(&text);
        sl_buf_clear(&back);
        assert_true(text_tokenizer_encode(tok, (struct text_input){text.data, text.len},
                                          (struct text_input){0}, &cfg, &encoding, NULL) == SL_OK);
        assert_true(text_tokenizer_decode(tok, encoding.ids, encoding.n, true, &back, NULL) ==
                    SL_OK);
        assert_true(back.len == text.len && memcmp(back.data, text.data, text.len) == 0);
    }
    sl_buf_done(&back);
    sl_buf_done(&text);
    text_encoding_done(&encoding);
    text_tokenizer_destroy(tok);
    sl_buf_done(&json);
}

/* Truncation gives exactly the limit, and the beginning of what there was. */
static void truncation_cuts_the_end(const char *name)
{
    struct sl_buf json, text;
    struct text_tokenizer *tok;
    struct text_encoding whole, cut;
    read_file(name, &json);
    assert_true(text_tokenizer_load(json.data, json.len, &tok, NULL) == SL_OK);
    text_encoding_init(&whole);
    text_encoding_init(&cut);
    sl_buf_init(&text, BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        random_text(&text);
        struct text_input input = {text.data, text.len};
        struct text_encode_cfg cfg = {.max_tokens = 1 + prop_draw(40), .truncate = true};
        struct text_encode_cfg all = {0};
        assert_true(text_tokenizer_encode(tok, input, (struct text_input){0}, &all, &whole, NULL) ==
                    SL_OK);
        assert_true(text_tokenizer_encode(tok, input, (struct text_input){0}, &cfg, &cut, NULL) ==
                    SL_OK);
        assert_true(cut.n == (whole.n < cfg.max_tokens ? whole.n : cfg.max_tokens));
        for (size_t j = 0; j < cut.n; j++) assert_true(cut.ids[j] == whole.ids[j]);
    }
    sl_buf_done(&text);
    text_encoding_done(&whole);
    text_encoding_done(&cut);
    text_tokenizer_destroy(tok);
    sl_buf_done(&json);
}

static void normalize(const struct sl_buf *in, enum sl_unicode_form form, struct sl_buf *out)
{
    sl_buf_clear(out);
    assert_true(sl_unicode_normalize(in->data, in->len, form, out) == SL_OK);
}

/* UAX 15, section 1.3: forms of forms. */
static void normal_forms_agree(void)
{
    struct sl_buf text, a, b, c;
    sl_buf_init(&text, BYTES_MAX);
    sl_buf_init(&a, BYTES_MAX);
    sl_buf_init(&b, BYTES_MAX);
    sl_buf_init(&c, BYTES_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        random_text(&text);
        for (int compatible = 0; compatible < 2; compatible++) {
            enum sl_unicode_form composed = compatible ? SL_UNICODE_NFKC : SL_UNICODE_NFC;
            enum sl_unicode_form apart = compatible ? SL_UNICODE_NFKD : SL_UNICODE_NFD;
            normalize(&text, composed, &a);
            normalize(&a, composed, &b);
            assert_true(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
            normalize(&a, apart, &b);
            normalize(&text, apart, &c);
            assert_true(b.len == c.len && memcmp(b.data, c.data, b.len) == 0);
            normalize(&c, composed, &b);
            assert_true(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
        }
    }
    sl_buf_done(&text);
    sl_buf_done(&a);
    sl_buf_done(&b);
    sl_buf_done(&c);
}

static void mutate(struct sl_buf *json)
{
    static const char BYTES[] = "{}[]\",:\\0123456789-eunltrue ";
    for (size_t n = 1 + prop_draw(6); n > 0; n--) {
        size_t at = prop_draw(json->len);
        switch (prop_draw(3)) {
        case 0: json->data[at] = BYTES[prop_draw(sizeof BYTES - 1)]; break;
        case 1: json->data[at] = json->data[prop_draw(json->len)]; break;
        default:
            memmove(json->data + at, json->data + at + 1, json->len - at - 1);
            json->len--;
            break;
        }
    }
}

/* A damaged file is refused, or makes a tokenizer whose ids are within its vocabulary. */
static void damage_does_no_harm(const char *name)
{
    static const char TEXT[] = "Hello caf\xc3\xa9 <mask> 12 \xe4\xbd\xa0";
    struct sl_buf json, damaged;
    read_file(name, &json);
    sl_buf_init(&damaged, BYTES_MAX);
    for (int i = 0; i < MUTATIONS; i++) {
        struct text_tokenizer *tok;
        struct text_encoding encoding;
        struct text_encode_cfg cfg = {0};
        uint64_t live = sl_mem_live();
        sl_buf_clear(&damaged);
        assert_true(sl_buf_add(&damaged, json.data, json.len) == SL_OK);
        uint64_t grown = sl_mem_live() - live;
        mutate(&damaged);
        if (text_tokenizer_load(damaged.data, damaged.len, &tok, NULL) == SL_OK) {
            text_encoding_init(&encoding);
            if (text_tokenizer_encode(tok, (struct text_input){TEXT, sizeof TEXT - 1},
                                      (struct text_input){0}, &cfg, &encoding, NULL) == SL_OK) {
                for (size_t j = 0; j < encoding.n; j++)
                    assert_true((uint64_t)encoding.ids[j] < text_tokenizer_n_vocab(tok));
            }
            text_encoding_done(&encoding);
            text_tokenizer_destroy(tok);
        }
        assert_true(sl_mem_live() == live + grown);
    }
    sl_buf_done(&damaged);
    sl_buf_done(&json);
}

static void test_texts_come_back(void **state)
{
    (void)state;
    texts_come_back("roberta");
}

static void test_truncation(void **state)
{
    (void)state;
    truncation_cuts_the_end("roberta");
    truncation_cuts_the_end("bert");
    truncation_cuts_the_end("xlm_roberta");
}

static void test_normal_forms(void **state)
{
    (void)state;
    normal_forms_agree();
}

static void test_damage(void **state)
{
    static const char *const kinds[] = {"bert",        "roberta",     "modernbert", "clip",
                                        "subword_bpe", "xlm_roberta", "deberta",    "gemma"};
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) damage_does_no_harm(kinds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_come_back),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_normal_forms),
        cmocka_unit_test(test_damage),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
