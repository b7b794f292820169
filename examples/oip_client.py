"""A client of the Open Inference Protocol over REST, with binary tensors: numpy arrays in, numpy
arrays out. It needs nothing but numpy, and works with any server that has the binary extension.

    client = Client("http://127.0.0.1:8080")
    scores = client.infer("resnet20", input=image)["output"]
"""
import http.client
import json
import os
import urllib.parse

import numpy

DTYPES = {"BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
          "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
          "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
DATATYPES = {numpy.dtype(dtype): datatype for datatype, dtype in DTYPES.items()}
HEADER_LENGTH = "Inference-Header-Content-Length"
DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 120


class Client:
    """One connection, kept between calls; not for several threads at once."""

    def __init__(self, url=DEFAULT_URL, key=os.environ.get("STARLANE_API_KEY")):
        parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._connection = kind[parts.scheme](parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def infer(self, model, /, **inputs):
        """The model's outputs by name; inputs are arrays of the types that the model takes."""
        arrays = {name: numpy.ascontiguousarray(array) for name, array in inputs.items()}
        head = json.dumps({
            "inputs": [{"name": name, "datatype": DATATYPES[array.dtype], "shape": array.shape,
                        "parameters": {"binary_data_size": array.nbytes}}
                       for name, array in arrays.items()],
            "parameters": {"binary_data_output": True}}).encode()
        body = head + b"".join(array.tobytes() for array in arrays.values())
        path = f"/v2/models/{urllib.parse.quote(model, safe='')}/infer"
        self._connection.request("POST", path, body, {
            **self._headers, HEADER_LENGTH: str(len(head)),
            "Content-Type": "application/octet-stream"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{model}: {json.loads(content)['error']}")
        return _read_outputs(content, int(response.headers[HEADER_LENGTH]))

    def close(self):
        self._connection.close()


def _read_outputs(content, head_length):
    arrays, offset = {}, head_length
    for output in json.loads(content[:head_length])["outputs"]:
        n_bytes = output["parameters"]["binary_data_size"]
        values = numpy.frombuffer(content[offset:offset + n_bytes], DTYPES[output["datatype"]])
        arrays[output["name"]] = values.reshape(output["shape"])
        offset += n_bytes
    return arrays
