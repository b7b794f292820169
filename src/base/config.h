/* config.h: one table describes a command's options; from it come parsing, `--help` and the
 * reference page.
 * Floor: base.  Thread: the caller's.  Allocates: nothing; string values point into argv.
 * Invariant: on failure the target struct may be partly filled, and err names the option and what
 * it wants. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_opt_type {
    SL_OPT_BOOL,   /* bool; `--x`, `--x=true|false`, `--no-x` */
    SL_OPT_INT,    /* int64_t within [min, max] */
    SL_OPT_FLOAT,  /* double within [min, max] */
    SL_OPT_STRING, /* const char * */
    SL_OPT_BYTES,  /* int64_t; 512, 64K, 100M, 2G (powers of 1024) within [min, max] */
    SL_OPT_ENUM,   /* int: index into `choices`, a comma-separated list */
    SL_OPT_INTS,   /* struct sl_opt_ints: comma-separated list, each within [min, max] */
    SL_OPT_STRINGS /* struct sl_opt_strings: one each time the option is given */
};

#define SL_OPT_INTS_MAX 4096 /* a prompt given as token ids; longer lists belong in a file */

struct sl_opt_ints {
    int n;
    int32_t v[SL_OPT_INTS_MAX];
};

#define SL_OPT_STRINGS_MAX 64 /* what a person types; more belong in a file */

struct sl_opt_strings {
    int n;
    const char *v[SL_OPT_STRINGS_MAX];
};

struct sl_opt {
    const char *name; /* long name without dashes; NULL ends the table */
    char letter;      /* short form, or 0 */
    enum sl_opt_type type;
    size_t offset;       /* offsetof(target struct, field) */
    double min, max;     /* both 0: no bounds */
    const char *value;   /* what the help calls the value ("N", "FILE"); NULL for bools */
    const char *choices; /* SL_OPT_ENUM only: "f16,q8_0" */
    const char *initial; /* text of the default, parsed and shown as typed; NULL: zero */
    const char *help;    /* one sentence */
};

struct sl_command {
    const char *name;    /* "run" */
    const char *usage;   /* "MODEL [PROMPT]" */
    const char *summary; /* one line for the list of commands */
    const char *details; /* paragraphs for --help and the reference; NULL is fine */
    const struct sl_opt *opts;
    int n_args_min, n_args_max; /* positional arguments; max -1: any number */
};

/* Fills *target with defaults, then from argv[1..argc). Positional arguments go to args[0..*n_args)
 * (room for argc). `--` ends options. INVALID with a message that names the option and suggests the
 * nearest name; *help is set, and parsing stops, at --help or -h. */
SL_CHECK sl_status sl_config_parse(const struct sl_command *cmd, int argc, char **argv,
                                   void *target, const char **args, int *n_args, bool *help,
                                   struct sl_err *err);
/* Text for a terminal, width 100. */
SL_CHECK sl_status sl_config_help(const struct sl_command *cmd, struct sl_buf *out);
/* Markdown section for docs/cli.md. */
SL_CHECK sl_status sl_config_reference(const struct sl_command *cmd, struct sl_buf *out);
