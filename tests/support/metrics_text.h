/* metrics_text.h: looks at metrics in Prometheus' text. Whatever is not as it should be fails the
 * test. Thread: one. */
#pragma once
#include "base/buf.h"
#include <stddef.h>

#define METRICS_TEXT_MAX (1u << 20)

/* A line of it begins so. */
void assert_metrics_line(const struct sl_buf *text, const char *line);
size_t metrics_count_text(const char *text, const char *what); /* how often it stands there */
