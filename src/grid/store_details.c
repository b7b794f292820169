#include "grid/store_details.h"
#include "exec/llm/gguf.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* general.file_type, numbered as in the format's description ("ALL_F32", "MOSTLY_Q4_0", ...) with
 * the names that quantisation tools and model hubs use. */
static const char *const file_types[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",    [3] = "Q4_1",    [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",   [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL", [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS", [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4",
};

#define N_FILE_TYPES (sizeof file_types / sizeof *file_types)
#define TENSOR_TYPES_MAX 64 /* ggml numbers about 40 */

void store_count_text(uint64_t n, char out[STORE_WORD_SIZE])
{
    static const char *const units[] = {"", "K", "M", "B", "T"};
    double v = (double)n;
    size_t unit = 0;
    for (; v >= 999.95 && unit < 4; unit++) v /= 1000;
    snprintf(out, STORE_WORD_SIZE, unit ? "%.1f%s" : "%.0f%s", v, units[unit]);
}

/* A word of printable characters, whatever the file holds. */
static void set_word(char out[STORE_WORD_SIZE], const struct gguf_str *s)
{
    size_t n = s->len < STORE_WORD_SIZE - 1 ? s->len : STORE_WORD_SIZE - 1;
    for (size_t i = 0; i < n; i++) out[i] = isgraph((unsigned char)s->s[i]) ? s->s[i] : '_';
    out[n] = '\0';
}

/* Counts parameters; returns the tensor type that holds most bytes. */
static uint32_t count_tensors(const struct gguf_file *file, uint64_t *n_params)
{
    uint64_t bytes[TENSOR_TYPES_MAX] = {0};
    uint32_t most = 0;
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        uint64_t n = 1; /* cannot overflow: the reader checked that the bytes lie in the file */
        for (int d = 0; d < t->n_dims; d++) n *= (uint64_t)t->ne[d];
        *n_params += n;
        if (t->type < TENSOR_TYPES_MAX) bytes[t->type] += t->n_bytes;
    }
    for (uint32_t type = 1; type < TENSOR_TYPES_MAX; type++) {
        if (bytes[type] > bytes[most]) most = type;
    }
    return most;
}

static void set_quantization(const struct gguf_file *file, uint32_t main_type,
                             char out[STORE_WORD_SIZE])
{
    uint32_t file_type;
    if (gguf_get_u32(file, "general.file_type", &file_type, NULL) == SL_OK &&
        file_type < N_FILE_TYPES && file_types[file_type]) {
        snprintf(out, STORE_WORD_SIZE, "%s", file_types[file_type]);
        return;
    }
    snprintf(out, STORE_WORD_SIZE, "%s",
             gguf_n_tensors(file) ? gguf_tensor_type_name(main_type) : "unknown");
    for (char *p = out; *p; p++) *p = (char)toupper((unsigned char)*p);
}

void store_details_read(const struct gguf_file *file, struct store_details *out)
{
    struct gguf_str architecture;
    char key[2 * STORE_WORD_SIZE];
    *out = (struct store_details){.format = "gguf", .family = "unknown"};
    set_quantization(file, count_tensors(file, &out->n_params), out->quantization_level);
    store_count_text(out->n_params, out->parameter_size);
    if (gguf_get_str(file, "general.architecture", &architecture, NULL) != SL_OK) return;
    set_word(out->family, &architecture);
    snprintf(key, sizeof key, "%s.context_length", out->family);
    if (gguf_get_u64(file, key, &out->context_length, NULL) != SL_OK ||
        out->context_length > INT64_MAX)
        out->context_length = 0;
}

bool store_has_chat_template(const struct gguf_file *file)
{
    struct gguf_str text;
    return gguf_get_str(file, "tokenizer.chat_template", &text, NULL) == SL_OK && text.len > 0;
}
