/* cmd_chat.c: `starlane chat`: a conversation with a model that chats. */
#include "base/clock.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include <unistd.h>

struct options {
    struct talk_options talk;
};

static const struct sl_opt opts[] = {
    TALK_OPTIONS(struct options, talk),
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, talk.json), 0, 0, NULL, NULL, NULL,
     "Print one JSON object an answer, each on a line of its own."},
    {0},
};

const struct sl_command cmd_chat_spec = {
    .name = "chat",
    .usage = "MODEL",
    .summary = "Talk with a chat model at the terminal.",
    .details =
        "The model remembers the conversation; /help lists what else can be typed. Where stdin is "
        "not a terminal, every line of it (or block between \"\"\" and \"\"\") is a message, and "
        "the answers go to stdout one after the other.\n\n"
        "MODEL and where it runs are as in `starlane run`. A model without a chat template cannot "
        "chat; run continues texts with it.\n\n"
        "    starlane chat qwen3:0.6b --system \"Answer in one sentence.\"\n"
        "    printf 'My name is Ada.\\nWhat is my name?\\n' | starlane chat qwen3:0.6b -q",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

static sl_status load(struct talk *talk, struct sl_err *err)
{
    sigset_t before;
    interrupt_block(&before);
    sl_status status = talk_load(talk, err);
    interrupt_unblock(&before);
    if (status == SL_OK && !talk->has_template)
        status = sl_err_set(err, SL_INVALID,
                            "%s has no chat template; `starlane run` continues texts with it",
                            talk->model);
    return status;
}

int cmd_chat(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct talk talk = {0};
    int exit_code;
    if (!cli_parse(&cmd_chat_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    interrupt_catch(0);
    sl_status status = talk_find(&talk, &o.talk, args.v[0], &interrupt_asked, &err);
    if (status == SL_OK) status = load(&talk, &err);
    struct chat_session_cfg cfg = {&talk, &interrupt_asked, isatty(STDIN_FILENO), sl_now_ns()};
    talk.view.stream = !o.talk.json;
    if (status == SL_OK) status = chat_session_run(&cfg, &err);
    if (interrupt_asked && !cfg.terminal)
        exit_code = CLI_INTERRUPTED;
    else
        exit_code = status == SL_OK ? CLI_OK : cli_fail(&cmd_chat_spec, &err);
    talk_done(&talk);
    return exit_code;
}
