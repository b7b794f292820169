/* suggest.c: Levenshtein's distance by one row of his table. */
#include "base/suggest.h"

static int min3(int a, int b, int c)
{
    int least = a < b ? a : b;
    return least < c ? least : c;
}

int sl_edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int row[SL_SUGGEST_NAME_MAX + 1];
    if (a_len > SL_SUGGEST_NAME_MAX || b_len > SL_SUGGEST_NAME_MAX) return SL_SUGGEST_NAME_MAX;
    for (size_t j = 0; j <= b_len; j++) row[j] = (int)j;
    for (size_t i = 0; i < a_len; i++) {
        int diagonal = row[0];
        row[0] = (int)i + 1;
        for (size_t j = 0; j < b_len; j++) {
            int replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = min3(replaced, row[j] + 1, diagonal + 1);
        }
    }
    return row[b_len];
}
