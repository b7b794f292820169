/* cmd_pull.c: `starlane pull`: a model from hf.co, an Ollama registry or a URL into the store. */
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/progress.h"
#include "grid/pull.h"
#include "grid/store.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct options {
    const char *name;
    int64_t n_connections, chunk_bytes, n_retries, stall_s;
    bool insecure, json;
};

static const struct sl_opt opts[] = {
    {.name = "name",
     .type = SL_OPT_STRING,
     .offset = offsetof(struct options, name),
     .value = "NAME",
     .help = "Store it under another name."},
    {.name = "connections",
     .letter = 'c',
     .type = SL_OPT_INT,
     .offset = offsetof(struct options, n_connections),
     .min = 1,
     .max = PULL_CONNECTIONS_MAX,
     .value = "N",
     .initial = "4",
     .help = "Parts of the file that are fetched at once."},
    {.name = "chunk",
     .type = SL_OPT_BYTES,
     .offset = offsetof(struct options, chunk_bytes),
     .min = PULL_CHUNK_BYTES_MIN,
     .max = PULL_CHUNK_BYTES_MAX,
     .value = "BYTES",
     .initial = "16M",
     .help = "Size of such a part."},
    {.name = "retries",
     .type = SL_OPT_INT,
     .offset = offsetof(struct options, n_retries),
     .min = 0,
     .max = 1000,
     .value = "N",
     .initial = "6",
     .help = "Failures in a row before it gives up."},
    {.name = "stall",
     .type = SL_OPT_INT,
     .offset = offsetof(struct options, stall_s),
     .min = 1,
     .max = 3600,
     .value = "SECONDS",
     .initial = "30",
     .help = "Drop a connection that brings nothing for so long."},
    {.name = "insecure",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, insecure),
     .help = "Allow plain http:// to other machines."},
    {.name = "json",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .help = "Print progress as JSON, an object a line."},
    {0},
};

const struct sl_command cmd_pull_spec = {
    .name = "pull",
    .usage = "MODEL",
    .summary = "Get a model from Hugging Face, an Ollama registry or a URL into the store.",
    .details = "MODEL is name:tag (Ollama's registry), hf.co/org/repo[:quantisation or file] or "
               "https://host/model.gguf[#sha256=HEX]. A pull that was interrupted goes on where "
               "it was. HF_TOKEN opens models that are not for everybody; HF_ENDPOINT and "
               "STARLANE_OLLAMA_REGISTRY name mirrors.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

/* Of the process: a signal handler has nothing else. */
static atomic_bool stopped;

struct view {
    struct progress progress;
    bool json;
    uint64_t done, total;
    struct sl_err err; /* of stdout */
};

static void on_signal(int signal_number)
{
    (void)signal_number;
    atomic_store(&stopped, true);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static const char *phase_text(enum pull_phase phase)
{
    static const char *const texts[] = {
        [PULL_WAITING] = "waiting for another pull of it",
        [PULL_RESOLVING] = "asking what there is",
        [PULL_DOWNLOADING] = "downloading",
        [PULL_RETRYING] = "retrying",
        [PULL_VERIFYING] = "verifying",
        [PULL_DONE] = "success",
    };
    return texts[phase];
}

static sl_status json_line(const struct pull_progress *p, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, false);
    sl_json_object(&j);
    sl_json_kv_str(&j, "status", phase_text(p->phase));
    if (*p->file) sl_json_kv_str(&j, "file", p->file);
    if (*p->digest) sl_json_kv_str(&j, "digest", p->digest);
    sl_json_kv_int(&j, "files", p->n_files);
    sl_json_kv_int(&j, "completed", (int64_t)p->done);
    sl_json_kv_int(&j, "total", (int64_t)p->total);
    sl_json_kv_int(&j, "resumed", (int64_t)p->resumed);
    if (*p->note) sl_json_kv_str(&j, "reason", p->note);
    if (p->retry_ms) sl_json_kv_int(&j, "retry_ms", p->retry_ms);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static void show_json(struct view *view, const struct pull_progress *p)
{
    struct sl_buf line;
    sl_buf_init(&line, 16384);
    sl_status status = json_line(p, &line);
    if (status == SL_OK) status = cli_write(line.data, line.len, &view->err);
    if (status != SL_OK) atomic_store(&stopped, true); /* nobody listens any more */
    sl_buf_done(&line);
}

static void show(struct view *view, const struct pull_progress *p)
{
    char text[256];
    if (p->phase == PULL_DOWNLOADING || p->phase == PULL_DONE) {
        if (p->n_files > 1)
            snprintf(text, sizeof text, "%d/%d %s", p->file_index + 1, p->n_files, p->file);
        else
            snprintf(text, sizeof text, "%s", p->file);
        progress_show(&view->progress, text, p->done, p->total, sl_now_ns());
    } else if (p->phase == PULL_RETRYING) {
        snprintf(text, sizeof text, "%s; again in %.1f s", p->note, (double)p->retry_ms / 1000);
        progress_note(&view->progress, text);
    } else {
        progress_note(&view->progress, phase_text(p->phase));
    }
}

static void on_progress(void *ctx, const struct pull_progress *p)
{
    struct view *view = ctx;
    if (p->phase == PULL_DOWNLOADING || p->phase == PULL_DONE) {
        view->done = p->done;
        view->total = p->total;
    }
    if (view->json)
        show_json(view, p);
    else
        show(view, p);
}

static int interrupted(const struct view *view, const char *model)
{
    char done[CLI_BYTES_TEXT_MAX], total[CLI_BYTES_TEXT_MAX];
    if (view->total)
        fprintf(stderr, "starlane pull: stopped at %s of %s; starlane pull %s goes on\n",
                cli_bytes_text(view->done, done), cli_bytes_text(view->total, total), model);
    else
        fprintf(stderr, "starlane pull: stopped; starlane pull %s begins again\n", model);
    return CLI_INTERRUPTED;
}

static sl_status pull(const struct options *o, const char *model, struct view *view,
                      struct sl_err *err)
{
    struct store *store;
    struct pull_request request;
    pull_request_init(&request);
    request.name = model;
    request.store_as = o->name;
    request.insecure = o->insecure;
    request.n_connections = (int)o->n_connections;
    request.chunk_bytes = o->chunk_bytes;
    request.n_retries = (int)o->n_retries;
    request.stall_s = (int)o->stall_s;
    request.progress = on_progress;
    request.ctx = view;
    request.cancel = &stopped;
    sl_status status = model_store_open(&store, err);
    if (status != SL_OK) return status;
    status = pull_run(store, &request, err);
    store_close(store);
    return status;
}

int cmd_pull(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct view view = {.err = SL_ERR_INIT};
    struct sl_err err = SL_ERR_INIT;
    int exit_code;
    if (!cli_parse(&cmd_pull_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    progress_init(&view.progress);
    view.json = o.json;
    catch_signals();
    sl_status status = pull(&o, args.v[0], &view, &err);
    progress_end(&view.progress);
    if (status == SL_OK) return CLI_OK;
    if (view.err.status == SL_IO) return cli_fail(&cmd_pull_spec, &view.err);
    if (status == SL_CANCELLED) return interrupted(&view, args.v[0]);
    return cli_fail(&cmd_pull_spec, &err);
}
