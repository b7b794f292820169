/* netlab_control_fuzz.c: any bytes as a line to the laboratory's switch: one line comes back, and
 * no link has a setting outside the limits. */
#include "netlab/control.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fabric *make_fabric(void)
{
    struct fabric *fabric = NULL;
    if (fabric_create(1, &fabric) != SL_OK || fabric_add_port(fabric, "a", 0, NULL) != SL_OK ||
        fabric_add_port(fabric, "b", 0, NULL) != SL_OK)
        abort();
    return fabric;
}

static void check_link(const struct link_settings *settings)
{
    if (settings->delay_ns < 0 || settings->delay_ns > CONTROL_DELAY_NS_MAX) abort();
    if (settings->jitter_ns < 0 || settings->jitter_ns > CONTROL_DELAY_NS_MAX) abort();
    if (!(settings->loss >= 0 && settings->loss <= 1)) abort();
    if (settings->rate_bps < 0 || settings->rate_bps > CONTROL_RATE_BPS_MAX) abort();
    if (settings->queue_bytes < 0 || settings->queue_bytes > CONTROL_QUEUE_BYTES_MAX) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fabric *fabric = make_fabric();
    struct sl_buf out;
    sl_buf_init(&out, CONTROL_ANSWER_MAX);
    if (control_answer(fabric, (const char *)data, size, &out) != SL_OK) abort();
    if (strchr(out.data, '\n') != out.data + out.len - 1) abort();
    check_link(&fabric_link(fabric, 0, 1)->settings);
    check_link(&fabric_link(fabric, 1, 0)->settings);
    sl_buf_done(&out);
    fabric_destroy(fabric);
    return 0;
}
