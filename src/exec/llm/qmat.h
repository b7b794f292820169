/* qmat.h: products with quantised matrices on the CPU. Weights are repacked once so that one vector
 * holds four columns of 16 rows, activations are quantised once to 8 bits and shared by all
 * products that read them.
 * Floor: exec/llm.  Thread: any; the caller splits columns and rows among threads, each call uses
 * its own stack alone (under 64 KiB).  Allocates: nothing.
 * Invariant: a column's result depends on that column alone, bit for bit, whatever columns stand
 * beside it and however rows and columns are split.
 * The layouts are private to qmat*.c and differ between kernels only in the activations. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum qmat_type { QMAT_Q4_0, QMAT_Q8_0, QMAT_Q4_K, QMAT_Q5_K, QMAT_Q6_K, QMAT_TYPE_COUNT };

#define QMAT_ROWS 16      /* rows that are interleaved; rows are split among threads at these */
#define QMAT_COLS_MAX 128 /* columns per qmat_product: their sums stay in the first-level cache */

struct qmat { /* a packed matrix of m rows and k columns; y = W x */
    enum qmat_type type;
    int64_t k, m;
    const void *data; /* qmat_bytes() of them, 64-byte aligned */
};

struct qmat_product { /* y = W x for quantised columns */
    const struct qmat *w;
    const char *x; /* quantised, n columns */
    int64_t n;
    float *y; /* [n, m] f32, columns y_stride floats apart */
    size_t y_stride;
    const int32_t *to; /* [n]: column i of the result is number to[i] of y; NULL: i */
};

struct qmat_columns { /* columns on their way to be quantised for matrices of `type` */
    enum qmat_type type;
    int64_t k, n;
    const float *x; /* [n, k] f32, columns x_stride floats apart */
    size_t x_stride;
    char *out;         /* qmat_columns_bytes() */
    const float *gate; /* as x, which its SiLU is multiplied with before; NULL: there is none */
};

/* One build of the kernels. */
struct qmat_kernel {
    const char *name; /* "avx512vnni" */
    /* Quantises pieces [first, last) of column `col`. */
    void (*quantise)(const struct qmat_columns *cols, int64_t col, int64_t first, int64_t last);
    /* Rows [row_first, row_last) of columns [col, col + QMAT_COLS_MAX), or as many as there are.
     * col is a multiple of QMAT_COLS_MAX, rows are as in qmat_pack. */
    void (*product)(const struct qmat_product *p, int64_t col, int64_t row_first, int64_t row_last);
};

/* Plain C, any processor: what the others are tested against. */
extern const struct qmat_kernel qmat_generic;
/* x86: to be called only where the processor has the instructions. */
extern const struct qmat_kernel qmat_avx2, qmat_avxvnni, qmat_avx512vnni, qmat_amx;
/* AArch64: likewise. */
extern const struct qmat_kernel qmat_dotprod, qmat_i8mm, qmat_sve;

/* Kernels that this processor can run, fastest first, generic last. Returns how many. */
#define QMAT_KERNELS_MAX 8
int qmat_kernels(const struct qmat_kernel *out[QMAT_KERNELS_MAX]);

/* The fastest one, or what STARLANE_KERNELS names. NULL: ggml's own products are to be used,
 * because the variable is "off" or this processor has nothing better than plain C. */
const struct qmat_kernel *qmat_kernel_chosen(void);

/* Do two kernels give the same bits for a small product of every type? */
bool qmat_kernels_agree(const struct qmat_kernel *a, const struct qmat_kernel *b);

/* Why AMX is not among qmat_kernels(), to follow its name: "dies". NULL: it is. Tried once, in a
 * child process. */
const char *qmat_amx_problem(void);

/* The kernels' type for a GGUF tensor type. False: there is none. */
bool qmat_type_from_gguf(uint32_t gguf_type, enum qmat_type *out);

int64_t qmat_block(enum qmat_type type); /* elements per block: k must be a multiple */
size_t qmat_bytes(enum qmat_type type, int64_t k, int64_t m); /* of a packed matrix */

/* Packs rows [row_first, row_last) of `blocks`, m rows as GGUF has them, into `out`. row_first is a
 * multiple of QMAT_ROWS; row_last too, or m. */
void qmat_pack(const struct qmat *shape, const void *blocks, int64_t row_first, int64_t row_last,
               void *out);

/* Room for n quantised columns of k elements, and how many pieces one column is quantised in. What
 * is quantised by a kernel is for that kernel alone. */
size_t qmat_columns_bytes(enum qmat_type type, int64_t k, int64_t n);
int64_t qmat_n_pieces(int64_t k);

/* Rows of a product with n columns are split at multiples of these, if kernels are to work at their
 * best: multiples of QMAT_ROWS. */
int64_t qmat_chunk_rows(int64_t n);

/* Do two types read the same quantised columns? */
bool qmat_shares_columns(enum qmat_type a, enum qmat_type b);
