/* fetch_part.h: gets what one stage of a split model needs of its file, and no more: the header and
 * the tensors of the stage's layers, into a sparse file of the whole file's size, which gguf_open
 * and llm_weights_load map as if all of it were there. See docs/model-distribution.md, "Parts".
 *
 *   fetch_part_start -> the whole model is in the store: its path, at once
 *                    -> manifest (whose digest is the one asked for), nearest member first
 *                    -> chunk lists (chunk_list.h), of two members where there are two
 *                    -> the header's chunks, until the tensors' places are known
 *                    -> the chunks that the range's tensors touch -> on_done(path)
 *
 * Every chunk is checked against the list before it counts; a member that sends a wrong one is not
 * asked again. What was checked stays, in HOME/models/parts (store_parts.h): the next fetch of the
 * same model, of this range or another, goes on with it, also after a kill. Stages of one model on
 * one machine share one file.
 * Floor: grid.  Thread: the loop's; the work is done on FETCH_PART_THREADS of its own.
 * Allocates: a struct a part, at most FETCH_PARTS_MAX.
 * Invariants: a part that was started ends with one on_done, unless it is released before; between
 * on_done and fetch_part_release nobody removes a file of HOME/models/parts that it names. */
#pragma once
#include "base/err.h"
#include "exec/llm/tensors.h"
#include "grid/fetch.h"
#include "grid/store.h"
#include <stddef.h>
#include <stdint.h>

struct fetch_parts; /* all of one machine */
struct fetch_part;  /* what one stage needs */
struct loop;

#define FETCH_PART_THREADS 4 /* stages that fetch at a time; more share the same network anyway */
#define FETCH_PART_CONNECTIONS 4 /* of one part, as of a whole model */
#define FETCH_PARTS_MAX 64       /* those under way and those in use */

struct fetch_parts_cfg {
    struct loop *loop;   /* borrowed, as the store */
    struct store *store; /* where whole models and parts lie */
    /* As whom to come; without them only what is in the store already is found. */
    const char *ca_path, *cert_path, *key_path;
};

/* Strings are copied. NOMEM, UNAVAILABLE (no thread). */
SL_CHECK sl_status fetch_parts_create(const struct fetch_parts_cfg *cfg, struct fetch_parts **out,
                                      struct sl_err *err);
/* Stops what is under way, waits for the threads, releases all parts; no callback comes any more.
 * The loop must not run again afterwards. NULL is fine. */
void fetch_parts_destroy(struct fetch_parts *parts);

/* From the loop, never from within a call of this module. */
struct fetch_part_events {
    /* Bytes that have come, of those that had to: what was here before is in neither. May be NULL,
     * and is not called for a part that is here. */
    void (*on_progress)(void *ctx, uint64_t done, uint64_t total);
    /* path: the GGUF file (or the first of its shards) for the engine, valid until
     * fetch_part_release; NULL: it failed, and why says so: NOT_FOUND (no member has it, or has
     * another model under the name), UNAVAILABLE, CORRUPT (members disagree, or the file is no
     * sound GGUF), LIMIT (no room on the disk, with the numbers), INVALID (no such layers),
     * UNSUPPORTED, IO, NOMEM. The part is to be released in either case; it may be, within. */
    void (*on_done)(void *ctx, const char *path, const struct sl_err *why);
    void *ctx;
};

struct fetch_part_request {
    const char *name;                   /* of the model at the members */
    const char *digest;                 /* its store_model.digest */
    const struct fetch_source *sources; /* those that have all of it; the order does not matter */
    size_t n_sources;                   /* above FETCH_SOURCES_MAX: the others are not asked */
    /* The stage's layers; the first stage embeds, the last one heads. */
    struct llm_range range;
};

/* Begins; all of the request is copied. *out is the caller's to release. BUSY: FETCH_PARTS_MAX.
 * INVALID (name, digest, range), NOMEM. */
SL_CHECK sl_status fetch_part_start(struct fetch_parts *parts,
                                    const struct fetch_part_request *request,
                                    const struct fetch_part_events *events, struct fetch_part **out,
                                    struct sl_err *err);
/* The file is no longer used: it stays until room is needed or somebody sweeps the store. Under
 * way: it is stopped, and no callback follows; what has come stays. NULL is fine. */
void fetch_part_release(struct fetch_part *part);

/* What the members say of the model, with the part's path: after on_done gave one. NOT_FOUND: all
 * of the model is in the store, which says it (store_find). As store_find. */
SL_CHECK sl_status fetch_part_model(const struct fetch_part *part, struct store_model *out,
                                    struct sl_err *err);

struct fetch_part_stats {
    uint64_t n_done, n_failed;
    uint64_t bytes;        /* that came from members and were right */
    uint64_t n_bad_chunks; /* that came and were not */
};
/* Since it was created; a part counts when it has ended. */
void fetch_part_stats_get(const struct fetch_parts *parts, struct fetch_part_stats *out);
