/* store_parts.h: where parts of models lie that stages of a split model need: a folder a model,
 * beside the store's models and none of them.
 *
 *   HOME/models/parts/<digest of the model>/
 *       model.gguf, or model-00001-of-00003.gguf, ...   sparse files of the full size
 *       NAME.journal      which of its chunks are here: part_journal.h
 *       NAME.chunks       what they must be: chunk_list.h
 *       manifest.json     the model's: store_manifest.h
 *       lock              flock: shared while the part is in use, exclusive while it is removed;
 *                         its time is that of the last use
 *       writing           flock: exclusive while chunks are fetched
 *
 * Floor: grid.  Thread: any that may block; see store.h.  Allocates: the list of folders.
 * Invariants: a part that somebody has open is not removed, by any process. A journal goes before
 * its data, so that one that is there tells the truth. */
#pragma once
#include "base/err.h"
#include "grid/store.h"
#include "grid/store_files.h"
#include <stddef.h>
#include <stdint.h>

struct store_part {
    char dir[PATH_MAX]; /* "": not open */
    struct store_lock use;
};

/* The folder of the model of that digest, made when it is absent, in use from now on. INVALID (no
 * digest), IO. */
SL_CHECK sl_status store_part_open(const struct store *store, const char *digest,
                                   struct store_part *out, struct sl_err *err);
void store_part_close(struct store_part *part); /* zeroed, or closed already: fine */

/* Is there a folder of that model? It may go any time, unless the part is open. */
bool store_part_exists(const struct store *store, const char *digest);

/* May this one write? Release with store_unlock. BUSY: another does. */
SL_CHECK sl_status store_part_claim(const struct store_part *part, struct store_lock *claim,
                                    struct sl_err *err);

/* The path of the model's file `no` of n_files (from 0), with the suffix: "", ".journal". */
SL_CHECK sl_status store_part_file(const struct store_part *part, size_t no, size_t n_files,
                                   const char *suffix, char out[PATH_MAX], struct sl_err *err);

/* The model's manifest, kept beside the file; path stays "". NOT_FOUND: there is none, or it is of
 * another name or digest. */
SL_CHECK sl_status store_part_read_manifest(const struct store_part *part, const char *name,
                                            const char *digest, struct store_model *out,
                                            struct sl_err *err);
SL_CHECK sl_status store_part_write_manifest(const struct store_part *part,
                                             const struct store_model *model, struct sl_err *err);

/* Closes the part and removes it, if nobody else uses it: it has turned out to be wrong. */
void store_part_drop(struct store_part *part);

/* Sees to it that n bytes are free for parts, removing those that are not in use, the one whose use
 * is longest ago first. LIMIT: it is not enough, with the numbers; IO, NOMEM. */
SL_CHECK sl_status store_parts_make_room(const struct store *store, uint64_t n, struct sl_err *err);

/* Removes all that are not in use. *freed grows by their bytes. */
SL_CHECK sl_status store_parts_sweep(const struct store *store, uint64_t *freed,
                                     struct sl_err *err);
