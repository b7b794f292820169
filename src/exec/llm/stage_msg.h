/* stage_msg.h: what the stages of a split model say to each other: a codec, no state.
 * Floor: exec/llm.  Thread: the caller's.  Allocates: encoders append to a buffer, decoders take
 * arrays from an arena and point into the message.
 *
 *     BATCH     stage i to i + 1: one step: which tokens of which block tables, what to copy
 *               before, whose logits to sample, and the hidden states
 *     SAMPLERS  stage 0, passed on to the last: samplers that open and close; before the BATCH that
 *               needs them
 *     RESULT    the last stage to stage 0: one for each BATCH, in order
 *
 * All is little endian and 4-byte aligned. Each begins with
 *
 *     0      1         2       4          8          16
 *     +------+---------+-------+----------+----------+
 *     | kind | version | flags | reserved | step     |
 *     +------+---------+-------+----------+----------+
 *
 * then its counts, i32 each, the stamps, and its arrays in the order of the structs below. The
 * hidden states come last, each row in the form of the link (hidden_row.h). docs/split.md has the
 * tables.
 *
 * Invariant: a decoded message is within `struct stage_limits`: every table, block, row, position
 * and count in range, rows ascending, the length exactly what the counts say. What depends on the
 * messages before (how many blocks a table has) is the receiver's to check. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "exec/engine_open.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/sampler.h"

#define STAGE_MSG_VERSION 1
/* As a worker's largest frame (exec/wire.h): 1,024 tokens with a hidden size of 16,384 in f32. */
#define STAGE_MSG_BYTES_MAX (64u << 20)

enum stage_msg_kind { STAGE_MSG_BATCH = 1, STAGE_MSG_SAMPLERS, STAGE_MSG_RESULT };

enum {                       /* flags of a BATCH */
       STAGE_WANT_LOGITS = 1 /* the RESULT brings the rows of its outputs */
};

struct stage_limits { /* of the engine; the same in all stages */
    int32_t n_stages;
    int32_t n_batch;    /* tokens of a step */
    int32_t n_ctx;      /* positions of a sequence */
    int32_t n_seqs_max; /* block tables, and samplers: both are numbered from 0 */
    int32_t kv_blocks;
    int32_t n_embd, n_vocab;
    enum engine_link_type link;
};

/* What a stage did with a step, by its own clock. */
struct stage_stamp {
    uint64_t wait_ns; /* from its arrival to its turn */
    uint64_t compute_ns;
};

/* Tokens of one sequence, at consecutive positions. Its block table is what it was, cut to n_keep
 * blocks, and n_new more. */
struct stage_group {
    int32_t table;
    int32_t pos, n_tokens;
    int32_t n_keep, n_new;
};

struct stage_copy { /* of a block's keys and values, before the step, in order */
    int32_t src, dst;
};

struct stage_output {   /* a row whose logits are wanted */
    int32_t row;        /* of the step's tokens */
    int32_t n_samplers; /* that choose from it, one after the other; often 1 */
};

struct stage_batch {
    uint64_t step; /* one more than the one before */
    unsigned flags;
    int32_t n_tokens, n_groups, n_blocks, n_copies, n_outputs, n_samplers, n_rows;
    const struct stage_group *groups;
    const int32_t *blocks; /* [n_blocks] the new ones of all groups */
    const struct stage_copy *copies;
    const struct stage_output *outputs;
    const int32_t *samplers; /* [n_samplers] of all outputs */
    const int32_t *rows;     /* [n_rows] whose hidden states are wanted, for embeddings */
    /* [n_stages - 1] of stage 1 and on; a stage fills its own in */
    const struct stage_stamp *stamps;
    const void *hidden; /* [n_tokens] rows of the link's type */
};

struct stage_sampler {
    int32_t id;
    bool open; /* false: it closes, and nothing below counts; one that is open may open anew */
    struct sampler_cfg cfg;
    const int32_t *tokens; /* of the sequence so far, as far as the sampler looks back */
    int32_t n_tokens;
};

struct stage_samplers {
    const struct stage_sampler *v;
    int32_t n;
};

struct stage_choice {
    sl_status status; /* CORRUPT: no logit was finite, and nothing was chosen */
    struct sampler_result result;
};

struct stage_result {
    uint64_t step;
    int32_t n_choices, n_outputs, n_rows;
    const struct stage_choice *choices; /* [n_choices] the BATCH's samplers */
    const float *logits;                /* [n_outputs, n_vocab], with STAGE_WANT_LOGITS */
    const float *rows;                  /* [n_rows, n_embd] hidden states after the last norm */
    const struct stage_stamp *stamps;   /* [n_stages - 1] */
};

/* The kind of a message; 0: it is none. */
int stage_msg_kind(const void *bytes, size_t n);

/* Encoders append, to a buffer whose length is a multiple of 8; on failure out is as before. LIMIT:
 * longer than STAGE_MSG_BYTES_MAX; NOMEM.
 * `hidden` of a batch is in f32 here, [n_tokens, n_embd]. */
SL_CHECK sl_status stage_batch_encode(const struct stage_limits *limits,
                                      const struct stage_batch *batch, const float *hidden,
                                      struct sl_buf *out, struct sl_err *err);
SL_CHECK sl_status stage_samplers_encode(const struct stage_samplers *samplers, struct sl_buf *out,
                                         struct sl_err *err);
SL_CHECK sl_status stage_result_encode(const struct stage_limits *limits,
                                       const struct stage_result *result, struct sl_buf *out,
                                       struct sl_err *err);

/* `bytes` must be 8-byte aligned and live as long as *out. CORRUPT names what is wrong; NOMEM. */
SL_CHECK sl_status stage_batch_decode(const struct stage_limits *limits, const void *bytes,
                                      size_t n, struct stage_batch *out, struct sl_err *err);
/* Numbers of a sampler_cfg are sampler_create's to check. */
SL_CHECK sl_status stage_samplers_decode(const struct stage_limits *limits, const void *bytes,
                                         size_t n, struct sl_arena *arena,
                                         struct stage_samplers *out, struct sl_err *err);
SL_CHECK sl_status stage_result_decode(const struct stage_limits *limits, const void *bytes,
                                       size_t n, struct sl_arena *arena, struct stage_result *out,
                                       struct sl_err *err);
