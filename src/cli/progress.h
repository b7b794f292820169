/* progress.h: a line on stderr that shows how far something is: a bar, bytes, rate, time left.
 * Floor: cli.  Thread: main.  Allocates: nothing.
 * Invariant: nothing is written unless stderr is a terminal, so that logs stay clean. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_SAMPLES 32 /* of the last seconds, for the rate */

struct progress {
    bool terminal;
    bool shown; /* a line stands there, without its end */
    int64_t drawn_ns;
    int n_samples, next_sample;
    struct {
        int64_t at_ns;
        uint64_t done;
    } samples[PROGRESS_SAMPLES];
};

void progress_init(struct progress *progress);
/* Draws, but not more often than the eye sees. total 0: unknown. now_ns is monotonic. */
void progress_show(struct progress *progress, const char *label, uint64_t done, uint64_t total,
                   int64_t now_ns);
/* A line of text that replaces the bar until the next one. */
void progress_note(struct progress *progress, const char *text);
void progress_end(struct progress *progress); /* the line is over; what was shown stays */

/* Bytes a second over the samples; 0: not known yet. */
double progress_rate(const struct progress *progress);
/* The line itself, at most `columns` wide. Returns out. */
const char *progress_line(const char *label, uint64_t done, uint64_t total, double rate,
                          int columns, char *out, int out_size);
