#include "netlab/control.h"
#include "base/duration.h"
#include "base/json.h"
#include <ctype.h>
#include <stdlib.h>

#define WORDS_MAX 16 /* the longest sensible line has 14 */

struct words {
    char text[CONTROL_LINE_MAX + 1];
    char *word[WORDS_MAX];
    int n;
};

struct unit {
    const char *name;
    double factor;
};

static const struct unit share_units[] = {{"", 1}, {"%", 0.01}, {NULL, 0}};
static const struct unit rate_units[] = {{"", 1},       {"bit", 1},    {"kbit", 1e3},
                                         {"mbit", 1e6}, {"gbit", 1e9}, {NULL, 0}};
static const struct unit byte_units[] = {
    {"", 1}, {"b", 1}, {"kb", 1024}, {"mb", 1 << 20}, {NULL, 0}};

static sl_status split(const char *line, size_t n, struct words *words, struct sl_err *err)
{
    if (n > CONTROL_LINE_MAX)
        return sl_err_set(err, SL_INVALID, "a line of more than %d bytes", CONTROL_LINE_MAX);
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)line[i]) && !isblank((unsigned char)line[i]) && line[i] != '\r')
            return sl_err_set(err, SL_INVALID, "a byte that is not printable ASCII");
    memcpy(words->text, line, n);
    words->text[n] = '\0';
    words->n = 0;
    char *rest = NULL;
    for (char *word = strtok_r(words->text, " \t\r", &rest); word;
         word = strtok_r(NULL, " \t\r", &rest)) {
        if (words->n == WORDS_MAX) return sl_err_set(err, SL_INVALID, "too many words");
        words->word[words->n++] = word;
    }
    return words->n ? SL_OK : sl_err_set(err, SL_INVALID, "an empty line");
}

/* A plain decimal number and one of the units, at most `max` in all. */
static sl_status read_quantity(const char *text, const struct unit *units, double max, double *out,
                               struct sl_err *err)
{
    size_t digits = strspn(text, "0123456789.");
    char *end = NULL;
    double value = strtod(text, &end);
    if (digits == 0 || end != text + digits)
        return sl_err_set(err, SL_INVALID, "%s: not a number", text);
    const struct unit *unit = units;
    while (unit->name && strcmp(unit->name, end) != 0) unit++;
    if (!unit->name) return sl_err_set(err, SL_INVALID, "%s: %s is no unit here", text, end);
    value *= unit->factor;
    if (!(value <= max)) return sl_err_set(err, SL_INVALID, "%s: at most %g", text, max);
    *out = value;
    return SL_OK;
}

static sl_status read_whole(const char *text, const struct unit *units, int64_t max, int64_t *out,
                            struct sl_err *err)
{
    double value = 0;
    sl_status status = read_quantity(text, units, (double)max, &value, err);
    if (status == SL_OK) *out = (int64_t)value;
    return status;
}

static sl_status read_time(const char *text, int64_t *out_ns, struct sl_err *err)
{
    sl_status status = sl_duration_parse(text, out_ns, err);
    if (status) return status;
    /* A bare number would be seconds, and milliseconds to those who know tc. */
    if (*out_ns && isdigit((unsigned char)text[strlen(text) - 1]))
        return sl_err_set(err, SL_INVALID, "%s: in ms, us or s?", text);
    if (*out_ns < 0 || *out_ns > CONTROL_DELAY_NS_MAX)
        return sl_err_set(err, SL_INVALID, "%s: not within a minute", text);
    return SL_OK;
}

static sl_status read_setting(const char *name, const char *value, struct fabric_change *change,
                              struct sl_err *err)
{
    struct link_settings *settings = &change->settings;
    if (strcmp(name, "delay") == 0) {
        change->fields |= FABRIC_DELAY;
        return read_time(value, &settings->delay_ns, err);
    }
    if (strcmp(name, "jitter") == 0) {
        change->fields |= FABRIC_JITTER;
        return read_time(value, &settings->jitter_ns, err);
    }
    if (strcmp(name, "loss") == 0) {
        change->fields |= FABRIC_LOSS;
        return read_quantity(value, share_units, 1, &settings->loss, err);
    }
    if (strcmp(name, "rate") == 0) {
        change->fields |= FABRIC_RATE;
        return read_whole(value, rate_units, CONTROL_RATE_BPS_MAX, &settings->rate_bps, err);
    }
    if (strcmp(name, "queue") == 0) {
        change->fields |= FABRIC_QUEUE;
        return read_whole(value, byte_units, CONTROL_QUEUE_BYTES_MAX, &settings->queue_bytes, err);
    }
    return sl_err_set(err, SL_INVALID, "%s: not a setting", name);
}

static sl_status read_name(const char *word, char out[FABRIC_NAME_MAX + 1], struct sl_err *err)
{
    size_t n = strlen(word);
    if (n > FABRIC_NAME_MAX) return sl_err_set(err, SL_INVALID, "%s: not a port's name", word);
    memcpy(out, word, n + 1);
    return SL_OK;
}

static sl_status read_verb(const char *word, enum fabric_verb *out, struct sl_err *err)
{
    static const char *const verbs[] = {
        [FABRIC_LINK] = "link", [FABRIC_CUT] = "cut", [FABRIC_HEAL] = "heal"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(word, verbs[i]) != 0) continue;
        *out = (enum fabric_verb)i;
        return SL_OK;
    }
    return sl_err_set(err, SL_INVALID, "%s: link, cut, heal or stats", word);
}

static sl_status read_change(const struct words *words, struct fabric_change *change,
                             struct sl_err *err)
{
    *change = (struct fabric_change){0};
    sl_status status = read_verb(words->word[0], &change->verb, err);
    if (status) return status;
    if (words->n < 3) return sl_err_set(err, SL_INVALID, "between which two ports?");
    status = read_name(words->word[1], change->a, err);
    if (status == SL_OK) status = read_name(words->word[2], change->b, err);
    for (int i = 3; i < words->n && status == SL_OK; i++) {
        const char *word = words->word[i];
        if (strcmp(word, "oneway") == 0) {
            change->one_way = true;
        } else if (change->verb != FABRIC_LINK) {
            status = sl_err_set(err, SL_INVALID, "%s: not expected here", word);
        } else if (i + 1 == words->n) {
            status = sl_err_set(err, SL_INVALID, "%s: how much?", word);
        } else {
            status = read_setting(word, words->word[++i], change, err);
        }
    }
    return status;
}

static void write_link(struct sl_json *json, const struct fabric *fabric, int from, int to)
{
    const struct link *link = fabric_link(fabric, from, to);
    const struct link_stats *stats = &link->stats;
    sl_json_object(json);
    sl_json_kv_str(json, "from", fabric_port_name(fabric, from));
    sl_json_kv_str(json, "to", fabric_port_name(fabric, to));
    sl_json_kv_num(json, "delay_ms", (double)link->settings.delay_ns / 1e6);
    sl_json_kv_num(json, "jitter_ms", (double)link->settings.jitter_ns / 1e6);
    sl_json_kv_num(json, "loss", link->settings.loss);
    sl_json_kv_int(json, "rate_bps", link->settings.rate_bps);
    sl_json_kv_int(json, "queue_bytes", link->settings.queue_bytes);
    sl_json_kv_bool(json, "cut", link->cut);
    sl_json_kv_int(json, "frames", (int64_t)stats->n_frames);
    sl_json_kv_int(json, "bytes", (int64_t)stats->n_bytes);
    sl_json_kv_int(json, "dropped_lost", (int64_t)stats->n_lost);
    sl_json_kv_int(json, "dropped_queue", (int64_t)stats->n_overrun);
    sl_json_kv_int(json, "dropped_cut", (int64_t)stats->n_cut);
    sl_json_object_end(json);
}

static void write_links(struct sl_json *json, const struct fabric *fabric)
{
    int n = fabric_n_ports(fabric);
    sl_json_key(json, "links");
    sl_json_array(json);
    for (int from = 0; from < n; from++)
        for (int to = 0; to < n; to++)
            if (from != to && fabric_port_segment(fabric, from) == fabric_port_segment(fabric, to))
                write_link(json, fabric, from, to);
    sl_json_array_end(json);
}

sl_status control_answer(struct fabric *fabric, const char *line, size_t n, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    struct words words;
    struct fabric_change change;
    int n_links = 0;
    sl_status status = split(line, n, &words, &err);
    bool is_stats = status == SL_OK && words.n == 1 && strcmp(words.word[0], "stats") == 0;
    if (status == SL_OK && !is_stats) {
        status = read_change(&words, &change, &err);
        if (status == SL_OK) status = fabric_apply(fabric, &change, &n_links, &err);
    }
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_bool(&json, "ok", status == SL_OK);
    if (status)
        sl_json_kv_str(&json, "error", err.text);
    else if (is_stats)
        write_links(&json, fabric);
    else
        sl_json_kv_int(&json, "links", n_links);
    sl_json_object_end(&json);
    status = sl_json_end(&json);
    return status ? status : sl_buf_addc(out, '\n');
}
