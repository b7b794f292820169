/* cli.h: what all commands share: how one is described and run, exit codes, errors, output.
 * Floor: cli.  Thread: main.  Allocates: nothing that outlives a call.
 * Invariant: a command prints its result on stdout and everything else on stderr; a failure is one
 * line on stderr that says what to do next. */
#pragma once
#include "base/config.h"
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

struct sl_json_value;

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_INTERRUPTED = 130 /* 128 + SIGINT, as a shell has it */
};

struct cli_command {
    const struct sl_command *spec;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns enum cli_exit */
};

/* When the process began, near enough: the first line of main. */
extern int64_t cli_start_ns;

/* Runs the command that argv[1] names. Returns the exit code. */
int cli_main(int argc, char **argv);

/* The table of commands; ends with a row whose spec is NULL. */
const struct cli_command *cli_commands(void);
const struct cli_command *cli_command_find(const char *name); /* NULL: unknown */

/* Says on stderr that there is no such command, and which one is near. Returns the exit code. */
int cli_unknown_command(const char *name);

#define CLI_ARGS_MAX 256 /* no command takes more than a few */

/* Positional arguments, by cli_parse. */
struct cli_args {
    const char *v[CLI_ARGS_MAX];
    int n;
};

/* Parses a command line into *target. False: nothing is left to do but to return *exit_code (help
 * was asked for, or an error printed). */
bool cli_parse(const struct sl_command *spec, int argc, char **argv, void *target,
               struct cli_args *args, int *exit_code);

/* Prints "starlane COMMAND: message" on stderr and returns the exit code that fits err->status:
 * INVALID is the user's to mend (2), all else failed (1). */
int cli_fail(const struct sl_command *spec, const struct sl_err *err);

/* Writes all of it to stdout. CANCELLED: the reader has gone, which is no error to talk about.
 * IO otherwise. */
SL_CHECK sl_status cli_write(const void *bytes, size_t n, struct sl_err *err);

/* Ends a command whose whole result is in `out`: prints it when status is OK, else the error.
 * Returns the exit code. */
int cli_print(const struct sl_command *spec, sl_status status, const struct sl_buf *out,
              struct sl_err *err);

/* Appends a document as a command prints it: indented or in one line, with its end. LIMIT,
 * NOMEM. */
SL_CHECK sl_status cli_put_json(const struct sl_json_value *value, bool pretty, struct sl_buf *out);

/* Reads stdin to its end and appends it to out. LIMIT past out's maximum, IO, NOMEM. */
SL_CHECK sl_status cli_read_stdin(struct sl_buf *out, struct sl_err *err);

/* Appends the file's bytes to out. As cli_read_stdin, NOT_FOUND. */
SL_CHECK sl_status cli_read_file(const char *path, struct sl_buf *out, struct sl_err *err);

/* "9.1 MB", "512 B" (powers of 1000): sizes of files and of what is transferred, as disks and links
 * are sold; memory is told by sl_size_text, in the units that options take. Returns out. */
#define CLI_BYTES_TEXT_MAX 32
const char *cli_bytes_text(uint64_t bytes, char out[CLI_BYTES_TEXT_MAX]);

/* $STARLANE_HOME, or else ~/.starlane. "" when there is no home. Returns out. */
const char *cli_home(char *out, size_t out_size);
