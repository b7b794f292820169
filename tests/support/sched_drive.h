/* sched_drive.h: takes a scheduler through steps under a clock of the test's own, and finds what it
 * answered. Thread: one. */
#pragma once
#include "sched/local.h"

#define DRIVE_MS INT64_C(1000000)
#define DRIVE_S INT64_C(1000000000)

struct drive {
    struct sched *sched;
    int64_t now_ns;
    const struct sched_action *actions; /* of the last step */
    size_t n_actions;
};

/* The defaults, smaller: 8 models, 64 waiting, 32 running, 1,000 bytes of memory. */
struct sched_config drive_config(void);

void drive_begin(struct drive *drive, const struct sched_config *config);
void drive_end(struct drive *drive);

/* Asserts that the step is taken and that it ends in WAKE_AT. */
void drive_step(struct drive *drive, const struct sched_event *event);
void drive_wait(struct drive *drive, int64_t delta_ns); /* and a TICK */

void drive_add(struct drive *drive, uint32_t model, uint64_t bytes, uint32_t n_slots);
void drive_about(struct drive *drive, enum sched_event_kind kind, uint32_t model);
void drive_request(struct drive *drive, enum sched_event_kind kind, uint64_t request);
void drive_arrive(struct drive *drive, uint64_t request, uint32_t model,
                  enum sched_class qos_class);
void drive_arrive_of(struct drive *drive, uint64_t request, uint32_t model, uint64_t tenant);
void drive_up(struct drive *drive, uint32_t model); /* WORKER_STARTED, LOADED as estimated */

/* The first action of that kind about that request (or model, for kinds that have none) in the last
 * step; NULL when there is none. */
const struct sched_action *drive_find(const struct drive *drive, enum sched_action_kind kind,
                                      uint64_t subject);
size_t drive_count(const struct drive *drive, enum sched_action_kind kind);
int64_t drive_wake_ns(const struct drive *drive);
struct sched_model_info drive_model(const struct drive *drive, uint32_t model);
