/* sim_record.c: see sim_record.h. */
#include "cli/sim_record.h"
#include "base/json.h"
#include "cli/sim_nodes_file.h"

#include <errno.h>

#define LINE_BYTES_MAX 4096
#define NS_PER_MS 1e6

static void put_time(struct sl_json *json, const char *key, double seconds)
{
    sl_json_key(json, key);
    if (seconds >= 0)
        sl_json_num(json, seconds);
    else
        sl_json_null(json);
}

/* The request as in a trace, and what became of it; null: it never did. */
static sl_status put_line(struct sl_buf *line, const char *policy, const struct sim_nodes *grid,
                          const struct sim_request *request, const struct sim_answer *answer)
{
    struct sl_json json;
    sl_buf_clear(line);
    sl_json_begin(&json, line, false);
    sl_json_object(&json);
    sl_json_kv_num(&json, "timestamp", (double)request->arrival_ns / NS_PER_MS);
    sl_json_kv_int(&json, "input_length", request->prompt_tokens);
    sl_json_kv_int(&json, "output_length", request->output_tokens);
    if (request->max_tokens) sl_json_kv_int(&json, "max_tokens", request->max_tokens);
    sl_json_kv_str(&json, "model", grid->models[request->model].name);
    sl_json_kv_str(&json, "class", sched_class_name(request->qos_class));
    sl_json_kv_str(&json, "policy", policy);
    sl_json_kv_str(&json, "node", answer->node == SIM_NONE ? NULL : grid->nodes[answer->node].name);
    put_time(&json, "first_token_s", answer->first_s);
    put_time(&json, "total_s", answer->status == SL_OK ? answer->total_s : -1);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(line, '\n') : status;
}

static sl_status put_all(FILE *file, const struct sim_report *report, const struct sim_trace *trace)
{
    struct sl_buf line;
    sl_status status = SL_OK;
    sl_buf_init(&line, LINE_BYTES_MAX);
    for (size_t p = 0; p < report->n; p++)
        for (size_t i = 0; i < trace->n && status == SL_OK; i++) {
            status = put_line(&line, report->policies[p].name, report->grid, &trace->requests[i],
                              &report->results[p].answers[i]);
            if (status == SL_OK && fwrite(line.data, 1, line.len, file) != line.len) status = SL_IO;
        }
    sl_buf_done(&line);
    return status;
}

sl_status sim_record_write(FILE *file, const char *path, const struct sim_report *report,
                           const struct sim_trace *trace, struct sl_err *err)
{
    sl_status status = put_all(file, report, trace);
    if (status == SL_IO || (status == SL_OK && fflush(file) != 0))
        return sl_err_errno(err, errno, "%s", path);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "record: %s", sl_status_text(status));
}
