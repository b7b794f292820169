/* cmd_calibrate.c: `starlane calibrate`: how fast this machine computes, measured once and kept. */
#include "base/json.h"
#include "cli/commands.h"
#include "cli/page.h"
#include "cli/table.h"
#include "grid/calibrate.h"
#include <limits.h>

#define OUTPUT_BYTES_MAX CALIBRATION_BYTES_MAX
#define THREADS_MAX 4096

struct options {
    int64_t threads;
    bool again, json;
};

static const struct sl_opt opts[] = {
    {"again", 0, SL_OPT_BOOL, offsetof(struct options, again), 0, 0, NULL, NULL, NULL,
     "Measure, even if there are numbers of this machine already."},
    {"threads", 't', SL_OPT_INT, offsetof(struct options, threads), 0, THREADS_MAX, "N", NULL, "0",
     "CPU threads; 0: as many as this process may use."},
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_calibrate_spec = {
    .name = "calibrate",
    .usage = "",
    .summary = "Show how fast this machine computes, for models split over machines.",
    .details =
        "The planner of split models goes by these numbers: how fast weights of each type are read "
        "when one token is computed, and how much is computed when many are. They are measured "
        "once, in some five seconds, and kept in grid/calibration.json below $STARLANE_HOME until "
        "the program, the processor, the kernels, the threads or the quota change. A member of a "
        "grid measures them by itself.\n\n"
        "    starlane calibrate --again",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 0,
};

static sl_status get(const struct options *o, struct calibration *out, struct sl_err *err)
{
    char home[PATH_MAX];
    struct calibration_key key;
    struct sl_err ignored = SL_ERR_INIT;
    cli_home(home, sizeof home);
    sl_status status = calibration_key_now(STARLANE_VERSION, (int32_t)o->threads, &key, err);
    if (status != SL_OK) return status;
    if (!o->again && calibration_read(home, out, &ignored) == SL_OK &&
        calibration_key_equal(&out->key, &key))
        return SL_OK;
    return calibration_run(NULL, home, key.n_threads, out, err);
}

static void speed_cells(struct table *table, const struct split_machine *machine,
                        enum split_weight weight)
{
    const struct split_speed *speed = &machine->speed[weight];
    table_cell(table, "%s", split_weight_name(weight));
    table_cell(table, "%.2f", speed->bytes_s / 1e9);
    for (int i = 0; i < SPLIT_CURVE; i++) table_cell(table, "%.1f", speed->flops_s[i] / 1e9);
}

static sl_status write_text(const struct calibration *c, struct sl_buf *out)
{
    static const char *const heads[] = {"WEIGHTS", "GB/S AT 1 ROW", "GFLOP/S AT 8", "AT 32",
                                        "AT 128"};
    struct page page = {.out = out};
    struct table table;
    const struct split_machine *m = &c->machine;
    page_add(&page, "%s, %d thread%s, %s kernels, products by %s, measured in %.1f s\n", c->key.cpu,
             c->key.n_threads, c->key.n_threads == 1 ? "" : "s", c->key.variant, c->key.products,
             c->took_s);
    if (m->share < 1)
        page_add(&page, "its quota of %.2f CPUs leaves it %.0f%% of the time\n", c->key.cpu_quota,
                 100 * m->share);
    if (page.status != SL_OK) return page.status;
    table_init(&table, "lrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (int w = 0; w < SPLIT_WEIGHT_COUNT; w++) speed_cells(&table, m, (enum split_weight)w);
    sl_status status = table_print(&table, out);
    table_done(&table);
    if (status != SL_OK) return status;
    page_add(&page, "attention  %.1f GFLOP/s for one row, %.1f for many\n", m->attn_one / 1e9,
             m->attn_many / 1e9);
    page_add(&page, "besides    %.1f us a step, %.1f us a layer, %.2f ns a value of a row\n",
             1e6 * m->step_s, 1e6 * m->layer_s, 1e9 * m->value_s);
    if (m->disk_bytes_s > 0) page_add(&page, "disk       %.2f GB/s\n", m->disk_bytes_s / 1e9);
    return page.status;
}

static sl_status write_json(const struct calibration *c, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, true);
    calibration_put(&json, c);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

int cmd_calibrate(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct calibration calibration;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_calibrate_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = get(&o, &calibration, &err);
    if (status == SL_OK)
        status = o.json ? write_json(&calibration, &out) : write_text(&calibration, &out);
    exit_code = cli_print(&cmd_calibrate_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
