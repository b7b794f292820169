/* calibrate_measure.c: what a stage takes on this machine, measured on made-up stages
 * (exec/llm/probe.h) of four shapes:
 *
 *     long     weights past the caches, 1, 8 and 32 rows: how fast weights come from memory, and
 *              FLOP/s of products meanwhile
 *     wide     two layers, 128 rows: FLOP/s of products
 *     narrow   the same with a small feed-forward part: what of the time is not products
 *     tiny     next to no products: what a layer and a step take besides
 *
 * All times are the least of some runs, as processor time: a run that was disturbed is longer. */
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/backend.h"
#include "exec/llm/probe.h"
#include "grid/calibrate.h"
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAM_BYTES 256e6 /* as much as the largest cache: less is read from there, with luck */
#define STREAM_BYTES_LEAST 32e6
#define STREAM_PART 8     /* of the memory that is left at most */
#define RUNS_MIN 2        /* the first one fills caches and builds the graph */
#define RUN_BUDGET_S 0.04 /* for each number of rows; slow machines take their RUNS_MIN */
#define CONTEXT 1024      /* of the attention's measurement */
#define SHARE_S 0.4       /* some periods of a quota, 100 ms each */
#define SHARE_MIN 0.02
#define DISK_BYTES (8 << 20) /* of each file */
#define DISK_FILES 4
#define DISK_MIN_BYTES (4 << 20) /* less says nothing about the disk */

struct bench {
    const struct llm_backends *backends;
    struct split_machine *out;
    struct sl_err *err;
    double stream_bytes; /* of a long stage's weights */
};

static const struct llm_probe_shape wide = {
    .n_layer = 2, .n_embd = 1024, .n_ff = 4096, .n_head = 8, .n_head_kv = 2, .n_ctx = CONTEXT};
static const struct llm_probe_shape narrow = {
    .n_layer = 2, .n_embd = 1024, .n_ff = 1024, .n_head = 8, .n_head_kv = 2, .n_ctx = 128};
static const struct llm_probe_shape tiny = {
    .n_layer = 16, .n_embd = 64, .n_ff = 64, .n_head = 1, .n_head_kv = 1, .n_ctx = 128};

/* The least time of some runs. */
static sl_status time_rows(const struct bench *b, struct llm_probe *probe, int32_t n_rows,
                           int32_t pos, double *out_s)
{
    double least = INFINITY, spent = 0;
    for (int i = 0; i < RUNS_MIN || spent < RUN_BUDGET_S; i++) {
        double seconds;
        sl_status status = llm_probe_run(probe, n_rows, pos, &seconds, NULL, b->err);
        if (status != SL_OK) return status;
        least = fmin(least, seconds);
        spent += fmax(seconds, 1e-5);
    }
    *out_s = least;
    return SL_OK;
}

static sl_status time_shape(const struct bench *b, const struct llm_probe_shape *shape,
                            const char *type, int32_t n_rows, double *out_s)
{
    struct llm_probe_shape typed = *shape;
    struct llm_probe *probe;
    typed.type = type;
    sl_status status = llm_probe_open(b->backends, &typed, &probe, b->err);
    if (status != SL_OK) return status;
    status = time_rows(b, probe, n_rows, 0, out_s);
    llm_probe_close(probe);
    return status;
}

/* --- what is not products --- */

static sl_status measure_small(const struct bench *b)
{
    struct llm_probe_shape shorter = tiny;
    double many = 0, few = 0;
    shorter.n_layer = tiny.n_layer / 4;
    sl_status status = time_shape(b, &tiny, "q4_0", 1, &many);
    if (status == SL_OK) status = time_shape(b, &shorter, "q4_0", 1, &few);
    if (status != SL_OK) return status;
    b->out->layer_s = fmax(0, (many - few) / (tiny.n_layer - shorter.n_layer));
    b->out->step_s = fmax(0, few - shorter.n_layer * b->out->layer_s);
    return SL_OK;
}

/* Of two shapes that differ in nothing but the size of their products: what they would take
 * without any is the rest, in proportion to rows and width. */
static sl_status measure_values(const struct bench *b, struct llm_probe *full, double full_s)
{
    const int32_t rows = LLM_PROBE_ROWS_MAX;
    struct llm_probe_shape less = narrow;
    struct llm_probe *probe;
    double less_s = 0;
    less.type = split_weight_name(SPLIT_Q4_0);
    sl_status status = llm_probe_open(b->backends, &less, &probe, b->err);
    if (status != SL_OK) return status;
    status = time_rows(b, probe, rows, 0, &less_s);
    double a = llm_probe_layer_flops(full), c = llm_probe_layer_flops(probe);
    double rest = (less_s * a - full_s * c) / (a - c) - b->out->step_s;
    rest = rest / wide.n_layer - b->out->layer_s;
    b->out->value_s = fmax(0, rest / rows / wide.n_embd);
    llm_probe_close(probe);
    return status;
}

static sl_status measure_attention(const struct bench *b, struct llm_probe *probe)
{
    const int32_t rows = LLM_PROBE_ROWS_MAX;
    double flops = llm_probe_attn_flops(probe) * wide.n_layer;
    double near_one = 0, far_one = 0, near_many = 0, far_many = 0;
    sl_status status = time_rows(b, probe, 1, 0, &near_one);
    if (status == SL_OK) status = time_rows(b, probe, 1, CONTEXT - 1, &far_one);
    if (status == SL_OK) status = time_rows(b, probe, rows, 0, &near_many);
    if (status == SL_OK) status = time_rows(b, probe, rows, CONTEXT - rows, &far_many);
    if (status != SL_OK) return status;
    if (far_one > near_one) b->out->attn_one = (CONTEXT - 1) * flops / (far_one - near_one);
    if (far_many > near_many)
        b->out->attn_many = (CONTEXT - rows) * (double)rows * flops / (far_many - near_many);
    return SL_OK;
}

/* --- products --- */

static double without_small(const struct bench *b, double seconds, int32_t n_layer, int32_t rows)
{
    double small = b->out->layer_s + rows * (double)wide.n_embd * b->out->value_s;
    double rest = seconds - b->out->step_s - n_layer * small;
    return rest > seconds / 10 ? rest : seconds / 10; /* small parts that were measured too long */
}

/* Few rows on weights that come from memory: reading and computing overlap only in part. */
static sl_status measure_long(const struct bench *b, enum split_weight weight,
                              struct llm_probe *probe, int32_t n_layer)
{
    struct split_speed *speed = &b->out->speed[weight];
    double seconds = 0;
    sl_status status = time_rows(b, probe, 1, 0, &seconds);
    speed->bytes_s = n_layer * llm_probe_layer_bytes(probe) / without_small(b, seconds, n_layer, 1);
    for (int i = 0; i + 1 < SPLIT_CURVE && status == SL_OK; i++) {
        int32_t rows = split_curve_rows[i];
        double flops = rows * n_layer * llm_probe_layer_flops(probe);
        status = time_rows(b, probe, rows, 0, &seconds);
        speed->flops_s[i] = flops / without_small(b, seconds, n_layer, rows);
    }
    return status;
}

/* Many rows, and with the first type what is not products. */
static sl_status measure_wide(const struct bench *b, enum split_weight weight,
                              struct llm_probe *probe)
{
    const int32_t rows = LLM_PROBE_ROWS_MAX;
    double flops = rows * wide.n_layer * llm_probe_layer_flops(probe), seconds = 0;
    sl_status status = time_rows(b, probe, rows, 0, &seconds);
    if (status == SL_OK && weight == SPLIT_Q4_0) {
        status = measure_values(b, probe, seconds);
        if (status == SL_OK) status = measure_attention(b, probe);
    }
    if (status == SL_OK)
        b->out->speed[weight].flops_s[SPLIT_CURVE - 1] =
            flops / without_small(b, seconds, wide.n_layer, rows);
    return status;
}

static sl_status measure_weight(const struct bench *b, enum split_weight weight)
{
    struct llm_probe_shape shape = wide;
    struct llm_probe *probe;
    shape.type = split_weight_name(weight);
    sl_status status = llm_probe_open(b->backends, &shape, &probe, b->err);
    if (status != SL_OK) return status;
    double layer_bytes = llm_probe_layer_bytes(probe);
    status = measure_wide(b, weight, probe);
    llm_probe_close(probe);
    if (status != SL_OK) return status;
    shape.n_ctx = LLM_PROBE_ROWS_MAX;
    shape.n_layer = (int32_t)(b->stream_bytes / layer_bytes) + 1;
    status = llm_probe_open(b->backends, &shape, &probe, b->err);
    if (status != SL_OK) return status;
    status = measure_long(b, weight, probe, shape.n_layer);
    llm_probe_close(probe);
    return status;
}

/* --- the machine --- */

/* Under a quota: which share of the time it really leaves, over some of its periods. */
static sl_status measure_share(const struct bench *b, double cpu_quota)
{
    struct llm_probe_shape shape = narrow;
    struct llm_probe *probe;
    double cpu = 0, wall = 0, nominal = cpu_quota / b->backends->n_threads;
    b->out->share = 1;
    if (!(cpu_quota > 0) || nominal >= 1) return SL_OK;
    shape.type = split_weight_name(SPLIT_Q4_0);
    sl_status status = llm_probe_open(b->backends, &shape, &probe, b->err);
    if (status != SL_OK) return status;
    while (wall < SHARE_S && status == SL_OK) {
        double cpu_s = 0, wall_s = 0;
        status = llm_probe_run(probe, 32, 0, &cpu_s, &wall_s, b->err);
        cpu += cpu_s;
        wall += wall_s;
    }
    llm_probe_close(probe);
    /* Less than the quota is what others took meanwhile, and will not always take. */
    if (status == SL_OK) b->out->share = fmax(SHARE_MIN, fmin(1, fmax(cpu / wall, nominal * 0.8)));
    return status;
}

/* Reads a part of a file that is not in memory; 0 bytes when it is too short. */
static double read_file(int folder, const char *name, char *buffer, double *seconds)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    ssize_t n = 0;
    if (fd < 0) return 0;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size >= DISK_MIN_BYTES &&
        posix_fadvise(fd, 0, DISK_BYTES, POSIX_FADV_DONTNEED) == 0) {
        int64_t from = sl_now_ns();
        n = read(fd, buffer, DISK_BYTES);
        *seconds += (double)(sl_now_ns() - from) / 1e9;
    }
    close(fd);
    return n > 0 ? (double)n : 0;
}

static void measure_disk(const struct bench *b, const char *dir)
{
    DIR *folder = dir ? opendir(dir) : NULL;
    char *buffer = sl_malloc(DISK_BYTES);
    double bytes = 0, seconds = 0;
    int n_files = 0;
    for (struct dirent *entry;
         folder && buffer && n_files < DISK_FILES && (entry = readdir(folder));) {
        double n = read_file(dirfd(folder), entry->d_name, buffer, &seconds);
        n_files += n > 0;
        bytes += n;
    }
    if (seconds > 0) b->out->disk_bytes_s = bytes / seconds;
    sl_free(buffer);
    if (folder) closedir(folder);
}

static sl_status measure_all(const struct bench *b, double cpu_quota)
{
    sl_status status = measure_small(b);
    for (int w = 0; w < SPLIT_WEIGHT_COUNT && status == SL_OK; w++)
        status = measure_weight(b, (enum split_weight)w);
    if (status == SL_OK) status = measure_share(b, cpu_quota);
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) /* the fastest to stream shows what memory gives */
        b->out->memory_bytes_s = fmax(b->out->memory_bytes_s, b->out->speed[w].bytes_s);
    return status;
}

static double stream_bytes(void)
{
    struct sl_cgroup_limits limits;
    sl_cgroup_read("", &limits);
    double left = (double)limits.memory_left_bytes / STREAM_PART;
    return fmax(STREAM_BYTES_LEAST, fmin(STREAM_BYTES, left));
}

sl_status calibration_measure(const struct calibration_key *key, const char *dir,
                              struct calibration *out, struct sl_err *err)
{
    struct llm_backends backends = {0};
    int64_t from = sl_now_ns();
    *out = (struct calibration){.key = *key, .measured_unix_s = sl_unix_time_ms() / 1000};
    sl_status status = llm_backends_open(&backends, key->n_threads, false, err);
    if (status != SL_OK) return status;
    const struct bench b = {
        .backends = &backends, .out = &out->machine, .err = err, .stream_bytes = stream_bytes()};
    out->machine.period_s = key->cpu_period_s;
    status = measure_all(&b, key->cpu_quota);
    if (status == SL_OK) measure_disk(&b, dir);
    llm_backends_close(&backends);
    out->took_s = (double)(sl_now_ns() - from) / 1e9;
    return status;
}
