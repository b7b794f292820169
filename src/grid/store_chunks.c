#include "grid/store_chunks.h"
#include "base/mem.h"
#include "grid/chunk_list.h"
#include "grid/store_int.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)256 << 10) /* read and hashed at once, at most */

static sl_status list_path(const struct store *store, const char *digest, char out[PATH_MAX],
                           struct sl_err *err)
{
    return store_path(out, err, "%s/chunks/sha256-%s", store->root, digest);
}

static sl_status open_blob(const struct store *store, const char *digest, int *out_fd,
                           uint64_t *out_size, struct sl_err *err)
{
    char path[PATH_MAX];
    struct stat st;
    sl_status status = store_blob_path(store, digest, path, err);
    if (status != SL_OK) return status;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return sl_err_errno(err, errno, "blob %.12s", digest);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return sl_err_set(err, SL_IO, "blob %.12s is no file", digest);
    }
    *out_fd = fd;
    *out_size = (uint64_t)st.st_size;
    return SL_OK;
}

/* The next n bytes of the file into the hash. */
static sl_status hash_bytes(int fd, struct sha256 *sha, char *piece, uint64_t n, struct sl_err *err)
{
    sl_status status = SL_OK;
    while (n > 0 && status == SL_OK) {
        ssize_t got = read(fd, piece, n < PIECE_BYTES ? (size_t)n : PIECE_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sl_err_errno(err, errno, "read a blob");
        if (got == 0) return sl_err_set(err, SL_IO, "a blob was shortened");
        status = sha256_add(sha, piece, (size_t)got);
        n -= (uint64_t)got;
    }
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "SHA-256 failed");
}

static sl_status hash_chunks(int fd, struct chunk_list *list, const atomic_bool *cancel,
                             struct sl_err *err)
{
    struct sha256 sha = {0};
    char *piece = sl_malloc(PIECE_BYTES);
    sl_status status = piece ? sha256_init(&sha) : SL_NOMEM;
    if (status != SL_OK) (void)sl_err_set(err, status, "list of chunks");
    for (uint32_t i = 0; i < list->n && status == SL_OK; i++) {
        if (cancel && atomic_load(cancel)) {
            status = sl_err_set(err, SL_CANCELLED, "stopped");
            break;
        }
        status = hash_bytes(fd, &sha, piece, chunk_end(list, i) - chunk_begin(list, i), err);
        if (status == SL_OK && sha256_finish(&sha, list->sums[i]) != SL_OK)
            status = sl_err_set(err, SL_INTERNAL, "SHA-256 failed");
    }
    sha256_done(&sha);
    sl_free(piece);
    return status;
}

static sl_status make_list(int fd, uint64_t size, const atomic_bool *cancel, struct sl_buf *out,
                           struct sl_err *err)
{
    struct chunk_list list;
    sl_status status = chunk_list_init(&list, size, err);
    if (status != SL_OK) return status;
    status = hash_chunks(fd, &list, cancel, err);
    if (status == SL_OK && (status = chunk_list_write(&list, out)) != SL_OK)
        (void)sl_err_set(err, status, "list of chunks: %s", sl_status_text(status));
    chunk_list_done(&list);
    return status;
}

/* Appends the list that is kept, if it is sound and of a blob of that size. */
static bool read_kept(const char *path, uint64_t size, struct sl_buf *out)
{
    struct chunk_list list = {0};
    size_t from = out->len;
    bool ok = store_read_file(path, out, NULL) == SL_OK &&
              chunk_list_parse(out->data + from, out->len - from, &list, NULL) == SL_OK &&
              list.size == size;
    chunk_list_done(&list);
    if (!ok) sl_buf_truncate(out, from);
    return ok;
}

sl_status store_chunks(const struct store *store, const char *digest, const atomic_bool *cancel,
                       struct sl_buf *out, struct sl_err *err)
{
    char path[PATH_MAX];
    int fd = -1;
    uint64_t size = 0;
    size_t from = out->len;
    sl_status status = list_path(store, digest, path, err);
    if (status == SL_OK) status = open_blob(store, digest, &fd, &size, err);
    if (status != SL_OK) return status;
    if (!read_kept(path, size, out)) {
        status = make_list(fd, size, cancel, out, err);
        /* A store that cannot be written to gives lists too. */
        if (status == SL_OK) (void)!store_write_file(path, out->data + from, out->len - from, NULL);
    }
    close(fd);
    return status;
}

void store_chunks_drop(const struct store *store, const char *digest)
{
    char path[PATH_MAX];
    if (list_path(store, digest, path, NULL) == SL_OK) unlink(path);
}

static sl_status sweep_entry(void *ctx, const char *dir, const char *name, struct sl_err *err)
{
    const struct store *store = ctx;
    char blob[PATH_MAX], path[PATH_MAX];
    sl_status status = store_path(blob, err, "%s/blobs/%s", store->root, name);
    if (status == SL_OK) status = store_path(path, err, "%s/%s", dir, name);
    if (status == SL_OK && access(blob, F_OK) != 0) unlink(path);
    return status;
}

sl_status store_chunks_sweep(const struct store *store, struct sl_err *err)
{
    char dir[PATH_MAX];
    sl_status status = store_path(dir, err, "%s/chunks", store->root);
    return status == SL_OK ? store_each_entry(dir, sweep_entry, (void *)store, err) : status;
}
