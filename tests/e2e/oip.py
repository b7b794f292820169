"""Requests of the Open Inference Protocol over REST, with Triton's binary tensors, for tests."""
import json
import struct

HEADER = "Inference-Header-Content-Length"

FORMATS = {"BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b",
           "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"}
"""Of struct, by datatype. BF16 has none, and BYTES have lengths."""


def pack(datatype, values):
    """The raw form: little-endian, row-major; BYTES with their lengths."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    if datatype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)


def unpack(datatype, raw):
    if datatype == "BYTES":
        values = []
        while raw:
            [n] = struct.unpack_from("<I", raw)
            values.append(raw[4:4 + n])
            assert len(values[-1]) == n
            raw = raw[4 + n:]
        return values
    if datatype == "BF16":
        return [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
    n = len(raw) // struct.calcsize("<" + FORMATS[datatype])
    return list(struct.unpack(f"<{n}{FORMATS[datatype]}", raw))


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def raw_tensor(name, datatype, shape, raw):
    """An input whose data stand behind the JSON."""
    return {"name": name, "datatype": datatype, "shape": shape,
            "parameters": {"binary_data_size": len(raw)}}


def send_infer(service, path, request, binary=b"", expect=200, headers=None):
    """The answer to one request; `path` is that of the model."""
    document = request if isinstance(request, bytes) else json.dumps(request).encode()
    headers = dict(headers or {})
    if binary:
        headers.setdefault(HEADER, str(len(document)))
    return service.post(path + "/infer", document + binary, headers=headers, expect=expect)


def outputs(answer):
    """{name: (datatype, shape, values)} of an answer, JSON or binary."""
    length = answer.headers.get(HEADER.lower())
    end = int(length) if length else len(answer.body)
    document, rest = json.loads(answer.body[:end]), answer.body[end:]
    kind = "application/octet-stream" if length else "application/json"
    assert answer.headers["content-type"] == kind
    values = {}
    for output in document["outputs"]:
        if "data" in output:
            assert "parameters" not in output
            data = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            data, rest = unpack(output["datatype"], rest[:size]), rest[size:]
        values[output["name"]] = (output["datatype"], output["shape"], data)
    assert not rest, "every byte belongs to an output"
    return values
