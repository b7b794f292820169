/* grid_msg_check.c: checks that several decoders make. */
#include "grid/grid_msg_int.h"
#include <math.h>
#include <string.h>

sl_status grid_check_enum(const char *what, uint32_t value, uint32_t end, struct sl_err *err)
{
    return value < end ? SL_OK : sl_err_set(err, SL_CORRUPT, "%s %u", what, value);
}

sl_status grid_check_count(const char *what, size_t n, size_t max, struct sl_err *err)
{
    return n <= max ? SL_OK : sl_err_set(err, SL_CORRUPT, "%zu %s, at most %zu are", n, what, max);
}

sl_status grid_check_text(const char *what, const char *text, size_t size, struct sl_err *err)
{
    size_t n = strlen(text);
    return n < size ? SL_OK : sl_err_set(err, SL_CORRUPT, "%s of %zu bytes", what, n);
}

sl_status grid_check_labels(char *const *labels, size_t n, struct sl_err *err)
{
    sl_status status = grid_check_count("labels", n, GRID_LABELS_MAX, err);
    for (size_t i = 0; i < n && status == SL_OK; i++)
        status = grid_check_text("label", labels[i], GRID_LABEL_MAX + 1, err);
    return status;
}

sl_status grid_check_numbers(const char *what, const double *v, size_t n, double min,
                             struct sl_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]) || v[i] < min) return sl_err_set(err, SL_CORRUPT, "%s %g", what, v[i]);
    return SL_OK;
}
