/* http_fuzz.c: any bytes as requests, the first byte saying where they are cut: whole and in two
 * pieces the parser finds the same heads and the same bodies, or refuses for the same reason. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_body.h"

#define BODY_BYTES_MAX 4096
#define REQUESTS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    uint64_t digest; /* of everything that was found, in order */
    size_t used;
    enum http_reject reject;
};

struct reader {
    struct http_parser parser;
    struct http_body body;
    struct outcome outcome;
    size_t head_at;
    bool in_body;
    int n_requests;
};

static void note(struct outcome *o, const void *bytes, size_t n)
{
    const unsigned char *p = bytes; /* FNV-1a: the pieces in which data comes must not show */
    for (size_t i = 0; i < n; i++) o->digest = (o->digest ^ p[i]) * UINT64_C(0x100000001b3);
}

static void note_head(struct reader *r, const char *head)
{
    const struct http_parser *p = &r->parser;
    note(&r->outcome, head + p->target.at, p->target.len);
    for (uint32_t i = 0; i < p->n_fields; i++) {
        note(&r->outcome, head + p->fields[i].name.at, p->fields[i].name.len);
        note(&r->outcome, head + p->fields[i].value.at, p->fields[i].value.len);
    }
    if (p->chunked && p->has_length) abort();
    note(&r->outcome, &p->keep_alive, sizeof p->keep_alive);
}

/* Goes on over bytes[0..n), of which outcome.used were taken before. False when it cannot go on. */
static bool step(struct reader *r, const char *bytes, size_t n)
{
    struct outcome *o = &r->outcome;
    if (r->in_body) {
        const char *found = NULL;
        size_t n_found = 0;
        size_t used = http_body_feed(&r->body, bytes + o->used, n - o->used, &found, &n_found);
        if (used > n - o->used || r->body.n_bytes > BODY_BYTES_MAX) abort();
        note(o, found, n_found);
        o->used += used;
        o->reject = r->body.reject;
        if (r->body.state == HTTP_BODY_DONE) {
            r->in_body = false;
            r->head_at = o->used;
            http_parser_init(&r->parser);
        }
        return !o->reject && (used > 0 || !r->in_body);
    }
    if (r->n_requests == REQUESTS_MAX) return false;
    enum http_parse result = http_parser_feed(&r->parser, bytes + r->head_at, n - r->head_at);
    o->reject = r->parser.reject;
    if (result != HTTP_PARSE_DONE) return false;
    note_head(r, bytes + r->head_at);
    http_body_begin(&r->body, &r->parser, BODY_BYTES_MAX);
    o->used = r->head_at + r->parser.head_bytes;
    r->in_body = true;
    r->n_requests++;
    return true;
}

static void read_up_to(struct reader *r, const char *bytes, size_t n)
{
    while (!r->outcome.reject && step(r, bytes, n)) continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct reader whole, cut;
    if (size == 0) return 0;
    const char *bytes = (const char *)data + 1;
    size_t n = size - 1, at = n * data[0] / 255;
    memset(&whole, 0, sizeof whole);
    memset(&cut, 0, sizeof cut);
    read_up_to(&whole, bytes, n);
    char *piece = malloc(at + 1); /* of its own, so that reading past it is seen */
    if (!piece) return 0;
    memcpy(piece, bytes, at);
    read_up_to(&cut, piece, at);
    free(piece);
    read_up_to(&cut, bytes, n);
    if (whole.outcome.digest != cut.outcome.digest || whole.outcome.used != cut.outcome.used ||
        whole.outcome.reject != cut.outcome.reject) {
        abort();
    }
    return 0;
}
