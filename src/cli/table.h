/* table.h: text in columns, for a terminal.
 * Floor: cli.  Thread: main.  Allocates: the text of the cells, within TABLE_BYTES_MAX.
 * Invariant: the first failure sticks and is reported by table_print. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>

#define TABLE_COLUMNS_MAX 20
#define TABLE_BYTES_MAX (64u << 20) /* of all cells: 100,000 rows of some hundred bytes */

struct table {
    int n_columns;
    bool right[TABLE_COLUMNS_MAX]; /* numbers are aligned at their right */
    size_t width[TABLE_COLUMNS_MAX];
    int n_cells;
    struct sl_buf cells; /* each ends in a NUL */
    sl_status status;
};

/* One character a column: 'l' left, 'r' right. */
void table_init(struct table *table, const char *columns);
void table_done(struct table *table);

/* The next cell, row by row; the first row is the heading. */
void table_cell(struct table *table, const char *fmt, ...) SL_PRINTF(2, 3);

/* Two spaces between columns, none at the end of a line. LIMIT, NOMEM. */
SL_CHECK sl_status table_print(const struct table *table, struct sl_buf *out);
