/* model_shards.h: a GGUF model cut into MODEL_SHARDS files, in the folder of model_edit.h.
 * Thread: one. Whatever fails here fails the cmocka test. */
#pragma once
#include <stdint.h>

#define MODEL_SHARDS 3

/* What a shard says of itself. */
struct model_shard {
    const char *from;                 /* path of the whole model */
    uint32_t no, n_shards, n_tensors; /* n_tensors 0: as many as the model has */
};

/* Of shard `no`, from 0; as folder_path. */
const char *model_shard_path(int no);

/* Writes shard `no`: its share of the tensors; the first one has the model's keys. */
void model_shard_write(int no, struct model_shard shard);
/* All of them, as they should be. */
void model_shards_write(const char *from);
