"""gRPC clients from .proto files, or from what a server tells of itself, without generated code:
message classes come from descriptors, and a Stub has a method for each of a service's."""
import pathlib
import subprocess
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

LARGE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
DEADLINE_S = 120


class Schema:
    """Files' descriptors and the classes of their messages."""

    def __init__(self, files):
        self.pool = descriptor_pool.DescriptorPool()
        for file in files:
            self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    @classmethod
    def compile(cls, folder, *names):
        with tempfile.TemporaryDirectory() as temporary:
            out = pathlib.Path(temporary) / "descriptors"
            subprocess.run(["protoc-c", f"--proto_path={folder}", f"--descriptor_set_out={out}",
                            "--include_imports", *names], check=True)
            found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
        return cls(found.file)

    def message(self, name, /, **fields):
        return self.kind(name)(**fields)

    def kind(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))


class Stub:
    """stub.ModelInfer(request, timeout=..., metadata=...) and so on."""

    def __init__(self, channel, schema, service):
        for method in schema.pool.FindServiceByName(service).methods:
            kinds = {(False, False): channel.unary_unary, (False, True): channel.unary_stream,
                     (True, False): channel.stream_unary, (True, True): channel.stream_stream}
            proto = descriptor_pb2.MethodDescriptorProto()
            method.CopyToProto(proto)
            call = kinds[proto.client_streaming, proto.server_streaming](
                f"/{service}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=schema.kind(method.output_type.full_name).FromString)
            setattr(self, method.name, call)


def open_channel(address, **options):
    return grpc.insecure_channel(address, options=[*LARGE, *options.items()])


def failure(call, *arguments, **options):
    """(code, message) of a call that has to fail."""
    options.setdefault("timeout", DEADLINE_S)
    try:
        answer = call(*arguments, **options)
        if not hasattr(answer, "SerializeToString"):
            answer = list(answer)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"it went well: {answer}")
