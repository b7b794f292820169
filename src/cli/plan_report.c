#include "cli/plan_report.h"
#include "base/size_text.h"
#include "cli/cli.h"
#include "cli/page.h"
#include "cli/table.h"

static const char *text_of(const struct sl_json_value *object, const char *key)
{
    return sl_json_to_str(sl_json_get(object, key), "", NULL);
}

static double number_of(const struct sl_json_value *object, const char *key)
{
    return sl_json_to_num(sl_json_get(object, key), 0);
}

static int int_of(const struct sl_json_value *object, const char *key)
{
    return (int)sl_json_to_int(sl_json_get(object, key), 0);
}

static const char *name_of(const struct sl_json_value *stage)
{
    const char *name = text_of(stage, "name");
    return *name ? name : text_of(stage, "member");
}

static void bytes_cell(struct table *table, const struct sl_json_value *stage, const char *key)
{
    char size[SL_SIZE_TEXT_MAX];
    table_cell(table, "%s", sl_size_text((uint64_t)number_of(stage, key), size));
}

static void stage_row(struct table *table, const struct sl_json_value *plan, size_t i)
{
    const struct sl_json_value *stages = sl_json_get(plan, "stages");
    const struct sl_json_value *stage = sl_json_at(stages, i);
    bool slowest = sl_json_size(stages) > 1 && (size_t)int_of(plan, "bottleneck") == i;
    bool by_link = sl_json_to_bool(sl_json_get(plan, "link_bound"), false);
    double total = 0;
    for (size_t k = 0; k < sl_json_size(stages); k++)
        total += number_of(sl_json_at(stages, k), "seconds");
    table_cell(table, "%s", name_of(stage));
    table_cell(table, "%d-%d", int_of(stage, "first"), int_of(stage, "last") - 1);
    bytes_cell(table, stage, "bytes");
    bytes_cell(table, stage, "weight_bytes");
    bytes_cell(table, stage, "kv_bytes");
    table_cell(table, "%.2f ms", 1000 * number_of(stage, "seconds"));
    table_cell(table, "%.0f%%", total > 0 ? 100 * number_of(stage, "seconds") / total : 0);
    table_cell(table, "%s%.2f ms", slowest && !by_link ? "-> " : "",
               1000 * number_of(stage, "step_seconds"));
    table_cell(table, "%s%.2f ms", slowest && by_link ? "-> " : "",
               1000 * number_of(stage, "link_seconds"));
}

static sl_status write_stages(const struct sl_json_value *plan, struct sl_buf *out)
{
    static const char *const heads[] = {"NODE",  "LAYERS", "MEMORY", "WEIGHTS", "KV",
                                        "TOKEN", "SHARE",  "STEP",   "LINK"};
    struct table table;
    table_init(&table, "lrrrrrrrr");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < sl_json_size(sl_json_get(plan, "stages")); i++)
        stage_row(&table, plan, i);
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

static void write_forecast(const struct sl_json_value *plan, struct page *page)
{
    int n_seqs = int_of(plan, "n_seqs"), flights = int_of(plan, "flights");
    if (sl_json_size(sl_json_get(plan, "stages")) > 1)
        page_add(page, "-> is what holds the others up when all streams run\n");
    page_add(page, "one stream    %.1f tokens/s\n", number_of(plan, "tokens_s"));
    page_add(page,
             "%d stream%s     %.1f tokens/s together, in %d micro-batch%s of up to %d row%s\n",
             n_seqs, n_seqs == 1 ? " " : "s", number_of(plan, "tokens_s_total"), flights,
             flights == 1 ? "" : "es", int_of(plan, "rows"), int_of(plan, "rows") == 1 ? "" : "s");
    page_add(page, "first token   %.2f s after the prompt, in chunks of %d tokens\n",
             number_of(plan, "first_token_s"), int_of(plan, "chunk"));
    page_add(page, "loading       %.1f s\n", number_of(plan, "load_s"));
    if (sl_json_to_bool(sl_json_get(plan, "exact"), false))
        page_add(page, "No other chain of these nodes is better by these numbers.\n");
    else if (number_of(plan, "gap") >= 0.005) /* of layers that were given there is none */
        page_add(page, "Found by a search that is not complete: at most %.0f%% are to be gained.\n",
                 100 * number_of(plan, "gap"));
}

static void write_uncalibrated(const struct sl_json_value *answer, struct page *page)
{
    const struct sl_json_value *members = sl_json_get(answer, "members");
    for (size_t i = 0; i < sl_json_size(members); i++) {
        const struct sl_json_value *member = sl_json_at(members, i);
        if (!sl_json_to_bool(sl_json_get(member, "calibrated"), true))
            page_add(page, "%s has not been measured yet; its speed is a guess.\n",
                     name_of(member));
    }
}

sl_status plan_report_write(const struct sl_json_value *answer, struct sl_buf *out)
{
    struct page page = {.out = out};
    const struct sl_json_value *plan = sl_json_get(answer, "plan");
    size_t n = sl_json_size(sl_json_get(plan, "stages"));
    if (!n) {
        page_add(&page, "%s cannot run on these nodes: %s\n", text_of(answer, "model"),
                 text_of(answer, "refused"));
        return page.status;
    }
    page_add(&page, "%s on %zu node%s, for %s; room for %d x %d tokens:\n",
             text_of(answer, "model"), n, n == 1 ? "" : "s",
             *text_of(answer, "goal") == 't' ? "most throughput" : "least latency",
             int_of(plan, "n_seqs"), int_of(plan, "context"));
    if (page.status == SL_OK) page.status = write_stages(plan, out);
    write_forecast(plan, &page);
    write_uncalibrated(answer, &page);
    if (sl_json_to_bool(sl_json_get(answer, "applied"), false))
        page_add(&page, "It is being loaded so; starlane ps shows when it is ready.\n");
    return page.status;
}
