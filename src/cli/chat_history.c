#include "cli/chat_history.h"
#include "base/mem.h"
#include <string.h>

static const char *const role_names[] = {"system", "user", "assistant"};

void chat_history_truncate(struct chat_history *history, size_t n)
{
    while (history->n > n) {
        struct chat_message *last = &history->v[--history->n];
        history->n_bytes -= last->n;
        sl_free(last->text);
    }
}

void chat_history_done(struct chat_history *history)
{
    chat_history_truncate(history, 0);
    sl_free(history->v);
    *history = (struct chat_history){0};
}

const char *chat_history_system(const struct chat_history *history)
{
    return history->n && history->v[0].role == CHAT_SYSTEM ? history->v[0].text : NULL;
}

void chat_history_clear(struct chat_history *history)
{
    chat_history_truncate(history, chat_history_system(history) != NULL);
}

static sl_status make_room(struct chat_history *history)
{
    if (history->n < history->n_room) return SL_OK;
    if (history->n >= CHAT_HISTORY_MESSAGES_MAX) return SL_LIMIT;
    size_t n_room = history->n_room ? 2 * history->n_room : 16;
    void *v = sl_realloc_array(history->v, n_room, sizeof *history->v);
    if (!v) return SL_NOMEM;
    history->v = v;
    history->n_room = n_room;
    return SL_OK;
}

sl_status chat_history_add(struct chat_history *history, enum chat_role role, const char *text,
                           size_t n)
{
    sl_status status = make_room(history);
    if (status != SL_OK) return status;
    if (n > CHAT_HISTORY_BYTES_MAX - history->n_bytes) return SL_LIMIT;
    char *copy = sl_memdup(text, n);
    if (!copy) return SL_NOMEM;
    struct chat_message *to = &history->v[history->n];
    if (role == CHAT_SYSTEM) {
        to = history->v;
        if (chat_history_system(history)) {
            history->n_bytes -= to->n;
            sl_free(to->text);
            history->n--;
        } else {
            memmove(to + 1, to, history->n * sizeof *to);
        }
    }
    *to = (struct chat_message){role, copy, n};
    history->n++;
    history->n_bytes += n;
    return SL_OK;
}

static void put_message(struct sl_json *json, enum chat_role role, const char *text, size_t n)
{
    sl_json_object(json);
    sl_json_kv_str(json, "role", role_names[role]);
    sl_json_key(json, "content");
    sl_json_strn(json, text, n);
    sl_json_object_end(json);
}

void chat_history_put(const struct chat_history *history, const char *system, struct sl_json *json)
{
    sl_json_array(json);
    if (system && !chat_history_system(history))
        put_message(json, CHAT_SYSTEM, system, strlen(system));
    for (size_t i = 0; i < history->n; i++) {
        const struct chat_message *m = &history->v[i];
        put_message(json, m->role, m->text, m->n);
    }
    sl_json_array_end(json);
}

static sl_status read_message(struct chat_history *history, const struct sl_json_value *message)
{
    size_t n;
    const char *role = sl_json_to_str(sl_json_get(message, "role"), "", NULL);
    const char *text = sl_json_to_str(sl_json_get(message, "content"), NULL, &n);
    if (!text) return SL_INVALID;
    for (int i = CHAT_SYSTEM; i <= CHAT_ASSISTANT; i++)
        if (strcmp(role, role_names[i]) == 0)
            return chat_history_add(history, (enum chat_role)i, text, n);
    return SL_INVALID;
}

sl_status chat_history_read(struct chat_history *history, const struct sl_json_value *messages,
                            struct sl_err *err)
{
    struct chat_history fresh = {0};
    sl_status status = sl_json_is(messages, SL_JSON_ARRAY) ? SL_OK : SL_INVALID;
    for (size_t i = 0; i < sl_json_size(messages) && status == SL_OK; i++)
        status = read_message(&fresh, sl_json_at(messages, i));
    if (status != SL_OK) {
        chat_history_done(&fresh);
        return sl_err_set(err, status, "messages: %s",
                          status == SL_INVALID ? "a list of {\"role\", \"content\"} is needed"
                                               : sl_status_text(status));
    }
    chat_history_done(history);
    *history = fresh;
    return SL_OK;
}
