/* nats_log.h: what a nats-server writes to its standard error, on its way to a file that stays
 * within a limit. (The server's own limit keeps every file it has filled.)
 * Floor: grid.  Thread: the loop's.  Allocates: nothing.
 * Invariant: PATH and PATH.1 together stay under twice NATS_LOG_BYTES_MAX. A full disk loses lines
 * of the file, and nothing else. */
#pragma once
#include <stddef.h>

#define NATS_LOG_BYTES_MAX ((size_t)2 << 20) /* a reload is 300 bytes, a refused client 150 */
#define NATS_LOG_LINE_MAX 1024               /* longer lines reach the file whole, on_line cut */

struct nats_log {
    const char *path; /* borrowed */
    int fd;           /* -1: not open */
    size_t n_bytes;   /* of the file */
    void (*on_line)(void *ctx, const char *line);
    void *ctx;
    size_t n_line;
    char line[NATS_LOG_LINE_MAX];
};

/* Opens the file to append; where that fails, lines are told and not written. */
void nats_log_init(struct nats_log *log, const char *path,
                   void (*on_line)(void *ctx, const char *line), void *ctx);
void nats_log_done(struct nats_log *log);

/* on_line gets each line that has become complete, without its end. */
void nats_log_write(struct nats_log *log, const char *bytes, size_t n);
