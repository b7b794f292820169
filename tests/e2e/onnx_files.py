"""ONNX files made by hand, field by field, so that they can lie."""
import struct

FLOAT = 1


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def value_info(name, shape, datatype=FLOAT):
    dims = b"".join(data(1, data(2, size) if isinstance(size, str) else number(1, size))
                    for size in shape)
    return data(1, name) + data(2, data(1, number(1, datatype) + data(2, dims)))


def weights(name, shape, location=None):
    """A FLOAT tensor of zeros, in the file or beside it."""
    count = 1
    for size in shape:
        count *= size
    head = b"".join(number(1, size) for size in shape) + number(2, FLOAT) + data(8, name)
    if location is None:
        return head + data(9, struct.pack(f"<{count}f", *([0.0] * count)))
    return head + data(13, data(1, "location") + data(2, location)) + number(14, 1)


def make_onnx(*tensors, producer="tester"):
    """A model that adds its first tensor to "x" [batch, 3] and gives "y"."""
    tensors = tensors or (weights("w", [3]),)
    node = data(1, "x") + data(1, "w") + data(2, "y") + data(3, "sum") + data(4, "Add")
    graph = data(1, node) + data(2, "main") + b"".join(data(5, tensor) for tensor in tensors)
    graph += data(11, value_info("x", ["batch", 3])) + data(12, value_info("y", ["batch", 3]))
    return number(1, 8) + data(2, producer) + data(8, number(2, 13)) + data(7, graph)
