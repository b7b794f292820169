#include "cli/progress.h"
#include "cli/cli.h"
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DRAW_NS 100000000    /* ten pictures a second */
#define SAMPLE_NS 200000000  /* 32 samples are the last six seconds */
#define COLUMNS_OTHERWISE 80 /* when the terminal does not say */
#define COLUMNS_MAX 200
#define BAR_COLUMNS_MAX 30

void progress_init(struct progress *progress)
{
    *progress = (struct progress){.terminal = isatty(STDERR_FILENO)};
}

static int columns_of_terminal(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return COLUMNS_OTHERWISE;
    return size.ws_col < COLUMNS_MAX ? size.ws_col : COLUMNS_MAX;
}

static void add_sample(struct progress *p, uint64_t done, int64_t now_ns)
{
    int last = (p->next_sample + PROGRESS_SAMPLES - 1) % PROGRESS_SAMPLES;
    if (p->n_samples > 0 && done < p->samples[last].done) p->n_samples = 0; /* began again */
    if (p->n_samples > 0 && now_ns - p->samples[last].at_ns < SAMPLE_NS) return;
    p->samples[p->next_sample].at_ns = now_ns;
    p->samples[p->next_sample].done = done;
    p->next_sample = (p->next_sample + 1) % PROGRESS_SAMPLES;
    if (p->n_samples < PROGRESS_SAMPLES) p->n_samples++;
}

double progress_rate(const struct progress *p)
{
    if (p->n_samples < 2) return 0;
    int last = (p->next_sample + PROGRESS_SAMPLES - 1) % PROGRESS_SAMPLES;
    int first = (p->next_sample + PROGRESS_SAMPLES - p->n_samples) % PROGRESS_SAMPLES;
    double seconds = (double)(p->samples[last].at_ns - p->samples[first].at_ns) / 1e9;
    return (double)(p->samples[last].done - p->samples[first].done) / seconds;
}

static void seconds_text(double seconds, char out[32])
{
    if (seconds < 100)
        snprintf(out, 32, "%.0f s", seconds);
    else if (seconds < 6000)
        snprintf(out, 32, "%.0f min", seconds / 60);
    else
        snprintf(out, 32, "%.1f h", seconds / 3600);
}

/* "45 %  180.2 MB of 397.8 MB  12.3 MB/s  18 s left" */
static void numbers(uint64_t done, uint64_t total, double rate, char *out, size_t out_size)
{
    char have[CLI_BYTES_TEXT_MAX], all[CLI_BYTES_TEXT_MAX], speed[CLI_BYTES_TEXT_MAX], left[32];
    cli_bytes_text(done, have);
    int n = total ? snprintf(out, out_size, "%3.0f %%  %s of %s",
                             100.0 * (double)done / (double)total, have, cli_bytes_text(total, all))
                  : snprintf(out, out_size, "%s", have);
    if (rate < 1 || (size_t)n >= out_size) return;
    n += snprintf(out + n, out_size - (size_t)n, "  %s/s", cli_bytes_text((uint64_t)rate, speed));
    if (done >= total || (size_t)n >= out_size) return;
    seconds_text((double)(total - done) / rate, left);
    snprintf(out + n, out_size - (size_t)n, "  %s left", left);
}

const char *progress_line(const char *label, uint64_t done, uint64_t total, double rate,
                          int columns, char *out, int out_size)
{
    char text[160], bar[BAR_COLUMNS_MAX + 1];
    numbers(done, total, rate, text, sizeof text);
    int n_text = (int)strlen(text), n_label = (int)strlen(label);
    int room = columns - n_text - 6; /* two gaps, two brackets */
    int n_bar = room - n_label < BAR_COLUMNS_MAX ? room - n_label : BAR_COLUMNS_MAX;
    if (total == 0 || n_bar < 5) n_bar = 0;
    int filled = total ? (int)((double)n_bar * (double)done / (double)total) : 0;
    memset(bar, '.', sizeof bar);
    memset(bar, '#', (size_t)filled);
    bar[n_bar] = '\0';
    int label_room = room - n_bar > 0 ? room - n_bar : 0;
    snprintf(out, (size_t)out_size, n_bar ? "%.*s  [%s]  %s" : "%.*s  %s%s", label_room, label, bar,
             text);
    if ((int)strlen(out) > columns && columns < out_size) out[columns] = '\0';
    return out;
}

/* Carriage return and "erase to the end of the line" (ECMA-48). */
static void draw(struct progress *p, const char *line)
{
    fprintf(stderr, "\r\033[K%s", line);
    p->shown = true;
}

void progress_show(struct progress *p, const char *label, uint64_t done, uint64_t total,
                   int64_t now_ns)
{
    char line[COLUMNS_MAX + 1];
    add_sample(p, done, now_ns);
    bool last = total > 0 && done >= total;
    if (!p->terminal || (!last && p->shown && now_ns - p->drawn_ns < DRAW_NS)) return;
    p->drawn_ns = now_ns;
    draw(p, progress_line(label, done, total, progress_rate(p), columns_of_terminal() - 1, line,
                          sizeof line));
}

void progress_note(struct progress *p, const char *text)
{
    char line[COLUMNS_MAX + 1];
    if (!p->terminal) return;
    snprintf(line, sizeof line, "%.*s", columns_of_terminal() - 1, text);
    draw(p, line);
}

void progress_end(struct progress *p)
{
    if (p->shown) fputc('\n', stderr);
    p->shown = false;
}
