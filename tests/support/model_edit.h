/* model_edit.h: copies of GGUF models with something changed, for tests of what is read from one.
 * They lie in a temporary folder that the group's teardown removes.
 * Thread: one. Whatever fails here fails the cmocka test. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_PATH_MAX 1024

enum edit_kind {
    EDIT_DROP,
    EDIT_U32,
    EDIT_F32,
    EDIT_BOOL,
    EDIT_STR,
    EDIT_I32S,
    EDIT_STRS,
    EDIT_TENSOR, /* a tensor of another type, shape or content */
};

struct edit {
    const char *name; /* of the key or tensor; added when the model has none of this name */
    enum edit_kind kind;
    uint32_t u32; /* also the bool */
    float f32;
    const char *str;
    const int32_t *i32s;
    const char *const *strs;
    size_t n_elements; /* of the array */
    /* EDIT_TENSOR */
    uint32_t type; /* ggml's number */
    int n_dims;
    int64_t ne[4];
    const float *data;  /* content, when the type is f32; NULL: `fill` everywhere */
    unsigned char fill; /* the byte that the data consists of */
};

/* clang-format off */
#define DROP(key) {.name = (key), .kind = EDIT_DROP}
#define SET_U32(key, v) {.name = (key), .kind = EDIT_U32, .u32 = (v)}
#define SET_F32(key, v) {.name = (key), .kind = EDIT_F32, .f32 = (v)}
#define SET_BOOL(key, v) {.name = (key), .kind = EDIT_BOOL, .u32 = (v)}
#define SET_STR(key, v) {.name = (key), .kind = EDIT_STR, .str = (v)}
#define SET_I32S(key, v, n) {.name = (key), .kind = EDIT_I32S, .i32s = (v), .n_elements = (n)}
#define SET_STRS(key, v, n) {.name = (key), .kind = EDIT_STRS, .strs = (v), .n_elements = (n)}
#define ZEROS(tensor, ggml_type, dims, ...) \
    {.name = (tensor), .kind = EDIT_TENSOR, .type = (ggml_type), .n_dims = (dims), \
     .ne = {__VA_ARGS__}}
#define FILLED(tensor, byte, dims, ...) \
    {.name = (tensor), .kind = EDIT_TENSOR, .fill = (byte), .n_dims = (dims), .ne = {__VA_ARGS__}}
#define FLOATS(tensor, floats, dims, ...) \
    {.name = (tensor), .kind = EDIT_TENSOR, .data = (floats), .n_dims = (dims), .ne = {__VA_ARGS__}}
/* clang-format on */

/* cmocka's group setup and teardown. */
int model_folder_make(void **state);
int model_folder_remove(void **state);

/* A path in that folder. Valid until the next but three calls of this and golden_path. */
const char *folder_path(const char *name);
/* tests/golden/llm/<name>.gguf, likewise. */
const char *golden_path(const char *name);

/* Writes `from` with the edits to folder_path("edited.gguf"), which it returns. Each edit's name
 * that the model has is replaced where it stands, the others come behind. */
const char *model_edit(const char *from, const struct edit *edits, size_t n_edits);
#define EDITED(model, ...) \
    model_edit(golden_path(model), (const struct edit[]){__VA_ARGS__}, \
               sizeof((const struct edit[]){__VA_ARGS__}) / sizeof(struct edit))
