/* log.c: "2025-03-01T12:00:00.250Z WARN module: message". */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048 /* under PIPE_BUF, so that one write to a pipe is never split */
#define LINE_CUT "..."

static const char *const level_words[] = {"debug", "info", "warn", "error", "off"};
static const char *const level_labels[] = {"DEBUG", "INFO", "WARN", "ERROR"};

static atomic_int level_now = SL_LOG_WARN;
static atomic_int log_fd = STDERR_FILENO;
static pthread_once_t environment_once = PTHREAD_ONCE_INIT;

sl_status sl_log_level_parse(const char *text, enum sl_log_level *out)
{
    for (int i = SL_LOG_DEBUG; i <= SL_LOG_OFF; i++) {
        if (strcmp(text, level_words[i]) != 0) continue;
        *out = (enum sl_log_level)i;
        return SL_OK;
    }
    return SL_INVALID;
}

static void read_environment(void)
{
    const char *text = getenv("STARLANE_LOG");
    enum sl_log_level level;
    if (text && sl_log_level_parse(text, &level) == SL_OK) atomic_store(&level_now, level);
}

void sl_log_set_level(enum sl_log_level level)
{
    pthread_once(&environment_once, read_environment); /* or it would overrule this call later */
    atomic_store(&level_now, level);
}

enum sl_log_level sl_log_level(void)
{
    pthread_once(&environment_once, read_environment);
    return (enum sl_log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

void sl_log_set_fd(int fd)
{
    atomic_store(&log_fd, fd);
}

static size_t put_head(char *line, size_t cap, enum sl_log_level level, const char *module)
{
    int64_t now_ms = sl_unix_time_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm utc;
    gmtime_r(&now_s, &utc);
    size_t n = strftime(line, cap, "%Y-%m-%dT%H:%M:%S", &utc);
    int more = snprintf(line + n, cap - n, ".%03dZ %s %s: ", (int)(now_ms % 1000),
                        level_labels[level], module);
    n += more < 0 ? 0 : (size_t)more;
    return n < cap ? n : cap - 1;
}

static void write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(fd, bytes, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return; /* there is nobody left to tell */
        bytes += wrote;
        n -= (size_t)wrote;
    }
}

void sl_log(enum sl_log_level level, const char *module, const char *fmt, ...)
{
    if (level < sl_log_level() || level >= SL_LOG_OFF) return;
    int errno_before = errno;
    char line[LINE_MAX_BYTES];
    size_t text_cap =
        sizeof line - sizeof LINE_CUT; /* leaves room for the cut mark and the newline */
    size_t n = put_head(line, text_cap, level, module);
    va_list args;
    va_start(args, fmt);
    int more = vsnprintf(line + n, text_cap - n, fmt, args);
    va_end(args);
    n += more < 0 ? 0 : (size_t)more;
    if (n >= text_cap) {
        n = sl_utf8_complete(line, text_cap - 1);
        memcpy(line + n, LINE_CUT, sizeof LINE_CUT);
        n += strlen(LINE_CUT);
    }
    /* One event is one line: what a stranger put into a message cannot start another or drive a
     * terminal. */
    sl_utf8_make_printable(line, n, ' ');
    line[n++] = '\n';
    write_all(atomic_load(&log_fd), line, n);
    errno = errno_before;
}
