/* cmd_tokenize.c: `starlane tokenize`: text to token ids and back, without loading the model. */
#include "base/json.h"
#include "cli/commands.h"
#include "cli/int_list.h"
#include "cli/model_path.h"
#include "exec/llm/gguf.h"
#include "exec/llm/tokenizer.h"
#include <string.h>

#define TEXT_BYTES_MAX (64u << 20)
#define OUTPUT_BYTES_MAX (1u << 30) /* every byte a token, each written with its text */

struct options {
    bool special, bos, pieces, decode;
};

static const struct sl_opt opts[] = {
    {.name = "special",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, special),
     .help = "Take special tokens spelt out in the text (<|im_end|>) as such; "
             "with --decode, write them."},
    {.name = "bos",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, bos),
     .help = "Add the tokens for beginning and end where the model wants them."},
    {.name = "pieces",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, pieces),
     .help = "Print objects with id and text instead of ids."},
    {.name = "decode",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, decode),
     .help = "The other way: read a JSON array of ids, write the text."},
    {0},
};

const struct sl_command cmd_tokenize_spec = {
    .name = "tokenize",
    .usage = "MODEL < TEXT",
    .summary = "Turn text into a model's token ids, as a JSON array, or back.",
    .details = "Reads stdin to its end and takes every byte of it, a newline at the end too. Only "
               "the vocabulary is read, so a GGUF file without weights will do.\n\n"
               "    printf 'Hello world' | starlane tokenize starling\n"
               "    echo '[1,2,3]' | starlane tokenize starling --decode",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

static void write_piece(struct sl_json *json, const struct tokenizer *tok, int32_t id)
{
    const char *bytes = "";
    size_t n = tokenizer_piece(tok, id, DETOKENIZE_SPECIAL, &bytes);
    sl_json_object(json);
    sl_json_kv_int(json, "id", id);
    sl_json_key(json, "text");
    sl_json_strn(json, bytes, n);
    sl_json_object_end(json);
}

static sl_status write_ids(const struct options *o, const struct tokenizer *tok,
                           const struct sl_buf *ids, struct sl_buf *out)
{
    const int32_t *v = (const int32_t *)(const void *)ids->data;
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_array(&json);
    for (size_t i = 0; i < ids->len / sizeof *v; i++) {
        if (o->pieces)
            write_piece(&json, tok, v[i]);
        else
            sl_json_int(&json, v[i]);
    }
    sl_json_array_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status encode(const struct options *o, const struct tokenizer *tok,
                        const struct sl_buf *text, struct sl_buf *out, struct sl_err *err)
{
    unsigned flags =
        (o->bos ? TOKENIZE_ADD_SPECIAL : 0u) | (o->special ? TOKENIZE_PARSE_SPECIAL : 0u);
    struct sl_buf ids;
    sl_buf_init(&ids, OUTPUT_BYTES_MAX);
    sl_status status = tokenizer_encode(tok, text->data, text->len, flags, &ids, err);
    if (status == SL_OK) status = write_ids(o, tok, &ids, out);
    sl_buf_done(&ids);
    return status;
}

static sl_status decode(const struct options *o, const struct tokenizer *tok,
                        const struct sl_buf *text, struct sl_buf *out, struct sl_err *err)
{
    struct detokenizer detok;
    struct sl_buf ids;
    sl_buf_init(&ids, OUTPUT_BYTES_MAX);
    sl_status status = int_list_read(text->data, text->len, &ids, err);
    const int32_t *v = (const int32_t *)(const void *)ids.data;
    detokenizer_init(&detok, tok, o->special ? DETOKENIZE_SPECIAL : 0, true);
    for (size_t i = 0; i < ids.len / sizeof *v && status == SL_OK; i++) {
        if (v[i] < 0 || v[i] >= tokenizer_n_vocab(tok))
            status = sl_err_set(err, SL_INVALID, "token %d is not in the vocabulary of %d", v[i],
                                tokenizer_n_vocab(tok));
        else
            status = detokenizer_push(&detok, v[i], out);
    }
    if (status == SL_OK) status = detokenizer_finish(&detok, out);
    sl_buf_done(&ids);
    return status;
}

static sl_status tokenize(const struct options *o, const char *model, struct sl_buf *out,
                          struct sl_err *err)
{
    struct gguf_file *file = NULL;
    struct tokenizer *tok = NULL;
    struct sl_buf text;
    char path[PATH_MAX];
    sl_buf_init(&text, TEXT_BYTES_MAX);
    sl_status status = model_path_find(model, path, err);
    if (status == SL_OK) {
        status = gguf_open(path, &file, err);
        if (status == SL_OK && (status = tokenizer_create(file, &tok, err)) != SL_OK)
            sl_err_prefix(err, "%s", path);
    }
    if (status == SL_OK) status = cli_read_stdin(&text, err);
    if (status == SL_OK) status = (o->decode ? decode : encode)(o, tok, &text, out, err);
    sl_buf_done(&text);
    tokenizer_destroy(tok);
    gguf_close(file);
    return status;
}

int cmd_tokenize(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_tokenize_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = tokenize(&o, args.v[0], &out, &err);
    exit_code = cli_print(&cmd_tokenize_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
