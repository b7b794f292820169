/* store_onnx.c: takes in one ONNX model: its file, the weights it names, and what belongs to it. */
#include "grid/store_onnx.h"
#include "base/mem.h"
#include "exec/onnx/onnx_file.h"
#include "exec/onnx/onnx_options.h"
#include "exec/vision/processing.h"
#include "grid/store_details.h"
#include "grid/store_int.h"
#include "grid/store_manifest.h"
#include "grid/store_pbtxt.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_BYTES_MAX PROCESSING_BYTES_MAX /* of labels, processing.json, config.pbtxt */
#define SIGNATURE_BYTES_MAX (4u << 20)      /* TENSORS_MAX inputs and outputs, with names */
#define N_FOLDERS 2

_Static_assert(STORE_FILE_SIZE == ONNX_PATH_SIZE, "a file that a model names fits a layer");

/* Files that encoders and their tokenizers come with, under the names that Hugging Face gives. */
static const struct store_onnx_side sides[] = {
    {"tokenizer", "tokenizer.json"},
    {"tokenizer_config", "tokenizer_config.json"},
    {"special_tokens", "special_tokens_map.json"},
    {"config", "config.json"},
    {"sentence_config", "sentence_bert_config.json"},
    {"pooling", "1_Pooling/config.json"},
};

const struct store_onnx_side *store_onnx_side(size_t i)
{
    return i < sizeof sides / sizeof *sides ? &sides[i] : NULL;
}

/* A model on its way. */
struct incoming {
    const struct store_onnx_source *source;
    struct onnx_file *file;
    struct store_model model;
    struct store_claims claims;
    char labels[PATH_MAX]; /* "": none */
    size_t n_labels;
    struct sl_buf labels_text; /* what the file holds */
};

static bool is_text(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

/* The file of that name in the first of the model's folders that has it; "": none has. */
static sl_status find_side(const struct store_onnx_source *source, const char *name,
                           char out[PATH_MAX], struct sl_err *err)
{
    for (int i = 0; i < N_FOLDERS; i++) {
        if (!*source->folders[i]) continue;
        sl_status status = store_path(out, err, "%s/%s", source->folders[i], name);
        if (status != SL_OK || is_text(out)) return status;
    }
    *out = '\0';
    return SL_OK;
}

/* Follows links, as downloads of Hugging Face are made of them. */
static sl_status read_text(const char *path, struct sl_buf *out, struct sl_err *err)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) return sl_err_errno(err, errno, "%s", path);
    return store_read_file(real, out, err);
}

/* --- options --- */

static sl_status options_of_pbtxt(const struct store_pbtxt *config, char **out, struct sl_err *err)
{
    struct sl_buf text;
    struct sl_json json;
    int64_t batch =
        config->max_batch_size < ONNX_BATCH_MAX ? config->max_batch_size : ONNX_BATCH_MAX;
    int64_t delay_us = config->delay_us < ONNX_DELAY_US_MAX ? config->delay_us : ONNX_DELAY_US_MAX;
    sl_buf_init(&text, STORE_OBJECT_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    sl_json_object(&json);
    if (config->batches && batch > 0) {
        sl_json_kv_int(&json, "batch_max", batch);
        sl_json_kv_int(&json, "batch_delay_us", delay_us);
    }
    if (config->instances > 1)
        sl_json_kv_int(&json, "instances",
                       config->instances < ONNX_INSTANCES_MAX ? config->instances
                                                              : ONNX_INSTANCES_MAX);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    if (status == SL_OK && text.len > 2 && !(*out = sl_buf_steal(&text))) status = SL_NOMEM;
    sl_buf_done(&text);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "options");
}

/* Triton's file: how to run the model, and where its labels are. */
static sl_status read_pbtxt(struct incoming *in, struct sl_err *err)
{
    char path[PATH_MAX];
    struct store_pbtxt config;
    struct sl_buf text;
    sl_status status = find_side(in->source, "config.pbtxt", path, err);
    if (status != SL_OK || !*path) return status;
    sl_buf_init(&text, TEXT_BYTES_MAX);
    status = read_text(path, &text, err);
    if (status == SL_OK) status = store_pbtxt_parse(text.data, text.len, &config, err);
    if (status != SL_OK) (void)sl_err_prefix(err, "config.pbtxt");
    sl_buf_done(&text);
    if (status == SL_OK && !in->model.options)
        status = options_of_pbtxt(&config, &in->model.options, err);
    if (status != SL_OK || *in->labels || !onnx_path_is_plain(config.labels, strlen(config.labels)))
        return status;
    return find_side(in->source, config.labels, in->labels, err);
}

static sl_status read_object(const char *path, char **out, struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, TEXT_BYTES_MAX);
    sl_status status = read_text(path, &text, err);
    if (status == SL_OK) status = store_object_text(text.data, text.len, path, out, err);
    sl_buf_done(&text);
    return status;
}

static sl_status read_options(struct incoming *in, struct sl_err *err)
{
    char path[PATH_MAX];
    const char *given = in->source->how.options;
    struct onnx_options options;
    sl_status status = find_side(in->source, "starlane.json", path, err);
    if (status == SL_OK && given)
        status = store_object_text(given, strlen(given), "options", &in->model.options, err);
    else if (status == SL_OK && *path)
        status = read_object(path, &in->model.options, err);
    if (status == SL_OK) status = read_pbtxt(in, err);
    if (status != SL_OK || !in->model.options) return status;
    return onnx_options_parse(in->model.options, &options, err);
}

/* --- labels --- */

struct label_files {
    char path[PATH_MAX];
    int n;
};

static sl_status see_labels(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    struct label_files *files = ctx;
    size_t n = strlen(name);
    bool fits = (n >= 11 && strcmp(name + n - 11, "classes.txt") == 0) ||
                (n >= 10 && strcmp(name + n - 10, "labels.txt") == 0);
    if (name[0] == '.' || !fits || files->n++ > 0) return SL_OK;
    return store_path(files->path, err, "%s/%s", dir, name);
}

/* labels.txt, or the only file in the folder that says by its name that it is one. */
static sl_status find_labels(struct incoming *in, struct sl_err *err)
{
    struct label_files files = {.n = 0};
    if (in->source->how.labels) return store_path(in->labels, err, "%s", in->source->how.labels);
    sl_status status = SL_OK;
    if (!*in->labels) status = find_side(in->source, "labels.txt", in->labels, err);
    if (status != SL_OK || *in->labels || !*in->source->folders[0]) return status;
    status = store_each_entry(in->source->folders[0], see_labels, &files, err);
    if (status == SL_OK && files.n == 1 && is_text(files.path))
        status = store_path(in->labels, err, "%s", files.path);
    return status;
}

static sl_status check_labels(struct incoming *in, struct sl_err *err)
{
    struct sl_buf *text = &in->labels_text;
    struct processing processing;
    sl_status status = find_labels(in, err);
    if (status != SL_OK || !*in->labels) return status;
    processing_init(&processing);
    status = read_text(in->labels, text, err);
    if (status == SL_OK) status = processing_set_labels(&processing, text->data, text->len, err);
    if (status == SL_OK && processing.n_labels == 0)
        status = sl_err_set(err, SL_INVALID, "no name in it");
    in->n_labels = processing.n_labels;
    if (status != SL_OK) (void)sl_err_prefix(err, "labels %.200s", in->labels);
    processing_done(&processing);
    return status;
}

/* --- processing --- */

static sl_status write_processing(struct incoming *in, const struct processing *processing,
                                  struct sl_err *err)
{
    struct sl_buf text;
    struct sl_json json;
    sl_buf_init(&text, STORE_OBJECT_BYTES_MAX);
    sl_json_begin(&json, &text, false);
    processing_write(processing, &json);
    sl_status status = sl_json_end(&json);
    if (status != SL_OK) (void)sl_err_set(err, status, "processing");
    if (status == SL_OK)
        status = store_object_text(text.data, text.len, "processing", &in->model.processing, err);
    sl_buf_done(&text);
    return status;
}

/* What is likely for such inputs and outputs. */
static sl_status guess(struct incoming *in, const struct tensor_signature *signature,
                       struct sl_err *err)
{
    struct processing processing;
    sl_status status = processing_guess(signature, in->n_labels, &processing, err);
    if (status != SL_OK) return status;
    status = write_processing(in, &processing, err);
    processing_done(&processing);
    return status;
}

/* Clients see the processing and not the files beside the model, so names that came in a file of
 * their own become part of it. */
static sl_status put_labels(struct incoming *in, struct processing *processing, struct sl_err *err)
{
    sl_status status =
        processing_set_labels(processing, in->labels_text.data, in->labels_text.len, err);
    if (status != SL_OK) return status;
    sl_free(in->model.processing);
    in->model.processing = NULL;
    return write_processing(in, processing, err);
}

static sl_status check_processing(struct incoming *in, const struct tensor_signature *signature,
                                  struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    struct processing processing;
    const char *text = in->model.processing;
    sl_status status = sl_json_parse(text, strlen(text), &root, err);
    if (status != SL_OK) return status;
    status = processing_parse(root, &processing, err);
    sl_json_free(root);
    if (status != SL_OK) return status;
    status = processing_check(&processing, signature, err);
    if (status == SL_OK && processing.n_labels == 0 && in->labels_text.len)
        status = put_labels(in, &processing, err);
    processing_done(&processing);
    return status;
}

static sl_status read_processing(struct incoming *in, struct sl_err *err)
{
    char path[PATH_MAX];
    const char *given = in->source->how.processing;
    struct tensor_signature signature;
    struct sl_arena arena;
    bool is_auto = given && strcmp(given, "auto") == 0;
    sl_status status = find_side(in->source, "processing.json", path, err);
    if (status == SL_OK && given && !is_auto)
        status = store_object_text(given, strlen(given), "processing", &in->model.processing, err);
    else if (status == SL_OK && !given && *path)
        status = read_object(path, &in->model.processing, err);
    if (status != SL_OK || (!is_auto && !in->model.processing)) return status;
    sl_arena_init(&arena, SIGNATURE_BYTES_MAX);
    status = onnx_file_signature(in->file, &arena, &signature);
    if (status != SL_OK) (void)sl_err_set(err, status, "signature");
    if (status == SL_OK && is_auto) status = guess(in, &signature, err);
    if (status == SL_OK) status = check_processing(in, &signature, err);
    sl_arena_done(&arena);
    return status;
}

/* --- files --- */

static sl_status intake(const struct store *store, struct incoming *in, const char *path,
                        const char *role, const char *file, struct sl_err *err)
{
    const struct store_new_file source = {path, role, file, NULL};
    return store_intake(store, &source, &in->claims, &in->model, err);
}

static sl_status intake_weights(const struct store *store, struct incoming *in, struct sl_err *err)
{
    size_t n;
    char path[PATH_MAX];
    const struct onnx_external *v = onnx_file_externals(in->file, &n);
    const char *model = in->source->model;
    int n_folder = (int)(strrchr(model, '/') - model);
    sl_status status = intake(store, in, model, "model", "model.onnx", err);
    for (size_t i = 0; i < n && status == SL_OK; i++) {
        status = store_path(path, err, "%.*s/%s", n_folder, model, v[i].path);
        if (status == SL_OK) status = intake(store, in, path, "data", v[i].path, err);
    }
    return status;
}

static sl_status intake_all(const struct store *store, struct incoming *in, struct sl_err *err)
{
    char path[PATH_MAX];
    sl_status status = intake_weights(store, in, err);
    for (size_t i = 0; store_onnx_side(i) && status == SL_OK; i++) {
        const struct store_onnx_side *side = store_onnx_side(i);
        status = find_side(in->source, side->file, path, err);
        if (status == SL_OK && *path) status = intake(store, in, path, side->role, side->file, err);
    }
    if (status == SL_OK && *in->labels)
        status = intake(store, in, in->labels, "labels", "labels.txt", err);
    return status;
}

sl_status store_import_onnx_found(struct store *store, const struct store_onnx_source *source,
                                  struct sl_err *err)
{
    struct store_name name;
    struct incoming in = {.source = source, .model.details.format = "onnx"};
    sl_status status = store_name_parse(source->name, &name, err);
    if (status == SL_OK) status = store_name_check_free(&name, err);
    if (status == SL_OK) status = store_open_onnx(source->model, &in.file, err);
    if (status != SL_OK) return status;
    sl_buf_init(&in.labels_text, TEXT_BYTES_MAX);
    in.model.source = sl_strdup(source->model);
    if (!in.model.source) status = sl_err_set(err, SL_NOMEM, "source");
    if (status == SL_OK) status = read_options(&in, err);
    if (status == SL_OK) status = check_labels(&in, err);
    if (status == SL_OK) status = read_processing(&in, err);
    if (status == SL_OK) status = intake_all(store, &in, err);
    onnx_file_close(in.file);
    sl_buf_done(&in.labels_text);
    return store_import_finish(store, &name, &in.claims, &in.model, status, err);
}

/* The file's own name says nothing when it is model.onnx: then its folder's does, or, in a folder
 * "onnx", the one's above. */
static sl_status name_of(const char *path, char out[STORE_NAME_SIZE], struct sl_err *err)
{
    char text[PATH_MAX];
    struct store_name name;
    sl_status status = store_path(text, err, "%s", path);
    for (const char *empty = "model.onnx"; status == SL_OK; empty = "onnx") {
        char *slash = strrchr(text, '/');
        if (strcmp(slash + 1, empty) != 0 || slash == text) break;
        *slash = '\0';
    }
    if (status == SL_OK) status = store_name_of_file(text, &name, err);
    if (status == SL_OK) store_name_text(&name, out);
    return status;
}

/* Absolute, with the file's own name kept, even if it is a link: its weights lie beside the
 * link. */
static sl_status absolute(const char *path, char out[PATH_MAX], struct sl_err *err)
{
    char dir[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    sl_status status =
        store_path(dir, err, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (status == SL_OK && !realpath(dir, real)) status = sl_err_errno(err, errno, "%s", dir);
    if (status != SL_OK) return status;
    return store_path(out, err, "%s/%s", strcmp(real, "/") ? real : "", slash ? slash + 1 : path);
}

sl_status store_onnx_name(const char *path, char out[STORE_NAME_SIZE], struct sl_err *err)
{
    char whole[PATH_MAX];
    sl_status status = absolute(path, whole, err);
    return status == SL_OK ? name_of(whole, out, err) : status;
}

sl_status store_import_onnx(struct store *store, const char *path, const struct store_import *how,
                            struct sl_err *err)
{
    struct store_onnx_source source = {.how = *how};
    struct store_name name;
    sl_status status = absolute(path, source.model, err);
    if (status == SL_OK)
        status = how->name ? store_name_parse(how->name, &name, err)
                           : name_of(source.model, source.name, err);
    if (status == SL_OK && how->name) store_name_text(&name, source.name);
    return status == SL_OK ? store_import_onnx_found(store, &source, err) : status;
}
