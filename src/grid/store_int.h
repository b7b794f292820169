/* store_int.h: what the store's own files, imports and pulls do with blobs and manifests.
 * Floor: grid.  Thread: any; see store.h.  Allocates: nothing that outlives a call.
 * Order of locks: claims of blobs first, waiting; then the store's lock, waiting; under that claims
 * are only tried. So nobody waits in a circle. */
#pragma once
#include "grid/store.h"
#include "grid/store_files.h"
#include "grid/store_name.h"

#define STORE_PLACE_DEPTH 4 /* host/space/model/tag */

struct store {
    char root[PATH_MAX]; /* HOME/models, absolute */
};

/* The exclusive lock of all that changes names or blobs; makes the folders when need be. */
SL_CHECK sl_status store_lock_all(const struct store *store, struct store_lock *lock,
                                  struct sl_err *err);

SL_CHECK sl_status store_blob_path(const struct store *store, const char *digest,
                                   char out[PATH_MAX], struct sl_err *err);
/* NOT_FOUND: no such blob; CORRUPT: it is no regular file, or its size is another. */
SL_CHECK sl_status store_check_blob(const struct store *store, const char *digest, uint64_t size,
                                    struct sl_err *err);

/* HOME/models/partial/KEY.SUFFIX. A key is "sha256-HEX" of a blob to be, or another unique word of
 * letters, digits and '-'. */
SL_CHECK sl_status store_partial_path(const struct store *store, const char *key,
                                      const char *suffix, char out[PATH_MAX], struct sl_err *err);
/* As long as it is claimed, nobody else makes or removes the blob or its partial files. BUSY when
 * wait is false and another has it. Release with store_unlock. */
SL_CHECK sl_status store_claim(const struct store *store, const char *key, bool wait,
                               struct store_lock *claim, struct sl_err *err);

/* The claims of all blobs of one model to be. */
struct store_claims {
    struct store_lock *v;
    size_t n;
};

/* Claims sha256-DIGEST, once however often it is asked for. As store_claim; NOMEM. */
SL_CHECK sl_status store_claims_add(const struct store *store, struct store_claims *claims,
                                    const char *digest, bool wait, struct sl_err *err);
void store_claims_done(struct store_claims *claims); /* zeroed is fine */

/* Moves a whole file, whose content has that digest, to its place among the blobs: read-only and on
 * disk. The blob is claimed by the caller. A blob that is there already wins. */
SL_CHECK sl_status store_take_blob(const struct store *store, const char *path, const char *digest,
                                   struct sl_err *err);

/* Takes in the file at `path` as store_clone_file does, hashes it, and adds it to the model's
 * layers with that role. want (NULL is fine): CORRUPT when the digest is another. */
SL_CHECK sl_status store_intake(const struct store *store, const char *path, const char *role,
                                const char *want, struct store_claims *claims,
                                struct store_model *model, struct sl_err *err);

/* Gives `name` to the model of these layers, whose blobs are in place and claimed: checks the GGUF
 * header, fills digest, size, details, path and time, writes the manifest, and removes the blobs of
 * the model that had the name, if nobody needs them. INVALID: the bundled model's name; CORRUPT. */
SL_CHECK sl_status store_publish(const struct store *store, const struct store_name *name,
                                 struct store_model *model, struct sl_err *err);

/* INVALID: the bundled model's name, which nothing else may have. */
SL_CHECK sl_status store_name_check_free(const struct store_name *name, struct sl_err *err);

/* The model at its place. A manifest whose blobs are not all there is CORRUPT. */
SL_CHECK sl_status store_load(const struct store *store, const char *place, struct store_model *out,
                              struct sl_err *err);

/* The path by which a model's files can be opened: the blob, or the first of the links with the
 * names of shards, which are made when they are not there. */
SL_CHECK sl_status store_view_path(const struct store *store, const struct store_model *model,
                                   char out[PATH_MAX], struct sl_err *err);

/* Each file at STORE_PLACE_DEPTH below root; symbolic links and hidden names are passed over. */
typedef sl_status store_place_fn(void *ctx, const char *place, const char *path,
                                 struct sl_err *err);
SL_CHECK sl_status store_each_place(const char *root, store_place_fn *fn, void *ctx,
                                    struct sl_err *err);

/* Removes those of the n blobs that no manifest names and nobody has claimed; the caller has the
 * store's lock. *freed grows by their bytes. */
SL_CHECK sl_status store_collect(const struct store *store, const struct store_layer *blobs,
                                 size_t n, uint64_t *freed, struct sl_err *err);

/* store_collect for a caller without the lock, who is failing already: what it cannot remove is
 * left to store_sweep. */
void store_discard(const struct store *store, const struct store_layer *blobs, size_t n);
