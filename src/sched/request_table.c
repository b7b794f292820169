/* request_table.c: see request_table.h. */
#include "sched/request_table.h"
#include "base/mem.h"

#include <assert.h>

static uint32_t *chain_of(const struct request_table *table, uint64_t id)
{
    return &table->chains[mix_u64(id) & (table->n_chains - 1)];
}

sl_status request_table_init(struct request_table *table, uint32_t capacity)
{
    *table = (struct request_table){.capacity = capacity, .n_chains = power_of_two_from(capacity)};
    table->requests = sl_calloc(capacity, sizeof *table->requests);
    table->links = sl_calloc(capacity, sizeof *table->links);
    table->chains = sl_calloc(table->n_chains, sizeof *table->chains);
    if (!table->requests || !table->links || !table->chains) {
        request_table_done(table);
        return SL_NOMEM;
    }
    for (uint32_t i = 0; i < table->n_chains; i++) table->chains[i] = INDEX_NONE;
    for (uint32_t i = 0; i < capacity; i++)
        table->requests[i].chain_next = i + 1 < capacity ? i + 1 : INDEX_NONE;
    return SL_OK;
}

void request_table_done(struct request_table *table)
{
    sl_free(table->requests);
    sl_free(table->links);
    sl_free(table->chains);
    *table = (struct request_table){0};
}

uint32_t request_table_find(const struct request_table *table, uint64_t id)
{
    uint32_t i = *chain_of(table, id);
    while (i != INDEX_NONE && table->requests[i].id != id) i = table->requests[i].chain_next;
    return i;
}

uint32_t request_table_add(struct request_table *table, uint64_t id)
{
    uint32_t index = table->free_head;
    if (index == INDEX_NONE) return INDEX_NONE;
    struct request *request = &table->requests[index];
    table->free_head = request->chain_next;
    uint32_t *chain = chain_of(table, id);
    *request = (struct request){.id = id, .flow = INDEX_NONE, .chain_next = *chain};
    *chain = index;
    table->n_used++;
    return index;
}

void request_table_remove(struct request_table *table, uint32_t index)
{
    struct request *request = &table->requests[index];
    assert(request->state != REQUEST_FREE);
    uint32_t *at = chain_of(table, request->id);
    while (*at != index) at = &table->requests[*at].chain_next;
    *at = request->chain_next;
    *request = (struct request){.chain_next = table->free_head};
    table->free_head = index;
    table->n_used--;
}
