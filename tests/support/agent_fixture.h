/* agent_fixture.h: an agent with a node that has real workers, and a gateway that asks it for
 * things over a bus which may lose, repeat and delay. For tests of the agent. Thread: one.
 * The gateway checks every stream as it comes: no gap, nothing after the end. Random choices come
 * from prop.h's generator; delays are counted in turns of the loop. */
#pragma once
#include "grid/agent.h"
#include "grid/bus.h"
#include "support/node_fixture.h"

#define AGENT_FIXTURE_SELF "nagent"
#define AGENT_FIXTURE_GATEWAY "ngateway"
#define TRIES_MAX 48
#define TRY_TEXT_MAX 4096
#define TRY_TOKENS_MAX 512
#define MAILS_MAX 8192

/* An attempt, seen by the gateway. */
struct
try {
    struct grid_run run; /* request 0: free */
    uint64_t next_seq;
    bool heard, gap, ended, given_up, muted; /* muted: the gateway says and answers nothing */
    int n_gone, n_started, n_choices_done;
    char text[TRY_TEXT_MAX]; /* of all choices in the order of events */
    size_t n_text;
    int32_t tokens[TRY_TOKENS_MAX];
    size_t n_tokens;
    float embedding_sum;
    struct grid_event end; /* its pointers are stale */
    char message[256];
};

struct mail {
    int due; /* turn */
    bool to_agent;
    char *bytes; /* NULL: free */
    size_t n;
};

struct agent_fixture {
    struct node_fixture node;
    struct bus *bus;
    struct agent_cfg cfg;
    struct agent *agent;
    struct bus_subscription *answers, *reports, *pings;
    uint64_t boot; /* of the gateway */
    struct try tries[TRIES_MAX];
    size_t n_tries;
    /* chance of a message, out of 100 */
    unsigned lose, repeat, delay;
    struct mail mails[MAILS_MAX];
    int turn;
    /* of the last report and cards; pointers lead into arenas */
    struct sl_arena report_arena, cards_arena;
    struct grid_report report;
    struct grid_cards cards;
    int n_reports, n_cards, n_beats, n_pongs, n_drained, n_fetches, n_controls;
    struct grid_ping pong;
    struct grid_beat_entry beat; /* the first of the last one */
    char fetched[64];
};

/* All but the agent, whose cfg may be changed before agent_fixture_start. */
void agent_fixture_init(struct agent_fixture *f);
void agent_fixture_start(struct agent_fixture *f);
void agent_fixture_done(struct agent_fixture *f);

/* Sends RUN as the gateway's next request. */
struct try *try_run(struct agent_fixture *f, const struct node_submit *submit);
void try_run_again(struct agent_fixture *f, const struct try *t);
void agent_fixture_send(struct agent_fixture *f, const struct grid_msg *msg); /* on sl.run */

/* One turn of the loop with what the gateway does in it; fails the test after two minutes. */
void agent_turn(struct agent_fixture *f);
void try_finish(struct agent_fixture *f, struct try *t); /* until it ended */
/* The model in the last report; NULL: it is not in there. */
const struct grid_hosted *agent_fixture_hosted(struct agent_fixture *f, const char *name);
