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

/* HOME/models/blobs/sha256-DIGEST, whether it is there or not. INVALID: too long. */
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

/* A file on its way into the store. */
struct store_new_file {
    const char *path, *role;
    const char *file; /* its path beside the model's others; NULL: none is needed */
    const char *want; /* its digest; NULL: whatever it is */
};

/* Takes in the file as store_clone_file does, hashes it, and adds it to the model's layers.
 * CORRUPT when the digest is another than is wanted. */
SL_CHECK sl_status store_intake(const struct store *store, const struct store_new_file *source,
                                struct store_claims *claims, struct store_model *model,
                                struct sl_err *err);

/* Ends an import whose files were taken in with this status: publishes the model, or takes back
 * what nobody else needs. Model and claims are done with. */
SL_CHECK sl_status store_import_finish(const struct store *store, const struct store_name *name,
                                       struct store_claims *claims, struct store_model *model,
                                       sl_status status, struct sl_err *err);

/* Gives `name` to the model of these layers, whose blobs are in place and claimed: checks the
 * file's header, fills digest, size, details, path and time, writes the manifest, and removes
 * the blobs of the model that had the name, if nobody needs them. INVALID: the bundled model's
 * name; CORRUPT. */
SL_CHECK sl_status store_publish(const struct store *store, const struct store_name *name,
                                 struct store_model *model, struct sl_err *err);

/* INVALID: the bundled model's name, which nothing else may have. */
SL_CHECK sl_status store_name_check_free(const struct store_name *name, struct sl_err *err);

/* The model at its place. A manifest whose blobs are not all there is CORRUPT. */
SL_CHECK sl_status store_load(const struct store *store, const char *place, struct store_model *out,
                              struct sl_err *err);

/* The path by which a model's files can be opened: the blob; or, where names matter, the first
 * shard or the .onnx file in a folder of their own, which is made when it is not there. */
SL_CHECK sl_status store_view_path(const struct store *store, const struct store_model *model,
                                   char out[PATH_MAX], struct sl_err *err);

/* Removes the folder of the model of that digest, unless a manifest has the digest. The caller has
 * the store's lock. */
SL_CHECK sl_status store_view_drop(const struct store *store, const char *digest,
                                   struct sl_err *err);
/* As store_view_drop for all of them. */
SL_CHECK sl_status store_view_sweep(const struct store *store, struct sl_err *err);

/* The place of the manifest that the name means, see store_find; the name's own place when there is
 * none. */
SL_CHECK sl_status store_find_place(const struct store *store, const struct store_name *name,
                                    char out[STORE_NAME_PATH_SIZE], struct sl_err *err);
/* Is there a manifest, sound or not? */
bool store_has_place(const struct store *store, const char *place);

/* Each file at STORE_PLACE_DEPTH below root; symbolic links and hidden names are passed over. */
typedef sl_status store_place_fn(void *ctx, const char *place, const char *path,
                                 struct sl_err *err);
SL_CHECK sl_status store_each_place(const char *root, store_place_fn *fn, void *ctx,
                                    struct sl_err *err);

/* Removes those of the n blobs that no manifest names and nobody has claimed; the caller has the
 * store's lock. *freed grows by their bytes. */
SL_CHECK sl_status store_collect(const struct store *store, const struct store_layer *blobs,
                                 size_t n, uint64_t *freed, struct sl_err *err);

/* Does a manifest have the digest, as a blob's or as its own? */
SL_CHECK sl_status store_is_named(const struct store *store, const char *digest, bool *out,
                                  struct sl_err *err);

/* store_collect for a caller without the lock, who is failing already: what it cannot remove is
 * left to store_sweep. */
void store_discard(const struct store *store, const struct store_layer *blobs, size_t n);
