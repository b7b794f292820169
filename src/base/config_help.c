/* config_help.c: what the option table says to people: `--help` and the reference page. */
#include "base/config.h"

#include "base/config_value.h"

#include <stdio.h>
#include <string.h>

#define PROGRAM "starlane"
#define WIDTH 100 /* columns of the help text */
#define HELP_COLUMN_MAX \
    34 /* where the sentences start at most; a longer option gets a line of its own */
#define OPTION_TEXT_MAX SL_OPT_CHOICES_TEXT_MAX

/* Writes words and starts a new line, indented, before one that would pass WIDTH. The first failure
 * sticks. */
struct writer {
    struct sl_buf *out;
    sl_status status;
    size_t column;
    size_t indent;
};

/* Code points, which is columns for everything our option tables are written in. */
static size_t columns_of(const char *s, size_t n)
{
    size_t columns = 0;
    for (size_t i = 0; i < n; i++) columns += ((unsigned char)s[i] & 0xc0) != 0x80;
    return columns;
}

static void put(struct writer *w, const char *s, size_t n)
{
    if (w->status == SL_OK) w->status = sl_buf_add(w->out, s, n);
    w->column += columns_of(s, n);
}

static void put_text(struct writer *w, const char *s)
{
    put(w, s, strlen(s));
}

static void end_line(struct writer *w)
{
    put(w, "\n", 1);
    w->column = 0;
}

static void pad_to(struct writer *w, size_t column)
{
    while (w->column < column && w->status == SL_OK) put(w, " ", 1);
}

static void put_word(struct writer *w, const char *word, size_t n)
{
    if (w->column > w->indent && w->column + 1 + columns_of(word, n) > WIDTH) end_line(w);
    if (w->column > w->indent) put(w, " ", 1);
    pad_to(w, w->indent);
    put(w, word, n);
}

static void put_words(struct writer *w, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = 0;
        while (i + len < n && s[i + len] != ' ') len++;
        if (len > 0) put_word(w, s + i, len);
        i += len + 1;
    }
}

/* Fills paragraphs; a line that starts with a blank is an example and stays as it is. */
static void put_details(struct writer *w, const char *s)
{
    w->indent = 0;
    while (*s) {
        size_t len = strcspn(s, "\n");
        bool as_it_is = len == 0 || s[0] == ' ';
        if (as_it_is) {
            if (w->column > 0) end_line(w);
            put(w, s, len);
            end_line(w);
        } else {
            put_words(w, s, len);
        }
        s += len + (s[len] == '\n');
    }
    if (w->column > 0) end_line(w);
}

/* "max-tokens N", "[no-]color" for a flag that is on by itself. */
static void format_long(const struct sl_opt *opt, char out[OPTION_TEXT_MAX])
{
    bool flag = opt->type == SL_OPT_BOOL;
    bool on = flag && opt->initial && strcmp(opt->initial, "true") == 0;
    const char *value = flag ? "" : opt->value ? opt->value : "VALUE";
    snprintf(out, OPTION_TEXT_MAX, "--%s%s%s%s", on ? "[no-]" : "", opt->name, flag ? "" : " ",
             value);
}

static size_t left_width(const struct sl_opt *opt)
{
    char text[OPTION_TEXT_MAX];
    format_long(opt, text);
    return strlen("  -x, ") + columns_of(text, strlen(text));
}

static size_t help_column(const struct sl_command *cmd)
{
    size_t widest = strlen("  -h, --help");
    for (const struct sl_opt *opt = cmd->opts; opt && opt->name; opt++) {
        size_t width = left_width(opt);
        if (width > widest && width + 2 <= HELP_COLUMN_MAX) widest = width;
    }
    return widest + 2;
}

/* "f16, q8_0" or "1 to 64"; empty when any value will do. */
static void format_limits(const struct sl_opt *opt, char out[OPTION_TEXT_MAX])
{
    if (opt->type == SL_OPT_ENUM) {
        sl_opt_choices_text(opt, out);
    } else {
        sl_opt_range_text(opt, out);
    }
}

/* What the sentence need not say. A flag's default shows in its name. */
static const char *default_of(const struct sl_opt *opt)
{
    return opt->type == SL_OPT_BOOL ? NULL : opt->initial;
}

/* "(1 to 64; default: 4)" after the sentence. */
static void put_facts(struct writer *w, const struct sl_opt *opt)
{
    char limits[OPTION_TEXT_MAX], text[2 * OPTION_TEXT_MAX];
    format_limits(opt, limits);
    const char *initial = default_of(opt);
    if (!limits[0] && !initial) return;
    snprintf(text, sizeof text, "(%s%s%s%s)", limits, limits[0] && initial ? "; " : "",
             initial ? "default: " : "", initial ? initial : "");
    put_words(w, text, strlen(text));
}

static void put_option(struct writer *w, const struct sl_opt *opt, size_t column)
{
    char text[OPTION_TEXT_MAX];
    char letter[] = {'-', opt->letter, ',', ' ', '\0'};
    put_text(w, "  ");
    put_text(w, opt->letter ? letter : "    ");
    format_long(opt, text);
    put_text(w, text);
    if (w->column + 2 > column) end_line(w);
    w->indent = column;
    pad_to(w, column);
    put_words(w, opt->help, strlen(opt->help));
    put_facts(w, opt);
    end_line(w);
}

static bool names_help(const struct sl_command *cmd)
{
    for (const struct sl_opt *opt = cmd->opts; opt && opt->name; opt++) {
        if (opt->letter == 'h') return true;
    }
    return false;
}

static void put_usage(struct writer *w, const struct sl_command *cmd)
{
    put_text(w, PROGRAM " ");
    put_text(w, cmd->name);
    put_text(w, " [options]");
    if (cmd->usage && cmd->usage[0]) put_text(w, " ");
    if (cmd->usage) put_text(w, cmd->usage);
    end_line(w);
}

sl_status sl_config_help(const struct sl_command *cmd, struct sl_buf *out)
{
    struct writer w = {.out = out};
    put_text(&w, "Usage: ");
    put_usage(&w, cmd);
    end_line(&w);
    put_words(&w, cmd->summary, strlen(cmd->summary));
    end_line(&w);
    put_text(&w, "\nOptions:\n");
    w.column = 0;

    const struct sl_opt help = {
        .name = "help",
        .letter = names_help(cmd) ? 0 : 'h',
        .type = SL_OPT_BOOL,
        .help = "Print this help and exit.",
    };
    size_t column = help_column(cmd);
    for (const struct sl_opt *opt = cmd->opts; opt && opt->name; opt++) put_option(&w, opt, column);
    put_option(&w, &help, column);
    if (cmd->details) {
        end_line(&w);
        put_details(&w, cmd->details);
    }
    return w.status;
}

/* A table cell: a bar would end it and a line break the row. */
static void put_cell(struct writer *w, const char *s)
{
    for (; *s; s++) {
        if (*s == '|') put_text(w, "\\");
        put(w, *s == '\n' ? " " : s, 1);
    }
}

static void put_row(struct writer *w, const struct sl_opt *opt)
{
    char text[OPTION_TEXT_MAX];
    put_text(w, "| ");
    if (opt->letter) {
        snprintf(text, sizeof text, "`-%c`, ", opt->letter);
        put_text(w, text);
    }
    format_long(opt, text);
    put_text(w, "`");
    put_cell(w, text);
    put_text(w, "` | ");
    format_limits(opt, text);
    put_cell(w, text);
    put_text(w, " | ");
    const char *initial = default_of(opt);
    if (initial) {
        put_text(w, "`");
        put_cell(w, initial);
        put_text(w, "`");
    }
    put_text(w, " | ");
    put_cell(w, opt->help);
    put_text(w, " |");
    end_line(w);
}

sl_status sl_config_reference(const struct sl_command *cmd, struct sl_buf *out)
{
    struct writer w = {.out = out};
    put_text(&w, "## " PROGRAM " ");
    put_text(&w, cmd->name);
    put_text(&w, "\n\n");
    put_text(&w, cmd->summary);
    put_text(&w, "\n\n    ");
    put_usage(&w, cmd);
    end_line(&w);
    if (cmd->opts && cmd->opts->name) {
        put_text(&w, "| option | values | default | meaning |\n|---|---|---|---|\n");
        for (const struct sl_opt *opt = cmd->opts; opt->name; opt++) put_row(&w, opt);
        end_line(&w);
    }
    if (cmd->details) {
        put_text(&w, cmd->details);
        put_text(&w, "\n\n");
    }
    return w.status;
}
