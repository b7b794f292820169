/* tokenizer_fuzz.c: hostile text through small vocabularies, and hostile vocabularies.
 * Input: the first byte chooses. 'G': the rest is a GGUF file whose tokenizer is made and tried.
 * Else its low bits choose a vocabulary and the flags, and the rest is text, whose bytes must
 * come back. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/llm/tokenizer.h"
#include "support/tiny_vocab.h"

#define IDS_BYTES_MAX ((size_t)64 << 20)
#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const PRES[] = {"gpt-2",          "llama-bpe",   "qwen2",
                                   "gpt-4o",         "tekken",      "deepseek-llm",
                                   "deepseek-coder", "deepseek-v3", "falcon"};
#define N_PRES (sizeof PRES / sizeof *PRES)

/* The last one is SentencePiece. They live as long as the process. */
static struct gguf_file *files[N_PRES + 1];
static struct tokenizer *vocabularies[N_PRES + 1];

static void make_vocabularies(void)
{
    static struct tiny_gguf ggufs[N_PRES + 1];
    for (size_t i = 0; i <= N_PRES; i++) {
        tiny_begin(&ggufs[i]);
        if (i < N_PRES)
            tiny_bpe(&ggufs[i], PRES[i]);
        else
            tiny_spm(&ggufs[i]);
        CHECK(tiny_open(&ggufs[i], &files[i], NULL) == SL_OK);
        CHECK(tokenizer_create(files[i], &vocabularies[i], NULL) == SL_OK);
    }
}

static void try_text(const struct tokenizer *tok, unsigned flags, const char *text, size_t n)
{
    struct sl_buf ids, bytes, shown;
    struct detokenizer d;
    sl_buf_init(&ids, IDS_BYTES_MAX);
    sl_buf_init(&bytes, IDS_BYTES_MAX);
    sl_buf_init(&shown, IDS_BYTES_MAX);
    detokenizer_init(&d, tok, 0, true);
    CHECK(tokenizer_encode(tok, text, n, flags, &ids, NULL) == SL_OK);
    for (size_t at = 0; at < ids.len; at += sizeof(int32_t)) {
        int32_t id;
        const char *piece;
        memcpy(&id, ids.data + at, sizeof id);
        size_t len = tokenizer_piece(tok, id, 0, &piece);
        CHECK(sl_buf_add(&bytes, piece, len) == SL_OK);
        CHECK(detokenizer_push(&d, id, &shown) == SL_OK);
    }
    CHECK(detokenizer_finish(&d, &shown) == SL_OK);
    /* one at the start, and one after each user token */
    bool adds_space = tok == vocabularies[N_PRES];
    if (flags == 0 && !adds_space) CHECK(bytes.len == n && memcmp(bytes.data, text, n) == 0);
    sl_buf_done(&shown);
    sl_buf_done(&bytes);
    sl_buf_done(&ids);
}

static void try_vocabulary(const uint8_t *data, size_t size)
{
    static const char text[] = "<s>ab aé\xff 12 \xe2\x96\x81</s> \xf0\x9f\x98\x80";
    struct gguf_file *file;
    struct tokenizer *tok;
    struct sl_buf ids;
    void *bytes = aligned_alloc(TINY_ALIGN, (size + TINY_ALIGN) / TINY_ALIGN * TINY_ALIGN);
    CHECK(bytes != NULL);
    memcpy(bytes, data, size);
    if (gguf_open_mem(bytes, size, &file, NULL) == SL_OK) {
        if (tokenizer_create(file, &tok, NULL) == SL_OK) {
            sl_buf_init(&ids, IDS_BYTES_MAX);
            for (unsigned flags = 0; flags < 4; flags++)
                CHECK(tokenizer_encode(tok, text, sizeof text - 1, flags, &ids, NULL) == SL_OK);
            for (size_t at = 0; at < ids.len; at += sizeof(int32_t)) {
                int32_t id;
                memcpy(&id, ids.data + at, sizeof id);
                CHECK(id >= 0 && id < tokenizer_n_vocab(tok));
            }
            sl_buf_done(&ids);
            tokenizer_destroy(tok);
        }
        gguf_close(file);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!vocabularies[0]) make_vocabularies();
    if (size == 0) return 0;
    if (data[0] == 'G')
        try_vocabulary(data + 1, size - 1);
    else
        try_text(vocabularies[data[0] / 4 % (N_PRES + 1)], data[0] & 3, (const char *)data + 1,
                 size - 1);
    return 0;
}
