/* line_editor.h: lines typed at a terminal, with editing and a history that is kept (libedit).
 * Floor: cli.  Thread: main, one editor a process: libedit owns the terminal while it reads.
 * Allocates: create; libedit's own buffers. */
#pragma once
#include "base/err.h"
#include <signal.h>
#include <stddef.h>

enum line_result {
    LINE_READ,
    LINE_DROPPED, /* Ctrl-C: what was typed is thrown away */
    LINE_END      /* Ctrl-D on an empty line, or the terminal is gone */
};

struct line_editor; /* opaque */

struct line_editor_cfg { /* all borrowed */
    const char *prompt;
    const char *history_path; /* "" keeps no history; a file that cannot be used is no error */
    const volatile sig_atomic_t *interrupt; /* set by the caller's handler of SIGINT, which has no
                                               SA_RESTART: while true, reading ends at a signal */
};

/* UNAVAILABLE: the terminal cannot be used. NOMEM. */
SL_CHECK sl_status line_editor_create(const struct line_editor_cfg *cfg, struct line_editor **out,
                                      struct sl_err *err);
void line_editor_destroy(struct line_editor *e); /* NULL is fine */

/* Waits for a line. The caller clears the interrupt flag before. *out_line: n bytes without the
 * newline, valid until the next call. */
enum line_result line_editor_read(struct line_editor *e, const char **out_line, size_t *out_n);

/* Puts the line into the history, in the file too. */
void line_editor_remember(struct line_editor *e, const char *line, size_t n);
