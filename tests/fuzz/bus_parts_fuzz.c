/* bus_parts_fuzz.c: any bytes as NATS messages of two senders: nothing is read or written outside
 * of them, and what becomes whole has the length that its parts said. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "grid/bus_parts.h"

#define BYTES_MAX (2 * BUS_MESSAGE_BYTES_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each message is two bytes of length, of which the first bit chooses the sender, and that much. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bus_parts *parts;
    struct bus_whole whole;
    uint64_t n_lost = 0;
    if (bus_parts_create(BYTES_MAX, &parts) != SL_OK) abort();
    for (int64_t now = 0; size >= 2; now++) {
        size_t n = (size_t)(data[0] & 127) << 8 | data[1];
        const char *subject = data[0] & 128 ? "sl.a" : "sl.b";
        data += 2;
        size -= 2;
        if (n > size) n = size;
        sl_status status = bus_parts_take(parts, 1, subject, data, n, now, &whole, &n_lost);
        if (status == SL_OK && whole.bytes && whole.n > BUS_MESSAGE_BYTES_MAX) abort();
        sl_free(whole.owned);
        data += n;
        size -= n;
    }
    if (bus_parts_count(parts) > 2) abort();
    bus_parts_destroy(parts);
    return 0;
}
