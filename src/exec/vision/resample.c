#include "exec/vision/resample.h"
#include "base/mem.h"
#include <math.h>

static double kernel_bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* R. Keys, Cubic convolution interpolation for digital image processing, 1981, eq. 4. */
static double kernel_bicubic(double x, double a)
{
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return a * (((x - 5) * x + 8) * x - 4);
    return 0;
}

static double kernel(const struct axis *axis, double x)
{
    switch (axis->resample) {
    case RESAMPLE_NEAREST: return x >= -0.5 && x < 0.5 ? 1 : 0;
    case RESAMPLE_BILINEAR: return kernel_bilinear(x);
    case RESAMPLE_BICUBIC: break;
    }
    return kernel_bicubic(x, axis->antialias ? -0.5 : -0.75);
}

/* Half the kernel's width, in source pixels. */
static double support(const struct axis *axis, double stretch)
{
    double half = axis->resample == RESAMPLE_BICUBIC ? 2 : 1;
    return half * stretch;
}

/* How much wider the kernel is than the distance of two source pixels. */
static double stretch_of(const struct axis *axis)
{
    bool widens = axis->antialias && axis->resample != RESAMPLE_NEAREST && axis->scale < 1;
    return widens ? 1 / axis->scale : 1;
}

static int32_t clamp(double v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

static void fill_nearest(const struct axis *axis, struct axis_weights *out)
{
    for (int32_t i = 0; i < axis->n_target; i++) {
        double middle = (i + 0.5 - axis->offset) / axis->scale;
        /* A middle that lies on the border of two pixels belongs to the latter, whatever the
         * division's last bit says. */
        out->first[i] = clamp(floor(middle + 1e-9), 0, axis->n_source - 1);
        out->weights[i] = 1;
    }
}

/* The weights of one target pixel; what lies beyond the source counts for its outermost pixel
 * without antialias, and for nothing with it, as OpenCV and PIL have it. */
static void fill_row(const struct axis *axis, double middle, int32_t first, int32_t n_taps,
                     float *row)
{
    double stretch = stretch_of(axis), half = support(axis, stretch), sum = 0;
    int64_t begin = (int64_t)floor(middle - half), end = (int64_t)ceil(middle + half);
    for (int32_t t = 0; t < n_taps; t++) row[t] = 0;
    for (int64_t s = begin; s <= end; s++) {
        double weight = kernel(axis, ((double)s + 0.5 - middle) / stretch);
        bool outside = s < 0 || s >= axis->n_source;
        if (weight == 0 || (outside && axis->antialias)) continue;
        row[clamp((double)s, 0, axis->n_source - 1) - first] += (float)weight;
        sum += weight;
    }
    for (int32_t t = 0; t < n_taps && sum != 0; t++) row[t] = (float)(row[t] / sum);
}

static void fill(const struct axis *axis, struct axis_weights *out)
{
    double half = support(axis, stretch_of(axis));
    for (int32_t i = 0; i < axis->n_target; i++) {
        double middle = (i + 0.5 - axis->offset) / axis->scale;
        if (middle < 0) middle = 0;
        if (middle > axis->n_source) middle = axis->n_source;
        int32_t first = clamp(floor(middle - half), 0, axis->n_source - out->n_taps);
        out->first[i] = first;
        fill_row(axis, middle, first, out->n_taps, out->weights + (size_t)i * out->n_taps);
    }
}

sl_status axis_weights_init(const struct axis *axis, struct axis_weights *out)
{
    bool nearest = axis->resample == RESAMPLE_NEAREST;
    double n_taps = nearest ? 1 : 2 * ceil(support(axis, stretch_of(axis))) + 2;
    *out = (struct axis_weights){.n_taps = clamp(n_taps, 1, axis->n_source)};
    size_t n = (size_t)axis->n_target;
    out->first = sl_calloc(n, sizeof *out->first);
    out->weights = sl_calloc(n, (size_t)out->n_taps * sizeof *out->weights);
    if (!out->first || !out->weights) {
        axis_weights_done(out);
        return SL_NOMEM;
    }
    if (nearest)
        fill_nearest(axis, out);
    else
        fill(axis, out);
    return SL_OK;
}

void axis_weights_done(struct axis_weights *weights)
{
    sl_free(weights->first);
    sl_free(weights->weights);
    *weights = (struct axis_weights){0};
}
