/* grid_msg_int.h: what grid_msg*.c share: a row for each message, and the only way to the code that
 * protoc-c generates of proto/grid.proto.
 * Floor: grid.  Thread: the caller's.  Allocates: scratch of one message. */
#pragma once
#include "exec/wire_int.h"
#include "grid/grid_msg.h"
#include <proto/grid.pb-c.h>

struct grid_codec {
    const char *name; /* NULL: no such type */
    const ProtobufCMessageDescriptor *descriptor;
    /* Builds the generated struct and puts it. */
    void (*encode)(const struct grid_msg *msg, struct wire_sink *sink);
    /* Copies pointers, not what they point to; checks every value. CORRUPT, NOMEM. */
    sl_status (*decode)(const void *message, struct sl_arena *arena, struct grid_msg *out,
                        struct sl_err *err);
};

/* By enum grid_msg_type; each file has the rows of its messages. */
extern const struct grid_codec grid_codec_run, grid_codec_stop, grid_codec_sync,
    grid_codec_control;                                            /* grid_msg_run.c */
extern const struct grid_codec grid_codec_events, grid_codec_beat; /* grid_msg_events.c */
extern const struct grid_codec grid_codec_report;                  /* grid_msg_report.c */
extern const struct grid_codec grid_codec_cards;                   /* grid_msg_cards.c */

extern const struct grid_codec grid_codec_demand; /* grid_msg_demand.c */

/* --- grid_msg_check.c: what a decoder finds out of range is CORRUPT and named --- */

/* A number that stands for an enum value below `end`. */
SL_CHECK sl_status grid_check_enum(const char *what, uint32_t value, uint32_t end,
                                   struct sl_err *err);
SL_CHECK sl_status grid_check_count(const char *what, size_t n, size_t max, struct sl_err *err);
/* A string of fewer than `size` bytes. */
SL_CHECK sl_status grid_check_text(const char *what, const char *text, size_t size,
                                   struct sl_err *err);
SL_CHECK sl_status grid_check_labels(char *const *labels, size_t n, struct sl_err *err);
/* Finite, and not below `min`. */
SL_CHECK sl_status grid_check_numbers(const char *what, const double *v, size_t n, double min,
                                      struct sl_err *err);

/* --- grid_msg_split.c: parts of CONTROL and REPORT; `put` into what the sink's scratch holds
 * (NOMEM, LIMIT), `take` with all checks --- */

SL_CHECK sl_status grid_put_split(const struct grid_split *in, struct sl_arena *scratch,
                                  Starlane__Grid__Split **out);
SL_CHECK sl_status grid_take_split(const Starlane__Grid__Split *m, struct sl_arena *arena,
                                   const struct grid_split **out, struct sl_err *err);
SL_CHECK sl_status grid_put_hops(const struct grid_hosted *in, struct sl_arena *scratch,
                                 Starlane__Grid__Hosted *m);
/* The split, too. */
SL_CHECK sl_status grid_take_hops(const Starlane__Grid__Hosted *m, struct sl_arena *arena,
                                  struct grid_hosted *out, struct sl_err *err);
SL_CHECK sl_status grid_put_stages(const struct grid_report *in, struct sl_arena *scratch,
                                   Starlane__Grid__Report *m);
SL_CHECK sl_status grid_take_stages(const Starlane__Grid__Report *m, struct sl_arena *arena,
                                    struct grid_report *out, struct sl_err *err);
SL_CHECK sl_status grid_put_machine(const struct split_machine *in, struct sl_arena *scratch,
                                    Starlane__Grid__Machine **out);
SL_CHECK sl_status grid_take_machine(const Starlane__Grid__Machine *m, struct sl_arena *arena,
                                     const struct split_machine **out, struct sl_err *err);

/* --- grid_msg_shape.c: part of CARDS, likewise --- */

SL_CHECK sl_status grid_put_shape(const struct split_model *in, struct sl_arena *scratch,
                                  Starlane__Grid__Shape **out);
SL_CHECK sl_status grid_take_shape(const Starlane__Grid__Shape *m, struct sl_arena *arena,
                                   const struct split_model **out, struct sl_err *err);

/* Arrays that generated structs hold without const. */
static inline char **grid_strings(const char *const *v)
{
    union {
        const char *const *in;
        char **out;
    } cast = {.in = v};
    return cast.out;
}

static inline uint64_t *grid_numbers(const uint64_t *v)
{
    union {
        const uint64_t *in;
        uint64_t *out;
    } cast = {.in = v};
    return cast.out;
}

static inline double *grid_doubles(const double *v)
{
    union {
        const double *in;
        double *out;
    } cast = {.in = v};
    return cast.out;
}
