/* store_manifest.h: a manifest as JSON text, read and written; no files here.
 *
 *   {"version":1, "name":"qwen2.5:0.5b", "format":"gguf", "digest":"sha256:...", "size":397807936,
 *    "created_ms":1753000000000, "source":"https://...",
 *    "details":{"family":"qwen2","parameter_size":"494.0M","quantization_level":"Q4_K_M",
 *               "parameters":494032768,"context_length":32768},
 *    "chat_template":..., "ollama_template":..., "system":..., "licence":..., "parameters":{...},
 *    "layers":[{"role":"model","digest":"sha256:...","size":397807936}]}
 *
 * An ONNX model's ("format":"onnx") layers have a "file" each: its path beside the others. It may
 * have "processing":{...} and "onnx":{...}.
 *
 * Floor: grid.  Thread: any.  Allocates: the model's strings and layers.
 * Invariant: what store_manifest_parse gives is consistent: name and place agree, the digest and
 * the size are those of the layers with role "model", of which there is one at least, and exactly
 * one of an ONNX model, whose files are plain relative paths (onnx_path_is_plain), no two the
 * same. */
#pragma once
#include "base/buf.h"
#include "grid/store.h"

#define STORE_MANIFEST_BYTES_MAX (16u << 20) /* licences and templates are kilobytes */
#define STORE_OBJECT_BYTES_MAX (1u << 20)    /* of processing, and of options */

/* Reads n bytes of a manifest that lies at `place` (store_name_path). CORRUPT names the field,
 * UNSUPPORTED (another version or format), LIMIT, NOMEM. path, bundled and local stay zero. */
SL_CHECK sl_status store_manifest_parse(const char *text, size_t n, const char *place,
                                        struct store_model *out, struct sl_err *err);
/* LIMIT, NOMEM. */
SL_CHECK sl_status store_manifest_write(const struct store_model *model, struct sl_buf *out);

/* Sets digest and size from the layers and the format. The digest is the SHA-256 of the one file;
 * of a split GGUF model, of its files' digests, each with a newline; of an ONNX model that is more
 * than its one file, of a line "ROLE FILE DIGEST" for each, and of its processing and options: who
 * keeps such a model loaded sees by it that anything has changed. CORRUPT: not one of them is a
 * model, or they are too large together; INTERNAL. */
SL_CHECK sl_status store_model_sum(struct store_model *model, struct sl_err *err);

/* A copy of the layer at the end; LIMIT, NOMEM. */
SL_CHECK sl_status store_model_add_layer(struct store_model *model, const struct store_layer *layer,
                                         struct sl_err *err);

/* A JSON object in its compact form, as manifests keep it. INVALID: it is none, or past
 * STORE_OBJECT_BYTES_MAX; NOMEM. `what` is for the message. *out is the caller's. */
SL_CHECK sl_status store_object_text(const char *text, size_t n, const char *what, char **out,
                                     struct sl_err *err);

/* By its format; any other model is a GGUF one. */
bool store_model_is_onnx(const struct store_model *model);
