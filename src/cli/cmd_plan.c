/* cmd_plan.c: `starlane plan`: over which nodes a model would be split, and how fast it would
 * be. */
#include "cli/admin_key.h"
#include "cli/client.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/plan_file.h"
#include "cli/plan_report.h"
#include <limits.h>
#include <string.h>

#define OUTPUT_BYTES_MAX (16u << 20)
#define BODY_BYTES_MAX 65536
#define SEQS_MAX 256
#define CONTEXT_MAX (1 << 20)

struct options {
    const char *server, *api_key, *nodes;
    struct sl_opt_ints layers;
    int64_t seqs, context, stages;
    int goal, link;
    bool apply, json;
};

static const struct sl_opt opts[] = {
    CLIENT_OPTIONS(struct options, server, api_key),
    {"nodes", 0, SL_OPT_STRING, offsetof(struct options, nodes), 0, 0, "NAME,...", NULL, NULL,
     "Only these nodes, or FILE.yaml: nodes as starlane sim takes them, and no grid."},
    {"layers", 0, SL_OPT_INTS, offsetof(struct options, layers), 1, SPLIT_LAYERS_MAX, "N,...", NULL,
     NULL, "How many layers each of the nodes gets, in their order, instead of a plan."},
    {"goal", 0, SL_OPT_ENUM, offsetof(struct options, goal), 0, 0, NULL, "latency,throughput",
     "latency", "What counts: a token of one stream soon, or many tokens of all streams."},
    {"seqs", 0, SL_OPT_INT, offsetof(struct options, seqs), 0, SEQS_MAX, "N", NULL, "0",
     "Streams at once that there is to be room for; 0: as many as fit."},
    {"context", 'c', SL_OPT_INT, offsetof(struct options, context), 0, CONTEXT_MAX, "N", NULL, "0",
     "Tokens of each; 0: as the model and the memory allow."},
    {"stages", 0, SL_OPT_INT, offsetof(struct options, stages), 0, SPLIT_STAGES_MAX, "N", NULL, "0",
     "So many stages; 0: as many as serve the goal."},
    {"link", 0, SL_OPT_ENUM, offsetof(struct options, link), 0, 0, NULL, "f16,f32,q8_0", "f16",
     "How hidden states travel."},
    {"apply", 0, SL_OPT_BOOL, offsetof(struct options, apply), 0, 0, NULL, NULL, NULL,
     "Load the model so."},
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_plan_spec = {
    .name = "plan",
    .usage = "MODEL",
    .summary = "Say over which nodes a model would be split, and how fast it would be.",
    .details =
        "Asks the grid for the best chain of stages over its nodes, from what it has measured of "
        "them and of the links between them. TOKEN is what a stage takes for a token of one "
        "stream, STEP for a micro-batch when all streams run, LINK the way to the next stage and "
        "from the last one back. docs/split.md has the model behind it.\n\n"
        "    starlane plan qwen2.5:7b --goal throughput --seqs 8\n"
        "    starlane plan qwen2.5:7b --nodes bonn-1,bonn-2 --apply",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

static bool is_file(const char *nodes)
{
    size_t n = nodes ? strlen(nodes) : 0;
    return (n > 5 && !strcmp(nodes + n - 5, ".yaml")) || (n > 4 && !strcmp(nodes + n - 4, ".yml"));
}

static sl_status check(const struct options *o, struct sl_err *err)
{
    if (o->layers.n && !o->nodes)
        return sl_err_set(err, SL_INVALID, "--layers needs --nodes: who gets them, in that order");
    if (o->nodes && !o->nodes[strspn(o->nodes, ", ")])
        return sl_err_set(err, SL_INVALID, "--nodes names none");
    if (!is_file(o->nodes)) return SL_OK;
    if (o->apply || o->layers.n)
        return sl_err_set(err, SL_INVALID, "--apply and --layers are for a grid, not for a file");
    return SL_OK;
}

static void put_nodes(struct sl_json *json, const char *nodes)
{
    sl_json_key(json, "nodes");
    sl_json_array(json);
    while (*nodes) {
        size_t n = strcspn(nodes, ",");
        if (n) sl_json_strn(json, nodes, n);
        nodes += n + (nodes[n] == ',');
    }
    sl_json_array_end(json);
}

static sl_status put_request(const struct options *o, const char *model, struct sl_buf *out)
{
    static const char *const links[] = {"f16", "f32", "q8_0"};
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", model);
    sl_json_kv_str(&json, "goal", split_aim_name((enum split_aim)o->goal));
    sl_json_kv_str(&json, "link", links[o->link]);
    if (o->nodes) put_nodes(&json, o->nodes);
    if (o->layers.n) {
        sl_json_key(&json, "layers");
        sl_json_array(&json);
        for (int i = 0; i < o->layers.n; i++) sl_json_int(&json, o->layers.v[i]);
        sl_json_array_end(&json);
    }
    if (o->seqs) sl_json_kv_int(&json, "n_seqs", o->seqs);
    if (o->context) sl_json_kv_int(&json, "context", o->context);
    if (o->stages) sl_json_kv_int(&json, "stages", o->stages);
    sl_json_kv_bool(&json, "apply", o->apply);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status ask_grid(const struct options *o, const char *model, struct sl_json_value **out,
                          struct sl_err *err)
{
    struct client_cfg cfg = {.server = o->server, .api_key = o->api_key};
    struct client *client = NULL;
    struct sl_buf body;
    char key[ADMIN_KEY_SIZE] = "";
    sl_buf_init(&body, BODY_BYTES_MAX);
    sl_status status = put_request(o, model, &body);
    if (status != SL_OK)
        (void)sl_err_set(err, SL_INVALID, "no names are so long");
    else
        status = admin_client_create(&cfg, key, &client, err);
    if (status == SL_OK) status = client_find(client, err);
    if (status == SL_OK) status = client_call(client, "/grid/v1/plans", &body, out, err);
    client_destroy(client);
    explicit_bzero(key, sizeof key);
    sl_buf_done(&body);
    return status;
}

static sl_status ask_file(const struct options *o, const char *model, struct sl_json_value **out,
                          struct sl_err *err)
{
    const struct split_goal goal = {.aim = (enum split_aim)o->goal,
                                    .n_seqs = o->seqs ? (int32_t)o->seqs : 1,
                                    .context = (int32_t)o->context,
                                    .n_stages = (int32_t)o->stages};
    char path[PATH_MAX];
    struct sl_buf text;
    sl_buf_init(&text, OUTPUT_BYTES_MAX);
    sl_status status = model_path_find(model, path, err);
    if (status == SL_OK) status = plan_file_make(model, path, o->nodes, &goal, &text, err);
    if (status == SL_OK) status = sl_json_parse(text.data, text.len, out, err);
    sl_buf_done(&text);
    return status;
}

int cmd_plan(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_json_value *answer = NULL;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_plan_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = check(&o, &err);
    if (status == SL_OK)
        status = is_file(o.nodes) ? ask_file(&o, args.v[0], &answer, &err)
                                  : ask_grid(&o, args.v[0], &answer, &err);
    if (status == SL_OK)
        status = o.json ? cli_put_json(answer, true, &out) : plan_report_write(answer, &out);
    exit_code = cli_print(&cmd_plan_spec, status, &out, &err);
    if (status == SL_OK && !sl_json_get(answer, "plan")) exit_code = CLI_FAILED;
    sl_json_free(answer);
    sl_buf_done(&out);
    return exit_code;
}
