#include "grid/store_details.h"
#include "base/checked.h"
#include "base/json_read.h"
#include "exec/llm/gguf.h"
#include "exec/onnx/onnx_file.h"
#include "grid/store_files.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

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
#define TENSOR_TYPES_MAX 64         /* ggml numbers about 40 */
#define CONFIG_BYTES_MAX (1u << 20) /* a config.json is some kilobytes */

void store_count_text(uint64_t n, char out[STORE_WORD_SIZE])
{
    static const char *const units[] = {"", "K", "M", "B", "T"};
    double v = (double)n;
    size_t unit = 0;
    for (; v >= 999.95 && unit < 4; unit++) v /= 1000;
    snprintf(out, STORE_WORD_SIZE, unit ? "%.1f%s" : "%.0f%s", v, units[unit]);
}

/* A word of printable characters, whatever the file holds. */
static void set_word(char out[STORE_WORD_SIZE], const char *s, size_t len)
{
    size_t n = len < STORE_WORD_SIZE - 1 ? len : STORE_WORD_SIZE - 1;
    for (size_t i = 0; i < n; i++) out[i] = isgraph((unsigned char)s[i]) ? s[i] : '_';
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
    set_word(out->family, architecture.s, architecture.len);
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

/* What cannot be read is passed over: the file only tells a list more. */
static void read_config(const char *path, struct store_details *out)
{
    struct sl_buf text;
    struct sl_json_value *root = NULL;
    sl_buf_init(&text, CONFIG_BYTES_MAX);
    if (store_read_file(path, &text, NULL) == SL_OK &&
        sl_json_parse(text.data, text.len, &root, NULL) == SL_OK) {
        size_t n;
        const char *type = sl_json_to_str(sl_json_get(root, "model_type"), "", &n);
        int64_t context = sl_json_to_int(sl_json_get(root, "max_position_embeddings"), 0);
        if (n > 0) set_word(out->family, type, n);
        if (context > 0) out->context_length = (uint64_t)context;
    }
    sl_json_free(root);
    sl_buf_done(&text);
}

void store_details_read_onnx(const struct onnx_file *file, const char *config,
                             struct store_details *out)
{
    const struct onnx_info *info = onnx_file_info(file);
    *out = (struct store_details){.format = "onnx", .family = "onnx", .n_params = info->n_params};
    if (info->producer.len) set_word(out->family, info->producer.s, info->producer.len);
    snprintf(out->quantization_level, sizeof out->quantization_level, "%s",
             info->main_type == ONNX_UNDEFINED ? "unknown" : onnx_type_name(info->main_type));
    store_count_text(out->n_params, out->parameter_size);
    if (config) read_config(config, out);
}

bool store_is_onnx_path(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcasecmp(path + n - 5, ".onnx") == 0;
}

sl_status store_open_onnx(const char *path, struct onnx_file **out, struct sl_err *err)
{
    char dir[PATH_MAX];
    struct onnx_file *file;
    sl_status status = store_path(dir, err, "%s", path);
    if (status == SL_OK) status = onnx_file_open(path, &file, err);
    if (status != SL_OK) return status;
    char *slash = strrchr(dir, '/');
    if (slash) *slash = '\0';
    status = onnx_file_check_served(file, err);
    if (status == SL_OK) status = onnx_file_check_external(file, slash ? dir : ".", err);
    if (status == SL_OK) {
        *out = file;
        return SL_OK;
    }
    onnx_file_close(file);
    (void)sl_err_prefix(err, "%.200s", path);
    return status;
}

static sl_status details_of_onnx(const char *path, struct store_details *out, uint64_t *size,
                                 struct sl_err *err)
{
    struct onnx_file *file;
    size_t n;
    sl_status status = store_open_onnx(path, &file, err);
    if (status != SL_OK) return status;
    store_details_read_onnx(file, NULL, out);
    *size = onnx_file_info(file)->file_bytes;
    const struct onnx_external *v = onnx_file_externals(file, &n);
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        if (!sl_add_u64(*size, v[i].n_bytes, size))
            status = sl_err_set(err, SL_LIMIT, "%s: too large together", path);
    }
    onnx_file_close(file);
    return status;
}

sl_status store_details_of_file(const char *path, struct store_details *out, uint64_t *size,
                                struct sl_err *err)
{
    struct gguf_file *file;
    if (store_is_onnx_path(path)) return details_of_onnx(path, out, size, err);
    sl_status status = gguf_open(path, &file, err);
    if (status != SL_OK) return status;
    store_details_read(file, out);
    *size = gguf_file_bytes(file);
    gguf_close(file);
    return SL_OK;
}
