/* svg_plot.h: cumulative distributions as a picture (SVG 1.1), for a browser or a document.
 * Floor: cli.  Thread: main.  Allocates: what it appends. */
#pragma once
#include "base/buf.h"
#include <stddef.h>

#define SVG_SERIES_MAX 12 /* colours that can be told apart */

struct svg_series {
    const char *name;
    const double *values; /* sorted */
    size_t n;
};

/* Share of values at most x, x on a logarithmic axis. The texts are escaped. LIMIT (of the
 * buffer, or more than SVG_SERIES_MAX), NOMEM. */
SL_CHECK sl_status svg_plot_cdf(struct sl_buf *out, const char *title, const char *x_label,
                                const struct svg_series *series, size_t n_series);
