/* bus_subject.h: the rules of subjects: tokens of printable ASCII joined by dots, where NATS gives
 * `*` and `>` a meaning (docs.nats.io, "Subject-Based Messaging"). Pure.
 * Floor: grid.  Thread: any.  Allocates: nothing. */
#pragma once
#include <stdbool.h>

/* May it be published to? No empty token, no wildcard, no space, shorter than BUS_SUBJECT_SIZE. */
bool bus_subject_valid(const char *subject);
/* May it be subscribed to? `*` as a token, and `>` as the last one, are allowed besides. */
bool bus_pattern_valid(const char *pattern);
/* Both must be valid. */
bool bus_subject_matches(const char *pattern, const char *subject);
/* Is it sl.KIND.TO.FROM with this TO? */
bool bus_subject_is_to(const char *subject, const char *id);
