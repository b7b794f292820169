/* tokenizer_pre.c: cuts text into words by the pattern that the vocabulary was trained with. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/mem.h"
#include "exec/llm/tokenizer_int.h"
#include <pcre2.h>
#include <string.h>

/* The patterns are facts of the models' own tokenizer.json files; where those name a model-specific
 * alias, the GGUF converters' names are used. Two things are written differently, with the same
 * matches on what the models saw:
 * - \s is spelt out, since PCRE2 counts U+180E as a space and Unicode (since 6.3) does not;
 * - case folding of the English contractions is spelt out, so that U+017F does not pass for an
 *   s. */
#define WS "\\t-\\r\\x{85}\\p{Z}" /* inside a class: the property White_Space */
#define CONTRACTION "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
#define SPACES "[" WS "]+(?![^" WS "])|[" WS "]+"
#define LINES_AND_SPACES "[" WS "]*[\\r\\n]+|" SPACES
#define WORDS_GPT2 "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" SPACES
#define WORDS_LLAMA3(digits) \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS \
                "\\p{L}\\p{N}]+[\\r\\n]*|" LINES_AND_SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define WORDS_BY_CASE(suffix, digits) \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" suffix "|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|" LINES_AND_SPACES
/* Letters with upper and lower case, of all scripts: what DeepSeek LLM lists by range. */
#define CASED_LETTERS \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{" \
    "293}" \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-" \
    "\\x{38A}" \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{" \
    "556}" \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{" \
    "1CBF}" \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{" \
    "1F1D}" \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}" \
    "\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}" \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{" \
    "1FF4}" \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{" \
    "2124}" \
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}" \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}" \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{" \
    "A76F}" \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{" \
    "FB17}" \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}" \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}" \
    "\\x{1E900}-\\x{1E943}"

#define PRE_PATTERNS_MAX 6
/* steps of the matcher for each byte: linear patterns take 4 at most */
#define PRE_MATCH_STEPS 16
#define PRE_MATCH_STEPS_MIN 10000 /* for short texts */
#define PRE_HEAP_KIB 65536        /* of the interpreting matcher, where no JIT exists */
#define PRE_JIT_STACK_MIN ((size_t)32 << 10)
#define PRE_JIT_STACK_MAX ((size_t)1 << 20)

/* Each pattern cuts every piece the one before it left: a match is a piece, and so is what lies
 * between two matches. */
typedef const char *pattern_list[PRE_PATTERNS_MAX];
static const pattern_list PRE_GPT2 = {WORDS_GPT2};
static const pattern_list PRE_STARCODER = {"\\p{N}", WORDS_GPT2};
static const pattern_list PRE_LLAMA3 = {WORDS_LLAMA3("\\p{N}{1,3}")};
static const pattern_list PRE_QWEN2 = {WORDS_LLAMA3("\\p{N}")};
static const pattern_list PRE_QWEN35 = {CONTRACTION
                                        "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS
                                        "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES_AND_SPACES};
static const pattern_list PRE_GPT4O = {WORDS_BY_CASE("(?:" CONTRACTION ")?", "\\p{N}{1,3}")};
static const pattern_list PRE_TEKKEN = {WORDS_BY_CASE("", "\\p{N}")};
static const pattern_list PRE_DEEPSEEK_LLM = {
    "[\\r\\n]",
    "[" WS "]?[" CASED_LETTERS "]+",
    "[" WS
    "]?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
    /* a run of spaces at the end; the look-behind tries each run once, not each space */
    "(?<![" WS "])[" WS "]++\\z",
    "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+",
    "\\p{N}+",
};
static const pattern_list PRE_DEEPSEEK_CODER = {
    "[\\r\\n]",         "[" WS "]?\\p{L}+",
    "[" WS "]?\\p{P}+", "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+",
    "\\p{N}",
};
static const pattern_list PRE_DEEPSEEK_V3 = {
    "\\p{N}{1,3}",
    "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES_AND_SPACES,
};
static const pattern_list PRE_FALCON = {"[\\p{P}$+<=>^~|`]+", WORDS_GPT2, "[0-9][0-9][0-9]"};
static const pattern_list PRE_DEFAULT = {"[\\p{P}$+<=>^~|]+", WORDS_GPT2, "\\p{N}+",
                                         "[0-9][0-9][0-9]"};

struct pre_rule {
    const char *name; /* value of tokenizer.ggml.pre */
    const pattern_list *patterns;
    bool whole_words; /* a word of the vocabulary is taken whole */
    bool adds_bos;    /* unless the file says otherwise */
};

static const struct pre_rule PRE_RULES[] = {
    {"default", &PRE_DEFAULT, false, false},
    {"gpt-2", &PRE_GPT2, false, false},
    {"phi-2", &PRE_GPT2, false, false},
    {"mpt", &PRE_GPT2, false, false},
    {"olmo", &PRE_GPT2, false, false},
    {"jais", &PRE_GPT2, false, false},
    {"gigachat", &PRE_GPT2, false, false},
    {"a.x-4.0", &PRE_GPT2, false, false},
    {"mellum", &PRE_GPT2, false, false},
    {"trillion", &PRE_GPT2, false, false},
    {"granite-docling", &PRE_GPT2, false, false},
    {"exaone4", &PRE_GPT2, false, false},
    {"starcoder", &PRE_STARCODER, false, false},
    {"refact", &PRE_STARCODER, false, false},
    {"command-r", &PRE_STARCODER, false, false},
    {"smollm", &PRE_STARCODER, false, false},
    {"codeshell", &PRE_STARCODER, false, false},
    {"exaone", &PRE_STARCODER, false, false},
    {"minerva-7b", &PRE_STARCODER, false, false},
    {"mellum2", &PRE_STARCODER, false, false},
    {"falcon", &PRE_FALCON, false, false},
    {"llama-bpe", &PRE_LLAMA3, true, true},
    {"llama3", &PRE_LLAMA3, true, true},
    {"llama-v3", &PRE_LLAMA3, true, true},
    {"falcon3", &PRE_LLAMA3, true, true},
    {"falcon-h1", &PRE_LLAMA3, true, true},
    {"pixtral", &PRE_LLAMA3, true, true},
    {"midm-2.0", &PRE_LLAMA3, true, true},
    {"lfm2", &PRE_LLAMA3, true, true},
    {"dbrx", &PRE_LLAMA3, false, false},
    {"smaug-bpe", &PRE_LLAMA3, false, false},
    {"glm4", &PRE_LLAMA3, false, false},
    {"chatglm-bpe", &PRE_LLAMA3, false, false},
    {"qwen2", &PRE_QWEN2, false, false},
    {"deepseek-r1-qwen", &PRE_QWEN2, false, false},
    {"stablelm2", &PRE_QWEN2, false, false},
    {"megrez", &PRE_QWEN2, false, false},
    {"hunyuan", &PRE_QWEN2, false, false},
    {"solar-open", &PRE_QWEN2, false, false},
    {"grok-2", &PRE_QWEN2, false, false},
    {"kormo", &PRE_QWEN2, false, false},
    {"qwen35", &PRE_QWEN35, false, false},
    {"deepseek-llm", &PRE_DEEPSEEK_LLM, false, false},
    {"deepseek-coder", &PRE_DEEPSEEK_CODER, false, false},
    {"deepseek-v3", &PRE_DEEPSEEK_V3, false, false},
    {"hunyuan-dense", &PRE_DEEPSEEK_V3, false, false},
    {"joyai-llm", &PRE_DEEPSEEK_V3, false, false},
    {"gpt-4o", &PRE_GPT4O, false, false},
    {"llama4", &PRE_GPT4O, false, false},
    {"kanana2", &PRE_GPT4O, false, false},
    {"minimax-m2", &PRE_GPT4O, false, false},
    {"tekken", &PRE_TEKKEN, true, true},
};

struct pre_split {
    pcre2_general_context *memory;
    pcre2_code *codes[PRE_PATTERNS_MAX];
    int n_codes;
};

struct pre_scratch {
    pcre2_match_data *match;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack; /* NULL: the machine's own 32 KiB */
};

const struct pre_rule *pre_rule_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof PRE_RULES / sizeof *PRE_RULES; i++)
        if (strlen(PRE_RULES[i].name) == len && memcmp(PRE_RULES[i].name, name, len) == 0)
            return &PRE_RULES[i];
    return NULL;
}

bool pre_rule_adds_bos(const struct pre_rule *rule)
{
    return rule->adds_bos;
}

bool pre_rule_whole_words(const struct pre_rule *rule)
{
    return rule->whole_words;
}

static void *pcre_malloc(size_t n_bytes, void *unused)
{
    (void)unused;
    return sl_malloc(n_bytes);
}

static void pcre_free(void *p, void *unused)
{
    (void)unused;
    sl_free(p);
}

static sl_status compile_pattern(struct pre_split *pre, const char *pattern, struct sl_err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(pre->memory);
    if (!context) return sl_err_set(err, SL_NOMEM, "no memory for a pre-split pattern");
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!compiled) {
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return sl_err_set(err, SL_NOMEM, "no memory for a pre-split pattern");
        return sl_err_set(err, SL_INTERNAL, "pre-split pattern: PCRE2 error %d at %zu", code,
                          (size_t)at);
    }
    /* No JIT on this machine is fine: pcre2_match interprets then. */
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    pre->codes[pre->n_codes++] = compiled;
    return SL_OK;
}

sl_status pre_split_create(const struct pre_rule *rule, struct pre_split **out, struct sl_err *err)
{
    sl_status status = SL_NOMEM;
    struct pre_split *pre = sl_calloc(1, sizeof *pre);
    if (!pre) goto fail;
    pre->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (!pre->memory) goto fail;
    for (int i = 0; i < PRE_PATTERNS_MAX && (*rule->patterns)[i]; i++) {
        status = compile_pattern(pre, (*rule->patterns)[i], err);
        if (status != SL_OK) {
            pre_split_destroy(pre);
            return status;
        }
    }
    *out = pre;
    return SL_OK;
fail:
    pre_split_destroy(pre);
    return sl_err_set(err, status, "no memory for the pre-split patterns");
}

void pre_split_destroy(struct pre_split *pre)
{
    if (!pre) return;
    for (int i = 0; i < pre->n_codes; i++) pcre2_code_free(pre->codes[i]);
    pcre2_general_context_free(pre->memory);
    sl_free(pre);
}

sl_status pre_scratch_create(const struct pre_split *pre, struct pre_scratch **out)
{
    struct pre_scratch *scratch = sl_calloc(1, sizeof *scratch);
    if (!scratch) return SL_NOMEM;
    scratch->match = pcre2_match_data_create(1, pre->memory);
    scratch->limits = pcre2_match_context_create(pre->memory);
    if (!scratch->match || !scratch->limits) {
        pre_scratch_destroy(scratch);
        return SL_NOMEM;
    }
    pcre2_set_heap_limit(scratch->limits, PRE_HEAP_KIB);
    scratch->stack = pcre2_jit_stack_create(PRE_JIT_STACK_MIN, PRE_JIT_STACK_MAX, pre->memory);
    if (scratch->stack) pcre2_jit_stack_assign(scratch->limits, NULL, scratch->stack);
    *out = scratch;
    return SL_OK;
}

void pre_scratch_destroy(struct pre_scratch *scratch)
{
    if (!scratch) return;
    pcre2_jit_stack_free(scratch->stack);
    pcre2_match_context_free(scratch->limits);
    pcre2_match_data_free(scratch->match);
    sl_free(scratch);
}

/* PCRE2's result for the first match at or after `from`; texts are at most TOKENIZER_TEXT_MAX,
 * so the steps fit. */
static int match_next(const pcre2_code *code, struct pre_scratch *scratch, const char *text,
                      size_t n, size_t from)
{
    pcre2_set_match_limit(scratch->limits, (uint32_t)(PRE_MATCH_STEPS_MIN + PRE_MATCH_STEPS * n));
    int rc = pcre2_match(code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, scratch->match,
                         scratch->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         scratch->match, scratch->limits);
    return rc;
}

/* Cuts text[0..n) by the patterns from `level` on; recursion is at most PRE_PATTERNS_MAX deep. */
static sl_status split_piece(const struct pre_split *pre, int level, struct encode_job *job,
                             const char *text, size_t n)
{
    if (level == pre->n_codes) return bpe_encode_word(job, text, n);
    size_t done = 0;
    while (done < n) {
        int rc = match_next(pre->codes[level], job->pre, text, n, done);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            return sl_err_set(job->err, rc == PCRE2_ERROR_NOMEMORY ? SL_NOMEM : SL_LIMIT,
                              "text of %zu bytes: pre-split stopped with PCRE2 error %d", n, rc);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(job->pre->match);
        size_t start = rc < 0 ? n : range[0], end = rc < 0 ? n : range[1];
        sl_status status = SL_OK;
        if (start > done) status = split_piece(pre, level + 1, job, text + done, start - done);
        if (status == SL_OK && end > start)
            status = split_piece(pre, level + 1, job, text + start, end - start);
        if (status != SL_OK) return status;
        done = end;
    }
    return SL_OK;
}

sl_status pre_split_run(const struct pre_split *pre, struct encode_job *job, const char *text,
                        size_t n)
{
    return split_piece(pre, 0, job, text, n);
}
