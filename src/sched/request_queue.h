/* request_queue.h: who waits and who goes next.
 * Floor: sched.  Thread: one.  Allocates: init only.
 * Each model has a line per class. Between classes: stride scheduling (Waldspurger and Weihl, 1995)
 * by class_weight, ties to the higher class. Within a class: first those whose worker died, then
 * tenants in turn, one request each, oldest first. Every operation costs O(log n) or less.
 * Bound: let a request be the k-th of its tenant in its line, at most n tenants and r retries be in
 * that line until it is popped. Then it is popped at the latest in the (k * n + r) *
 * request_queue_turn_bound(class)-th pop of its model, whatever other tenants and classes do (pops
 * with fresh_too false, which only follow crashes, are not counted). */
#pragma once
#include "sched/index_heap.h"
#include "sched/request_table.h"

/* The requests of one class that wait for one model. */
struct queue_line {
    struct index_list retries; /* of requests */
    struct index_list flows;   /* the tenants that wait, the next one first */
    uint64_t pass;             /* virtual time of its next pop */
    uint32_t n_waiting;
};

struct queue_model {
    struct queue_line lines[SCHED_CLASS_COUNT];
    uint64_t pass; /* virtual time: of the last pop */
    uint32_t n_waiting;
    int64_t service_ns; /* mean time from dispatch to finish; 0: not known yet */
};

struct queue_flow; /* one tenant's requests in a line */

struct request_queue {
    struct request_table *table; /* not owned */
    struct queue_model *models;
    struct queue_flow *flows; /* a flow lives while it has requests, so there are enough */
    struct index_link *flow_links;
    uint32_t *flow_chains;
    uint32_t n_flow_chains, flow_free;
    struct index_heap deadlines;                 /* WAITING ones that have one */
    struct index_list by_age[SCHED_CLASS_COUNT]; /* WAITING ones of all models, oldest first */
    struct index_link *age_links;
    uint64_t class_bytes[SCHED_CLASS_COUNT]; /* of WAITING ones */
    uint32_t n_fresh[SCHED_CLASS_COUNT];     /* WAITING ones */
    uint32_t n_class[SCHED_CLASS_COUNT];     /* WAITING and RETRYING ones */
    uint32_t n_retries;
    uint64_t strides[SCHED_CLASS_COUNT];
    uint32_t n_waiting_max;
    uint64_t bytes_max;
};

/* NOMEM. The table is borrowed. */
SL_CHECK sl_status request_queue_init(struct request_queue *queue,
                                      const struct sched_config *config,
                                      struct request_table *table);
void request_queue_done(struct request_queue *queue); /* fine for a zeroed one */

uint64_t request_queue_bytes(const struct request_queue *queue);   /* of WAITING ones */
uint32_t request_queue_n_fresh(const struct request_queue *queue); /* WAITING ones */

/* Is there room for one more of that class, if waiting ones of lower classes give way? */
bool request_queue_has_room(const struct request_queue *queue, enum sched_class qos_class,
                            uint64_t prompt_bytes);

/* The next one to give way for it: the youngest WAITING one of the lowest class below. INDEX_NONE
 * when it fits as things are. Call only after request_queue_has_room said yes. */
uint32_t request_queue_displaced(const struct request_queue *queue, enum sched_class qos_class,
                                 uint64_t prompt_bytes);

/* Lines up a request whose fields are set: as WAITING at the end of its tenant's, or, when it was
 * dispatched before, as RETRYING at the head of its class behind earlier such ones. */
void request_queue_push(struct request_queue *queue, uint32_t index);
void request_queue_remove(struct request_queue *queue, uint32_t index);

/* Takes out the model's next one; INDEX_NONE when nobody waits. fresh_too false: only RETRYING
 * ones. */
uint32_t request_queue_pop(struct request_queue *queue, uint32_t model, bool fresh_too);
/* Any one that waits for the model, without taking it out or counting it as served. */
uint32_t request_queue_any(const struct request_queue *queue, uint32_t model);

/* A WAITING one whose deadline is not after now_ns; INDEX_NONE when there is none. */
uint32_t request_queue_expired(const struct request_queue *queue, int64_t now_ns);
int64_t request_queue_next_deadline(const struct request_queue *queue); /* or SCHED_NEVER */

/* A request of the model ran that long: the service time moves 1/8 of the way there. */
void request_queue_note_service(struct request_queue *queue, uint32_t model, int64_t service_ns);
/* When a model with n_slots may have served all that wait for it now, and one more; between
 * SCHED_RETRY_MIN_MS and SCHED_RETRY_MAX_MS. */
uint64_t request_queue_retry_after_ms(const struct request_queue *queue, uint32_t model,
                                      uint32_t n_slots);
#define SCHED_RETRY_MIN_MS 1000   /* Retry-After counts whole seconds */
#define SCHED_RETRY_MAX_MS 300000 /* an estimate beyond five minutes says nothing */

/* The most pops of a model from one pop of a class to its next while it has waiting ones; the
 * second one included. */
uint32_t request_queue_turn_bound(const struct request_queue *queue, enum sched_class qos_class);
