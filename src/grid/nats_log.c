#include "grid/nats_log.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void open_file(struct nats_log *log)
{
    struct stat st;
    log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log->n_bytes = log->fd >= 0 && fstat(log->fd, &st) == 0 ? (size_t)st.st_size : 0;
}

static void close_file(struct nats_log *log)
{
    if (log->fd >= 0) close(log->fd);
    log->fd = -1;
}

void nats_log_init(struct nats_log *log, const char *path,
                   void (*on_line)(void *ctx, const char *line), void *ctx)
{
    *log = (struct nats_log){.path = path, .fd = -1, .on_line = on_line, .ctx = ctx};
    open_file(log);
}

void nats_log_done(struct nats_log *log)
{
    close_file(log);
}

static void make_room(struct nats_log *log, size_t n)
{
    char old[PATH_MAX];
    if (log->n_bytes + n <= NATS_LOG_BYTES_MAX) return;
    close_file(log);
    int length = snprintf(old, sizeof old, "%s.1", log->path);
    if (length < 0 || (size_t)length >= sizeof old || rename(log->path, old) != 0)
        (void)unlink(log->path);
    open_file(log);
}

static void take_lines(struct nats_log *log, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != '\n') {
            if (log->n_line < sizeof log->line - 1) log->line[log->n_line++] = bytes[i];
            continue;
        }
        log->line[log->n_line] = '\0';
        log->n_line = 0;
        log->on_line(log->ctx, log->line);
    }
}

void nats_log_write(struct nats_log *log, const char *bytes, size_t n)
{
    make_room(log, n);
    ssize_t written = log->fd >= 0 ? write(log->fd, bytes, n) : 0;
    if (written > 0) log->n_bytes += (size_t)written;
    take_lines(log, bytes, n);
}
