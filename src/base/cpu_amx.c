/* cpu_amx.c: the AMX trial. CPUID and XCR0 may promise tiles that a hypervisor or the kernel then
 * refuses with SIGILL, so the first tile instruction runs in a child process that may die of it. */
#include "base/cpu_amx.h"

#if defined(__x86_64__)
#include "base/trial.h"
#include "base/x86_tiles.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

#define TRIAL_MS 2000 /* it takes microseconds; a busy machine may not run the child for long */
#define A 1           /* tiles */
#define B 2
#define SUM 0

static pthread_once_t trial_once = PTHREAD_ONCE_INIT;
static const char *problem;

static int32_t dot(const int8_t *a, int8_t b[][TILE_ROW_BYTES], int col)
{
    int32_t sum = 0;
    for (int k = 0; k < TILE_ROW_BYTES; k++) sum += a[k] * b[k / 4][4 * col + k % 4];
    return sum;
}

/* The product of two whole tiles, against plain C. */
static bool tiles_multiply(void *unused)
{
    struct tile_config config = {.palette = 1};
    int8_t a[TILE_ROWS][TILE_ROW_BYTES], b[TILE_ROWS][TILE_ROW_BYTES];
    int32_t sums[TILE_ROWS][TILE_ROW_BYTES / 4] = {{0}};
    bool equal = true;
    (void)unused;
    for (int t = 0; t < TILE_COUNT; t++) {
        config.rows[t] = TILE_ROWS;
        config.row_bytes[t] = TILE_ROW_BYTES;
    }
    for (int i = 0; i < TILE_ROWS * TILE_ROW_BYTES; i++) {
        a[i / TILE_ROW_BYTES][i % TILE_ROW_BYTES] = (int8_t)(i * 7 + 1);
        b[i / TILE_ROW_BYTES][i % TILE_ROW_BYTES] = (int8_t)(i * 11 + 5);
    }
    tile_configure(&config);
    tile_zero(SUM);
    tile_load(A, a, TILE_ROW_BYTES);
    tile_load(B, b, TILE_ROW_BYTES);
    tile_dot(SUM, A, B);
    tile_store(SUM, sums, TILE_ROW_BYTES);
    tile_release();
    for (int r = 0; r < TILE_ROWS; r++)
        for (int c = 0; c < TILE_ROW_BYTES / 4; c++) equal &= sums[r][c] == dot(a[r], b, c);
    return equal;
}

static void try_once(void)
{
    struct sl_trial trial = {.run = tiles_multiply, .limit_ms = TRIAL_MS};
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA))
        problem = "is not permitted by the kernel";
    else
        problem = sl_trial_text(sl_trial_run(&trial));
}

const char *sl_cpu_amx_problem_tried(void)
{
    pthread_once(&trial_once, try_once);
    return problem;
}

#else

const char *sl_cpu_amx_problem_tried(void)
{
    return "is x86's";
}

#endif
