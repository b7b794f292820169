/* part_files.h: the files of a part: which ones the model has (its manifest), what their chunks
 * must be (their lists), and what of them is here (their journals), each from this machine if it
 * was here before, else from members.
 * Floor: grid.  Thread: the part's own.  Allocates: the table of files.
 * Invariant: a list was given by two members alike, where two could be asked. */
#pragma once
#include "grid/part_get.h"
#include "grid/store_parts.h"

struct part_files {
    struct part_file *v;
    size_t n;
};

/* What is needed to open them. */
struct part_asker {
    const struct store_part *part;
    const char *name, *digest; /* of the model */
    struct http_client *client;
    const struct part_source *sources;
    size_t n_sources;
    const atomic_bool *cancel;
};

/* Opens all files, made sparse where they are absent; the caller has claimed the part. NOT_FOUND,
 * UNAVAILABLE and others of http_client.h: no member gave what is missing; CORRUPT: members
 * disagree; UNSUPPORTED: no GGUF model; CANCELLED, IO, NOMEM. */
SL_CHECK sl_status part_files_open(const struct part_asker *asker, struct part_files *out,
                                   struct sl_err *err);
void part_files_close(struct part_files *files); /* zeroed is fine */
