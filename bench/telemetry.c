/* telemetry: what a sample of this machine costs: microseconds of processor time in the median and
 * at worst, and the share of one core at one sample a second. Prints one line of JSON.
 *
 *     telemetry [--samples N] [--root FOLDER] */
#include "base/mem.h"
#include "grid/telemetry.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define N_SAMPLES_DEFAULT 2000
#define N_SAMPLES_MAX 1000000
#define NS_PER_S 1000000000LL

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print(const int64_t *took_ns, int n, const struct telemetry_sample *sample)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)took_ns[i];
    printf("{\"samples\": %d, \"cpus\": %g, \"accelerators\": %d, \"mean_us\": %.1f, "
           "\"median_us\": %.1f, \"p99_us\": %.1f, \"core_share\": %.6f}\n",
           n, sample->cpus, sample->n_accelerators, sum / n / 1e3, (double)took_ns[n / 2] / 1e3,
           (double)took_ns[n - 1 - n / 100] / 1e3, sum / n / NS_PER_S);
}

static int measure(const struct telemetry_cfg *cfg, int n)
{
    struct telemetry *telemetry = NULL;
    struct telemetry_sample sample;
    struct sl_err err = SL_ERR_INIT;
    int64_t *took_ns = sl_calloc((size_t)n, sizeof *took_ns);
    if (!took_ns || telemetry_create(cfg, &telemetry, &err) != SL_OK) {
        fprintf(stderr, "telemetry: %s\n", err.text);
        sl_free(took_ns);
        return 1;
    }
    telemetry_read(telemetry, 1, &sample);
    for (int i = 0; i < n; i++) {
        int64_t begin_ns = cpu_ns();
        telemetry_read(telemetry, (i + 2) * NS_PER_S, &sample);
        took_ns[i] = cpu_ns() - begin_ns;
    }
    qsort(took_ns, (size_t)n, sizeof *took_ns, compare);
    print(took_ns, n, &sample);
    telemetry_destroy(telemetry);
    sl_free(took_ns);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"samples", 1, NULL, 'n'}, {"root", 1, NULL, 'r'}, {0}};
    struct telemetry_cfg cfg = {.home = "/"};
    int n = N_SAMPLES_DEFAULT;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 'n': n = atoi(optarg); break;
        case 'r': cfg.root = optarg; break;
        default: return 2;
        }
    if (n < 1 || n > N_SAMPLES_MAX) {
        fprintf(stderr, "usage: telemetry [--samples N] [--root FOLDER]\n");
        return 2;
    }
    return measure(&cfg, n);
}
