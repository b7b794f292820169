#include "cli/run_report.h"
#include "base/cpu.h"
#include "base/json.h"
#include "base/size_text.h"
#include "cli/cli.h"
#include <stdio.h>

#define JSON_BYTES_MAX (512u << 20) /* prompt and answer at their limits, every byte escaped */

static double per_second(int64_t n, int64_t ns)
{
    return n > 0 && ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

double run_prompt_tps(const struct engine_usage *usage)
{
    return per_second(usage->n_prompt - usage->n_cached, usage->prefill_ns);
}

double run_generation_tps(const struct engine_usage *usage)
{
    /* The first token comes out of the prompt's last step: decoding made the others. */
    return per_second(usage->n_generated - 1, usage->decode_ns);
}

const char *run_report_note(const struct talk *talk, const struct answer *answer)
{
    const struct engine_usage *u = &answer->usage;
    int32_t n_ctx = talk_n_ctx(talk);
    bool is_full = n_ctx && u->n_prompt + u->n_generated >= n_ctx;
    if (answer->finish == ENGINE_FINISH_LENGTH && is_full)
        return "the context is full; --ctx gives a larger one";
    return answer->finish == ENGINE_FINISH_CANCELLED ? "interrupted" : NULL;
}

static int64_t first_token_ns(const struct run_report *r)
{
    int64_t at = r->answer->first_token_at_ns;
    return at ? at - cli_start_ns : 0;
}

static void print_memory(const struct engine *engine)
{
    struct engine_stats s;
    char weights[SL_SIZE_TEXT_MAX], kv[SL_SIZE_TEXT_MAX];
    char compute[SL_SIZE_TEXT_MAX], rss[SL_SIZE_TEXT_MAX];
    engine_stats(engine, &s);
    fprintf(stderr, "memory       weights %s mapped",
            sl_size_text(s.weight_bytes - s.weight_copied_bytes, weights));
    if (s.weight_copied_bytes)
        fprintf(stderr, " and %s copied", sl_size_text(s.weight_copied_bytes, weights));
    fprintf(stderr, ", KV cache %s, compute %s; resident %s\n", sl_size_text(s.kv_bytes, kv),
            sl_size_text(s.compute_bytes, compute), sl_size_text(sl_mem_rss_bytes(), rss));
}

void run_report_print(const struct run_report *r)
{
    const struct engine_usage *u = &r->answer->usage;
    const char *note = run_report_note(r->talk, r->answer);
    if (note) fprintf(stderr, "\n(%s)", note);
    fputc('\n', stderr);
    if (u->n_prompt) {
        fprintf(stderr, "prompt       %5d tokens %10.1f tokens/s\n", u->n_prompt,
                run_prompt_tps(u));
        fprintf(stderr, "generation   %5d tokens %10.1f tokens/s\n", u->n_generated,
                run_generation_tps(u));
    }
    if (r->answer->first_token_at_ns)
        fprintf(stderr, "first token  %.1f ms after the start, %.1f ms of them to %s\n",
                ms(first_token_ns(r)), ms(r->loaded_ns - cli_start_ns),
                r->talk->client ? "find the server" : "load");
    if (r->talk->client)
        fprintf(stderr, "server       %s\n", client_server(r->talk->client));
    else
        print_memory(r->talk->generator.engine);
}

void run_report_line(const struct talk *talk, const struct answer *answer, bool quiet)
{
    const struct engine_usage *u = &answer->usage;
    const char *note = run_report_note(talk, answer);
    char of[32] = "";
    if (quiet && !note) return;
    if (!u->n_prompt) { /* a server counts only what is not interrupted */
        if (note) fprintf(stderr, "[%s]\n", note);
        return;
    }
    if (talk_n_ctx(talk)) snprintf(of, sizeof of, " of %d", talk_n_ctx(talk));
    fprintf(stderr, "[%s%s%d%s tokens used; %.1f tokens/s]\n", note ? note : "", note ? "; " : "",
            u->n_prompt + u->n_generated, of, run_generation_tps(u));
}

static void json_usage(struct sl_json *j, const struct engine_usage *u)
{
    sl_json_key(j, "usage");
    sl_json_object(j);
    sl_json_kv_int(j, "prompt_tokens", u->n_prompt);
    sl_json_kv_int(j, "completion_tokens", u->n_generated);
    sl_json_kv_int(j, "total_tokens", (int64_t)u->n_prompt + u->n_generated);
    sl_json_key(j, "prompt_tokens_details");
    sl_json_object(j);
    sl_json_kv_int(j, "cached_tokens", u->n_cached);
    sl_json_object_end(j);
    sl_json_object_end(j);
}

static void json_timings(struct sl_json *j, const struct run_report *r)
{
    const struct engine_usage *u = &r->answer->usage;
    sl_json_key(j, "timings");
    sl_json_object(j);
    sl_json_kv_num(j, "load_ms", ms(r->loaded_ns - cli_start_ns));
    sl_json_kv_num(j, "first_token_ms", ms(first_token_ns(r)));
    sl_json_kv_num(j, "prompt_ms", ms(u->prefill_ns));
    sl_json_kv_num(j, "prompt_tps", run_prompt_tps(u));
    sl_json_kv_num(j, "generation_ms", ms(u->decode_ns));
    sl_json_kv_num(j, "generation_tps", run_generation_tps(u));
    sl_json_object_end(j);
}

static void json_memory(struct sl_json *j, const struct engine *engine)
{
    struct engine_stats s;
    engine_stats(engine, &s);
    sl_json_key(j, "memory");
    sl_json_object(j);
    sl_json_kv_int(j, "weight_bytes", (int64_t)s.weight_bytes);
    sl_json_kv_int(j, "weight_copied_bytes", (int64_t)s.weight_copied_bytes);
    sl_json_kv_int(j, "kv_bytes", (int64_t)s.kv_bytes);
    sl_json_kv_int(j, "compute_bytes", (int64_t)s.compute_bytes);
    sl_json_kv_int(j, "resident_bytes", (int64_t)sl_mem_rss_bytes());
    sl_json_object_end(j);
}

/* What only the engine in this process knows. */
static void json_engine(struct sl_json *json, const struct run_report *r)
{
    const struct engine *engine = r->talk->generator.engine;
    const struct sl_buf *tokens = &r->answer->tokens;
    const int32_t *ids = (const int32_t *)(const void *)tokens->data;
    sl_json_key(json, "tokens");
    sl_json_array(json);
    for (size_t i = 0; i < tokens->len / sizeof *ids; i++) sl_json_int(json, ids[i]);
    sl_json_array_end(json);
    sl_json_kv_int(json, "threads", llm_engine_n_threads(engine));
    sl_json_kv_int(json, "context", llm_engine_n_ctx(engine));
    json_memory(json, engine);
}

static sl_status write_json(const struct run_report *r, struct sl_buf *out)
{
    const struct answer *a = r->answer;
    const struct client *client = r->talk->client;
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", client ? r->talk->model : r->talk->path);
    if (client) sl_json_kv_str(&json, "server", client_server(client));
    sl_json_key(&json, "prompt");
    sl_json_strn(&json, r->prompt, r->n_prompt);
    if (a->reasoning.len) {
        sl_json_key(&json, "reasoning");
        sl_json_strn(&json, a->reasoning.data, a->reasoning.len);
    }
    sl_json_key(&json, "text");
    sl_json_strn(&json, a->text.data, a->text.len);
    sl_json_kv_str(&json, "finish_reason", engine_finish_name(a->finish));
    sl_json_kv_int(&json, "seed", (int64_t)r->talk->seed);
    if (!client) json_engine(&json, r);
    json_usage(&json, &a->usage);
    json_timings(&json, r);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

sl_status run_report_print_json(const struct run_report *r, struct sl_err *err)
{
    struct sl_buf out;
    sl_buf_init(&out, JSON_BYTES_MAX);
    sl_status status = write_json(r, &out);
    if (status == SL_OK)
        status = cli_write(out.data, out.len, err);
    else
        (void)sl_err_set(err, status, "the answer as JSON: %s", sl_status_text(status));
    sl_buf_done(&out);
    return status;
}
