/* attn.h: attention over the paged KV cache on the CPU, for decode and prefill alike.
 * Floor: exec/llm.  Thread: units of one call may run on different threads, each with a scratch
 * of its own.
 * Allocates: nothing.
 * Online softmax over tiles of ATTN_TILE positions (arXiv:1805.02867, arXiv:2205.14135), in f32.
 * A row's result depends on its query, its keys and its values alone, bit for bit, however rows
 * and tokens are grouped into units and batches. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTN_TILE 64 /* positions per tile; a multiple of the KV block size */
/* (token, head) rows per unit: keeps queries and accumulators in the second-level cache */
#define ATTN_ROWS_MAX 32

enum attn_kv_type { ATTN_KV_F32, ATTN_KV_F16, ATTN_KV_Q8_0 };

struct attn_shape {
    int32_t n_head, n_head_kv;
    int32_t head_k, head_v;
    float scale;    /* of q.k */
    float softcap;  /* 0: off; else s = cap * tanh(s / cap) */
    int32_t window; /* positions seen, the token's own included; 0: all */
    enum attn_kv_type kv_type;
    bool v_in_k; /* values are the first head_v elements of the keys (MLA) */
};

/* Consecutive tokens of one sequence at consecutive positions. */
struct attn_tile {
    int32_t token, n_tokens; /* n_tokens <= attn_tile_tokens() */
    int32_t pos;             /* of the first */
    const int32_t *blocks;   /* block table of the sequence */
};

struct attn_batch { /* one step's tokens; shared by all layers */
    int32_t n_tiles;
    const struct attn_tile *tiles; /* [n_tiles] */
    int32_t block_tokens;
};

struct attn_call {
    const struct attn_shape *shape;
    const struct attn_batch *batch;
    const float *q;     /* [n_tokens, n_head, head_k] f32 */
    const void *k, *v;  /* [n_slots, n_head_kv * head] of kv_type */
    const float *sinks; /* [n_head] f32, or NULL */
    float *out;         /* [n_tokens, n_head, head_v] f32 */
};

/* Most tokens that one tile may have: as many as keep a unit within ATTN_ROWS_MAX rows. */
int32_t attn_tile_tokens(int32_t n_head, int32_t n_head_kv);
int32_t attn_n_units(const struct attn_shape *shape, const struct attn_batch *batch);
size_t attn_scratch_bytes(const struct attn_shape *shape); /* per thread, 64-byte aligned */
void attn_unit(const struct attn_call *call, int32_t unit, void *scratch);

/* The builds of the unit function; attn_unit picks one by CPU once. */
void attn_unit_generic(const struct attn_call *call, int32_t unit, void *scratch);
void attn_unit_avx2(const struct attn_call *call, int32_t unit, void *scratch);
void attn_unit_avx512(const struct attn_call *call, int32_t unit, void *scratch);
