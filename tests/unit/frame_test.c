/* Frames on a byte stream, whole, in pieces and broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/frame.h"

#define PAYLOAD_MAX 1000

static void add_frame(struct sl_buf *out, uint8_t type, const char *payload, size_t n)
{
    size_t mark;
    assert_int_equal(frame_begin(out, type, &mark), SL_OK);
    assert_int_equal(sl_buf_add(out, payload, n), SL_OK);
    assert_int_equal(frame_end(out, mark, PAYLOAD_MAX), SL_OK);
}

static void expect_frame(struct frame_reader *reader, uint8_t type, const char *payload, size_t n)
{
    struct sl_err err;
    struct frame frame;
    bool have;
    assert_int_equal(frame_reader_next(reader, &frame, &have, &err), SL_OK);
    assert_true(have);
    assert_int_equal(frame.type, type);
    assert_int_equal(frame.n_payload, n);
    if (n) assert_memory_equal(frame.payload, payload, n);
}

static void expect_none(struct frame_reader *reader)
{
    struct sl_err err;
    struct frame frame;
    bool have = true;
    assert_int_equal(frame_reader_next(reader, &frame, &have, &err), SL_OK);
    assert_false(have);
}

static void test_layout(void **state)
{
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, 100);
    add_frame(&out, 7, "abc", 3);
    assert_int_equal(out.len, 8);
    assert_memory_equal(out.data, "\0\0\0\4\7abc", 8);
    sl_buf_done(&out);
}

static void test_byte_by_byte(void **state)
{
    struct frame_reader reader;
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, 100);
    frame_reader_init(&reader, PAYLOAD_MAX);
    add_frame(&out, 1, "first", 5);
    size_t first = out.len;
    add_frame(&out, 2, "", 0);
    for (size_t i = 0; i < out.len; i++) {
        expect_none(&reader);
        assert_int_equal(frame_reader_feed(&reader, out.data + i, 1), SL_OK);
        if (i + 1 == first) expect_frame(&reader, 1, "first", 5);
    }
    expect_frame(&reader, 2, "", 0);
    expect_none(&reader);
    frame_reader_done(&reader);
    sl_buf_done(&out);
}

static void test_many_at_once(void **state)
{
    struct frame_reader reader;
    struct sl_buf out;
    (void)state;
    sl_buf_init(&out, 10000);
    frame_reader_init(&reader, PAYLOAD_MAX);
    for (int i = 0; i < 100; i++) add_frame(&out, (uint8_t)i, "xyz", 3);
    assert_int_equal(frame_reader_feed(&reader, out.data, out.len), SL_OK);
    for (int i = 0; i < 100; i++) expect_frame(&reader, (uint8_t)i, "xyz", 3);
    expect_none(&reader);
    frame_reader_done(&reader);
    sl_buf_done(&out);
}

static void expect_broken(const char *bytes, size_t n, sl_status status)
{
    struct frame_reader reader;
    struct sl_err err;
    struct frame frame;
    bool have;
    frame_reader_init(&reader, PAYLOAD_MAX);
    assert_int_equal(frame_reader_feed(&reader, bytes, n), SL_OK);
    assert_int_equal(frame_reader_next(&reader, &frame, &have, &err), status);
    assert_false(have);
    assert_int_equal(frame_reader_feed(&reader, "\0\0\0\1\1", 5), SL_OK);
    assert_int_equal(frame_reader_next(&reader, &frame, &have, &err), SL_CORRUPT);
    frame_reader_done(&reader);
}

static void test_broken(void **state)
{
    (void)state;
    expect_broken("\0\0\0\0", 4, SL_CORRUPT);
    expect_broken("\377\377\377\377", 4, SL_LIMIT);
    expect_broken("\0\0\3\352", 4, SL_LIMIT); /* 1,002: a byte too many */
}

static void test_longest(void **state)
{
    char payload[PAYLOAD_MAX];
    struct frame_reader reader;
    struct sl_buf out;
    size_t mark;
    (void)state;
    memset(payload, 'p', sizeof payload);
    sl_buf_init(&out, 10000);
    frame_reader_init(&reader, PAYLOAD_MAX);
    add_frame(&out, 9, payload, sizeof payload);
    assert_int_equal(frame_reader_feed(&reader, out.data, out.len), SL_OK);
    expect_frame(&reader, 9, payload, sizeof payload);
    size_t before = out.len;
    assert_int_equal(frame_begin(&out, 9, &mark), SL_OK);
    assert_int_equal(sl_buf_add(&out, payload, sizeof payload), SL_OK);
    assert_int_equal(sl_buf_addc(&out, 'x'), SL_OK);
    assert_int_equal(frame_end(&out, mark, PAYLOAD_MAX), SL_LIMIT);
    assert_int_equal(out.len, before);
    frame_reader_done(&reader);
    sl_buf_done(&out);
}

/* The reader holds one frame and one read, whoever sends. */
static void test_reader_is_bounded(void **state)
{
    struct frame_reader reader;
    char *flood = calloc(1, 3 << 20);
    (void)state;
    assert_non_null(flood);
    frame_reader_init(&reader, PAYLOAD_MAX);
    assert_int_equal(frame_reader_feed(&reader, flood, 3 << 20), SL_LIMIT);
    frame_reader_done(&reader);
    free(flood);
}

static void test_writer(void **state)
{
    struct frame_writer writer;
    uint64_t live = sl_mem_live();
    size_t n, total = 0;
    (void)state;
    frame_writer_init(&writer, 1 << 20);
    (void)frame_writer_pending(&writer, &n);
    assert_int_equal(n, 0);
    for (int i = 0; i < 200; i++) {
        char payload[PAYLOAD_MAX];
        memset(payload, i, sizeof payload);
        add_frame(&writer.buf, 1, payload, sizeof payload);
    }
    while (true) {
        const unsigned char *bytes = frame_writer_pending(&writer, &n);
        if (!n) break;
        size_t in_frame = total % (PAYLOAD_MAX + FRAME_HEADER_BYTES);
        if (in_frame >= FRAME_HEADER_BYTES)
            assert_int_equal(bytes[0], total / (PAYLOAD_MAX + FRAME_HEADER_BYTES));
        size_t sent = n < 777 ? n : 777;
        frame_writer_sent(&writer, sent);
        total += sent;
    }
    assert_int_equal(total, 200 * (PAYLOAD_MAX + FRAME_HEADER_BYTES));
    assert_int_equal(writer.buf.len, 0);
    frame_writer_done(&writer);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),       cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_many_at_once), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_longest),      cmocka_unit_test(test_reader_is_bounded),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
