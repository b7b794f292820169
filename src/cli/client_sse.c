#include "cli/client_sse.h"
#include <string.h>

void client_sse_init(struct client_sse *sse, client_event_fn *event, void *ctx)
{
    *sse = (struct client_sse){.event = event, .ctx = ctx};
    sl_buf_init(&sse->line, CLIENT_EVENT_BYTES_MAX);
    sl_buf_init(&sse->data, CLIENT_EVENT_BYTES_MAX);
}

void client_sse_done(struct client_sse *sse)
{
    sl_buf_done(&sse->line);
    sl_buf_done(&sse->data);
}

static sl_status end_event(struct client_sse *sse)
{
    bool goes_on = !sse->has_data || sse->event(sse->ctx, sse->data.data, sse->data.len);
    sse->has_data = false;
    sl_buf_clear(&sse->data);
    return goes_on ? SL_OK : SL_CANCELLED;
}

static sl_status end_line(struct client_sse *sse)
{
    static const char field[] = "data";
    size_t n_field = sizeof field - 1, n = sse->line.len;
    const char *line = sse->line.data;
    if (n == 0) return end_event(sse);
    bool is_data =
        n >= n_field && memcmp(line, field, n_field) == 0 && (n == n_field || line[n_field] == ':');
    sl_status status = SL_OK;
    if (is_data) {
        size_t begin = n == n_field ? n : n_field + 1;
        if (begin < n && line[begin] == ' ') begin++;
        if (sse->has_data) status = sl_buf_addc(&sse->data, '\n');
        if (status == SL_OK) status = sl_buf_add(&sse->data, line + begin, n - begin);
        sse->has_data = true;
    }
    sl_buf_clear(&sse->line);
    return status;
}

sl_status client_sse_push(struct client_sse *sse, const char *bytes, size_t n)
{
    sl_status status = SL_OK;
    for (size_t i = 0; i < n && status == SL_OK;) {
        size_t len = 0;
        if (sse->after_cr && bytes[i] == '\n') i++;
        sse->after_cr = false;
        while (i + len < n && bytes[i + len] != '\n' && bytes[i + len] != '\r') len++;
        status = sl_buf_add(&sse->line, bytes + i, len);
        i += len;
        if (status != SL_OK || i == n) break;
        sse->after_cr = bytes[i++] == '\r';
        status = end_line(sse);
    }
    return status;
}
