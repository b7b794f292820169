#include "exec/worker_words.h"
#include <stdio.h>
#include <string.h>

static void end_line(struct worker_words *words)
{
    if (!words->n_line) return;
    words->line[words->n_line] = '\0';
    memcpy(words->kept[words->n_lines % WORKER_LINES_KEPT], words->line, words->n_line + 1);
    words->n_lines++;
    words->n_line = 0;
    if (words->on_line) words->on_line(words->ctx, words->line);
}

void worker_words_add(struct worker_words *words, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n' || c == '\r' || words->n_line == WORKER_LINE_MAX) end_line(words);
        if (c == '\n' || c == '\r') continue;
        words->line[words->n_line++] = (char)(c < ' ' || c == 0x7f ? '?' : c);
    }
}

void worker_words_end(struct worker_words *words)
{
    end_line(words);
}

void worker_words_last(const struct worker_words *words, char *out, size_t out_size)
{
    size_t n = words->n_lines < WORKER_LINES_KEPT ? words->n_lines : WORKER_LINES_KEPT;
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = words->n_lines - n; i < words->n_lines && used < out_size; i++) {
        const char *line = words->kept[i % WORKER_LINES_KEPT];
        int len = snprintf(out + used, out_size - used, "%s%s", used ? " | " : "", line);
        used += len > 0 ? (size_t)len : 0;
    }
}
