#include "base/size_text.h"
#include <stddef.h>
#include <stdio.h>

#define TWO_DIGITS_FROM 3 /* GiB: a tenth of one is much */

const char *sl_size_text(uint64_t bytes, char out[SL_SIZE_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    size_t unit = 0;
    for (; v >= 1023.95; unit++) v /= 1024;
    int digits = unit >= TWO_DIGITS_FROM ? 2 : unit > 0;
    snprintf(out, SL_SIZE_TEXT_MAX, "%.*f %s", digits, v, units[unit]);
    return out;
}
