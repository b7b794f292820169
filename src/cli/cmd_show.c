/* cmd_show.c: `starlane show`: what a model file holds, without loading it. ONNX files are
 * show_onnx.c's. */
#include "base/json.h"
#include "cli/commands.h"
#include "cli/model_info.h"
#include "cli/model_path.h"
#include "cli/page.h"
#include "cli/show_onnx.h"
#include "exec/llm/arch.h"
#include "exec/llm/gguf.h"
#include "exec/llm/tensors.h"
#include "exec/llm/tokenizer.h"
#include "grid/store.h"
#include "grid/store_details.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OUTPUT_BYTES_MAX (256u << 20)
#define ARRAY_ITEMS_MAX 16 /* of a longer array only type and length are shown */

struct options {
    bool tensors, json;
};

static const struct sl_opt opts[] = {
    {.name = "tensors",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, tensors),
     .help = "List every tensor with its type, shape and size."},
    {.name = "json",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .help = "Print JSON."},
    {0},
};

const struct sl_command cmd_show_spec = {
    .name = "show",
    .usage = "MODEL",
    .summary = "Show what a model holds: architecture or inputs and outputs, sizes, metadata.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

struct model {
    const char *path;
    struct store_model stored; /* zeroed for a plain file */
    struct gguf_file *file;
    struct model_info info;
    struct llm_hparams hp; /* when hp_err.status is SL_OK */
    struct sl_err hp_err;  /* why this engine does not run it */
    struct sl_err weights_err;
    struct tokenizer *tok; /* NULL: tok_err says why */
    struct sl_err tok_err;
};

static const char *const value_types[GGUF_TYPE_COUNT] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};

static void json_element(struct sl_json *j, const struct gguf_kv *kv, uint64_t i)
{
    int64_t whole;
    double real;
    if (kv->type == GGUF_STRING)
        sl_json_strn(j, kv->strs[i].s, kv->strs[i].len);
    else if (kv->type == GGUF_BOOL)
        sl_json_bool(j, kv->raw[i] != 0);
    else if (kv->type != GGUF_F32 && kv->type != GGUF_F64 && gguf_kv_i64(kv, i, &whole))
        sl_json_int(j, whole);
    else if (gguf_kv_f64(kv, i, &real))
        sl_json_num(j, real);
    else
        sl_json_null(j);
}

static void json_value(struct sl_json *j, const struct gguf_kv *kv)
{
    if (!kv->is_array) {
        json_element(j, kv, 0);
    } else if (kv->n <= ARRAY_ITEMS_MAX) {
        sl_json_array(j);
        for (uint64_t i = 0; i < kv->n; i++) json_element(j, kv, i);
        sl_json_array_end(j);
    } else {
        sl_json_object(j);
        sl_json_kv_str(j, "array_of", value_types[kv->type]);
        sl_json_kv_int(j, "length", (int64_t)kv->n);
        sl_json_object_end(j);
    }
}

static void json_metadata(struct sl_json *j, const struct model *m)
{
    sl_json_key(j, "metadata");
    sl_json_object(j);
    for (size_t i = 0; i < gguf_n_kvs(m->file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(m->file, i);
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.s);
        sl_json_key(j, key);
        json_value(j, kv);
    }
    sl_json_object_end(j);
}

static void json_architecture(struct sl_json *j, const struct model *m)
{
    const struct llm_hparams *hp = &m->hp;
    sl_json_kv_bool(j, "runs", m->weights_err.status == SL_OK && m->tok);
    sl_json_key(j, "architecture");
    if (m->hp_err.status != SL_OK) {
        sl_json_null(j);
        return;
    }
    sl_json_object(j);
    sl_json_kv_str(j, "name", hp->arch->name);
    sl_json_kv_int(j, "layers", hp->n_layer);
    sl_json_kv_int(j, "embedding", hp->n_embd);
    sl_json_kv_int(j, "feed_forward", hp->n_ff);
    sl_json_kv_int(j, "heads", hp->n_head);
    sl_json_kv_int(j, "kv_heads", hp->n_head_kv);
    sl_json_kv_int(j, "head_size", hp->head_k);
    sl_json_kv_int(j, "context", hp->n_ctx_train);
    sl_json_kv_int(j, "window", hp->window);
    sl_json_kv_int(j, "experts", hp->n_expert);
    sl_json_kv_int(j, "experts_used", hp->n_expert_used);
    sl_json_object_end(j);
}

static void json_tokenizer(struct sl_json *j, const struct model *m)
{
    sl_json_key(j, "tokenizer");
    if (!m->tok) {
        sl_json_null(j);
        return;
    }
    sl_json_object(j);
    sl_json_kv_str(j, "kind", tokenizer_kind(m->tok));
    sl_json_kv_int(j, "vocabulary", tokenizer_n_vocab(m->tok));
    sl_json_kv_int(j, "bos", tokenizer_bos(m->tok));
    sl_json_kv_int(j, "eos", tokenizer_eos(m->tok));
    sl_json_kv_bool(j, "adds_bos", tokenizer_adds_bos(m->tok));
    sl_json_object_end(j);
}

static void json_types(struct sl_json *j, const struct model *m)
{
    sl_json_kv_int(j, "parameters", (int64_t)m->info.n_params);
    sl_json_kv_int(j, "tensor_bytes", (int64_t)m->info.n_bytes);
    sl_json_key(j, "types");
    sl_json_array(j);
    for (int i = 0; i < m->info.n_types; i++) {
        const struct model_type *t = &m->info.types[i];
        sl_json_object(j);
        sl_json_kv_str(j, "type", gguf_tensor_type_name(t->type));
        sl_json_kv_int(j, "tensors", (int64_t)t->n_tensors);
        sl_json_kv_int(j, "parameters", (int64_t)t->n_params);
        sl_json_kv_int(j, "bytes", (int64_t)t->n_bytes);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void json_tensors(struct sl_json *j, const struct model *m)
{
    sl_json_key(j, "tensors");
    sl_json_array(j);
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(m->file, i);
        sl_json_object(j);
        sl_json_kv_str(j, "name", t->name);
        sl_json_kv_str(j, "type", gguf_tensor_type_name(t->type));
        sl_json_key(j, "shape");
        sl_json_array(j);
        for (int d = 0; d < t->n_dims; d++) sl_json_int(j, t->ne[d]);
        sl_json_array_end(j);
        sl_json_kv_int(j, "bytes", (int64_t)t->n_bytes);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void json_text(struct sl_json *j, const char *key, const char *text)
{
    if (text) sl_json_kv_str(j, key, text);
}

static void json_stored(struct sl_json *j, const struct store_model *m)
{
    if (!*m->name) return;
    sl_json_kv_str(j, "name", m->name);
    sl_json_kv_str(j, "digest", m->digest);
    sl_json_kv_int(j, "modified_ms", m->modified_ms);
    sl_json_kv_str(j, "parameter_size", m->details.parameter_size);
    sl_json_kv_str(j, "quantization_level", m->details.quantization_level);
    json_text(j, "source", m->source);
    json_text(j, "chat_template", m->chat_template);
    json_text(j, "ollama_template", m->ollama_template);
    json_text(j, "system", m->system);
    json_text(j, "licence", m->licence);
    json_text(j, "defaults", m->parameters);
}

static sl_status write_json(const struct model *m, const struct options *o, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, true);
    sl_json_object(&j);
    sl_json_kv_str(&j, "model", m->path);
    sl_json_kv_str(&j, "format", "gguf");
    sl_json_kv_int(&j, "version", gguf_version(m->file));
    sl_json_kv_int(&j, "files", gguf_n_shards(m->file));
    sl_json_kv_int(&j, "bytes", (int64_t)gguf_file_bytes(m->file));
    json_stored(&j, &m->stored);
    json_architecture(&j, m);
    json_types(&j, m);
    json_tokenizer(&j, m);
    json_metadata(&j, m);
    if (o->tensors) json_tensors(&j, m);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static void text_architecture(struct page *p, const struct model *m)
{
    const struct llm_hparams *hp = &m->hp;
    char count[32];
    if (m->hp_err.status != SL_OK) {
        page_add(p, "  %-16s no: %s\n", "runs here", m->hp_err.text);
        return;
    }
    if (m->weights_err.status != SL_OK)
        page_add(p, "  %-16s no: %s\n", "runs here", m->weights_err.text);
    page_add(p, "  %-16s %s\n", "architecture", hp->arch->name);
    page_add(p, "  %-16s %s\n", "parameters", page_count(m->info.n_params, count));
    page_add(p, "  %-16s %d tokens\n", "context", hp->n_ctx_train);
    page_add(p, "  %-16s %d of width %d, feed-forward %d\n", "layers", hp->n_layer, hp->n_embd,
             hp->n_ff);
    page_add(p, "  %-16s %d, for keys and values %d, of size %d\n", "heads", hp->n_head,
             hp->n_head_kv, hp->head_k);
    if (hp->window) page_add(p, "  %-16s %d tokens\n", "sliding window", hp->window);
    if (hp->n_expert)
        page_add(p, "  %-16s %d, %d used a token\n", "experts", hp->n_expert, hp->n_expert_used);
}

static void text_types(struct page *p, const struct model *m)
{
    char bytes[CLI_BYTES_TEXT_MAX], count[32];
    page_add(p, "\nTensors\n");
    for (int i = 0; i < m->info.n_types; i++) {
        const struct model_type *t = &m->info.types[i];
        page_add(p, "  %-16s %6" PRIu64 " tensors, %s parameters, %s\n",
                 gguf_tensor_type_name(t->type), t->n_tensors, page_count(t->n_params, count),
                 cli_bytes_text(t->n_bytes, bytes));
    }
}

static void text_tokenizer(struct page *p, const struct model *m)
{
    page_add(p, "\nTokenizer\n");
    if (!m->tok) {
        page_add(p, "  %-16s no: %s\n", "runs here", m->tok_err.text);
        return;
    }
    page_add(p, "  %-16s %s\n", "kind", tokenizer_kind(m->tok));
    page_add(p, "  %-16s %d tokens\n", "vocabulary", tokenizer_n_vocab(m->tok));
    page_add(p, "  %-16s %d%s, end %d\n", "begin", tokenizer_bos(m->tok),
             tokenizer_adds_bos(m->tok) ? " (added)" : "", tokenizer_eos(m->tok));
}

static void text_value(struct page *p, const struct gguf_kv *kv)
{
    int64_t whole;
    double real;
    if (kv->is_array)
        page_add(p, "%" PRIu64 " x %s\n", kv->n, value_types[kv->type]);
    else if (kv->type == GGUF_STRING)
        page_text(p, kv->strs[0].s, kv->strs[0].len);
    else if (kv->type == GGUF_BOOL)
        page_add(p, "%s\n", kv->raw[0] ? "true" : "false");
    else if (kv->type != GGUF_F32 && kv->type != GGUF_F64 && gguf_kv_i64(kv, 0, &whole))
        page_add(p, "%" PRId64 "\n", whole);
    else
        page_add(p, "%g\n", gguf_kv_f64(kv, 0, &real) ? real : 0.0);
}

static void text_metadata(struct page *p, const struct model *m)
{
    page_add(p, "\nMetadata\n");
    for (size_t i = 0; i < gguf_n_kvs(m->file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(m->file, i);
        page_add(p, "  %-40.*s ", (int)kv->key.len, kv->key.s);
        text_value(p, kv);
    }
}

static void text_tensors(struct page *p, const struct model *m)
{
    char bytes[CLI_BYTES_TEXT_MAX];
    page_add(p, "\nAll tensors\n");
    for (size_t i = 0; i < gguf_n_tensors(m->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(m->file, i);
        page_add(p, "  %-36s %-8s %10s  [", t->name, gguf_tensor_type_name(t->type),
                 cli_bytes_text(t->n_bytes, bytes));
        for (int d = 0; d < t->n_dims; d++) page_add(p, "%s%" PRId64, d ? ", " : "", t->ne[d]);
        page_add(p, "]\n");
    }
}

static void text_stored(struct page *p, const struct store_model *m)
{
    if (!*m->name) return;
    page_add(p, "  %-16s %s\n", "name", m->name);
    page_add(p, "  %-16s sha256:%s\n", "digest", m->digest);
    page_add(p, "  %-16s %s\n", "quantisation", m->details.quantization_level);
    page_first_line(p, "source", m->source);
    page_first_line(p, "licence", m->licence);
    page_first_line(p, "system", m->system);
    page_first_line(p, "defaults", m->parameters);
}

static sl_status write_text(const struct model *m, const struct options *o, struct sl_buf *out)
{
    struct page p = {.out = out};
    char bytes[CLI_BYTES_TEXT_MAX];
    int n_files = gguf_n_shards(m->file);
    page_add(&p, "Model\n  %-16s %s\n", "file", m->path);
    page_add(&p, "  %-16s %s%s\n", "size", cli_bytes_text(gguf_file_bytes(m->file), bytes),
             n_files > 1 ? ", sharded" : "");
    text_stored(&p, &m->stored);
    text_architecture(&p, m);
    text_types(&p, m);
    text_tokenizer(&p, m);
    text_metadata(&p, m);
    if (o->tensors) text_tensors(&p, m);
    return p.status;
}

/* What the store knows of it, if it is a name of the store's (or the bundled model's). */
static void find_stored(const char *name, struct store_model *out)
{
    struct store *store;
    if (name[0] == '/' || name[0] == '.' || model_store_open(&store, NULL) != SL_OK) return;
    if (store_find(store, name, out, NULL) != SL_OK) *out = (struct store_model){0};
    store_close(store);
}

/* The other tags of its name. */
static void find_tags(const struct store_model *stored, struct store_tags *out)
{
    struct store *store;
    if (!*stored->name || model_store_open(&store, NULL) != SL_OK) return;
    if (store_versions(store, stored->name, out, NULL) != SL_OK) *out = (struct store_tags){0};
    store_close(store);
}

/* A model this engine does not run is shown all the same. */
static sl_status open_model(struct model *m, const char *path, struct sl_err *err)
{
    m->path = path;
    sl_status status = gguf_open(path, &m->file, err);
    if (status != SL_OK) return status;
    model_info_read(m->file, &m->info);
    m->hp_err.status = llm_hparams_read(m->file, &m->hp, &m->hp_err);
    m->tok_err.status = tokenizer_create(m->file, &m->tok, &m->tok_err);
    struct llm_range all = {0, m->hp.n_layer, true, true};
    m->weights_err.status = m->hp_err.status;
    if (m->hp_err.status == SL_OK)
        m->weights_err.status = llm_tensors_check(m->file, &m->hp, &all, &m->weights_err);
    return SL_OK;
}

static sl_status show_gguf(struct model *m, const char *path, const struct options *o,
                           struct sl_buf *out, struct sl_err *err)
{
    sl_status status = open_model(m, path, err);
    return status == SL_OK ? (o->json ? write_json : write_text)(m, o, out) : status;
}

static sl_status show_onnx_file(struct model *m, const char *path, const struct options *o,
                                struct sl_buf *out, struct sl_err *err)
{
    struct show_onnx show = {.path = path, .stored = &m->stored, .tensors = o->tensors};
    find_tags(&m->stored, &show.tags);
    sl_status status = show_onnx(&show, o->json, out, err);
    store_tags_done(&show.tags);
    return status;
}

int cmd_show(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct model m = {0};
    struct sl_buf out;
    char path[PATH_MAX];
    int exit_code;
    if (!cli_parse(&cmd_show_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = model_path_find(args.v[0], path, &err);
    if (status == SL_OK) find_stored(args.v[0], &m.stored);
    if (status == SL_OK)
        status = store_is_onnx_path(path) ? show_onnx_file(&m, path, &o, &out, &err)
                                          : show_gguf(&m, path, &o, &out, &err);
    exit_code = cli_print(&cmd_show_spec, status, &out, &err);
    sl_buf_done(&out);
    store_model_done(&m.stored);
    tokenizer_destroy(m.tok);
    gguf_close(m.file);
    return exit_code;
}
