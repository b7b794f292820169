/* calibrate_int.h: the child that measures, for who waits for it and for who has a loop. Private to
 * calibrat*.c. */
#pragma once
#include "grid/calibrate.h"
#include <sys/types.h>

struct calibrate_child {
    pid_t pid; /* -1: none */
    int fd;    /* of what it writes; -1: none */
    struct sl_buf text;
};

/* Starts it; background: at low priority. */
SL_CHECK sl_status calibrate_child_start(const char *program, const char *home, int32_t n_threads,
                                         bool background, struct calibrate_child *out,
                                         struct sl_err *err);
/* Reads what there is. *out_done: it has closed its end. */
SL_CHECK sl_status calibrate_child_read(struct calibrate_child *child, bool *out_done,
                                        struct sl_err *err);
/* After its end: what it measured. UNAVAILABLE: it failed, and what it said. */
SL_CHECK sl_status calibrate_child_result(struct calibrate_child *child, struct calibration *out,
                                          struct sl_err *err);
void calibrate_child_done(struct calibrate_child *child); /* ends it if it runs */
