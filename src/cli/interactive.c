#include "cli/interactive.h"
#include "cli/cli.h"
#include "cli/line_editor.h"
#include "cli/run_report.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CONVERSATION_BYTES_MAX (16u << 20) /* as of a prompt */

static const char help_text[] =
    "Type the beginning of a text; the model goes on with it, and with every line you add.\n"
    "  Enter alone  go on without adding anything\n"
    "  Ctrl-C       stop the answer, or drop the line\n"
    "  /reset       forget the text and begin anew\n"
    "  /bye         leave (also Ctrl-D)\n";

struct conversation {
    const struct interactive *in;
    struct line_editor *editor;
    struct sl_buf text;  /* what the model has seen and said */
    bool last_was_ended; /* the model ended its last answer by itself */
};

void interactive_history_path(char *out, size_t out_size)
{
    char home[PATH_MAX];
    cli_home(home, sizeof home);
    bool usable = home[0] && (mkdir(home, 0700) == 0 || errno == EEXIST);
    int n = usable ? snprintf(out, out_size, "%s/history", home) : -1;
    if (n < 0 || (size_t)n >= out_size) out[0] = '\0';
}

static bool is_line(const char *line, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(line, word, n) == 0;
}

/* A line after a finished text is a new paragraph; one after a text that was cut goes on with
 * it. */
static sl_status add_line(struct conversation *c, const char *line, size_t n)
{
    if (c->last_was_ended && sl_buf_addc(&c->text, '\n') != SL_OK) return SL_LIMIT;
    return sl_buf_add(&c->text, line, n);
}

/* OK also when only this line cannot be answered: that is said, and the text is as before. */
static sl_status answer_line(struct conversation *c, const char *line, size_t n, struct sl_err *err)
{
    struct talk *talk = c->in->talk;
    struct answer answer;
    size_t before = c->text.len;
    if (add_line(c, line, n) != SL_OK) return sl_err_set(err, SL_LIMIT, "the text is too long");
    const struct question question = {.text = c->text.data, .n = c->text.len};
    answer_init(&answer, &talk->view);
    sl_status status = talk_ask(talk, &question, &answer, err);
    if (status == SL_OK) status = cli_write("\n", 1, err);
    if (status == SL_OK && sl_buf_add(&c->text, answer.text.data, answer.text.len) != SL_OK)
        status = sl_err_set(err, SL_LIMIT, "the text is too long");
    if (status == SL_OK) {
        c->last_was_ended = answer.finish == ENGINE_FINISH_STOP;
        run_report_line(talk, &answer, talk->o->quiet);
    } else if (status == SL_LIMIT || status == SL_INVALID) {
        const char *hint = status == SL_LIMIT ? "; /reset begins anew, a larger --ctx holds more"
                           : c->text.len == 0 ? "; type the beginning of a text"
                                              : "";
        sl_buf_truncate(&c->text, before);
        fprintf(stderr, "%s%s\n", err->text, hint);
        status = SL_OK;
    }
    answer_done(&answer);
    return status;
}

/* Returns whether the conversation goes on. */
static bool take_line(struct conversation *c, const char *line, size_t n, sl_status *status,
                      struct sl_err *err)
{
    if (is_line(line, n, "/bye") || is_line(line, n, "/exit")) return false;
    if (is_line(line, n, "/?") || is_line(line, n, "/help")) {
        fputs(help_text, stderr);
        return true;
    }
    if (is_line(line, n, "/reset") || is_line(line, n, "/clear")) {
        sl_buf_clear(&c->text);
        c->last_was_ended = false;
        return true;
    }
    if (n > 0) line_editor_remember(c->editor, line, n);
    *status = answer_line(c, line, n, err);
    return *status == SL_OK;
}

static sl_status read_lines(struct conversation *c, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (bool go_on = true; go_on;) {
        const char *line;
        size_t n;
        *c->in->stop = 0;
        switch (line_editor_read(c->editor, &line, &n)) {
        case LINE_DROPPED: fputs("\n(Ctrl-D or /bye leaves)\n", stderr); break;
        case LINE_END:
            fputc('\n', stderr);
            go_on = false;
            break;
        case LINE_READ: go_on = take_line(c, line, n, &status, err); break;
        }
    }
    return status == SL_CANCELLED ? SL_OK : status;
}

sl_status interactive_run(const struct interactive *in, struct sl_err *err)
{
    struct conversation c = {.in = in};
    char path[PATH_MAX], of[48] = "";
    int32_t n_ctx = talk_n_ctx(in->talk);
    interactive_history_path(path, sizeof path);
    const struct line_editor_cfg cfg = {">>> ", path, in->stop};
    sl_status status = line_editor_create(&cfg, &c.editor, err);
    if (status != SL_OK) return status;
    sl_buf_init(&c.text, CONVERSATION_BYTES_MAX);
    if (n_ctx) snprintf(of, sizeof of, ", context of %d tokens", n_ctx);
    fprintf(stderr, "%s%s. /? explains, Ctrl-D leaves.\n", in->talk->model, of);
    status = read_lines(&c, err);
    sl_buf_done(&c.text);
    line_editor_destroy(c.editor);
    return status;
}
