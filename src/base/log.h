/* log.h: one line per event on stderr: time, level, module, message. Libraries return errors; the
 * top logs them once.
 * Floor: base.  Thread: any (one write(2) per line, so lines do not mix).  Allocates: nothing; long
 * lines are cut. */
#pragma once
#include "base/status.h"

enum sl_log_level { SL_LOG_DEBUG, SL_LOG_INFO, SL_LOG_WARN, SL_LOG_ERROR, SL_LOG_OFF };

/* Before it is called: STARLANE_LOG=debug|info|warn|error|off, or else SL_LOG_WARN. */
void sl_log_set_level(enum sl_log_level level);
enum sl_log_level sl_log_level(void);
void sl_log_set_fd(int fd); /* default 2; tests give a pipe */
void sl_log(enum sl_log_level level, const char *module, const char *fmt, ...) SL_PRINTF(3, 4);
SL_CHECK sl_status sl_log_level_parse(const char *text, enum sl_log_level *out); /* INVALID */
