/* cmd_run.c: `starlane run`: one prompt, or a conversation at the terminal. */
#include "base/clock.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/interactive.h"
#include "cli/interrupt.h"
#include "cli/run_report.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROMPT_BYTES_MAX (16u << 20) /* four million tokens: past every context of today */

struct options {
    struct talk_options talk;
    bool raw, echo;
};

static const struct sl_opt opts[] = {
    TALK_OPTIONS(struct options, talk),
    {"echo", 0, SL_OPT_BOOL, offsetof(struct options, echo), 0, 0, NULL, NULL, NULL,
     "Print the prompt before the answer."},
    {"raw", 0, SL_OPT_BOOL, offsetof(struct options, raw), 0, 0, NULL, NULL, NULL,
     "Give the model the prompt as it is, without its chat template."},
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, talk.json), 0, 0, NULL, NULL, NULL,
     "Print one JSON object with the text, its tokens, usage and timings."},
    {0},
};

const struct sl_command cmd_run_spec = {
    .name = "run",
    .usage = "MODEL [PROMPT]",
    .summary = "Run a model: ask it something, continue a text, or talk to it.",
    .details =
        "MODEL is the name of a stored model, the path of a GGUF file (of a sharded one: its first "
        "file), or starling, the small story model that comes with the program. A model with a "
        "chat "
        "template answers the prompt; one without, and any with --raw, goes on with it. The text "
        "goes to stdout as it comes, statistics to stderr.\n\n"
        "PROMPT \"-\" reads the prompt from stdin; so does a missing one when stdin is not a "
        "terminal. At a terminal a missing PROMPT starts a conversation; Ctrl-C stops an answer, "
        "Ctrl-D leaves.\n\n"
        "Where a `starlane serve` runs on this machine and has the model, it is asked; "
        "$STARLANE_HOST "
        "or --server names another one. Otherwise, with --local, or with an option that says how "
        "the engine runs (--ctx, --threads, ...), the model runs in this process.\n\n"
        "    starlane run starling \"Once upon a time\"\n"
        "    starlane run ./model.gguf --temp 0 --max-tokens 64 < question.txt",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 2,
};

struct run {
    const struct options *o;
    struct talk talk;
    struct sl_buf prompt;
    bool has_prompt;
    int64_t loaded_ns;
};

/* For a conversation, Ctrl-C while loading waits for the end of it. */
static sl_status load(struct run *run, struct sl_err *err)
{
    sigset_t before;
    if (!run->has_prompt) interrupt_block(&before);
    sl_status status = talk_load(&run->talk, err);
    if (!run->has_prompt) interrupt_unblock(&before);
    run->loaded_ns = sl_now_ns();
    return status;
}

static sl_status end_line(const struct run *run, const struct answer *answer, struct sl_err *err)
{
    const struct sl_buf *text = &answer->text;
    if (run->o->talk.json || answer->reader_gone) return SL_OK;
    bool ends = text->len && text->data[text->len - 1] == '\n';
    return ends ? SL_OK : cli_write("\n", 1, err);
}

static sl_status print_answer(const struct run *run, const struct answer *answer,
                              struct sl_err *err)
{
    const struct run_report report = {&run->talk, answer, run->prompt.data, run->prompt.len,
                                      run->loaded_ns};
    sl_status status = end_line(run, answer, err);
    if (status != SL_OK || !run->o->talk.json) {
        if (!run->o->talk.quiet && !answer->reader_gone) run_report_print(&report);
        return status;
    }
    return run_report_print_json(&report, err);
}

/* The prompt as a message, after the system's. */
static sl_status make_chat(const struct run *run, struct chat_history *history, struct sl_err *err)
{
    const char *system = run->o->talk.system;
    sl_status status = SL_OK;
    if (system) status = chat_history_add(history, CHAT_SYSTEM, system, strlen(system));
    if (status == SL_OK)
        status = chat_history_add(history, CHAT_USER, run->prompt.data, run->prompt.len);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "prompt: %s", sl_status_text(status));
}

static sl_status ask(struct run *run, struct answer *answer, struct sl_err *err)
{
    struct chat_history history = {0};
    struct question question = {.text = run->prompt.data, .n = run->prompt.len};
    sl_status status = SL_OK;
    if (run->o->echo && !run->o->talk.json)
        status = cli_write(run->prompt.data, run->prompt.len, err);
    if (run->talk.has_template && !run->o->raw && status == SL_OK) {
        status = make_chat(run, &history, err);
        question.history = &history;
    }
    if (status == SL_OK) status = talk_ask(&run->talk, &question, answer, err);
    if (status == SL_LIMIT && !answer->tokens.len && !run->talk.client)
        (void)sl_err_set(err, status, "%s; shorten it or give a larger --ctx", err->text);
    chat_history_done(&history);
    return status;
}

/* One prompt, one answer. */
static int run_once(struct run *run)
{
    struct sl_err err = SL_ERR_INIT;
    struct answer answer;
    /* A second Ctrl-C ends the process the hard way, should a step take long. */
    interrupt_catch((int)SA_RESETHAND);
    run->talk.view.stream = !run->o->talk.json;
    answer_init(&answer, &run->talk.view);
    sl_status status = ask(run, &answer, &err);
    if (status == SL_OK) status = print_answer(run, &answer, &err);
    bool interrupted = interrupt_asked && answer.finish == ENGINE_FINISH_CANCELLED;
    answer_done(&answer);
    if (status != SL_OK && status != SL_CANCELLED) return cli_fail(&cmd_run_spec, &err);
    return interrupted ? CLI_INTERRUPTED : CLI_OK;
}

static int converse(struct run *run)
{
    struct sl_err err = SL_ERR_INIT;
    const struct interactive in = {&run->talk, &interrupt_asked};
    const struct chat_session_cfg chat = {&run->talk, &interrupt_asked, true, run->loaded_ns};
    interrupt_catch(0);
    run->talk.view.stream = true;
    sl_status status = run->talk.has_template && !run->o->raw ? chat_session_run(&chat, &err)
                                                              : interactive_run(&in, &err);
    return status == SL_OK ? CLI_OK : cli_fail(&cmd_run_spec, &err);
}

/* Where the prompt comes from: the command line, stdin, or a person who types. */
static sl_status read_prompt(struct run *run, const struct cli_args *args, struct sl_err *err)
{
    const char *given = args->n > 1 ? args->v[1] : NULL;
    bool from_stdin = given ? strcmp(given, "-") == 0 : !isatty(STDIN_FILENO);
    run->has_prompt = given || from_stdin;
    if (from_stdin) return cli_read_stdin(&run->prompt, err);
    if (!given)
        return run->o->talk.json ? sl_err_set(err, SL_INVALID, "--json needs a PROMPT") : SL_OK;
    sl_status status = sl_buf_adds(&run->prompt, given);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, status, "prompt: %s", sl_status_text(status));
}

int cmd_run(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct run run = {.o = &o};
    int exit_code;
    if (!cli_parse(&cmd_run_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&run.prompt, PROMPT_BYTES_MAX);
    sl_status status = talk_find(&run.talk, &o.talk, args.v[0], &interrupt_asked, &err);
    if (status == SL_OK) status = read_prompt(&run, &args, &err);
    if (status == SL_OK) status = load(&run, &err);
    if (status != SL_OK)
        exit_code = cli_fail(&cmd_run_spec, &err);
    else
        exit_code = run.has_prompt ? run_once(&run) : converse(&run);
    talk_done(&run.talk);
    sl_buf_done(&run.prompt);
    return exit_code;
}
