/* tokenizer_int.h: what the tokenizer's own .c files share. Nobody else includes it.
 * Floor: exec/llm.  Thread: struct tokenizer is const after create; struct encode_job belongs to
 * one call.
 * How the parts fit: tokenizer.c cuts the text at special tokens (tokenizer_special.c) and at
 * bytes that are not UTF-8, and gives each plain stretch to tokenizer_bpe.c (which cuts it into
 * words by tokenizer_pre.c) or tokenizer_spm.c; both join symbols with the one loop in
 * tokenizer_merge.c. */
#pragma once
#include "base/strmap.h"
#include "exec/llm/gguf.h"
#include "exec/llm/tokenizer.h"

/* Gemma has 262,144 tokens; ids stay far from INT32_MAX */
#define TOKENIZER_VOCAB_MAX (1 << 24)
#define TOKENIZER_MERGES_MAX (1 << 25) /* Llama 3 has 280,147 */
/* bytes: some 4 M tokens, past any context; one call takes 60 times it */
#define TOKENIZER_TEXT_MAX ((size_t)16 << 20)
/* bytes of a special token: bounds the work for each byte of text */
#define TOKENIZER_SPECIAL_MAX 1024
/* the table of known spellings and three ids of the metadata */
#define TOKENIZER_ENDS_MAX 64
/* "bpe/" and the longest name of a pre-split, with the NUL */
#define TOKENIZER_KIND_MAX 48

#define SPM_SPACE "\xe2\x96\x81" /* U+2581 stands for a space in SentencePiece texts */
#define SPM_SPACE_BYTES 3

/* Map from two integers to two; its capacity is fixed at init. Serves the merges (left id, right
 * id -> rank, merged id) and the trie of special tokens (node, byte -> child). */
struct pair_entry {
    uint32_t left; /* UINT32_MAX: free slot */
    uint32_t right;
    uint32_t order;
    int32_t id;
};
struct pair_map {
    struct pair_entry *slots;
    size_t n_slots; /* power of two, at least twice the entries; 0 before init */
    uint64_t seed;
};
SL_CHECK sl_status pair_map_init(struct pair_map *map, size_t n_expected); /* NOMEM */
void pair_map_done(struct pair_map *map);
/* the first of equal keys stays */
void pair_map_put(struct pair_map *map, const struct pair_entry *entry);
/* NULL: absent */
const struct pair_entry *pair_map_get(const struct pair_map *map, uint32_t left, uint32_t right);

/* A piece of the text on its way to become one token. */
struct symbol {
    int32_t prev; /* index, -1 at the ends */
    int32_t next;
    uint32_t at; /* bytes from the start of the text that is merged */
    uint32_t len;
    int32_t id; /* -1: not in the vocabulary */
};
struct merge_candidate {
    /* order in the upper half, index of the left symbol in the lower: smallest first, ties
     * leftmost */
    uint64_t key;
    uint32_t len; /* of both symbols together: differs when one of them changed since */
    int32_t id;   /* of the joined token */
};
struct merger {
    struct symbol *symbols;
    size_t n_symbols;
    size_t symbols_cap;
    struct merge_candidate *heap;
    size_t n_heap;
    size_t heap_cap;
};
/* May the neighbours be joined? Then *out_order (smaller goes first) and *out_id (of the joined
 * token). */
typedef bool merge_find_fn(const struct tokenizer *tok, const char *text, const struct symbol *left,
                           const struct symbol *right, struct pair_entry *out);
void merger_done(struct merger *m);
/* empties; room for that many. NOMEM */
SL_CHECK sl_status merger_begin(struct merger *m, size_t n_symbols_max);
void merger_add(struct merger *m, uint32_t at, uint32_t len, int32_t id);
/* Joins neighbours, best first, until none may be joined. O(n log n). The first symbol is index
 * 0. */
void merger_run(struct merger *m, const struct tokenizer *tok, const char *text,
                merge_find_fn *find);

/* Tokens found verbatim in the text, as a trie over their bytes. */
struct special_trie {
    struct pair_map edges;
    int32_t *ids; /* [n_nodes] token that ends at the node, or -1; node 0 is the root */
    uint32_t n_nodes;
    bool starts[256]; /* a special token may begin with this byte */
};

struct pre_rule;    /* one named way to cut text into words */
struct pre_split;   /* its compiled patterns */
struct pre_scratch; /* what one call needs to match them */

struct tokenizer {
    bool is_spm;
    const struct gguf_str *texts; /* [n_vocab], borrowed from the file */
    int32_t n_vocab;
    size_t text_len_max; /* bytes of the longest text */
    struct sl_strmap by_text;
    unsigned char *types; /* [n_vocab] enum token_type */
    char *pieces;         /* what the tokens stand for, one after the other */
    uint32_t *piece_at;   /* [n_vocab + 1] offsets in pieces */
    int32_t byte_id[256]; /* token for a lone byte, -1: none */
    int32_t bos, eos, unk;
    bool adds_bos, adds_eos, adds_space;
    int32_t ends[TOKENIZER_ENDS_MAX];
    int n_ends;
    struct special_trie specials;
    char kind[TOKENIZER_KIND_MAX];
    struct pair_map merges; /* byte-level BPE */
    struct pre_split *pre;
    bool whole_words_first; /* a word that is one token is taken without looking at the merges */
    uint32_t *orders;       /* SentencePiece: [n_vocab] scores as integers, best is smallest */
};

struct encode_job {
    const struct tokenizer *tok;
    struct sl_buf *out; /* int32 ids */
    struct sl_err *err;
    struct merger merger;
    struct sl_buf scratch;
    struct pre_scratch *pre; /* NULL for SentencePiece */
};
SL_CHECK sl_status encode_push(struct encode_job *job, int32_t id);
/* Every byte as its own token; a byte that has none as U+FFFD, as the unknown token, or not at
 * all. */
SL_CHECK sl_status encode_bytes(struct encode_job *job, const char *bytes, size_t n);

/* A numeric array of n_vocab entries under `key`, or *out NULL when the file has none. CORRUPT:
 * another length or type. */
SL_CHECK sl_status vocab_array(const struct tokenizer *tok, const struct gguf_file *file,
                               const char *key, const struct gguf_kv **out, struct sl_err *err);

/* tokenizer_special.c */
SL_CHECK sl_status special_load(struct tokenizer *tok, struct sl_err *err); /* NOMEM, LIMIT */
void special_done(struct special_trie *trie);
void special_find_ends(struct tokenizer *tok); /* adds the well-known spellings to tok->ends */
void special_add_end(struct tokenizer *tok, int32_t id);
/* The leftmost special token in text[from..n), the longest of those that begin there; returns
 * where, or n for none. */
size_t special_next(const struct tokenizer *tok, const char *text, size_t n, size_t from,
                    bool controls, int32_t *out_id);

/* tokenizer_pre.c */
const struct pre_rule *pre_rule_find(const char *name, size_t len); /* NULL: unknown */
bool pre_rule_adds_bos(const struct pre_rule *rule);
bool pre_rule_whole_words(const struct pre_rule *rule);
SL_CHECK sl_status pre_split_create(const struct pre_rule *rule, struct pre_split **out,
                                    struct sl_err *err);
void pre_split_destroy(struct pre_split *pre);
/* NOMEM */
SL_CHECK sl_status pre_scratch_create(const struct pre_split *pre, struct pre_scratch **out);
void pre_scratch_destroy(struct pre_scratch *scratch);
/* Calls encode_word for each word of `text`, which is UTF-8; together the words are the text.
 * LIMIT: a pattern took more steps than a linear one can (no text is known to do that). */
SL_CHECK sl_status pre_split_run(const struct pre_split *pre, struct encode_job *job,
                                 const char *text, size_t n);

/* tokenizer_bpe.c */
SL_CHECK sl_status bpe_load(struct tokenizer *tok, const struct gguf_file *file,
                            struct sl_err *err);
SL_CHECK sl_status bpe_encode_word(struct encode_job *job, const char *word, size_t n);
size_t bpe_decode(const struct gguf_str *text, char *out); /* bytes written, at most text->len */

/* tokenizer_spm.c */
SL_CHECK sl_status spm_load(struct tokenizer *tok, const struct gguf_file *file,
                            struct sl_err *err);
/* `text` is UTF-8 without U+2581; with `prefix` a space goes before it. */
SL_CHECK sl_status spm_encode(struct encode_job *job, const char *text, size_t n, bool prefix);
size_t spm_decode(const struct gguf_str *text, char *out);
