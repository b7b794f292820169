"""`starlane infer`: images, tensors and texts in; names, boxes and tensors out; in the program's own
process and on a server."""
import json
import struct

import numpy
import pytest

from conftest import ROOT, shared_path
from onnx_files import make_onnx

PROCESSING = ROOT / "examples/processing"
PHOTOS = "data/images/photos"


@pytest.fixture
def add(tmp_path):
    """x [batch, 3] comes out as y."""
    path = tmp_path / "add.onnx"
    path.write_bytes(make_onnx())
    return path


def import_resnet(starlane):
    starlane.call("import", shared_path("data/onnx/resnet20_cifar10.onnx"), "--name", "resnet20",
                  "--processing", PROCESSING / "resnet20-cifar10.json")


def import_yolox(starlane):
    starlane.call("import", shared_path("data/onnx/yolox-nano/yolox_nano.onnx"), "--name", "yolox",
                  "--processing", PROCESSING / "yolox-nano.json")


def photo(name):
    return shared_path(f"{PHOTOS}/{name}")


@pytest.fixture(params=["here", "on a server"])
def anywhere(request, starlane, serve):
    """The options that make `infer` run in its own process, or on a server. Models must have been
    imported before it is called."""
    def options():
        if request.param == "here":
            return ["--local"]
        host, port = serve("starling", "--threads", 1).address
        return ["--server", f"{host}:{port}"]
    return options


# --- images ---

def test_yolox_finds_what_its_authors_found(starlane, anywhere):
    import_yolox(starlane)
    options = anywhere()
    for name, label, score in (("chelsea", "cat", .58), ("astronaut", "person", .92),
                               ("coffee", "cup", .89)):
        answer = starlane.json("infer", "yolox", photo(f"{name}.png"), "--json", *options)
        best = answer["boxes"][0]
        assert best["label"] == label and abs(best["score"] - score) < 0.01, best
        left, top, right, bottom = best["box"]
        assert 0 <= left < right <= answer["width"] and 0 <= top < bottom <= answer["height"]


def test_resnet20_knows_a_cat_and_a_horse(starlane, anywhere):
    import_resnet(starlane)
    options = anywhere()
    for name in ("cat", "horse"):
        file = photo({"cat": "chelsea.png", "horse": "horse.png"}[name])
        answer = starlane.json("infer", "resnet20", file, "--json", "--top", 3, *options)
        assert [c["label"] for c in answer["classes"]][0] == name
        assert len(answer["classes"]) == 3 and answer["classes"][0]["score"] > 0.9
    table = starlane.text("infer", "resnet20", photo("horse.png"), "--top", 1, *options)
    assert table.split() == ["CLASS", "SCORE", "horse", "0.9999"]


def test_boxes_are_drawn_on_the_image(starlane, tmp_path):
    import_yolox(starlane)
    out = tmp_path / "out.png"
    table = starlane.text("infer", "yolox", photo("coffee.png"), "--draw", out)
    assert table.splitlines()[0].split() == ["CLASS", "SCORE", "LEFT", "TOP", "RIGHT", "BOTTOM"]
    assert table.splitlines()[1].split()[:2] == ["cup", "0.8891"]
    head = out.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (600, 400)
    # What was drawn is an image again, with a cup in it still.
    again = starlane.json("infer", "yolox", out, "--json")
    assert "cup" in [box["label"] for box in again["boxes"]]


def test_an_image_may_come_on_stdin(starlane):
    import_resnet(starlane)
    image = photo("chelsea.png").read_bytes()
    assert "cat" in starlane.text("infer", "resnet20", "-", "--top", 1, stdin=image)


def test_a_model_file_with_a_processing_of_ones_own(starlane, tmp_path):
    model = shared_path("data/onnx/resnet20_cifar10.onnx")
    own = json.loads((PROCESSING / "resnet20-cifar10.json").read_text())
    own["labels"][3] = "puss"
    (tmp_path / "own.json").write_text(json.dumps(own))
    text = starlane.text("infer", model, photo("chelsea.png"), "--processing",
                         tmp_path / "own.json", "--top", 1)
    assert text.split()[2] == "puss"
    own["input"]["widht"] = 32
    (tmp_path / "own.json").write_text(json.dumps(own))
    error = starlane.error("infer", model, photo("chelsea.png"), "--processing",
                           tmp_path / "own.json", expect=2)
    assert 'did you mean "width"' in error


def test_scores_and_boxes_can_be_fewer(starlane):
    import_yolox(starlane)
    few = starlane.json("infer", "yolox", photo("coffee.png"), "--json", "--score-min", 0.8)
    assert [box["label"] for box in few["boxes"]] == ["cup"]
    one = starlane.json("infer", "yolox", photo("coffee.png"), "--json", "--top", 1)
    assert len(one["boxes"]) == 1


# --- tensors ---

def test_values_become_tensors(starlane, add, anywhere):
    starlane.call("import", add, "--name", "add")
    options = anywhere()
    for value, shape, data in (("[1,2.5,-3]", [1, 3], [1, 2.5, -3]),
                               ("[[1,2,3],[4,5,6]]", [2, 3], [1, 2, 3, 4, 5, 6]),
                               ("[1,2,3,4,5,6]", [2, 3], [1, 2, 3, 4, 5, 6])):
        answer = starlane.json("infer", "add", f"x={value}", "--json", *options)
        assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": shape,
                                      "data": data}]
    table = starlane.text("infer", "add", "x=[1,2.5,-3]", *options).splitlines()
    assert table[1].split(maxsplit=3) == ["y", "FP32", "[1,3]", "1, 2.5, -3"]


def test_npy_files_come_and_go(starlane, add, tmp_path):
    values = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    numpy.save(tmp_path / "in.npy", values)
    values.tofile(tmp_path / "in.raw")
    for given in (tmp_path / "in.npy", f"x={tmp_path / 'in.npy'}", f"x=@{tmp_path / 'in.raw'}"):
        out = tmp_path / "out"
        starlane.call("infer", add, given, "--output-dir", out)
        result = numpy.load(out / "y.npy")
        assert result.dtype == numpy.float32 and (result == values).all()
        (out / "y.npy").unlink()


def test_what_does_not_fit_says_what_would(starlane, add, tmp_path):
    numpy.save(tmp_path / "wide.npy", numpy.zeros((1, 4), dtype=numpy.float32))
    numpy.save(tmp_path / "double.npy", numpy.zeros((1, 3)))
    numpy.save(tmp_path / "turned.npy", numpy.zeros((3, 2), dtype=numpy.float32).T)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "photo.png").write_text("no image")
    for argument, words in (("x=[1,2]", "takes x FP32 [-1,3]"),
                            ("x=[1,2,three]", "JSON"),
                            (tmp_path / "wide.npy", "[1,4]"),
                            (tmp_path / "double.npy", "FP64"),
                            (tmp_path / "photo.png", "has no processing"),
                            ("z=[1,2,3]", "has no processing")):
        assert words in starlane.error("infer", add, argument, expect=2)
    assert "Fortran" in starlane.error("infer", add, tmp_path / "turned.npy", expect=1)
    assert ".npy" in starlane.error("infer", add, tmp_path / "text.npy", expect=1)
    assert "takes x FP32 [-1,3]" in starlane.error("infer", add, expect=2)
    assert "twice" in starlane.error("infer", add, "x=[1,2,3]", "x=[1,2,3]", expect=2)
    assert "--draw" in starlane.error("infer", add, "x=[1,2,3]", "--draw", tmp_path / "o.png",
                                      expect=2)
    assert "text" in starlane.error("infer", add, "--text", "hello", expect=2)


def test_hostile_images_are_refused(starlane):
    import_resnet(starlane)
    corpus = ROOT / "tests/fuzz/corpus/image"
    for name, words in (("huge.png", "60000 x 60000"), ("cut.png", "cut off"),
                        ("crc.png", "damaged PNG"), ("cut.jpg", "damaged JPEG")):
        assert words in starlane.error("infer", "resnet20", corpus / name, expect=1)


# --- the server alone ---

def test_a_request_of_ones_own(starlane, add, serve, tmp_path):
    starlane.call("import", add, "--name", "add")
    host, port = serve("starling", "--threads", 1).address
    request = {"id": "7", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32",
                                      "data": [1, 2, 3]}]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    options = ["--server", f"{host}:{port}"]
    answer = starlane.json("infer", "add", "--json-input", tmp_path / "request.json", *options)
    assert answer["id"] == "7" and answer["outputs"][0]["data"] == [1, 2, 3]
    assert starlane.json("infer", "add", "--json-input", "-", *options,
                         stdin=json.dumps(request).encode()) == answer
    request["inputs"][0]["shape"] = [1, 4]
    assert "shape" in starlane.error("infer", "add", "--json-input", "-", *options, expect=2,
                                     stdin=json.dumps(request).encode())


def test_a_text_goes_to_a_model_of_texts(starlane, serve):
    host, port = serve("starling", "--threads", 1).address
    answer = starlane.json("infer", "starling", "--text", "Once upon a time", "--json", "--server",
                           f"{host}:{port}")
    output = answer["outputs"][0]
    assert output["datatype"] == "BYTES" and len(output["data"][0]) > 0


def test_names_that_nobody_has(starlane, serve):
    host, port = serve("starling", "--threads", 1).address
    error = starlane.error("infer", "nobody", "x=[1]", "--server", f"{host}:{port}", expect=1)
    assert "nobody" in error
    assert "nobody" in starlane.error("infer", "nobody", "x=[1]", "--local", expect=1)
    assert "starlane run" in starlane.error("infer", "starling", "--text", "a", "--local", expect=1)
    assert "exclude" in starlane.error("infer", "starling", "--text", "a", "--local", "--server",
                                       f"{host}:{port}", expect=2)


def test_timings_go_to_stderr(starlane, add):
    done = starlane.call("infer", add, "x=[1,2,3]", "--verbose")
    assert b"takes x FP32 [-1,3]; gives y FP32 [-1,3]" in done.stderr
    assert b"in this process: model" in done.stderr
