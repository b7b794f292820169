#include "cli/answer.h"
#include "base/clock.h"
#include "cli/cli.h"
#include <stdio.h>
#include <unistd.h>

#define DIM "\033[2m"
#define PLAIN "\033[0m"

void answer_init(struct answer *answer, const struct answer_view *view)
{
    *answer = (struct answer){.view = view, .begin_ns = sl_now_ns()};
    sl_buf_init(&answer->text, ANSWER_BYTES_MAX);
    sl_buf_init(&answer->reasoning, ANSWER_BYTES_MAX);
    sl_buf_init(&answer->tokens, ANSWER_BYTES_MAX);
}

void answer_done(struct answer *answer)
{
    sl_buf_done(&answer->text);
    sl_buf_done(&answer->reasoning);
    sl_buf_done(&answer->tokens);
}

void answer_fail(struct answer *answer, sl_status status, const char *what)
{
    if (answer->failure.status == SL_OK)
        (void)sl_err_set(&answer->failure, status, "%s", what ? what : sl_status_text(status));
}

/* False: it is not wanted any more. */
static bool keep(struct answer *answer, struct sl_buf *buf, const char *text, size_t n)
{
    if (answer->failure.status != SL_OK || answer->reader_gone || n == 0) return false;
    sl_status status = sl_buf_add(buf, text, n);
    if (status != SL_OK)
        answer_fail(answer, status, "the answer's text: over its limit, or out of memory");
    return status == SL_OK;
}

void answer_end(struct answer *answer)
{
    if (answer->dimmed) fputs(PLAIN "\n\n", stderr);
    answer->dimmed = false;
}

void answer_add_text(struct answer *answer, const char *text, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    if (!keep(answer, &answer->text, text, n) || !answer->view->stream) return;
    answer_end(answer);
    sl_status status = cli_write(text, n, &err);
    if (status == SL_CANCELLED)
        answer->reader_gone = true;
    else if (status != SL_OK)
        answer_fail(answer, status, err.text);
}

void answer_add_reasoning(struct answer *answer, const char *text, size_t n)
{
    bool wanted = answer->view->stream && !answer->view->hide_reasoning;
    if (!keep(answer, &answer->reasoning, text, n) || !wanted || !isatty(STDERR_FILENO)) return;
    if (!answer->dimmed) fputs(DIM, stderr);
    answer->dimmed = true;
    fwrite(text, 1, n, stderr);
}
