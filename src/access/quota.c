/* quota.c: two token buckets and a count. */
#include "access/quota.h"

#include <assert.h>
#include <stdio.h>

#define PER_UNIT 60000 /* a level is in 1/60,000: per_min of these come each millisecond */

static int64_t clamp(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

static int64_t size_of(const struct quota_bucket *bucket)
{
    return bucket->per_min * PER_UNIT;
}

static void bucket_init(struct quota_bucket *bucket, int64_t per_min, int64_t now_ms)
{
    bucket->per_min = clamp(per_min, 0, QUOTA_RATE_MAX);
    bucket->level = size_of(bucket);
    bucket->filled_ms = now_ms;
}

/* How long until the level is `wanted`, from now, rounded up. */
static int64_t wait_ms(const struct quota_bucket *bucket, int64_t wanted)
{
    if (bucket->level >= wanted) return 0;
    return (wanted - bucket->level + bucket->per_min - 1) / bucket->per_min;
}

static void bucket_fill(struct quota_bucket *bucket, int64_t now_ms)
{
    if (bucket->per_min == 0 || now_ms <= bucket->filled_ms) return;
    int64_t elapsed_ms = now_ms - bucket->filled_ms;
    /* Asked first, so that the product cannot overflow. */
    if (elapsed_ms >= wait_ms(bucket, size_of(bucket)))
        bucket->level = size_of(bucket);
    else
        bucket->level += elapsed_ms * bucket->per_min;
    bucket->filled_ms = now_ms;
}

static void bucket_take(struct quota_bucket *bucket, int64_t n)
{
    if (bucket->per_min == 0) return;
    bucket->level =
        clamp(bucket->level - n * PER_UNIT, -QUOTA_DEBT_MAX * PER_UNIT, size_of(bucket));
}

/* Until n can be taken: no more than a full bucket is waited for. */
static int64_t bucket_wait_ms(const struct quota_bucket *bucket, int64_t n)
{
    if (bucket->per_min == 0) return 0;
    int64_t wanted = n * PER_UNIT, size = size_of(bucket);
    return wait_ms(bucket, wanted < size ? wanted : size);
}

static void bucket_set(struct quota_bucket *bucket, int64_t per_min, int64_t now_ms)
{
    bucket_fill(bucket, now_ms);
    if (bucket->per_min == 0) {
        bucket_init(bucket, per_min, now_ms);
        return;
    }
    int64_t used = size_of(bucket) - bucket->level;
    bucket->per_min = clamp(per_min, 0, QUOTA_RATE_MAX);
    bucket->level = size_of(bucket) - used;
    bucket_take(bucket, 0); /* a smaller bucket must not make the debt larger than the largest */
}

const char *quota_limit_name(enum quota_limit limit)
{
    switch (limit) {
    case QUOTA_REQUESTS: return "requests per minute";
    case QUOTA_TOKENS: return "tokens per minute";
    case QUOTA_CONCURRENCY: return "requests at once";
    case QUOTA_NONE: break;
    }
    return "none";
}

void quota_init(struct quota *quota, const struct quota_limits *limits, int64_t now_ms)
{
    bucket_init(&quota->requests, limits->requests_per_min, now_ms);
    bucket_init(&quota->tokens, limits->tokens_per_min, now_ms);
    quota->concurrency = limits->concurrency;
    quota->n_running = 0;
}

void quota_set_limits(struct quota *quota, const struct quota_limits *limits, int64_t now_ms)
{
    bucket_set(&quota->requests, limits->requests_per_min, now_ms);
    bucket_set(&quota->tokens, limits->tokens_per_min, now_ms);
    quota->concurrency = limits->concurrency;
}

static void consider(struct quota_refusal *refusal, enum quota_limit limit, int64_t wait)
{
    if (wait <= refusal->retry_after_ms) return;
    refusal->limit = limit;
    refusal->retry_after_ms = wait;
}

sl_status quota_admit(struct quota *quota, int64_t now_ms, int64_t n_tokens,
                      struct quota_refusal *refusal)
{
    struct quota_refusal found = {.limit = QUOTA_NONE};
    n_tokens = clamp(n_tokens, 0, QUOTA_TOKENS_MAX);
    bucket_fill(&quota->requests, now_ms);
    bucket_fill(&quota->tokens, now_ms);
    if (quota->concurrency > 0 && quota->n_running >= quota->concurrency)
        consider(&found, QUOTA_CONCURRENCY, QUOTA_CONCURRENCY_RETRY_MS);
    consider(&found, QUOTA_REQUESTS, bucket_wait_ms(&quota->requests, 1));
    consider(&found, QUOTA_TOKENS, bucket_wait_ms(&quota->tokens, n_tokens));
    if (refusal) *refusal = found;
    if (found.limit != QUOTA_NONE) return SL_BUSY;
    bucket_take(&quota->requests, 1);
    bucket_take(&quota->tokens, n_tokens);
    quota->n_running++;
    return SL_OK;
}

void quota_release(struct quota *quota, int64_t now_ms, int64_t n_reserved, int64_t n_used)
{
    n_reserved = clamp(n_reserved, 0, QUOTA_TOKENS_MAX);
    n_used = clamp(n_used, 0, QUOTA_TOKENS_MAX);
    bucket_fill(&quota->tokens, now_ms);
    bucket_take(&quota->tokens, n_used - n_reserved);
    assert(quota->n_running > 0);
    quota->n_running--;
}

static struct quota_gauge gauge_of(struct quota_bucket *bucket, int64_t now_ms)
{
    bucket_fill(bucket, now_ms);
    if (bucket->per_min == 0) return (struct quota_gauge){0};
    return (struct quota_gauge){
        .limit = bucket->per_min,
        .remaining = bucket->level > 0 ? bucket->level / PER_UNIT : 0,
        .reset_ms = wait_ms(bucket, size_of(bucket)),
    };
}

void quota_view(struct quota *quota, int64_t now_ms, struct quota_view *out)
{
    out->requests = gauge_of(&quota->requests, now_ms);
    out->tokens = gauge_of(&quota->tokens, now_ms);
}

const char *quota_time_text(int64_t ms, char out[QUOTA_TIME_TEXT_MAX])
{
    long long seconds = (long long)ms / 1000, fraction = (long long)ms % 1000;
    char tail[8] = "";
    if (ms < 1000) {
        snprintf(out, QUOTA_TIME_TEXT_MAX, "%lldms", fraction);
        return out;
    }
    if (fraction) {
        int n = snprintf(tail, sizeof tail, ".%03d", (int)fraction);
        while (tail[n - 1] == '0') tail[--n] = '\0';
    }
    if (seconds < 60)
        snprintf(out, QUOTA_TIME_TEXT_MAX, "%lld%ss", seconds, tail);
    else if (seconds < 3600)
        snprintf(out, QUOTA_TIME_TEXT_MAX, "%lldm%lld%ss", seconds / 60, seconds % 60, tail);
    else
        snprintf(out, QUOTA_TIME_TEXT_MAX, "%lldh%lldm%lld%ss", seconds / 3600, seconds / 60 % 60,
                 seconds % 60, tail);
    return out;
}
