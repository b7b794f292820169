/* The bytes of gRPC: frames cut anywhere, deadlines, status messages, the protobuf reader and
 * writer, and what reflection tells. */
#include "access/grpc_frame.h"
#include "access/grpc_reflection.h"
#include "base/pb.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MESSAGE_MAX 1000

/* --- frames --- */

static void put_frame(struct sl_buf *out, const char *message)
{
    size_t mark;
    assert_int_equal(grpc_frame_begin(out, &mark), SL_OK);
    assert_int_equal(sl_buf_adds(out, message), SL_OK);
    assert_int_equal(grpc_frame_end(out, mark), SL_OK);
}

/* All messages of bytes[0..n), each followed by a bar. */
static void read_all(struct grpc_reader *reader, const uint8_t *bytes, size_t n, struct sl_buf *out)
{
    struct sl_err err = SL_ERR_INIT;
    const uint8_t *message;
    size_t n_message;
    for (;;) {
        assert_int_equal(grpc_reader_next(reader, &bytes, &n, &message, &n_message, &err), SL_OK);
        if (!message) break;
        assert_int_equal(sl_buf_add(out, message, n_message), SL_OK);
        assert_int_equal(sl_buf_addc(out, '|'), SL_OK);
    }
    assert_int_equal(n, 0);
}

static void frame_is_flag_and_big_endian_length(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, MESSAGE_MAX);
    put_frame(&out, "abc");
    assert_int_equal(out.len, 8);
    assert_memory_equal(out.data, "\0\0\0\0\3abc", 8);
    sl_buf_done(&out);
}

static void messages_come_whole_however_they_are_cut(void **state)
{
    (void)state;
    struct sl_buf in, got;
    sl_buf_init(&in, MESSAGE_MAX);
    put_frame(&in, "first");
    put_frame(&in, "");
    put_frame(&in, "the third one");
    for (size_t cut = 1; cut <= in.len; cut++) {
        struct grpc_reader reader;
        grpc_reader_init(&reader, MESSAGE_MAX);
        sl_buf_init(&got, MESSAGE_MAX);
        for (size_t at = 0; at < in.len; at += cut)
            read_all(&reader, (const uint8_t *)in.data + at, in.len - at < cut ? in.len - at : cut,
                     &got);
        assert_string_equal(got.data, "first||the third one|");
        assert_false(grpc_reader_is_amid(&reader));
        grpc_reader_done(&reader);
        sl_buf_done(&got);
    }
    sl_buf_done(&in);
}

static void a_whole_message_is_not_copied(void **state)
{
    (void)state;
    static const uint8_t frame[] = {0, 0, 0, 0, 2, 'h', 'i'};
    struct grpc_reader reader;
    struct sl_err err = SL_ERR_INIT;
    const uint8_t *bytes = frame, *message;
    size_t n = sizeof frame, n_message;
    grpc_reader_init(&reader, MESSAGE_MAX);
    assert_int_equal(grpc_reader_next(&reader, &bytes, &n, &message, &n_message, &err), SL_OK);
    assert_ptr_equal(message, frame + 5);
    assert_int_equal(n_message, 2);
    grpc_reader_done(&reader);
}

static sl_status read_bad(const uint8_t *frame, size_t n, struct sl_err *err)
{
    struct grpc_reader reader;
    const uint8_t *message;
    size_t n_message;
    grpc_reader_init(&reader, MESSAGE_MAX);
    sl_status status = grpc_reader_next(&reader, &frame, &n, &message, &n_message, err);
    assert_null(message);
    grpc_reader_done(&reader);
    return status;
}

static void bad_frames_are_refused_at_their_prefix(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    static const uint8_t compressed[] = {1, 0, 0, 0, 1}, odd[] = {7, 0, 0, 0, 1};
    static const uint8_t large[] = {0, 0, 0, 3, 233}, fits[] = {0, 0, 0, 3, 232};
    assert_int_equal(read_bad(compressed, 5, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.text, "identity"));
    assert_int_equal(read_bad(odd, 5, &err), SL_INVALID);
    assert_int_equal(read_bad(large, 5, &err), SL_LIMIT);
    assert_string_equal(err.text, "a message of 1001 bytes is over the limit of 1000");
    assert_int_equal(read_bad(fits, 5, &err), SL_OK);
}

static void part_of_a_message_is_known(void **state)
{
    (void)state;
    struct grpc_reader reader;
    struct sl_buf got;
    grpc_reader_init(&reader, MESSAGE_MAX);
    sl_buf_init(&got, MESSAGE_MAX);
    read_all(&reader, (const uint8_t *)"\0\0", 2, &got);
    assert_true(grpc_reader_is_amid(&reader));
    assert_int_equal(got.len, 0);
    grpc_reader_done(&reader);
    sl_buf_done(&got);
}

static void a_reader_without_memory_says_so(void **state)
{
    (void)state;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    static const uint8_t part[] = {0, 0, 0, 0, 9, 'x'};
    sl_mem_fail_at(1, false);
    assert_int_equal(read_bad(part, sizeof part, &err), SL_NOMEM);
    sl_mem_fail_at(0, false);
    assert_int_equal(sl_mem_live(), live);
}

/* --- text --- */

static void timeouts_are_read_as_the_protocol_has_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"1H", INT64_C(3600000000000)},
                {"2M", INT64_C(120000000000)},
                {"3S", INT64_C(3000000000)},
                {"100m", 100000000},
                {"7u", 7000},
                {"99999999n", 99999999},
                {"99999999H", INT64_C(31622400000000000)}}; /* cut to a year */
    static const char *const bad[] = {"", "S", "1", "1s", "1Sx", "-1S", "123456789S", " 1S"};
    int64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(grpc_timeout_parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(grpc_timeout_parse(bad[i], &ns));
}

static void messages_are_percent_encoded_and_cut(void **state)
{
    (void)state;
    char out[32];
    assert_string_equal(grpc_percent_encode("no 100% \"\xc3\xa9\"\n", out, sizeof out),
                        "no 100%25 \"%C3%A9\"%0A");
    assert_string_equal(grpc_percent_encode("abcdef", out, 4), "abc");
    assert_string_equal(grpc_percent_encode("ab\n", out, 5), "ab");
    assert_string_equal(grpc_percent_encode("ab\n", out, 6), "ab%0A");
}

static void codes_are_those_of_the_table(void **state)
{
    (void)state;
    assert_int_equal(grpc_code(SL_OK), 0);
    assert_int_equal(grpc_code(SL_INVALID), 3);
    assert_int_equal(grpc_code(SL_TIMEOUT), 4);
    assert_int_equal(grpc_code(SL_NOT_FOUND), 5);
    assert_int_equal(grpc_code(SL_BUSY), 8);
    assert_int_equal(grpc_code(SL_LIMIT), 8);
    assert_int_equal(grpc_code(SL_UNAUTHENTICATED), 16);
}

/* --- protobuf --- */

static void fields_come_back_as_written(void **state)
{
    (void)state;
    struct sl_buf buf;
    struct sl_pb_field f;
    sl_buf_init(&buf, MESSAGE_MAX);
    struct sl_pb_writer w = {.out = &buf}, size = {0};
    for (int i = 0; i < 2; i++) { /* counting gives what writing takes */
        struct sl_pb_writer *at = i ? &w : &size;
        sl_pb_put_varint(at, 1, 300);
        sl_pb_put_varint(at, 2, (uint64_t)-1);
        sl_pb_put_double(at, 3, 1.5);
        sl_pb_put_text(at, 4, "text");
        sl_pb_put_text(at, 5, "");
        sl_pb_put_bytes(at, 6, "", 0);
    }
    assert_int_equal(w.status, SL_OK);
    assert_int_equal(size.n, buf.len);
    assert_memory_equal(buf.data, "\x08\xac\x02", 3);
    struct sl_pb_reader r = sl_pb_read((const uint8_t *)buf.data, buf.len);
    assert_true(sl_pb_next(&r, &f) && f.number == 1 && f.kind == SL_PB_VARINT && f.value == 300);
    assert_true(sl_pb_next(&r, &f) && f.number == 2 && f.value == UINT64_MAX);
    assert_true(sl_pb_next(&r, &f) && f.number == 3 && f.kind == SL_PB_FIXED64 &&
                f.value == UINT64_C(0x3ff8000000000000));
    assert_true(sl_pb_next(&r, &f) && f.number == 4 && f.n == 4 && !memcmp(f.bytes, "text", 4));
    assert_true(sl_pb_next(&r, &f) && f.number == 6 && f.kind == SL_PB_BYTES && f.n == 0);
    assert_false(sl_pb_next(&r, &f));
    assert_false(r.bad);
    sl_buf_done(&buf);
}

static bool is_bad(const char *bytes, size_t n)
{
    struct sl_pb_reader r = sl_pb_read((const uint8_t *)bytes, n);
    struct sl_pb_field f;
    while (sl_pb_next(&r, &f)) continue;
    return r.bad;
}

static void broken_messages_are_bad(void **state)
{
    (void)state;
    assert_false(is_bad("", 0));
    assert_false(is_bad("\x08\x01", 2));
    assert_true(is_bad("\x08", 1));     /* no value */
    assert_true(is_bad("\x08\xff", 2)); /* it does not end */
    assert_true(is_bad("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12)); /* too long */
    assert_true(is_bad("\x0a\x02x", 3));                                 /* longer than it is */
    assert_true(is_bad("\x0b", 1));                                      /* a group */
    assert_true(is_bad("\x00\x01", 2));                                  /* number 0 */
    assert_true(is_bad("\x0d\1\2\3", 4));                                /* half a fixed32 */
    assert_true(is_bad("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10)); /* 2^63 bytes */
}

/* --- reflection --- */

static void files_are_found_by_name_and_by_what_they_declare(void **state)
{
    (void)state;
    static const char *const symbols[] = {"inference.GRPCInferenceService",
                                          "inference.GRPCInferenceService.ModelInfer",
                                          "inference.ModelInferRequest",
                                          "inference.ModelInferRequest.InferInputTensor",
                                          "inference.ModelInferRequest.InferInputTensor.shape",
                                          "inference.InferParameter.parameter_choice"};
    static const char *const unknown[] = {"inference",
                                          "inference.",
                                          "inference.Nothing",
                                          "",
                                          "ModelInferRequest",
                                          "inference.ModelInferRequest.x",
                                          "inferenc.ModelInferRequest",
                                          "inference.ModelInferRequest.InferInputTensor.shape.x"};
    struct grpc_file file = grpc_file_named("proto/open_inference.proto");
    assert_non_null(file.bytes);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        assert_ptr_equal(grpc_file_declaring(symbols[i]).bytes, file.bytes);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_null(grpc_file_declaring(unknown[i]).bytes);
    assert_null(grpc_file_named("open_inference.proto").bytes);
    file = grpc_file_declaring("grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING");
    assert_ptr_equal(file.bytes, grpc_file_named("proto/grpc_health.proto").bytes);
    for (size_t i = 0; GRPC_SERVICES[i]; i++)
        assert_non_null(grpc_file_declaring(GRPC_SERVICES[i]).bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_is_flag_and_big_endian_length),
        cmocka_unit_test(messages_come_whole_however_they_are_cut),
        cmocka_unit_test(a_whole_message_is_not_copied),
        cmocka_unit_test(bad_frames_are_refused_at_their_prefix),
        cmocka_unit_test(part_of_a_message_is_known),
        cmocka_unit_test(a_reader_without_memory_says_so),
        cmocka_unit_test(timeouts_are_read_as_the_protocol_has_them),
        cmocka_unit_test(messages_are_percent_encoded_and_cut),
        cmocka_unit_test(codes_are_those_of_the_table),
        cmocka_unit_test(fields_come_back_as_written),
        cmocka_unit_test(broken_messages_are_bad),
        cmocka_unit_test(files_are_found_by_name_and_by_what_they_declare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
