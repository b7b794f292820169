/* jinja_string.h: what filters and methods of strings share.
 * Floor: exec/chat, private to the engine.  Thread: the run's.  Allocates: in the run's arena. */
#pragma once
#include "exec/chat/jinja_run.h"
#include "base/unicode.h"

/* Appends the text in another case; title: words begin with a capital as str.title has it. */
bool jinja_put_case(struct jinja_run *run, const char *s, size_t n, enum sl_unicode_case to);
/* First character as a title, the others lower. */
bool jinja_capitalize(struct jinja_run *run, const struct jinja_string *str,
                      struct jinja_value *out);
/* Without white space (chars NULL), or without the characters of `chars`, at its ends. */
bool jinja_strip(struct jinja_run *run, const struct jinja_string *str,
                 const struct jinja_string *chars, bool left, bool right, struct jinja_value *out);
/* The first `count` (negative: all) occurrences of `old` replaced. */
bool jinja_replace(struct jinja_run *run, const struct jinja_string *str,
                   const struct jinja_string *old, const struct jinja_string *by, int64_t count,
                   struct jinja_value *out);
/* str.splitlines(), without the ends. */
bool jinja_splitlines(struct jinja_run *run, const struct jinja_string *str,
                      struct jinja_value *out);
/* The items' str() with the separator between. */
bool jinja_join(struct jinja_run *run, const struct jinja_string *separator,
                const struct jinja_value *items, struct jinja_value *out);
/* An optional argument that must be an integer; `otherwise` when it is ABSENT or none. */
bool jinja_optional_integer(struct jinja_run *run, const struct jinja_value *arg, int64_t otherwise,
                            int64_t *out);
/* Fails unless the value is a string. */
bool jinja_expect_string(struct jinja_run *run, const struct jinja_value *value);
