/* grid_msg.h: what the members of a grid say to each other, as plain structs; on the bus each is
 * one message: a byte that names its type (enum grid_msg_type) and then one message of
 * proto/grid.proto. docs/grid-protocol.md tells who says what, when, and what a loss does.
 * Who speaks is not in a message: the bus tells it by the subject, which nobody else may use.
 * Floor: grid.  Thread: the caller's.  Allocates: a decoded message lives in the caller's arena.
 * Invariant: no member trusts another: a decoded message has every enum in range, every count
 * within its limit and every number finite; text may be any bytes but has no NUL inside a string.
 * Times in messages are spans, never points: no two machines' clocks are compared. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "exec/llm/sampler.h"
#include "grid/node.h"
#include "net/pki.h"
#include "sched/node_table.h"
#include "sched/split.h"

struct telemetry_sample;

#define GRID_ID_SIZE PKI_ID_SIZE /* of a member */
#define GRID_ADDRESS_SIZE 262    /* a DNS name's 253 bytes, ':', a port, NUL, '[' and ']' */
#define GRID_NAME_SIZE 64        /* of a member, for people; a host name's label fits */
#define GRID_LABEL_MAX 128       /* bytes of "key=value" */
#define GRID_LABELS_MAX 32       /* of one member */

/* A request's tensors and what stands beside them; what the bus takes is a little more. */
#define GRID_MSG_BYTES_MAX (TENSOR_BYTES_MAX + (6u << 20))
/* A decoded message with its pointers and small structs; a hostile one of empty parts would
 * otherwise take a hundred times its size. */
#define GRID_MSG_ARENA_BYTES_MAX (160u << 20)
#define GRID_STOP_MAX 16       /* stop strings: WIRE_STOP_MAX */
#define GRID_BLOCKS_MAX 65536  /* of one prompt: a million tokens in blocks of 16 */
#define GRID_ENTRIES_MAX 65536 /* of a SYNC or BEAT: attempts between two members */
#define GRID_EVENTS_MAX 65536  /* of one EVENTS */
#define GRID_GATEWAYS_MAX 64   /* that a report covers */
#define GRID_CARDS_MAX 4096    /* models in one member's store that it tells of */
#define GRID_PEERS_MAX 64      /* to which one member measures the way */
#define GRID_CHANGES_MAX 4096  /* blocks held or dropped in one report; more come in the next */
#define GRID_PADDING_MAX (256u << 10)    /* of a PING that measures bandwidth */
#define GRID_STAGES_MAX SPLIT_STAGES_MAX /* of one chain */
#define GRID_LINKS 3                     /* enum engine_link_type: f32, f16, q8_0 */
#define GRID_LAYERS_MAX SPLIT_LAYERS_MAX /* of one model */
#define GRID_STAGES_HOSTED_MAX 64        /* for others, that one member tells of */
#define GRID_CHAIN_SIZE 64               /* of a chain's id */

enum grid_msg_type {
    /* gateway to node, sl.run.<to>.<from> */
    GRID_RUN = 1, /* answered by EVENTS, and by BEAT while it lives there */
    GRID_STOP,    /* ends the attempt; no answer */
    GRID_SYNC,    /* what of the attempts' events has arrived, and what has not */
    GRID_CONTROL, /* to be repeated until reports show it done */
    /* node to gateway, sl.answer.<to>.<from> */
    GRID_EVENTS,
    GRID_BEAT,
    /* member to all, sl.report.<from> */
    GRID_REPORT,
    GRID_CARDS,
    /* member to member, sl.ping.<to>.<from> */
    GRID_PING,
    GRID_PONG,
    /* gateway to all, sl.report.<from> */
    GRID_DEMAND,
    GRID_MSG_TYPE_END
};

/* One attempt at a request on the node it is sent to. An attempt is named by gateway, the boot of
 * the gateway's process, request and attempt, none of which is used twice; the same RUN again
 * changes nothing but that what is known of it is sent again. When a node sees another boot of a
 * gateway, what the process before it had there is cancelled. */
struct grid_run {
    uint64_t boot; /* of the gateway: as in its reports */
    uint64_t request;
    uint32_t attempt;
    uint64_t sent;      /* router.h's; the node's next report `covers` it */
    const char *digest; /* of the model's file: refused where the name means another; "": any */
    /* All of it: `model` is the catalogue's name; `sampler` is set (its seed chosen by the gateway,
     * so that attempts agree), `now_s` too, and `resume` where the answer was begun elsewhere.
     * queue_timeout_ns: left of it when it was sent; SCHED_NEVER: none. */
    struct node_submit submit;
    uint64_t n_prompt;      /* tokens, estimated */
    const uint64_t *blocks; /* hashes of the prompt's blocks; see node_report.held */
    size_t n_blocks;
};

struct grid_stop {
    uint64_t boot; /* as in grid_run */
    uint64_t request;
    uint32_t attempt;
};

struct grid_sync_entry {
    uint64_t request;
    uint32_t attempt;
    uint64_t next_seq; /* the first event that has not arrived; those before it are forgotten */
    bool resend;       /* send what there is from next_seq on */
};

/* Of all attempts that the gateway has at the node: one that is missing for AGENT_FORGOTTEN_NS
 * (agent.h) while others come is taken for stopped. Empty: the gateway lives. One that is sent for
 * a gap may name just that attempt. */
struct grid_sync {
    uint64_t boot; /* as in grid_run */
    const struct grid_sync_entry *v;
    size_t n;
};

enum grid_control_kind {
    GRID_CONTROL_LOAD,   /* model, digest: fetched when the store has it not, and kept loaded */
    GRID_CONTROL_UNLOAD, /* model */
    GRID_CONTROL_DUTY,   /* duty */
    GRID_CONTROL_LABELS, /* labels: all of them, in place of those it had */
    GRID_CONTROL_KIND_COUNT
};

/* A member that has the model's files, and its grid port. */
struct grid_source {
    const char *id, *address; /* "host:port" */
};
#define GRID_SOURCES_MAX 8 /* fetch.h's: more are as good */
/* They themselves. */
struct grid_sources {
    char ids[GRID_SOURCES_MAX][GRID_ID_SIZE];
    char addresses[GRID_SOURCES_MAX][GRID_ADDRESS_SIZE];
    size_t n;
};
/* The first GRID_SOURCES_MAX of n are kept. */
void grid_sources_set(struct grid_sources *out, const struct grid_source *sources, size_t n);

/* --- a model over several machines (docs/split.md) --- */

struct grid_stage {
    const char *member, *address; /* its grid port, "host:port"; "" when it has none */
    int32_t first, last;          /* layers [first, last) */
};

/* One replica of a model as a chain of stages. Stage 0 is on the member that the CONTROL is for,
 * and takes the requests; a member has one stage at most. Borders have no gaps: the first stage
 * begins with layer 0, each other one where the one before it ends. */
struct grid_split {
    const struct grid_stage *stages;
    size_t n_stages;   /* 2 .. GRID_STAGES_MAX */
    int32_t n_ctx;     /* most tokens of one sequence */
    int32_t n_seqs;    /* sequences that run at once */
    int32_t kv_blocks; /* of the KV cache, in each stage; 0: room for n_seqs sequences of n_ctx */
    int32_t n_batch;   /* tokens of one step; 0: as the engine likes it */
    int32_t n_flights; /* steps that decode under way at once; 0: as many as it measures to pay */
    uint32_t link;     /* enum engine_link_type: how hidden states travel */
};

/* Every value, for who takes one from elsewhere than a message. CORRUPT names what is wrong. */
SL_CHECK sl_status grid_split_check(const struct grid_split *split, struct sl_err *err);
/* The same members, borders and numbers? Addresses do not count. NULL is like NULL only. */
bool grid_split_equal(const struct grid_split *a, const struct grid_split *b);
/* One allocation with all strings, to be freed with sl_free. NULL: no memory. */
struct grid_split *grid_split_copy(const struct grid_split *split);

/* What stage 0 has measured of each stage, smoothed; numbers that nobody has measured are 0. */
struct grid_hop {
    double compute_s; /* for one micro-batch */
    double hop_s;     /* from the stage before it (of stage 0: the last) to this one, in the mean */
    double wait_s;    /* here, for the micro-batches before it */
    double bytes;     /* that a micro-batch is on that way */
    double load;      /* of the time, computing: 0 to 1 */
};

/* A stage that a member runs in somebody else's chain. */
struct grid_stage_hosted {
    const char *chain, *model, *head; /* its id; the model's name; the member that is stage 0 */
    int32_t first, last;              /* layers [first, last) */
    uint64_t bytes;                   /* of memory, of that member's memory_used_bytes */
    enum sched_model_state state;
};

struct grid_control {
    enum grid_control_kind kind;
    const char *model, *digest; /* "" where the kind has none */
    enum node_duty duty;
    const char *const *labels; /* "key=value" */
    size_t n_labels;
    const struct grid_source *sources; /* LOAD: who has it, in no order */
    size_t n_sources;
    const struct grid_split *split; /* LOAD: as stage 0 of this chain; NULL: whole */
};

enum grid_event_type {
    GRID_EVENT_NODE,    /* `node`: what node.h's callback was told */
    GRID_EVENT_REFUSED, /* it never got in: node.status, .message, .retry_after_ms */
    GRID_EVENT_GONE,    /* a SYNC named an attempt that is unknown here; has no number */
    GRID_EVENT_TYPE_COUNT
};

struct grid_event {
    enum grid_event_type type;
    struct node_event node;
};

/* DONE and FAILED, REFUSED and GONE: nothing follows. */
bool grid_event_is_last(const struct grid_event *event);

/* Events first_seq, first_seq + 1, ... of an attempt; the first of all is number 1. GONE comes
 * alone, with first_seq 0. */
struct grid_events {
    uint64_t boot; /* the RUN's or SYNC's: of which process of the gateway it is */
    uint64_t request;
    uint32_t attempt;
    uint64_t first_seq;
    const struct grid_event *v;
    size_t n;
};

enum grid_attempt_state { GRID_WAITING, GRID_RUNNING, GRID_ENDED, GRID_ATTEMPT_STATE_COUNT };

struct grid_beat_entry {
    uint64_t request;
    uint32_t attempt;
    enum grid_attempt_state state; /* ENDED: its last event is yet to be acknowledged */
    uint64_t last_seq;             /* of the latest event; 0: there is none */
};

/* Of all attempts that the gateway has here. */
struct grid_beat {
    uint64_t boot; /* as in grid_events */
    const struct grid_beat_entry *v;
    size_t n;
};

/* --- reports --- */

/* The highest `sent` of that process of that gateway that has arrived here. */
struct grid_covers {
    const char *gateway;
    uint64_t boot;
    uint64_t sent;
};

struct grid_hosted {
    const char *name, *digest;
    struct hosted_load load; /* `model` is not sent */
    uint64_t bytes;          /* of memory: weights, KV cache, buffers */
    double tokens_per_s;     /* generated there now, all streams together */
    double load_fraction;    /* LOADING: 0 to 1 */
    bool pinned;
    const char *last_error;         /* "" when there is none */
    const struct grid_split *split; /* it is the head of this chain; NULL: it is whole */
    const struct grid_hop *hops;    /* [split->n_stages]; NULL: nothing is measured */
};

/* The way to another member, as this one measured it. */
struct grid_peer {
    const char *id;
    double rtt_s;
    double bytes_per_s; /* 0: not known */
};

struct grid_report {
    uint64_t boot, version; /* node_report's */
    const char *name;       /* for people */
    const char *address;    /* host:port of its grid port; "" when it has none */
    const char *program;    /* version text */
    const char *site;       /* "" when not told */
    const char *const *labels;
    size_t n_labels;
    bool drained;            /* duty DRAINING, and nothing runs or waits here any more */
    struct node_facts facts; /* but site, labels and rtt_s, which each gateway makes of the rest */
    uint64_t memory_used_bytes; /* of facts.memory_bytes */
    const struct grid_covers *covers;
    size_t n_covers;
    const struct grid_hosted *hosted;
    size_t n_hosted;
    /* Since the report before. Some of what was held longer is in `held` again each time, so that
     * those who missed a report or have just come learn it too. */
    const uint64_t *held, *dropped;
    size_t n_held, n_dropped;
    const struct grid_peer *peers;
    size_t n_peers;
    const struct telemetry_sample *telemetry; /* at_ns is not sent; NULL: nothing is known */
    const struct grid_stage_hosted *stages;
    size_t n_stages;
    const struct split_machine *machine; /* sched/split.h; NULL: not measured yet */
};

/* What a store has under a name: struct node_model without what changes by the second. */
struct grid_card {
    const char *name, *digest;
    uint64_t bytes;        /* of the files */
    uint64_t memory_bytes; /* it takes when loaded; an estimate until it was */
    const char *format;    /* "gguf", "onnx", "echo" */
    const char *parameters, *system, *processing, *options; /* JSON, text, JSON, JSON; NULL: none */
    const char *family, *parameter_size, *quantization;     /* store_details; "" when unknown */
    uint64_t context_length;                                /* trained for; 0: not known */
    int64_t modified_ms;                                    /* Unix time */
    /* NULL until it was loaded once. chat_template NULL: none. */
    const struct engine_info *info;
    struct chat_traits traits;
    const struct split_model *shape; /* NULL: it cannot be split, or nobody has looked */
};

struct grid_cards {
    uint64_t boot, version; /* grow as a report's; a lower one is old */
    const struct grid_card *v;
    size_t n;
};

/* Every member's agent answers a PING with a PONG: seq and sent_ns as they were, no padding. */
struct grid_ping {
    uint64_t seq;
    int64_t sent_ns;  /* the sender's own clock */
    size_t n_padding; /* bytes that are sent along, to measure bandwidth */
};

/* Requests for a model that wait at the gateway because no node has it ready, or all are full. */
struct grid_demand_entry {
    const char *name, *digest;
    uint32_t n_waiting;
    bool pinned; /* somebody wants it loaded, asked for or not */
    bool splits; /* the gateway looks after its chain: nobody else is to */
};

/* Of all models that are waited for or pinned there; who says this is a gateway. */
struct grid_demand {
    uint64_t boot;
    const struct grid_demand_entry *v;
    size_t n;
};
#define GRID_DEMANDS_MAX 256 /* models; more are told another time */

struct grid_msg {
    enum grid_msg_type type;
    union {
        struct grid_run run;
        struct grid_stop stop;
        struct grid_sync sync;
        struct grid_control control;
        struct grid_events events;
        struct grid_beat beat;
        struct grid_report report;
        struct grid_cards cards;
        struct grid_ping ping; /* PONG too */
        struct grid_demand demand;
    };
};

/* Appends the message. LIMIT: larger than GRID_MSG_BYTES_MAX or than out may grow, or more of
 * something than may be sent; NOMEM. On failure out is as it was. */
SL_CHECK sl_status grid_msg_encode(const struct grid_msg *msg, struct sl_buf *out,
                                   struct sl_err *err);

/* Reads a message into *out, whose pointers lead into the arena: valid until it is reset; not into
 * `bytes`. CORRUPT (unknown type, broken message, a value out of range; err says which), NOMEM,
 * LIMIT (arena). */
SL_CHECK sl_status grid_msg_decode(const void *bytes, size_t n, struct sl_arena *arena,
                                   struct grid_msg *out, struct sl_err *err);

const char *grid_msg_type_name(enum grid_msg_type type); /* "run"; "?" when unknown */

/* --- EVENTS by the piece, for who keeps events until they have arrived --- */

/* Appends one event as it will stand in an EVENTS message; pieces in a row are the events in that
 * order. As grid_msg_encode. */
SL_CHECK sl_status grid_events_put(const struct grid_event *event, struct sl_buf *out,
                                   struct sl_err *err);
/* Appends a whole EVENTS message: v and n of `head` are ignored, the events are `pieces`. */
SL_CHECK sl_status grid_events_wrap(const struct grid_events *head, const void *pieces,
                                    size_t n_pieces, struct sl_buf *out, struct sl_err *err);
