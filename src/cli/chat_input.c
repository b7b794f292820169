#include "cli/chat_input.h"
#include "base/mem.h"
#include "cli/line_editor.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FENCE "\"\"\""
#define FENCE_LEN 3
#define PIECE 4096

struct chat_input {
    struct line_editor *editor; /* NULL: plain stdin */
    volatile sig_atomic_t *interrupt;
    char prompt[8]; /* what the editor shows: it keeps the address */
    struct sl_buf line, message;
};

enum chat_command chat_command_parse(const char *text, size_t n, const char **rest, size_t *n_rest)
{
    static const struct {
        const char *word;
        enum chat_command command;
    } words[] = {{"help", CHAT_HELP},       {"?", CHAT_HELP},    {"bye", CHAT_BYE},
                 {"exit", CHAT_BYE},        {"quit", CHAT_BYE},  {"clear", CHAT_CLEAR},
                 {"reset", CHAT_CLEAR},     {"save", CHAT_SAVE}, {"load", CHAT_LOAD},
                 {"system", CHAT_SYSTEM_IS}};
    size_t len = 0;
    if (n == 0 || text[0] != '/') return CHAT_SAYS;
    text++, n--;
    while (len < n && ((text[len] >= 'a' && text[len] <= 'z') || text[len] == '?')) len++;
    if (len == 0 || (len < n && text[len] != ' ' && text[len] != '\n')) return CHAT_SAYS;
    size_t begin = len, end = n;
    while (begin < end && (text[begin] == ' ' || text[begin] == '\n')) begin++;
    while (end > begin && text[end - 1] == ' ') end--;
    if (rest) {
        *rest = text + begin;
        *n_rest = end - begin;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].word) == len && memcmp(words[i].word, text, len) == 0)
            return words[i].command;
    return CHAT_UNKNOWN;
}

sl_status chat_input_create(bool terminal, const char *history_path,
                            volatile sig_atomic_t *interrupt, struct chat_input **out,
                            struct sl_err *err)
{
    struct chat_input *input = sl_calloc(1, sizeof *input);
    if (!input) return sl_err_set(err, SL_NOMEM, "input");
    input->interrupt = interrupt;
    sl_buf_init(&input->line, CHAT_MESSAGE_BYTES_MAX);
    sl_buf_init(&input->message, CHAT_MESSAGE_BYTES_MAX);
    const struct line_editor_cfg cfg = {input->prompt, history_path, interrupt};
    sl_status status = terminal ? line_editor_create(&cfg, &input->editor, err) : SL_OK;
    if (status != SL_OK) {
        chat_input_destroy(input);
        return status;
    }
    *out = input;
    return SL_OK;
}

void chat_input_destroy(struct chat_input *input)
{
    if (!input) return;
    line_editor_destroy(input->editor);
    sl_buf_done(&input->line);
    sl_buf_done(&input->message);
    sl_free(input);
}

/* A line of stdin without its newline. */
static enum line_result read_plain(struct chat_input *input, sl_status *status, struct sl_err *err)
{
    char piece[PIECE];
    struct sl_buf *line = &input->line;
    sl_buf_clear(line);
    while (fgets(piece, sizeof piece, stdin)) {
        *status = sl_buf_adds(line, piece);
        if (*status != SL_OK) {
            (void)sl_err_set(err, *status, "a line of input: %s", sl_status_text(*status));
            return LINE_END;
        }
        if (line->len && line->data[line->len - 1] == '\n') {
            sl_buf_truncate(line, line->len - 1);
            return LINE_READ;
        }
    }
    if (ferror(stdin) && errno != EINTR) *status = sl_err_errno(err, errno, "stdin");
    return line->len && *status == SL_OK ? LINE_READ : LINE_END;
}

static enum line_result read_line(struct chat_input *input, bool in_block, const char **line,
                                  size_t *n, sl_status *status, struct sl_err *err)
{
    if (input->editor) {
        *input->interrupt = 0;
        snprintf(input->prompt, sizeof input->prompt, "%s", in_block ? "... " : ">>> ");
        return line_editor_read(input->editor, line, n);
    }
    enum line_result result = read_plain(input, status, err);
    *line = input->line.data;
    *n = input->line.len;
    return result;
}

/* Takes a line into the message. *in_block: it is in a block that is not closed. */
static sl_status take_line(struct sl_buf *message, const char *line, size_t n, bool *in_block)
{
    bool begins = !*in_block && n >= FENCE_LEN && memcmp(line, FENCE, FENCE_LEN) == 0;
    if (begins) {
        line += FENCE_LEN;
        n -= FENCE_LEN;
        *in_block = true;
    }
    if (!*in_block) return sl_buf_add(message, line, n);
    if (!begins && message->len && sl_buf_addc(message, '\n') != SL_OK) return SL_LIMIT;
    if (n >= FENCE_LEN && memcmp(line + n - FENCE_LEN, FENCE, FENCE_LEN) == 0) {
        n -= FENCE_LEN;
        *in_block = false;
    }
    return sl_buf_add(message, line, n);
}

bool chat_input_read(struct chat_input *input, const char **text, size_t *n, sl_status *status,
                     struct sl_err *err)
{
    struct sl_buf *message = &input->message;
    bool in_block = false;
    *status = SL_OK;
    sl_buf_clear(message);
    while (*status == SL_OK && (in_block || message->len == 0)) {
        const char *line = "";
        size_t n_line = 0;
        enum line_result result = read_line(input, in_block, &line, &n_line, status, err);
        if (result == LINE_END) {
            if (input->editor) fputc('\n', stderr);
            break;
        }
        if (result == LINE_DROPPED) {
            fputs("\n(Ctrl-D or /bye leaves)\n", stderr);
            sl_buf_clear(message);
            in_block = false;
            continue;
        }
        if (input->editor && n_line) line_editor_remember(input->editor, line, n_line);
        *status = take_line(message, line, n_line, &in_block);
        if (*status != SL_OK) (void)sl_err_set(err, *status, "the message is too long");
    }
    *text = message->data;
    *n = message->len;
    return *status == SL_OK && message->len > 0 && !in_block;
}
