"""Small ONNX models of any operators, written field by field: node() after node(), then model()."""
import struct

from onnx_files import data, number, value_info, varint

FLOAT, INT32, INT64, STRING, BOOL = 1, 6, 7, 8, 9


def tensor(name, datatype, shape, raw):
    """A TensorProto with raw_data."""
    return (b"".join(number(1, size) for size in shape) + number(2, datatype) + data(8, name)
            + data(9, raw))


def ints(name, values, shape=None):
    """An INT64 tensor; one value without `shape` is a list of one."""
    return tensor(name, INT64, [len(values)] if shape is None else shape,
                  struct.pack(f"<{len(values)}q", *values))


def attribute(name, value):
    """A number, a list of numbers, a text, a graph (bytes), or a tensor (a tuple with bytes)."""
    head = data(1, name)
    if isinstance(value, int):
        return head + number(3, value) + number(20, 2)
    if isinstance(value, list):
        return head + data(8, b"".join(map(varint, value))) + number(20, 7)
    if isinstance(value, str):
        return head + data(4, value) + number(20, 3)
    if isinstance(value, tuple):
        return head + data(5, value[0]) + number(20, 4)
    return head + data(6, value) + number(20, 5)


def node(operator, inputs, outputs, **attributes):
    return (b"".join(data(1, name) for name in inputs) + b"".join(data(2, name) for name in outputs)
            + data(4, operator)
            + b"".join(data(5, attribute(name, value)) for name, value in attributes.items()))


def graph(nodes, inputs, outputs, stored=()):
    """inputs and outputs: (name, datatype, shape)."""
    return (b"".join(data(1, each) for each in nodes) + data(2, "main")
            + b"".join(data(5, each) for each in stored)
            + b"".join(data(11, value_info(name, shape, kind)) for name, kind, shape in inputs)
            + b"".join(data(12, value_info(name, shape, kind)) for name, kind, shape in outputs))


def model(nodes, inputs, outputs, stored=(), opset=13):
    return (number(1, 8) + data(2, "tester") + data(8, number(2, opset))
            + data(7, graph(nodes, inputs, outputs, stored)))


def divider():
    """y = 100 / x in whole numbers: the processor traps when x holds a 0."""
    hundred = tensor("hundred", INT32, [1], struct.pack("<i", 100))
    return model([node("Div", ["hundred", "x"], ["y"])], [("x", INT32, ["n"])],
                 [("y", INT32, ["n"])], [hundred])


def looper():
    """y = x, after as many rounds as x says."""
    body = graph([node("Identity", ["go"], ["go_on"]), node("Identity", ["v"], ["v_out"])],
                 [("i", INT64, []), ("go", BOOL, []), ("v", INT64, [1])],
                 [("go_on", BOOL, []), ("v_out", INT64, [1])])
    return model([node("Squeeze", ["x"], ["rounds"]),
                  node("Loop", ["rounds", "", "x"], ["y"], body=body)],
                 [("x", INT64, [1])], [("y", INT64, [1])])


def filler():
    """Zeros of the shape that x tells."""
    return model([node("ConstantOfShape", ["x"], ["y"])], [("x", INT64, ["rank"])],
                 [("y", FLOAT, ["a", "b"])])
