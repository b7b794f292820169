#include "cli/show_onnx.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/page.h"
#include "exec/onnx/onnx_file.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABELS_BYTES_MAX (8u << 20) /* PROCESSING_BYTES_MAX */

/* What both forms are written from. */
struct subject {
    const struct show_onnx *show;
    const struct onnx_file *file;
    const struct onnx_info *info;
    int64_t n_labels; /* 0: it has none */
    uint64_t size;    /* with the files it names */
};

static int64_t count_labels(const struct store_model *stored)
{
    char path[PATH_MAX];
    struct sl_buf text;
    int64_t n = 0;
    if (!*stored->name || store_model_file(stored, "labels", path, NULL) != SL_OK) return 0;
    sl_buf_init(&text, LABELS_BYTES_MAX);
    if (cli_read_file(path, &text, NULL) == SL_OK) {
        while (text.len > 0 && strchr("\r\n", text.data[text.len - 1]))
            sl_buf_truncate(&text, text.len - 1);
        n = text.len > 0;
        for (size_t i = 0; i < text.len; i++) n += text.data[i] == '\n';
    }
    sl_buf_done(&text);
    return n;
}

/* --- JSON --- */

static void json_str(struct sl_json *j, const char *key, struct onnx_str s)
{
    sl_json_key(j, key);
    sl_json_strn(j, s.s, s.len);
}

static void json_shape(struct sl_json *j, const struct onnx_value *v)
{
    sl_json_key(j, "shape");
    if (v->rank < 0) {
        sl_json_null(j);
        return;
    }
    sl_json_array(j);
    for (int32_t d = 0; d < v->rank; d++) sl_json_int(j, v->dims[d].size);
    sl_json_array_end(j);
    sl_json_key(j, "dimension_names");
    sl_json_array(j);
    for (int32_t d = 0; d < v->rank; d++) {
        if (v->dims[d].symbol.len)
            sl_json_strn(j, v->dims[d].symbol.s, v->dims[d].symbol.len);
        else
            sl_json_null(j);
    }
    sl_json_array_end(j);
}

static void json_values(struct sl_json *j, const char *key, const struct onnx_value *v, size_t n)
{
    sl_json_key(j, key);
    sl_json_array(j);
    for (size_t i = 0; i < n; i++) {
        sl_json_object(j);
        json_str(j, "name", v[i].name);
        sl_json_kv_str(j, "kind", onnx_value_kind_name(v[i].kind));
        if (v[i].kind == ONNX_TENSOR) {
            sl_json_kv_str(j, "datatype", onnx_type_name(v[i].type));
            json_shape(j, &v[i]);
        }
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void json_opsets(struct sl_json *j, const struct onnx_file *file)
{
    size_t n;
    const struct onnx_opset *v = onnx_file_opsets(file, &n);
    sl_json_key(j, "opsets");
    sl_json_array(j);
    for (size_t i = 0; i < n; i++) {
        sl_json_object(j);
        json_str(j, "domain", v[i].domain);
        sl_json_kv_int(j, "version", v[i].version);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void json_operators(struct sl_json *j, const struct onnx_file *file)
{
    size_t n;
    const struct onnx_operator *v = onnx_file_operators(file, &n);
    sl_json_key(j, "operators");
    sl_json_array(j);
    for (size_t i = 0; i < n; i++) {
        sl_json_object(j);
        json_str(j, "domain", v[i].domain);
        json_str(j, "name", v[i].name);
        sl_json_kv_int(j, "nodes", v[i].n_nodes);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void json_externals(struct sl_json *j, const struct onnx_file *file)
{
    size_t n;
    const struct onnx_external *v = onnx_file_externals(file, &n);
    sl_json_key(j, "external_data");
    sl_json_array(j);
    for (size_t i = 0; i < n; i++) sl_json_str(j, v[i].path);
    sl_json_array_end(j);
}

static void json_metadata(struct sl_json *j, const struct onnx_file *file)
{
    size_t n;
    const struct onnx_pair *v = onnx_file_metadata(file, &n);
    sl_json_key(j, "metadata");
    sl_json_object(j);
    for (size_t i = 0; i < n; i++) {
        sl_json_keyn(j, v[i].key.s, v[i].key.len);
        sl_json_strn(j, v[i].value.s, v[i].value.len);
    }
    sl_json_object_end(j);
}

static void json_tensors(struct sl_json *j, const struct onnx_file *file)
{
    size_t n;
    const struct onnx_tensor *v = onnx_file_tensors(file, &n);
    sl_json_key(j, "tensors");
    sl_json_array(j);
    for (size_t i = 0; i < n; i++) {
        sl_json_object(j);
        json_str(j, "name", v[i].name);
        sl_json_kv_str(j, "type", onnx_type_name(v[i].type));
        sl_json_key(j, "shape");
        sl_json_array(j);
        for (int32_t d = 0; d < v[i].rank; d++) sl_json_int(j, v[i].dims[d]);
        sl_json_array_end(j);
        sl_json_kv_int(j, "bytes", (int64_t)v[i].n_bytes);
        sl_json_kv_bool(j, "external", v[i].external >= 0);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static void json_object(struct sl_json *j, const char *key, const char *text)
{
    if (!text) return;
    sl_json_key(j, key);
    sl_json_raw(j, text, strlen(text)); /* the store has parsed it */
}

static void json_stored(struct sl_json *j, const struct subject *s)
{
    const struct store_model *m = s->show->stored;
    if (!*m->name) return;
    sl_json_kv_str(j, "name", m->name);
    sl_json_kv_str(j, "digest", m->digest);
    sl_json_kv_int(j, "modified_ms", m->modified_ms);
    sl_json_kv_str(j, "family", m->details.family);
    if (m->source) sl_json_kv_str(j, "source", m->source);
    sl_json_kv_int(j, "labels", s->n_labels);
    json_object(j, "processing", m->processing);
    json_object(j, "options", m->options);
    sl_json_key(j, "versions");
    sl_json_array(j);
    for (size_t i = 0; i < s->show->tags.n; i++) sl_json_str(j, s->show->tags.v[i]);
    sl_json_array_end(j);
    sl_json_key(j, "files");
    sl_json_array(j);
    for (size_t i = 0; i < m->n_layers; i++) {
        sl_json_object(j);
        sl_json_kv_str(j, "role", m->layers[i].role);
        sl_json_kv_str(j, "file", m->layers[i].file);
        sl_json_kv_int(j, "size", (int64_t)m->layers[i].size);
        sl_json_object_end(j);
    }
    sl_json_array_end(j);
}

static sl_status write_json(const struct subject *s, struct sl_buf *out)
{
    struct sl_json j;
    size_t n;
    const struct onnx_value *v;
    sl_json_begin(&j, out, true);
    sl_json_object(&j);
    sl_json_kv_str(&j, "model", s->show->path);
    sl_json_kv_str(&j, "format", "onnx");
    sl_json_kv_int(&j, "bytes", (int64_t)s->size);
    json_stored(&j, s);
    sl_json_kv_int(&j, "ir_version", s->info->ir_version);
    json_opsets(&j, s->file);
    json_str(&j, "producer", s->info->producer);
    json_str(&j, "producer_version", s->info->producer_version);
    json_str(&j, "graph", s->info->graph_name);
    sl_json_kv_int(&j, "parameters", (int64_t)s->info->n_params);
    sl_json_kv_str(&j, "main_type", onnx_type_name(s->info->main_type));
    v = onnx_file_inputs(s->file, &n);
    json_values(&j, "inputs", v, n);
    v = onnx_file_outputs(s->file, &n);
    json_values(&j, "outputs", v, n);
    sl_json_kv_int(&j, "nodes", s->info->n_nodes);
    sl_json_kv_int(&j, "functions", s->info->n_functions);
    json_operators(&j, s->file);
    json_externals(&j, s->file);
    json_metadata(&j, s->file);
    if (s->show->tensors) json_tensors(&j, s->file);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

/* --- text --- */

static void text_label(struct page *p, const char *label)
{
    page_add(p, "  %-16s ", label);
}

static void text_stored(struct page *p, const struct subject *s)
{
    const struct store_model *m = s->show->stored;
    if (!*m->name) return;
    page_add(p, "  %-16s %s\n", "name", m->name);
    page_add(p, "  %-16s sha256:%s\n", "digest", m->digest);
    page_first_line(p, "source", m->source);
    if (s->n_labels) page_add(p, "  %-16s %" PRId64 "\n", "labels", s->n_labels);
    page_first_line(p, "processing", m->processing);
    page_first_line(p, "options", m->options);
    text_label(p, "versions");
    for (size_t i = 0; i < s->show->tags.n; i++)
        page_add(p, "%s%s", i ? ", " : "", s->show->tags.v[i]);
    page_add(p, "\n");
}

static void text_about(struct page *p, const struct subject *s)
{
    size_t n;
    char count[32];
    const struct onnx_opset *opsets = onnx_file_opsets(s->file, &n);
    text_label(p, "format");
    page_add(p, "ONNX, IR version %" PRId64 "\n", s->info->ir_version);
    text_label(p, "operator sets");
    for (size_t i = 0; i < n; i++) {
        bool own = opsets[i].domain.len == 0;
        page_add(p, "%s%.*s %" PRId64, i ? ", " : "", own ? 7 : (int)opsets[i].domain.len,
                 own ? "ai.onnx" : opsets[i].domain.s, opsets[i].version);
    }
    page_add(p, "\n");
    text_label(p, "producer");
    page_text(p, s->info->producer.s ? s->info->producer.s : "", s->info->producer.len);
    text_label(p, "parameters");
    page_add(p, "%s, most in %s\n", page_count(s->info->n_params, count),
             onnx_type_name(s->info->main_type));
}

static void text_externals(struct page *p, const struct subject *s)
{
    size_t n;
    const struct onnx_external *v = onnx_file_externals(s->file, &n);
    if (n == 0) return;
    text_label(p, "external data");
    page_add(p, "%s", v[0].path);
    if (n > 1) page_add(p, " and %zu more", n - 1);
    page_add(p, "\n");
}

static void text_shape(struct page *p, const struct onnx_value *v)
{
    if (v->rank < 0) {
        page_add(p, "any shape\n");
        return;
    }
    page_add(p, "[");
    for (int32_t d = 0; d < v->rank; d++) {
        const struct onnx_dim *dim = &v->dims[d];
        if (d > 0) page_add(p, ", ");
        if (dim->size >= 0)
            page_add(p, "%" PRId64, dim->size);
        else if (dim->symbol.len)
            page_add(p, "%.*s", (int)dim->symbol.len, dim->symbol.s);
        else
            page_add(p, "-1");
    }
    page_add(p, "]\n");
}

static void text_values(struct page *p, const char *title, const struct onnx_value *v, size_t n)
{
    page_add(p, "\n%s\n", title);
    for (size_t i = 0; i < n; i++) {
        page_add(p, "  %-32.*s ", (int)v[i].name.len, v[i].name.s);
        if (v[i].kind != ONNX_TENSOR) {
            page_add(p, "%s\n", onnx_value_kind_name(v[i].kind));
            continue;
        }
        page_add(p, "%-8s ", onnx_type_name(v[i].type));
        text_shape(p, &v[i]);
    }
}

static void text_operators(struct page *p, const struct subject *s)
{
    size_t n;
    const struct onnx_operator *v = onnx_file_operators(s->file, &n);
    page_add(p, "\nOperators: %" PRIu32 "\n", s->info->n_nodes);
    for (size_t i = 0; i < n; i++) {
        page_add(p, "  %6" PRIu32 " %.*s%s%.*s\n", v[i].n_nodes, (int)v[i].domain.len,
                 v[i].domain.s, v[i].domain.len ? "." : "", (int)v[i].name.len, v[i].name.s);
    }
}

static void text_metadata(struct page *p, const struct subject *s)
{
    size_t n;
    const struct onnx_pair *v = onnx_file_metadata(s->file, &n);
    if (n > 0) page_add(p, "\nMetadata\n");
    for (size_t i = 0; i < n; i++) {
        page_add(p, "  ");
        page_text(p, v[i].key.s ? v[i].key.s : "", v[i].key.len);
        page_add(p, "      ");
        page_text(p, v[i].value.s, v[i].value.len);
    }
}

static void text_tensors(struct page *p, const struct subject *s)
{
    size_t n;
    char bytes[CLI_BYTES_TEXT_MAX];
    const struct onnx_tensor *v = onnx_file_tensors(s->file, &n);
    page_add(p, "\nAll tensors\n");
    for (size_t i = 0; i < n; i++) {
        page_add(p, "  %-8s %10s  [", onnx_type_name(v[i].type),
                 cli_bytes_text(v[i].n_bytes, bytes));
        for (int32_t d = 0; d < v[i].rank; d++)
            page_add(p, "%s%" PRId64, d ? ", " : "", v[i].dims[d]);
        page_add(p, "]  ");
        page_text(p, v[i].name.s ? v[i].name.s : "", v[i].name.len);
    }
}

static sl_status write_text(const struct subject *s, struct sl_buf *out)
{
    struct page p = {.out = out};
    char bytes[CLI_BYTES_TEXT_MAX];
    size_t n;
    const struct onnx_value *v;
    page_add(&p, "Model\n  %-16s %s\n", "file", s->show->path);
    page_add(&p, "  %-16s %s\n", "size", cli_bytes_text(s->size, bytes));
    text_stored(&p, s);
    text_about(&p, s);
    text_externals(&p, s);
    v = onnx_file_inputs(s->file, &n);
    text_values(&p, "Inputs", v, n);
    v = onnx_file_outputs(s->file, &n);
    text_values(&p, "Outputs", v, n);
    text_operators(&p, s);
    text_metadata(&p, s);
    if (s->show->tensors) text_tensors(&p, s);
    return p.status;
}

sl_status show_onnx(const struct show_onnx *show, bool as_json, struct sl_buf *out,
                    struct sl_err *err)
{
    struct onnx_file *file;
    size_t n;
    sl_status status = onnx_file_open(show->path, &file, err);
    if (status != SL_OK) return status;
    struct subject subject = {.show = show,
                              .file = file,
                              .info = onnx_file_info(file),
                              .n_labels = count_labels(show->stored)};
    const struct onnx_external *v = onnx_file_externals(file, &n);
    subject.size = subject.info->file_bytes;
    for (size_t i = 0; i < n; i++) subject.size += v[i].n_bytes;
    status = (as_json ? write_json : write_text)(&subject, out);
    onnx_file_close(file);
    return status;
}
