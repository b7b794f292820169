/* table.c: collects cells, then prints them as wide as the widest of their column. */
#include "cli/table.h"

#include <assert.h>
#include <string.h>

void table_init(struct table *table, const char *columns)
{
    *table = (struct table){.n_columns = (int)strlen(columns)};
    assert(table->n_columns > 0 && table->n_columns <= TABLE_COLUMNS_MAX);
    for (int i = 0; i < table->n_columns; i++) table->right[i] = columns[i] == 'r';
    sl_buf_init(&table->cells, TABLE_BYTES_MAX);
}

void table_done(struct table *table)
{
    sl_buf_done(&table->cells);
}

/* Columns on a terminal, near enough: code points. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void table_cell(struct table *table, const char *fmt, ...)
{
    va_list args;
    if (table->status != SL_OK) return;
    size_t at = table->cells.len;
    va_start(args, fmt);
    table->status = sl_buf_vaddf(&table->cells, fmt, args);
    va_end(args);
    if (table->status == SL_OK) table->status = sl_buf_addc(&table->cells, '\0');
    if (table->status != SL_OK) return;
    size_t *width = &table->width[table->n_cells++ % table->n_columns];
    size_t own = width_of(table->cells.data + at);
    if (own > *width) *width = own;
}

static sl_status add_spaces(struct sl_buf *out, size_t n)
{
    sl_status status = SL_OK;
    while (status == SL_OK && n-- > 0) status = sl_buf_addc(out, ' ');
    return status;
}

static sl_status print_cell(const struct table *table, int column, const char *text,
                            struct sl_buf *out)
{
    bool last = column == table->n_columns - 1;
    size_t pad = table->width[column] - width_of(text);
    sl_status status = column > 0 ? add_spaces(out, 2) : SL_OK;
    if (status == SL_OK && table->right[column]) status = add_spaces(out, pad);
    if (status == SL_OK) status = sl_buf_adds(out, text);
    if (status == SL_OK && !table->right[column] && !last) status = add_spaces(out, pad);
    if (status == SL_OK && last) status = sl_buf_addc(out, '\n');
    return status;
}

sl_status table_print(const struct table *table, struct sl_buf *out)
{
    sl_status status = table->status;
    const char *text = table->cells.data;
    for (int i = 0; status == SL_OK && i < table->n_cells; i++) {
        status = print_cell(table, i % table->n_columns, text, out);
        text += strlen(text) + 1;
    }
    return status;
}
