/* fake_grid.h: a dispatcher among scripted nodes, with a virtual clock and a bus that can lose,
 * delay and duplicate. The nodes speak the messages of grid_msg.h as agents do, and answer each
 * prompt with tokens that follow from it alone, so that whoever answers, and however often it
 * moves, the right answer is known. Thread: one. Random choices come from prop.h's generator. */
#pragma once
#include "grid/dispatch.h"

#define FAKE_NODES_MAX 6
#define FAKE_ATTEMPTS_MAX 64 /* at one node */
#define FAKE_EVENTS_MAX 160  /* of one attempt */
#define FAKE_MESSAGES_MAX 4096
#define FAKE_CHOICES_MAX 2
#define FAKE_LENGTH_MAX 20 /* tokens of a choice */
#define FAKE_MODEL "parrot:latest"
#define FAKE_LAYERS 20
#define FAKE_LAYER_BYTES UINT64_C(50000000)
#define FAKE_LODGER "lodger:latest"

struct fake_attempt {
    bool used, ended;
    uint64_t request, boot;
    uint32_t attempt;
    uint64_t prompt; /* hash of its text */
    enum node_task task;
    int32_t n_choices;
    int32_t n_done[FAKE_CHOICES_MAX];
    bool choice_done[FAKE_CHOICES_MAX];
    struct grid_event events[FAKE_EVENTS_MAX];
    size_t n_events, n_trimmed;
    int64_t next_ns;
};

struct fake_node {
    char id[GRID_ID_SIZE];
    bool alive, cut, hosts, has_file;
    bool is_self; /* on the gateway's machine: nothing between them is lost */
    uint64_t boot, version, sent;
    uint64_t memory_bytes;
    uint64_t lodger_bytes; /* that another model, FAKE_LODGER, has of them; 0: it is not loaded */
    bool lodger_busy;      /* one request for it runs, all the time */
    uint32_t n_slots, n_queue;
    int64_t token_ns, delay_ns;           /* a token each; one way */
    int64_t report_ns, beat_ns, ready_ns; /* ready_ns > 0: loads until then */
    uint32_t refuse_percent;
    sl_status fail_status; /* every attempt fails so after its first token; SL_OK: none does */
    bool fails_to_load;
    const char *digest;
    struct fake_attempt attempts[FAKE_ATTEMPTS_MAX];
    uint32_t n_runs, n_loads, n_unloads; /* ever */
    /* Stage 0 of this chain; NULL: whole. While it loads or one of its members is dead it serves
     * nobody. */
    struct grid_split *chain;
    bool chain_broken;
    struct split_machine machine; /* told when a speed in it is not 0 */
    double slow;                  /* its stages compute so much longer than foretold; 0: as is */
    double rtt_s;                 /* to all others; 0: not told */
    int64_t last_to_ns, last_from_ns; /* arrival of the last message: they keep their order */
};

struct fake_message {
    int64_t at_ns;
    uint64_t order;
    uint32_t node;
    bool to_node;
    char subject[64];
    char *bytes;
    size_t n;
};

struct fake_grid {
    struct dispatch *dispatch;
    struct dispatch_cfg cfg;
    int64_t now_ns, wake_ns;
    uint64_t connection, n_connections;
    uint32_t n_nodes;
    struct fake_node nodes[FAKE_NODES_MAX];
    struct fake_message messages[FAKE_MESSAGES_MAX]; /* a heap by at_ns, order */
    uint32_t n_messages;
    uint64_t n_posted;
    uint32_t loss_percent, twice_percent;
    uint64_t n_lost;
    const struct split_model *shape; /* on the cards; NULL: it cannot be split */
    double stage_s;                  /* that each stage's head measures of it, times `slow` */
    /* One allocation of the dispatcher fails, in its call number poor / 5 from now: the one with
     * number poor % 5; 0: none. The nodes always have memory. */
    uint64_t poor, n_calls;
};

/* What an owner was told of a request, checked as it comes. */
struct fake_client {
    struct fake_grid *grid;
    struct dispatch_request *request;
    char text[64];
    enum node_task task;
    enum sched_class qos;
    int32_t n_choices;
    int32_t n_tokens[FAKE_CHOICES_MAX];
    bool choice_done[FAKE_CHOICES_MAX];
    bool started, result, ended, cancelled;
    int32_t cancel_after;   /* tokens, from within on_event; < 0: never */
    int64_t retry_after_ms; /* fake_submit's */
    struct node_event end;
    char message[256];
};

struct dispatch_world fake_world(struct fake_grid *grid);

/* Nodes n0, n1, ... with the model in memory; the dispatcher is on n0. */
void fake_grid_begin(struct fake_grid *grid, uint32_t n_nodes);
void fake_grid_create(struct fake_grid *grid); /* the dispatcher, once the nodes are as wanted */
void fake_grid_end(struct fake_grid *grid);
/* The model's cards say how it can be split: FAKE_LAYERS alike, of FAKE_LAYER_BYTES. */
void fake_grid_splits(struct fake_grid *grid);
void fake_grid_run(struct fake_grid *grid, int64_t for_ns);
/* Until it has ended; false: not within that time. */
bool fake_grid_run_until_ended(struct fake_grid *grid, const struct fake_client *client,
                               int64_t at_most_ns);

/* The head of the chain that is there; NULL: there is none. */
struct fake_node *fake_chain_head(struct fake_grid *grid);

void fake_node_die(struct fake_node *node);
void fake_node_start(struct fake_grid *grid, struct fake_node *node);

/* Submits and checks. */
sl_status fake_submit(struct fake_grid *grid, struct fake_client *client, struct sl_err *err);
void fake_client_init(struct fake_client *client, const char *text);
void fake_client_check(const struct fake_client *client); /* its answer is whole and right */

uint64_t fake_prompt(const char *text);
int32_t fake_length(uint64_t prompt, int32_t choice);
