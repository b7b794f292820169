"""ONNX's own test data: models with inputs and outputs as TensorProto files, as numpy arrays and as
tensors of the Open Inference Protocol."""
import os
import struct
import tarfile

import numpy

from conftest import shared_path

DATATYPES = {1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64",
             8: "BYTES", 9: "BOOL", 10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16"}
"""The protocol's names of TensorProto.DataType."""

DTYPES = {"FP32": "<f4", "UINT8": "u1", "INT8": "i1", "UINT16": "<u2", "INT16": "<i2",
          "INT32": "<i4", "INT64": "<i8", "BOOL": "?", "FP16": "<f2", "FP64": "<f8",
          "UINT32": "<u4", "UINT64": "<u8", "BF16": "<u2"}
"""numpy's; BF16 has none, its bits come as UINT16. BYTES are lists."""

PACKED = {4: "<f4", 5: None, 7: None, 10: "<f8", 11: None}
"""Fields of a TensorProto with numbers: floats, or varints (None)."""


def unpack_archive(name, folder):
    """The folder with what the archive of shared data holds."""
    with tarfile.open(shared_path(f"data/onnx/{name}")) as archive:
        archive.extractall(folder)
    return folder


def _varint(raw, at):
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(raw):
    """(number, value) of a protobuf message: whole numbers, and bytes of everything longer."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        if key & 7 == 0:
            value, at = _varint(raw, at)
        else:
            size, at = _varint(raw, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = raw[at:at + size], at + size
        yield key >> 3, value


def _varints(raw):
    at = 0
    while at < len(raw):
        value, at = _varint(raw, at)
        yield value


class Tensor:
    """name, datatype, shape, and raw: the protocol's raw form."""

    def __init__(self, name, datatype, shape, raw):
        self.name, self.datatype, self.shape, self.raw = name, datatype, list(shape), bytes(raw)

    @classmethod
    def of(cls, message):
        """Of a TensorProto's bytes; None when the protocol has no such type."""
        dims, found, texts = [], {}, []
        kind, name, raw = 0, "", None
        for number, value in fields(message):
            if number == 1:
                dims += [value] if isinstance(value, int) else list(_varints(value))
            elif number == 2:
                kind = value
            elif number == 6:
                texts.append(value)
            elif number == 8:
                name = value.decode()
            elif number == 9:
                raw = value
            elif number in PACKED:
                found.setdefault(number, []).append(value)
        datatype = DATATYPES.get(kind)
        if datatype is None:
            return None
        if datatype == "BYTES":
            raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        elif raw is None:
            raw = cls._numbers(datatype, found)
        return cls(name, datatype, dims, raw)

    @staticmethod
    def _numbers(datatype, found):
        """From the fields with one number an element."""
        if not found:
            return b""
        (number, parts), = found.items()
        if PACKED[number]:
            numbers = numpy.frombuffer(b"".join(parts), PACKED[number])
            return numbers.astype(DTYPES[datatype]).tobytes()
        values = [value for part in parts
                  for value in ([part] if isinstance(part, int) else _varints(part))]
        wrapped = numpy.array(values, dtype=numpy.uint64)
        if datatype == "FP16":  # its bits
            return wrapped.astype("<u2").tobytes()
        return wrapped.astype(DTYPES[datatype]).tobytes()

    @classmethod
    def read(cls, path):
        return cls.of(path.read_bytes())

    def array(self):
        """numpy's view; BF16 as float32, BYTES as an array of objects."""
        if self.datatype == "BYTES":
            values, at = [], 0
            while at < len(self.raw):
                size, = struct.unpack_from("<I", self.raw, at)
                values.append(self.raw[at + 4:at + 4 + size])
                at += 4 + size
            array = numpy.array(values, dtype=object)
        else:
            array = numpy.frombuffer(self.raw, DTYPES[self.datatype])
        if self.datatype == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        return array.reshape(self.shape)


def graph_inputs(model):
    """Names of a ModelProto's inputs, without those that have initializers, in its order."""
    graph = next(value for number, value in fields(model) if number == 7)
    stored = {dict(fields(value)).get(8) for number, value in fields(graph) if number == 5}
    names = [dict(fields(value))[1] for number, value in fields(graph) if number == 11]
    return [name.decode() for name in names if name not in stored]


def operators(model):
    """(domain, name) of the main graph's nodes."""
    graph = next(value for number, value in fields(model) if number == 7)
    nodes = [dict(fields(value)) for number, value in fields(graph) if number == 1]
    return {(node.get(7, b"").decode(), node[4].decode()) for node in nodes}


def numbered(folder, kind):
    """The files input_0.pb, input_1.pb, ... of a data set."""
    n = sum(name.startswith(kind) for name in os.listdir(folder))
    return [folder / f"{kind}_{number}.pb" for number in range(n)]
