/* oip_data.h: tensors as JSON writes them: the "data" lists of the protocol's REST face, read
 * straight into typed arrays and written from them, since a tree of values would take fifty times
 * their memory.
 * Source: inference_rest.md, "Tensor Data".
 * Floor: access.  Thread: any.  Allocates: in the caller's arena and buffer.
 *
 * What JSON cannot say: FP16 and BF16 have no form here, only a binary one. NaN and infinities are
 * read as the words NaN, Infinity and -Infinity, which Python's writers make, and written as null,
 * since those words are not JSON. Numbers come out with as many digits as read back the same. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "exec/tensor.h"

/* A list as it stands in the request's text. */
struct oip_data {
    const char *text; /* from '[' */
    size_t n;         /* to ']' */
};

/* Copies a request's JSON into *rest, but with each list inputs[i].data replaced by {"":k}, where
 * lists[k] is where it stood. Text that is no JSON comes through as it is, for a JSON reader to
 * refuse. LIMIT: more than TENSORS_MAX lists; NOMEM. */
SL_CHECK sl_status oip_data_cut(const char *text, size_t n, struct sl_buf *rest,
                                struct oip_data lists[TENSORS_MAX], size_t *out_n,
                                struct sl_err *err);

/* Reads the list, flat or nested as the shape is, into tensor->data; name, type and shape are set.
 * list->text must go on past its end, if only with a NUL. INVALID: the message names the element,
 * counted from 0 in row-major order; LIMIT: the arena's. */
SL_CHECK sl_status oip_data_read(const struct oip_data *list, struct sl_arena *arena,
                                 struct tensor *tensor, struct sl_err *err);

/* Appends the elements as a flat list. INVALID: the type has no such form, or a text is not UTF-8;
 * LIMIT, NOMEM: the buffer's. */
SL_CHECK sl_status oip_data_write(const struct tensor *tensor, struct sl_buf *out,
                                  struct sl_err *err);
