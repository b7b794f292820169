/* worker.h: the agent's handle on one engine worker: a child process that holds one loaded model.
 * Floor: exec.  Thread: the loop's.  Allocates: the handle and its buffers, bounded.
 * The child is `starlane worker` (exec/worker_child.h) with one end of a socketpair as fd 3 and its
 * stderr in a pipe. Neither trusts the other: a child that sends nonsense is killed.
 * Invariant: on_exit comes exactly once for each worker that was spawned and not destroyed before,
 * after the child is dead and reaped, and is its last callback. Requests that were live at that
 * moment get no event of their own: whoever owns them replays them elsewhere
 * (wire_generate.resume).
 *
 *   STARTING --LOADED--> READY --worker_unload--> UNLOADING --+
 *      |                   |                                  |
 *      +--- LOAD_FAILED, worker_kill, watchdog, crash --------+--> on_exit
 *
 * Callbacks may call everything here but worker_destroy, which on_exit alone may call. */
#pragma once
#include "exec/wire.h"

struct loop;
struct worker; /* opaque */

#define WORKER_REASON_MAX 1024 /* the last lines of stderr included */

enum worker_end {
    WORKER_END_UNLOADED, /* worker_unload; the child exited by itself or at the end of its grace */
    WORKER_END_LOAD_FAILED, /* on_load_failed told why */
    WORKER_END_CRASHED,     /* a signal, an exit code, a closed socket */
    WORKER_END_HUNG,        /* the watchdog killed it */
    WORKER_END_PROTOCOL,    /* it sent what no worker sends, and was killed */
    WORKER_END_KILLED       /* worker_kill */
};
const char *worker_end_name(enum worker_end end); /* "crashed" */

struct worker_exit {
    enum worker_end end;
    int exit_code; /* -1: died of a signal */
    int signal;    /* 0: exited */
    /* One line for people: "died of SIGSEGV; last words: ..." */
    const char *reason;
};

struct worker_callbacks {
    /* NULL is fine for each but on_events and on_exit. What they point to is valid in the call. */
    void (*on_loading)(void *ctx, double fraction);
    void (*on_loaded)(void *ctx, const struct wire_loaded *loaded);
    void (*on_load_failed)(void *ctx, sl_status status, const char *message);
    /* Whatever one step brought, in order, for all requests. */
    void (*on_events)(void *ctx, const struct wire_event *events, size_t n);
    void (*on_stats)(void *ctx, const struct engine_stats *stats); /* every ping_ms */
    void (*on_log)(void *ctx, const char *line);                   /* of the child's stderr */
    /* A stage's message for stage `to` of the same split model: every one, in order. Required when
     * the load has a split. */
    void (*on_frame)(void *ctx, int32_t to, const void *bytes, size_t n);
    void (*on_exit)(void *ctx, const struct worker_exit *how);
};

struct worker_cfg {
    const char
        *exe; /* path of the starlane executable; NULL: $STARLANE_BIN, or else this program */
    struct wire_load load; /* copied */
    int64_t ping_ms;       /* 0: 2,000 */
    int64_t watchdog_ms;   /* no answer for so long: hung; 0: 60,000 */
    int64_t
        load_watchdog_ms;  /* the same while it loads; 0: 300,000 (a slow disk, one big tensor) */
    int64_t grace_ms;      /* worker_unload kills after so long; 0: 5,000 */
    size_t send_bytes_max; /* of what waits to be sent; 0: 256 MiB */
};

/* Starts a worker and has it load. On failure *out is untouched and no callback comes. IO (fork, no
 * such executable: err names it), NOMEM, INVALID. */
SL_CHECK sl_status worker_spawn(struct loop *loop, const struct worker_cfg *cfg,
                                const struct worker_callbacks *callbacks, void *ctx,
                                struct worker **out, struct sl_err *err);

/* NULL is fine. A child that still lives is killed and waited for; no callback comes any more. */
void worker_destroy(struct worker *worker);

/* Requests: taken on when the call is OK, and then answered as wire.h says, or not at all should
 * the worker exit first. UNAVAILABLE before on_loaded and after the end has begun; BUSY:
 * send_bytes_max is reached; LIMIT: larger than a frame; NOMEM. */
SL_CHECK sl_status worker_generate(struct worker *worker, const struct wire_generate *req,
                                   struct sl_err *err);
SL_CHECK sl_status worker_embed(struct worker *worker, const struct wire_embed *req,
                                struct sl_err *err);
SL_CHECK sl_status worker_infer(struct worker *worker, const struct wire_infer *req,
                                struct sl_err *err);
SL_CHECK sl_status worker_tokenize(struct worker *worker, const struct wire_tokenize *req,
                                   struct sl_err *err);
SL_CHECK sl_status worker_detokenize(struct worker *worker, const struct wire_detokenize *req,
                                     struct sl_err *err);

/* Hands a stage what stage `from` sent it. Errors as for requests: after one that was not taken
 * nothing that follows can be right. A message that makes no sense ends the worker. A worker whose
 * stage is not 0 takes these and no requests. */
SL_CHECK sl_status worker_deliver(struct worker *worker, int32_t from, const void *bytes, size_t n,
                                  struct sl_err *err);

/* The DONE events with ENGINE_FINISH_CANCELLED follow, unless others are on their way already.
 * Always fits the outgoing buffer, so it cannot be BUSY. */
SL_CHECK sl_status worker_cancel(struct worker *worker, uint64_t id, struct sl_err *err);

void worker_unload(struct worker *worker); /* asks the child to end; on_exit follows */
void worker_kill(struct worker *worker);   /* SIGKILL; on_exit follows */

bool worker_ready(const struct worker *worker); /* loaded, and takes requests */
int worker_pid(const struct worker *worker);
/* What it loaded; NULL before on_loaded. Valid as long as the handle. */
const struct wire_loaded *worker_loaded(const struct worker *worker);
/* The latest it told, at most ping_ms old or so. */
const struct engine_stats *worker_stats(const struct worker *worker);
