/* talk_options.h: the options that `starlane run` and `starlane chat` share: how tokens are drawn,
 * how the engine runs, which server is asked.
 * Floor: cli.  Thread: main.  Allocates: nothing. */
#pragma once
#include "base/config.h"
#include "cli/client_options.h"
#include "exec/llm/llm_engine.h"
#include "exec/llm/sampler.h"
#include <math.h>

#define TALK_SEED_RANDOM (-1)

struct talk_options {
    int64_t max_tokens, top_k, seed, repeat_last_n;
    double temp, top_p, min_p, repeat_penalty; /* repeat_penalty 0: as the model */
    const char *stop, *system;
    bool ignore_end, think, no_think, hide_thinking;
    int64_t threads, ctx, batch, stages, gpu_layers;
    int kv; /* enum llm_kv_type */
    const char *server, *api_key;
    bool local, quiet, json;
};

/* Rows of a command's table whose target struct has these options in `member`. */
/* clang-format off */
#define TALK_OPTIONS(type, member)                                                                 \
    {"max-tokens", 'n', SL_OPT_INT, offsetof(type, member.max_tokens), 0, 1 << 24, "N", NULL, "0", \
     "Most tokens of an answer; 0: 256, in a chat what the context holds."},                       \
    {"temp", 0, SL_OPT_FLOAT, offsetof(type, member.temp), -1, 100, "T", NULL, "-1",               \
     "Temperature; 0 always takes the likeliest token; -1: the model's own, or 0.8."},             \
    {"top-p", 0, SL_OPT_FLOAT, offsetof(type, member.top_p), -1, 1, "P", NULL, "-1",               \
     "Draw from the likeliest tokens that together have this probability; 1: from all; -1: the "   \
     "model's own, or 0.95."},                                                                     \
    {"top-k", 0, SL_OPT_INT, offsetof(type, member.top_k), -1, 1000000, "K", NULL, "-1",           \
     "Draw from the K likeliest tokens; 0: from all; -1: the model's own, or 40."},                \
    {"min-p", 0, SL_OPT_FLOAT, offsetof(type, member.min_p), -1, 1, "P", NULL, "-1",               \
     "Leave out tokens less likely than this share of the likeliest; 0: off; -1: the model's "     \
     "own, or 0.05."},                                                                             \
    {"repeat-penalty", 0, SL_OPT_FLOAT, offsetof(type, member.repeat_penalty), 0, 10, "X", NULL,   \
     "0", "Divide the score of tokens that came lately by this; 1: off; 0: the model's own, or "   \
     "1."},                                                                                        \
    {"repeat-last", 0, SL_OPT_INT, offsetof(type, member.repeat_last_n), -1, SAMPLER_HISTORY_MAX,  \
     "N", NULL, "-1", "Tokens that --repeat-penalty looks back; -1: the model's own, or 64."},     \
    {"seed", 's', SL_OPT_INT, offsetof(type, member.seed), TALK_SEED_RANDOM, INFINITY, "N", NULL,  \
     "-1", "The same seed draws the same answer; -1: another one each time."},                     \
    {"stop", 0, SL_OPT_STRING, offsetof(type, member.stop), 0, 0, "TEXT", NULL, NULL,              \
     "End the answer before this text."},                                                          \
    {"ignore-end", 0, SL_OPT_BOOL, offsetof(type, member.ignore_end), 0, 0, NULL, NULL, NULL,      \
     "Go on where the model would end."},                                                          \
    {"system", 0, SL_OPT_STRING, offsetof(type, member.system), 0, 0, "TEXT", NULL, NULL,          \
     "What the model is told before a chat begins; otherwise what comes with the model."},         \
    {"think", 0, SL_OPT_BOOL, offsetof(type, member.think), 0, 0, NULL, NULL, NULL,                \
     "Ask a chat model to reason before it answers, where its template can."},                     \
    {"no-think", 0, SL_OPT_BOOL, offsetof(type, member.no_think), 0, 0, NULL, NULL, NULL,          \
     "Ask it not to."},                                                                            \
    {"hide-thinking", 0, SL_OPT_BOOL, offsetof(type, member.hide_thinking), 0, 0, NULL, NULL,      \
     NULL, "Do not show the reasoning, which otherwise goes to stderr if that is a terminal."},    \
    {"ctx", 'c', SL_OPT_INT, offsetof(type, member.ctx), 0, 1 << 22, "N", NULL, "0",               \
     "Context: most tokens of prompt and answers; 0: the model's own, at most 4096."},             \
    {"threads", 't', SL_OPT_INT, offsetof(type, member.threads), 0, 512, "N", NULL, "0",           \
     "Threads that compute; 0: as many as this process may use."},                                 \
    {"kv", 0, SL_OPT_ENUM, offsetof(type, member.kv), 0, 0, "TYPE", "f16,q8_0,f32", "f16",         \
     "How keys and values are kept; q8_0 takes about half of f16."},                               \
    {"batch", 0, SL_OPT_INT, offsetof(type, member.batch), 0, 8192, "N", NULL, "0",                \
     "Most tokens computed in one step; 0: 512."},                                                 \
    {"stages", 0, SL_OPT_INT, offsetof(type, member.stages), 1, LLM_STAGES_MAX, "N", NULL, "1",    \
     "Run the layers as N chained stages, as a split model does."},                                \
    {"gpu-layers", 0, SL_OPT_INT, offsetof(type, member.gpu_layers), -1, 1 << 20, "N", NULL, "-1", \
     "Layers on the accelerator; -1: as many as fit, 0: none."},                                   \
    {"local", 0, SL_OPT_BOOL, offsetof(type, member.local), 0, 0, NULL, NULL, NULL,                \
     "Run the model in this process, even where a server could."},                                 \
    CLIENT_OPTIONS(type, member.server, member.api_key),                                           \
    {"quiet", 'q', SL_OPT_BOOL, offsetof(type, member.quiet), 0, 0, NULL, NULL, NULL,              \
     "No statistics on stderr."}
/* clang-format on */
