/* onnx_file.c: maps a model file, looks at the files it names, answers queries. */
#include "exec/onnx/onnx_file.h"
#include "base/mem.h"
#include "exec/onnx/onnx_file_int.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARRAY_ITEMS_FIRST 16
#define OPERATOR_KEY_BYTES_MAX (2 * (ONNX_OPERATOR_NAME_MAX + 16)) /* with the arena's padding */

sl_status onnx_array_add(struct onnx_array *array, const void *item, size_t item_bytes,
                         size_t n_max, const char *what, struct sl_err *err)
{
    if (array->n == n_max) return sl_err_set(err, SL_LIMIT, "more than %zu %s", n_max, what);
    if (array->n == array->cap) {
        size_t cap = array->cap ? 2 * array->cap : ARRAY_ITEMS_FIRST;
        void *v = sl_realloc_array(array->v, cap, item_bytes);
        if (!v) return sl_err_set(err, SL_NOMEM, "%s", what);
        array->v = v;
        array->cap = cap;
    }
    memcpy((char *)array->v + array->n++ * item_bytes, item, item_bytes);
    return SL_OK;
}

static sl_status map_fd(int fd, struct onnx_file *file, struct sl_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return sl_err_errno(err, errno, "file size");
    if (!S_ISREG(st.st_mode))
        return sl_err_set(err, SL_UNSUPPORTED, "file type: not a regular file");
    if (st.st_size == 0) return sl_err_set(err, SL_CORRUPT, "file size: the file is empty");
    if (st.st_size > ONNX_FILE_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "file size: %jd bytes, at most %d", (intmax_t)st.st_size,
                          ONNX_FILE_BYTES_MAX);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return sl_err_errno(err, errno, "map of %jd bytes", (intmax_t)st.st_size);
    file->bytes = map;
    file->n_bytes = (size_t)st.st_size;
    file->is_mapped = true;
    return SL_OK;
}

/* As in gguf.c: a file that shrinks later raises SIGBUS, so model files are replaced by rename.
 * O_NONBLOCK: a FIFO must not hang us. */
static sl_status map_file(const char *path, struct onnx_file *file, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return sl_err_errno(err, errno, "open");
    sl_status status = map_fd(fd, file, err);
    close(fd);
    return status;
}

static struct onnx_file *new_file(struct sl_err *err)
{
    struct onnx_file *file = sl_calloc(1, sizeof *file);
    if (!file) {
        (void)sl_err_set(err, SL_NOMEM, "file");
        return NULL;
    }
    sl_arena_init(&file->operator_keys, (size_t)ONNX_OPERATORS_MAX * OPERATOR_KEY_BYTES_MAX);
    return file;
}

/* What only the reading needs. */
static void drop_scaffold(struct onnx_file *file)
{
    sl_strmap_done(&file->initializers);
    sl_strmap_done(&file->operator_index);
    sl_arena_done(&file->operator_keys);
}

sl_status onnx_file_open(const char *path, struct onnx_file **out, struct sl_err *err)
{
    struct onnx_file *file = new_file(err);
    if (!file) return SL_NOMEM;
    sl_status status = map_file(path, file, err);
    if (status == SL_OK) status = onnx_read_model(file, err);
    if (status != SL_OK) goto fail;
    drop_scaffold(file);
    *out = file;
    return SL_OK;
fail:
    onnx_file_close(file);
    (void)sl_err_prefix(err, "%.200s", path);
    return status;
}

sl_status onnx_file_open_mem(const void *bytes, size_t n, struct onnx_file **out,
                             struct sl_err *err)
{
    if (n == 0) return sl_err_set(err, SL_CORRUPT, "file size: the file is empty");
    if (n > ONNX_FILE_BYTES_MAX) return sl_err_set(err, SL_LIMIT, "file size: %zu bytes", n);
    struct onnx_file *file = new_file(err);
    if (!file) return SL_NOMEM;
    file->bytes = bytes;
    file->n_bytes = n;
    sl_status status = onnx_read_model(file, err);
    if (status != SL_OK) {
        onnx_file_close(file);
        return status;
    }
    drop_scaffold(file);
    *out = file;
    return SL_OK;
}

void onnx_file_close(struct onnx_file *file)
{
    if (!file) return;
    drop_scaffold(file);
    sl_free(file->inputs.v);
    sl_free(file->outputs.v);
    sl_free(file->tensors.v);
    sl_free(file->externals.v);
    sl_free(file->operators.v);
    sl_free(file->opsets.v);
    sl_free(file->metadata.v);
    if (file->is_mapped) munmap((void *)file->bytes, file->n_bytes);
    sl_free(file);
}

static sl_status check_external(const struct onnx_external *external, const char *dir,
                                struct sl_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", dir, external->path);
    if (n < 0 || n >= PATH_MAX) return sl_err_set(err, SL_INVALID, "its path is too long");
    if (stat(path, &st) != 0) return sl_err_errno(err, errno, "beside the model");
    if (!S_ISREG(st.st_mode)) return sl_err_set(err, SL_CORRUPT, "not a regular file");
    if ((uint64_t)st.st_size >= external->n_bytes) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "%jd bytes, the model needs %" PRIu64, (intmax_t)st.st_size,
                      external->n_bytes);
}

sl_status onnx_file_check_external(const struct onnx_file *file, const char *dir,
                                   struct sl_err *err)
{
    size_t n;
    const struct onnx_external *v = onnx_file_externals(file, &n);
    for (size_t i = 0; i < n; i++) {
        sl_status status = check_external(&v[i], dir, err);
        if (status == SL_OK) continue;
        (void)sl_err_prefix(err, "external data \"%s\"", v[i].path);
        return status;
    }
    return SL_OK;
}

sl_status onnx_file_check_served(const struct onnx_file *file, struct sl_err *err)
{
    size_t n, n_outputs;
    enum tensor_type type;
    const struct onnx_value *v = onnx_file_inputs(file, &n);
    for (size_t i = 0; i < n; i++) {
        int n_name = (int)v[i].name.len;
        if (v[i].kind != ONNX_TENSOR)
            return sl_err_set(err, SL_UNSUPPORTED, "input \"%.*s\": a %s; requests bring tensors",
                              n_name, v[i].name.s, onnx_value_kind_name(v[i].kind));
        if (!onnx_type_to_tensor(v[i].type, &type))
            return sl_err_set(err, SL_UNSUPPORTED,
                              "input \"%.*s\": type %s; requests have no such type", n_name,
                              v[i].name.s, onnx_type_name(v[i].type));
    }
    (void)onnx_file_outputs(file, &n_outputs);
    return n_outputs ? SL_OK : sl_err_set(err, SL_CORRUPT, "graph: output: there is none");
}

/* Those of the values that are served, *n of them. */
static sl_status put_specs(const struct onnx_array *values, struct sl_arena *arena,
                           const struct tensor_spec **out, size_t *n)
{
    const struct onnx_value *v = values->v;
    struct tensor_spec *specs = sl_arena_array(arena, values->n + 1, sizeof *specs);
    *n = 0;
    for (size_t i = 0; specs && i < values->n; i++) {
        struct tensor_spec *spec = &specs[*n];
        if (v[i].kind != ONNX_TENSOR || !onnx_type_to_tensor(v[i].type, &spec->type)) continue;
        spec->name = sl_arena_strndup(arena, v[i].name.s, v[i].name.len);
        spec->rank = v[i].rank;
        for (int32_t d = 0; d < v[i].rank; d++) spec->shape[d] = v[i].dims[d].size;
        if (!spec->name) return SL_NOMEM;
        ++*n;
    }
    *out = specs;
    return specs ? SL_OK : SL_NOMEM;
}

sl_status onnx_file_signature(const struct onnx_file *file, struct sl_arena *arena,
                              struct tensor_signature *out)
{
    sl_status status = put_specs(&file->inputs, arena, &out->inputs, &out->n_inputs);
    if (status != SL_OK) return status;
    return put_specs(&file->outputs, arena, &out->outputs, &out->n_outputs);
}

const struct onnx_info *onnx_file_info(const struct onnx_file *file)
{
    return &file->info;
}

const struct onnx_value *onnx_file_inputs(const struct onnx_file *file, size_t *n)
{
    *n = file->inputs.n;
    return file->inputs.v;
}

const struct onnx_value *onnx_file_outputs(const struct onnx_file *file, size_t *n)
{
    *n = file->outputs.n;
    return file->outputs.v;
}

const struct onnx_tensor *onnx_file_tensors(const struct onnx_file *file, size_t *n)
{
    *n = file->tensors.n;
    return file->tensors.v;
}

const struct onnx_external *onnx_file_externals(const struct onnx_file *file, size_t *n)
{
    *n = file->externals.n;
    return file->externals.v;
}

const struct onnx_operator *onnx_file_operators(const struct onnx_file *file, size_t *n)
{
    *n = file->operators.n;
    return file->operators.v;
}

const struct onnx_opset *onnx_file_opsets(const struct onnx_file *file, size_t *n)
{
    *n = file->opsets.n;
    return file->opsets.v;
}

const struct onnx_pair *onnx_file_metadata(const struct onnx_file *file, size_t *n)
{
    *n = file->metadata.n;
    return file->metadata.v;
}
