/* cmd_explain.c: `starlane explain`: why a request ran where it did, or what it waits for. */
#include "base/size_text.h"
#include "cli/admin_key.h"
#include "cli/client.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/page.h"
#include "cli/table.h"
#include <stdio.h>
#include <string.h>

#define OUTPUT_BYTES_MAX (16u << 20)
#define PATH_BYTES_MAX 4096

struct options {
    const char *server, *api_key, *model;
    bool json;
};

static const struct sl_opt opts[] = {
    CLIENT_OPTIONS(struct options, server, api_key),
    {"model", 'm', SL_OPT_STRING, offsetof(struct options, model), 0, 0, "NAME", NULL, NULL,
     "Where a request for this model would go now."},
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_explain_spec = {
    .name = "explain",
    .usage = "REQUEST_ID | --model NAME",
    .summary = "Say why a request ran where it did, or what it waits for.",
    .details =
        "REQUEST_ID is what the answer's X-Starlane-Request-Id says. A gateway remembers its "
        "last 4,096 requests. The table shows the nodes that were looked at: the least "
        "score wins; its parts are in docs/scheduling.md.\n\n"
        "    starlane explain req-5f3a9c\n"
        "    starlane explain --model qwen2.5:0.5b",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 1,
};

static const char *text_of(const struct sl_json_value *object, const char *key)
{
    return sl_json_to_str(sl_json_get(object, key), "", NULL);
}

static const char *name_of(const struct sl_json_value *object)
{
    const char *name = text_of(object, "name");
    return *name ? name : text_of(object, "node");
}

static void attempt_line(struct page *page, const struct sl_json_value *attempt)
{
    int64_t from = sl_json_to_int(sl_json_get(attempt, "from_token"), 0);
    int64_t to = sl_json_to_int(sl_json_get(attempt, "to_token"), 0);
    const char *end = text_of(attempt, "end");
    page_add(page, "  %6d ms  sent to %s%s",
             (int)sl_json_to_int(sl_json_get(attempt, "sent_ms"), 0), name_of(attempt),
             sl_json_to_bool(sl_json_get(attempt, "second_try"), false) ? " beside the first" : "");
    if (from) page_add(page, ", to go on after token %lld", (long long)from);
    page_add(page, "\n");
    if (!*end) return;
    page_add(page, "  %6d ms  %s", (int)sl_json_to_int(sl_json_get(attempt, "ended_ms"), 0), end);
    if (to) page_add(page, ", %lld tokens told by then", (long long)to);
    page_add(page, "\n");
}

static void candidate_row(struct table *table, const struct sl_json_value *row, const char *chosen)
{
    const struct sl_json_value *parts = sl_json_get(row, "parts");
    bool fits = sl_json_get(row, "score") != NULL;
    table_cell(table, "%s%s", name_of(row), strcmp(text_of(row, "node"), chosen) ? "" : " <-");
    if (!fits) {
        table_cell(table, "-");
        for (int i = 0; i < 6; i++) table_cell(table, "-");
        table_cell(table, "%s", text_of(row, "why"));
        return;
    }
    table_cell(table, "%.3f", sl_json_to_num(sl_json_get(row, "score"), 0));
    table_cell(table, "%.0f ms", 1000 * sl_json_to_num(sl_json_get(row, "first_token_s"), 0));
    table_cell(table, "%.0f ms", 1000 * sl_json_to_num(sl_json_get(parts, "wait"), 0));
    table_cell(table, "%.0f ms", 1000 * sl_json_to_num(sl_json_get(parts, "compute"), 0));
    table_cell(table, "%.1f ms", 1000 * sl_json_to_num(sl_json_get(parts, "network"), 0));
    table_cell(table, "%d", (int)sl_json_to_int(sl_json_get(row, "cached_tokens"), 0));
    table_cell(table, "%.0f%%", 100 * sl_json_to_num(sl_json_get(parts, "load"), 0));
    table_cell(table, "fits");
}

/* Nothing where no node was looked at. */
static sl_status write_decision(const struct sl_json_value *decision, const char *title,
                                struct page *page)
{
    static const char *const heads[] = {"NODE",    "SCORE",  "FIRST TOKEN", "WAIT",   "COMPUTE",
                                        "NETWORK", "CACHED", "LOAD",        "VERDICT"};
    const struct sl_json_value *rows = sl_json_get(decision, "looked_at");
    struct table table;
    if (sl_json_size(rows)) page_add(page, "%s\n", title);
    if (page->status != SL_OK || !sl_json_size(rows)) return page->status;
    table_init(&table, "lrrrrrrrl");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < sl_json_size(rows); i++)
        candidate_row(&table, sl_json_at(rows, i), text_of(decision, "node"));
    sl_status status = table_print(&table, page->out);
    table_done(&table);
    return status;
}

static sl_status write_request(const struct sl_json_value *answer, struct sl_buf *out)
{
    struct page page = {.out = out};
    const struct sl_json_value *attempts = sl_json_get(answer, "attempts");
    page_add(&page, "%s: %s, %s", text_of(answer, "request_id"), text_of(answer, "model"),
             text_of(answer, "state"));
    if (sl_json_get(answer, "total_ms"))
        page_add(&page, " after %d ms", (int)sl_json_to_int(sl_json_get(answer, "total_ms"), 0));
    page_add(&page, "\n");
    if (*text_of(answer, "why")) page_add(&page, "  %s\n", text_of(answer, "why"));
    for (size_t i = 0; i < sl_json_size(attempts); i++)
        attempt_line(&page, sl_json_at(attempts, i));
    return write_decision(sl_json_get(answer, "decision"), "The last decision:", &page);
}

/* What is heard of a member, unless it is alive. */
static const char *absence(const struct sl_json_value *member)
{
    const char *health = text_of(member, "health");
    if (!strcmp(health, "suspect")) return " (silent)";
    return strcmp(health, "dead") ? "" : " (dead)";
}

/* Of a model that runs on several members: who has which layers, and what each takes. */
static void chain_lines(struct page *page, const struct sl_json_value *chain)
{
    const struct sl_json_value *stages = sl_json_get(chain, "stages");
    if (!chain) return;
    page_add(page, "  over %d members, %s%s%s\n", (int)sl_json_size(stages),
             text_of(chain, "state"), *text_of(chain, "why") ? ": " : "", text_of(chain, "why"));
    for (size_t i = 0; i < sl_json_size(stages); i++) {
        const struct sl_json_value *stage = sl_json_at(stages, i);
        const struct sl_json_value *compute = sl_json_get(stage, "compute_ms");
        page_add(page, "    %s%s: layers %d-%d", name_of(stage), absence(stage),
                 (int)sl_json_to_int(sl_json_get(stage, "first"), 0),
                 (int)sl_json_to_int(sl_json_get(stage, "last"), 1) - 1);
        if (compute)
            page_add(page, ", %.2f ms a step, %.2f ms on the way there, %.2f ms in its queue",
                     sl_json_to_num(compute, 0), sl_json_to_num(sl_json_get(stage, "hop_ms"), 0),
                     sl_json_to_num(sl_json_get(stage, "wait_ms"), 0));
        page_add(page, "\n");
    }
}

static const char *size_of(const struct sl_json_value *object, char out[SL_SIZE_TEXT_MAX])
{
    int64_t bytes = sl_json_to_int(sl_json_get(object, "memory_bytes"), 0);
    return sl_size_text(bytes > 0 ? (uint64_t)bytes : 0, out);
}

static void held_lines(struct page *page, const struct sl_json_value *held)
{
    char size[SL_SIZE_TEXT_MAX];
    for (size_t i = 0; i < sl_json_size(held); i++) {
        const struct sl_json_value *row = sl_json_at(held, i);
        page_add(page, "  %s: %s of memory are kept for %s, which is pinned\n", name_of(row),
                 size_of(row, size), text_of(row, "model"));
    }
}

static sl_status write_model(const struct sl_json_value *answer, struct sl_buf *out)
{
    struct page page = {.out = out};
    char size[SL_SIZE_TEXT_MAX];
    const struct sl_json_value *members = sl_json_get(answer, "members");
    page_add(&page, "%s: takes %s of memory, %d requests wait for a node\n",
             text_of(answer, "model"), size_of(answer, size),
             (int)sl_json_to_int(sl_json_get(answer, "waiting"), 0));
    if (*text_of(answer, "why")) page_add(&page, "  %s\n", text_of(answer, "why"));
    held_lines(&page, sl_json_get(answer, "held_by_pinned"));
    for (size_t i = 0; i < sl_json_size(members); i++) {
        const struct sl_json_value *member = sl_json_at(members, i);
        page_add(&page, "  %s%s: %s%s%s%s\n", name_of(member), absence(member),
                 text_of(member, "state"),
                 sl_json_to_bool(sl_json_get(member, "has_file"), false) ? ", has the file" : "",
                 *text_of(member, "error") ? ": " : "", text_of(member, "error"));
    }
    chain_lines(&page, sl_json_get(answer, "chain"));
    return write_decision(sl_json_get(answer, "decision"), "A request now:", &page);
}

static sl_status ask(struct client *client, const char *request, const char *model,
                     struct sl_json_value **out, struct sl_err *err)
{
    struct sl_buf path;
    sl_buf_init(&path, PATH_BYTES_MAX);
    sl_status status = sl_buf_addf(&path, "/grid/v1/explain?%s=", request ? "request" : "model");
    if (status == SL_OK) status = client_escape(request ? request : model, &path);
    if (status == SL_OK)
        status = client_call(client, path.data, NULL, out, err);
    else
        (void)sl_err_set(err, SL_INVALID, "no id or name is so long");
    sl_buf_done(&path);
    return status;
}

int cmd_explain(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct client *client = NULL;
    struct sl_json_value *answer = NULL;
    struct sl_buf out;
    char key[ADMIN_KEY_SIZE] = "";
    int exit_code;
    if (!cli_parse(&cmd_explain_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    struct client_cfg cfg = {.server = o.server, .api_key = o.api_key};
    const char *request = args.n ? args.v[0] : NULL;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = !request == !o.model
                           ? sl_err_set(&err, SL_INVALID, "give a request's id or --model NAME")
                           : admin_client_create(&cfg, key, &client, &err);
    if (status == SL_OK) status = client_find(client, &err);
    if (status == SL_OK) status = ask(client, request, o.model, &answer, &err);
    if (status == SL_OK)
        status = o.json    ? cli_put_json(answer, true, &out)
                 : request ? write_request(answer, &out)
                           : write_model(answer, &out);
    exit_code = cli_print(&cmd_explain_spec, status, &out, &err);
    sl_json_free(answer);
    client_destroy(client);
    explicit_bzero(key, sizeof key);
    sl_buf_done(&out);
    return exit_code;
}
