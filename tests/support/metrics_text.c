#include "support/metrics_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

void assert_metrics_line(const struct sl_buf *text, const char *line)
{
    const char *at = strstr(text->data, line);
    if (!at) fail_msg("no line \"%s\" in\n%s", line, text->data);
    assert_true(at == text->data || at[-1] == '\n');
}

size_t metrics_count_text(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) n++;
    return n;
}
