/* quota.h: what one API key may use: requests a minute, tokens a minute, requests at once.
 * Floor: access.  Thread: the caller's.  Allocates: nothing; pure: time is an argument.
 * Two token buckets (ITU-T I.371's leaky bucket as a meter): each holds one minute's worth, starts
 * full and fills evenly, so a minute after a burst all of it is there again. Whole numbers of
 * 1/60,000 request or token, so nothing is lost to rounding.
 * A request takes one from the first bucket and its prompt's tokens from the second when it is
 * admitted; what it used in truth is settled when it ends. That may leave the second bucket below
 * zero: a debt, which later requests wait for. A prompt larger than the whole bucket is admitted
 * when the bucket is full, for else it never would be.
 * Invariant: n_running equals the admissions not yet released; no bucket is above its size. */
#pragma once
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUOTA_RATE_MAX 1000000000       /* a minute; keeps the arithmetic within int64_t */
#define QUOTA_TOKENS_MAX 1000000000     /* of one request; more is counted as this much */
#define QUOTA_DEBT_MAX 1000000000000    /* tokens; beyond it debts are forgiven */
#define QUOTA_CONCURRENCY_RETRY_MS 1000 /* nobody knows when a running request ends */

struct quota_limits {
    int64_t requests_per_min; /* 0: no limit, in each of the three; at most QUOTA_RATE_MAX */
    int64_t tokens_per_min;
    int64_t concurrency;
};

enum quota_limit { QUOTA_NONE, QUOTA_REQUESTS, QUOTA_TOKENS, QUOTA_CONCURRENCY };
const char *quota_limit_name(enum quota_limit limit); /* "requests per minute"; for messages */

struct quota_bucket {
    int64_t per_min; /* 0: no limit */
    int64_t level;   /* in 1/60,000; below zero: a debt */
    int64_t filled_ms;
};

struct quota {
    struct quota_bucket requests, tokens;
    int64_t concurrency;
    int64_t n_running;
};

struct quota_refusal {
    enum quota_limit limit; /* the one to wait for longest */
    int64_t retry_after_ms; /* at least 1 */
};

/* Times are milliseconds of any clock that does not go back (going back counts as standing still).
 * Limits out of range are taken as the nearest end of it. */
void quota_init(struct quota *quota, const struct quota_limits *limits, int64_t now_ms);

/* New limits: what was used stays used, and a debt stays. */
void quota_set_limits(struct quota *quota, const struct quota_limits *limits, int64_t now_ms);

/* Asks to start a request of about `n_tokens` tokens. OK: it counts as running and must be given to
 * quota_release exactly once. BUSY: nothing has changed, *refusal says why (NULL is fine). */
SL_CHECK sl_status quota_admit(struct quota *quota, int64_t now_ms, int64_t n_tokens,
                               struct quota_refusal *refusal);

/* The request is over. `n_reserved` is what quota_admit was given; `n_used` the real count of
 * prompt and completion (0 when nothing was computed). */
void quota_release(struct quota *quota, int64_t now_ms, int64_t n_reserved, int64_t n_used);

/* For the response headers x-ratelimit-{limit,remaining,reset}-{requests,tokens}
 * (https://platform.openai.com/docs/guides/rate-limits). A limit of 0: no such headers. */
struct quota_gauge {
    int64_t limit, remaining; /* remaining: at least 0 */
    int64_t reset_ms;         /* until the bucket is full */
};
struct quota_view {
    struct quota_gauge requests, tokens;
};
void quota_view(struct quota *quota, int64_t now_ms, struct quota_view *out);

/* A time as those headers have it: "12ms", "1.5s", "6m0s". Returns out. */
#define QUOTA_TIME_TEXT_MAX 32
const char *quota_time_text(int64_t ms, char out[QUOTA_TIME_TEXT_MAX]);
