/* cmd_measure.c: `starlane measure`: the process that measures this machine for others, which wait
 * for it: kernels that nobody has tried here could end it. Not among the commands that help
 * lists. */
#include "base/thread.h"
#include "base/json.h"
#include "cli/commands.h"
#include "grid/calibrate.h"
#include "grid/store_files.h"
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>

#define OUTPUT_BYTES_MAX CALIBRATION_BYTES_MAX
#define THREADS_MAX 4096

struct options {
    const char *home;
    int64_t threads;
    bool background;
};

static const struct sl_opt opts[] = {
    {"threads", 't', SL_OPT_INT, offsetof(struct options, threads), 0, THREADS_MAX, "N", NULL, "0",
     "CPU threads; 0: as many as this process may use."},
    {"home", 0, SL_OPT_STRING, offsetof(struct options, home), 0, 0, "DIR", NULL, "",
     "Below it lie the models on whose files disk reads are measured."},
    {"background", 0, SL_OPT_BOOL, offsetof(struct options, background), 0, 0, NULL, NULL, NULL,
     "Leave the CPU to others."},
    {0},
};

const struct sl_command cmd_measure_spec = {
    .name = "measure",
    .usage = "",
    .summary = "Measure this machine, print JSON.",
    .details = "Started by other commands: starlane calibrate shows and keeps what it measures.",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 0,
};

static sl_status measure(const struct options *o, struct sl_buf *out, struct sl_err *err)
{
    char folder[PATH_MAX];
    struct calibration_key key;
    struct calibration calibration;
    struct sl_json json;
    sl_status status = store_path(folder, err, "%s/models/blobs", o->home);
    if (status == SL_OK)
        status = calibration_key_now(STARLANE_VERSION, (int32_t)o->threads, &key, err);
    if (status == SL_OK) status = calibration_measure(&key, folder, &calibration, err);
    if (status != SL_OK) return status;
    sl_json_begin(&json, out, false);
    calibration_put(&json, &calibration);
    status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

int cmd_measure(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_measure_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (o.background) sl_thread_stand_back();
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = measure(&o, &out, &err);
    exit_code = cli_print(&cmd_measure_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
