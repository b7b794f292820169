/* store_files.h: what the store asks of a file system: folders, whole files, locks, links.
 * Floor: grid.  Thread: any.  Allocates: only the buffers named.
 * Invariant: a file written here is either whole and on disk under its name, or not there. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "grid/store.h"
#include <limits.h>
#include <stdbool.h>

#define STORE_DISK_RESERVE_BYTES (UINT64_C(64) << 20) /* left free for everybody else */

/* A flock that goes with the process. */
struct store_lock {
    int fd;              /* -1: not held */
    char path[PATH_MAX]; /* removed at release; "": the file stays */
};

/* Formats a path. INVALID: too long. */
SL_CHECK sl_status store_path(char out[PATH_MAX], struct sl_err *err, const char *fmt, ...)
    SL_PRINTF(3, 4);

/* The folder and all above it, mode 0755. */
SL_CHECK sl_status store_make_dirs(const char *path, struct sl_err *err);
SL_CHECK sl_status store_sync_dir(const char *path, struct sl_err *err);
SL_CHECK sl_status store_sync_parent(const char *path, struct sl_err *err);

/* Appends a regular file's bytes; a symbolic link is refused. NOT_FOUND, LIMIT, CORRUPT (not a
 * regular file), IO, NOMEM. */
SL_CHECK sl_status store_read_file(const char *path, struct sl_buf *out, struct sl_err *err);

/* Writes path by way of a hidden file beside it: fsync, rename, fsync of the folder, which is
 * made when it is absent. */
SL_CHECK sl_status store_write_file(const char *path, const void *bytes, size_t n,
                                    struct sl_err *err);

/* Opens (creates) the file at `path` and locks it. wait false: BUSY when another holds it.
 * remove: the file goes away at release. */
SL_CHECK sl_status store_lock(struct store_lock *lock, const char *path, bool wait, bool remove,
                              struct sl_err *err);
/* Waits for a lock that others may have too, if nobody has it alone; the file stays. */
SL_CHECK sl_status store_lock_shared(struct store_lock *lock, const char *path, struct sl_err *err);
void store_unlock(struct store_lock *lock); /* fd -1 is fine */

/* Makes `to` a file with the bytes of `from`: reflink, else hard link, else a copy. LIMIT: no room,
 * with both numbers. */
SL_CHECK sl_status store_clone_file(const char *from, const char *to, struct sl_err *err);

/* SHA-256 and size of a file. */
SL_CHECK sl_status store_hash_file(const char *path, char out_hex[STORE_DIGEST_SIZE],
                                   uint64_t *out_size, struct sl_err *err);

/* LIMIT when fewer than n + STORE_DISK_RESERVE_BYTES are free where `path` lies. */
SL_CHECK sl_status store_check_room(const char *path, uint64_t n, struct sl_err *err);

/* For each entry of a folder but "." and "..", in no order; an absent folder has none. Ends at the
 * first failure of fn. */
typedef sl_status store_entry_fn(void *ctx, const char *dir, const char *name, struct sl_err *err);
SL_CHECK sl_status store_each_entry(const char *dir, store_entry_fn *fn, void *ctx,
                                    struct sl_err *err);
