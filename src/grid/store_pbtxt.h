/* store_pbtxt.h: what Triton's config.pbtxt says of how a model is run (the text form of protobuf,
 * protobuf.dev/reference/protobuf/textformat-spec; the fields are those of
 * github.com/triton-inference-server/common, protobuf/model_config.proto). Pure.
 * Floor: grid.  Thread: any.  Allocates: nothing. */
#pragma once
#include "base/err.h"
#include "grid/store.h"
#include <stdbool.h>
#include <stdint.h>

#define STORE_PBTXT_DEPTH_MAX 16 /* real ones have four levels */

struct store_pbtxt {
    int64_t max_batch_size;       /* 0: it has no dimension for a batch */
    bool batches;                 /* dynamic_batching is there */
    int64_t delay_us;             /* dynamic_batching.max_queue_delay_microseconds */
    int64_t instances;            /* the sum of instance_group.count; 0: it does not say */
    char labels[STORE_FILE_SIZE]; /* output.label_filename; "": none */
};

/* CORRUPT names the line; LIMIT: nested too deep. Fields that are not above are passed over. */
SL_CHECK sl_status store_pbtxt_parse(const char *text, size_t n, struct store_pbtxt *out,
                                     struct sl_err *err);
