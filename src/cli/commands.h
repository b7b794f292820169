/* commands.h: one pair a verb, defined in cmd_<verb>.c and listed in commands.c.
 * Floor: cli.  Thread: main. */
#pragma once
#include "cli/cli.h"

extern const struct sl_command cmd_serve_spec, cmd_run_spec, cmd_chat_spec, cmd_ps_spec,
    cmd_stop_spec, cmd_bench_spec, cmd_show_spec, cmd_tokenize_spec;
extern const struct sl_command cmd_doctor_spec, cmd_debug_spec, cmd_help_spec, cmd_version_spec;
extern const struct sl_command cmd_infer_spec, cmd_keys_spec, cmd_usage_spec;
extern const struct sl_command cmd_pull_spec, cmd_import_spec, cmd_list_spec, cmd_cp_spec;
extern const struct sl_command cmd_rm_spec;
extern const struct sl_command cmd_sim_spec;
extern const struct sl_command cmd_up_spec, cmd_join_spec, cmd_token_spec;
extern const struct sl_command cmd_nodes_spec, cmd_explain_spec;
extern const struct sl_command cmd_plan_spec, cmd_calibrate_spec, cmd_measure_spec;
extern const struct sl_command cmd_worker_spec;

int cmd_serve(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_infer(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_usage(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_debug(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_sim(int argc, char **argv);
int cmd_up(int argc, char **argv);
int cmd_join(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_nodes(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_measure(int argc, char **argv);
int cmd_worker(int argc, char **argv);
