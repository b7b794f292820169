#include "cli/model_info.h"
#include "exec/llm/gguf.h"
#include <stdlib.h>

static struct model_type *type_of(struct model_info *info, uint32_t type)
{
    for (int i = 0; i < info->n_types; i++) {
        if (info->types[i].type == type) return &info->types[i];
    }
    if (info->n_types == MODEL_TYPES_MAX) return &info->types[MODEL_TYPES_MAX - 1];
    info->types[info->n_types].type = type;
    return &info->types[info->n_types++];
}

static int more_bytes_first(const void *a, const void *b)
{
    const struct model_type *x = a, *y = b;
    return (x->n_bytes < y->n_bytes) - (x->n_bytes > y->n_bytes);
}

void model_info_read(const struct gguf_file *file, struct model_info *out)
{
    *out = (struct model_info){0};
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        struct model_type *type = type_of(out, t->type);
        uint64_t n = 1; /* cannot overflow: the reader checked that the bytes lie in the file */
        for (int d = 0; d < t->n_dims; d++) n *= (uint64_t)t->ne[d];
        type->n_tensors++;
        type->n_params += n;
        type->n_bytes += t->n_bytes;
        out->n_params += n;
        out->n_bytes += t->n_bytes;
    }
    qsort(out->types, (size_t)out->n_types, sizeof *out->types, more_bytes_first);
}

const char *model_info_main_type(const struct model_info *info)
{
    return info->n_types ? gguf_tensor_type_name(info->types[0].type) : "none";
}
