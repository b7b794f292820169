/* calibrate.h: how fast this machine computes, measured once and kept: what the planner of split
 * models (sched/split.h) and the reports to other members go by.
 * Floor: grid.  Thread: calibration_read and calibration_write: any; a `struct calibrator` belongs
 * to its loop's thread.  Allocates: the calibrator.
 * The measuring runs in a child process at low priority ("starlane calibrate --child"), for it
 * calls kernels that could fault; about five seconds. HOME/grid/calibration.json holds the result
 * under a key of what it depends on; another key means measuring again. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "sched/split.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct sl_json;
struct sl_json_value;

#define CALIBRATION_TEXT_MAX 128
#define CALIBRATION_BYTES_MAX 65536 /* of the file */

/* What a measurement holds for. */
struct calibration_key {
    char version[32];               /* of the program */
    char cpu[CALIBRATION_TEXT_MAX]; /* the processor's name */
    char variant[32];               /* ggml's kernels that were chosen: "zen4" */
    char products[32];              /* our own for quantised weights: "amx"; "ggml": none */
    int32_t n_threads;
    double cpu_quota;    /* CPUs that the control group grants; 0: no limit */
    double cpu_period_s; /* over which it counts them; 0: no limit */
};

struct calibration {
    struct calibration_key key;
    struct split_machine machine;
    int64_t measured_unix_s;
    double took_s;
};

/* Of this process on this machine. n_threads 0: as many as an engine would take. UNAVAILABLE: no
 * CPU backend. */
SL_CHECK sl_status calibration_key_now(const char *version, int32_t n_threads,
                                       struct calibration_key *out, struct sl_err *err);
bool calibration_key_equal(const struct calibration_key *a, const struct calibration_key *b);

/* The cached result. NOT_FOUND: none; CORRUPT: the file makes no sense; IO. */
SL_CHECK sl_status calibration_read(const char *home, struct calibration *out, struct sl_err *err);
/* Replaces the cache in one step. */
SL_CHECK sl_status calibration_write(const char *home, const struct calibration *calibration,
                                     struct sl_err *err);

/* Measures here and now, in this process: what the child does. `dir` is a folder whose files are
 * read to see how fast the disk is; NULL: none. UNAVAILABLE: no CPU backend; NOMEM. */
SL_CHECK sl_status calibration_measure(const struct calibration_key *key, const char *dir,
                                       struct calibration *out, struct sl_err *err);

/* Measures in a child, waits for it and writes the cache: for the command line. program NULL: this
 * executable. UNAVAILABLE: the child died, or took longer than CALIBRATION_TIMEOUT_MS. */
SL_CHECK sl_status calibration_run(const char *program, const char *home, int32_t n_threads,
                                   struct calibration *out, struct sl_err *err);
#define CALIBRATION_TIMEOUT_MS 240000 /* five seconds of work, on a twentieth of a slow CPU */

/* JSON of a calibration, and back. CORRUPT names the member. */
void calibration_put(struct sl_json *json, const struct calibration *calibration);
SL_CHECK sl_status calibration_get(const struct sl_json_value *value, struct calibration *out,
                                   struct sl_err *err);

/* A report carries `machine` as it is: grid_report.machine (grid_msg.h). */

/* --- the service's: measures in the background when the cache has nothing that fits --- */

struct calibrator; /* opaque */

struct calibrator_cfg {
    struct loop *loop;
    const char *home, *version; /* of the program */
    const char *program;        /* NULL: this executable */
    int32_t n_threads;          /* of a worker; 0: as many as an engine would take */
    int64_t delay_ns;           /* before it measures: a service has better to do at its start */
};

/* Reads the cache; starts the child if nothing there fits. A child that fails is told of once in
 * the log, and what is not measured stays so until the next start. NOMEM, UNAVAILABLE. */
SL_CHECK sl_status calibrator_create(const struct calibrator_cfg *cfg, struct calibrator **out,
                                     struct sl_err *err);
void calibrator_destroy(struct calibrator *calibrator); /* ends a child that runs; NULL is fine */
/* NULL as long as nothing is known, or when calibrator is NULL. Later calls may give other numbers
 * at the same place. */
const struct split_machine *calibrator_machine(const struct calibrator *calibrator);
