/* request_table.h: the records of all live requests, waiting or running, found by id.
 * Floor: sched.  Thread: one.  Allocates: init only.
 * Invariant: a record's number is stable while the request lives; lookups cost O(1) on average. */
#pragma once
#include "sched/index_list.h"
#include "sched/local.h"

/* WAITING: in the queue, never dispatched.  RETRYING: in the queue again after its worker died.
 * RUNNING: dispatched.  CANCELLING: dispatched and cancelled; answered for good, it only holds its
 * slot until the worker gives it back. */
enum request_state {
    REQUEST_FREE,
    REQUEST_WAITING,
    REQUEST_RETRYING,
    REQUEST_RUNNING,
    REQUEST_CANCELLING
};

struct request {
    uint64_t id, tenant, prompt_bytes;
    int64_t deadline_ns, keep_alive_ns, dispatched_ns;
    uint32_t model;
    enum sched_class qos_class;
    enum request_state state;
    uint32_t n_attempts; /* dispatches so far */
    uint32_t n_strikes;  /* workers that died on it since its last token */
    bool proven;         /* has had a token since it was dispatched */
    bool suspect;        /* one of several that a worker may have died of */
    uint32_t flow;       /* request_queue.c's: the tenant's line it stands in */
    uint32_t chain_next; /* of the hash chain, or of the free records */
};

struct request_table {
    struct request *requests;
    struct index_link *links; /* of the one line a request stands in: a flow, retries, running */
    uint32_t *chains;         /* by hash: the first record, or INDEX_NONE */
    uint32_t n_chains;        /* power of two */
    uint32_t capacity, n_used, free_head;
};

SL_CHECK sl_status request_table_init(struct request_table *table, uint32_t capacity); /* NOMEM */
void request_table_done(struct request_table *table); /* fine for a zeroed one */

uint32_t request_table_find(const struct request_table *table, uint64_t id); /* or INDEX_NONE */

/* A zeroed record for a new id; INDEX_NONE when all are used. The id must not be there yet. */
uint32_t request_table_add(struct request_table *table, uint64_t id);
void request_table_remove(struct request_table *table, uint32_t index);

/* Spreads what a caller counts up over a table: the finaliser of MurmurHash3 (Appleby). */
static inline uint64_t mix_u64(uint64_t x)
{
    x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

/* The least power of two that is at least n (n up to 2^31). */
static inline uint32_t power_of_two_from(uint32_t n)
{
    uint32_t power = 1;
    while (power < n) power *= 2;
    return power;
}
