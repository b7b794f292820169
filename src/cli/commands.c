/* commands.c: the table of commands, and the way from argv to one of them. */
#include "cli/commands.h"
#include "base/suggest.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command commands[] = {
    {&cmd_serve_spec, cmd_serve},
    {&cmd_up_spec, cmd_up},
    {&cmd_join_spec, cmd_join},
    {&cmd_token_spec, cmd_token},
    {&cmd_nodes_spec, cmd_nodes},
    {&cmd_explain_spec, cmd_explain},
    {&cmd_plan_spec, cmd_plan},
    {&cmd_calibrate_spec, cmd_calibrate},
    {&cmd_run_spec, cmd_run},
    {&cmd_chat_spec, cmd_chat},
    {&cmd_infer_spec, cmd_infer},
    {&cmd_ps_spec, cmd_ps},
    {&cmd_stop_spec, cmd_stop},
    {&cmd_bench_spec, cmd_bench},
    {&cmd_pull_spec, cmd_pull},
    {&cmd_import_spec, cmd_import},
    {&cmd_list_spec, cmd_list},
    {&cmd_show_spec, cmd_show},
    {&cmd_cp_spec, cmd_cp},
    {&cmd_rm_spec, cmd_rm},
    {&cmd_tokenize_spec, cmd_tokenize},
    {&cmd_keys_spec, cmd_keys},
    {&cmd_usage_spec, cmd_usage},
    {&cmd_sim_spec, cmd_sim},
    {&cmd_doctor_spec, cmd_doctor},
    {&cmd_debug_spec, cmd_debug},
    {&cmd_help_spec, cmd_help},
    {&cmd_version_spec, cmd_version},
    {NULL, NULL},
};

/* Commands that other commands start: no list, help or suggestion shows them. */
static const struct cli_command hidden[] = {{&cmd_worker_spec, cmd_worker},
                                            {&cmd_measure_spec, cmd_measure}};

const struct cli_command *cli_commands(void)
{
    return commands;
}

const struct cli_command *cli_command_find(const char *name)
{
    for (const struct cli_command *c = commands; c->spec; c++) {
        if (strcmp(c->spec->name, name) == 0) return c;
    }
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        if (strcmp(hidden[i].spec->name, name) == 0) return &hidden[i];
    }
    return NULL;
}

int cli_unknown_command(const char *name)
{
    const char *nearest = NULL;
    int least = SL_SUGGEST_DISTANCE + 1;
    for (const struct cli_command *c = commands; c->spec; c++) {
        size_t n = strlen(c->spec->name);
        int distance = sl_edit_distance(name, strlen(name), c->spec->name, n);
        if (distance >= least || distance >= (int)n) continue;
        least = distance;
        nearest = c->spec->name;
    }
    fprintf(stderr, "starlane: unknown command \"%.60s\"; ", name);
    if (nearest)
        fprintf(stderr, "did you mean %s?\n", nearest);
    else
        fprintf(stderr, "starlane help lists them\n");
    return CLI_USAGE;
}

/* What people type before they know the commands. */
static const char *name_of(const char *arg)
{
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) return "help";
    if (strcmp(arg, "ls") == 0) return "list";
    if (strcmp(arg, "--version") == 0 || strcmp(arg, "-V") == 0) return "version";
    return arg;
}

int cli_main(int argc, char **argv)
{
    /* A closed stdout is an error of write(), which each command treats as its end. */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        fprintf(stderr, "starlane: which command? starlane help lists them; to begin: "
                        "starlane run starling \"Once upon a time\"\n");
        return CLI_USAGE;
    }
    const struct cli_command *command = cli_command_find(name_of(argv[1]));
    return command ? command->run(argc - 1, argv + 1) : cli_unknown_command(argv[1]);
}
