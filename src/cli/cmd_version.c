#include "cli/commands.h"
#include "base/json.h"

struct options {
    bool json;
};

static const struct sl_opt opts[] = {
    {.name = "json",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .help = "Print JSON."},
    {0},
};

const struct sl_command cmd_version_spec = {
    .name = "version",
    .usage = "",
    .summary = "Print the version of this program.",
    .opts = opts,
};

int cmd_version(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    struct sl_json json;
    int exit_code;
    sl_status status;
    if (!cli_parse(&cmd_version_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, 4096);
    if (o.json) {
        sl_json_begin(&json, &out, true);
        sl_json_object(&json);
        sl_json_kv_str(&json, "version", STARLANE_VERSION);
        sl_json_object_end(&json);
        status = sl_json_end(&json);
        if (status == SL_OK) status = sl_buf_addc(&out, '\n');
    } else {
        status = sl_buf_addf(&out, "starlane %s\n", STARLANE_VERSION);
    }
    exit_code = cli_print(&cmd_version_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
