/* svg_plot.c: see svg_plot.h. */
#include "cli/svg_plot.h"
#include "cli/page.h"

#include <math.h>

#define WIDTH 800.0
#define HEIGHT 480.0
#define LEFT 64.0
#define RIGHT 200.0 /* of the legend */
#define TOP 48.0
#define BOTTOM 56.0
#define POINTS 400 /* of a curve: two a pixel are not seen */
#define VALUE_MIN 1e-4

static const char *const colours[SVG_SERIES_MAX] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                    "#e69f00", "#56b4e9", "#000000", "#999999",
                                                    "#7a5195", "#bc5090", "#488f31", "#8c564b"};

struct axis {
    int low, high; /* powers of ten */
};

static double x_of(struct axis axis, double value)
{
    double at = log10(value > VALUE_MIN ? value : VALUE_MIN);
    double share = (at - axis.low) / (axis.high - axis.low);
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_of(double share)
{
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
}

static struct axis axis_of(const struct svg_series *series, size_t n_series)
{
    double least = INFINITY, most = VALUE_MIN;
    for (size_t i = 0; i < n_series; i++) {
        if (series[i].n == 0) continue;
        least = fmin(least, series[i].values[0]);
        most = fmax(most, series[i].values[series[i].n - 1]);
    }
    least = fmax(fmin(least, most), VALUE_MIN);
    struct axis axis = {(int)floor(log10(least)), (int)ceil(log10(most))};
    if (axis.high <= axis.low) axis.high = axis.low + 1;
    return axis;
}

static void add_text(struct page *page, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<': page_add(page, "&lt;"); break;
        case '>': page_add(page, "&gt;"); break;
        case '&': page_add(page, "&amp;"); break;
        case '"': page_add(page, "&quot;"); break;
        default: page_add(page, "%c", *text);
        }
    }
}

static void add_label(struct page *page, double x, double y, const char *anchor, const char *text)
{
    page_add(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    add_text(page, text);
    page_add(page, "</text>\n");
}

static void add_grid(struct page *page, struct axis axis)
{
    page_add(page, "<g stroke=\"#ddd\" stroke-width=\"1\">\n");
    for (int i = 0; i <= 10; i += 2)
        page_add(page, "<path d=\"M%.1f %.1fH%.1f\"/>\n", LEFT, y_of(i / 10.0), WIDTH - RIGHT);
    for (int power = axis.low; power <= axis.high; power++)
        page_add(page, "<path d=\"M%.1f %.1fV%.1f\"/>\n", x_of(axis, pow(10, power)), y_of(1),
                 y_of(0));
    page_add(page, "</g>\n");
    for (int i = 0; i <= 10; i += 2)
        page_add(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%d %%</text>\n", LEFT - 8,
                 y_of(i / 10.0) + 4, i * 10);
    for (int power = axis.low; power <= axis.high; power++)
        page_add(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                 x_of(axis, pow(10, power)), y_of(0) + 18, pow(10, power));
}

static void add_curve(struct page *page, struct axis axis, const struct svg_series *series,
                      const char *colour)
{
    size_t n_points = series->n < POINTS ? series->n : POINTS;
    page_add(page, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (size_t i = 0; i < n_points; i++) {
        /* The last point is the greatest value, whatever is left out before. */
        size_t at = (i + 1) * series->n / n_points - 1;
        page_add(page, "%s%.1f,%.1f", i ? " " : "", x_of(axis, series->values[at]),
                 y_of((double)(at + 1) / (double)series->n));
    }
    page_add(page, "\"/>\n");
}

sl_status svg_plot_cdf(struct sl_buf *out, const char *title, const char *x_label,
                       const struct svg_series *series, size_t n_series)
{
    if (n_series > SVG_SERIES_MAX) return SL_LIMIT;
    struct page page = {.out = out};
    struct axis axis = axis_of(series, n_series);
    page_add(&page,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" "
             "viewBox=\"0 0 %g %g\" font-family=\"sans-serif\" font-size=\"12\">\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
             WIDTH, HEIGHT, WIDTH, HEIGHT);
    add_label(&page, (LEFT + WIDTH - RIGHT) / 2, TOP - 20, "middle", title);
    add_label(&page, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "middle", x_label);
    add_grid(&page, axis);
    for (size_t i = 0; i < n_series; i++) {
        double y = TOP + 20 * (double)i;
        add_curve(&page, axis, &series[i], colours[i]);
        page_add(&page, "<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"4\" fill=\"%s\"/>\n",
                 WIDTH - RIGHT + 16, y, colours[i]);
        add_label(&page, WIDTH - RIGHT + 38, y + 6, "start", series[i].name);
    }
    page_add(&page, "</svg>\n");
    return page.status;
}
