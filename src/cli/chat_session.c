#include "cli/chat_session.h"
#include "cli/chat_input.h"
#include "cli/cli.h"
#include "cli/interactive.h"
#include "cli/run_report.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX (256u << 20) /* a conversation at its limit, every byte escaped */

static const char help_text[] = "Say something; the model answers and remembers the conversation.\n"
                                "  \"\"\"            begins and ends a message of several lines\n"
                                "  Ctrl-C         stop the answer, or drop the line\n"
                                "  /clear         forget the conversation\n"
                                "  /system TEXT   tell the model how to be; without TEXT: show it\n"
                                "  /save FILE     write the conversation to a file, as JSON\n"
                                "  /load FILE     go on with such a conversation\n"
                                "  /bye           leave (also Ctrl-D)\n";

struct session {
    const struct chat_session_cfg *cfg;
    struct chat_input *input;
    struct chat_history history;
};

/* --- files --- */

static sl_status write_file(const char *path, const struct sl_buf *text, struct sl_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return sl_err_errno(err, errno, "%s", path);
    ssize_t n = write(fd, text->data, text->len);
    sl_status status = SL_OK;
    if (n != (ssize_t)text->len) status = sl_err_errno(err, n < 0 ? errno : ENOSPC, "%s", path);
    if (close(fd) != 0 && status == SL_OK) status = sl_err_errno(err, errno, "%s", path);
    return status;
}

static sl_status save(const struct session *s, const char *path, struct sl_err *err)
{
    struct sl_json json;
    struct sl_buf text;
    sl_buf_init(&text, FILE_BYTES_MAX);
    sl_json_begin(&json, &text, true);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", s->cfg->talk->model);
    sl_json_key(&json, "messages");
    chat_history_put(&s->history, NULL, &json);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    if (status == SL_OK) status = sl_buf_addc(&text, '\n');
    if (status == SL_OK)
        status = write_file(path, &text, err);
    else
        (void)sl_err_set(err, status, "%s: %s", path, sl_status_text(status));
    sl_buf_done(&text);
    if (status == SL_OK) fprintf(stderr, "%zu messages saved\n", s->history.n);
    return status;
}

static sl_status load(struct session *s, const char *path, struct sl_err *err)
{
    struct sl_json_value *value = NULL;
    struct sl_buf text;
    sl_buf_init(&text, FILE_BYTES_MAX);
    sl_status status = cli_read_file(path, &text, err);
    if (status == SL_OK) {
        status = sl_json_parse(text.data, text.len, &value, err);
        if (status == SL_OK)
            status = chat_history_read(&s->history, sl_json_get(value, "messages"), err);
        if (status != SL_OK) status = sl_err_prefix(err, "%s", path);
    }
    sl_json_free(value);
    sl_buf_done(&text);
    if (status == SL_OK) fprintf(stderr, "%zu messages loaded\n", s->history.n);
    return status;
}

/* --- a turn --- */

static sl_status print_answer(const struct session *s, const struct answer *answer,
                              struct sl_err *err)
{
    const struct talk *talk = s->cfg->talk;
    const struct chat_message *asked = &s->history.v[s->history.n - 1];
    const struct run_report report = {talk, answer, asked->text, asked->n, s->cfg->loaded_ns};
    if (!talk->o->json) {
        bool ends = answer->text.len && answer->text.data[answer->text.len - 1] == '\n';
        sl_status status = ends ? SL_OK : cli_write("\n", 1, err);
        if (s->cfg->terminal) run_report_line(talk, answer, talk->o->quiet);
        return status;
    }
    return run_report_print_json(&report, err);
}

/* What failed or was stopped before it said anything leaves no trace in the conversation. */
static sl_status say(struct session *s, const char *text, size_t n, struct sl_err *err)
{
    struct talk *talk = s->cfg->talk;
    const struct question question = {.history = &s->history};
    struct answer answer;
    size_t before = s->history.n;
    sl_status status = chat_history_add(&s->history, CHAT_USER, text, n);
    if (status != SL_OK)
        return sl_err_set(err, status, "the conversation: %s", sl_status_text(status));
    answer_init(&answer, &talk->view);
    status = talk_ask(talk, &question, &answer, err);
    if (status == SL_OK) status = print_answer(s, &answer, err);
    if (status == SL_OK && answer.text.len)
        status = chat_history_add(&s->history, CHAT_ASSISTANT, answer.text.data, answer.text.len);
    if (status != SL_OK || !answer.text.len) chat_history_truncate(&s->history, before);
    if (status == SL_OK && answer.reader_gone)
        status = sl_err_set(err, SL_CANCELLED, "stdout is closed");
    answer_done(&answer);
    return status;
}

static sl_status set_system(struct session *s, const char *text, size_t n, struct sl_err *err)
{
    if (n == 0) {
        const char *system = chat_history_system(&s->history);
        fprintf(stderr, "%s\n", system ? system : "(what comes with the model)");
        return SL_OK;
    }
    sl_status status = chat_history_add(&s->history, CHAT_SYSTEM, text, n);
    return status == SL_OK ? SL_OK : sl_err_set(err, status, "%s", sl_status_text(status));
}

static sl_status use_file(struct session *s, enum chat_command command, const char *path, size_t n,
                          struct sl_err *err)
{
    char copy[PATH_MAX];
    if (n == 0 || n >= sizeof copy) return sl_err_set(err, SL_INVALID, "which file?");
    memcpy(copy, path, n);
    copy[n] = '\0';
    return command == CHAT_SAVE ? save(s, copy, err) : load(s, copy, err);
}

/* A message or a command. *bye: it is the last. */
static sl_status take(struct session *s, const char *text, size_t n, bool *bye, struct sl_err *err)
{
    const char *rest = "";
    size_t n_rest = 0;
    enum chat_command command = chat_command_parse(text, n, &rest, &n_rest);
    *bye = command == CHAT_BYE;
    switch (command) {
    case CHAT_SAYS: return say(s, text, n, err);
    case CHAT_HELP: fputs(help_text, stderr); return SL_OK;
    case CHAT_BYE: return SL_OK;
    case CHAT_CLEAR: chat_history_clear(&s->history); return SL_OK;
    case CHAT_SYSTEM_IS: return set_system(s, rest, n_rest, err);
    case CHAT_SAVE:
    case CHAT_LOAD: return use_file(s, command, rest, n_rest, err);
    case CHAT_UNKNOWN: break;
    }
    return sl_err_set(err, SL_INVALID, "no such command; /help lists them");
}

static bool is_final(const struct session *s, sl_status status)
{
    if (!s->cfg->terminal) return status != SL_OK || *s->cfg->interrupt;
    return status == SL_CANCELLED || status == SL_NOMEM || status == SL_INTERNAL;
}

static sl_status run(struct session *s, struct sl_err *err)
{
    const char *text;
    size_t n;
    sl_status status;
    bool bye = false;
    while (!bye && chat_input_read(s->input, &text, &n, &status, err)) {
        status = take(s, text, n, &bye, err);
        if (is_final(s, status)) break;
        if (status != SL_OK)
            fprintf(stderr, "%s%s\n", err->text,
                    status == SL_LIMIT ? "; /clear forgets, a larger --ctx holds more" : "");
        status = SL_OK;
    }
    return status;
}

sl_status chat_session_run(const struct chat_session_cfg *cfg, struct sl_err *err)
{
    struct session s = {.cfg = cfg};
    const struct talk *talk = cfg->talk;
    const char *system = talk->o->system;
    char path[PATH_MAX];
    interactive_history_path(path, sizeof path);
    sl_status status = chat_input_create(cfg->terminal, path, cfg->interrupt, &s.input, err);
    if (status == SL_OK && system && *system) status = set_system(&s, system, strlen(system), err);
    if (status == SL_OK && cfg->terminal)
        fprintf(stderr, "%s%s%s. /help explains, Ctrl-D leaves.\n", talk->model,
                talk->client ? " on " : "", talk->client ? client_server(talk->client) : "");
    if (status == SL_OK) status = run(&s, err);
    chat_history_done(&s.history);
    chat_input_destroy(s.input);
    return status == SL_CANCELLED ? SL_OK : status;
}
