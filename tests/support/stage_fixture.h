/* stage_fixture.h: some members of a grid in one process and on one loop, for tests of the links
 * between stages: a certificate, a grid port on loopback and links each, one registry and one bus
 * (in the process) for all. Thread: one. */
#pragma once
#include "grid/bus.h"
#include "grid/grid_port.h"
#include "grid/registry.h"
#include "grid/stage_link.h"
#include "net/loop.h"
#include "support/temp_dir.h"
#include "support/test_grid.h"

#define STAGE_FIXTURE_MAX 3
#define STAGE_FIXTURE_MS INT64_C(1000000)

struct stage_member {
    struct test_member who;
    char cert[TEMP_PATH_MAX], key[TEMP_PATH_MAX], address[32];
    struct grid_port *port;
    struct stage_links *links;
    bool keeps_to_bus; /* opens no direct links */
};

struct stage_fixture {
    struct loop *loop;
    struct registry *registry;
    struct bus *bus;
    struct test_grid grid;
    char root[TEMP_PATH_MAX];
    struct stage_member members[STAGE_FIXTURE_MAX];
    int64_t end_ns; /* past it a turn fails the test: it waits in vain */
};

/* Everything but the links. temp_dir must be set up. */
void stage_fixture_init(struct stage_fixture *f);
/* Links of all members, whose times are a tenth of the real ones. */
void stage_fixture_start(struct stage_fixture *f);
struct stage_links_cfg stage_fixture_links(struct stage_fixture *f, size_t member);
void stage_fixture_stop(struct stage_fixture *f); /* the links */
void stage_fixture_done(struct stage_fixture *f);

/* The registry's entry of a member changes. */
void stage_fixture_put(struct stage_fixture *f, size_t member, bool removed);
const char *stage_fixture_id(const struct stage_fixture *f, size_t member);

/* One turn of the loop, 5 ms at most; fails the test after a minute. */
void stage_fixture_turn(struct stage_fixture *f);
#define STAGE_FIXTURE_UNTIL(f, condition) \
    while (!(condition)) stage_fixture_turn(f)
