/* grid_msg_cards.c: the models in a member's store. */
#include "grid/grid_msg_int.h"
#include "grid/store.h"

#define CARD_FIELDS(X) \
    X(bytes) \
    X(memory_bytes) \
    X(context_length) \
    X(modified_ms)

#define CARD_STRINGS(X) \
    X(name) \
    X(digest) \
    X(format) \
    X(family) \
    X(parameter_size) \
    X(quantization)

/* NULL where there is none. */
#define CARD_TEXTS(X) \
    X(parameters) \
    X(system) \
    X(processing) \
    X(options)

typedef Starlane__Grid__Card pb_card;

static sl_status fill_card(const struct grid_card *in, pb_card *m, struct sl_arena *scratch)
{
    starlane__grid__card__init(m);
#define X(field) m->field = in->field;
    CARD_FIELDS(X)
#undef X
#define X(field) m->field = wire_string(in->field);
    CARD_STRINGS(X)
    CARD_TEXTS(X)
#undef X
    m->tools = (uint32_t)in->traits.tools;
    m->thinks = in->traits.thinks;
    sl_status status = grid_put_shape(in->shape, scratch, &m->shape);
    if (!in->info || status != SL_OK) return status;
    const struct wire_loaded loaded = {.info = *in->info};
    m->info = sl_arena_alloc(scratch, sizeof *m->info);
    return m->info ? wire_put_loaded(&loaded, m->info, scratch) : SL_NOMEM;
}

static void encode_cards(const struct grid_msg *msg, struct wire_sink *sink)
{
    const struct grid_cards *in = &msg->cards;
    Starlane__Grid__Cards m = STARLANE__GRID__CARDS__INIT;
    pb_card *v = sl_arena_array(&sink->scratch, in->n + 1, sizeof *v);
    m.cards = sl_arena_array(&sink->scratch, in->n + 1, sizeof *m.cards);
    sink->status = in->n > GRID_CARDS_MAX ? SL_LIMIT : v && m.cards ? SL_OK : SL_NOMEM;
    for (size_t i = 0; i < in->n && sink->status == SL_OK; i++) {
        m.cards[i] = &v[i];
        sink->status = fill_card(&in->v[i], &v[i], &sink->scratch);
    }
    m.boot = in->boot;
    m.version = in->version;
    m.n_cards = in->n;
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status read_info(const pb_card *m, struct sl_arena *arena, struct grid_card *out,
                           struct sl_err *err)
{
    if (!m->info) return SL_OK;
    struct wire_loaded *loaded = sl_arena_alloc(arena, sizeof *loaded);
    if (!loaded) return sl_err_set(err, SL_NOMEM, "model's facts");
    out->info = &loaded->info;
    return wire_get_loaded(m->info, arena, loaded, err);
}

static sl_status read_card(const pb_card *m, struct sl_arena *arena, struct grid_card *out,
                           struct sl_err *err)
{
    sl_status status = grid_check_text("model's name", m->name, STORE_NAME_SIZE, err);
    if (status == SL_OK) status = grid_check_text("digest", m->digest, STORE_DIGEST_SIZE, err);
    if (status == SL_OK)
        status = grid_check_enum("tool format", m->tools, CHAT_TOOLS_HARMONY + 1, err);
#define X(field) out->field = m->field;
    CARD_FIELDS(X)
    CARD_STRINGS(X)
#undef X
#define X(field) out->field = *m->field ? m->field : NULL;
    CARD_TEXTS(X)
#undef X
    out->traits.tools = (enum chat_tool_format)m->tools;
    out->traits.thinks = m->thinks;
    if (status == SL_OK) status = grid_take_shape(m->shape, arena, &out->shape, err);
    return status == SL_OK ? read_info(m, arena, out, err) : status;
}

static sl_status decode_cards(const void *message, struct sl_arena *arena, struct grid_msg *out,
                              struct sl_err *err)
{
    const Starlane__Grid__Cards *m = message;
    sl_status status = grid_check_count("models", m->n_cards, GRID_CARDS_MAX, err);
    if (status != SL_OK) return status;
    struct grid_card *v = sl_arena_array(arena, m->n_cards + 1, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "models");
    for (size_t i = 0; i < m->n_cards && status == SL_OK; i++)
        status = read_card(m->cards[i], arena, &v[i], err);
    out->cards =
        (struct grid_cards){.boot = m->boot, .version = m->version, .v = v, .n = m->n_cards};
    return status;
}

const struct grid_codec grid_codec_cards = {"cards", &starlane__grid__cards__descriptor,
                                            encode_cards, decode_cards};
