/* store_details.h: what a GGUF file says of itself, as lists of models show it.
 * Floor: grid.  Thread: any.  Allocates: nothing. */
#pragma once
#include "grid/store.h"

struct gguf_file;

void store_details_read(const struct gguf_file *file, struct store_details *out);

/* Does the file bring a chat template of its own (tokenizer.chat_template)? */
bool store_has_chat_template(const struct gguf_file *file);

/* "7.5M", "1.5B", "260.0K", "12". */
void store_count_text(uint64_t n, char out[STORE_WORD_SIZE]);
