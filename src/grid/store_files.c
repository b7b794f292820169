#include "grid/store_files.h"
#include "net/sha256.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define COPY_BYTES (1u << 20) /* a read of a file that is hashed or copied */
#define LOCK_TRIES 1000       /* the lock file was replaced under us so often: give up */

sl_status store_path(char out[PATH_MAX], struct sl_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(out, PATH_MAX, fmt, args);
    va_end(args);
    if (n >= 0 && n < PATH_MAX) return SL_OK;
    return sl_err_set(err, SL_INVALID, "a path is longer than %d", PATH_MAX - 1);
}

sl_status store_make_dirs(const char *path, struct sl_err *err)
{
    char part[PATH_MAX];
    sl_status status = store_path(part, err, "%s", path);
    if (status != SL_OK) return status;
    for (char *p = part + 1;; p++) {
        char c = *p;
        if (c != '/' && c != '\0') continue;
        *p = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return sl_err_errno(err, errno, "make the folder %s", part);
        *p = c;
        if (c == '\0') return SL_OK;
    }
}

sl_status store_sync_dir(const char *path, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    /* Some file systems have no fsync of a folder; then there is nothing to wait for. */
    int failed = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    return failed ? sl_err_errno(err, failed, "%s", path) : SL_OK;
}

sl_status store_sync_parent(const char *path, struct sl_err *err)
{
    char dir[PATH_MAX];
    sl_status status = store_path(dir, err, "%s", path);
    if (status != SL_OK) return status;
    char *slash = strrchr(dir, '/');
    if (slash) *slash = '\0';
    return store_sync_dir(slash ? dir : ".", err);
}

static sl_status read_fd(int fd, const char *path, struct sl_buf *out, struct sl_err *err)
{
    char chunk[16384];
    struct stat st;
    if (fstat(fd, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode)) return sl_err_set(err, SL_CORRUPT, "%s: not a regular file", path);
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return sl_err_errno(err, errno, "%s", path);
        if (n == 0) return SL_OK;
        sl_status status = sl_buf_add(out, chunk, (size_t)n);
        if (status != SL_OK)
            return sl_err_set(err, status, "%s: more than %zu bytes", path, out->max);
    }
}

sl_status store_read_file(const char *path, struct sl_buf *out, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ELOOP) return sl_err_set(err, SL_CORRUPT, "%s: a symbolic link", path);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = read_fd(fd, path, out, err);
    close(fd);
    return status;
}

static sl_status write_all(int fd, const char *path, const void *bytes, size_t n,
                           struct sl_err *err)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == ENOSPC)
            return sl_err_set(err, SL_LIMIT, "%s: the disk is full", path);
        if (done < 0) return sl_err_errno(err, errno, "%s", path);
        p += done;
        n -= (size_t)done;
    }
    return SL_OK;
}

static sl_status write_and_sync(const char *path, const void *bytes, size_t n, struct sl_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = write_all(fd, path, bytes, n, err);
    if (status == SL_OK && fsync(fd) != 0) status = sl_err_errno(err, errno, "%s", path);
    close(fd);
    return status;
}

sl_status store_write_file(const char *path, const void *bytes, size_t n, struct sl_err *err)
{
    char dir[PATH_MAX], hidden[PATH_MAX];
    const char *slash = strrchr(path, '/');
    sl_status status = store_path(dir, err, "%.*s", (int)(slash - path), path);
    if (status == SL_OK) status = store_make_dirs(dir, err);
    if (status == SL_OK) status = store_path(hidden, err, "%s/.%s.%d", dir, slash + 1, getpid());
    if (status != SL_OK) return status;
    status = write_and_sync(hidden, bytes, n, err);
    if (status == SL_OK && rename(hidden, path) != 0)
        status = sl_err_errno(err, errno, "rename to %s", path);
    if (status != SL_OK)
        unlink(hidden);
    else
        status = store_sync_dir(dir, err);
    return status;
}

/* Is the locked file still the one that has the name? Who held it before may have removed it. */
static bool is_current(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
           held.st_dev == named.st_dev;
}

static int flock_again(int fd, int how)
{
    int done;
    do done = flock(fd, how);
    while (done != 0 && errno == EINTR);
    return done;
}

static sl_status lock_file(struct store_lock *lock, const char *path, int how, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (int i = 0; i < LOCK_TRIES && status == SL_OK; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0) return sl_err_errno(err, errno, "%s", path);
        if (flock_again(fd, how) != 0)
            status = errno == EWOULDBLOCK
                         ? sl_err_set(err, SL_BUSY, "%s: in use by another process", path)
                         : sl_err_errno(err, errno, "%s", path);
        else if (is_current(fd, path))
            lock->fd = fd;
        if (lock->fd >= 0) return SL_OK;
        close(fd);
    }
    return status == SL_OK ? sl_err_set(err, SL_BUSY, "%s: cannot be locked", path) : status;
}

sl_status store_lock(struct store_lock *lock, const char *path, bool wait, bool remove,
                     struct sl_err *err)
{
    lock->fd = -1;
    sl_status status = store_path(lock->path, err, "%s", remove ? path : "");
    if (status != SL_OK) return status;
    return lock_file(lock, path, wait ? LOCK_EX : LOCK_EX | LOCK_NB, err);
}

sl_status store_lock_shared(struct store_lock *lock, const char *path, struct sl_err *err)
{
    lock->fd = -1;
    lock->path[0] = '\0';
    return lock_file(lock, path, LOCK_SH, err);
}

void store_unlock(struct store_lock *lock)
{
    if (lock->fd < 0) return;
    if (lock->path[0]) unlink(lock->path);
    close(lock->fd);
    lock->fd = -1;
}

static const char *gigabytes(uint64_t bytes, char out[32])
{
    snprintf(out, 32, "%.3f GB", (double)bytes / 1e9);
    return out;
}

sl_status store_check_room(const char *path, uint64_t n, struct sl_err *err)
{
    struct statvfs fs;
    char need[32], have[32];
    if (statvfs(path, &fs) != 0) return sl_err_errno(err, errno, "%s", path);
    uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t usable =
        available > STORE_DISK_RESERVE_BYTES ? available - STORE_DISK_RESERVE_BYTES : 0;
    if (n <= usable) return SL_OK;
    return sl_err_set(err, SL_LIMIT,
                      "not enough room in %s: %s needed, %s free; remove models "
                      "(starlane rm) or set STARLANE_HOME to another disk",
                      path, gigabytes(n, need), gigabytes(usable, have));
}

static sl_status copy_bytes(int from, int to, const char *path, struct sl_err *err)
{
    struct stat st;
    if (fstat(from, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = store_check_room(path, (uint64_t)st.st_size, err);
    char *chunk = status == SL_OK ? sl_malloc(COPY_BYTES) : NULL;
    if (status == SL_OK && !chunk) status = sl_err_set(err, SL_NOMEM, "%s", path);
    while (status == SL_OK) {
        ssize_t n = read(from, chunk, COPY_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = sl_err_errno(err, errno, "read");
        if (n <= 0) break;
        status = write_all(to, path, chunk, (size_t)n, err);
    }
    sl_free(chunk);
    return status;
}

sl_status store_clone_file(const char *from, const char *to, struct sl_err *err)
{
    sl_status status = SL_OK;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) return sl_err_errno(err, errno, "%s", from);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0) status = sl_err_errno(err, errno, "%s", to);
    if (status == SL_OK && ioctl(out, FICLONE, in) != 0) {
        unlink(to);
        /* A link is made of the name, which may be another file by now: the hash, taken of the new
         * name later, says what it is. */
        if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) != 0) {
            close(out);
            out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            status = out < 0 ? sl_err_errno(err, errno, "%s", to) : copy_bytes(in, out, to, err);
        }
    }
    if (status == SL_OK && fsync(out) != 0) status = sl_err_errno(err, errno, "%s", to);
    if (out >= 0) close(out);
    close(in);
    return status;
}

static sl_status hash_fd(int fd, const char *path, struct sha256 *sha, uint64_t *out_size,
                         struct sl_err *err)
{
    char *chunk = sl_malloc(COPY_BYTES);
    sl_status status = chunk ? SL_OK : sl_err_set(err, SL_NOMEM, "%s", path);
    *out_size = 0;
    while (status == SL_OK) {
        ssize_t n = read(fd, chunk, COPY_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = sl_err_errno(err, errno, "%s", path);
        if (n <= 0) break;
        *out_size += (uint64_t)n;
        status = sha256_add(sha, chunk, (size_t)n);
    }
    sl_free(chunk);
    return status;
}

sl_status store_hash_file(const char *path, char out_hex[STORE_DIGEST_SIZE], uint64_t *out_size,
                          struct sl_err *err)
{
    struct sha256 sha;
    unsigned char digest[SHA256_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = sha256_init(&sha);
    if (status == SL_OK) {
        status = hash_fd(fd, path, &sha, out_size, err);
        if (status == SL_OK) status = sha256_finish(&sha, digest);
        sha256_done(&sha);
    }
    close(fd);
    if (status == SL_OK) sha256_hex(digest, out_hex);
    if (status != SL_OK && err && err->status == SL_OK)
        return sl_err_set(err, status, "%s: SHA-256 failed", path);
    return status;
}

sl_status store_each_entry(const char *dir, store_entry_fn *fn, void *ctx, struct sl_err *err)
{
    sl_status status = SL_OK;
    DIR *stream = opendir(dir);
    if (!stream && (errno == ENOENT || errno == ENOTDIR)) return SL_OK;
    if (!stream) return sl_err_errno(err, errno, "%s", dir);
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry && errno) status = sl_err_errno(err, errno, "%s", dir);
        if (!entry || status != SL_OK) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        status = fn(ctx, dir, entry->d_name, err);
        if (status != SL_OK) break;
    }
    closedir(stream);
    return status;
}
