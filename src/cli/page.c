#include "cli/page.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void page_add(struct page *page, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (page->status == SL_OK) page->status = sl_buf_vaddf(page->out, fmt, args);
    va_end(args);
}

void page_text(struct page *page, const char *s, size_t n)
{
    size_t n_shown = n < PAGE_COLUMNS_MAX ? n : PAGE_COLUMNS_MAX;
    char line[PAGE_COLUMNS_MAX];
    n_shown = sl_utf8_complete(s, n_shown);
    for (size_t i = 0; i < n_shown; i++) {
        unsigned char c = (unsigned char)s[i];
        line[i] = c < ' ' || c == 127 ? ' ' : (char)c;
    }
    page_add(page, "%.*s%s\n", (int)n_shown, line, n_shown < n ? "..." : "");
}

void page_first_line(struct page *page, const char *label, const char *text)
{
    if (!text) return;
    page_add(page, "  %-16s ", label);
    page_text(page, text, strcspn(text, "\r\n"));
}

const char *page_count(uint64_t n, char out[32])
{
    static const char *const units[] = {"", " thousand", " million", " billion", " trillion"};
    double v = (double)n;
    size_t unit = 0;
    for (; v >= 999.95 && unit < 4; unit++) v /= 1000;
    snprintf(out, 32, unit ? "%.1f%s" : "%.0f%s", v, units[unit]);
    return out;
}
