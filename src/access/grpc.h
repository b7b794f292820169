/* grpc.h: gRPC calls over HTTP/2: one message in and one out, or streams of both; deadlines, status
 * trailers. Keys, quotas, usage and metrics are call.c's as for every other API; a call that fails
 * by call_fail answers with the status's gRPC code.
 *
 *   HTTP body -> grpc_frame -> on_message -> service (oip_grpc.c, grpc_health.c, ...)
 *       grpc_respond, or grpc_send ... grpc_end -> HTTP stream and trailers
 *
 * Source: grpc/doc/PROTOCOL-HTTP2.md.
 * Floor: access.  Thread: the loop's.  Allocates: with the call: a message while it comes, answers
 * while the client does not take them.
 * Invariants:
 * - A call that came by gRPC has a struct grpc_call as its carrier, its children do not.
 * - A stream whose client does not read is not read either, and holds at most GRPC_OUT_MAX. */
#pragma once
#include "access/gateway_int.h"
#include "access/grpc_frame.h"

#define GRPC_UNAVAILABLE 14

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

#define GRPC_MESSAGE_MAX NODE_TENSOR_REQUEST_BYTES_MAX /* unless cfg.body_bytes_max is set */
#define GRPC_IN_ALL_MAX (256u << 20)                   /* of all calls' messages on their way in */
/* Of one call, for its client to take: an answer of the largest size, and some more. */
#define GRPC_OUT_MAX (2 * NODE_TENSOR_REQUEST_BYTES_MAX)
#define GRPC_OUT_SLACK (1u << 20) /* past it for messages that say what went wrong */
#define GRPC_SMALL_MAX 4096       /* of such a message */

/* `message` lives as long as a unary call, and else during the call of this. The function may end
 * the call. */
typedef void (*grpc_message_fn)(struct call *call, const uint8_t *message, size_t n);

struct grpc_stream {
    grpc_message_fn on_message;
    call_fn on_end;   /* the client will send no more; NULL: ends the call, OK */
    call_fn on_drain; /* the server is going down: finish soon; NULL: ends the call, UNAVAILABLE */
    call_fn on_room;  /* the client has taken all that waited for it; NULL is fine */
};

/* Is it gRPC in a form that is understood here, by its Content-Type? */
bool grpc_is_request(const struct http_request *request);

/* For call_begin, before anything else: makes it a gRPC call. False: it is none, has a bad deadline
 * or there is no memory; it has been answered. */
bool grpc_open(struct call *call);

/* What a handler does first: has its message or messages come. */
void grpc_unary(struct call *call, grpc_message_fn fn);
void grpc_stream(struct call *call, const struct grpc_stream *stream);

/* Takes no more messages until it is called with false, from where messages that have come already
 * are handed over, so it may end the call then. */
void grpc_pause(struct call *call, bool paused);
/* Has the client sent its last message, and was it handed over? */
bool grpc_is_all_in(const struct call *call);

/* The one answer, a frame, and the end of the call, OK. Takes the buffer's memory if it can. */
void grpc_respond(struct call *call, struct sl_buf *frame);

/* One frame of many. LIMIT: the client does not read, GRPC_OUT_MAX waits for it; NOMEM. The call
 * goes on in any case; when the client has gone it is OK too. */
SL_CHECK sl_status grpc_send(struct call *call, const void *frame, size_t n);

/* Is something waiting for the client to take it? Then on_room will be called. */
bool grpc_is_full(const struct call *call);

/* Ends a stream with a gRPC code (0: OK) and a message (NULL: none) after all that was sent. */
void grpc_end(struct call *call, int code, const char *message);

/* For gateway_drain. */
void grpc_drain(struct gateway *gateway);

/* --- grpc_codec.c: messages of proto/NAME.proto --- */

/* Into the call's arena. NULL: it does not parse, and the call has failed. */
void *grpc_unpack(struct call *call, const struct ProtobufCMessageDescriptor *type,
                  const uint8_t *message, size_t n);
/* The same in any arena; NULL: does not parse or does not fit. */
void *grpc_unpack_to(struct sl_arena *arena, const struct ProtobufCMessageDescriptor *type,
                     const uint8_t *message, size_t n);
/* Appends one frame. NOMEM, LIMIT. */
SL_CHECK sl_status grpc_pack(struct sl_buf *out, const struct ProtobufCMessage *message);
/* grpc_respond with it. */
void grpc_reply(struct call *call, const struct ProtobufCMessage *message);
