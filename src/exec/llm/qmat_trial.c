/* qmat_trial.c: kernels held against each other before one is trusted. */
#include "base/cpu.h"
#include "base/trial.h"
#include "exec/llm/qmat_int.h"
#include <assert.h>
#include <pthread.h>
#include <string.h>

/* Two steps; the rows of a whole piece, and of a part; one whole tile of columns, and a part. */
#define TRIAL_K 512
#define TRIAL_ROWS 104
#define TRIAL_COLS 21
#define TRIAL_PACKED_BYTES (112 * 544) /* q8_0 is the largest */
#define TRIAL_COLUMNS_BYTES (TRIAL_COLS * 2 * LARGE_RECORD)
#define TRIAL_MS 5000 /* it takes milliseconds; a busy machine may not run the child for long */

struct problem {
    struct qmat w;
    _Alignas(64) char packed[TRIAL_PACKED_BYTES];
    float x[TRIAL_COLS][TRIAL_K];
};

static uint8_t next_byte(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u; /* Numerical Recipes' ranqd1 */
    return (uint8_t)(*state >> 24);
}

/* Any bytes are a block. Without their second highest bits, all factors are finite. */
static void problem_init(struct problem *p, enum qmat_type type)
{
    char blocks[TRIAL_PACKED_BYTES];
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = (char)(next_byte(&state) & 0xbf);
    for (int c = 0; c < TRIAL_COLS; c++)
        for (int i = 0; i < TRIAL_K; i++) p->x[c][i] = (float)next_byte(&state) - 128.0f;
    p->w = (struct qmat){type, TRIAL_K, TRIAL_ROWS, p->packed};
    assert(qmat_bytes(type, TRIAL_K, TRIAL_ROWS) <= sizeof p->packed);
    qmat_pack(&p->w, blocks, 0, TRIAL_ROWS, p->packed);
}

static void run(const struct problem *p, const struct qmat_kernel *kernel,
                float y[TRIAL_COLS][TRIAL_ROWS])
{
    _Alignas(64) char columns[TRIAL_COLUMNS_BYTES];
    struct qmat_columns in = {p->w.type, TRIAL_K, TRIAL_COLS, p->x[0], TRIAL_K, columns, NULL};
    struct qmat_product product = {&p->w, columns, TRIAL_COLS, y[0], TRIAL_ROWS, NULL};
    for (int c = 0; c < TRIAL_COLS; c++) kernel->quantise(&in, c, 0, qmat_n_pieces(TRIAL_K));
    kernel->product(&product, 0, 0, TRIAL_ROWS);
}

bool qmat_kernels_agree(const struct qmat_kernel *a, const struct qmat_kernel *b)
{
    for (int t = 0; t < QMAT_TYPE_COUNT; t++) {
        struct problem p;
        float y[2][TRIAL_COLS][TRIAL_ROWS];
        problem_init(&p, (enum qmat_type)t);
        run(&p, a, y[0]);
        run(&p, b, y[1]);
        if (memcmp((const char *)y[0], (const char *)y[1], sizeof y[0]) != 0) return false;
    }
    return true;
}

#if defined(__x86_64__)
static pthread_once_t amx_once = PTHREAD_ONCE_INIT;
static const char *amx_problem;

static bool amx_agrees(void *unused)
{
    (void)unused;
    return qmat_kernels_agree(&qmat_amx, &qmat_avx512vnni);
}

static void amx_try(void)
{
    struct sl_trial trial = {.run = amx_agrees, .limit_ms = TRIAL_MS};
    amx_problem = sl_cpu_amx_problem();
    if (!amx_problem) amx_problem = sl_trial_text(sl_trial_run(&trial));
}

const char *qmat_amx_problem(void)
{
    pthread_once(&amx_once, amx_try);
    return amx_problem;
}
#else
const char *qmat_amx_problem(void)
{
    return sl_cpu_amx_problem();
}
#endif
