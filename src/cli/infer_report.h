/* infer_report.h: a model's outputs as a person or a program reads them: names and scores, boxes,
 * or the tensors themselves.
 * Floor: cli.  Thread: main.  Allocates: the text, in the caller's buffer. */
#pragma once
#include "cli/infer_input.h"

struct infer_report {
    const char *model;
    const struct processing *processing; /* NULL: the tensors themselves */
    const struct tensor_signature *signature;
    const struct tensor *outputs;
    size_t n_outputs;
    const struct infer_inputs *inputs; /* where the image lies */
    int32_t top_k;                     /* 0: as the processing says */
    double score_min;                  /* below 0: as the processing says */
    bool json;
};

/* Appends a table, or with `json` one JSON object. With a detection, and `drawn` not NULL, draws
 * the boxes there: a copy of the image. UNAVAILABLE: the model gave what its processing has no use
 * for; LIMIT, NOMEM. */
SL_CHECK sl_status infer_report_write(const struct infer_report *report, struct image *drawn,
                                      struct sl_buf *out, struct sl_err *err);
