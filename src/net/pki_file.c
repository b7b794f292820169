/* pki_file.c: small files of credentials: whole or not at all, and the owner's alone. */
#include "net/pki_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES 4096

static sl_status read_all(int fd, const char *path, struct sl_buf *out, struct sl_err *err)
{
    char bytes[READ_BYTES];
    size_t begin = out->len;
    sl_status status = SL_OK;
    ssize_t n = 1;
    while (status == SL_OK && n > 0) {
        n = read(fd, bytes, sizeof bytes);
        if (n < 0) {
            status = sl_err_errno(err, errno, "%s", path);
        } else if (out->len - begin + (size_t)n > PKI_TEXT_MAX) {
            status = sl_err_set(err, SL_LIMIT, "%s: longer than %d bytes", path, PKI_TEXT_MAX);
        } else if (memchr(bytes, '\0', (size_t)n)) {
            status = sl_err_set(err, SL_CORRUPT, "%s: not a text", path);
        } else if ((status = sl_buf_add(out, bytes, (size_t)n)) != SL_OK) {
            sl_err_set(err, status, "%s: no room for it", path);
        }
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    return status;
}

static sl_status check_file(int fd, const char *path, bool secret, struct sl_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return sl_err_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode)) return sl_err_set(err, SL_IO, "%s: not a file", path);
    if (secret && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return sl_err_set(err, SL_DENIED,
                          "%s: others may use this key; if they did not, chmod 600 it", path);
    }
    return SL_OK;
}

static sl_status file_read(const char *path, bool secret, struct sl_buf *out, struct sl_err *err)
{
    /* O_NONBLOCK: a pipe in its place would keep us waiting for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    size_t begin = out->len;
    sl_status status = check_file(fd, path, secret, err);
    if (status == SL_OK) status = read_all(fd, path, out, err);
    if (status != SL_OK) sl_buf_truncate(out, begin);
    close(fd);
    return status;
}

sl_status pki_file_read(const char *path, struct sl_buf *out, struct sl_err *err)
{
    return file_read(path, false, out, err);
}

sl_status pki_file_read_secret(const char *path, struct sl_buf *out, struct sl_err *err)
{
    return file_read(path, true, out, err);
}

static sl_status write_all(int fd, const char *path, const char *bytes, size_t n,
                           struct sl_err *err)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return sl_err_errno(err, errno, "%s", path);
        bytes += written;
        n -= (size_t)written;
    }
    return fsync(fd) == 0 ? SL_OK : sl_err_errno(err, errno, "%s", path);
}

/* So that the new name is there after a power cut. */
static sl_status sync_folder(const char *path, struct sl_err *err)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    /* Some file systems have no fsync of a folder; then there is nothing to wait for. */
    int failed = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    return failed ? sl_err_errno(err, failed, "%s", path) : SL_OK;
}

sl_status pki_file_write(const char *path, const void *bytes, size_t n, struct sl_err *err)
{
    char fresh[PATH_MAX];
    int len = snprintf(fresh, sizeof fresh, "%s.new", path);
    if (len < 0 || (size_t)len >= sizeof fresh)
        return sl_err_set(err, SL_INVALID, "%.200s: too long a path", path);
    if (unlink(fresh) != 0 && errno != ENOENT) return sl_err_errno(err, errno, "%s", fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) return sl_err_errno(err, errno, "%s", fresh);
    sl_status status = write_all(fd, fresh, bytes, n, err);
    close(fd);
    if (status == SL_OK && rename(fresh, path) != 0)
        status = sl_err_errno(err, errno, "rename to %s", path);
    if (status != SL_OK) {
        unlink(fresh);
        return status;
    }
    return sync_folder(path, err);
}
