#include "access/grpc_reflection.h"
#include "access/grpc.h"
#include "base/pb.h"
#include <proto/grpc_reflection.pb-c.h>
#include <string.h>

#define NOT_FOUND 5           /* gRPC's code */
#define ARENA_MAX (64u << 10) /* of one request: some names */
#define ANSWER_MAX (4u << 20) /* a file's descriptor, and the request once more */
#define DEPTH_MAX 16          /* of messages in messages */
#define N_SERVICES 4

/* protobuf-c's names for the members of the two oneofs. */
#define REQUEST(which) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##which
#define RESPONSE(which) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##which

/* From the build: a google.protobuf.FileDescriptorSet. */
extern const uint8_t grpc_descriptors[];
extern const size_t grpc_descriptors_n;

const char *const GRPC_SERVICES[] = {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                     "grpc.reflection.v1alpha.ServerReflection",
                                     "inference.GRPCInferenceService", NULL};

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

/* --- descriptors --- */

/* The text of field `number`. */
static bool text_is(const uint8_t *bytes, size_t n, uint32_t number, const char *text,
                    size_t n_text)
{
    struct sl_pb_reader reader = sl_pb_read(bytes, n);
    struct sl_pb_field f;
    while (sl_pb_next(&reader, &f))
        if (f.number == number && f.kind == SL_PB_BYTES)
            return f.n == n_text && !memcmp(f.bytes, text, n_text);
    return !n_text;
}

/* Fields of a descriptor that hold named things, and what these hold in turn. */
struct scope {
    uint32_t number;
    const struct scope *inner; /* ends in number 0; NULL: nothing */
};
static const struct scope VALUES[] = {{2, NULL}, {0, NULL}}; /* of enums; methods of services */
static const struct scope MESSAGE[] = {{2, NULL}, {3, MESSAGE}, {4, VALUES}, {8, NULL}, {0, NULL}};
static const struct scope FILE_SCOPE[] = {{4, MESSAGE}, {5, VALUES}, {6, VALUES}, {0, NULL}};

/* Is there a thing named `symbol`, "Outer.Inner.field", among the fields? */
static bool declares(const uint8_t *bytes, size_t n, const struct scope *scope, const char *symbol,
                     int depth)
{
    size_t n_name = strcspn(symbol, ".");
    const char *rest = symbol[n_name] ? symbol + n_name + 1 : NULL;
    struct sl_pb_reader reader = sl_pb_read(bytes, n);
    struct sl_pb_field f;
    if (depth > DEPTH_MAX) return false;
    while (sl_pb_next(&reader, &f)) {
        const struct scope *at = scope;
        while (at->number && at->number != f.number) at++;
        if (!at->number || !text_is(f.bytes, f.n, 1, symbol, n_name)) continue;
        if (!rest || (at->inner && declares(f.bytes, f.n, at->inner, rest, depth + 1))) return true;
    }
    return false;
}

static bool file_declares(struct grpc_file file, const char *symbol)
{
    for (const char *dot = strchr(symbol, '.'); dot; dot = strchr(dot + 1, '.'))
        if (text_is(file.bytes, file.n, 2, symbol, (size_t)(dot - symbol)) &&
            declares(file.bytes, file.n, FILE_SCOPE, dot + 1, 0))
            return true;
    return false;
}

static bool file_is_named(struct grpc_file file, const char *name)
{
    return text_is(file.bytes, file.n, 1, name, strlen(name));
}

static struct grpc_file find(bool (*fits)(struct grpc_file file, const char *what),
                             const char *what)
{
    struct sl_pb_reader reader = sl_pb_read(grpc_descriptors, grpc_descriptors_n);
    struct sl_pb_field f;
    while (sl_pb_next(&reader, &f)) {
        struct grpc_file file = {f.bytes, f.n};
        if (f.number == 1 && fits(file, what)) return file;
    }
    return (struct grpc_file){NULL, 0};
}

struct grpc_file grpc_file_named(const char *name)
{
    return find(file_is_named, name);
}

struct grpc_file grpc_file_declaring(const char *symbol)
{
    return find(file_declares, symbol);
}

/* --- answers --- */

/* What an answer is made of; lives while it is packed. */
struct answer {
    reflection_response response;
    Grpc__Reflection__V1__FileDescriptorResponse files;
    Grpc__Reflection__V1__ListServiceResponse list;
    Grpc__Reflection__V1__ServiceResponse services[N_SERVICES], *service_list[N_SERVICES];
    Grpc__Reflection__V1__ExtensionNumberResponse extensions;
    Grpc__Reflection__V1__ErrorResponse error;
    ProtobufCBinaryData file;
};

static void answer_error(struct answer *a, const char *message)
{
    grpc__reflection__v1__error_response__init(&a->error);
    a->error.error_code = NOT_FOUND;
    a->error.error_message = (char *)(uintptr_t)message;
    a->response.message_response_case = RESPONSE(ERROR_RESPONSE);
    a->response.error_response = &a->error;
}

/* None of our files imports another one, so a file is all there is to it. */
static void answer_file(struct answer *a, struct grpc_file file, const char *what)
{
    if (!file.bytes) {
        answer_error(a, what);
        return;
    }
    grpc__reflection__v1__file_descriptor_response__init(&a->files);
    a->file = (ProtobufCBinaryData){file.n, (uint8_t *)(uintptr_t)file.bytes};
    a->files.n_file_descriptor_proto = 1;
    a->files.file_descriptor_proto = &a->file;
    a->response.message_response_case = RESPONSE(FILE_DESCRIPTOR_RESPONSE);
    a->response.file_descriptor_response = &a->files;
}

static void answer_services(struct answer *a)
{
    grpc__reflection__v1__list_service_response__init(&a->list);
    for (size_t i = 0; i < N_SERVICES; i++) {
        grpc__reflection__v1__service_response__init(&a->services[i]);
        a->services[i].name = (char *)(uintptr_t)GRPC_SERVICES[i];
        a->service_list[i] = &a->services[i];
    }
    a->list.n_service = N_SERVICES;
    a->list.service = a->service_list;
    a->response.message_response_case = RESPONSE(LIST_SERVICES_RESPONSE);
    a->response.list_services_response = &a->list;
}

/* proto3 has no extensions, so a type that is known has none. */
static void answer_extensions(struct answer *a, char *type)
{
    if (!grpc_file_declaring(type).bytes) {
        answer_error(a, "no such message");
        return;
    }
    grpc__reflection__v1__extension_number_response__init(&a->extensions);
    a->extensions.base_type_name = type;
    a->response.message_response_case = RESPONSE(ALL_EXTENSION_NUMBERS_RESPONSE);
    a->response.all_extension_numbers_response = &a->extensions;
}

static void make_answer(struct answer *a, reflection_request *request)
{
    grpc__reflection__v1__server_reflection_response__init(&a->response);
    a->response.valid_host = request->host;
    a->response.original_request = request;
    switch ((int)request->message_request_case) {
    case REQUEST(FILE_BY_FILENAME):
        answer_file(a, grpc_file_named(request->file_by_filename), "no such file");
        break;
    case REQUEST(FILE_CONTAINING_SYMBOL):
        answer_file(a, grpc_file_declaring(request->file_containing_symbol), "no such symbol");
        break;
    case REQUEST(ALL_EXTENSION_NUMBERS_OF_TYPE):
        answer_extensions(a, request->all_extension_numbers_of_type);
        break;
    case REQUEST(LIST_SERVICES): answer_services(a); break;
    default: answer_error(a, "no such extension"); break;
    }
}

static void on_message(struct call *call, const uint8_t *message, size_t n)
{
    struct sl_arena arena;
    struct sl_buf out;
    struct answer answer;
    sl_arena_init(&arena, ARENA_MAX);
    sl_buf_init(&out, ANSWER_MAX);
    reflection_request *request = grpc_unpack_to(
        &arena, &grpc__reflection__v1__server_reflection_request__descriptor, message, n);
    sl_status status = request ? SL_OK : SL_INVALID;
    if (request) {
        make_answer(&answer, request);
        status = grpc_pack(&out, &answer.response.base);
    }
    if (status == SL_OK) status = grpc_send(call, out.data, out.len);
    sl_buf_done(&out);
    sl_arena_done(&arena);
    if (status != SL_OK)
        call_fail(call, status, NULL, NULL, "no ServerReflectionRequest, or one that is too long");
    else
        grpc_pause(call, grpc_is_full(call));
}

static void on_room(struct call *call)
{
    grpc_pause(call, false);
}

void grpc_reflection_info(struct call *call)
{
    static const struct grpc_stream functions = {.on_message = on_message, .on_room = on_room};
    grpc_stream(call, &functions);
}
