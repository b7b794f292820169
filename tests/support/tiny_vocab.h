/* tiny_vocab.h: GGUF files made in memory, and small vocabularies in them, for the tests of the
 * tokenizer.
 * Thread: the caller's.  Allocates: the buffer. A failed append ends the test program: memory is
 * not what is tested here. */
#pragma once
#include "base/buf.h"
#include "exec/llm/gguf.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TINY_BYTES_MAX ((size_t)64 << 20)
#define TINY_ALIGN 32u
#define TINY_KV_COUNT_AT 16 /* magic, version, tensor count come before it */

struct tiny_gguf {
    struct sl_buf buf;
    uint64_t n_kvs;
    void *bytes; /* aligned copy that the open file borrows */
};

static inline void tiny_raw(struct tiny_gguf *g, const void *bytes, size_t n)
{
    if (sl_buf_add(&g->buf, bytes, n) != SL_OK) abort();
}

static inline void tiny_u32_raw(struct tiny_gguf *g, uint32_t v)
{
    tiny_raw(g, &v, sizeof v);
}

static inline void tiny_u64_raw(struct tiny_gguf *g, uint64_t v)
{
    tiny_raw(g, &v, sizeof v);
}

static inline void tiny_str_raw(struct tiny_gguf *g, const char *s, size_t n)
{
    tiny_u64_raw(g, n);
    tiny_raw(g, s, n);
}

static inline void tiny_begin(struct tiny_gguf *g)
{
    *g = (struct tiny_gguf){0};
    sl_buf_init(&g->buf, TINY_BYTES_MAX);
    tiny_raw(g, "GGUF", 4);
    tiny_u32_raw(g, 3);
    tiny_u64_raw(g, 0);
    tiny_u64_raw(g, 0);
}

static inline void tiny_key(struct tiny_gguf *g, const char *key, enum gguf_type type)
{
    tiny_str_raw(g, key, strlen(key));
    tiny_u32_raw(g, type);
    g->n_kvs++;
}

static inline void tiny_array(struct tiny_gguf *g, const char *key, enum gguf_type type, uint64_t n)
{
    tiny_key(g, key, GGUF_ARRAY);
    tiny_u32_raw(g, type);
    tiny_u64_raw(g, n);
}

static inline void tiny_str(struct tiny_gguf *g, const char *key, const char *s)
{
    tiny_key(g, key, GGUF_STRING);
    tiny_str_raw(g, s, strlen(s));
}

static inline void tiny_u32(struct tiny_gguf *g, const char *key, uint32_t v)
{
    tiny_key(g, key, GGUF_U32);
    tiny_u32_raw(g, v);
}

static inline void tiny_bool(struct tiny_gguf *g, const char *key, bool v)
{
    tiny_key(g, key, GGUF_BOOL);
    tiny_raw(g, v ? "\1" : "\0", 1);
}

/* Opens what was written so far. On failure the status of gguf_open_mem; tiny_done afterwards in
 * any case. */
static inline sl_status tiny_open(struct tiny_gguf *g, struct gguf_file **out, struct sl_err *err)
{
    memcpy(g->buf.data + TINY_KV_COUNT_AT, &g->n_kvs, sizeof g->n_kvs);
    size_t n_padded = (g->buf.len + TINY_ALIGN - 1) / TINY_ALIGN * TINY_ALIGN;
    g->bytes = aligned_alloc(TINY_ALIGN, n_padded);
    if (!g->bytes) abort();
    memset(g->bytes, 0, n_padded);
    memcpy(g->bytes, g->buf.data, g->buf.len);
    return gguf_open_mem(g->bytes, n_padded, out, err);
}

static inline void tiny_done(struct tiny_gguf *g)
{
    free(g->bytes);
    sl_buf_done(&g->buf);
}

/* Tokens of a vocabulary that is being put together. */
struct tiny_token {
    const char *text;
    int type;
    float score;
};

static inline void tiny_tokens(struct tiny_gguf *g, const struct tiny_token *tokens, size_t n,
                               bool scores)
{
    tiny_array(g, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) tiny_str_raw(g, tokens[i].text, strlen(tokens[i].text));
    tiny_array(g, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (size_t i = 0; i < n; i++) tiny_u32_raw(g, (uint32_t)tokens[i].type);
    if (!scores) return;
    tiny_array(g, "tokenizer.ggml.scores", GGUF_F32, n);
    for (size_t i = 0; i < n; i++) tiny_raw(g, &tokens[i].score, sizeof tokens[i].score);
}

#define TINY_N_BYTES 256
#define TINY_TOKENS_MAX 512

/* The letter that stands for a byte in byte-level BPE. Told apart from the tokenizer's own: it
 * walks all bytes. */
static inline void tiny_letter(int byte, char out[3])
{
    unsigned shifted = 256, letter = 0;
    for (int b = 0; b <= byte; b++) {
        bool printable =
            (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
        letter = printable ? (unsigned)b : shifted++;
    }
    snprintf(out, 3, letter < 0x80 ? "%c" : "%c%c",
             letter < 0x80 ? (int)letter : (int)(0xC0 | letter >> 6),
             (int)(0x80 | (letter & 0x3F)));
}

/* Merges of the small byte-level vocabulary; token 256 + i is what merge i makes. */
static const char *const TINY_MERGES[] = {"a b",  "b c",     "c d", "ab cd", "1 1",
                                          "11 1", "111 111", "a B", "' s",   "a 's",
                                          "Ġ Ġ",  "Ġ a",     "! !", "Ċ Ċ",   "abcd abcd"};
#define TINY_N_MERGES (sizeof TINY_MERGES / sizeof *TINY_MERGES)

enum {                                            /* tokens after those */
       TINY_START = TINY_N_BYTES + TINY_N_MERGES, /* <|im_start|> control */
       TINY_END,                                  /* <|im_end|> control */
       TINY_THINK,                                /* <think> user-defined */
       TINY_THINKING,                             /* <think>ing user-defined */
       TINY_XY,                                   /* "xyz", which no merge makes */
       TINY_BPE_N
};

/* Writes the small byte-level vocabulary, without bos, eos and flags. */
static inline void tiny_bpe(struct tiny_gguf *g, const char *pre)
{
    static char letters[TINY_N_BYTES][3], joined[TINY_N_MERGES][32];
    struct tiny_token tokens[TINY_BPE_N];
    for (int b = 0; b < TINY_N_BYTES; b++) {
        tiny_letter(b, letters[b]);
        tokens[b] = (struct tiny_token){letters[b], 1, 0};
    }
    for (size_t i = 0; i < TINY_N_MERGES; i++) {
        const char *space = strchr(TINY_MERGES[i], ' ');
        snprintf(joined[i], sizeof joined[i], "%.*s%s", (int)(space - TINY_MERGES[i]),
                 TINY_MERGES[i], space + 1);
        tokens[TINY_N_BYTES + i] = (struct tiny_token){joined[i], 1, 0};
    }
    tokens[TINY_START] = (struct tiny_token){"<|im_start|>", 3, 0};
    tokens[TINY_END] = (struct tiny_token){"<|im_end|>", 3, 0};
    tokens[TINY_THINK] = (struct tiny_token){"<think>", 4, 0};
    tokens[TINY_THINKING] = (struct tiny_token){"<think>ing", 4, 0};
    tokens[TINY_XY] = (struct tiny_token){"xyz", 1, 0};
    tiny_str(g, "tokenizer.ggml.model", "gpt2");
    tiny_str(g, "tokenizer.ggml.pre", pre);
    tiny_tokens(g, tokens, TINY_BPE_N, false);
    tiny_array(g, "tokenizer.ggml.merges", GGUF_STRING, TINY_N_MERGES);
    for (size_t i = 0; i < TINY_N_MERGES; i++)
        tiny_str_raw(g, TINY_MERGES[i], strlen(TINY_MERGES[i]));
}

/* Pieces of the small SentencePiece vocabulary; they follow <unk>, <s>, </s> and the 256 bytes. */
static const struct tiny_token TINY_PIECES[] = {
    {"▁", 1, -9},  {"a", 1, -10},   {"b", 1, -11}, {"c", 1, -12}, {"é", 1, -13},
    {"ab", 1, -2}, {"bc", 1, -1},   {"▁a", 1, -3}, {"▁▁", 1, -4}, {"ca", 1, -1},
    {"<", 1, -14}, {"s>", 1, -1},   {"s", 1, -15}, {">", 1, -15}, {"/", 1, -15},
    {"</", 1, -1}, {"abc", 1, -20}, {"éé", 1, -5}, {"   ", 4, 0}, {"[x]", 4, 0},
};
#define TINY_N_PIECES (sizeof TINY_PIECES / sizeof *TINY_PIECES)

enum {
    TINY_SPM_BYTE = 3, /* token of byte 0 */
    TINY_SPM_PIECE = TINY_SPM_BYTE + TINY_N_BYTES,
    TINY_SPM_N = TINY_SPM_PIECE + TINY_N_PIECES
};

static inline void tiny_spm(struct tiny_gguf *g)
{
    static char bytes[TINY_N_BYTES][8];
    struct tiny_token tokens[TINY_SPM_N] = {{"<unk>", 2, 0}, {"<s>", 3, 0}, {"</s>", 3, 0}};
    for (int b = 0; b < TINY_N_BYTES; b++) {
        snprintf(bytes[b], sizeof bytes[b], "<0x%02X>", (unsigned)b & 0xFF);
        tokens[TINY_SPM_BYTE + b] = (struct tiny_token){bytes[b], 6, 0};
    }
    memcpy(tokens + TINY_SPM_PIECE, TINY_PIECES, sizeof TINY_PIECES);
    tiny_str(g, "tokenizer.ggml.model", "llama");
    tiny_tokens(g, tokens, TINY_SPM_N, true);
}
