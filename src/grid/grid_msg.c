#include "grid/grid_msg.h"
#include "grid/grid_msg_int.h"
#include <string.h>

static void encode_ping(const struct grid_msg *msg, struct wire_sink *sink)
{
    Starlane__Grid__Ping m = STARLANE__GRID__PING__INIT;
    const struct grid_ping *in = &msg->ping;
    if (in->n_padding > GRID_PADDING_MAX) {
        sink->status = SL_LIMIT;
        return;
    }
    m.seq = in->seq;
    m.sent_ns = in->sent_ns;
    m.padding.len = in->n_padding;
    m.padding.data = sl_arena_alloc(&sink->scratch, in->n_padding + 1);
    sink->status = m.padding.data ? SL_OK : SL_NOMEM;
    if (sink->status == SL_OK) wire_sink_put(sink, &m.base);
}

static sl_status decode_ping(const void *message, struct sl_arena *arena, struct grid_msg *out,
                             struct sl_err *err)
{
    const Starlane__Grid__Ping *m = message;
    (void)arena;
    out->ping =
        (struct grid_ping){.seq = m->seq, .sent_ns = m->sent_ns, .n_padding = m->padding.len};
    return grid_check_count("bytes of padding", m->padding.len, GRID_PADDING_MAX, err);
}

static const struct grid_codec codec_ping = {"ping", &starlane__grid__ping__descriptor, encode_ping,
                                             decode_ping};
static const struct grid_codec codec_pong = {"pong", &starlane__grid__ping__descriptor, encode_ping,
                                             decode_ping};

static const struct grid_codec *find_codec(unsigned type)
{
    static const struct grid_codec *const codecs[GRID_MSG_TYPE_END] = {
        [GRID_RUN] = &grid_codec_run,       [GRID_STOP] = &grid_codec_stop,
        [GRID_SYNC] = &grid_codec_sync,     [GRID_CONTROL] = &grid_codec_control,
        [GRID_EVENTS] = &grid_codec_events, [GRID_BEAT] = &grid_codec_beat,
        [GRID_REPORT] = &grid_codec_report, [GRID_CARDS] = &grid_codec_cards,
        [GRID_PING] = &codec_ping,          [GRID_PONG] = &codec_pong,
        [GRID_DEMAND] = &grid_codec_demand,
    };
    return type < GRID_MSG_TYPE_END ? codecs[type] : NULL;
}

const char *grid_msg_type_name(enum grid_msg_type type)
{
    const struct grid_codec *codec = find_codec((unsigned)type);
    return codec ? codec->name : "?";
}

static void append(ProtobufCBuffer *base, size_t n, const uint8_t *data)
{
    struct wire_sink *sink = (struct wire_sink *)(void *)base;
    if (sink->status == SL_OK) sink->status = sl_buf_add(sink->out, data, n);
}

/* The message without its type. */
static sl_status encode_body(const struct grid_codec *codec, const struct grid_msg *msg,
                             struct sl_buf *out, struct sl_err *err)
{
    struct wire_sink sink = {.base = {.append = append}, .out = out};
    size_t before = out->len;
    sl_arena_init(&sink.scratch, GRID_MSG_ARENA_BYTES_MAX);
    codec->encode(msg, &sink);
    sl_arena_done(&sink.scratch);
    if (sink.status == SL_OK && out->len - before > GRID_MSG_BYTES_MAX) sink.status = SL_LIMIT;
    if (sink.status == SL_OK) return SL_OK;
    sl_buf_truncate(out, before);
    return sl_err_set(err, sink.status, "%s message: %s", codec->name, sl_status_text(sink.status));
}

sl_status grid_msg_encode(const struct grid_msg *msg, struct sl_buf *out, struct sl_err *err)
{
    const struct grid_codec *codec = find_codec((unsigned)msg->type);
    size_t before = out->len;
    if (!codec) return sl_err_set(err, SL_INVALID, "message type %d", (int)msg->type);
    sl_status status = sl_buf_addc(out, (char)msg->type);
    if (status != SL_OK) return sl_err_set(err, status, "%s message", codec->name);
    status = encode_body(codec, msg, out, err);
    if (status != SL_OK) sl_buf_truncate(out, before);
    return status;
}

sl_status grid_events_put(const struct grid_event *event, struct sl_buf *out, struct sl_err *err)
{
    const struct grid_msg msg = {.type = GRID_EVENTS, .events = {.v = event, .n = 1}};
    return encode_body(&grid_codec_events, &msg, out, err);
}

sl_status grid_events_wrap(const struct grid_events *head, const void *pieces, size_t n_pieces,
                           struct sl_buf *out, struct sl_err *err)
{
    struct grid_msg msg = {.type = GRID_EVENTS, .events = *head};
    size_t before = out->len;
    msg.events.v = NULL;
    msg.events.n = 0;
    sl_status status = grid_msg_encode(&msg, out, err);
    if (status != SL_OK) return status;
    status = sl_buf_add(out, pieces, n_pieces);
    if (status == SL_OK) return SL_OK;
    sl_buf_truncate(out, before);
    return sl_err_set(err, status, "events message");
}

sl_status grid_msg_decode(const void *bytes, size_t n, struct sl_arena *arena, struct grid_msg *out,
                          struct sl_err *err)
{
    const uint8_t *at = bytes;
    const struct grid_codec *codec = n ? find_codec(*at) : NULL;
    ProtobufCMessage *message = NULL;
    if (!codec) return sl_err_set(err, SL_CORRUPT, "message of unknown type %d", n ? (int)*at : -1);
    *out = (struct grid_msg){.type = (enum grid_msg_type) * at};
    sl_status status = wire_unpack(codec->descriptor, at + 1, n - 1, arena, &message, err);
    if (status == SL_OK) status = codec->decode(message, arena, out, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "%s message", codec->name);
}
