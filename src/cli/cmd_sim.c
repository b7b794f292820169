/* cmd_sim.c: `starlane sim`: the grid's scheduler under a virtual clock, policy against policy. */
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/sim_nodes_file.h"
#include "cli/sim_record.h"
#include "cli/sim_report.h"
#include "cli/sim_trace_file.h"
#include "cli/svg_plot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OUTPUT_BYTES_MAX (64u << 20)
#define POISSON "poisson"

struct options {
    const char *trace, *nodes, *policy, *plot, *record;
    int64_t seed, gateways, gateways_assumed, requests, prompt, output;
    double load, speed_up, rate, telemetry, report_gap, gone, slo_first, slo_itl, hedge;
    double report_delay, report_loss, origin_mbit;
    struct sl_opt_ints classes;
    bool json, by_node, by_model, placement;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"trace", 0, SL_OPT_STRING, FIELD(trace), 0, 0, "FILE", NULL, POISSON,
     "Requests: the Azure LLM trace (CSV), Mooncake's (JSON lines), or poisson: by chance."},
    {"nodes", 0, SL_OPT_STRING, FIELD(nodes), 0, 0, "FILE", NULL, NULL,
     "YAML file with models, nodes and failures."},
    {"policy", 0, SL_OPT_STRING, FIELD(policy), 0, 0, "P,...", NULL, POLICY_DEFAULT,
     "Policies to compare, separated by commas; all: every preset. A preset's weights are changed "
     "by "
     "PRESET:PART=WEIGHT,..., and a semicolon or a blank then comes before the next policy."},
    {"load", 0, SL_OPT_FLOAT, FIELD(load), 0, 100, "X", NULL, "0",
     "Let the requests come at X times the rate that the nodes can serve; 0: as in the trace."},
    {"speed-up", 0, SL_OPT_FLOAT, FIELD(speed_up), 0, 1e6, "X", NULL, "1",
     "Let the requests come X times as fast as in the trace."},
    {"requests", 'n', SL_OPT_INT, FIELD(requests), 0, SIM_REQUESTS_LIMIT, "N", NULL, "0",
     "Only the first N requests; 0: all, of poisson 10,000."},
    {"rate", 0, SL_OPT_FLOAT, FIELD(rate), 0, 1e6, "X", NULL, "1",
     "Of poisson: requests a second."},
    {"prompt", 0, SL_OPT_INT, FIELD(prompt), 1, 1000000, "N", NULL, "1000",
     "Of poisson: tokens of a prompt, mean."},
    {"output", 0, SL_OPT_INT, FIELD(output), 1, 1000000, "N", NULL, "200",
     "Of poisson: tokens of an answer, mean."},
    {"seed", 0, SL_OPT_INT, FIELD(seed), 0, 4294967295, "N", NULL, "1",
     "Of everything random; the same seed gives the same numbers."},
    {"gateways", 0, SL_OPT_INT, FIELD(gateways), 0, SIM_GATEWAYS_LIMIT, "N", NULL, "0",
     "Gateways that share the nodes; requests come to them in turn. 0: as in the file, else 1."},
    {"gateways-assumed", 0, SL_OPT_INT, FIELD(gateways_assumed), 0, SIM_GATEWAYS_LIMIT, "N", NULL,
     "0", "How many gateways each believes there are; 0: as many as there are."},
    {"telemetry", 0, SL_OPT_FLOAT, FIELD(telemetry), 0.01, 3600, "S", NULL, "1",
     "Seconds between two reports of a node at which nothing changes."},
    {"report-gap", 0, SL_OPT_FLOAT, FIELD(report_gap), 0.001, 3600, "S", NULL, "0.05",
     "Seconds between two reports at least, when requests come and go there."},
    {"report-delay", 0, SL_OPT_FLOAT, FIELD(report_delay), 0, 3600, "S", NULL, "0",
     "Seconds that reports take longer than other messages."},
    {"report-loss", 0, SL_OPT_FLOAT, FIELD(report_loss), 0, 0.99, "X", NULL, "0",
     "Share of reports that never arrive."},
    {"placement", 0, SL_OPT_BOOL, FIELD(placement), 0, 0, NULL, NULL, NULL,
     "Let models follow demand, whatever the file says."},
    {"origin-mbit", 0, SL_OPT_FLOAT, FIELD(origin_mbit), 0, 1e6, "X", NULL, "1000",
     "Bandwidth to where models come from that no node has."},
    {"classes", 0, SL_OPT_INTS, FIELD(classes), 0, 1000, "LIST", NULL, "1,0,0",
     "Shares of interactive, standard and batch requests, where the trace says nothing."},
    {"gone", 0, SL_OPT_FLOAT, FIELD(gone), 0, 3600, "S", NULL, "2",
     "Seconds until the gateways are told of a crash."},
    {"slo-ttft", 0, SL_OPT_FLOAT, FIELD(slo_first), 0, 1e6, "S", NULL, "2",
     "Objective: seconds to the first token."},
    {"slo-itl", 0, SL_OPT_FLOAT, FIELD(slo_itl), 0, 1e6, "S", NULL, "0.2",
     "Objective: seconds between tokens, mean of a request."},
    {"hedge", 0, SL_OPT_FLOAT, FIELD(hedge), 0, 1, "X", NULL, "0.05",
     "Share of requests that may be tried twice; 0: none."},
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {"by-node", 0, SL_OPT_BOOL, FIELD(by_node), 0, 0, NULL, NULL, NULL,
     "Print what each node did, too."},
    {"by-model", 0, SL_OPT_BOOL, FIELD(by_model), 0, 0, NULL, NULL, NULL,
     "Print what became of each model's and each class's requests, too."},
    {"plot", 0, SL_OPT_STRING, FIELD(plot), 0, 0, "FILE", NULL, NULL,
     "Write the distribution of the time to the first token to this SVG file."},
    {"record", 0, SL_OPT_STRING, FIELD(record), 0, 0, "FILE", NULL, NULL,
     "Write what became of each request to this file, as JSON lines; but for prefixes it can be a "
     "trace again."},
    {0},
};

const struct sl_command cmd_sim_spec = {
    .name = "sim",
    .usage = "--nodes FILE",
    .summary = "Simulate a grid: which policy serves these requests best on these nodes?",
    .details = "Runs the scheduler that serves requests, under a virtual clock, with models of "
               "machines, network and failures. docs/simulator.md has the nodes file and the "
               "models. Times are in seconds.\n\n"
               "    starlane sim --nodes grid.yaml --trace azure.csv --load 0.8 --policy all",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 0,
};

/* --- what was asked for --- */

static sl_status policies_all(struct policy *policies, size_t *out_n, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (*out_n = 0; policy_preset_name(*out_n) && status == SL_OK; ++*out_n)
        status = policy_parse(policy_preset_name(*out_n), &policies[*out_n], err);
    return status;
}

/* A comma separates policies too, unless it separates the weights of one. */
static sl_status policies_parse(const char *text, struct policy *policies, size_t *out_n,
                                struct sl_err *err)
{
    if (strcmp(text, "all") == 0) return policies_all(policies, out_n, err);
    *out_n = 0;
    while (*text) {
        char name[POLICY_NAME_MAX];
        size_t n = strcspn(text, "; ");
        const char *weights = memchr(text, ':', n);
        if (!weights || strcspn(text, ",") < (size_t)(weights - text)) n = strcspn(text, ",; ");
        if (n == 0) {
            text++;
            continue;
        }
        if (*out_n == SVG_SERIES_MAX)
            return sl_err_set(err, SL_INVALID, "at most %d policies", SVG_SERIES_MAX);
        if (n >= sizeof name) return sl_err_set(err, SL_INVALID, "%.*s: too long", (int)n, text);
        memcpy(name, text, n);
        name[n] = '\0';
        sl_status status = policy_parse(name, &policies[(*out_n)++], err);
        if (status != SL_OK) return status;
        text += n;
    }
    return *out_n ? SL_OK : sl_err_set(err, SL_INVALID, "--policy: which?");
}

static sl_status trace_make(const struct options *o, const struct sim_nodes *grid,
                            struct sim_trace *out, struct sl_err *err)
{
    struct sim_trace_opts reading = {
        .n_max = (size_t)o->requests, .models = grid->models, .n_models = grid->n_models};
    if (strcmp(o->trace, POISSON) != 0) return sim_trace_load(o->trace, &reading, out, err);
    struct sim_poisson poisson = {.n = o->requests ? (size_t)o->requests : 10000,
                                  .rate = o->rate,
                                  .prompt_mean = (uint32_t)o->prompt,
                                  .output_mean = (uint32_t)o->output,
                                  .seed = (uint64_t)o->seed};
    return sim_trace_poisson(&poisson, out, err);
}

static sl_status trace_get(const struct options *o, const struct sim_nodes *grid,
                           struct sim_trace *out, struct sl_err *err)
{
    struct sim_mix mix = {.shares = grid->shares,
                          .n_models = grid->n_models,
                          .n_parts = grid->n_parts,
                          .seed = (uint64_t)o->seed};
    for (int i = 0; i < SCHED_CLASS_COUNT && i < o->classes.n; i++)
        mix.classes[i] = o->classes.v[i];
    sl_status status = trace_make(o, grid, out, err);
    return status == SL_OK ? sim_trace_mix(out, &mix, err) : status;
}

/* gateway_sites[SIM_GATEWAYS_LIMIT]: the gateways of the file in turn. */
static void config_fill(const struct options *o, const struct sim_nodes *grid,
                        uint32_t *gateway_sites, struct sim_config *config)
{
    sim_config_default(config);
    config->models = grid->models;
    config->n_models = grid->n_models;
    config->nodes = grid->nodes;
    config->n_nodes = grid->n_nodes;
    config->failures = grid->failures;
    config->n_failures = grid->n_failures;
    config->links = grid->links;
    config->n_sites = grid->n_sites;
    config->tariffs = grid->tariffs;
    config->n_tariffs = grid->n_tariffs;
    config->n_gateways = (uint32_t)o->gateways;
    if (o->gateways == 0) config->n_gateways = grid->n_gateways ? grid->n_gateways : 1;
    for (uint32_t i = 0; i < config->n_gateways && grid->n_gateways; i++)
        gateway_sites[i] = grid->gateway_sites[i % grid->n_gateways];
    config->gateway_sites = gateway_sites;
    config->report_delay_s = o->report_delay;
    config->report_loss = o->report_loss;
    config->placement = o->placement || grid->placement;
    config->origin_bits_per_s = o->origin_mbit * 1e6;
    config->n_gateways_assumed = (uint32_t)o->gateways_assumed;
    config->seed = (uint64_t)o->seed;
    config->telemetry_s = o->telemetry;
    config->report_gap_s = o->report_gap;
    config->gone_s = o->gone;
    config->slo_first_s = o->slo_first;
    config->slo_itl_s = o->slo_itl;
    config->hedge_share = o->hedge;
}

/* --- what comes of it --- */

static sl_status plot_write(const char *path, const struct sim_report *report, struct sl_err *err)
{
    struct svg_series series[SVG_SERIES_MAX];
    struct sl_buf svg;
    sl_buf_init(&svg, OUTPUT_BYTES_MAX);
    for (size_t i = 0; i < report->n; i++)
        series[i] = (struct svg_series){report->policies[i].name, report->results[i].first_s,
                                        report->results[i].n_first};
    sl_status status =
        svg_plot_cdf(&svg, "Time to the first token: share of requests that had it by then",
                     "seconds", series, report->n);
    FILE *file = status == SL_OK ? fopen(path, "wb") : NULL;
    if (status != SL_OK) {
        (void)sl_err_set(err, status, "plot: %s", sl_status_text(status));
    } else if (!file || fwrite(svg.data, 1, svg.len, file) != svg.len) {
        status = sl_err_errno(err, errno, "%s", path);
    }
    if (file && fclose(file) != 0 && status == SL_OK) status = sl_err_errno(err, errno, "%s", path);
    sl_buf_done(&svg);
    return status;
}

/* Opened before the run, as it may take long, but after the trace is read, which it may be. */
static sl_status record_open(const char *path, FILE **out, struct sl_err *err)
{
    *out = path ? fopen(path, "wb") : NULL;
    return !path || *out ? SL_OK : sl_err_errno(err, errno, "%s", path);
}

static sl_status simulate(const struct options *o, struct sim_report *report, struct sl_err *err)
{
    FILE *record = NULL;
    struct sim_config config;
    struct sim_trace trace = {0};
    uint32_t gateway_sites[SIM_GATEWAYS_LIMIT] = {0};
    config_fill(o, report->grid, gateway_sites, &config);
    config.answers_wanted = o->record != NULL;
    sl_status status = trace_get(o, report->grid, &trace, err);
    if (status == SL_OK) {
        double rate = sim_trace_rate(&trace), capacity = sim_capacity(&config, &trace);
        double factor = o->load > 0 && rate > 0 ? o->load * capacity / rate : o->speed_up;
        if (!(factor > 0)) factor = 1;
        sim_trace_speed_up(&trace, factor);
        report->capacity = capacity;
        report->rate = rate * factor;
    }
    if (status == SL_OK) status = record_open(o->record, &record, err);
    for (size_t i = 0; i < report->n && status == SL_OK; i++) {
        config.policy = report->policies[i];
        status = sim_run(&config, &trace, &report->results[i], err);
        if (status != SL_OK) status = sl_err_prefix(err, "%s", config.policy.name);
    }
    if (status == SL_OK && record)
        status = sim_record_write(record, o->record, report, &trace, err);
    if (record && fclose(record) != 0 && status == SL_OK)
        status = sl_err_errno(err, errno, "%s", o->record);
    sim_trace_done(&trace);
    return status;
}

int cmd_sim(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sim_nodes grid = {0};
    struct policy policies[SVG_SERIES_MAX];
    struct sim_result results[SVG_SERIES_MAX] = {{0}};
    struct sim_report report = {.policies = policies, .results = results, .grid = &grid};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_sim_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = policies_parse(o.policy, policies, &report.n, &err);
    if (status == SL_OK && !o.nodes)
        status = sl_err_set(&err, SL_INVALID, "--nodes FILE is needed; docs/simulator.md has one");
    if (status == SL_OK) status = sim_nodes_load(o.nodes, &grid, &err);
    if (status == SL_OK) status = simulate(&o, &report, &err);
    if (status == SL_OK && o.plot) status = plot_write(o.plot, &report, &err);
    report.by_node = o.by_node;
    report.by_model = o.by_model;
    if (status == SL_OK)
        status = o.json ? sim_report_json(&report, &out) : sim_report_table(&report, &out);
    exit_code = cli_print(&cmd_sim_spec, status, &out, &err);
    for (size_t i = 0; i < report.n; i++) sim_result_done(&results[i]);
    sim_nodes_done(&grid);
    sl_buf_done(&out);
    return exit_code;
}
