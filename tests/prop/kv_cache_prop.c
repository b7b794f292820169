/* Random life of many sequences against the cache's invariants, and against a naive memory of
 * what each slot holds: a slot that a sequence reads must hold that sequence's token, whatever
 * others did meanwhile. */
#include "base/mem.h"
#include "exec/llm/kv_cache.h"
#include "support/prop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define B KV_BLOCK_TOKENS
#define N_BLOCKS 24
#define N_SEQS 6
#define N_ROUNDS 30000
#define LEN_MAX (8 * B)

struct model { /* a sequence and the tokens it must find */
    struct kv_seq seq;
    int32_t tokens[LEN_MAX + 1];
    int32_t n;
    bool live;
};

static int32_t slots[N_BLOCKS * B]; /* what was written where */
static struct model models[N_SEQS];

static void apply_copy(const struct kv_copy *copy)
{
    if (copy->src_block < 0) return;
    for (int i = 0; i < B; i++) slots[copy->dst_block * B + i] = slots[copy->src_block * B + i];
}

static void begin(struct kv_cache *kv, struct model *m)
{
    struct sl_err err = SL_ERR_INIT;
    int32_t n_cached;
    m->n = (int32_t)prop_draw(LEN_MAX / 2) + 1;
    /* much in common */
    for (int32_t i = 0; i < m->n; i++)
        m->tokens[i] = (int32_t)prop_draw(8) ? i : (int32_t)prop_draw(3);
    assert_int_equal(kv_seq_match(kv, &m->seq, m->tokens, m->n, &n_cached, &err), SL_OK);
    assert_true(n_cached < m->n);
    m->live = true;
}

static void extend(struct kv_cache *kv, struct model *m)
{
    struct sl_err err = SL_ERR_INIT;
    struct kv_copy copy;
    int32_t left = m->n - m->seq.n_tokens, n = left > 0 ? (int32_t)prop_draw((size_t)left) + 1 : 1;
    if (left <= 0 && m->n == LEN_MAX) return;
    if (left <= 0) m->tokens[m->n++] = (int32_t)prop_draw(5);
    if (kv_seq_reserve(kv, &m->seq, n, &copy, &err) != SL_OK) {
        assert_int_equal(err.status, SL_BUSY);
        return;
    }
    apply_copy(&copy);
    for (int32_t i = 0; i < n; i++) {
        int32_t pos = m->seq.n_tokens + i;
        slots[m->seq.blocks[pos / B] * B + pos % B] = m->tokens[pos];
    }
    kv_seq_commit(kv, &m->seq, m->tokens + m->seq.n_tokens, n);
}

static void fork_from(struct kv_cache *kv, const struct model *src, struct model *dst)
{
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(kv_seq_fork(kv, &src->seq, &dst->seq, &err), SL_OK);
    for (int32_t i = 0; i < src->n; i++) dst->tokens[i] = src->tokens[i];
    dst->n = src->seq.n_tokens > 0 ? src->seq.n_tokens : src->n;
    dst->live = true;
}

static void check(const struct kv_cache *kv)
{
    const struct kv_seq *seqs[N_SEQS];
    for (int s = 0; s < N_SEQS; s++) {
        seqs[s] = &models[s].seq;
        for (int32_t i = 0; i < models[s].seq.n_tokens; i++)
            assert_int_equal(slots[models[s].seq.blocks[i / B] * B + i % B], models[s].tokens[i]);
    }
    assert_true(kv_check(kv, seqs, N_SEQS));
}

static void test_no_sequence_sees_anothers_tokens(void **state)
{
    (void)state;
    uint64_t live = sl_mem_live();
    struct kv_cache *kv = NULL;
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(kv_create(N_BLOCKS, true, &kv, &err), SL_OK);
    for (int round = 0; round < N_ROUNDS; round++) {
        struct model *m = &models[prop_draw(N_SEQS)], *other = &models[prop_draw(N_SEQS)];
        size_t what = prop_draw(20);
        if (!m->live && what < 15)
            begin(kv, m);
        else if (!m->live && other->live)
            fork_from(kv, other, m);
        else if (m->live && what < 17)
            extend(kv, m);
        else if (m->live) {
            kv_seq_release(kv, &m->seq);
            m->live = false;
        }
        check(kv);
    }
    for (int s = 0; s < N_SEQS; s++) kv_seq_release(kv, &models[s].seq);
    kv_destroy(kv);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_sequence_sees_anothers_tokens)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
