/* tokenizer.h: text to token ids and back, for the vocabulary that a GGUF file carries.
 * Floor: exec/llm.  Thread: const after create, so any number of threads.  Allocates: create;
 * scratch per call.
 * Kinds (tokenizer.ggml.model): "gpt2" is byte-level BPE with a pre-split pattern chosen by
 * tokenizer.ggml.pre (gpt-2, llama-bpe, qwen2, deepseek-llm, deepseek-coder, deepseek-v3, gpt-4o,
 * tekken, their aliases, and "default" where the key is absent); "llama" is SentencePiece BPE with
 * byte fallback. Ids equal those of the models' own tokenizers and of llama.cpp.
 * Invariants: encoding is O(n log n) in the text, for any text; decode(encode(text)) == text for
 * valid UTF-8, where a SentencePiece model adds no space after a special token inside it. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_file;
struct tokenizer; /* opaque */

enum token_type { /* tokenizer.ggml.token_type, numbered as in the format */
                  TOKEN_NORMAL = 1,
                  TOKEN_UNKNOWN = 2,
                  TOKEN_CONTROL = 3,
                  TOKEN_USER = 4, /* found in any text, before all else */
                  TOKEN_UNUSED = 5,
                  TOKEN_BYTE = 6
};

enum {                           /* flags of tokenizer_encode */
       TOKENIZE_ADD_SPECIAL = 1, /* put BOS (EOS) where the model asks for it */
       /* "<|im_end|>" in the text becomes that control token; else it is plain text, and no text at
     * all gives a control token. */
       TOKENIZE_PARSE_SPECIAL = 2,
};
enum { /* flags of tokenizer_piece and detokenizer_init */
       DETOKENIZE_SPECIAL =
           1, /* control and unknown tokens give their text; else they give nothing */
};

/* CORRUPT (missing or inconsistent vocabulary; the error names the key), UNSUPPORTED (unknown model
 * or pre-split), LIMIT (a special token or all texts together too long), NOMEM. The file must
 * outlive the tokenizer: token texts are borrowed from its mapping. */
SL_CHECK sl_status tokenizer_create(const struct gguf_file *file, struct tokenizer **out,
                                    struct sl_err *err);
void tokenizer_destroy(struct tokenizer *tok); /* NULL is fine */

/* Appends int32 ids to out; on failure out is as before. Bytes that are not UTF-8 become a token
 * each; a byte the vocabulary has no token for becomes U+FFFD, the unknown token, or nothing.
 * A U+2581 in the text of a SentencePiece model goes in as three bytes, since the model's own
 * spelling would bring it back as a space. LIMIT: text over 16 MiB, out's maximum. NOMEM. */
SL_CHECK sl_status tokenizer_encode(const struct tokenizer *tok, const char *text, size_t n_bytes,
                                    unsigned flags, struct sl_buf *out, struct sl_err *err);

/* The bytes a token stands for: *out_bytes is valid as long as the tokenizer. Returns the length; 0
 * for tokens without text and for ids outside the vocabulary. */
size_t tokenizer_piece(const struct tokenizer *tok, int32_t id, unsigned flags,
                       const char **out_bytes);

int32_t tokenizer_n_vocab(const struct tokenizer *tok);
int32_t tokenizer_bos(const struct tokenizer *tok); /* -1: none; likewise below */
int32_t tokenizer_eos(const struct tokenizer *tok);
bool tokenizer_adds_bos(const struct tokenizer *tok);

/* EOS, EOT, EOM, and control tokens spelt <|im_end|>, <|eot_id|>, <end_of_turn> and the like. */
bool tokenizer_is_end(const struct tokenizer *tok, int32_t id);

/* TOKEN_UNUSED outside the vocabulary. */
enum token_type tokenizer_type(const struct tokenizer *tok, int32_t id);

/* Id of the token spelt so in the file ("Ġthe", "▁the", "<|im_end|>"), or -1; the last of
 * equals. */
int32_t tokenizer_find(const struct tokenizer *tok, const char *text, size_t n);
const char *tokenizer_kind(const struct tokenizer *tok); /* "bpe/qwen2", "spm" */

/* Token ids in, whole UTF-8 characters out: never half a character, and bytes that can never become
 * one come out as U+FFFD. A SentencePiece model's leading space is dropped when `at_start`. */
struct detokenizer {
    const struct tokenizer *tok;
    unsigned flags;
    bool at_start;
    unsigned char n_held;
    char held[4]; /* the beginning of a character whose end has not come */
};
void detokenizer_init(struct detokenizer *d, const struct tokenizer *tok, unsigned flags,
                      bool at_start);

/* LIMIT, NOMEM: then neither d nor out has changed. */
SL_CHECK sl_status detokenizer_push(struct detokenizer *d, int32_t id, struct sl_buf *out);

/* What is held comes out as U+FFFD. */
SL_CHECK sl_status detokenizer_finish(struct detokenizer *d, struct sl_buf *out);
