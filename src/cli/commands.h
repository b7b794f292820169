/* commands.h: one pair a verb, defined in cmd_<verb>.c and listed in commands.c.
 * Floor: cli.  Thread: main. */
#pragma once
#include "cli/cli.h"

extern const struct sl_command cmd_run_spec, cmd_bench_spec, cmd_show_spec, cmd_tokenize_spec;
extern const struct sl_command cmd_doctor_spec, cmd_debug_spec, cmd_help_spec, cmd_version_spec;

int cmd_run(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_debug(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_version(int argc, char **argv);
