/* The paged attention kernels against a naive one in double precision, on random shapes, block
 * tables, windows and cache types; and bit for bit against themselves when the tokens are
 * grouped into other tiles. */
#include "base/cpu.h"
#include "exec/llm/attn.h"
#include "support/prop.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 60
#define BLOCK 16
#define BLOCKS_MAX 20
#define TOKENS_MAX 40

typedef void (*unit_fn)(const struct attn_call *call, int32_t unit, void *scratch);

struct problem {
    struct attn_shape shape;
    int32_t n_past, n_tokens;
    int32_t blocks[BLOCKS_MAX];
    float *q, *k,
        *v; /* k, v: [n_slots, n_head_kv * head] as floats the cache type can hold exactly */
    void *k_cache, *v_cache;
    float *sinks;
    bool has_sinks;
};

static float draw_float(void)
{
    return (float)((int)prop_draw(2001) - 1000) / 500.0f;
}

static uint16_t half_bits(float f) /* exact for the values used here: multiples of 1/8 below 16 */
{
    uint32_t b;
    memcpy(&b, &f, 4);
    if (!(b & 0x7fffffff)) return (uint16_t)(b >> 16);
    return (uint16_t)((b >> 16 & 0x8000) | (((b >> 23 & 0xff) - 112) << 10) | (b >> 13 & 0x3ff));
}

static void *cache_make(enum attn_kv_type type, float *x, size_t n)
{
    uint16_t *h;
    char *q8;
    for (size_t i = 0; i < n; i++)
        x[i] = type == ATTN_KV_F32 ? draw_float() : (float)((int)prop_draw(33) - 16) / 8.0f;
    if (type == ATTN_KV_F32) {
        float *copy = malloc(n * sizeof *copy);
        return memcpy(copy, x, n * sizeof *copy);
    }
    if (type == ATTN_KV_F16) {
        h = malloc(n * sizeof *h);
        for (size_t i = 0; i < n; i++) h[i] = half_bits(x[i]);
        return h;
    }
    q8 = malloc(n / 32 * 34);
    for (size_t b = 0; b < n / 32; b++) {
        uint16_t scale = half_bits(0.125f);
        memcpy(q8 + b * 34, &scale, 2);
        for (size_t i = 0; i < 32; i++) q8[b * 34 + 2 + i] = (char)(int8_t)(x[b * 32 + i] * 8);
    }
    return q8;
}

static void problem_init(struct problem *p)
{
    static const int32_t head_sizes[] = {8, 24, 32, 64, 80, 128, 576};
    static const int32_t reps[] = {1, 2, 4, 7, 40};
    struct attn_shape *s = &p->shape;
    size_t n_slots = BLOCKS_MAX * BLOCK;
    memset(p, 0, sizeof *p);
    s->kv_type = (enum attn_kv_type)prop_draw(3);
    s->head_k =
        s->kv_type == ATTN_KV_Q8_0 ? 32 * (int32_t)(prop_draw(4) + 1) : head_sizes[prop_draw(7)];
    s->v_in_k = prop_draw(4) == 0;
    s->head_v = s->v_in_k                    ? s->head_k / 8 * 4
                : s->kv_type == ATTN_KV_Q8_0 ? 32 * (int32_t)(prop_draw(4) + 1)
                                             : head_sizes[prop_draw(6)];
    s->n_head_kv = s->v_in_k ? 1 : (int32_t)prop_draw(3) + 1;
    s->n_head = s->n_head_kv * reps[prop_draw(5)];
    s->scale = 1 / sqrtf((float)s->head_k);
    s->softcap = prop_draw(4) ? 0 : 20;
    s->window = prop_draw(3) ? 0 : (int32_t)prop_draw(100) + 1;
    p->n_tokens = (int32_t)prop_draw(TOKENS_MAX) + 1;
    p->n_past = (int32_t)prop_draw(n_slots - (size_t)p->n_tokens);
    p->has_sinks = prop_draw(3) == 0;
    for (int32_t i = 0; i < BLOCKS_MAX; i++) p->blocks[i] = i;
    for (int32_t i = BLOCKS_MAX - 1; i > 0; i--) { /* scattered blocks */
        int32_t j = (int32_t)prop_draw((size_t)i + 1), t = p->blocks[i];
        p->blocks[i] = p->blocks[j];
        p->blocks[j] = t;
    }
    p->q = malloc((size_t)(p->n_tokens * s->n_head * s->head_k) * sizeof *p->q);
    for (int32_t i = 0; i < p->n_tokens * s->n_head * s->head_k; i++) p->q[i] = draw_float();
    p->k = malloc(n_slots * (size_t)(s->n_head_kv * s->head_k) * sizeof *p->k);
    p->v = malloc(n_slots * (size_t)(s->n_head_kv * s->head_v) * sizeof *p->v);
    p->k_cache = cache_make(s->kv_type, p->k, n_slots * (size_t)(s->n_head_kv * s->head_k));
    p->v_cache = cache_make(s->kv_type, p->v, n_slots * (size_t)(s->n_head_kv * s->head_v));
    p->sinks = malloc((size_t)s->n_head * sizeof *p->sinks);
    for (int32_t h = 0; h < s->n_head; h++) p->sinks[h] = draw_float();
}

static void problem_done(struct problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->k_cache);
    free(p->v_cache);
    free(p->sinks);
}

static const float *cached(const struct problem *p, bool value, int32_t pos, int32_t head)
{
    const struct attn_shape *s = &p->shape;
    size_t row = (size_t)(p->blocks[pos / BLOCK] * BLOCK + pos % BLOCK) * (size_t)s->n_head_kv +
                 (size_t)head;
    return value && !s->v_in_k ? p->v + row * (size_t)s->head_v : p->k + row * (size_t)s->head_k;
}

/* One token's one head, in double. */
static void naive(const struct problem *p, int32_t t, int32_t h, double *out)
{
    const struct attn_shape *s = &p->shape;
    const float *q = p->q + (size_t)(t * s->n_head + h) * (size_t)s->head_k;
    int32_t pos = p->n_past + t, first = s->window && pos >= s->window ? pos - s->window + 1 : 0,
            kv = h / (s->n_head / s->n_head_kv);
    double w[BLOCKS_MAX * BLOCK], top = p->has_sinks ? (double)p->sinks[h] : -INFINITY, sum;
    for (int32_t j = first; j <= pos; j++) {
        const float *k = cached(p, false, j, kv);
        double dot = 0;
        for (int32_t d = 0; d < s->head_k; d++) dot += (double)q[d] * (double)k[d];
        dot *= (double)s->scale;
        w[j] = s->softcap > 0 ? (double)s->softcap * tanh(dot / (double)s->softcap) : dot;
        top = w[j] > top ? w[j] : top;
    }
    sum = p->has_sinks ? exp((double)p->sinks[h] - top) : 0;
    memset(out, 0, (size_t)s->head_v * sizeof *out);
    for (int32_t j = first; j <= pos; j++) {
        const float *v = cached(p, true, j, kv);
        double e = exp(w[j] - top);
        sum += e;
        for (int32_t d = 0; d < s->head_v; d++) out[d] += e * (double)v[d];
    }
    for (int32_t d = 0; d < s->head_v; d++) out[d] /= sum;
}

static float *run(const struct problem *p, unit_fn unit, int32_t per_tile)
{
    struct attn_tile tiles[TOKENS_MAX];
    struct attn_batch batch = {0, tiles, BLOCK};
    size_t n = (size_t)(p->n_tokens * p->shape.n_head * p->shape.head_v);
    float *out = malloc(n * sizeof *out);
    void *scratch = aligned_alloc(64, attn_scratch_bytes(&p->shape));
    struct attn_call call = {
        &p->shape, &batch, p->q, p->k_cache, p->v_cache, p->has_sinks ? p->sinks : NULL, out};
    memset(scratch, 0xff,
           attn_scratch_bytes(&p->shape)); /* NaN: nothing may be read before it is written */
    for (int32_t t = 0; t < p->n_tokens; t += per_tile)
        tiles[batch.n_tiles++] = (struct attn_tile){
            t, p->n_tokens - t < per_tile ? p->n_tokens - t : per_tile, p->n_past + t, p->blocks};
    for (int32_t u = attn_n_units(&p->shape, &batch) - 1; u >= 0; u--) unit(&call, u, scratch);
    free(scratch);
    return out;
}

static void compare(const struct problem *p, const float *got)
{
    double want[1024];
    for (int32_t t = 0; t < p->n_tokens; t++) {
        for (int32_t h = 0; h < p->shape.n_head; h++) {
            naive(p, t, h, want);
            for (int32_t d = 0; d < p->shape.head_v; d++) {
                double x = (double)
                    got[(size_t)(t * p->shape.n_head + h) * (size_t)p->shape.head_v + (size_t)d];
                if (!(fabs(x - want[d]) < 1e-4))
                    fail_msg("token %d head %d element %d: %g, should be %g", t, h, d, x, want[d]);
            }
        }
    }
}

static void check_unit(unit_fn unit)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct problem p;
        problem_init(&p);
        int32_t most = attn_tile_tokens(p.shape.n_head, p.shape.n_head_kv);
        float *a = run(&p, unit, most), *b = run(&p, unit, (int32_t)prop_draw((size_t)most) + 1);
        compare(&p, a);
        assert_memory_equal(a, b,
                            (size_t)(p.n_tokens * p.shape.n_head * p.shape.head_v) * sizeof *a);
        free(a);
        free(b);
        problem_done(&p);
    }
}

static void test_generic(void **state)
{
    (void)state;
    check_unit(attn_unit_generic);
}

static void test_avx2(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (sl_cpu_has(SL_CPU_AVX2) && sl_cpu_has(SL_CPU_FMA) && sl_cpu_has(SL_CPU_F16C)) {
        check_unit(attn_unit_avx2);
        return;
    }
#endif
    skip();
}

static void test_avx512(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (sl_cpu_has(SL_CPU_AVX512)) {
        check_unit(attn_unit_avx512);
        return;
    }
#endif
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generic),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_avx512),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
