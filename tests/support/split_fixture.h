/* split_fixture.h: members that run models together: on a stage_fixture, each has a store, a node
 * with real workers, and hosts stages for the others. The bundled model is in the first one's store
 * as "star"; the others may have it, or fetch their part. Thread: one. */
#pragma once
#include "grid/stage_host.h"
#include "support/node_fixture.h"
#include "support/stage_fixture.h"

#define SPLIT_MODEL "star:latest"
#define SPLIT_LAYERS 5 /* the bundled model's */

struct blobs;
struct fetch_parts;

struct split_fixture {
    struct stage_fixture grid;
    struct node_fixture machines[STAGE_FIXTURE_MAX]; /* on the grid's loop */
    struct blobs *blobs[STAGE_FIXTURE_MAX];
    struct fetch_parts *parts[STAGE_FIXTURE_MAX];
    struct stage_host *hosts[STAGE_FIXTURE_MAX];
    /* To be set between init and start. */
    bool has_model[STAGE_FIXTURE_MAX]; /* [0] is true */
    bool relayed;                      /* links go over the bus */
};

void split_fixture_init(struct split_fixture *f);
void split_fixture_start(struct split_fixture *f);
void split_fixture_done(struct split_fixture *f);

/* A split over the first n_stages members with these borders, [n_stages + 1]; strings live as long
 * as f, the rest until the next call. */
const struct grid_split *split_over(const struct split_fixture *f, size_t n_stages,
                                    const int32_t *borders);
/* Pins it at the first member; must be OK. */
void split_pin(struct split_fixture *f, const struct grid_split *split);
/* Turns until the first member's model is ready; fails the test with its last error after that. */
void split_wait_ready(struct split_fixture *f);
/* How many stages the member runs for others. */
size_t split_stages_at(const struct split_fixture *f, size_t member);
/* The process of a worker that is not the first member's own; 0: there is none. */
int split_follower_pid(struct split_fixture *f);
