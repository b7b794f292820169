/* node_fixture.h: a node on a loop of its own, with real workers, and what its requests were told.
 * For tests of the node. Thread: one.
 * Every event is checked as it comes: nothing before STARTED, nothing after the end, no choice that
 * ends twice. */
#pragma once
#include "grid/node.h"
#include "grid/store.h"
#include "net/loop.h"
#include <stdbool.h>

#define ASK_CHOICES_MAX 4
#define ASK_TEXT_MAX 4096

struct ask_choice {
    char text[ASK_TEXT_MAX]; /* its beginning: some answers go on until they are cancelled */
    size_t n_text;
    int32_t n_tokens, n_generated;
    bool done;
    enum engine_finish finish;
};

/* One request, seen by its owner. */
struct ask {
    struct node_request *handle; /* NULL once it ended */
    struct ask_choice choices[ASK_CHOICES_MAX];
    int n_events, n_started, n_results;
    bool done, failed, cancelled;
    int32_t n_prompt;
    float embedding[1024];
    int32_t n_embd;
    int32_t tokens[1024];
    size_t n_tokens;
    struct tensor tensor; /* the first of a result, its data in `text` of the first choice */
    size_t n_tensors;
    struct node_event end; /* DONE or FAILED; its pointers are stale */
    char message[512];
    /* to be set after the submit: cancels itself from within the first event of this type */
    bool cancels;
    enum node_event_type cancels_at;
};

struct node_fixture {
    struct loop *loop;
    struct store *store;
    struct node_cfg cfg;
    struct node *node;
    int64_t end_ns; /* past it a turn fails the test: it waits in vain */
};

/* A loop, a store in temp_dir's folder (which must be set up) and a configuration to be changed. */
void node_fixture_init(struct node_fixture *f);
void node_fixture_start(struct node_fixture *f); /* the node */
/* Also after a node that was never started or is destroyed. */
void node_fixture_done(struct node_fixture *f);

/* A greedy generation from a text, unlimited, default class. */
struct node_submit ask_for(const char *model, const char *text);

/* Begins the ask anew and submits. */
sl_status try_ask(struct node_fixture *f, struct ask *ask, const struct node_submit *submit,
                  int64_t *retry_after_ms, struct sl_err *err);
void ask(struct node_fixture *f, struct ask *ask,
         const struct node_submit *submit); /* must be OK */
void ask_cancel(struct ask *ask);

bool ask_ended(const struct ask *ask);
bool ask_has_token(const struct ask *ask); /* of its first choice */

void turn(struct node_fixture
              *f); /* one turn of the loop, 5 ms at most; fails the test after two minutes */
/* Turns until it is true; fails the test when the request ends before. */
void wait_until(struct node_fixture *f, bool (*is)(const struct ask *ask), const struct ask *ask);
void finish(struct node_fixture *f, struct ask *ask); /* to its DONE; fails on FAILED */

/* How the model stands; false: nobody asked for it. Pointers live until the next call. */
bool model_state(struct node_fixture *f, const char *name, struct node_model *out);
int model_pid(struct node_fixture *f, const char *name); /* 0: no worker */
void wait_for_pid(struct node_fixture *f, const char *name,
                  bool on);                                 /* until one is there, or none */
void kill_worker(struct node_fixture *f, const char *name); /* kill -9 */
