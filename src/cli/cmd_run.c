/* cmd_run.c: `starlane run`: one prompt, or a conversation at the terminal. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/generate.h"
#include "cli/interactive.h"
#include "cli/model_path.h"
#include "cli/run_options.h"
#include "cli/run_report.h"
#include "exec/llm/sampler.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PROMPT_BYTES_MAX (16u << 20) /* four million tokens: past every context of today */
#define JSON_BYTES_MAX (512u << 20)  /* prompt and answer at their limits, every byte escaped */
#define SEED_RANDOM (-1)

#define FIELD(field) offsetof(struct run_options, field)

static const struct sl_opt opts[] = {
    {"max-tokens", 'n', SL_OPT_INT, FIELD(max_tokens), 1, 1 << 24, "N", NULL, "256",
     "Most tokens of an answer."},
    {"temp", 0, SL_OPT_FLOAT, FIELD(temp), 0, 100, "T", NULL, "0.8",
     "Temperature; 0 always takes the likeliest token."},
    {"top-p", 0, SL_OPT_FLOAT, FIELD(top_p), 0, 1, "P", NULL, "0.95",
     "Draw from the likeliest tokens that together have this probability; 1: from all."},
    {"top-k", 0, SL_OPT_INT, FIELD(top_k), 0, 1 << 24, "K", NULL, "40",
     "Draw from the K likeliest tokens; 0: from all."},
    {"min-p", 0, SL_OPT_FLOAT, FIELD(min_p), 0, 1, "P", NULL, "0.05",
     "Leave out tokens less likely than this share of the likeliest; 0: off."},
    {"repeat-penalty", 0, SL_OPT_FLOAT, FIELD(repeat_penalty), 0.01, 100, "X", NULL, "1",
     "Divide the score of tokens that came lately by this; 1: off."},
    {"repeat-last", 0, SL_OPT_INT, FIELD(repeat_last_n), 0, SAMPLER_HISTORY_MAX, "N", NULL, "64",
     "Tokens that --repeat-penalty looks back."},
    {"seed", 's', SL_OPT_INT, FIELD(seed), -1, INFINITY, "N", NULL, "-1",
     "The same seed draws the same answer; -1: another one each time."},
    {"stop", 0, SL_OPT_STRING, FIELD(stop), 0, 0, "TEXT", NULL, NULL,
     "End the answer before this text."},
    {"ignore-end", 0, SL_OPT_BOOL, FIELD(ignore_end), 0, 0, NULL, NULL, NULL,
     "Go on where the model would end."},
    {"ctx", 'c', SL_OPT_INT, FIELD(ctx), 0, 1 << 22, "N", NULL, "0",
     "Context: most tokens of prompt and answers; 0: the model's own, at most 4096."},
    {"threads", 't', SL_OPT_INT, FIELD(threads), 0, 512, "N", NULL, "0",
     "Threads that compute; 0: as many as this process may use."},
    {"kv", 0, SL_OPT_ENUM, FIELD(kv), 0, 0, "TYPE", "f16,q8_0,f32", "f16",
     "How keys and values are kept; q8_0 takes about half of f16."},
    {"batch", 0, SL_OPT_INT, FIELD(batch), 0, 8192, "N", NULL, "0",
     "Most tokens computed in one step; 0: 512."},
    {"stages", 0, SL_OPT_INT, FIELD(stages), 1, LLM_STAGES_MAX, "N", NULL, "1",
     "Run the layers as N chained stages, as a split model does."},
    {"gpu-layers", 0, SL_OPT_INT, FIELD(gpu_layers), -1, 1 << 20, "N", NULL, "-1",
     "Layers on the accelerator; -1: as many as fit, 0: none."},
    {"echo", 0, SL_OPT_BOOL, FIELD(echo), 0, 0, NULL, NULL, NULL,
     "Print the prompt before the answer."},
    {"raw", 0, SL_OPT_BOOL, FIELD(raw), 0, 0, NULL, NULL, NULL,
     "Give the model the prompt as it is. It always does for now: there are no chat templates "
     "yet."},
    {"quiet", 'q', SL_OPT_BOOL, FIELD(quiet), 0, 0, NULL, NULL, NULL, "No statistics on stderr."},
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL,
     "Print one JSON object with the text, its tokens, usage and timings."},
    {0},
};

const struct sl_command cmd_run_spec = {
    .name = "run",
    .usage = "MODEL [PROMPT]",
    .summary = "Run a model: continue a prompt, or talk to it.",
    .details =
        "MODEL is the path of a GGUF file (of a sharded one: its first file), or starling, the "
        "small "
        "story model that comes with the program. The text goes to stdout as it comes, statistics "
        "to stderr.\n\n"
        "PROMPT \"-\" reads the prompt from stdin; so does a missing one when stdin is not a "
        "terminal. At a terminal a missing PROMPT starts a conversation: every line goes on with "
        "the text so far, Ctrl-C stops an answer, Ctrl-D leaves.\n\n"
        "    starlane run starling \"Once upon a time\"\n"
        "    starlane run ./model.gguf --temp 0 --max-tokens 64 < question.txt",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 2,
};

/* Set by Ctrl-C; the one thing a signal handler may touch. */
static volatile sig_atomic_t stop_asked;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    stop_asked = 1;
}

static void catch_interrupt(int flags)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

static uint64_t choose_seed(int64_t given)
{
    uint64_t seed = 0;
    if (given != SEED_RANDOM) return (uint64_t)given;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = (uint64_t)sl_now_ns();
    return seed >> 12; /* a number that JSON readers keep exactly */
}

static void fill_sampler(const struct run_options *o, struct sampler_cfg *sampler)
{
    sampler_cfg_default(sampler);
    sampler->temp = (float)o->temp;
    sampler->top_k = (int32_t)o->top_k;
    sampler->top_p = (float)o->top_p;
    sampler->min_p = (float)o->min_p;
    sampler->repeat_penalty = (float)o->repeat_penalty;
    sampler->repeat_last_n = (int32_t)o->repeat_last_n;
    sampler->seed = choose_seed(o->seed);
}

static sl_status load(const struct run_options *o, const char *path, struct generator *g,
                      struct sl_err *err)
{
    struct llm_engine_cfg cfg;
    llm_engine_cfg_default(&cfg);
    cfg.n_threads = (int32_t)o->threads;
    cfg.n_ctx = (int32_t)o->ctx;
    cfg.n_batch = (int32_t)o->batch;
    cfg.n_stages = (int32_t)o->stages;
    cfg.gpu_layers = (int32_t)o->gpu_layers;
    cfg.kv_type = (enum llm_kv_type)o->kv;
    cfg.n_seqs_max = 1;
    return generator_load(g, path, &cfg, err);
}

struct run {
    const struct run_options *o;
    char path[PATH_MAX];
    struct generator generator;
    struct engine_generate request;
    int64_t loaded_ns;
};

/* For a conversation: the engine's threads are born with SIGINT blocked, so that it always reaches
 * the thread that reads lines. Ctrl-C while loading then waits for the end of it. */
static sl_status load_for_terminal(struct run *run, struct sl_err *err)
{
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    sl_status status = load(run->o, run->path, &run->generator, err);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

static sl_status end_line(const struct run *run, const struct answer *answer, struct sl_err *err)
{
    const struct sl_buf *text = &answer->text;
    if (run->o->json || answer->reader_gone) return SL_OK;
    bool ends = text->len && text->data[text->len - 1] == '\n';
    return ends ? SL_OK : cli_write("\n", 1, err);
}

static sl_status print_answer(const struct run *run, const struct answer *answer,
                              struct sl_err *err)
{
    const struct run_report report = {
        .model_path = run->path,
        .engine = run->generator.engine,
        .answer = answer,
        .prompt = run->request.text,
        .n_prompt = run->request.n_text,
        .seed = run->request.sampler->seed,
        .loaded_ns = run->loaded_ns,
    };
    sl_status status = end_line(run, answer, err);
    if (status != SL_OK || !run->o->json) {
        if (!run->o->quiet && !answer->reader_gone) run_report_print(&report);
        return status;
    }
    struct sl_buf out;
    sl_buf_init(&out, JSON_BYTES_MAX);
    status = run_report_json(&report, &out);
    if (status == SL_OK)
        status = cli_write(out.data, out.len, err);
    else
        (void)sl_err_set(err, status, "the answer as JSON: %s", sl_status_text(status));
    sl_buf_done(&out);
    return status;
}

/* One prompt, one answer. */
static int run_once(struct run *run)
{
    struct sl_err err = SL_ERR_INIT;
    struct answer answer;
    sl_status status = SL_OK;
    /* A second Ctrl-C ends the process the hard way, should a step take long. */
    catch_interrupt((int)SA_RESETHAND);
    run->generator.stream = !run->o->json;
    if (run->o->echo && !run->o->json)
        status = cli_write(run->request.text, run->request.n_text, &err);
    if (status != SL_OK) return status == SL_CANCELLED ? CLI_OK : cli_fail(&cmd_run_spec, &err);
    status = generator_run(&run->generator, &run->request, &answer, &err);
    if (status == SL_LIMIT && !answer.tokens.len)
        (void)sl_err_set(&err, status, "%s; shorten it or give a larger --ctx", err.text);
    if (status == SL_OK) status = print_answer(run, &answer, &err);
    bool interrupted = stop_asked && answer.finish == ENGINE_FINISH_CANCELLED;
    answer_done(&answer);
    if (status != SL_OK && status != SL_CANCELLED) return cli_fail(&cmd_run_spec, &err);
    return interrupted ? CLI_INTERRUPTED : CLI_OK;
}

static int run_interactive(struct run *run, const char *model)
{
    struct sl_err err = SL_ERR_INIT;
    const struct interactive in = {
        .generator = &run->generator,
        .request = run->request,
        .model = model,
        .quiet = run->o->quiet,
        .stop = &stop_asked,
    };
    catch_interrupt(0);
    run->generator.stream = true;
    return interactive_run(&in, &err) == SL_OK ? CLI_OK : cli_fail(&cmd_run_spec, &err);
}

/* Where the prompt comes from: the command line, stdin, or (false) a person who types. */
static sl_status read_prompt(const struct cli_args *args, struct sl_buf *prompt, bool *out_given,
                             struct sl_err *err)
{
    const char *given = args->n > 1 ? args->v[1] : NULL;
    bool from_stdin = given ? strcmp(given, "-") == 0 : !isatty(STDIN_FILENO);
    *out_given = given || from_stdin;
    if (from_stdin) return cli_read_stdin(prompt, err);
    if (!given) return SL_OK;
    sl_status status = sl_buf_adds(prompt, given);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, status, "prompt: %s", sl_status_text(status));
}

static int run_with_prompt(struct run *run, const struct cli_args *args, struct sl_buf *prompt)
{
    struct sl_err err = SL_ERR_INIT;
    bool given;
    sl_status status = model_path_find(args->v[0], run->path, &err);
    if (status == SL_OK) status = read_prompt(args, prompt, &given, &err);
    if (status == SL_OK && !given && run->o->json)
        status = sl_err_set(&err, SL_INVALID, "--json needs a PROMPT");
    run->generator.stop = &stop_asked;
    if (status == SL_OK)
        status =
            given ? load(run->o, run->path, &run->generator, &err) : load_for_terminal(run, &err);
    if (status != SL_OK) return cli_fail(&cmd_run_spec, &err);
    run->loaded_ns = sl_now_ns();
    run->request.text = prompt->data;
    run->request.n_text = prompt->len;
    int exit_code = given ? run_once(run) : run_interactive(run, args->v[0]);
    generator_unload(&run->generator);
    return exit_code;
}

int cmd_run(int argc, char **argv)
{
    struct run_options o;
    struct sampler_cfg sampler;
    struct cli_args args;
    struct sl_buf prompt;
    int exit_code;
    if (!cli_parse(&cmd_run_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    fill_sampler(&o, &sampler);
    struct run run = {
        .o = &o,
        .request = {.id = 1,
                    .max_tokens = (int32_t)o.max_tokens,
                    .ignore_end = o.ignore_end,
                    .sampler = &sampler,
                    .stop = &o.stop,
                    .n_stop = o.stop != NULL},
    };
    sl_buf_init(&prompt, PROMPT_BYTES_MAX);
    exit_code = run_with_prompt(&run, &args, &prompt);
    sl_buf_done(&prompt);
    return exit_code;
}
