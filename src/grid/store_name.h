/* store_name.h: what a user calls a model, taken apart, and the place of its manifest.
 *
 *   qwen2.5:0.5b                 registry.ollama.ai/library/qwen2.5/0.5b
 *   user/model                   registry.ollama.ai/user/model/latest
 *   host.tld:port/ns/model:tag   host.tld:port/ns/model/tag
 *   hf.co/org/repo:q4_k_m        hf.co/org/repo/Q4_K_M
 *   https://host/dir/m.gguf      https/host/<32 hex of the URL's SHA-256>/latest
 *
 * Floor: grid.  Thread: any.  Allocates: nothing.
 * Invariant: host, space, model and tag are one path component each: letters, digits, '.', '_',
 * '-' (and ':' in a host), the first a letter, digit or '_'. So no name leaves the folder of
 * manifests, and none is hidden. */
#pragma once
#include "base/err.h"
#include "grid/store.h"
#include <stdbool.h>
#include <stddef.h>

#define STORE_PART_SIZE 129 /* with the NUL; Ollama allows 80, Hugging Face 96 */
#define STORE_NAME_PATH_SIZE (4 * STORE_PART_SIZE)
#define STORE_OLLAMA_HOST "registry.ollama.ai"
#define STORE_HF_HOST "hf.co"

enum store_source { STORE_OLLAMA, STORE_HF, STORE_URL };

struct store_name {
    enum store_source source;
    char host[STORE_PART_SIZE]; /* STORE_URL: the scheme */
    char space[STORE_PART_SIZE];
    char model[STORE_PART_SIZE];
    char tag[STORE_PART_SIZE];
    char url[STORE_NAME_SIZE];      /* STORE_URL: without the fragment */
    char digest[STORE_DIGEST_SIZE]; /* of a URL that ends in #sha256=HEX; else "" */
    bool tagged;                    /* the tag was written, and is not "latest" for want of one */
};

/* INVALID says what is wrong with which part. */
SL_CHECK sl_status store_name_parse(const char *text, struct store_name *out, struct sl_err *err);

/* The shortest text that parses to the same name, but for the tag, which is always shown. */
void store_name_text(const struct store_name *name, char out[STORE_NAME_SIZE]);

/* Relative to the folder of manifests. */
void store_name_path(const struct store_name *name, char out[STORE_NAME_PATH_SIZE]);

/* A name for a model file that has none: "Qwen2.5-0.5B-Q4_0.gguf" is "qwen2.5-0.5b-q4_0:latest",
 * and all shards of a split model are the same; ".onnx" goes too. INVALID: nothing usable is in
 * it. */
SL_CHECK sl_status store_name_of_file(const char *path, struct store_name *out, struct sl_err *err);

/* `<prefix>-00002-of-00005.gguf`: true, with the prefix's length, no = 1 (from 0), n = 5. */
bool store_split_name(const char *file, size_t *prefix_len, int *no, int *n);

/* "sha256:<hex>", "sha256-<hex>" or <hex>, 64 digits, into lower-case hex; false: it is none. */
bool store_digest_parse(const char *text, char out[STORE_DIGEST_SIZE]);
