/* jinja_filter.h: what the filters of sequences share.
 * Floor: exec/chat, private to the engine.  Thread: the run's.  Allocates: in the run's arena. */
#pragma once
#include "exec/chat/jinja_run.h"

/* The values of attribute "a.b.0" (ABSENT or none: the items themselves) of each item, as a list of
 * its own; `otherwise` (NULL: undefined) stands for what is undefined. */
bool jinja_attributes(struct jinja_run *run, const struct jinja_value *items,
                      const struct jinja_value *attribute, const struct jinja_value *otherwise,
                      struct jinja_value *out);
/* Makes the texts of a list of keys lower case, in place; within lists too. */
bool jinja_ignore_case(struct jinja_run *run, struct jinja_value *list);
/* Sorts the list in place by the keys; stable, also in reverse. */
bool jinja_sort(struct jinja_run *run, struct jinja_value *items, const struct jinja_value *keys,
                bool reverse);
bool jinja_split(struct jinja_run *run, const struct jinja_string *str,
                 const struct jinja_string *separator, struct jinja_value *out);
