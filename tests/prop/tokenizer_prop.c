/* tokenizer_prop.c: on random input, text comes back whole, halves of characters never show, and
 * the fast merge loop gives what the definition gives: look at all neighbours, join the best,
 * again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "exec/llm/tokenizer.h"
#include "support/prop.h"
#include "support/tiny_vocab.h"

#define ROUNDS_UNICODE 3000 /* texts for each vocabulary */
#define ROUNDS_MERGE 4000
#define TEXT_CHARS_MAX 80
#define TEXT_BYTES_MAX (4 * TEXT_CHARS_MAX)
#define IDS_BYTES_MAX ((size_t)1 << 20)
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Ranges that tokenizers treat differently; the rest of the planes comes with the last row. */
static const struct {
    uint32_t first, last;
} RANGES[] = {
    {0, 0x1F},          {' ', ' '},         {' ', '~'},         {'a', 'z'},
    {'A', 'Z'},         {'0', '9'},         {'\n', '\r'},       {0x7F, 0xFF},
    {0x300, 0x36F},     {0x370, 0x52F},     {0x5D0, 0x6FF},     {0x900, 0xDFF},
    {0x180E, 0x180E},   {0x2000, 0x206F},   {0x2581, 0x2581},   {0x3000, 0x30FF},
    {0x4E00, 0x9FFF},   {0xAC00, 0xD7A3},   {0xE000, 0xF8FF},   {0xFE00, 0xFE0F},
    {0xFFF0, 0xFFFF},   {0x1F300, 0x1FAFF}, {0x1F3FB, 0x1F3FF}, {0x20000, 0x2FFFF},
    {0xE0001, 0xE007F}, {0, 0x10FFFF},
};

static size_t random_text(char out[TEXT_BYTES_MAX])
{
    size_t n = 0;
    for (size_t n_chars = prop_draw(TEXT_CHARS_MAX); n_chars > 0;) {
        size_t range = prop_draw(COUNT(RANGES));
        for (size_t run = 1 + prop_draw(4); run > 0 && n_chars > 0; run--, n_chars--) {
            uint32_t span = RANGES[range].last - RANGES[range].first + 1;
            /* surrogates write nothing */
            n += sl_utf8_encode(RANGES[range].first + (uint32_t)prop_draw(span), out + n);
        }
    }
    return n;
}

static void encode(const struct tokenizer *tok, const char *text, size_t n, struct sl_buf *ids)
{
    struct sl_err err = SL_ERR_INIT;
    sl_buf_init(ids, IDS_BYTES_MAX);
    if (tokenizer_encode(tok, text, n, 0, ids, &err) != SL_OK) fail_msg("%s", err.text);
}

static int32_t id_at(const struct sl_buf *ids, size_t i)
{
    int32_t id;
    memcpy(&id, ids->data + i * sizeof id, sizeof id);
    return id;
}

/* Detokenises step by step: at each step what is there must be UTF-8, and in the end the text. */
static void check_text_comes_back(const struct tokenizer *tok, const char *text, size_t n)
{
    struct sl_buf ids, back;
    struct detokenizer d;
    encode(tok, text, n, &ids);
    detokenizer_init(&d, tok, 0, true);
    sl_buf_init(&back, IDS_BYTES_MAX);
    for (size_t i = 0; i < ids.len / sizeof(int32_t); i++) {
        size_t before = back.len;
        assert_int_equal(detokenizer_push(&d, id_at(&ids, i), &back), SL_OK);
        assert_true(sl_utf8_valid(back.data + before, back.len - before));
    }
    assert_int_equal(detokenizer_finish(&d, &back), SL_OK);
    assert_int_equal(back.len, n);
    assert_memory_equal(back.data, text, n);
    sl_buf_done(&back);
    sl_buf_done(&ids);
}

/* The pieces one after the other are the bytes, but for the space that SentencePiece puts first. */
static void check_bytes_come_back(const struct tokenizer *tok, const char *bytes, size_t n)
{
    struct sl_buf ids, back;
    encode(tok, bytes, n, &ids);
    sl_buf_init(&back, IDS_BYTES_MAX);
    for (size_t i = 0; i < ids.len / sizeof(int32_t); i++) {
        const char *piece;
        size_t len = tokenizer_piece(tok, id_at(&ids, i), 0, &piece);
        assert_int_equal(sl_buf_add(&back, piece, len), SL_OK);
    }
    if (strcmp(tokenizer_kind(tok), "spm") == 0 && back.len > 0) sl_buf_consume(&back, 1);
    assert_int_equal(back.len, n);
    assert_memory_equal(back.data, bytes, n);
    sl_buf_done(&back);
    sl_buf_done(&ids);
}

static void check_vocabulary(const struct tokenizer *tok, bool has_all_bytes)
{
    char text[TEXT_BYTES_MAX];
    for (int round = 0; round < ROUNDS_UNICODE; round++) {
        size_t n = random_text(text);
        check_text_comes_back(tok, text, n);
        if (!has_all_bytes || n == 0) continue;
        for (int k = 0; k < 3; k++) text[prop_draw(n)] = (char)prop_draw(256);
        check_bytes_come_back(tok, text, n);
    }
}

static bool check_shared(const char *path, bool has_all_bytes)
{
    char full[4096];
    const char *root = getenv("STARLANE_SHARED");
    struct gguf_file *file;
    struct tokenizer *tok = NULL;
    struct sl_err err = SL_ERR_INIT;
    snprintf(full, sizeof full, "%s/data/%s", root ? root : STARLANE_SHARED, path);
    sl_status status = gguf_open(full, &file, &err);
    if (status == SL_NOT_FOUND) return false;
    if (status != SL_OK || tokenizer_create(file, &tok, &err) != SL_OK) fail_msg("%s", err.text);
    check_vocabulary(tok, has_all_bytes);
    tokenizer_destroy(tok);
    gguf_close(file);
    return true;
}

static void random_unicode_comes_back_from_real_vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool has_all_bytes; /* DeepSeek LLM has no tokens for the 13 bytes that UTF-8 never uses */
    } files[] = {
        {"tokenizers/ggml-vocab-deepseek-llm.gguf", false},
        {"tokenizers/ggml-vocab-llama-bpe.gguf", true},
        {"tokenizers/ggml-vocab-llama-spm.gguf", true},
        {"tokenizers/ggml-vocab-qwen2.gguf", true},
        {"models/stories260K-f32.gguf", true},
    };
    int n_checked = 0;
    for (size_t i = 0; i < COUNT(files); i++)
        n_checked += check_shared(files[i].path, files[i].has_all_bytes);
    if (n_checked == 0) skip();
    assert_int_equal(n_checked, COUNT(files));
}

static void open_tokenizer(struct tiny_gguf *g, struct gguf_file **file, struct tokenizer **tok)
{
    struct sl_err err = SL_ERR_INIT;
    if (tiny_open(g, file, &err) != SL_OK || tokenizer_create(*file, tok, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void close_tokenizer(struct tiny_gguf *g, struct gguf_file *file, struct tokenizer *tok)
{
    tokenizer_destroy(tok);
    gguf_close(file);
    tiny_done(g);
}

static void random_unicode_comes_back_from_every_pre_split(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2",          "starcoder",   "llama-bpe", "qwen2",
                                       "qwen35",         "gpt-4o",      "tekken",    "deepseek-llm",
                                       "deepseek-coder", "deepseek-v3", "falcon",    "default"};
    for (size_t i = 0; i < COUNT(pres); i++) {
        struct tiny_gguf g;
        struct gguf_file *file;
        struct tokenizer *tok;
        tiny_begin(&g);
        tiny_bpe(&g, pres[i]);
        open_tokenizer(&g, &file, &tok);
        check_vocabulary(tok, true);
        close_tokenizer(&g, file, tok);
    }
}

/* --- the merge loop against its definition --- */

#define N_LETTERS 3 /* few, so that joins overlap often */
#define N_JOINS 40
#define WORD_MAX 24
#define JOINED_MAX 64

struct join {
    char left[JOINED_MAX], right[JOINED_MAX], both[2 * JOINED_MAX];
    float score;
};

/* a, between and b one after another; what does not fit is cut. */
static void glue(char *out, size_t size, const char *a, const char *between, const char *b)
{
    const char *parts[] = {a, between, b};
    size_t len = 0;
    for (int i = 0; i < 3; i++)
        for (const char *c = parts[i]; *c && len + 1 < size; c++) out[len++] = *c;
    out[len] = '\0';
}

/* Random joins of what letters and earlier joins give. */
static void random_joins(struct join joins[N_JOINS])
{
    for (size_t i = 0; i < N_JOINS; i++) {
        char *sides[] = {joins[i].left, joins[i].right};
        for (int side = 0; side < 2; side++) {
            size_t from = prop_draw(N_LETTERS + (i < 12 ? i : 12));
            if (from < N_LETTERS)
                snprintf(sides[side], JOINED_MAX, "%c", (char)('a' + (int)from));
            else
                snprintf(sides[side], JOINED_MAX, "%.*s", JOINED_MAX / 2,
                         joins[from - N_LETTERS].both);
        }
        glue(joins[i].both, sizeof joins[i].both, joins[i].left, "", joins[i].right);
        joins[i].score = -(float)prop_draw(10); /* equal scores are common */
    }
}

struct parts {
    char text[WORD_MAX][WORD_MAX + 1];
    size_t n;
};

static void split_letters(const char *word, struct parts *p)
{
    p->n = strlen(word);
    for (size_t i = 0; i < p->n; i++) snprintf(p->text[i], sizeof p->text[i], "%c", word[i]);
}

static void join_at(struct parts *p, size_t i)
{
    char both[WORD_MAX + 1];
    glue(both, sizeof both, p->text[i], "", p->text[i + 1]);
    memcpy(p->text[i], both, sizeof both);
    memmove(p->text + i + 1, p->text + i + 2, (p->n - i - 2) * sizeof *p->text);
    p->n--;
}

/* Byte-level BPE by definition: the first join of the list that applies anywhere, leftmost. */
static void merge_by_rank(const struct join *joins, struct parts *p)
{
    for (size_t rank = 0; rank < N_JOINS; rank++) {
        for (size_t i = 0; i + 1 < p->n; i++) {
            if (strcmp(p->text[i], joins[rank].left) != 0 ||
                strcmp(p->text[i + 1], joins[rank].right) != 0)
                continue;
            join_at(p, i);
            rank = (size_t)-1; /* look at all again, from the best one */
            break;
        }
    }
}

static const struct join *find_joined(const struct join *joins, const char *a, const char *b)
{
    char both[2 * WORD_MAX + 1];
    glue(both, sizeof both, a, "", b);
    for (size_t i = 0; i < N_JOINS; i++)
        if (strcmp(joins[i].both, both) == 0) return &joins[i];
    return NULL;
}

/* SentencePiece by definition: the two neighbours whose joined text has the best score,
 * leftmost. */
static void merge_by_score(const struct join *joins, struct parts *p)
{
    for (;;) {
        size_t best_at = p->n;
        float best = 0;
        for (size_t i = 0; i + 1 < p->n; i++) {
            const struct join *join = find_joined(joins, p->text[i], p->text[i + 1]);
            if (!join || (best_at < p->n && join->score <= best)) continue;
            best_at = i;
            best = join->score;
        }
        if (best_at == p->n) return;
        join_at(p, best_at);
    }
}

/* Duplicates would give one text two scores or ids; the naive search takes the first, so only
 * that one is written. */
static size_t vocabulary_of(const struct join *joins, struct tiny_token *tokens,
                            const char (*letters)[2])
{
    size_t n = 0;
    tokens[n++] = (struct tiny_token){"<unk>", TOKEN_UNKNOWN, 0};
    for (size_t i = 0; i < N_LETTERS; i++)
        tokens[n++] = (struct tiny_token){letters[i], TOKEN_NORMAL, -100};
    for (size_t i = 0; i < N_JOINS; i++)
        if (find_joined(joins, joins[i].left, joins[i].right) == &joins[i])
            tokens[n++] = (struct tiny_token){joins[i].both, TOKEN_NORMAL, joins[i].score};
    return n;
}

static void check_words(const struct tokenizer *tok, const struct join *joins, bool by_score)
{
    for (int round = 0; round < ROUNDS_MERGE / 40; round++) {
        char word[WORD_MAX + 1] = "";
        struct parts want;
        struct sl_buf ids;
        size_t n = prop_draw(WORD_MAX + 1);
        for (size_t i = 0; i < n; i++) word[i] = (char)('a' + (int)prop_draw(N_LETTERS));
        word[n] = '\0';
        split_letters(word, &want);
        if (by_score)
            merge_by_score(joins, &want);
        else
            merge_by_rank(joins, &want);
        encode(tok, word, n, &ids);
        assert_int_equal(ids.len / sizeof(int32_t), want.n);
        for (size_t i = 0; i < want.n; i++)
            assert_int_equal(id_at(&ids, i),
                             tokenizer_find(tok, want.text[i], strlen(want.text[i])));
        sl_buf_done(&ids);
    }
}

static void check_merging(bool by_score)
{
    static const char letters[N_LETTERS][2] = {"a", "b", "c"};
    static struct join joins[N_JOINS];
    for (int round = 0; round < 40; round++) {
        struct tiny_token tokens[1 + N_LETTERS + N_JOINS];
        struct tiny_gguf g;
        struct gguf_file *file;
        struct tokenizer *tok;
        random_joins(joins);
        size_t n = vocabulary_of(joins, tokens, letters);
        tiny_begin(&g);
        tiny_str(&g, "tokenizer.ggml.model", by_score ? "llama" : "gpt2");
        tiny_str(&g, "tokenizer.ggml.pre", by_score ? "default" : "qwen2");
        tiny_bool(&g, "tokenizer.ggml.add_space_prefix", false);
        tiny_tokens(&g, tokens, n, by_score);
        tiny_array(&g, "tokenizer.ggml.merges", GGUF_STRING, N_JOINS);
        for (size_t i = 0; i < N_JOINS; i++) {
            char merge[2 * JOINED_MAX + 2];
            glue(merge, sizeof merge, joins[i].left, " ", joins[i].right);
            tiny_str_raw(&g, merge, strlen(merge));
        }
        open_tokenizer(&g, &file, &tok);
        check_words(tok, joins, by_score);
        close_tokenizer(&g, file, tok);
    }
}

static void byte_level_merging_follows_its_definition(void **state)
{
    (void)state;
    check_merging(false);
}

static void sentencepiece_merging_follows_its_definition(void **state)
{
    (void)state;
    check_merging(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_unicode_comes_back_from_real_vocabularies),
        cmocka_unit_test(random_unicode_comes_back_from_every_pre_split),
        cmocka_unit_test(byte_level_merging_follows_its_definition),
        cmocka_unit_test(sentencepiece_merging_follows_its_definition),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
