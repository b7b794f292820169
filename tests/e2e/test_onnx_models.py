"""Real models through `starlane serve`, against what their authors say they give."""
import base64
import gzip
import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import numpy
import pytest

from conftest import ROOT, Starlane, shared_path
from grpc_client import DEADLINE_S, Schema, Stub, open_channel
from oip import outputs, raw_tensor, send_infer
from onnx_data import Tensor, fields, graph_inputs, unpack_archive
from service import Service, wait_for

SERVICE = "inference.GRPCInferenceService"
ALONE_TOLERANCE, TOGETHER_TOLERANCE = 1e-5, 1e-2
"""Of Magika's scores. The reference ran each file alone. ONNX Runtime takes another kernel for two
rows and more, with which scores move by up to .005, the same however many and whichever the other
rows are."""


def example(name):
    """The module examples/NAME."""
    path = ROOT / "examples" / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory):
    """A service that has magika, resnet20, yolox and the light models."""
    folder = tmp_path_factory.mktemp("models")
    starlane = Starlane(folder / "home")
    processing = ROOT / "examples/processing"
    starlane.call("import", shared_path("data/onnx/magika"), "magika")
    starlane.call("import", shared_path("data/onnx/magika"), "magika:batched", "--options",
                  '{"batch_max": 32, "batch_delay_us": 50000}')
    starlane.call("import", shared_path("data/onnx/resnet20_cifar10.onnx"), "resnet20",
                  "--processing", processing / "resnet20-cifar10.json")
    starlane.call("import", shared_path("data/onnx/yolox-nano"), "yolox", "--processing",
                  processing / "yolox-nano.json")
    light = unpack_archive("onnx-light-models.tar.gz", folder) / "light"
    for model in light.glob("*.onnx"):
        starlane.call("import", model)
    with Service(starlane) as service:
        service.light = light
        yield service


def ask(service, model, inputs):
    """{name: array} over REST, as binary tensors."""
    path = f"/v2/models/{model}"
    head = [raw_tensor(name, datatype, array.shape, array.tobytes())
            for name, (datatype, array) in inputs.items()]
    answer = send_infer(service, path, {"inputs": head, "parameters": {"binary_data_output": True}},
                        b"".join(array.tobytes() for _, array in inputs.values()))
    return {name: numpy.array(values).reshape(shape)
            for name, (_, shape, values) in outputs(answer).items()}


# --- Magika ---

@pytest.fixture(name="magika", scope="module")
def _magika():
    return example("magika/magika.py")


@pytest.fixture(name="cases", scope="module")
def _cases():
    path = shared_path("data/onnx/magika/reference_by_content.json.gz")
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture(name="config", scope="module")
def _config():
    return json.loads(shared_path("data/onnx/magika/config.min.json").read_text())


def check_cases(magika, cases, config, infer, tolerance):
    assert len(cases) == 141
    for mode in magika.MODES:
        of_mode = [case for case in cases if case["prediction_mode"] == mode]
        contents = [base64.b64decode(case["content_base64"]) for case in of_mode]
        answers = magika.classify(contents, config, infer, mode)
        for case, (guess, label, score) in zip(of_mode, answers):
            wanted = case["prediction"]
            assert (guess, label) == (wanted["dl"], wanted["output"]), case
            assert abs(score - wanted["score"]) <= tolerance, (score, case)


@pytest.mark.parametrize("together, tolerance", [(False, ALONE_TOLERANCE),
                                                 (True, TOGETHER_TOLERANCE)])
def test_magika_gives_its_reference_answers_over_rest(service, magika, cases, config, together,
                                                      tolerance):
    client = example("oip_client.py").Client(service.url)

    def infer(rows):
        parts = [rows] if together else numpy.split(rows, len(rows))
        return numpy.concatenate([client.infer("magika", bytes=part)["target_label"]
                                  for part in parts])
    check_cases(magika, cases, config, infer, tolerance)
    client.close()


def test_magika_gives_its_answers_over_grpc_in_common_runs(service, magika, cases, config):
    schema = Schema.compile(ROOT, "proto/open_inference.proto")
    channel = open_channel("%s:%d" % service.address)
    stub = Stub(channel, schema, SERVICE)

    def infer(rows):
        """Each row is a request of its own; all are under way at a time."""
        calls = [stub.ModelInfer.future(schema.message(
            "inference.ModelInferRequest", model_name="magika:batched",
            raw_input_contents=[row.tobytes()],
            inputs=[{"name": "bytes", "datatype": "INT32", "shape": [1, len(row)]}]),
            timeout=DEADLINE_S) for row in rows]
        return [numpy.frombuffer(call.result().raw_output_contents[0], "<f4") for call in calls]

    def counted():
        """(rows, runs) of the worker, once it has told of all that was asked: it does so every few
        seconds."""
        asked = service.metric("starlane_infer_rows_total", "magika:batched")
        wait_for(lambda: service.metric("starlane_model_batch_rows_total", "magika:batched")
                 == asked, "the worker's counts")
        return asked, service.metric("starlane_model_batch_runs_total", "magika:batched")
    rows, runs = counted()
    check_cases(magika, cases, config, infer, TOGETHER_TOLERANCE)
    rows_then, runs_then = counted()
    assert rows_then - rows == sum(case["prediction"]["dl"] != "undefined" for case in cases)
    assert runs_then - runs < (rows_then - rows) / 2
    channel.close()


def test_the_example_names_files(service, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, ROOT / "examples/magika/magika.py", "--server", service.url, "--config",
         shared_path("data/onnx/magika/config.min.json"), ROOT / "src/cli/main.c",
         shared_path("data/images/photos/china.jpg"), tmp_path / "empty"],
        capture_output=True, text=True, check=True)
    found = [line.rsplit("/", 1)[1].split()[:2] for line in done.stdout.splitlines()]
    assert found == [["main.c:", "c"], ["china.jpg:", "jpeg"], ["empty:", "empty"]]


# --- ResNet-20 and YOLOX-nano, as a person asks them ---

def test_yolox_finds_what_its_authors_found(service, tmp_path):
    photos = shared_path("data/images/photos")
    server = "%s:%d" % service.address
    for name, label, score in (("chelsea", "cat", .58), ("astronaut", "person", .92),
                               ("coffee", "cup", .89)):
        drawn = tmp_path / f"{name}.png"
        answer = service.starlane.json("infer", "yolox", photos / f"{name}.png", "--json", "--draw",
                                       drawn, "--server", server)
        best = answer["boxes"][0]
        assert best["label"] == label and round(best["score"], 2) == score, best
        before, after = (decode_head(path.read_bytes()) for path in (photos / f"{name}.png", drawn))
        assert before == after == (answer["width"], answer["height"])


def decode_head(png):
    """(width, height) of a whole PNG file: every chunk has its checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        checksum, = struct.unpack_from(">I", png, at + 8 + size)
        assert zlib.crc32(png[at + 4:at + 8 + size]) == checksum
        kinds.append(kind)
        at += 12 + size
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND"
    return struct.unpack_from(">II", png, 16)


class ResNet20:
    """The network by numpy alone, in float64, from the file's own nodes and weights: independent of
    everything that the service is made of."""

    def __init__(self, model):
        graph = next(value for number, value in fields(model) if number == 7)
        tensors = [Tensor.of(value) for number, value in fields(graph) if number == 5]
        self.weights = {tensor.name: tensor.array().astype(float) for tensor in tensors}
        self.nodes = [list(fields(value)) for number, value in fields(graph) if number == 1]

    def run(self, images):
        values = dict(self.weights, input=images.astype(float))
        for node in self.nodes:
            inputs = [values[name.decode()] for number, name in node if number == 1]
            kind, output = (dict(node)[number].decode() for number in (4, 2))
            values[output] = getattr(self, f"_{kind.lower()}")(node, *inputs)
        return values["output"]

    @staticmethod
    def _ints(node, name):
        """An attribute with whole numbers."""
        attributes = [list(fields(value)) for number, value in node if number == 5]
        (found,) = [a for a in attributes if dict(a)[1] == name.encode()]
        return [value for number, value in found if number == 8]

    def _conv(self, node, x, weights, bias):
        (step, _), pads = self._ints(node, "strides"), self._ints(node, "pads")
        assert pads[0] == pads[1] == pads[2] == pads[3]
        x = numpy.pad(x, ((0, 0), (0, 0), (pads[0],) * 2, (pads[0],) * 2))
        n_out, _, size, _ = weights.shape
        side = (x.shape[2] - size) // step + 1
        out = numpy.zeros((len(x), n_out, side, side)) + bias[:, None, None]
        for i in range(size):
            for j in range(size):
                part = x[:, :, i:i + side * step:step, j:j + side * step:step]
                out += numpy.einsum("nchw,oc->nohw", part, weights[:, :, i, j], optimize=True)
        return out

    def _relu(self, _, x):
        return numpy.maximum(x, 0)

    def _add(self, _, x, y):
        return x + y

    def _globalaveragepool(self, _, x):
        return x.mean(axis=(2, 3))

    def _constant(self, _):
        return None

    def _reshape(self, _, x, shape):
        assert shape is None  # the constant [1, -1]: rows stay as they are
        return x

    def _gemm(self, _, x, weights, bias):
        return x @ weights.T + bias


def normalised(images):
    """Levels [n, 3, 32, 32] as the source's own reader of CIFAR-10 scales them."""
    mean, std = (numpy.array(values).reshape(3, 1, 1)
                 for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return ((images / 255 - mean) / std).astype("<f4")


def test_resnet20_computes_what_numpy_computes(service):
    """89 of the first 100 images of CIFAR-10's test batch is what the model's source tells; that
    data set is no part of the shared data (see the next test). So every number is compared with an
    independent computation: cut from real photos' pixels and noise, 20 images."""
    model = shared_path("data/onnx/resnet20_cifar10.onnx").read_bytes()
    assert graph_inputs(model) == ["input"]
    images = numpy.random.default_rng(20).integers(0, 256, (20, 3, 32, 32))
    images[10:] = (images[10:] // 64 + numpy.arange(32) * 6) % 256
    images = normalised(images)
    wanted = ResNet20(model).run(images)
    for image, scores in zip(images, wanted):
        given = ask(service, "resnet20", {"input": ("FP32", image[None])})["output"]
        assert given.shape == (1, 10)
        numpy.testing.assert_allclose(given[0], scores, rtol=1e-4, atol=1e-4)


def cifar10(path, n):
    """(images, labels) of the first n records of CIFAR-10's test_batch.bin."""
    records = numpy.frombuffer(path.read_bytes()[:n * 3073], "u1").reshape(n, 3073)
    return records[:, 1:].reshape(n, 3, 32, 32), records[:, 0]


def test_resnet20_knows_89_of_100_images_of_cifar10(service):
    name = os.environ.get("STARLANE_CIFAR10")
    if not name:
        pytest.skip("STARLANE_CIFAR10 does not name CIFAR-10's test_batch.bin")
    images, labels = cifar10(pathlib.Path(name), 100)
    images = normalised(images)
    right = sum(ask(service, "resnet20", {"input": ("FP32", image[None])})["output"].argmax()
                == label for image, label in zip(images, labels))
    assert right == 89


# --- the light models: real architectures, all weights alike ---

LIGHT = ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
         "squeezenet", "vgg19", "zfnet512"]


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_give_their_expected_outputs(service, name):
    """Inputs are not in the archive: they are those of ONNX's own test runner for these models,
    0, 1/n, 2/n, ... in the input's shape."""
    wanted = Tensor.read(service.light / f"light_{name}_output_0.pb")
    about = service.get(f"/v2/models/light_{name}").json
    (spec,) = about["inputs"]
    n = int(numpy.prod(spec["shape"]))
    image = (numpy.arange(n) / n).astype("<f4").reshape(spec["shape"])
    given = ask(service, f"light_{name}", {spec["name"]: (spec["datatype"], image)})
    (output,) = about["outputs"]
    assert list(given[output["name"]].shape) == wanted.shape and wanted.datatype == "FP32"
    numpy.testing.assert_allclose(given[output["name"]], wanted.array(), rtol=1e-3, atol=1e-5)
    service.post(f"/v2/repository/models/light_{name}/unload", {})
