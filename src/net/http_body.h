/* http_body.h: the framing of a request body: Content-Length or chunks (RFC 9112 section 7.1).
 * Floor: net.  Thread: the caller's.  Allocates: nothing; body bytes are slices of what is fed.
 * Invariant: never yields more than bytes_max bytes; any cutting of the input gives the same body
 * and the same refusal. */
#pragma once
#include "net/http_parser.h"

#define HTTP_CHUNK_EXTENSIONS_MAX 1024 /* of a whole body; nobody we know sends any */
#define HTTP_TRAILER_MAX (8 * 1024)    /* read and ignored */

enum http_body_state {
    HTTP_BODY_LENGTH, /* `left` bytes of Content-Length to come */
    HTTP_BODY_SIZE,   /* in a chunk's size */
    HTTP_BODY_EXTENSION,
    HTTP_BODY_SIZE_LF,
    HTTP_BODY_CHUNK, /* `left` bytes of the chunk to come */
    HTTP_BODY_CHUNK_CR,
    HTTP_BODY_CHUNK_LF,
    HTTP_BODY_TRAILER, /* at the start of a line */
    HTTP_BODY_TRAILER_NAME,
    HTTP_BODY_TRAILER_VALUE,
    HTTP_BODY_TRAILER_LF,
    HTTP_BODY_LAST_LF,
    HTTP_BODY_DONE,
    HTTP_BODY_REJECTED,
};

struct http_body {
    enum http_body_state state;
    enum http_reject reject;
    uint64_t left;
    uint64_t n_bytes; /* of the body, yielded so far */
    uint64_t bytes_max;
    uint32_t n_digits, n_extension, n_trailer;
};

/* As the head says. A Content-Length past bytes_max is REJECTED and no body DONE at once. */
void http_body_begin(struct http_body *body, const struct http_parser *head, uint64_t bytes_max);

/* Takes some of in[0..n) and returns how many, at least 1 while n > 0 and it is neither DONE nor
 * REJECTED. *data and *n_data are the body bytes among them. */
size_t http_body_feed(struct http_body *body, const char *in, size_t n, const char **data,
                      size_t *n_data);
