"""The Open Inference Protocol over gRPC, asked by grpcio with classes made from the protocol's own
.proto file (our own has Triton's extensions besides)."""
import queue
import struct
import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2

from conftest import ROOT, shared_path
from grpc_client import DEADLINE_S, Schema, Stub, failure, open_channel
from service import echo, wait_for
from test_service import certificate_fixture  # pylint: disable=unused-import

SERVICE = "inference.GRPCInferenceService"
OURS = ["proto/open_inference.proto", "proto/grpc_health.proto", "proto/grpc_reflection.proto",
        "proto/grpc_reflection_v1alpha.proto"]
ECHO = echo()
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def protocol():
    """The published file, and nothing else."""
    folder = shared_path("data/conformance/open-inference-protocol/open_inference_grpc.proto").parent
    return Schema.compile(folder, "open_inference_grpc.proto")


@pytest.fixture(scope="module")
def ours():
    return Schema.compile(ROOT, *OURS)


@pytest.fixture
def connect():
    """connect(service) gives a channel that ends with the test."""
    channels = []

    def connect(service, **options):
        channels.append(open_channel("%s:%d" % service.address, **options))
        return channels[-1]
    yield connect
    for channel in channels:
        channel.close()


@pytest.fixture
def channel(starling_service, connect):
    return connect(starling_service)


@pytest.fixture
def stub(channel, protocol):
    return Stub(channel, protocol, SERVICE)


@pytest.fixture
def own_stub(channel, ours):
    return Stub(channel, ours, SERVICE)


def infer_request(schema, model=ECHO, inputs=(), raw=(), **fields):
    return schema.message("inference.ModelInferRequest", model_name=model, inputs=inputs,
                          raw_input_contents=raw, **fields)


def tensor(name="x", datatype="FP32", shape=(1,), contents=None, **fields):
    if contents:
        fields["contents"] = contents
    return dict(name=name, datatype=datatype, shape=shape, **fields)


def text_request(schema, model, text=b"hello", **fields):
    return infer_request(schema, model, [tensor("text_input", "BYTES", (1,),
                                                {"bytes_contents": [text]})], **fields)


def element(text):
    return struct.pack("<I", len(text)) + text


def check_usable(stub, schema):
    assert stub.ServerLive(schema.message("inference.ServerLiveRequest"), timeout=DEADLINE_S).live


# --- every endpoint ---

def test_the_server_is_live_and_ready_and_tells_what_it_is(stub, protocol):
    def message(name):
        return protocol.message(f"inference.{name}Request")
    assert stub.ServerLive(message("ServerLive"), timeout=DEADLINE_S).live
    wait_for(lambda: stub.ServerReady(message("ServerReady"), timeout=DEADLINE_S).ready,
             "the model to be loaded")
    about = stub.ServerMetadata(message("ServerMetadata"), timeout=DEADLINE_S)
    assert about.name == "starlane" and about.version
    assert "model_repository" in about.extensions


def test_a_model_tells_whether_it_is_ready_and_what_it_takes(stub, protocol):
    ready = protocol.message("inference.ModelReadyRequest", name="starling")
    wait_for(lambda: stub.ModelReady(ready, timeout=DEADLINE_S).ready, "the model to be loaded")
    about = stub.ModelMetadata(protocol.message("inference.ModelMetadataRequest", name="starling"),
                               timeout=DEADLINE_S)
    assert about.name == "starling"
    takes = {spec.name: (spec.datatype, list(spec.shape)) for spec in about.inputs}
    assert takes["text_input"] == ("BYTES", [1])
    assert "text_output" in {spec.name for spec in about.outputs}


def test_a_language_model_takes_bytes_and_gives_bytes(stub, protocol):
    request = text_request(protocol, "starling", b"Once upon a time", id="a7")
    request.parameters["max_tokens"].int64_param = 8
    request.parameters["temperature"].double_param = 0
    answer = stub.ModelInfer(request, timeout=DEADLINE_S)
    assert (answer.model_name, answer.id) == ("starling", "a7")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("text_output", "BYTES", [1])]
    text, = answer.raw_output_contents
    assert len(text) > 4 and struct.unpack_from("<I", text)[0] == len(text) - 4


# --- every datatype, both ways ---

TYPES = {
    "BOOL": ("bool_contents", "?", [True, False, True, True]),
    "INT8": ("int_contents", "b", [-128, -1, 0, 127]),
    "INT16": ("int_contents", "h", [-32768, -1, 0, 32767]),
    "INT32": ("int_contents", "i", [-2**31, -1, 0, 2**31 - 1]),
    "INT64": ("int64_contents", "q", [-2**63, -1, 0, 2**63 - 1]),
    "UINT8": ("uint_contents", "B", [0, 1, 128, 255]),
    "UINT16": ("uint_contents", "H", [0, 1, 128, 65535]),
    "UINT32": ("uint_contents", "I", [0, 1, 128, 2**32 - 1]),
    "UINT64": ("uint64_contents", "Q", [0, 1, 128, 2**64 - 1]),
    "FP16": (None, "e", [0.0, -1.5, 65504.0, 0.25]),
    "BF16": (None, "H", [0, 0x3f80, 0xbf80, 0x7f7f]),
    "FP32": ("fp32_contents", "f", [0.0, -1.5, 3.0e38, 0.25]),
    "FP64": ("fp64_contents", "d", [0.0, -1.5, 1.0e300, 0.1]),
    "BYTES": ("bytes_contents", None, [b"", b"one", "zwölf".encode(), bytes(range(256))]),
}


def raw_of(form, values):
    if form is None:
        return b"".join(element(value) for value in values)
    return struct.pack(f"<{len(values)}{form}", *values)


def check_echo(answer, datatype, raw):
    output, = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("x", datatype, [2, 2])
    assert not output.HasField("contents")
    assert list(answer.raw_output_contents) == [raw]


@pytest.mark.parametrize("datatype", TYPES)
def test_raw_contents_come_back_as_they_went(stub, protocol, datatype):
    _, form, values = TYPES[datatype]
    raw = raw_of(form, values)
    request = infer_request(protocol, inputs=[tensor("x", datatype, (2, 2))], raw=[raw])
    check_echo(stub.ModelInfer(request, timeout=DEADLINE_S), datatype, raw)


@pytest.mark.parametrize("datatype", [name for name in TYPES if TYPES[name][0]])
def test_typed_contents_come_back_as_raw_ones(stub, protocol, datatype):
    field, form, values = TYPES[datatype]
    request = infer_request(protocol, inputs=[tensor("x", datatype, (2, 2), {field: values})])
    check_echo(stub.ModelInfer(request, timeout=DEADLINE_S), datatype, raw_of(form, values))


def test_many_tensors_keep_their_order(stub, protocol):
    names = [f"t{i}" for i in range(40)]
    request = infer_request(protocol, inputs=[tensor(name, "INT32", (1,)) for name in names],
                            raw=[struct.pack("<i", i) for i in range(40)])
    answer = stub.ModelInfer(request, timeout=DEADLINE_S)
    assert [output.name for output in answer.outputs] == names
    assert [struct.unpack("<i", raw)[0] for raw in answer.raw_output_contents] == list(range(40))


def test_empty_tensors_and_scalars_pass(stub, protocol):
    request = infer_request(protocol, inputs=[tensor("e", "FP32", (0, 3)), tensor("s", "INT8", ())],
                            raw=[b"", b"\x07"])
    answer = stub.ModelInfer(request, timeout=DEADLINE_S)
    assert [list(output.shape) for output in answer.outputs] == [[0, 3], []]
    assert list(answer.raw_output_contents) == [b"", b"\x07"]


def test_eight_megabytes_go_both_ways(stub, protocol):
    raw = bytes(range(256)) * (8 << 12)
    request = infer_request(protocol, inputs=[tensor("x", "UINT8", (len(raw),))], raw=[raw])
    assert stub.ModelInfer(request, timeout=DEADLINE_S).raw_output_contents[0] == raw


# --- every error ---

FOUR = struct.pack("<4f", 1, 2, 3, 4)
ERRORS = {
    "unknown model": (dict(model="nothere", inputs=[tensor()], raw=[FOUR[:4]]), Code.NOT_FOUND,
                      "nothere"),
    "no model": (dict(model="", inputs=[tensor()], raw=[FOUR[:4]]), Code.INVALID_ARGUMENT,
                 "name is missing"),
    "short raw buffer": (dict(inputs=[tensor(shape=(2, 2))], raw=[FOUR[:15]]),
                         Code.INVALID_ARGUMENT, "15"),
    "long raw buffer": (dict(inputs=[tensor(shape=(2, 2))], raw=[FOUR + b"\0"]),
                        Code.INVALID_ARGUMENT, "17"),
    "wrong shape": (dict(inputs=[tensor(shape=(2, 3), contents={"fp32_contents": [1, 2, 3, 4]})]),
                    Code.INVALID_ARGUMENT, "16 bytes of data where FP32 of [2,3] takes 6"),
    "negative dimension": (dict(inputs=[tensor(shape=(2, -2))], raw=[FOUR]),
                           Code.INVALID_ARGUMENT, "-2"),
    "overflowing shape": (dict(inputs=[tensor(shape=(2**62, 2**62))], raw=[FOUR]),
                          None, '"x"'),
    "too many dimensions": (dict(inputs=[tensor(shape=(1,) * 17)], raw=[FOUR[:4]]),
                            Code.INVALID_ARGUMENT, "more than 16 dimensions"),
    "no such datatype": (dict(inputs=[tensor(datatype="FP31")], raw=[FOUR[:4]]),
                         Code.INVALID_ARGUMENT, 'input "x": no such datatype: "FP31"'),
    "contents of another type": (dict(inputs=[tensor(contents={"int_contents": [1]})]),
                                 Code.INVALID_ARGUMENT,
                                 'input "x": FP32 goes as fp32_contents, not as int_contents'),
    "contents for FP16": (dict(inputs=[tensor(datatype="FP16", contents={"fp32_contents": [1]})]),
                          Code.INVALID_ARGUMENT, 'input "x": FP16 has no typed contents'),
    "value out of range": (dict(inputs=[tensor(datatype="INT8",
                                               contents={"int_contents": [128]})]),
                           Code.INVALID_ARGUMENT, 'input "x": 128 is no INT8'),
    "raw and typed": (dict(inputs=[tensor(contents={"fp32_contents": [1]})], raw=[FOUR[:4]]),
                      Code.INVALID_ARGUMENT, "only one of the two"),
    "too few raw buffers": (dict(inputs=[tensor("a"), tensor("b")], raw=[FOUR[:4]]),
                            Code.INVALID_ARGUMENT, "holds 1 buffers for 2 inputs"),
    "no data": (dict(inputs=[tensor()]), Code.INVALID_ARGUMENT, '"x"'),
    "broken BYTES": (dict(inputs=[tensor(datatype="BYTES")], raw=[b"\5\0\0\0abc"]),
                     Code.INVALID_ARGUMENT, '"x"'),
    "shared memory": (dict(inputs=[tensor(parameters={"shared_memory_region":
                                                      {"string_param": "r"}})]),
                      Code.INVALID_ARGUMENT, "shared_memory_region is not supported"),
    "missing input of a language model": (dict(model="starling", inputs=[tensor()],
                                               raw=[FOUR[:4]]),
                                          Code.INVALID_ARGUMENT, "text_input"),
    "unknown output": (dict(model="starling", inputs=[tensor("text_input", "BYTES")],
                            raw=[element(b"x")], outputs=[dict(name="nope")]),
                       Code.INVALID_ARGUMENT, "nope"),
    "sequences": (dict(inputs=[tensor()], raw=[FOUR[:4]],
                       parameters={"sequence_id": {"int64_param": 3}}),
                  Code.INVALID_ARGUMENT, "sequence_id"),
}


def build(schema, fields):
    """A request from nested dictionaries, maps of messages included."""
    fields = dict(fields)
    parameters = fields.pop("parameters", {})
    inputs = [dict(tensor_fields) for tensor_fields in fields.pop("inputs", [])]
    of_inputs = [tensor_fields.pop("parameters", {}) for tensor_fields in inputs]
    request = infer_request(schema, inputs=inputs, **fields)
    for target, given in [(request, parameters), *zip(request.inputs, of_inputs)]:
        for name, value in given.items():
            for kind, content in value.items():
                setattr(target.parameters[name], kind, content)
    return request


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_says_what_is_wrong_and_the_channel_lives(stub, protocol, name):
    fields, code, words = ERRORS[name]
    got, message = failure(stub.ModelInfer, build(protocol, fields))
    assert got == code or code is None and got in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED)
    assert words in message
    check_usable(stub, protocol)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelReady"])
def test_an_unknown_model_is_not_found(stub, protocol, method):
    request = protocol.message(f"inference.{method}Request", name="nothere")
    code, message = failure(getattr(stub, method), request)
    assert code == Code.NOT_FOUND and "nothere" in message
    check_usable(stub, protocol)


def test_a_message_that_does_not_parse_is_invalid(channel, stub, protocol):
    for method in ["ModelInfer", "ModelMetadata"]:
        call = channel.unary_unary(f"/{SERVICE}/{method}")
        code, message = failure(call, b"\xff\xff\xff")
        assert code == Code.INVALID_ARGUMENT and "Request" in message
    check_usable(stub, protocol)


def test_unknown_methods_are_unimplemented(channel, stub, protocol):
    for path in ["/no.Service/Call", f"/{SERVICE}/NoSuchCall"]:
        code, message = failure(channel.unary_unary(path), b"")
        assert code == Code.UNIMPLEMENTED and path in message
    check_usable(stub, protocol)


def test_compressed_messages_are_unimplemented(starling_service, connect, protocol):
    channel = connect(starling_service)
    stub = Stub(channel, protocol, SERVICE)
    request = text_request(protocol, ECHO, b"x" * 4096)
    code, message = failure(stub.ModelInfer, request, compression=grpc.Compression.Gzip)
    assert code == Code.UNIMPLEMENTED and "identity" in message
    check_usable(stub, protocol)


def test_a_message_over_the_limit_is_refused_and_the_channel_lives(serve, connect, protocol):
    stub = Stub(connect(serve("--echo", "--max-body", "64K")), protocol, SERVICE)
    for n, fits in [(1 << 20, False), (60000, True), (65536, False)]:
        request = infer_request(protocol, inputs=[tensor("x", "UINT8", (n,))], raw=[b"\0" * n])
        if fits:
            assert len(stub.ModelInfer(request, timeout=DEADLINE_S).raw_output_contents[0]) == n
        else:
            code, message = failure(stub.ModelInfer, request)
            assert code == Code.RESOURCE_EXHAUSTED
            assert f"{request.ByteSize()} bytes is over the limit of 65536" in message
        check_usable(stub, protocol)


SLOW = echo(tokens=100000, pace_us=20000)
"""More than half an hour of tokens."""


def running(service):
    return service.metric("starlane_requests_running")


def test_an_expired_deadline_ends_the_work(starling_service, stub, protocol):
    before = starling_service.metric("starlane_requests_cancelled_total")
    code, _ = failure(stub.ModelInfer, text_request(protocol, SLOW), timeout=0.3)
    assert code == Code.DEADLINE_EXCEEDED
    wait_for(lambda: running(starling_service) == 0, "the request to be dropped")
    assert starling_service.metric("starlane_requests_cancelled_total") == before + 1
    check_usable(stub, protocol)


def test_the_server_keeps_the_deadline_by_itself(starling_service, own_stub, ours):
    """As for a client that does not: it learns of the deadline from its metadata alone."""
    metadata = [("grpc-timeout", "200m")]
    for call, request in [(own_stub.ModelInfer, text_request(ours, SLOW)),
                          (own_stub.ModelStreamInfer, iter([text_request(ours, SLOW)]))]:
        code, message = failure(call, request, metadata=metadata, timeout=None)
        assert code == Code.DEADLINE_EXCEEDED and "the deadline of" in message
        wait_for(lambda: running(starling_service) == 0, "the request to be dropped")


def test_a_cancelled_call_frees_its_request(starling_service, stub, protocol):
    call = stub.ModelInfer.future(text_request(protocol, SLOW), timeout=DEADLINE_S)
    wait_for(lambda: running(starling_service) == 1, "the request to run")
    call.cancel()
    wait_for(lambda: running(starling_service) == 0, "the request to be dropped")
    check_usable(stub, protocol)


def test_what_is_not_grpc_is_told_so(starling_service):
    path = f"/{SERVICE}/ServerLive"
    answer = starling_service.post(path, b"{}", expect=415)
    assert answer.headers["accept"] == "application/grpc"
    starling_service.post(path, b"\0\0\0\0\0", headers={"Content-Type": "application/grpc"},
                          expect=505)
    starling_service.post(path, b"", headers={"Content-Type": "application/grpc-web"}, expect=415)


# --- streams ---

class Conversation:
    """A ModelStreamInfer call whose requests are sent one by one."""

    def __init__(self, stub, **options):
        self.requests = queue.Queue()
        self.call = stub.ModelStreamInfer(iter(self.requests.get, None), timeout=DEADLINE_S,
                                          **options)

    def send(self, *requests):
        for request in requests:
            self.requests.put(request)

    def end(self):
        """Everything that is still to come."""
        self.requests.put(None)
        return list(self.call)


def test_streamed_requests_are_answered_as_they_are_done(own_stub, ours):
    talk = Conversation(own_stub)
    slow = echo(tokens=40, pace_us=20000)
    talk.send(text_request(ours, slow, id="slow"))
    talk.send(*(text_request(ours, echo(tokens=3), id=f"fast{i}") for i in range(5)))
    answers = talk.end()
    ids = [answer.infer_response.id for answer in answers]
    assert sorted(ids) == ["fast0", "fast1", "fast2", "fast3", "fast4", "slow"]
    assert ids[-1] == "slow"
    assert all(not answer.error_message for answer in answers)
    assert all(answer.infer_response.parameters["triton_final_response"].bool_param
               for answer in answers)


def test_an_error_on_a_stream_does_not_end_it(own_stub, ours):
    talk = Conversation(own_stub)
    talk.send(infer_request(ours, "nothere", id="1"))
    error = next(talk.call)
    assert "nothere" in error.error_message and error.infer_response.id == "1"
    talk.send(infer_request(ours, inputs=[tensor(shape=(2, 2))], raw=[FOUR[:3]], id="2"))
    error = next(talk.call)
    assert "3" in error.error_message and error.infer_response.id == "2"
    talk.send(infer_request(ours, inputs=[tensor(shape=(2, 2))], raw=[FOUR], id="3"))
    good = next(talk.call)
    assert not good.error_message
    assert list(good.infer_response.raw_output_contents) == [FOUR]
    assert talk.end() == [] and talk.call.code() == Code.OK


@pytest.mark.parametrize("by", ["input", "parameter"])
def test_text_comes_in_pieces_when_it_is_asked_for(own_stub, ours, by):
    model = echo(text="one two three four five", tokens=5)
    whole = own_stub.ModelInfer(text_request(ours, model), timeout=DEADLINE_S)
    request = text_request(ours, model, id="s")
    if by == "input":
        stream = request.inputs.add(name="stream", datatype="BOOL", shape=[1])
        stream.contents.bool_contents.append(True)
    else:
        request.parameters["stream"].bool_param = True
    talk = Conversation(own_stub)
    talk.send(request)
    answers = [answer.infer_response for answer in talk.end()]
    assert len(answers) > 3 and {answer.id for answer in answers} == {"s"}
    final = [answer.parameters["triton_final_response"].bool_param for answer in answers]
    assert final == [False] * (len(answers) - 1) + [True]
    pieces = b"".join(answer.raw_output_contents[0][4:] for answer in answers)
    assert pieces == whole.raw_output_contents[0][4:]


def test_more_requests_than_may_run_wait_their_turn(own_stub, ours):
    talk = Conversation(own_stub)
    talk.send(*(infer_request(ours, inputs=[tensor("x", "INT32")], raw=[struct.pack("<i", i)],
                              id=str(i)) for i in range(1000)))
    answers = [answer.infer_response for answer in talk.end()]
    assert {answer.id: struct.unpack("<i", answer.raw_output_contents[0])[0]
            for answer in answers} == {str(i): i for i in range(1000)}


def test_a_cancelled_stream_frees_all_its_requests(starling_service, own_stub, ours):
    talk = Conversation(own_stub)
    talk.send(*(text_request(ours, SLOW, id=str(i)) for i in range(3)))
    wait_for(lambda: running(starling_service) == 3, "the requests to run")
    talk.call.cancel()
    wait_for(lambda: running(starling_service) == 0, "the requests to be dropped")


def test_a_hundred_streams_at_once(own_stub, ours):
    failures = []

    def talk_for_a_while(number):
        talk = Conversation(own_stub)
        for i in range(5):
            raw = struct.pack("<2i", number, i)
            talk.send(infer_request(ours, inputs=[tensor("x", "INT32", (2,))], raw=[raw]))
            answer = next(talk.call)
            if list(answer.infer_response.raw_output_contents) != [raw]:
                failures.append((number, answer))
        if talk.end() != []:
            failures.append((number, "more answers than requests"))

    threads = [threading.Thread(target=talk_for_a_while, args=(i,)) for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert failures == []


def test_a_hundred_calls_at_once_on_one_connection(stub, protocol):
    calls = [stub.ModelInfer.future(
        infer_request(protocol, inputs=[tensor("x", "INT32")], raw=[struct.pack("<i", i)]),
        timeout=DEADLINE_S) for i in range(100)]
    for i, call in enumerate(calls):
        assert struct.unpack("<i", call.result().raw_output_contents[0])[0] == i


# --- the repository ---

def test_models_are_listed_loaded_and_let_go(starling_service, own_stub, ours):
    def states(**fields):
        index = own_stub.RepositoryIndex(ours.message("inference.RepositoryIndexRequest", **fields),
                                         timeout=DEADLINE_S)
        return {model.name: model.state for model in index.models}
    model = "starling"
    name = next(name for name in states() if name.startswith(model))
    load = ours.message("inference.RepositoryModelLoadRequest", model_name=model)
    unload = ours.message("inference.RepositoryModelUnloadRequest", model_name=model)
    own_stub.RepositoryModelLoad(load, timeout=DEADLINE_S)
    assert states(ready=True)[name] == "READY"
    own_stub.RepositoryModelUnload(unload, timeout=DEADLINE_S)
    wait_for(lambda: states()[name] == "UNAVAILABLE", "the model to be unloaded")
    assert name not in states(ready=True)
    own_stub.RepositoryModelLoad(load, timeout=DEADLINE_S)
    assert states(ready=True)[name] == "READY"
    code, message = failure(own_stub.RepositoryModelLoad, ours.message(
        "inference.RepositoryModelLoadRequest", model_name="nothere"))
    assert code == Code.NOT_FOUND and "nothere" in message


# --- reflection ---

class Reflection:
    """A client that knows no file but the reflection service's."""

    def __init__(self, channel, ours, version):
        self.package = f"grpc.reflection.{version}"
        self.schema = ours
        self.stub = Stub(channel, ours, f"{self.package}.ServerReflection")

    def ask(self, *questions):
        requests = [self.schema.message(f"{self.package}.ServerReflectionRequest", **question)
                    for question in questions]
        return list(self.stub.ServerReflectionInfo(iter(requests), timeout=DEADLINE_S))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_client_learns_all_from_reflection(channel, ours, version):
    reflection = Reflection(channel, ours, version)
    listed, = reflection.ask({"list_services": "*"})
    services = [service.name for service in listed.list_services_response.service]
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services)
    answers = reflection.ask(*({"file_containing_symbol": name} for name in services))
    files = {}
    for answer in answers:
        for serialized in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
            files[file.name] = file
    learnt = Schema(files.values())
    stub = Stub(channel, learnt, SERVICE)
    request = infer_request(learnt, inputs=[tensor("x", "FP32", (4,))], raw=[FOUR])
    assert stub.ModelInfer(request, timeout=DEADLINE_S).raw_output_contents[0] == FOUR


def test_reflection_says_what_it_does_not_know(channel, ours):
    reflection = Reflection(channel, ours, "v1")
    answers = reflection.ask({"file_by_filename": "proto/open_inference.proto"},
                             {"file_by_filename": "nothere.proto"},
                             {"file_containing_symbol": f"{SERVICE}.ModelInfer"},
                             {"file_containing_symbol": "inference.Nothing"},
                             {"all_extension_numbers_of_type": "inference.ModelInferRequest"})
    kinds = [answer.WhichOneof("message_response") for answer in answers]
    assert kinds == ["file_descriptor_response", "error_response", "file_descriptor_response",
                     "error_response", "all_extension_numbers_response"]
    assert answers[1].error_response.error_code == 5
    assert answers[1].original_request.file_by_filename == "nothere.proto"


# --- health ---

def health(schema, name=""):
    return schema.message("grpc.health.v1.HealthCheckRequest", service=name)


SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def test_health_is_told_by_service(channel, ours):
    stub = Stub(channel, ours, "grpc.health.v1.Health")
    for name in ["", SERVICE]:
        assert stub.Check(health(ours, name), timeout=DEADLINE_S).status == SERVING
    assert failure(stub.Check, health(ours, "no.Service"))[0] == Code.NOT_FOUND
    watch = stub.Watch(health(ours, "no.Service"), timeout=DEADLINE_S)
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_a_watcher_hears_of_the_end(serve, connect, ours):
    service = serve("--echo")
    channel = connect(service)
    stub = Stub(channel, ours, "grpc.health.v1.Health")
    watch = stub.Watch(health(ours), timeout=DEADLINE_S)
    talk = Conversation(Stub(channel, ours, SERVICE))
    assert next(watch).status == SERVING
    talk.send(text_request(ours, echo(tokens=20, pace_us=20000), id="last"))
    wait_for(lambda: running(service) == 1, "the request to run")
    service.process.terminate()
    assert next(watch).status == NOT_SERVING
    with pytest.raises(grpc.RpcError) as end:
        next(watch)
    assert end.value.code() == Code.UNAVAILABLE
    assert next(talk.call).infer_response.id == "last" # what runs is finished
    with pytest.raises(grpc.RpcError) as end:
        next(talk.call)
    assert end.value.code() == Code.UNAVAILABLE
    assert service.process.wait(DEADLINE_S) == 0


def test_a_watcher_hears_when_the_models_are_there(serve, connect, ours):
    service = serve(echo(load_ms=1500), "--echo")
    stub = Stub(connect(service), ours, "grpc.health.v1.Health")
    watch = stub.Watch(health(ours), timeout=DEADLINE_S)
    assert [next(watch).status, next(watch).status] == [NOT_SERVING, SERVING]
    watch.cancel()


# --- who may, and how much ---

def bearer(secret):
    return [("authorization", f"Bearer {secret}")]


def test_keys_are_needed_and_checked(starlane, serve, connect, protocol):
    secret = starlane.json("keys", "create", "--name", "ann", "--json")["key"]
    stub = Stub(connect(serve("--echo")), protocol, SERVICE)
    request = infer_request(protocol, inputs=[tensor("x", "FP32", (4,))], raw=[FOUR])
    for metadata in [None, bearer("sk-wrong")]:
        code, message = failure(stub.ModelInfer, request, metadata=metadata)
        assert code == Code.UNAUTHENTICATED and "key" in message
    answer = stub.ModelInfer(request, metadata=bearer(secret), timeout=DEADLINE_S)
    assert answer.raw_output_contents[0] == FOUR
    check_usable(stub, protocol) # health needs no key


def test_a_key_that_is_revoked_ends_with_the_next_request(starlane, serve, connect, ours):
    secret = starlane.json("keys", "create", "--name", "eve", "--json")["key"]
    talk = Conversation(Stub(connect(serve("--echo")), ours, SERVICE), metadata=bearer(secret))
    request = infer_request(ours, inputs=[tensor("x", "FP32", (4,))], raw=[FOUR])

    def ask():
        talk.send(request)
        return next(talk.call).error_message
    assert not ask()
    starlane.call("keys", "revoke", "eve")
    assert "revoked" in wait_for(ask, "the revocation")
    assert talk.end() == []


def test_a_quota_is_kept_and_usage_is_stored(starlane, serve, connect, protocol):
    secret = starlane.json("keys", "create", "--name", "bob", "--rpm", 3, "--json")["key"]
    service = serve("--echo")
    stub = Stub(connect(service), protocol, SERVICE)
    request = infer_request(protocol, inputs=[tensor("x", "FP32", (4,))], raw=[FOUR])
    for _ in range(3):
        _, call = stub.ModelInfer.with_call(request, metadata=bearer(secret), timeout=DEADLINE_S)
        names = {name for name, _ in call.initial_metadata()}
        assert {"x-starlane-request-id", "x-ratelimit-remaining-requests"} <= names
    code, message = failure(stub.ModelInfer, request, metadata=bearer(secret))
    assert code == Code.RESOURCE_EXHAUSTED and "limit" in message
    check_usable(stub, protocol)
    service.stop()
    row, = starlane.json("usage", "--json")
    assert (row["requests"], row["failed"]) == (4, 1)


def test_grpc_over_tls(serve, protocol, certificate):
    cert, key = certificate
    service = serve("--tls-cert", cert, "--tls-key", key, "--echo", cafile=str(cert))
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    with grpc.secure_channel("localhost:%d" % service.address[1], credentials) as channel:
        check_usable(Stub(channel, protocol, SERVICE), protocol)


def test_the_port_of_its_own_is_opened_when_asked_for(serve, protocol):
    service = serve("--echo", "--grpc-port", "-1")
    wait_for(lambda: service.grpc_address, "the port of gRPC")
    with open_channel(service.grpc_address) as channel:
        check_usable(Stub(channel, protocol, SERVICE), protocol)
