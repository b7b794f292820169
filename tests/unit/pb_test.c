/* Protocol Buffers field by field: what is written comes back, and no bytes lead a reader
 * astray. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/pb.h"

static void test_what_is_written_comes_back(void **state)
{
    static const uint64_t numbers[] = {0, 1, 127, 128, 1u << 31, UINT64_MAX};
    struct sl_buf buf;
    struct sl_pb_field field;
    (void)state;
    sl_buf_init(&buf, 1000);
    struct sl_pb_writer counter = {0}, writer = {.out = &buf};
    for (size_t i = 0; i < 6; i++) {
        sl_pb_put_varint(&counter, 1 + (uint32_t)i, numbers[i]);
        sl_pb_put_varint(&writer, 1 + (uint32_t)i, numbers[i]);
    }
    sl_pb_put_text(&writer, 536870911, "name"); /* the last number there is */
    sl_pb_put_text(&writer, 7, "");             /* proto3 leaves it out */
    sl_pb_put_double(&writer, 8, 0.5);
    assert_int_equal(writer.status, SL_OK);
    assert_int_equal(writer.n, buf.len);
    struct sl_pb_reader reader = sl_pb_read((const uint8_t *)buf.data, buf.len);
    for (size_t i = 0; i < 6; i++) {
        assert_true(sl_pb_next(&reader, &field));
        assert_int_equal(field.number, 1 + i);
        assert_true(field.value == numbers[i]);
    }
    assert_int_equal(counter.n, (size_t)(reader.at - (const uint8_t *)buf.data));
    assert_true(sl_pb_next(&reader, &field));
    assert_int_equal(field.number, 536870911);
    assert_int_equal(field.n, 4);
    assert_memory_equal(field.bytes, "name", 4);
    assert_true(sl_pb_next(&reader, &field));
    assert_int_equal(field.kind, SL_PB_FIXED64);
    assert_true(field.value == UINT64_C(0x3fe0000000000000)); /* 0.5 */
    assert_false(sl_pb_next(&reader, &field));
    assert_false(reader.bad);
    sl_buf_done(&buf);
}

static void expect_bad(const char *bytes, size_t n)
{
    struct sl_pb_reader reader = sl_pb_read((const uint8_t *)bytes, n);
    struct sl_pb_field field;
    assert_false(sl_pb_next(&reader, &field));
    assert_true(reader.bad);
    assert_true(reader.at <= reader.end);
    assert_false(sl_pb_next(&reader, &field)); /* and it stays so */
}

static void test_broken_messages(void **state)
{
    (void)state;
    expect_bad("\x80", 1);                                              /* half a tag */
    expect_bad("\x00\x01", 2);                                          /* field 0 */
    expect_bad("\x0b", 1);                                              /* a group */
    expect_bad("\x0a\x05xyz", 5);                                       /* longer than there is */
    expect_bad("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);     /* 2^64 - 1 bytes */
    expect_bad("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12); /* a varint of 11 bytes */
    expect_bad("\x0d\x01\x02\x03", 4);                                  /* three of four bytes */
    expect_bad("\x09\x01\x02\x03\x04\x05\x06\x07", 8);
    expect_bad("\xff\xff\xff\xff\x7f\x01", 6); /* a number past the last */
}

static void test_a_full_buffer(void **state)
{
    struct sl_buf buf;
    (void)state;
    sl_buf_init(&buf, 3);
    struct sl_pb_writer writer = {.out = &buf};
    sl_pb_put_text(&writer, 1, "four");
    sl_pb_put_varint(&writer, 2, 1);
    assert_int_equal(writer.status, SL_LIMIT);
    sl_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_comes_back),
        cmocka_unit_test(test_broken_messages),
        cmocka_unit_test(test_a_full_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
