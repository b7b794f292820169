/* onnx_file_fuzz.c: any bytes as an ONNX file: refused with a reason, or everything the index
 * points to can be read and agrees with what the header promises. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/onnx/onnx_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned use_text(struct onnx_str s)
{
    unsigned sum = 0;
    for (size_t i = 0; i < s.len; i++) sum += (unsigned char)s.s[i];
    return sum;
}

static unsigned use_values(const struct onnx_value *v, size_t n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].name.len == 0 || v[i].rank > TENSOR_RANK_MAX) abort();
        sum += use_text(v[i].name);
        for (int32_t d = 0; d < v[i].rank; d++) {
            if (v[i].dims[d].size < -1) abort();
            sum += use_text(v[i].dims[d].symbol);
        }
    }
    return sum;
}

static unsigned use_tensors(const struct onnx_file *file)
{
    size_t n, n_externals;
    unsigned sum = 0;
    const struct onnx_tensor *v = onnx_file_tensors(file, &n);
    const struct onnx_external *externals = onnx_file_externals(file, &n_externals);
    for (size_t i = 0; i < n; i++) {
        sum += use_text(v[i].name);
        if (v[i].raw) sum += use_text((struct onnx_str){v[i].raw, v[i].n_bytes});
        if (v[i].external < 0) continue;
        if ((size_t)v[i].external >= n_externals) abort();
        const struct onnx_external *e = &externals[v[i].external];
        if (v[i].offset + v[i].n_bytes > e->n_bytes) abort();
        if (!onnx_path_is_plain(e->path, strlen(e->path))) abort();
    }
    return sum;
}

static unsigned use_all(const struct onnx_file *file)
{
    size_t n;
    const struct onnx_value *values = onnx_file_inputs(file, &n);
    unsigned sum = use_values(values, n);
    values = onnx_file_outputs(file, &n);
    sum += use_values(values, n) + use_tensors(file);
    const struct onnx_operator *operators = onnx_file_operators(file, &n);
    for (size_t i = 0; i < n; i++)
        sum += use_text(operators[i].name) + use_text(operators[i].domain);
    const struct onnx_opset *opsets = onnx_file_opsets(file, &n);
    for (size_t i = 0; i < n; i++) sum += use_text(opsets[i].domain);
    const struct onnx_pair *pairs = onnx_file_metadata(file, &n);
    for (size_t i = 0; i < n; i++) sum += use_text(pairs[i].key) + use_text(pairs[i].value);
    const struct onnx_info *info = onnx_file_info(file);
    return sum + use_text(info->producer) + use_text(info->graph_name) + use_text(info->doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct onnx_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    if (onnx_file_open_mem(data, size, &file, &err) != SL_OK) {
        if (!err.text[0] || file) abort();
        return 0;
    }
    volatile unsigned sum = use_all(file);
    (void)sum;
    if (onnx_file_check_served(file, &err) != SL_OK && !err.text[0]) abort();
    onnx_file_close(file);
    return 0;
}
