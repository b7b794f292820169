/* attn_kernel.h: the body of attn_unit_*, compiled once per instruction set by the files that
 * include it after defining ATTN_UNIT (the function's name), VEC (floats per vector) and
 * load_f16 (VEC halves to a vector). */
#include "exec/llm/attn.h"
#include <math.h>
#include <string.h>

typedef float vec __attribute__((vector_size(VEC * 4)));
typedef int32_t ivec __attribute__((vector_size(VEC * 4)));
/* A vector somewhere in an array of floats. Values must not have this type: the compiler may spill
 * them with moves that want the natural alignment. */
typedef float vec_at __attribute__((vector_size(VEC * 4), aligned(4), may_alias));

struct q8_block { /* ggml's q8_0: 32 values share one half-precision scale */
    uint16_t scale;
    int8_t v[32];
};

typedef float quad __attribute__((vector_size(16)));

#define SHUFFLE(a, b, order) __builtin_shufflevector(a, b, order)
/* Lanes of a and b alternating within each group of four, from its low and from its high half;
 * then pairs of lanes. */
#define GROUP_LOW(g, n) g, n + g, g + 1, n + g + 1
#define GROUP_HIGH(g, n) g + 2, n + g + 2, g + 3, n + g + 3
#define GROUP_LOWPAIR(g, n) g, g + 1, n + g, n + g + 1
#define GROUP_HIGHPAIR(g, n) g + 2, g + 3, n + g + 2, n + g + 3
#define LOW4 GROUP_LOW(0, 4)
#define HIGH4 GROUP_HIGH(0, 4)
#define LOWPAIR4 GROUP_LOWPAIR(0, 4)
#define HIGHPAIR4 GROUP_HIGHPAIR(0, 4)
#define LOW8 GROUP_LOW(0, 8), GROUP_LOW(4, 8)
#define HIGH8 GROUP_HIGH(0, 8), GROUP_HIGH(4, 8)
#define LOWPAIR8 GROUP_LOWPAIR(0, 8), GROUP_LOWPAIR(4, 8)
#define HIGHPAIR8 GROUP_HIGHPAIR(0, 8), GROUP_HIGHPAIR(4, 8)
#define LOW16 GROUP_LOW(0, 16), GROUP_LOW(4, 16), GROUP_LOW(8, 16), GROUP_LOW(12, 16)
#define HIGH16 GROUP_HIGH(0, 16), GROUP_HIGH(4, 16), GROUP_HIGH(8, 16), GROUP_HIGH(12, 16)
#define LOWPAIR16 \
    GROUP_LOWPAIR(0, 16), GROUP_LOWPAIR(4, 16), GROUP_LOWPAIR(8, 16), GROUP_LOWPAIR(12, 16)
#define HIGHPAIR16 \
    GROUP_HIGHPAIR(0, 16), GROUP_HIGHPAIR(4, 16), GROUP_HIGHPAIR(8, 16), GROUP_HIGHPAIR(12, 16)

static vec load_f16(const uint16_t *h);

static inline vec splat(float x)
{
    return (vec){0} + x;
}

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff, bits;
    float f;
    if (mag >= 0x7c00)
        bits = sign | 0x7f800000 | (mag & 0x3ff) << 13;
    else
        bits = sign | (mag << 13);
    memcpy(&f, &bits, 4);
    return mag >= 0x7c00 ? f : f * 0x1p112f; /* rebias by multiplying: subnormals come out right */
}

/* Sum of the lanes, always in the same order. */
static inline float vec_sum(vec v)
{
    float lane[VEC];
    memcpy(lane, &v, sizeof lane);
    for (int w = VEC / 2; w > 0; w /= 2) {
        for (int i = 0; i < w; i++) lane[i] += lane[i + w];
    }
    return lane[0];
}

/* e^x for x <= 0: 2^n * p(f) with f in [-0.5, 0.5], error under 2 ulp; below -87 it is 0.
 * Cephes' polynomial. */
static inline vec vec_exp(vec x)
{
    ivec under = x < splat(-87.0f);
    vec n = x * splat(1.44269504088896341f) + splat(12582912.0f);
    ivec bits;
    vec p, scale;
    n = n - splat(12582912.0f); /* rounds to the nearest integer */
    x = x - n * splat(0.693359375f);
    x = x - n * splat(-2.12194440e-4f);
    p = splat(1.9875691500e-4f);
    p = p * x + splat(1.3981999507e-3f);
    p = p * x + splat(8.3334519073e-3f);
    p = p * x + splat(4.1665795894e-2f);
    p = p * x + splat(1.6666665459e-1f);
    p = p * x + splat(5.0000001201e-1f);
    p = p * x * x + x + splat(1.0f);
    bits = (__builtin_convertvector(n, ivec) + 127) << 23;
    memcpy(&scale, &bits, sizeof scale);
    p = p * scale;
    memcpy(&bits, &p, sizeof bits);
    bits = bits & ~under;
    memcpy(&p, &bits, sizeof p);
    return p;
}

static void row_from_f16(float *dst, const uint16_t *src, int32_t n)
{
    int32_t i = 0;
    for (; i + VEC <= n; i += VEC) *(vec_at *)(dst + i) = load_f16(src + i);
    for (; i < n; i++) dst[i] = half_to_float(src[i]);
}

static void row_from_q8(float *dst, const struct q8_block *src, int32_t n)
{
    for (int32_t b = 0; b < n / 32; b++) {
        float scale = half_to_float(src[b].scale);
        for (int i = 0; i < 32; i++) dst[b * 32 + i] = scale * (float)src[b].v[i];
    }
}

/* Elements [first, first + n) of slot `slot` as f32; returns where they are (dst, or the cache
 * itself). */
static void row_load(float *dst, const void *cache, enum attn_kv_type type, int64_t at, int32_t n)
{
    if (type == ATTN_KV_F32)
        memcpy(dst, (const float *)cache + at, (size_t)n * sizeof *dst);
    else if (type == ATTN_KV_F16)
        row_from_f16(dst, (const uint16_t *)cache + at, n);
    else
        row_from_q8(dst, (const struct q8_block *)cache + at / 32, n);
}

/* Lane i of the result is the sum of the lanes of v[i]: a transposition that adds on its way, so
 * that four sums cost little more than one. The order of the additions depends on VEC alone. */
static inline void vec_sum4(const vec v[4], float out[4])
{
    quad sum = {0};
    vec ab, cd, all;
#if VEC == 16
    ab = SHUFFLE(v[0], v[1], LOW16) + SHUFFLE(v[0], v[1], HIGH16);
    cd = SHUFFLE(v[2], v[3], LOW16) + SHUFFLE(v[2], v[3], HIGH16);
    all = SHUFFLE(ab, cd, LOWPAIR16) + SHUFFLE(ab, cd, HIGHPAIR16);
#elif VEC == 8
    ab = SHUFFLE(v[0], v[1], LOW8) + SHUFFLE(v[0], v[1], HIGH8);
    cd = SHUFFLE(v[2], v[3], LOW8) + SHUFFLE(v[2], v[3], HIGH8);
    all = SHUFFLE(ab, cd, LOWPAIR8) + SHUFFLE(ab, cd, HIGHPAIR8);
#else
    ab = SHUFFLE(v[0], v[1], LOW4) + SHUFFLE(v[0], v[1], HIGH4);
    cd = SHUFFLE(v[2], v[3], LOW4) + SHUFFLE(v[2], v[3], HIGH4);
    all = SHUFFLE(ab, cd, LOWPAIR4) + SHUFFLE(ab, cd, HIGHPAIR4);
#endif
    for (int i = 0; i < VEC / 4; i++) {
        quad part;
        memcpy(&part, (const char *)&all + 16 * i, sizeof part);
        sum += part;
    }
    memcpy(out, &sum, sizeof sum);
}

/* out[r * ATTN_TILE + c] = q[r] . k[c] for R rows and four columns at once. */
#define ATTN_DOT(R) \
    static inline void dot_##R##x4(const float *const *q, const float *k, int32_t n, float *out) \
    { \
        vec acc[R][4] = {{{0}}}; \
        int32_t d = 0; \
        for (; d + VEC <= n; d += VEC) { \
            for (int c = 0; c < 4; c++) { \
                vec x = *(const vec_at *)(k + (size_t)c * (size_t)n + d); \
                for (int r = 0; r < R; r++) acc[r][c] += *(const vec_at *)(q[r] + d) * x; \
            } \
        } \
        for (int r = 0; r < R; r++) { \
            float *o = out + (size_t)r * ATTN_TILE; \
            vec_sum4(acc[r], o); \
            for (int c = 0; c < 4; c++) \
                for (int32_t e = d; e < n; e++) \
                    o[c] += q[r][e] * k[(size_t)c * (size_t)n + (size_t)e]; \
        } \
    }
ATTN_DOT(4)
ATTN_DOT(2)
ATTN_DOT(1)

struct rows { /* a unit's rows and its scratch */
    const struct attn_call *call;
    const struct attn_tile *tile;
    int32_t head, n_heads; /* heads [head, head + n_heads) of each token */
    int32_t head_kv;
    int32_t n;    /* rows: token-major, n_tokens * n_heads */
    float *k, *v; /* [ATTN_TILE, head_k], [ATTN_TILE, head_v or head_k] f32 */
    int32_t v_stride;
    float *scores;    /* [n, ATTN_TILE] */
    float *acc;       /* [n, head_v] */
    float *max, *sum; /* [n] */
};

static const float *row_query(const struct rows *u, int32_t r)
{
    const struct attn_shape *s = u->call->shape;
    int64_t token = u->tile->token + r / u->n_heads, head = u->head + r % u->n_heads;
    return u->call->q + (token * s->n_head + head) * s->head_k;
}

static float *cache_line(float **at, size_t n_floats)
{
    float *p = (float *)(((uintptr_t)*at + 63) & ~(uintptr_t)63);
    *at = p + n_floats;
    return p;
}

static void rows_init(struct rows *u, const struct attn_call *call, int32_t unit, void *scratch)
{
    const struct attn_shape *s = call->shape;
    int32_t rep = s->n_head / s->n_head_kv;
    int32_t per = rep < ATTN_ROWS_MAX ? rep : ATTN_ROWS_MAX, groups = (rep + per - 1) / per;
    int32_t group = unit % groups, kv = unit / groups % s->n_head_kv;
    float *at = scratch;
    u->call = call;
    u->tile = &call->batch->tiles[unit / groups / s->n_head_kv];
    u->head_kv = kv;
    u->head = kv * rep + group * per;
    u->n_heads = rep - group * per < per ? rep - group * per : per;
    u->n = u->tile->n_tokens * u->n_heads;
    u->k = cache_line(&at, (size_t)ATTN_TILE * (size_t)s->head_k);
    u->v = s->v_in_k ? u->k : cache_line(&at, (size_t)ATTN_TILE * (size_t)s->head_v);
    u->v_stride = s->v_in_k ? s->head_k : s->head_v;
    u->scores = cache_line(&at, (size_t)u->n * ATTN_TILE);
    u->acc = cache_line(&at, (size_t)u->n * (size_t)s->head_v);
    u->max = at;
    u->sum = at + u->n;
    memset(u->acc, 0, (size_t)u->n * (size_t)s->head_v * sizeof *u->acc);
    for (int32_t r = 0; r < u->n; r++) {
        u->max[r] = -INFINITY;
        u->sum[r] = 0;
    }
}

/* Keys and values of positions [from, to) into the scratch, at rows from % ATTN_TILE on. */
static void tile_load(const struct rows *u, int32_t from, int32_t to)
{
    const struct attn_shape *s = u->call->shape;
    int32_t bt = u->call->batch->block_tokens;
    for (int32_t p = from; p < to; p++) {
        int64_t slot = (int64_t)u->tile->blocks[p / bt] * bt + p % bt;
        int64_t head = slot * s->n_head_kv + u->head_kv;
        int32_t row = p % ATTN_TILE;
        row_load(u->k + (size_t)row * (size_t)s->head_k, u->call->k, s->kv_type, head * s->head_k,
                 s->head_k);
        if (!s->v_in_k)
            row_load(u->v + (size_t)row * (size_t)s->head_v, u->call->v, s->kv_type,
                     head * s->head_v, s->head_v);
    }
}

static void tile_scores(const struct rows *u, int32_t from, int32_t to)
{
    int32_t n = u->call->shape->head_k, c0 = from / 4 * 4, r = 0;
#define SCORES(R) \
    for (; r + R <= u->n; r += R) { \
        const float *q[R]; \
        for (int i = 0; i < R; i++) q[i] = row_query(u, r + i); \
        for (int32_t c = c0; c < to; c += 4) \
            dot_##R##x4(q, u->k + (size_t)c * (size_t)n, n, u->scores + r * ATTN_TILE + c); \
    }
    SCORES(4)
    SCORES(2)
    SCORES(1)
#undef SCORES
}

/* Lanes of a where the mask is set, of b elsewhere. */
static inline vec vec_select(ivec mask, vec a, vec b)
{
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

/* Scales, caps and masks a row's scores; columns outside [from, to) become -inf. Returns the
 * largest. */
static float scores_finish(const struct attn_shape *s, float *x, int32_t from, int32_t to)
{
    vec best = splat(-INFINITY), scale = splat(s->softcap > 0 ? 1 : s->scale);
    float lane[VEC], most = -INFINITY;
    ivec at = {0};
    for (int i = 0; i < VEC; i++) at[i] = i;
    for (int32_t c = from; c < to && s->softcap > 0; c++)
        x[c] = s->softcap * tanhf(x[c] * s->scale / s->softcap);
    for (int32_t c = 0; c < ATTN_TILE; c += VEC) {
        vec v = *(vec_at *)(x + c) * scale;
        v = vec_select((at + c >= from) & (at + c < to), v, splat(-INFINITY));
        *(vec_at *)(x + c) = v;
        best = vec_select((ivec)(v > best), v, best);
    }
    memcpy(lane, &best, sizeof lane);
    for (int i = 0; i < VEC; i++) most = lane[i] > most ? lane[i] : most;
    return most;
}

/* acc[r] += sum over columns [from, to) of p[r][c] * v[c], for R rows that stand n (acc) and
 * ATTN_TILE (p) apart. */
#define ATTN_MIX(R) \
    static inline void mix_##R(float *acc, const float *p, const float *v, int32_t stride, \
                               int32_t n_cols, int32_t n) \
    { \
        int32_t d = 0; \
        for (; d + 4 * VEC <= n; d += 4 * VEC) { \
            vec a[R][4]; \
            for (int r = 0; r < R; r++) \
                for (int i = 0; i < 4; i++) \
                    a[r][i] = *(vec_at *)(acc + (size_t)r * (size_t)n + d + i * VEC); \
            for (int32_t c = 0; c < n_cols; c++) { \
                const float *x = v + (size_t)c * (size_t)stride + d; \
                for (int i = 0; i < 4; i++) \
                    for (int r = 0; r < R; r++) \
                        a[r][i] += p[r * ATTN_TILE + c] * *(const vec_at *)(x + i * VEC); \
            } \
            for (int r = 0; r < R; r++) \
                for (int i = 0; i < 4; i++) \
                    *(vec_at *)(acc + (size_t)r * (size_t)n + d + i * VEC) = a[r][i]; \
        } \
        for (; d < n; d++) { \
            for (int r = 0; r < R; r++) \
                for (int32_t c = 0; c < n_cols; c++) \
                    acc[(size_t)r * (size_t)n + (size_t)d] += \
                        p[r * ATTN_TILE + c] * v[(size_t)c * (size_t)stride + (size_t)d]; \
        } \
    }
ATTN_MIX(4)
ATTN_MIX(2)
ATTN_MIX(1)

/* One step of the online softmax for row r: its scores in columns [from, to) become weights, all
 * others 0. */
static void row_weights(const struct rows *u, int32_t r, int32_t from, int32_t to)
{
    const struct attn_shape *s = u->call->shape;
    float *x = u->scores + (size_t)r * ATTN_TILE, *acc = u->acc + (size_t)r * (size_t)s->head_v;
    float best = from < to ? scores_finish(s, x, from, to) : -INFINITY;
    vec sum = {0};
    if (best < u->max[r]) best = u->max[r];
    if (from >= to || best == -INFINITY) {
        memset(x, 0, ATTN_TILE * sizeof *x);
        return;
    }
    if (best > u->max[r] && u->sum[r] > 0) {
        float shrink = expf(u->max[r] - best);
        for (int32_t d = 0; d < s->head_v; d++) acc[d] *= shrink;
        u->sum[r] *= shrink;
    }
    u->max[r] = best;
    for (int32_t c = 0; c < ATTN_TILE; c += VEC) {
        vec e = vec_exp(*(vec_at *)(x + c) - splat(best));
        *(vec_at *)(x + c) = e;
        sum += e;
    }
    u->sum[r] += vec_sum(sum);
}

static void tile_mix(const struct rows *u, int32_t from, int32_t to)
{
    int32_t n = u->call->shape->head_v, stride = u->v_stride, r = 0;
    const float *v = u->v + (size_t)from * (size_t)stride;
#define MIX(R) \
    for (; r + R <= u->n; r += R) \
        mix_##R(u->acc + (size_t)r * (size_t)n, u->scores + r * ATTN_TILE + from, v, stride, \
                to - from, n);
    MIX(4)
    MIX(2)
    MIX(1)
#undef MIX
}

static int32_t row_first(const struct attn_shape *s, int32_t pos)
{
    return s->window > 0 && pos >= s->window ? pos - s->window + 1 : 0;
}

static void tile_update(const struct rows *u, int32_t base, int32_t from, int32_t to)
{
    const struct attn_shape *s = u->call->shape;
    tile_load(u, base + from, base + to);
    tile_scores(u, from, to);
    for (int32_t r = 0; r < u->n; r++) {
        int32_t pos = u->tile->pos + r / u->n_heads;
        int32_t lo = row_first(s, pos) - base, hi = pos + 1 - base;
        lo = lo > from ? lo : from;
        hi = hi < to ? hi : to;
        row_weights(u, r, lo, hi);
    }
    tile_mix(u, from, to);
}

static void rows_store(const struct rows *u)
{
    const struct attn_shape *s = u->call->shape;
    for (int32_t r = 0; r < u->n; r++) {
        int64_t token = u->tile->token + r / u->n_heads, head = u->head + r % u->n_heads;
        float *out = u->call->out + (token * s->n_head + head) * s->head_v;
        const float *acc = u->acc + (size_t)r * (size_t)s->head_v;
        float shrink = 1, sum = u->sum[r];
        if (u->call->sinks) {
            float sink = u->call->sinks[head], best = sink > u->max[r] ? sink : u->max[r];
            shrink = expf(u->max[r] - best);
            sum = sum * shrink + expf(sink - best);
        }
        for (int32_t d = 0; d < s->head_v; d++) out[d] = acc[d] * shrink / sum;
    }
}

void ATTN_UNIT(const struct attn_call *call, int32_t unit, void *scratch)
{
    struct rows u;
    int32_t first, end;
    rows_init(&u, call, unit, scratch);
    first = row_first(call->shape, u.tile->pos);
    end = u.tile->pos + u.tile->n_tokens;
    for (int32_t base = first / ATTN_TILE * ATTN_TILE; base < end; base += ATTN_TILE) {
        int32_t from = first > base ? first - base : 0;
        int32_t to = end - base < ATTN_TILE ? end - base : ATTN_TILE;
        tile_update(&u, base, from, to);
    }
    rows_store(&u);
}
