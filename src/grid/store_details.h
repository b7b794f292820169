/* store_details.h: what a model file says of itself, as lists of models show it.
 * Floor: grid.  Thread: any.  Allocates: nothing that outlives a call. */
#pragma once
#include "grid/store.h"

struct gguf_file;
struct onnx_file;

/* From a GGUF file that was opened: all of *out is set; what the file does not say is "" or 0. */
void store_details_read(const struct gguf_file *file, struct store_details *out);

/* config: path of the config.json that came with the model, which tells family ("model_type") and
 * context ("max_position_embeddings"); NULL: none, and the family is the producer. */
void store_details_read_onnx(const struct onnx_file *file, const char *config,
                             struct store_details *out);

/* Of a file that is in no store, an .onnx by its name or else a GGUF: it is checked on the way, as
 * an import would. *size counts the files that it names too. As gguf_open, onnx_file_open. */
SL_CHECK sl_status store_details_of_file(const char *path, struct store_details *out,
                                         uint64_t *size, struct sl_err *err);

bool store_is_onnx_path(const char *path); /* by its suffix, in any case */

/* Opens the .onnx file and checks that it can be served from the folder it lies in. */
SL_CHECK sl_status store_open_onnx(const char *path, struct onnx_file **out, struct sl_err *err);

/* Does the file bring a chat template of its own (tokenizer.chat_template)? */
bool store_has_chat_template(const struct gguf_file *file);

/* "7.5M", "1.5B", "260.0K", "12". */
void store_count_text(uint64_t n, char out[STORE_WORD_SIZE]);
