#include "grid/bus_subject.h"
#include "grid/bus.h"
#include <string.h>

/* The end of the token that begins at `at`. */
static const char *token_end(const char *at)
{
    return at + strcspn(at, ".");
}

static bool token_valid(const char *at, const char *end, bool wildcards)
{
    if (at == end) return false;
    if (wildcards && end == at + 1 && (*at == '*' || (*at == '>' && !*end))) return true;
    for (; at < end; at++)
        if (*at <= ' ' || *at > '~' || *at == '*' || *at == '>') return false;
    return true;
}

static bool valid(const char *text, bool wildcards)
{
    if (strlen(text) >= BUS_SUBJECT_SIZE) return false;
    for (const char *at = text;; at++) {
        const char *end = token_end(at);
        if (!token_valid(at, end, wildcards)) return false;
        if (!*end) return true;
        at = end;
    }
}

bool bus_subject_valid(const char *subject)
{
    return valid(subject, false);
}

bool bus_pattern_valid(const char *pattern)
{
    return valid(pattern, true);
}

bool bus_subject_matches(const char *pattern, const char *subject)
{
    for (;;) {
        const char *pattern_end = token_end(pattern), *subject_end = token_end(subject);
        size_t n = (size_t)(pattern_end - pattern);
        if (*pattern == '>') return true;
        if (*pattern != '*' &&
            (n != (size_t)(subject_end - subject) || memcmp(pattern, subject, n) != 0))
            return false;
        if (!*pattern_end || !*subject_end) return !*pattern_end && !*subject_end;
        pattern = pattern_end + 1;
        subject = subject_end + 1;
    }
}

bool bus_subject_is_to(const char *subject, const char *id)
{
    size_t n = strlen(id);
    if (strncmp(subject, "sl.", 3) != 0) return false;
    const char *to = token_end(subject + 3);
    if (!*to || strncmp(to + 1, id, n) != 0 || to[1 + n] != '.') return false;
    return !*token_end(to + 2 + n);
}
