/* kernels: our products with quantised weights against ggml's own on the same matrix, alternating
 * in one run, on one thread, beside what the processor can do at most: reading a buffer of the
 * matrix's size, and 8-bit multiply-adds with AVX-512 VNNI. Times are the least of many runs.
 *
 *     kernels [--type q4_K] [--k 1536] [--m 8960] [--cols 1,8,512] [--ms 400] [--kernel avx2]
 */
#include "floor.h"
#include "base/cpu.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "exec/llm/backend.h"
#include "exec/llm/qmat.h"
#include <getopt.h>
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define COLS_MAX 8
#define SEED 1

struct options {
    const char *type, *kernel;
    int64_t k, m, cols[COLS_MAX];
    int n_cols;
    double ms;
};

struct problem {
    enum qmat_type type;
    enum ggml_type ggml_type;
    int64_t k, m, n_max;
    size_t bytes; /* of the matrix in the file */
    void *blocks;
    struct qmat packed;
    float *x, *ours;
    char *columns;
};

struct peer { /* ggml's product of the same matrix with n columns */
    struct ggml_context *ctx;
    struct ggml_backend_buffer *weights, *rest;
    struct ggml_cgraph *graph;
    struct ggml_tensor *w, *x, *y;
};

static const struct {
    const char *name;
    enum ggml_type type;
} types[] = {{"q4_0", GGML_TYPE_Q4_0},
             {"q8_0", GGML_TYPE_Q8_0},
             {"q4_K", GGML_TYPE_Q4_K},
             {"q5_K", GGML_TYPE_Q5_K},
             {"q6_K", GGML_TYPE_Q6_K}};
#define N_TYPES (sizeof types / sizeof *types)

static void die(const char *what)
{
    fprintf(stderr, "kernels: %s\n", what);
    exit(1);
}

static void *big_alloc(size_t n)
{
    void *p = floor_alloc(n);
    if (!p) die("no memory");
    return p;
}

static void problem_init(struct problem *p, const struct options *o, enum ggml_type type)
{
    size_t row_bytes = ggml_row_size(type, o->k);
    float *row = big_alloc((size_t)o->k * sizeof *row);
    *p = (struct problem){.ggml_type = type, .k = o->k, .m = o->m};
    if (!qmat_type_from_gguf(type, &p->type)) die("no kernel for this type");
    for (int i = 0; i < o->n_cols; i++) p->n_max = o->cols[i] > p->n_max ? o->cols[i] : p->n_max;
    p->bytes = row_bytes * (size_t)p->m;
    p->blocks = big_alloc(p->bytes);
    for (int64_t r = 0; r < p->m; r++) {
        for (int64_t i = 0; i < p->k; i++)
            row[i] = (float)(sl_rng_uniform(SEED, 0, (uint64_t)(r * p->k + i)) - 0.5);
        ggml_quantize_chunk(type, row, (char *)p->blocks + (size_t)r * row_bytes, 0, 1, p->k, NULL);
    }
    void *packed = big_alloc(qmat_bytes(p->type, p->k, p->m));
    p->packed = (struct qmat){p->type, p->k, p->m, packed};
    qmat_pack(&p->packed, p->blocks, 0, p->m, packed);
    p->x = big_alloc((size_t)(p->n_max * p->k) * sizeof *p->x);
    for (int64_t i = 0; i < p->n_max * p->k; i++)
        p->x[i] = (float)(sl_rng_uniform(SEED, 1, (uint64_t)i) - 0.5);
    p->ours = big_alloc((size_t)(p->n_max * p->m) * sizeof *p->ours);
    p->columns = big_alloc(qmat_columns_bytes(p->type, p->k, p->n_max));
    free(row);
}

static void problem_done(struct problem *p)
{
    free(p->blocks);
    free((void *)(uintptr_t)p->packed.data);
    free(p->x);
    free(p->ours);
    free(p->columns);
}

static double our_time(const struct problem *p, const struct qmat_kernel *kernel, int64_t n)
{
    struct qmat_columns columns = {p->type, p->k, n, p->x, (size_t)p->k, p->columns, NULL};
    struct qmat_product product = {&p->packed, p->columns, n, p->ours, (size_t)p->m, NULL};
    double begin = floor_seconds();
    for (int64_t c = 0; c < n; c++) kernel->quantise(&columns, c, 0, qmat_n_pieces(p->k));
    for (int64_t c = 0; c < n; c += QMAT_COLS_MAX) kernel->product(&product, c, 0, p->m);
    return floor_seconds() - begin;
}

/* The buffer type that ggml likes best for this product: its repacking ones come first. */
static struct ggml_backend_buffer_type *best_buffer(ggml_backend_dev_t cpu, struct ggml_tensor *w,
                                                    struct ggml_tensor *y)
{
    ggml_backend_dev_get_extra_bufts_t extra =
        (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t *b = extra ? extra(cpu) : NULL; b && *b; b++) {
        w->buffer = ggml_backend_buft_alloc_buffer(*b, 0);
        bool ok = w->buffer && ggml_backend_dev_supports_op(cpu, y);
        ggml_backend_buffer_free(w->buffer);
        w->buffer = NULL;
        if (ok) return *b;
    }
    return ggml_backend_dev_buffer_type(cpu);
}

static void peer_init(struct peer *q, const struct problem *p, struct ggml_backend *cpu, int64_t n)
{
    struct ggml_init_params params = {64 * ggml_tensor_overhead() + ggml_graph_overhead(), NULL,
                                      true};
    ggml_backend_dev_t dev = ggml_backend_get_device(cpu);
    q->ctx = ggml_init(params);
    q->w = ggml_new_tensor_2d(q->ctx, p->ggml_type, p->k, p->m);
    q->x = ggml_new_tensor_2d(q->ctx, GGML_TYPE_F32, p->k, n);
    q->y = ggml_mul_mat(q->ctx, q->w, q->x);
    struct ggml_backend_buffer_type *buft = best_buffer(dev, q->w, q->y);
    q->weights = ggml_backend_buft_alloc_buffer(buft, ggml_backend_buft_get_alloc_size(buft, q->w));
    if (!q->weights) die("no memory");
    madvise(ggml_backend_buffer_get_base(q->weights), p->bytes, MADV_HUGEPAGE);
    if (ggml_backend_tensor_alloc(q->weights, q->w, ggml_backend_buffer_get_base(q->weights)))
        die("ggml does not take the matrix");
    q->graph = ggml_new_graph(q->ctx);
    ggml_build_forward_expand(q->graph, q->y);
    q->rest = ggml_backend_alloc_ctx_tensors(q->ctx, cpu);
    ggml_backend_tensor_set(q->w, p->blocks, 0, p->bytes);
    ggml_backend_tensor_set(q->x, p->x, 0, (size_t)(n * p->k) * sizeof *p->x);
}

static void peer_done(struct peer *q)
{
    ggml_backend_buffer_free(q->weights);
    ggml_backend_buffer_free(q->rest);
    ggml_free(q->ctx);
}

static double peer_time(const struct peer *q, struct ggml_backend *cpu)
{
    double begin = floor_seconds();
    if (ggml_backend_graph_compute(cpu, q->graph) != GGML_STATUS_SUCCESS) die("ggml failed");
    return floor_seconds() - begin;
}

static volatile uint64_t sink;

/* Seconds to read n bytes once. */
static double read_time(const void *bytes, size_t n)
{
    double begin = floor_seconds();
    sink = floor_read(bytes, n);
    return floor_seconds() - begin;
}

static double peak_time(void)
{
    double begin = floor_seconds();
    floor_multiply();
    return floor_seconds() - begin;
}

static double least(double a, double b)
{
    return b < a ? b : a;
}

static void print_peak(const struct options *o)
{
    double best = INFINITY, end = floor_seconds() + o->ms / 1e3;
    if (!sl_cpu_has(SL_CPU_AVX512_VNNI)) return;
    while (floor_seconds() < end) best = least(best, peak_time());
    printf("peak: %.0f GOPS with AVX-512 VNNI\n", FLOOR_OPS / best / 1e9);
}

static double difference(const struct problem *p, const struct peer *q, int64_t n)
{
    double diff = 0, ref = 0;
    float *theirs = big_alloc((size_t)(n * p->m) * sizeof *theirs);
    ggml_backend_tensor_get(q->y, theirs, 0, (size_t)(n * p->m) * sizeof *theirs);
    for (int64_t i = 0; i < n * p->m; i++) {
        diff += ((double)theirs[i] - (double)p->ours[i]) * ((double)theirs[i] - (double)p->ours[i]);
        ref += (double)theirs[i] * (double)theirs[i];
    }
    free(theirs);
    return sqrt(diff / ref);
}

static void compare(const struct problem *p, const struct options *o, const char *name,
                    const struct qmat_kernel *kernel, struct ggml_backend *cpu, int64_t n)
{
    double ours = INFINITY, theirs = INFINITY, reading = INFINITY;
    double end = floor_seconds() + o->ms / 1e3, ops = 2.0 * (double)p->k * (double)p->m * (double)n;
    struct peer q;
    peer_init(&q, p, cpu, n);
    for (int i = 0; i < 3 || floor_seconds() < end; i++) {
        ours = least(ours, our_time(p, kernel, n));
        theirs = least(theirs, peer_time(&q, cpu));
        reading = least(reading, read_time(p->packed.data, p->bytes));
    }
    printf("%-5s %-11s %5lld %9.2f %9.2f %7.2f %9.0f %9.0f %8.1f %9.1e\n", name, kernel->name,
           (long long)n, (double)p->bytes / ours / 1e9, (double)p->bytes / theirs / 1e9,
           theirs / ours, ops / ours / 1e9, ops / theirs / 1e9, (double)p->bytes / reading / 1e9,
           difference(p, &q, n));
    fflush(stdout);
    peer_done(&q);
}

static void read_cols(struct options *o, char *list)
{
    o->n_cols = 0;
    for (char *save, *s = strtok_r(list, ",", &save); s && o->n_cols < COLS_MAX;
         s = strtok_r(NULL, ",", &save))
        o->cols[o->n_cols++] = atoll(s);
}

static void read_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"type", 1, NULL, 't'},
                                          {"k", 1, NULL, 'k'},
                                          {"m", 1, NULL, 'm'},
                                          {"cols", 1, NULL, 'n'},
                                          {"ms", 1, NULL, 's'},
                                          {"kernel", 1, NULL, 'c'},
                                          {0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 't': o->type = optarg; break;
        case 'k': o->k = atoll(optarg); break;
        case 'm': o->m = atoll(optarg); break;
        case 'n': read_cols(o, optarg); break;
        case 's': o->ms = atof(optarg); break;
        case 'c': o->kernel = optarg; break;
        default: exit(2);
        }
    if (o->k > 0 && o->k % 256 == 0 && o->m > 0) return;
    fprintf(stderr, "kernels: k is a multiple of 256\n");
    exit(2);
}

int main(int argc, char **argv)
{
    struct options o = {.k = 1536, .m = 8960, .cols = {1, 8, 512}, .n_cols = 3, .ms = 400};
    const struct qmat_kernel *list[QMAT_KERNELS_MAX];
    int n_kernels = qmat_kernels(list);
    struct sl_err err = SL_ERR_INIT;
    struct llm_backends backends;
    read_options(argc, argv, &o);
    if (llm_backends_open(&backends, 1, false, &err) != SL_OK) die(err.text);
    printf("ggml: %s; m %lld, k %lld; one thread\n", llm_backends_cpu_variant(), (long long)o.m,
           (long long)o.k);
    print_peak(&o);
    printf("type  kernel       cols  our GB/s ggml GB/s   ratio  our GOPS ggml GOPS read GB/s "
           "difference\n");
    for (size_t t = 0; t < N_TYPES; t++) {
        struct problem p;
        if (o.type && strcmp(o.type, types[t].name)) continue;
        problem_init(&p, &o, types[t].type);
        for (int i = 0; i < n_kernels; i++) {
            bool wanted = o.kernel ? !strcmp(o.kernel, list[i]->name) : i == 0;
            for (int c = 0; c < o.n_cols && wanted; c++)
                compare(&p, &o, types[t].name, list[i], backends.cpu, o.cols[c]);
        }
        problem_done(&p);
    }
    llm_backends_close(&backends);
    return 0;
}
