/* worker_words.h: what a worker says on stderr, line by line, and its last lines, which often tell
 * why it died.
 * Floor: exec.  Thread: the loop's.  Allocates: nothing.
 * Invariant: whatever comes in, what comes out are printable lines of bounded length. */
#pragma once
#include <stddef.h>

#define WORKER_LINE_MAX 240 /* longer lines come in pieces */
#define WORKER_LINES_KEPT 3

struct worker_words {
    char line[WORKER_LINE_MAX + 1]; /* the one that has not ended */
    size_t n_line;
    char kept[WORKER_LINES_KEPT][WORKER_LINE_MAX + 1]; /* a ring */
    size_t n_lines;                                    /* ever */
    void (*on_line)(void *ctx, const char *line);      /* NULL is fine */
    void *ctx;
};

void worker_words_add(struct worker_words *words, const char *bytes, size_t n);
void worker_words_end(struct worker_words *words); /* a last line without its end is one too */

/* The lines kept, oldest first, joined by " | ", cut to out_size with its NUL. "" when it said
 * nothing. */
void worker_words_last(const struct worker_words *words, char *out, size_t out_size);
