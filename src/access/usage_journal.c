/* usage_journal.c: two files, written in turn. */
#include "access/usage_journal.h"

#include "access/usage_int.h"
#include "access/usage_record.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#define CHUNK_BYTES 65536 /* of one write: 128 rows and more, few turns have them */

enum state { READY, CURRENT, DRAINING };

/* `state` says whose the rest is: the thread's while DRAINING, else the loop's; but `identity` is
 * written by the thread alone. */
struct file {
    struct usage_journal_file at;
    uint64_t identity;
    uint64_t seq;      /* of the last record */
    uint64_t last_row; /* the ring's cursor after it, once DRAINING */
    bool broken;       /* what lies behind `len` could not be cut off */
    _Atomic int64_t len;
    _Atomic int state;
};

struct usage_journal {
    struct file files[2];
    int current;
    int64_t bytes_step, bytes_max;
    int64_t rest_until_ns; /* 0: no write has failed of late */
    uint8_t chunk[CHUNK_BYTES];
};

/* --- a pair of files --- */

const char *usage_journal_name(int n, int file, char out[24])
{
    snprintf(out, 24, "usage-%d%c.journal", n, "ab"[file]);
    return out;
}

const char *usage_journal_path(const char *db_path, int n, int file, char out[PATH_MAX])
{
    char name[24];
    const char *slash = strrchr(db_path, '/');
    int n_folder = slash ? (int)(slash - db_path) + 1 : 0;
    int len =
        snprintf(out, PATH_MAX, "%.*s%s", n_folder, db_path, usage_journal_name(n, file, name));
    if (len < 0 || len >= PATH_MAX) out[0] = '\0'; /* nothing is found there */
    return out;
}

static sl_status open_file(const char *path, bool create, int *out, struct sl_err *err)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
    *out = open(path, flags, 0600);
    if (*out >= 0) return SL_OK;
    return sl_err_errno(err, errno, "%s", path);
}

static sl_status lock_file(int fd, const char *path, struct sl_err *err)
{
    int rc;
    do rc = flock(fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc == 0) return SL_OK;
    if (errno == EWOULDBLOCK) return sl_err_set(err, SL_BUSY, "%s: in use", path);
    return sl_err_errno(err, errno, "%s", path);
}

/* A file that another user could have made is no reason to write into it. */
sl_status usage_journal_lock(const char *db_path, int n, bool create,
                             struct usage_journal_pair *out, struct sl_err *err)
{
    char path[PATH_MAX];
    struct usage_journal_file *files = out->files;
    files[0].fd = files[1].fd = -1;
    for (int i = 0; i < 2; i++) usage_journal_name(n, i, files[i].name);
    usage_journal_path(db_path, n, 0, path);
    sl_status status = open_file(path, create, &files[0].fd, err);
    if (status == SL_OK) status = lock_file(files[0].fd, path, err);
    /* A service that was killed between the two left only the first. */
    if (status == SL_OK)
        status = open_file(usage_journal_path(db_path, n, 1, path), true, &files[1].fd, err);
    if (status != SL_OK) usage_journal_unlock(out);
    return status;
}

void usage_journal_unlock(struct usage_journal_pair *pair)
{
    for (int i = 1; i >= 0; i--) {
        if (pair->files[i].fd >= 0) close(pair->files[i].fd);
        pair->files[i].fd = -1;
    }
}

/* --- life --- */

static uint64_t new_identity(void)
{
    uint64_t identity;
    if (getrandom(&identity, sizeof identity, GRND_NONBLOCK) == (ssize_t)sizeof identity)
        return identity;
    const int64_t now[2] = {sl_unix_time_ms(), sl_now_ns()};
    return sl_hash64(now, sizeof now, sl_hash_seed());
}

static sl_status empty(struct file *file, struct sl_err *err)
{
    uint8_t header[USAGE_RECORD_HEADER_BYTES];
    file->identity = new_identity();
    usage_record_header(header, file->identity);
    errno = ENOSPC; /* what a short write means */
    if (ftruncate(file->at.fd, 0) != 0 ||
        pwrite(file->at.fd, header, sizeof header, 0) != (ssize_t)sizeof header)
        return sl_err_errno(err, errno, "%s", file->at.name);
    file->seq = 0;
    file->broken = false;
    atomic_store(&file->len, (int64_t)sizeof header);
    return SL_OK;
}

sl_status usage_journal_create(struct usage_journal_pair *pair, const struct usage_journal_cfg *cfg,
                               struct usage_journal **out, struct sl_err *err)
{
    struct usage_journal *j = sl_calloc(1, sizeof *j);
    if (!j) {
        usage_journal_unlock(pair);
        return sl_err_set(err, SL_NOMEM, "usage: out of memory");
    }
    j->bytes_step = cfg->bytes_step ? cfg->bytes_step : USAGE_JOURNAL_STEP;
    j->bytes_max = cfg->bytes_max ? cfg->bytes_max : USAGE_JOURNAL_FULL * j->bytes_step;
    sl_status status = SL_OK;
    for (int i = 0; i < 2; i++) {
        j->files[i].at = pair->files[i];
        if (status == SL_OK) status = empty(&j->files[i], err);
    }
    if (status != SL_OK) goto fail;
    atomic_store(&j->files[0].state, CURRENT);
    *out = j;
    return SL_OK;
fail:
    usage_journal_destroy(j);
    return status;
}

void usage_journal_destroy(struct usage_journal *j)
{
    if (!j) return;
    struct usage_journal_pair pair = {{j->files[0].at, j->files[1].at}};
    usage_journal_unlock(&pair);
    sl_free(j);
}

void usage_journal_finish(struct usage_journal *j)
{
    for (int i = 0; i < 2; i++) {
        int rc = ftruncate(j->files[i].at.fd, 0);
        (void)rc; /* what stays is known to be stored */
    }
}

/* --- the loop's side --- */

/* The file that takes the next rows; NULL: none does. */
static struct file *file_for(struct usage_journal *j, uint64_t next_row)
{
    struct file *file = &j->files[j->current], *other = &j->files[!j->current];
    int64_t len = atomic_load(&file->len);
    if (len < j->bytes_step && !file->broken) return file;
    if (atomic_load(&other->state) == READY) {
        file->last_row = next_row;
        atomic_store(&file->state, DRAINING);
        atomic_store(&other->state, CURRENT);
        j->current = !j->current;
        return other;
    }
    return len < j->bytes_max && !file->broken ? file : NULL;
}

/* Fills the chunk. Returns the end of the rows in it. */
static uint64_t encode(struct usage_journal *j, const struct file *file,
                       const struct usage_ring *ring, uint64_t from, uint64_t to, size_t *n_bytes)
{
    uint64_t seq = file->seq;
    *n_bytes = 0;
    for (; from < to && *n_bytes + USAGE_RECORD_MAX <= CHUNK_BYTES; from++)
        *n_bytes += usage_record_write(j->chunk + *n_bytes, file->identity, ++seq,
                                       &usage_slot_at(ring, from)->row);
    return from;
}

/* Notes what of the chunk is in the file. Returns the end of those rows. */
static uint64_t take_written(struct usage_journal *j, struct file *file,
                             const struct usage_ring *ring, uint64_t from, size_t n_written)
{
    size_t at = 0;
    while (at + USAGE_RECORD_HEAD_BYTES <= n_written) {
        size_t length = usage_record_length(j->chunk + at);
        if (length > n_written - at) break;
        struct usage_slot *slot = usage_slot_at(ring, from++);
        slot->seq = ++file->seq;
        slot->file = (uint8_t)(1 + (file - j->files));
        at += length;
    }
    int64_t len = atomic_load(&file->len) + (int64_t)at;
    atomic_store(&file->len, len);
    if (at < n_written) file->broken = ftruncate(file->at.fd, len) != 0;
    return from;
}

uint64_t usage_journal_append(struct usage_journal *j, const struct usage_ring *ring, uint64_t from,
                              uint64_t to)
{
    if (j->rest_until_ns) {
        if (sl_now_ns() < j->rest_until_ns) return from;
        j->rest_until_ns = 0;
    }
    while (from < to) {
        struct file *file = file_for(j, from);
        size_t n_bytes;
        if (!file) break;
        uint64_t end = encode(j, file, ring, from, to, &n_bytes);
        ssize_t n = pwrite(file->at.fd, j->chunk, n_bytes, atomic_load(&file->len));
        from = take_written(j, file, ring, from, n > 0 ? (size_t)n : 0);
        if (from == end) continue;
        j->rest_until_ns = sl_now_ns() + USAGE_JOURNAL_REST_NS;
        break;
    }
    return from;
}

/* --- the thread's side --- */

sl_status usage_journal_clean(struct usage_journal *j, uint64_t stored, struct sl_err *err)
{
    for (int i = 0; i < 2; i++) {
        struct file *file = &j->files[i];
        if (atomic_load(&file->state) != DRAINING || file->last_row > stored) continue;
        sl_status status = empty(file, err);
        if (status != SL_OK) return status;
        atomic_store(&file->state, READY);
    }
    return SL_OK;
}

const char *usage_journal_file_name(const struct usage_journal *j, int file)
{
    return j->files[file].at.name;
}

uint64_t usage_journal_identity(const struct usage_journal *j, int file)
{
    return j->files[file].identity;
}

int64_t usage_journal_bytes(const struct usage_journal *j)
{
    return atomic_load(&j->files[0].len) + atomic_load(&j->files[1].len);
}
