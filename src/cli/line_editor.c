#include "cli/line_editor.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES_MAX 1000
#define REPLACEMENT L'?' /* for bytes that are no character in this locale */
/* The kernel turns a Ctrl-D that is typed before libedit has switched the terminal to raw mode into
 * a NUL, which libedit would take for text. */
#define CTRL_D L'\004'
#define LINE_BYTES_MAX (1u << 20) /* of a line that goes into the history */

struct line_editor {
    EditLine *edit;
    History *history;
    const char *prompt;
    const volatile sig_atomic_t *interrupt;
    char path[PATH_MAX];
};

static struct line_editor *self_of(EditLine *edit)
{
    void *self = NULL;
    el_get(edit, EL_CLIENTDATA, &self);
    return self;
}

/* libedit wants char *, and only reads it. */
static char *prompt_of(EditLine *edit)
{
    return (char *)(uintptr_t)self_of(edit)->prompt;
}

/* Multi-byte input needs a locale that knows it; a machine without any set still has C.UTF-8. */
static void set_locale(void)
{
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) (void)setlocale(LC_CTYPE, "C.UTF-8");
}

/* Waits for a byte, or for Ctrl-C: the signal is let through only while waiting, so that one which
 * comes just before is not missed. False: errno says why, EINTR for Ctrl-C. */
static bool wait_for_input(const struct line_editor *e)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t interrupt, before;
    int n = -1;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    errno = EINTR;
    while (!*e->interrupt && (n = ppoll(&input, 1, NULL, &before)) < 0 && errno == EINTR) continue;
    int why = *e->interrupt ? EINTR : errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = why;
    return n > 0;
}

/* libedit's own reader goes on after a signal; this one ends the line at Ctrl-C. Returns 1, 0 at
 * the end of the input, -1 with errno. */
static int read_char(EditLine *edit, wchar_t *out)
{
    const struct line_editor *e = self_of(edit);
    mbstate_t state = {0};
    for (;;) {
        char byte;
        if (!wait_for_input(e)) return -1;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR && !*e->interrupt) continue;
        if (n <= 0) return (int)n;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-2) continue; /* a character's first bytes */
        if (used == (size_t)-1) *out = REPLACEMENT;
        if (used == 0) *out = CTRL_D;
        return 1;
    }
}

static void configure(struct line_editor *e)
{
    el_set(e->edit, EL_CLIENTDATA, e);
    el_set(e->edit, EL_PROMPT, prompt_of);
    el_set(e->edit, EL_EDITOR, "emacs");
    el_set(e->edit, EL_HIST, history, e->history);
    el_source(e->edit, NULL); /* the user's ~/.editrc */
    el_set(e->edit, EL_GETCFN, read_char);
    el_set(e->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(e->edit, EL_BIND, "\033[3~", "ed-delete-next-char", NULL);
}

/* Creates the file for its owner alone before libedit writes to it. */
static void load_history(struct line_editor *e, const char *path)
{
    HistEvent event;
    history(e->history, &event, H_SETSIZE, HISTORY_LINES_MAX);
    history(e->history, &event, H_SETUNIQUE, 1);
    int n = snprintf(e->path, sizeof e->path, "%s", path);
    if (n < 0 || (size_t)n >= sizeof e->path) e->path[0] = '\0';
    int fd = e->path[0] ? open(e->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) {
        e->path[0] = '\0';
        return;
    }
    close(fd);
    history(e->history, &event, H_LOAD, e->path);
}

sl_status line_editor_create(const struct line_editor_cfg *cfg, struct line_editor **out,
                             struct sl_err *err)
{
    struct line_editor *e = sl_calloc(1, sizeof *e);
    if (!e) return sl_err_set(err, SL_NOMEM, "line editor");
    set_locale();
    e->prompt = cfg->prompt;
    e->interrupt = cfg->interrupt;
    e->history = history_init();
    if (!e->history) goto fail;
    /* The editing goes where a person sees it when the answers go into a file. */
    e->edit = el_init("starlane", stdin, isatty(STDOUT_FILENO) ? stdout : stderr, stderr);
    if (!e->edit) goto fail;
    load_history(e, cfg->history_path);
    configure(e);
    *out = e;
    return SL_OK;
fail:
    line_editor_destroy(e);
    return sl_err_set(err, SL_UNAVAILABLE, "the terminal cannot be used; give a PROMPT instead");
}

void line_editor_destroy(struct line_editor *e)
{
    if (!e) return;
    if (e->edit) el_end(e->edit);
    if (e->history) history_end(e->history);
    sl_free(e);
}

enum line_result line_editor_read(struct line_editor *e, const char **out_line, size_t *out_n)
{
    int n = 0;
    el_resize(e->edit); /* the window may have changed since the last line */
    const char *line = el_gets(e->edit, &n);
    if (n < 0 && *e->interrupt) return LINE_DROPPED;
    if (!line || n <= 0) return LINE_END;
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
    *out_line = line;
    *out_n = (size_t)n;
    return LINE_READ;
}

void line_editor_remember(struct line_editor *e, const char *line, size_t n)
{
    HistEvent event;
    char *copy = n <= LINE_BYTES_MAX ? sl_memdup(line, n) : NULL;
    if (!copy) return;
    history(e->history, &event, H_ENTER, copy);
    if (e->path[0]) history(e->history, &event, H_SAVE, e->path);
    sl_free(copy);
}
