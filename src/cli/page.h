/* page.h: a command's text, line after line; the first failure sticks.
 * Floor: cli.  Thread: main.  Allocates: only the buffer it writes to. */
#pragma once
#include "base/buf.h"
#include <stdint.h>

#define PAGE_COLUMNS_MAX 80 /* of a text from a file, in a line of the page */

struct page {
    struct sl_buf *out;
    sl_status status;
};

void page_add(struct page *page, const char *fmt, ...) SL_PRINTF(2, 3);

/* One printable line of at most PAGE_COLUMNS_MAX bytes, whole characters only, and its end. */
void page_text(struct page *page, const char *s, size_t n);

/* A label and the first line of a text; nothing for NULL. */
void page_first_line(struct page *page, const char *label, const char *text);

/* "7.5 million". Returns out. */
const char *page_count(uint64_t n, char out[32]);
