#include "grid/telemetry_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void telemetry_file_open(struct telemetry_file *file, const char *root, const char *path)
{
    char full[TELEMETRY_PATH_SIZE];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    file->fd =
        n > 0 && (size_t)n < sizeof full ? open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

void telemetry_file_close(struct telemetry_file *file)
{
    if (file->fd >= 0) close(file->fd);
    file->fd = -1;
}

bool telemetry_file_read(const struct telemetry_file *file, char *text, size_t size)
{
    if (file->fd < 0) return false;
    ssize_t n = pread(file->fd, text, size - 1, 0);
    if (n <= 0) return false;
    text[n] = '\0';
    for (char *p = text; p < text + n; p++)
        if (*p == '\0') *p = ' ';
    return true;
}

bool telemetry_scan_u64(const char **p, uint64_t *out)
{
    const char *s = *p + strspn(*p, " \t");
    uint64_t value = 0;
    if (*s < '0' || *s > '9') return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(*s - '0'), &value)) return false;
    }
    *p = s;
    *out = value;
    return true;
}

bool telemetry_find_u64(const char *text, const char *key, uint64_t *out)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, n) != 0) continue;
        line += n;
        return telemetry_scan_u64(&line, out);
    }
    return false;
}

bool telemetry_file_u64(const struct telemetry_file *file, uint64_t *out)
{
    char text[64];
    const char *p = text;
    return telemetry_file_read(file, text, sizeof text) && telemetry_scan_u64(&p, out);
}

bool telemetry_counter_step(struct telemetry_counter *counter, bool known, uint64_t value,
                            uint64_t *out_growth)
{
    bool grows = known && counter->known && value >= counter->value;
    if (grows) *out_growth = value - counter->value;
    counter->known = known;
    counter->value = value;
    return grows;
}

double telemetry_rate(bool known, uint64_t growth, double seconds)
{
    return known && seconds > 0 ? (double)growth / seconds : TELEMETRY_UNKNOWN;
}
