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

static void history_path(char out[PATH_MAX])
{
    char home[PATH_MAX];
    cli_home(home, sizeof home);
    bool usable = home[0] && (mkdir(home, 0700) == 0 || errno == EEXIST);
    int n = usable ? snprintf(out, PATH_MAX, "%s/history", home) : -1;
    if (n < 0 || n >= PATH_MAX) out[0] = '\0';
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

static void print_statistics(const struct conversation *c, const struct answer *a)
{
    const struct engine *engine = c->in->generator->engine;
    const struct engine_usage *u = &a->usage;
    const char *note = run_report_note(engine, a);
    if (c->in->quiet && !note) return;
    fprintf(stderr, "[%s%s%d of %d tokens used; %.1f tokens/s]\n", note ? note : "",
            note ? "; " : "", u->n_prompt + u->n_generated, llm_engine_n_ctx(engine),
            run_generation_tps(u));
}

/* OK also when only this line cannot be answered: that is said, and the text is as before. */
static sl_status answer_line(struct conversation *c, const char *line, size_t n, struct sl_err *err)
{
    struct engine_generate request = c->in->request;
    struct answer answer = {0};
    size_t before = c->text.len;
    if (add_line(c, line, n) != SL_OK) return sl_err_set(err, SL_LIMIT, "the text is too long");
    request.text = c->text.data;
    request.n_text = c->text.len;
    sl_status status = generator_run(c->in->generator, &request, &answer, err);
    if (status == SL_OK) status = cli_write("\n", 1, err);
    if (status == SL_OK && sl_buf_add(&c->text, answer.text.data, answer.text.len) != SL_OK)
        status = sl_err_set(err, SL_LIMIT, "the text is too long");
    if (status == SL_OK) {
        c->last_was_ended = answer.finish == ENGINE_FINISH_STOP;
        print_statistics(c, &answer);
    } else if (status == SL_LIMIT || status == SL_INVALID) {
        sl_buf_truncate(&c->text, before);
        fprintf(stderr, "%s; %s\n", err->text,
                status == SL_LIMIT ? "/reset begins anew, a larger --ctx holds more"
                                   : "type the beginning of a text");
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
    char path[PATH_MAX];
    history_path(path);
    const struct line_editor_cfg cfg = {">>> ", path, in->stop};
    sl_status status = line_editor_create(&cfg, &c.editor, err);
    if (status != SL_OK) return status;
    sl_buf_init(&c.text, CONVERSATION_BYTES_MAX);
    fprintf(stderr, "%s, context of %d tokens. /? explains, Ctrl-D leaves.\n", in->model,
            llm_engine_n_ctx(in->generator->engine));
    status = read_lines(&c, err);
    sl_buf_done(&c.text);
    line_editor_destroy(c.editor);
    return status;
}
