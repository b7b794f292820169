/* gguf_fuzz.c: any bytes as a GGUF file: refused with a reason, or every byte the index points to
 * can be read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exec/llm/gguf.h"

#define ALIGNMENT 32 /* what gguf_open_mem wants */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned use_kvs(const struct gguf_file *file)
{
    unsigned sum = 0;
    for (size_t i = 0; i < gguf_n_kvs(file); i++) {
        const struct gguf_kv *kv = gguf_kv_at(file, i);
        double v = 0;
        int64_t k = 0;
        for (uint64_t j = 0; j < kv->n; j++) {
            if (kv->type == GGUF_STRING) {
                for (size_t c = 0; c < kv->strs[j].len; c++) sum += (unsigned char)kv->strs[j].s[c];
            } else {
                sum += gguf_kv_f64(kv, j, &v) + gguf_kv_i64(kv, j, &k);
            }
        }
    }
    return sum;
}

static unsigned use_tensors(const struct gguf_file *file)
{
    unsigned sum = 0;
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        const unsigned char *bytes = t->data;
        if (gguf_tensor_find(file, t->name) != t) abort();
        sum += bytes[0] + bytes[t->n_bytes - 1];
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf_file *file = NULL;
    struct sl_err err = SL_ERR_INIT;
    void *copy = NULL;
    if (posix_memalign(&copy, ALIGNMENT, size ? size : 1)) return 0;
    if (size) memcpy(copy, data, size);
    if (gguf_open_mem(copy, size, &file, &err) != SL_OK) {
        if (!err.text[0] || file) abort();
    } else {
        volatile unsigned sum = use_kvs(file) + use_tensors(file);
        (void)sum;
    }
    gguf_close(file);
    free(copy);
    return 0;
}
