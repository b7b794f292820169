/* text_int.h: what the files of exec/text share; nobody else includes it.
 *
 * A text goes through five stages, each a small list of steps that the file's JSON was turned into
 * at load: tokens found verbatim (text_added.c), the normalizer (text_normalizer.c), the
 * pre-tokenizer (text_pretoken.c), the model (text_wordpiece.c, text_unigram.c, text_bpe.c), and
 * the post-processor (text_template.c); text_decoder.c goes back.
 *
 * Ownership: a tokenizer owns its steps; every stage has a _parse that appends to a zeroed list and
 * a _done that takes half-built ones. What a call needs on its way is in text_scratch. */
#pragma once
#include "base/json_read.h"
#include "base/strmap.h"
#include "base/unicode_norm.h"
#include "exec/text/text_json.h"
#include "exec/text/text_regex.h"
#include "exec/text/text_tokenizer.h"
#include "exec/text/text_trie.h"

#define TEXT_IDS_MAX (4 * 1024 * 1024) /* 16 times the largest vocabulary */
#define TEXT_TOKEN_BYTES_MAX 65536     /* the longest known is 512 spaces */
#define TEXT_STEPS_MAX 64              /* of a normalizer, pre-tokenizer or decoder; real ones: 8 */
#define TEXT_NESTING_MAX 8             /* a Sequence in a Sequence in a ... */
#define TEXT_TEMPLATE_MAX 64           /* items of a post-processor's template; real ones: 6 */
#define TEXT_ADDED_MAX 65536           /* Gemma has 6,400 added tokens */
/* Normal forms make of three bytes up to 33; replacements of one byte may make more. */
#define TEXT_SCRATCH_MAX (16 * TEXT_TOKENIZER_TEXT_MAX)

/* A string that its holder owns. */
struct text_string {
    char *s;
    size_t n;
};
/* Member `key` of an object, copied. INVALID: absent, or no string; NOMEM. */
SL_CHECK sl_status text_string_parse(const struct sl_json_value *object, const char *key,
                                     struct text_string *out, struct sl_err *err);

/* Ranges of a text. */
struct text_piece {
    uint32_t at, n;
    bool first; /* begins where the whole input begins */
};
struct text_pieces {
    struct text_piece *at;
    size_t n, cap;
};
SL_CHECK sl_status text_pieces_add(struct text_pieces *pieces, struct text_piece piece); /* NOMEM */

struct text_ids {
    int32_t *at;
    size_t n, cap;
};
SL_CHECK sl_status text_ids_add(struct text_ids *ids, int32_t id); /* NOMEM */

struct text_cut { /* a stretch of a piece that a pattern matched, or did not */
    uint32_t from, to;
    bool match;
};
struct text_symbol; /* text_bpe.c */
struct text_merge;
struct text_node; /* text_unigram.c */

struct text_scratch {
    struct sl_buf normal[2]; /* the normalizer reads one and writes the other */
    struct sl_buf pre[2];    /* the pre-tokenizer, likewise */
    struct text_pieces pieces[2];
    struct text_cut *cuts;
    size_t n_cuts, cuts_cap;
    struct text_regex_scratch *regex; /* made when first needed */
    struct text_ids ids[2];           /* of the text, and of its pair */
    bool lead_dropped;                /* the normalizer left out what the text began with */
    struct text_symbol *symbols;
    struct text_merge *merges;
    struct text_node *nodes;
    size_t symbols_cap, merges_cap, nodes_cap;
    struct sl_buf word;
};
/* The encoding's scratch, made at its first use. NOMEM. */
SL_CHECK sl_status text_scratch_get(struct text_encoding *encoding, struct text_scratch **out);

/* `items`, moved if need be, with room for n > 0 of `size` bytes; NULL: no memory, and items are as
 * before. */
void *text_reserve(void *items, size_t *cap, size_t n, size_t size);
SL_CHECK sl_status text_find(struct text_scratch *scratch, const struct text_regex *regex,
                             struct text_span text, size_t from, bool *out_found,
                             struct text_cut *out);

/* One code point of valid UTF-8 at s; its length. */
size_t text_char(const char *s, size_t n, uint32_t *out);

/* Byte-level alphabets (text_bytes.c): every byte as a printable code point, as in GPT-2. */
uint32_t text_byte_to_char(unsigned char byte);
int text_char_to_byte(uint32_t c); /* -1: none of the 256 */
SL_CHECK sl_status text_bytes_encode(const char *s, size_t n, struct sl_buf *out);
bool text_is_punctuation(uint32_t c); /* ASCII symbols, too */

/* --- normalizer --- */
enum text_norm_kind {
    TEXT_NORM_CLEAN,
    TEXT_NORM_CHINESE,
    TEXT_NORM_DROP_NONSPACING,
    TEXT_NORM_DROP_MARKS,
    TEXT_NORM_LOWERCASE,
    TEXT_NORM_NMT,
    TEXT_NORM_FORM,
    TEXT_NORM_STRIP,
    TEXT_NORM_REPLACE,
    TEXT_NORM_PREPEND,
    TEXT_NORM_CHARSMAP,
    TEXT_NORM_BYTES
};
struct text_charsmap;
struct text_norm_step {
    enum text_norm_kind kind;
    enum sl_unicode_form form;
    bool left, right;           /* STRIP */
    struct text_string pattern; /* REPLACE, unless there is a regex */
    struct text_regex *regex;
    struct text_string content; /* REPLACE, PREPEND */
    struct text_charsmap *charsmap;
};
struct text_normalizer {
    struct text_norm_step steps[TEXT_STEPS_MAX];
    size_t n_steps;
};
SL_CHECK sl_status text_normalizer_parse(struct text_normalizer *normalizer,
                                         const struct sl_json_value *json, int depth,
                                         struct sl_err *err);
void text_normalizer_done(struct text_normalizer *normalizer);
/* *out lies in the scratch, or is `text` itself. */
SL_CHECK sl_status text_normalizer_run(const struct text_normalizer *normalizer,
                                       struct text_scratch *scratch, struct text_span text,
                                       struct text_span *out, struct sl_err *err);

/* text_charsmap.c: SentencePiece's precompiled map. `base64` is the file's text of it. */
SL_CHECK sl_status text_charsmap_create(const char *base64, size_t n, struct text_charsmap **out,
                                        struct sl_err *err);
void text_charsmap_destroy(struct text_charsmap *map); /* NULL is fine */
SL_CHECK sl_status text_charsmap_run(const struct text_charsmap *map, struct text_scratch *scratch,
                                     struct text_span text, struct sl_buf *out);

/* --- pre-tokenizer --- */
enum text_pre_kind {
    TEXT_PRE_CHARS,  /* splits at characters of a class */
    TEXT_PRE_STRING, /* at a string */
    TEXT_PRE_REGEX,  /* at what an expression matches */
    TEXT_PRE_WORDS,  /* \w+|[^\w\s]+ */
    TEXT_PRE_BYTES,
    TEXT_PRE_METASPACE
};
enum text_behavior {
    TEXT_REMOVED,
    TEXT_ISOLATED,
    TEXT_MERGED_WITH_PREVIOUS,
    TEXT_MERGED_WITH_NEXT,
    TEXT_CONTIGUOUS
};
enum text_prepend { TEXT_PREPEND_ALWAYS, TEXT_PREPEND_FIRST, TEXT_PREPEND_NEVER };
struct text_pre_step {
    enum text_pre_kind kind;
    enum text_behavior behavior;
    bool invert;
    bool (*in_class)(uint32_t c);
    struct text_string pattern; /* STRING; what METASPACE writes for a space */
    struct text_regex *regex;
    enum text_prepend prepend; /* METASPACE; BYTES: always or never a space */
    bool split;                /* METASPACE */
};
struct text_pretoken {
    struct text_pre_step steps[TEXT_STEPS_MAX];
    size_t n_steps;
};
SL_CHECK sl_status text_pretoken_parse(struct text_pretoken *pre, const struct sl_json_value *json,
                                       int depth, struct sl_err *err);
void text_pretoken_done(struct text_pretoken *pre);
/* Cuts the text into pieces, of the text that *out_text says. */
SL_CHECK sl_status text_pretoken_run(const struct text_pretoken *pre, struct text_scratch *scratch,
                                     struct text_span text, bool first,
                                     const struct text_pieces **out, const char **out_text,
                                     struct sl_err *err);

/* text_split.c: the behaviors. Replaces the pieces of `from` by finer ones in `to`. */
SL_CHECK sl_status text_split_run(const struct text_pre_step *step, struct text_scratch *scratch,
                                  const char *text, const struct text_pieces *from,
                                  struct text_pieces *to, struct sl_err *err);

/* --- vocabulary and model --- */
struct text_word {
    const char *s; /* NULL: an id without a token */
    uint32_t n;
    bool added, special;
};
struct text_vocab {
    struct sl_buf bytes; /* all texts, one after the other */
    struct sl_strmap by_text;
    struct text_word *words; /* [n] by id, added tokens too */
    size_t n;
};
/* Ids of an object {"token": id}, or with `scores` of an array [["token", score], ...]. */
SL_CHECK sl_status text_vocab_parse(struct text_vocab *vocab, struct text_span span,
                                    double **out_scores, struct sl_err *err);
void text_vocab_done(struct text_vocab *vocab);
int32_t text_vocab_id(const struct text_vocab *vocab, const char *s, size_t n); /* -1: none */
SL_CHECK sl_status text_vocab_grow(struct text_vocab *vocab, size_t n);         /* NOMEM */
/* Ids of "<0x00>" to "<0xFF>"; -1 where the vocabulary has none. */
void text_vocab_byte_ids(const struct text_vocab *vocab, int32_t out[256]);

enum text_model_kind { TEXT_WORDPIECE, TEXT_UNIGRAM, TEXT_BPE, TEXT_WORDLEVEL };
struct text_pair_entry {
    uint32_t left, right; /* ids; left UINT32_MAX: free slot */
    uint32_t rank;
    int32_t id;
};
struct text_model {
    enum text_model_kind kind;
    struct text_vocab vocab;
    int32_t unk_id; /* -1: none */
    bool byte_fallback;
    int32_t byte_ids[256];
    /* WordPiece: words begin with a token of `starts` and go on with those of `inner`, whose keys
     * are without the prefix. */
    struct text_trie starts, inner;
    size_t word_chars_max;
    /* Unigram: tokens in `starts`. */
    double *scores; /* [vocab.n] */
    double unk_score;
    /* BPE */
    struct text_string prefix, suffix; /* continuing_subword_prefix (WordPiece too), end_of_word */
    struct text_pair_entry *pairs;     /* open addressing, at most half full */
    size_t n_slots;                    /* power of two */
    bool fuse_unk, ignore_merges;
};
/* The members of "model": small ones as a tree, the large ones as spans. */
struct text_model_json {
    struct text_span vocab, merges;
    const struct sl_json_value *rest;
};
SL_CHECK sl_status text_model_parse(struct text_model *model, const struct text_model_json *json,
                                    struct sl_err *err);
void text_model_done(struct text_model *model);
/* Appends the ids of one piece. UNSUPPORTED: no token and no unknown token for it. */
SL_CHECK sl_status text_model_run(const struct text_model *model, struct text_scratch *scratch,
                                  struct text_span word, struct text_ids *out, struct sl_err *err);

SL_CHECK sl_status text_wordpiece_parse(struct text_model *model,
                                        const struct text_model_json *json, struct sl_err *err);
SL_CHECK sl_status text_wordpiece_run(const struct text_model *model, struct text_span word,
                                      struct text_ids *out, struct sl_err *err);
SL_CHECK sl_status text_unigram_parse(struct text_model *model, const struct text_model_json *json,
                                      struct sl_err *err);
SL_CHECK sl_status text_unigram_run(const struct text_model *model, struct text_scratch *scratch,
                                    struct text_span word, struct text_ids *out,
                                    struct sl_err *err);
SL_CHECK sl_status text_bpe_parse(struct text_model *model, const struct text_model_json *json,
                                  struct sl_err *err);
SL_CHECK sl_status text_bpe_run(const struct text_model *model, struct text_scratch *scratch,
                                struct text_span word, struct text_ids *out);
/* The id of an unknown token, or UNSUPPORTED naming what has none. */
SL_CHECK sl_status text_model_unknown(const struct text_model *model, struct text_span word,
                                      struct text_ids *out, struct sl_err *err);

/* --- added tokens --- */
struct text_added_token {
    struct text_string text;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};
struct text_added {
    struct text_added_token *tokens;
    size_t n;
    struct text_trie raw, normal; /* values are indices of tokens */
};
SL_CHECK sl_status text_added_parse(struct text_added *added, const struct sl_json_value *json,
                                    struct text_vocab *vocab, struct sl_err *err);
/* After the normalizer is there: builds the tries. */
SL_CHECK sl_status text_added_build(struct text_added *added,
                                    const struct text_normalizer *normalizer, struct sl_err *err);
void text_added_done(struct text_added *added);
struct text_found {
    size_t from, to; /* from == to == n: none; spaces that the token takes are inside */
    int32_t id;
    size_t resume; /* where to look for the next one */
};
/* The next token of `trie` at or after found->resume; what stands before `floor` is taken. */
void text_added_next(const struct text_added *added, const struct text_trie *trie,
                     struct text_span text, size_t floor, struct text_found *found);

/* --- post-processor --- */
enum text_item_kind { TEXT_ITEM_A, TEXT_ITEM_B, TEXT_ITEM_SPECIAL };
struct text_item {
    enum text_item_kind kind;
    int32_t id; /* SPECIAL */
    int64_t type_id;
};
struct text_items {
    struct text_item at[TEXT_TEMPLATE_MAX];
    size_t n;
};
struct text_template {
    struct text_items single, pair;
    bool given; /* a processor said so; otherwise as without one */
};
SL_CHECK sl_status text_template_parse(struct text_template *t, const struct sl_json_value *json,
                                       int depth, struct sl_err *err);
void text_template_default(struct text_template *t);
size_t text_items_added(const struct text_items *items);

/* --- decoder --- */
enum text_dec_kind {
    TEXT_DEC_BYTES,
    TEXT_DEC_WORDPIECE,
    TEXT_DEC_METASPACE,
    TEXT_DEC_SUFFIX,
    TEXT_DEC_REPLACE,
    TEXT_DEC_BYTE_FALLBACK,
    TEXT_DEC_FUSE,
    TEXT_DEC_STRIP
};
struct text_dec_step {
    enum text_dec_kind kind;
    struct text_string pattern, content;
    struct text_regex *regex;
    bool cleanup;
    enum text_prepend prepend;
    size_t start, stop;
};
struct text_decoder {
    struct text_dec_step steps[TEXT_STEPS_MAX];
    size_t n_steps;
};
SL_CHECK sl_status text_decoder_parse(struct text_decoder *decoder,
                                      const struct sl_json_value *json, int depth,
                                      struct sl_err *err);
void text_decoder_done(struct text_decoder *decoder);

/* --- the whole --- */
struct text_tokenizer {
    struct text_added added;
    struct text_normalizer normalizer;
    struct text_pretoken pre;
    struct text_model model;
    struct text_template post;
    struct text_decoder decoder;
    size_t max_tokens;
    bool truncate_left;
    int64_t pad_id;
};

/* A step of a kind that is not known: UNSUPPORTED, with its name and where it stood. */
sl_status text_unknown_type(const struct sl_json_value *json, const char *where,
                            struct sl_err *err);
/* The "type" of a step, or "". */
const char *text_type(const struct sl_json_value *json);
/* Pattern {"String": ...} or {"Regex": ...} of Replace and Split. */
SL_CHECK sl_status text_pattern_parse(const struct sl_json_value *json, struct text_string *string,
                                      struct text_regex **regex, struct sl_err *err);
