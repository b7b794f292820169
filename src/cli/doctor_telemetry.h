/* doctor_telemetry.h: what `starlane doctor` says about telemetry: what is measured here, and why
 * the rest is not.
 * Floor: cli.  Thread: main.  Allocates: nothing that stays. */
#pragma once
#include "base/buf.h"
#include "base/json.h"
#include "grid/telemetry.h"

struct doctor_telemetry {
    bool known; /* false: there was no memory for it */
    struct telemetry_findings findings;
    struct telemetry_sample sample;
};

/* Loads the vendors' libraries, which may take seconds. `home` as in telemetry_cfg. */
void doctor_telemetry_examine(const char *home, struct doctor_telemetry *out);

/* Its part of the page, and of the object that is open: a member "telemetry". */
SL_CHECK sl_status doctor_telemetry_text(const struct doctor_telemetry *found, struct sl_buf *out);
void doctor_telemetry_json(const struct doctor_telemetry *found, struct sl_json *json);
