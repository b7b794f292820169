/* processing_fields.h: the table of processing.h: one row a field of the JSON object.
 * Floor: exec/vision.  Thread: any. */
#pragma once
#include "exec/vision/processing.h"

enum processing_type {
    FIELD_ENUM,    /* unsigned, one of `choices` */
    FIELD_INT,     /* int32_t within [min, max] */
    FIELD_NUM,     /* double within [min, max] */
    FIELD_FLOAT,   /* float within [min, max] */
    FIELD_BOOL,    /* bool */
    FIELD_STR,     /* const char *, NULL when absent */
    FIELD_NUMS3,   /* double[3], each within [min, max]; one number stands for all three */
    FIELD_LEVELS3, /* uint8_t[3] */
    FIELD_STRIDES  /* int32_t[DETECT_STRIDES_MAX], and how many */
};

struct processing_choice {
    const char *name; /* NULL ends the list */
    unsigned value;
};

/* Which outputs a field belongs to. */
#define FIELD_ALWAYS (~0u)
#define FIELD_OF(output) (1u << (output))

struct processing_field {
    const char *section, *name; /* "input", "width" */
    enum processing_type type;
    size_t offset; /* in struct processing */
    unsigned outputs;
    double min, max;
    const struct processing_choice *choices;
};

extern const struct processing_field processing_fields[];
extern const size_t processing_n_fields;
