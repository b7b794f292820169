/* usage_fixture.h: a `struct usage` on state.db in the test's folder, driven without a loop.
 * Thread: the test's, which stands for the loop's. */
#pragma once
#include "access/usage.h"
#include "support/post_box.h"

struct usage_fixture {
    struct post_box *box;
    struct usage *usage;
    struct db *db; /* another connection, to look and to disturb */
    bool turn_asked;
    int n_wanted, n_done, n_failed;
    bool in_order;
};

/* A row handed in; its number counts from 0. */
struct pending {
    struct usage_fixture *fixture;
    int number;
    sl_status status;
};

/* cfg's path, post and loop are set here; at_turn_end too when `with_turns`. */
void usage_fixture_open(struct usage_fixture *f, struct usage_cfg cfg, bool with_turns);
void usage_fixture_close(struct usage_fixture *f);

struct usage_row usage_fixture_row(const char *key_id, int n);

/* usage_done_fn for a struct pending: counts it, and checks that it is its turn. */
void usage_fixture_on_done(void *pending, sl_status status, const struct sl_err *err);

/* Hands in row `number`, whose pending is given. */
void usage_fixture_submit(struct usage_fixture *f, struct pending *pending, int number,
                          const char *key_id);

/* Ends the turns that are asked for, until none is. */
void usage_fixture_end_turn(struct usage_fixture *f);

/* Ends turns and runs posts until n rows are called back. */
void usage_fixture_run(struct usage_fixture *f, int n);

/* usage_fixture_submit, and then usage_fixture_run until it is called back. */
void usage_fixture_store(struct usage_fixture *f, struct pending *pending, int number,
                         const char *key_id);

int64_t usage_fixture_query(struct usage_fixture *f, const char *sql);
