#include "cli/cli.h"
#include "base/clock.h"
#include "base/json_read.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES 65536

int64_t cli_start_ns;

static bool print_help(const struct sl_command *spec, int *exit_code)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf text;
    sl_buf_init(&text, 1 << 20);
    *exit_code = cli_print(spec, sl_config_help(spec, &text), &text, &err);
    sl_buf_done(&text);
    return false;
}

bool cli_parse(const struct sl_command *spec, int argc, char **argv, void *target,
               struct cli_args *args, int *exit_code)
{
    struct sl_err err = SL_ERR_INIT;
    bool help;
    if (argc > CLI_ARGS_MAX) {
        (void)sl_err_set(&err, SL_INVALID, "%d arguments are too many", argc);
        *exit_code = cli_fail(spec, &err);
        return false;
    }
    sl_status status = sl_config_parse(spec, argc, argv, target, args->v, &args->n, &help, &err);
    if (status == SL_OK) return help ? print_help(spec, exit_code) : true;
    fprintf(stderr, "starlane %s; see: starlane %s --help\n", err.text, spec->name);
    *exit_code = CLI_USAGE;
    return false;
}

int cli_fail(const struct sl_command *spec, const struct sl_err *err)
{
    const char *text = err->text[0] ? err->text : sl_status_text(err->status);
    fprintf(stderr, "starlane %s: %s\n", spec->name, text);
    return err->status == SL_INVALID ? CLI_USAGE : CLI_FAILED;
}

sl_status cli_write(const void *bytes, size_t n, struct sl_err *err)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EPIPE) return sl_err_set(err, SL_CANCELLED, "stdout is closed");
        if (done < 0) return sl_err_set(err, SL_IO, "stdout: %s", strerror(errno));
        p += done;
        n -= (size_t)done;
    }
    return SL_OK;
}

int cli_print(const struct sl_command *spec, sl_status status, const struct sl_buf *out,
              struct sl_err *err)
{
    if (status != SL_OK && err->status == SL_OK)
        (void)sl_err_set(err, status, "output: %s", sl_status_text(status));
    if (status == SL_OK) status = cli_write(out->data, out->len, err);
    if (status == SL_OK || status == SL_CANCELLED) return CLI_OK;
    return cli_fail(spec, err);
}

/* `name` is for messages. */
static sl_status read_all(int fd, const char *name, struct sl_buf *out, struct sl_err *err)
{
    char chunk[READ_BYTES];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n == 0) return SL_OK;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return sl_err_errno(err, errno, "%s", name);
        sl_status status = sl_buf_add(out, chunk, (size_t)n);
        if (status == SL_LIMIT)
            return sl_err_set(err, status, "%s: more than %zu bytes", name, out->max);
        if (status != SL_OK) return sl_err_set(err, status, "%s: %s", name, sl_status_text(status));
    }
}

sl_status cli_read_stdin(struct sl_buf *out, struct sl_err *err)
{
    return read_all(STDIN_FILENO, "stdin", out, err);
}

sl_status cli_read_file(const char *path, struct sl_buf *out, struct sl_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    sl_status status = read_all(fd, path, out, err);
    close(fd);
    return status;
}

sl_status cli_put_json(const struct sl_json_value *value, bool pretty, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, pretty);
    sl_json_put(&json, value);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

const char *cli_bytes_text(uint64_t bytes, char out[CLI_BYTES_TEXT_MAX])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double v = (double)bytes;
    size_t unit = 0;
    for (; v >= 999.95; unit++) v /= 1000;
    snprintf(out, CLI_BYTES_TEXT_MAX, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return out;
}

const char *cli_home(char *out, size_t out_size)
{
    const char *own = getenv("STARLANE_HOME"), *user = getenv("HOME");
    int n = own && *own     ? snprintf(out, out_size, "%s", own)
            : user && *user ? snprintf(out, out_size, "%s/.starlane", user)
                            : -1;
    if (n < 0 || (size_t)n >= out_size) *out = '\0';
    return out;
}
