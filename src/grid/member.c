/* member.c: order, checks and JSON of a member's entry. */
#include "grid/member.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "net/pki.h"
#include "net/sha256.h"

#include <ctype.h>
#include <endian.h>
#include <string.h>

#define LABEL_PART_MAX 63 /* as Kubernetes has it */
#define JOINS_MAX 1000000
#define VERSION_MAX (INT64_C(1) << 53) /* what every JSON reader keeps exact */

/* --- order --- */

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_i64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int admission_order(const struct member *a, const struct member *b)
{
    int order = compare_u64(a->joins, b->joins);
    if (!order) order = a->removed - b->removed;
    if (!order) order = compare_i64(a->joined_ms, b->joined_ms);
    if (!order) order = a->is_gateway - b->is_gateway;
    return order ? order : strcmp(a->key, b->key);
}

static int words_order(const struct member *a, const struct member *b)
{
    int order = compare_u64(a->version, b->version);
    if (!order) order = strcmp(a->origin, b->origin);
    if (!order) order = (int)a->duty - (int)b->duty;
    if (!order) order = strcmp(a->name, b->name);
    return order ? order : strcmp(a->labels, b->labels);
}

static int place_order(const struct member *a, const struct member *b)
{
    int order = compare_u64(a->place_version, b->place_version);
    if (!order) order = strcmp(a->place_origin, b->place_origin);
    if (!order) order = strcmp(a->addresses, b->addresses);
    if (!order) order = strcmp(a->bus, b->bus);
    return order ? order : strcmp(a->routes, b->routes);
}

static void take_words(struct member *into, const struct member *from)
{
    into->version = from->version;
    into->duty = from->duty;
    memcpy(into->origin, from->origin, sizeof into->origin);
    memcpy(into->name, from->name, sizeof into->name);
    memcpy(into->labels, from->labels, sizeof into->labels);
}

static void take_place(struct member *into, const struct member *from)
{
    into->place_version = from->place_version;
    memcpy(into->place_origin, from->place_origin, sizeof into->place_origin);
    memcpy(into->addresses, from->addresses, sizeof into->addresses);
    memcpy(into->bus, from->bus, sizeof into->bus);
    memcpy(into->routes, from->routes, sizeof into->routes);
}

void member_merge(struct member *into, const struct member *other)
{
    int order = admission_order(into, other);
    if (order < 0) *into = *other;
    if (order != 0) return;
    if (words_order(into, other) < 0) take_words(into, other);
    if (place_order(into, other) < 0) take_place(into, other);
}

bool member_equal(const struct member *a, const struct member *b)
{
    return !admission_order(a, b) && !words_order(a, b) && !place_order(a, b);
}

bool member_same_words(const struct member *a, const struct member *b)
{
    return a->duty == b->duty && !strcmp(a->name, b->name) && !strcmp(a->labels, b->labels);
}

bool member_same_place(const struct member *a, const struct member *b)
{
    return !strcmp(a->addresses, b->addresses) && !strcmp(a->bus, b->bus) &&
           !strcmp(a->routes, b->routes);
}

uint64_t member_hash(const struct member *m)
{
    const int64_t numbers[] = {m->is_gateway,
                               m->duty,
                               m->joined_ms,
                               m->joins,
                               m->removed,
                               (int64_t)m->version,
                               (int64_t)m->place_version};
    const char *const texts[] = {m->id,  m->key,    m->name,   m->labels,      m->addresses,
                                 m->bus, m->routes, m->origin, m->place_origin};
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        uint64_t bytes = htole64((uint64_t)numbers[i]);
        hash = sl_hash64(&bytes, sizeof bytes, hash);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        hash = sl_hash64(texts[i], strlen(texts[i]) + 1, hash);
    return hash;
}

/* --- checks --- */

static bool is_printable(const char *name)
{
    char text[GRID_NAME_SIZE];
    size_t n = strnlen(name, sizeof text);
    if (n == sizeof text) return false;
    memcpy(text, name, n);
    sl_utf8_make_printable(text, n, '?');
    return memcmp(text, name, n) == 0;
}

/* Addresses and URLs: what may stand in one, and commas between. */
static bool is_list(const char *text)
{
    size_t n = strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            ".:-_[]/%,");
    return !text[n];
}

static bool is_word(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("-._/", text[i])) return false;
    }
    return n <= LABEL_PART_MAX;
}

static bool is_label(const char *text, size_t n)
{
    const char *equals = memchr(text, '=', n);
    if (!equals || equals == text) return false;
    size_t n_key = (size_t)(equals - text);
    return is_word(text, n_key) && is_word(equals + 1, n - n_key - 1);
}

static bool are_labels(const char *text)
{
    size_t n_labels = 0;
    for (const char *at = text; *at; n_labels++) {
        size_t n = strcspn(at, ",");
        if (!is_label(at, n)) return false;
        at += n;
        if (*at && !*++at) return false; /* a comma at the end */
    }
    return n_labels <= GRID_LABELS_MAX;
}

static bool id_fits_key(const struct member *m)
{
    unsigned char digest[SHA256_BYTES];
    char id[GRID_ID_SIZE];
    if (sha256_from_hex(m->key, digest) != SL_OK) return false;
    pki_id_of_hash(digest, id);
    return strcmp(id, m->id) == 0;
}

sl_status member_check(const struct member *m, struct sl_err *err)
{
    const struct {
        const char *what;
        bool ok;
    } rows[] = {
        {"the id", pki_id_valid(m->id)},
        {"the key", id_fits_key(m)},
        {"the name", m->name[0] && is_printable(m->name)},
        {"the labels", are_labels(m->labels)},
        {"the addresses", is_list(m->addresses)},
        {"the bus", is_list(m->bus)},
        {"the routes", is_list(m->routes)},
        {"the duty", (unsigned)m->duty < NODE_DUTY_COUNT},
        {"the number of joins", m->joins >= 1 && m->joins <= JOINS_MAX},
        {"the version", m->version >= 1 && m->version <= (uint64_t)VERSION_MAX},
        {"the origin", pki_id_valid(m->origin)},
        {"the place's version", m->place_version <= (uint64_t)VERSION_MAX},
        {"the place's origin",
         m->place_version ? pki_id_valid(m->place_origin) : !m->place_origin[0]},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].ok)
            return sl_err_set(err, SL_INVALID, "member %.13s: %s makes no sense", m->id,
                              rows[i].what);
    }
    return SL_OK;
}

sl_status member_set_name(struct member *member, const char *name, struct sl_err *err)
{
    while (isspace((unsigned char)*name)) name++;
    size_t n = strlen(name);
    while (n && isspace((unsigned char)name[n - 1])) n--;
    if (!n) return sl_err_set(err, SL_INVALID, "a member needs a name");
    if (n >= sizeof member->name)
        return sl_err_set(err, SL_INVALID, "the name has more than %zu bytes",
                          sizeof member->name - 1);
    char text[GRID_NAME_SIZE];
    memcpy(text, name, n);
    text[n] = '\0';
    if (!is_printable(text))
        return sl_err_set(err, SL_INVALID, "the name has bytes that are no text");
    memcpy(member->name, text, n + 1);
    return SL_OK;
}

sl_status member_set_labels(struct member *member, const char *const *labels, size_t n,
                            struct sl_err *err)
{
    char list[MEMBER_LABELS_SIZE] = "";
    if (n > GRID_LABELS_MAX)
        return sl_err_set(err, SL_LIMIT, "%zu labels are more than %d", n, GRID_LABELS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!is_label(labels[i], strlen(labels[i])))
            return sl_err_set(err, SL_INVALID,
                              "label \"%.60s\" is not KEY=VALUE with letters, digits and -._/, up "
                              "to %d each",
                              labels[i], LABEL_PART_MAX);
        if (!member_list_add(list, sizeof list, labels[i]))
            return sl_err_set(err, SL_LIMIT, "the labels have more than %zu bytes",
                              sizeof list - 1);
    }
    memcpy(member->labels, list, sizeof list);
    return SL_OK;
}

/* --- lists --- */

bool member_list_item(const char *list, size_t i, char *out, size_t out_size)
{
    for (; *list; i--) {
        size_t n = strcspn(list, ",");
        if (i == 0) {
            if (n >= out_size) return false;
            memcpy(out, list, n);
            out[n] = '\0';
            return true;
        }
        list += n;
        if (*list) list++;
    }
    return false;
}

bool member_list_add(char *list, size_t list_size, const char *item)
{
    size_t n = strlen(list), n_item = strlen(item), n_comma = n > 0;
    if (n + n_comma + n_item >= list_size) return false;
    if (n_comma) list[n] = ',';
    memcpy(list + n + n_comma, item, n_item + 1);
    return true;
}

/* --- JSON --- */

void member_put(struct sl_json *json, const struct member *m)
{
    sl_json_object(json);
    sl_json_kv_str(json, "id", m->id);
    sl_json_kv_str(json, "key", m->key);
    sl_json_kv_str(json, "name", m->name);
    sl_json_kv_bool(json, "gateway", m->is_gateway);
    sl_json_kv_str(json, "duty", node_duty_name(m->duty));
    sl_json_kv_str(json, "labels", m->labels);
    sl_json_kv_str(json, "addresses", m->addresses);
    sl_json_kv_str(json, "bus", m->bus);
    sl_json_kv_str(json, "routes", m->routes);
    sl_json_kv_int(json, "joined_ms", m->joined_ms);
    sl_json_kv_int(json, "joins", m->joins);
    sl_json_kv_bool(json, "removed", m->removed);
    sl_json_kv_int(json, "version", (int64_t)m->version);
    sl_json_kv_str(json, "origin", m->origin);
    sl_json_kv_int(json, "place_version", (int64_t)m->place_version);
    sl_json_kv_str(json, "place_origin", m->place_origin);
    sl_json_object_end(json);
}

/* False: it is there but no text, has a NUL byte, or is too long. */
static bool read_text(const struct sl_json_value *object, const char *key, char *out, size_t size)
{
    const struct sl_json_value *value = sl_json_get(object, key);
    size_t n;
    const char *text = sl_json_to_str(value, "", &n);
    if (value && !sl_json_is(value, SL_JSON_STR)) return false;
    if (n >= size || strlen(text) != n) return false;
    memcpy(out, text, n + 1);
    return true;
}

static enum node_duty duty_of(const char *name)
{
    int duty = 0;
    while (duty < NODE_DUTY_COUNT && strcmp(name, node_duty_name((enum node_duty)duty)) != 0)
        duty++;
    return (enum node_duty)duty;
}

sl_status member_read(const struct sl_json_value *value, struct member *out, struct sl_err *err)
{
    char duty[16];
    *out = (struct member){
        .is_gateway = sl_json_to_bool(sl_json_get(value, "gateway"), false),
        .joined_ms = sl_json_to_int(sl_json_get(value, "joined_ms"), 0),
        .removed = sl_json_to_bool(sl_json_get(value, "removed"), false),
    };
    int64_t joins = sl_json_to_int(sl_json_get(value, "joins"), 0);
    int64_t version = sl_json_to_int(sl_json_get(value, "version"), 0);
    int64_t place_version = sl_json_to_int(sl_json_get(value, "place_version"), 0);
    const struct {
        const char *key;
        char *to;
        size_t size;
    } rows[] = {{"id", out->id, sizeof out->id},
                {"key", out->key, sizeof out->key},
                {"name", out->name, sizeof out->name},
                {"duty", duty, sizeof duty},
                {"labels", out->labels, sizeof out->labels},
                {"addresses", out->addresses, sizeof out->addresses},
                {"bus", out->bus, sizeof out->bus},
                {"routes", out->routes, sizeof out->routes},
                {"origin", out->origin, sizeof out->origin},
                {"place_origin", out->place_origin, sizeof out->place_origin}};
    if (!sl_json_is(value, SL_JSON_OBJECT))
        return sl_err_set(err, SL_CORRUPT, "a member is no JSON object");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!read_text(value, rows[i].key, rows[i].to, rows[i].size))
            return sl_err_set(err, SL_CORRUPT, "a member's %s cannot be read", rows[i].key);
    }
    out->duty = duty_of(duty);
    out->joins = joins > 0 && joins <= JOINS_MAX ? (uint32_t)joins : 0;
    out->version = version > 0 ? (uint64_t)version : 0;
    out->place_version = place_version > 0 ? (uint64_t)place_version : 0;
    if (member_check(out, err) == SL_OK) return SL_OK;
    return sl_err_set(err, SL_CORRUPT, "a member's entry: a field is out of its limits");
}
