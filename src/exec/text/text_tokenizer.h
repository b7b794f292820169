/* text_tokenizer.h: tokenizers as Hugging Face's `tokenizer.json` describes them: text, or a pair
 * of texts, into the ids that an encoder (BERT, MiniLM, BGE, E5, XLM-R, RoBERTa, DeBERTa,
 * ModernBERT, a reranker) was trained on, and back.
 * Floor: exec/text, which is no engine: engines may include it.
 * Thread: a tokenizer is only read after its load: any number of threads may encode with it at the
 * same time, each with a text_encoding of its own.
 * Allocates: load; encode into the encoding's memory, which is kept from one text to the next.
 * Invariant: ids equal those of Hugging Face's tokenizers library. What a file asks for and this
 * module does not know is refused at load, by its name: nothing is guessed. Work grows with the
 * text as n log n at most.
 * Source: https://huggingface.co/docs/tokenizers. Every stage of it is in docs/tokenizers.md. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest files, of vocabularies with 260,000 entries, take 17 to 34 MB. */
#define TEXT_TOKENIZER_FILE_MAX ((size_t)64 << 20)
/* 16 MiB of text are some 4,000,000 tokens: far more than any encoder takes at once. */
#define TEXT_TOKENIZER_TEXT_MAX ((size_t)16 << 20)

struct text_tokenizer; /* opaque */

/* Reads a tokenizer.json of n bytes, which may be freed afterwards. INVALID: not JSON;
 * UNSUPPORTED: a part of a type that is not known here (err names the type and where it stands);
 * CORRUPT: its parts do not fit each other; LIMIT: over a limit; NOMEM. */
SL_CHECK sl_status text_tokenizer_load(const char *json, size_t n, struct text_tokenizer **out,
                                       struct sl_err *err);
void text_tokenizer_destroy(struct text_tokenizer *tok); /* NULL is fine */

struct text_encode_cfg {
    size_t max_tokens; /* special tokens included; 0: no limit */
    /* Longer input is cut: of a pair always the longer one (Hugging Face's longest_first), at the
     * side that the file names. Otherwise longer input is an error. */
    bool truncate;
    bool add_special; /* [CLS], [SEP] and the like, as the file's post-processor says */
};

struct text_scratch; /* what one encode needs on its way */

/* One encoded input. Made by text_encoding_init, reused by any number of encodes, with any
 * tokenizers. Padding is the caller's, who knows the batch: text_tokenizer_pad_id. */
struct text_encoding {
    size_t n;
    int64_t *ids;            /* [n] */
    int64_t *type_ids;       /* [n] 0, or 1 for the second text where the model tells them apart */
    int64_t *attention_mask; /* [n] all 1 */
    int64_t *special_mask;   /* [n] 1: a token that the post-processor added */
    size_t cap;
    struct text_scratch *scratch;
};
void text_encoding_init(struct text_encoding *encoding);
void text_encoding_done(struct text_encoding *encoding);

/* Bytes of UTF-8. `s` NULL: there is none. */
struct text_input {
    const char *s;
    size_t n;
};

/* Encodes one text, or a pair when pair.s is not NULL. INVALID: not UTF-8; LIMIT: more than
 * max_tokens (err names both numbers), or a text over TEXT_TOKENIZER_TEXT_MAX; UNSUPPORTED: the
 * text holds what the vocabulary has no token for, and the file names no unknown token; NOMEM.
 * After a failure out->n is 0. */
SL_CHECK sl_status text_tokenizer_encode(const struct text_tokenizer *tok, struct text_input text,
                                         struct text_input pair, const struct text_encode_cfg *cfg,
                                         struct text_encoding *out, struct sl_err *err);

/* Appends the text of the ids, by the file's decoder; ids that the vocabulary lacks give nothing.
 * LIMIT, NOMEM: the buffer's. */
SL_CHECK sl_status text_tokenizer_decode(const struct text_tokenizer *tok, const int64_t *ids,
                                         size_t n, bool skip_special, struct sl_buf *out,
                                         struct sl_err *err);

/* The largest id plus one; ids below it may be unused. */
size_t text_tokenizer_n_vocab(const struct text_tokenizer *tok);
/* What the file truncates to ("truncation"), or 0. Often the model's limit, and often absent. */
size_t text_tokenizer_max_tokens(const struct text_tokenizer *tok);
/* The id of the file's "padding", else of [PAD] or <pad>; -1 when there is none. */
int64_t text_tokenizer_pad_id(const struct text_tokenizer *tok);
/* How many tokens the post-processor adds to one text, or to a pair. */
size_t text_tokenizer_n_added(const struct text_tokenizer *tok, bool pair);

int64_t text_tokenizer_id(const struct text_tokenizer *tok, const char *token,
                          size_t n); /* or -1 */
/* The token as the file spells it, not NUL-ended; NULL for an id without one. Borrowed. */
const char *text_tokenizer_token(const struct text_tokenizer *tok, int64_t id, size_t *out_n);
bool text_tokenizer_is_special(const struct text_tokenizer *tok, int64_t id);
