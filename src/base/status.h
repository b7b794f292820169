/* status.h: the one table of outcomes every fallible call returns.
 * Floor: base.  Thread: any.  Allocates: nothing.
 * Invariant: a code, its text, its HTTP status, its gRPC status and whether a retry may help stand
 * in one row. */
#pragma once
#include <stdbool.h>

/* name, text, HTTP status (RFC 9110), gRPC status (grpc/statuscodes), retryable */
/* clang-format off */
#define SL_STATUS_TABLE(X)                                                          \
    X(SL_OK,              "ok",                                      200,  0, false) \
    X(SL_INVALID,         "invalid argument",                        400,  3, false) \
    X(SL_CORRUPT,         "corrupt data",                            400, 15, false) \
    X(SL_UNSUPPORTED,     "not supported",                           501, 12, false) \
    X(SL_NOT_FOUND,       "not found",                               404,  5, false) \
    X(SL_EXISTS,          "already exists",                          409,  6, false) \
    X(SL_UNAUTHENTICATED, "no or bad credentials",                   401, 16, false) \
    X(SL_DENIED,          "not allowed",                             403,  7, false) \
    X(SL_LIMIT,           "over a limit",                            413, 11, false) \
    X(SL_BUSY,            "full, try again later",                   429,  8, true)  \
    X(SL_NOMEM,           "out of memory",                           503,  8, true)  \
    X(SL_TIMEOUT,         "timed out",                               408,  4, true)  \
    X(SL_CANCELLED,       "cancelled",                               499,  1, false) \
    X(SL_UNAVAILABLE,     "not available now",                       503, 14, true)  \
    X(SL_IO,              "input/output error",                      500, 13, true)  \
    X(SL_INTERNAL,        "internal error",                          500, 13, false)

typedef enum sl_status {
#define X(name, text, http, grpc, retry) name,
    SL_STATUS_TABLE(X)
#undef X
    SL_STATUS_COUNT
} sl_status;
/* clang-format on */

#define SL_CHECK __attribute__((warn_unused_result))
#define SL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

const char *sl_status_name(sl_status status); /* "SL_BUSY"; "SL_?" when out of range */
const char *sl_status_text(sl_status status);
int sl_status_http(sl_status status);
int sl_status_grpc(sl_status status);
bool sl_status_retryable(sl_status status);
