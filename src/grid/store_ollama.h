/* store_ollama.h: a model's manifest as Ollama and its registry have it (Docker's image manifest,
 * schema 2, with media types application/vnd.ollama.image.*).
 * Floor: grid.  Thread: any.  Allocates: nothing but what is added to a model.
 * What the layers are: .model is the GGUF file; .params a JSON object; .system and .license texts;
 * .template a template in Go's language. .projector (images) is left out: the text model runs
 * without it. .adapter is refused: without it the answers would be another model's. */
#pragma once
#include "grid/store.h"

#define STORE_OLLAMA_LAYERS_MAX 64 /* real ones have five or so */
#define STORE_OLLAMA_MANIFEST_BYTES_MAX (1u << 20)
#define STORE_OLLAMA_TEXT_BYTES_MAX (1u << 20) /* of one template, licence, system message */

enum store_ollama_kind {
    STORE_OLLAMA_MODEL,
    STORE_OLLAMA_PARAMS,
    STORE_OLLAMA_SYSTEM,
    STORE_OLLAMA_LICENCE,
    STORE_OLLAMA_TEMPLATE,
    STORE_OLLAMA_OTHER
};

struct store_ollama_layer {
    enum store_ollama_kind kind;
    char digest[STORE_DIGEST_SIZE];
    uint64_t size;
};

struct store_ollama_manifest {
    struct store_ollama_layer layers[STORE_OLLAMA_LAYERS_MAX];
    size_t n;
};

/* CORRUPT names the layer and the field; UNSUPPORTED (an adapter, no GGUF file in it), LIMIT,
 * NOMEM. At least one layer is a model. */
SL_CHECK sl_status store_ollama_parse(const char *text, size_t n, struct store_ollama_manifest *out,
                                      struct sl_err *err);

/* Adds what a text layer says to the model. CORRUPT (a NUL in it, params that are no JSON
 * object), NOMEM. */
SL_CHECK sl_status store_ollama_apply(enum store_ollama_kind kind, const char *text, size_t n,
                                      struct store_model *model, struct sl_err *err);
