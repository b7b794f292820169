/* http_body.c: data in slices, framing byte by byte. */
#include "net/http_body.h"

#define SIZE_DIGITS_MAX 16 /* 64 bits; more would be zeros in front or an overflow */

static enum http_body_state reject(struct http_body *body, enum http_reject why)
{
    body->reject = why;
    return HTTP_BODY_REJECTED;
}

void http_body_begin(struct http_body *body, const struct http_parser *head, uint64_t bytes_max)
{
    *body = (struct http_body){.bytes_max = bytes_max, .left = head->body_length};
    if (head->chunked) {
        body->state = HTTP_BODY_SIZE;
    } else if (head->body_length > bytes_max) {
        body->state = reject(body, HTTP_REJECT_BODY_LARGE);
    } else {
        body->state = head->body_length ? HTTP_BODY_LENGTH : HTTP_BODY_DONE;
    }
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum http_body_state size_byte(struct http_body *body, char c)
{
    int digit = digit_of(c);
    if (digit >= 0 && body->n_digits < SIZE_DIGITS_MAX) {
        body->left = body->left << 4 | (uint64_t)digit;
        body->n_digits++;
        return HTTP_BODY_SIZE;
    }
    if (body->n_digits > 0 && c == '\r') return HTTP_BODY_SIZE_LF;
    if (body->n_digits > 0 && c == ';') return HTTP_BODY_EXTENSION;
    return reject(body, HTTP_REJECT_CHUNK);
}

static enum http_body_state extension_byte(struct http_body *body, char c)
{
    if (c == '\r') return HTTP_BODY_SIZE_LF;
    bool valid = http_is_field_value(&c, 1) && ++body->n_extension <= HTTP_CHUNK_EXTENSIONS_MAX;
    return valid ? HTTP_BODY_EXTENSION : reject(body, HTTP_REJECT_CHUNK);
}

static enum http_body_state size_end(struct http_body *body, char c)
{
    if (c != '\n') return reject(body, HTTP_REJECT_CHUNK);
    if (body->left > body->bytes_max - body->n_bytes) return reject(body, HTTP_REJECT_BODY_LARGE);
    body->n_digits = 0;
    return body->left ? HTTP_BODY_CHUNK : HTTP_BODY_TRAILER;
}

/* Trailers are checked for their form and forgotten: nothing here acts on one. */
static enum http_body_state trailer_byte(struct http_body *body, char c)
{
    bool in_value = body->state == HTTP_BODY_TRAILER_VALUE;
    if (body->state == HTTP_BODY_TRAILER && c == '\r') return HTTP_BODY_LAST_LF;
    if (in_value && c == '\r') return HTTP_BODY_TRAILER_LF;
    if (++body->n_trailer > HTTP_TRAILER_MAX) return reject(body, HTTP_REJECT_TRAILER);
    if (in_value && http_is_field_value(&c, 1)) return HTTP_BODY_TRAILER_VALUE;
    if (body->state == HTTP_BODY_TRAILER_NAME && c == ':') return HTTP_BODY_TRAILER_VALUE;
    if (!in_value && http_is_token(&c, 1)) return HTTP_BODY_TRAILER_NAME;
    return reject(body, HTTP_REJECT_CHUNK);
}

static enum http_body_state expect(struct http_body *body, char c, char wanted,
                                   enum http_body_state next)
{
    return c == wanted ? next : reject(body, HTTP_REJECT_CHUNK);
}

static enum http_body_state framing_byte(struct http_body *body, char c)
{
    switch (body->state) {
    case HTTP_BODY_SIZE: return size_byte(body, c);
    case HTTP_BODY_EXTENSION: return extension_byte(body, c);
    case HTTP_BODY_SIZE_LF: return size_end(body, c);
    case HTTP_BODY_CHUNK_CR: return expect(body, c, '\r', HTTP_BODY_CHUNK_LF);
    case HTTP_BODY_CHUNK_LF: return expect(body, c, '\n', HTTP_BODY_SIZE);
    case HTTP_BODY_TRAILER_LF: return expect(body, c, '\n', HTTP_BODY_TRAILER);
    case HTTP_BODY_LAST_LF: return expect(body, c, '\n', HTTP_BODY_DONE);
    default: return trailer_byte(body, c);
    }
}

static size_t take_data(struct http_body *body, size_t n)
{
    size_t n_data = n < body->left ? n : (size_t)body->left;
    body->left -= n_data;
    body->n_bytes += n_data;
    if (body->left == 0) {
        body->state = body->state == HTTP_BODY_LENGTH ? HTTP_BODY_DONE : HTTP_BODY_CHUNK_CR;
    }
    return n_data;
}

size_t http_body_feed(struct http_body *body, const char *in, size_t n, const char **data,
                      size_t *n_data)
{
    *n_data = 0;
    for (size_t i = 0; i < n; i++) {
        if (body->state >= HTTP_BODY_DONE) return i;
        if (body->state == HTTP_BODY_LENGTH || body->state == HTTP_BODY_CHUNK) {
            *data = in + i;
            *n_data = take_data(body, n - i);
            return i + *n_data;
        }
        body->state = framing_byte(body, in[i]);
    }
    return n;
}
