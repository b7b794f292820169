/* usage_recover.c: journals into the database. */
#include "access/usage_recover.h"

#include "access/usage_int.h"
#include "access/usage_record.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROWS_AT_ONCE 4096                                       /* of a transaction: some 20 ms */
#define FILE_BYTES_MAX (USAGE_JOURNAL_MAX + (INT64_C(1) << 20)) /* the last write goes past it */
#define POLL_NS 2000000
#define LOOK (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)

/* A whole file in memory. */
struct image {
    uint8_t *bytes;
    size_t n;
};

static sl_status read_image(int fd, const char *name, struct image *out, struct sl_err *err)
{
    struct stat st;
    *out = (struct image){0};
    if (fstat(fd, &st) != 0) return sl_err_errno(err, errno, "%s", name);
    if (!S_ISREG(st.st_mode)) return sl_err_set(err, SL_INVALID, "%s: not a file", name);
    size_t n_max = (size_t)(st.st_size < FILE_BYTES_MAX ? st.st_size : FILE_BYTES_MAX);
    out->bytes = sl_malloc(n_max);
    if (!out->bytes) return sl_err_set(err, SL_NOMEM, "%s: out of memory", name);
    while (out->n < n_max) {
        ssize_t n = pread(fd, out->bytes + out->n, n_max - out->n, (off_t)out->n);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            sl_free(out->bytes);
            return sl_err_errno(err, errno, "%s", name);
        }
        if (n == 0) break;
        out->n += (size_t)n;
    }
    return SL_OK;
}

/* --- storing --- */

/* One transaction: rows after `applied`, and the mark. *done: that was the last one. */
static sl_status store_some(struct usage_writer *writer, const char *name,
                            struct usage_record_reader *reader, bool *done, int64_t *n_rows,
                            struct sl_err *err)
{
    struct usage_row row;
    uint64_t applied = 0;
    int64_t n = 0;
    sl_status status = db_begin(writer->db, err);
    if (status != SL_OK) return status;
    status = usage_applied(writer, name, reader->identity, &applied, err);
    for (int i = 0; status == SL_OK && i < ROWS_AT_ONCE && !*done; i++) {
        *done = !usage_record_next(reader, &row);
        if (*done || reader->seq <= applied) continue;
        status = usage_insert(writer->insert, &row, err);
        n++;
    }
    if (status == SL_OK && n) status = usage_mark(writer, name, reader->identity, reader->seq, err);
    status = db_end(writer->db, status, err);
    if (status == SL_OK) *n_rows += n;
    return status;
}

static sl_status recover_file(struct usage_writer *writer, const struct usage_journal_file *file,
                              struct usage_recovery *out, struct sl_err *err)
{
    struct image image;
    struct usage_record_reader reader;
    sl_status status = read_image(file->fd, file->name, &image, err);
    out->n_unreadable += status != SL_OK;
    if (status != SL_OK) return status == SL_NOMEM ? status : SL_OK;
    bool done = !usage_record_reader_init(&reader, image.bytes, image.n);
    while (status == SL_OK && !done)
        status = store_some(writer, file->name, &reader, &done, &out->n_rows, err);
    sl_free(image.bytes);
    if (status != SL_OK) return status;
    if (image.n == 0 || ftruncate(file->fd, 0) != 0) return SL_OK; /* nothing, or marked anyway */
    out->n_bytes_left += (int64_t)(image.n - reader.at);
    return SL_OK;
}

static sl_status recover_pair(struct usage_writer *writer, const struct usage_journal_pair *pair,
                              struct usage_recovery *out, struct sl_err *err)
{
    sl_status status = recover_file(writer, &pair->files[0], out, err);
    return status == SL_OK ? recover_file(writer, &pair->files[1], out, err) : status;
}

sl_status usage_recover(struct db *db, const char *db_path, struct usage_journal_pair *kept,
                        struct usage_recovery *out, struct sl_err *err)
{
    struct usage_writer writer;
    *out = (struct usage_recovery){0};
    if (kept) kept->files[0].fd = kept->files[1].fd = -1;
    sl_status status = usage_writer_init(&writer, db, err);
    for (int n = 1; status == SL_OK && n <= USAGE_JOURNAL_PAIRS; n++) {
        struct usage_journal_pair pair;
        struct sl_err ignored = SL_ERR_INIT;
        int n_unreadable = out->n_unreadable;
        bool wanted = kept && kept->files[0].fd < 0;
        sl_status locked = usage_journal_lock(db_path, n, wanted, &pair, &ignored);
        out->n_in_use += locked == SL_BUSY;
        if (locked != SL_OK) continue;
        status = recover_pair(&writer, &pair, out, err);
        if (status == SL_OK && wanted && out->n_unreadable == n_unreadable)
            *kept = pair;
        else
            usage_journal_unlock(&pair);
    }
    usage_writer_done(&writer);
    if (status != SL_OK && kept) usage_journal_unlock(kept);
    return status;
}

/* --- waiting --- */

/* How far a file that a service writes has come. */
struct goal {
    char name[24], path[PATH_MAX];
    uint64_t identity, seq; /* seq 0: nothing to wait for */
};

static sl_status read_goal(const char *db_path, int n, int file, struct goal *goal,
                           struct sl_err *err)
{
    struct image image;
    struct usage_record_reader reader;
    struct usage_row row;
    goal->seq = 0;
    usage_journal_name(n, file, goal->name);
    int fd = open(usage_journal_path(db_path, n, file, goal->path), LOOK);
    if (fd < 0) return SL_OK;
    sl_status status = read_image(fd, goal->name, &image, err);
    close(fd);
    if (status != SL_OK) return status == SL_NOMEM ? status : SL_OK;
    if (usage_record_reader_init(&reader, image.bytes, image.n)) {
        while (usage_record_next(&reader, &row)) continue;
        goal->identity = reader.identity;
        goal->seq = reader.seq;
    }
    sl_free(image.bytes);
    return SL_OK;
}

/* A file with another identity was emptied since, and only what is stored is. */
static bool is_emptied(const struct goal *goal)
{
    uint8_t bytes[USAGE_RECORD_HEADER_BYTES];
    struct usage_record_reader reader;
    int fd = open(goal->path, LOOK);
    ssize_t n = fd < 0 ? 0 : pread(fd, bytes, sizeof bytes, 0);
    if (fd >= 0) close(fd);
    return n <= 0 || !usage_record_reader_init(&reader, bytes, (size_t)n) ||
           reader.identity != goal->identity;
}

static sl_status await_goal(struct usage_writer *writer, const struct goal *goal, int64_t end_ns,
                            struct sl_err *err)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    uint64_t applied = 0;
    sl_status status = SL_OK;
    while (goal->seq) {
        status = usage_applied(writer, goal->name, goal->identity, &applied, err);
        if (status != SL_OK || applied >= goal->seq || is_emptied(goal)) break;
        if (sl_now_ns() >= end_ns) break;
        nanosleep(&pause, NULL);
    }
    return status;
}

sl_status usage_await(struct db *db, const char *db_path, int64_t wait_ns, struct sl_err *err)
{
    struct usage_writer writer;
    struct goal goal;
    int64_t end_ns = sl_now_ns() + wait_ns;
    sl_status status = usage_writer_init(&writer, db, err);
    for (int i = 0; status == SL_OK && i < 2 * USAGE_JOURNAL_PAIRS; i++) {
        status = read_goal(db_path, 1 + i / 2, i % 2, &goal, err);
        if (status == SL_OK) status = await_goal(&writer, &goal, end_ns, err);
    }
    usage_writer_done(&writer);
    return status;
}
