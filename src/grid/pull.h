/* pull.h: gets a model from hf.co, from an Ollama registry, from a URL or from another member of
 * the grid into the store.
 * Floor: grid.  Thread: pull_run blocks for as long as the download takes; call it on a helper
 * thread (or the main thread of a command). The progress callback runs on that thread.
 * Allocates: a few megabytes, for the time of the call.
 * Invariant: nothing is listed before all of it is here, its SHA-256 (where the source tells one)
 * is right, its GGUF header is sound and it is on disk. A pull that was killed goes on where it was
 * the next time, if the server still has the same file; else it starts clean. */
#pragma once
#include "base/err.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct http_trust;
struct store;

#define PULL_CONNECTIONS_MAX 16 /* more is rude to a server and no faster */
#define PULL_CHUNK_BYTES_MIN 4096
#define PULL_CHUNK_BYTES_MAX (INT64_C(1) << 30) /* what one kill may lose, a connection */

enum pull_phase {
    PULL_WAITING,     /* another process or thread pulls the same file */
    PULL_RESOLVING,   /* asking the source which files there are */
    PULL_DOWNLOADING, /* done and total move */
    PULL_RETRYING,    /* a connection failed: note says why; it is tried again in retry_ms */
    PULL_VERIFYING,   /* all bytes are here */
    PULL_DONE
};

struct pull_progress {
    enum pull_phase phase;
    const char *file;   /* what is being pulled: a file's name, "" while resolving */
    const char *digest; /* hex of the file in work; "" when the source does not tell */
    int file_index, n_files;
    uint64_t file_done, file_total; /* bytes; total 0: not known yet */
    uint64_t done, total;           /* of all files together */
    uint64_t resumed;               /* of done: what an earlier pull had left */
    const char *note;               /* PULL_RETRYING: the reason; else "" */
    int64_t retry_ms;
};

/* All pointers are valid for the call only. */
typedef void pull_progress_fn(void *ctx, const struct pull_progress *progress);

/* A member of the grid that has the model in its store: blobs.h answers there. */
struct pull_peer {
    const char *base;               /* "https://10.0.0.7:4230" */
    const struct http_trust *trust; /* whom to expect there, and as whom to come */
    const char *digest; /* the model's, store_model.digest; "": whatever it has under the name */
};

struct pull_request {
    const char *name;        /* "qwen2.5:0.5b", "hf.co/org/repo:Q4_K_M", "https://host/m.gguf" */
    const char *store_as;    /* another name in the store; NULL: name */
    bool insecure;           /* http:// beyond this machine is fine */
    int n_connections;       /* parallel ranges */
    int64_t chunk_bytes;     /* of one range */
    int n_retries;           /* failures in a row, without a byte between them */
    int stall_s;             /* a connection that brings next to nothing for so long is dropped */
    const char *hf_endpoint; /* "https://huggingface.co" */
    const char *hf_token;    /* NULL: none; sent to that endpoint only */
    const char *ollama_registry; /* "https://registry.ollama.ai" */
    /* From there and nowhere else; name is its name there. NULL: from the name's own source. */
    const struct pull_peer *peer;
    pull_progress_fn *progress; /* NULL is fine */
    void *ctx;
    const atomic_bool *cancel; /* set from anywhere, a signal handler too; NULL is fine */
};

/* The defaults, with endpoints and token of the environment: STARLANE_HF_ENDPOINT (or HF_ENDPOINT),
 * HF_TOKEN, STARLANE_OLLAMA_REGISTRY. Sets all but name. */
void pull_request_init(struct pull_request *request);

/* Blocks until the model is in the store. INVALID (the name, an http:// URL), NOT_FOUND, DENIED
 * (401, 403: err says what to set), CORRUPT (wrong hash or size, not a GGUF file), UNSUPPORTED,
 * LIMIT (no room on the disk, a file past STORE_BLOB_BYTES_MAX), UNAVAILABLE and TIMEOUT after
 * all retries, CANCELLED (what is here stays, for the next time), IO, NOMEM. */
SL_CHECK sl_status pull_run(struct store *store, const struct pull_request *request,
                            struct sl_err *err);
