/* bus_parts_prop.c: messages in parts against a naive model, under random loss and mixing: what
 * comes out is a message that went in, whole, once, and in its sender's order; without loss,
 * everything comes out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/mem.h"
#include "grid/bus_parts.h"
#include "support/prop.h"
#include <stdio.h>
#include <string.h>

#define N_SENDERS 6
#define LENGTH_MAX (5 * BUS_PART_BYTES)

struct sender {
    char subject[16];
    uint64_t message; /* under way, 0: none yet */
    size_t length, n_sent;
    uint32_t index;
    uint64_t received; /* the last message that came out */
    bool lossy;        /* a part of the message under way was lost */
};

static uint8_t content(uint64_t message, size_t at)
{
    return (uint8_t)(message * 31 + at * 7 + (at >> 9));
}

static void begin_message(struct sender *sender)
{
    static uint64_t last;
    sender->message = ++last;
    sender->length = 1 + prop_draw(LENGTH_MAX);
    sender->n_sent = 0;
    sender->index = 0;
    sender->lossy = false;
}

/* The next part, as the bus would send it. */
static size_t cut(struct sender *sender, uint8_t *out)
{
    if (!sender->message || sender->n_sent == sender->length) begin_message(sender);
    size_t rest = sender->length - sender->n_sent;
    size_t n = rest < BUS_PART_BYTES ? rest : BUS_PART_BYTES;
    bus_part_header(out, sender->message, sender->index++, sender->length);
    for (size_t i = 0; i < n; i++)
        out[BUS_PART_HEADER_BYTES + i] = content(sender->message, sender->n_sent + i);
    sender->n_sent += n;
    return BUS_PART_HEADER_BYTES + n;
}

static void check_whole(struct sender *sender, const struct bus_whole *whole)
{
    const uint8_t *bytes = whole->bytes;
    assert_false(sender->lossy);
    assert_int_equal(sender->n_sent, sender->length);
    assert_int_equal(whole->n, sender->length);
    assert_true(sender->message > sender->received);
    sender->received = sender->message;
    for (size_t i = 0; i < whole->n; i++)
        if (bytes[i] != content(sender->message, i)) fail_msg("byte %zu", i);
}

static void run(int loss_percent, int n_steps)
{
    static uint8_t part[BUS_PART_HEADER_BYTES + BUS_PART_BYTES];
    struct sender senders[N_SENDERS] = {0};
    struct bus_parts *parts;
    struct bus_whole whole;
    uint64_t n_lost = 0;
    assert_int_equal(bus_parts_create(BUS_PARTIAL_BYTES_MAX, &parts), SL_OK);
    for (int step = 0; step < n_steps; step++) {
        size_t which = prop_draw(N_SENDERS);
        struct sender *sender = &senders[which];
        snprintf(sender->subject, sizeof sender->subject, "sl.x.%zu", which);
        size_t n = cut(sender, part);
        if (prop_draw(100) < (size_t)loss_percent) {
            sender->lossy = true;
            continue;
        }
        assert_int_equal(bus_parts_take(parts, 1, sender->subject, part, n, step, &whole, &n_lost),
                         SL_OK);
        bool due = !sender->lossy && sender->n_sent == sender->length;
        assert_int_equal(whole.bytes != NULL, due);
        if (whole.bytes) check_whole(sender, &whole);
        sl_free(whole.owned);
    }
    if (!loss_percent) assert_int_equal(n_lost, 0);
    assert_true(bus_parts_count(parts) <= N_SENDERS);
    bus_parts_destroy(parts);
}

static void without_loss_all_arrive(void **state)
{
    (void)state;
    run(0, 600);
}

static void with_loss_only_whole_ones_arrive(void **state)
{
    (void)state;
    run(10, 1200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_loss_all_arrive),
        cmocka_unit_test(with_loss_only_whole_ones_arrive),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
