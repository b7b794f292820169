/* store_manifest.h: a manifest as JSON text, read and written; no files here.
 *
 *   {"version":1, "name":"qwen2.5:0.5b", "format":"gguf", "digest":"sha256:...", "size":397807936,
 *    "created_ms":1753000000000, "source":"https://...",
 *    "details":{"family":"qwen2","parameter_size":"494.0M","quantization_level":"Q4_K_M",
 *               "parameters":494032768,"context_length":32768},
 *    "chat_template":..., "ollama_template":..., "system":..., "licence":..., "parameters":{...},
 *    "layers":[{"role":"model","digest":"sha256:...","size":397807936}]}
 *
 * Floor: grid.  Thread: any.  Allocates: the model's strings and layers.
 * Invariant: what store_manifest_parse gives is consistent: name and place agree, the digest and
 * the size are those of the layers with role "model", of which there is one at least. */
#pragma once
#include "base/buf.h"
#include "grid/store.h"

#define STORE_MANIFEST_BYTES_MAX (16u << 20) /* licences and templates are kilobytes */

/* Reads n bytes of a manifest that lies at `place` (store_name_path). CORRUPT names the field,
 * UNSUPPORTED (another version or format), LIMIT, NOMEM. path, bundled and local stay zero. */
SL_CHECK sl_status store_manifest_parse(const char *text, size_t n, const char *place,
                                        struct store_model *out, struct sl_err *err);
/* LIMIT, NOMEM. */
SL_CHECK sl_status store_manifest_write(const struct store_model *model, struct sl_buf *out);

/* Sets digest and size from the layers. CORRUPT: none is a model, or they are too large together;
 * INTERNAL. */
SL_CHECK sl_status store_model_sum(struct store_model *model, struct sl_err *err);

/* A layer at the end; LIMIT, NOMEM. */
SL_CHECK sl_status store_model_add_layer(struct store_model *model, const char *role,
                                         const char *digest, uint64_t size, struct sl_err *err);
