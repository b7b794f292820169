/* tiny_tokenizer.h: a tokenizer over a small vocabulary, and what tests do with one. Failures
 * fail the cmocka test. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "exec/llm/tokenizer.h"
#include "support/tiny_vocab.h"

#define IDS_BYTES_MAX ((size_t)16 << 20)
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MERGED(i) (TINY_N_BYTES + (i))  /* token that TINY_MERGES[i] makes */
#define PIECE(i) (TINY_SPM_PIECE + (i)) /* token of TINY_PIECES[i] */
#define SPM_BYTE(b) (TINY_SPM_BYTE + (b))

struct fixture {
    struct tiny_gguf gguf;
    struct gguf_file *file;
    struct tokenizer *tok;
};

static inline void open_fixture(struct fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    if (tiny_open(&f->gguf, &f->file, &err) != SL_OK) fail_msg("%s", err.text);
    if (tokenizer_create(f->file, &f->tok, &err) != SL_OK) fail_msg("%s", err.text);
}

static inline void open_bpe(struct fixture *f, const char *pre)
{
    tiny_begin(&f->gguf);
    tiny_bpe(&f->gguf, pre);
    open_fixture(f);
}

static inline void open_spm(struct fixture *f)
{
    tiny_begin(&f->gguf);
    tiny_spm(&f->gguf);
    open_fixture(f);
}

static inline void close_fixture(struct fixture *f)
{
    tokenizer_destroy(f->tok);
    gguf_close(f->file);
    tiny_done(&f->gguf);
}

static inline void encode(const struct tokenizer *tok, const char *text, size_t n, unsigned flags,
                          struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(out, IDS_BYTES_MAX);
    if (tokenizer_encode(tok, text, n, flags, out, &err) != SL_OK) fail_msg("%s", err.text);
}

static inline void check_list(const struct tokenizer *tok, const char *text, unsigned flags,
                              const int32_t *want, size_t n)
{
    struct sl_buf ids;
    encode(tok, text, strlen(text), flags, &ids);
    assert_int_equal(ids.len, n * sizeof *want);
    if (n > 0) assert_memory_equal(ids.data, want, ids.len);
    sl_buf_done(&ids);
}
#define CHECK(tok, text, flags, ...) \
    check_list(tok, text, flags, (const int32_t[]){__VA_ARGS__}, \
               COUNT(((const int32_t[]){__VA_ARGS__})))

static inline void decode(const struct tokenizer *tok, const struct sl_buf *ids, unsigned flags,
                          struct sl_buf *out)
{
    struct detokenizer d;
    detokenizer_init(&d, tok, flags, true);
    sl_buf_init(out, IDS_BYTES_MAX);
    for (size_t at = 0; at < ids->len; at += sizeof(int32_t)) {
        int32_t id;
        memcpy(&id, ids->data + at, sizeof id);
        assert_int_equal(detokenizer_push(&d, id, out), SL_OK);
    }
    assert_int_equal(detokenizer_finish(&d, out), SL_OK);
}

static inline void check_round_trip(const struct tokenizer *tok, const char *text, size_t n)
{
    struct sl_buf ids, back;
    encode(tok, text, n, TOKENIZE_ADD_SPECIAL, &ids);
    decode(tok, &ids, 0, &back);
    assert_int_equal(back.len, n);
    assert_memory_equal(back.data, text, n);
    sl_buf_done(&back);
    sl_buf_done(&ids);
}
