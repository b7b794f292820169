"""ONNX models in the store as a user sees them: import, list, show, versions; bad files; kills."""
import json
import time

import pytest

from conftest import TIMEOUT_S, shared_path
from onnx_files import make_onnx, weights


def names(starlane):
    return [model["name"] for model in starlane.json("list", "--json")["models"]
            if not model["bundled"]]


def stored_files(tmp_path):
    home = tmp_path / "home/models"
    return [path for path in home.rglob("*") if path.is_file() and path.name != "lock"]


def test_resnet20(starlane, tmp_path):
    labels = tmp_path / "cifar10.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(10)))
    model = shared_path("data/onnx/resnet20_cifar10.onnx")
    assert starlane.text("import", model, "resnet20", "--labels", labels, "--processing", "auto",
                         "--options", '{"instances": 2}') == "resnet20:latest\n"
    listed = starlane.json("list", "--json")["models"][0]
    assert listed["format"] == "onnx" and listed["quantization_level"] == "FP32"
    assert "onnx" in starlane.text("list").splitlines()[1]
    shown = starlane.json("show", "resnet20", "--json")
    assert shown["inputs"] == [{"name": "input", "kind": "tensor", "datatype": "FP32",
                                "shape": [1, 3, 32, 32], "dimension_names": [None] * 4}]
    assert shown["outputs"][0]["shape"] == [1, 10]
    assert shown["labels"] == 10 and shown["options"] == {"instances": 2}
    # clients of a server see the processing, not the files
    assert shown["processing"]["labels"][3] == "class 3"
    assert shown["processing"]["input"]["width"] == 32
    assert {"domain": "", "name": "Conv", "nodes": 21} in shown["operators"]
    text = starlane.text("show", "resnet20")
    for line in ("[1, 3, 32, 32]", "ai.onnx 10", "271.7 thousand", "21 Conv", "labels"):
        assert line in text


def test_folders_bring_what_belongs_to_them(starlane):
    assert starlane.text("import", shared_path("data/onnx/yolox-nano"), "--processing", "auto") == \
        "yolox_nano:latest\n"
    shown = starlane.json("show", "yolox_nano", "--json")
    assert shown["labels"] == 80 and shown["processing"]["output"]["decoder"] == "yolox"
    starlane.call("import", shared_path("data/onnx/magika"), "--name", "filetype")
    shown = starlane.json("show", "filetype", "--json")
    assert shown["inputs"][0]["datatype"] == "INT32" and shown["inputs"][0]["shape"][0] == -1
    assert names(starlane) == ["filetype:latest", "yolox_nano:latest"]


def test_external_data_lies_beside_the_model(starlane, tmp_path):
    folder = tmp_path / "Big"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(make_onnx(weights("w", [3], "w.data")))
    (folder / "w.data").write_bytes(bytes(12))
    assert starlane.text("import", folder) == "big:latest\n"
    shown = starlane.json("show", "big", "--json")
    assert shown["external_data"] == ["w.data"]
    assert shown["bytes"] == (folder / "model.onnx").stat().st_size + 12
    assert "w.data" in starlane.text("show", "big")
    starlane.call("rm", "big")
    assert stored_files(tmp_path) == []


def test_versions(starlane, tmp_path):
    for number in (1, 2, 10):
        folder = tmp_path / "repository/adder" / str(number)
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(make_onnx(producer=f"version {number}"))
    (tmp_path / "repository/adder/config.pbtxt").write_text(
        'name: "adder" max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 50 }')
    assert starlane.text("import", tmp_path / "repository") == "adder:1\nadder:2\nadder:10\n"

    def producer(name):
        return starlane.json("show", name, "--json")["producer"]

    assert producer("adder") == producer("adder:latest") == "version 10"
    assert producer("adder:2") == "version 2"
    starlane.call("cp", "adder:2", "adder:default")
    assert producer("adder") == "version 2" and producer("adder:latest") == "version 10"
    shown = starlane.json("show", "adder:1", "--json")
    assert shown["versions"] == ["1", "2", "10", "default"]
    assert shown["options"] == {"batch_max": 8, "batch_delay_us": 50}
    assert "which tag" in starlane.error("rm", "adder", expect=1)
    starlane.call("rm", "adder:default", "adder:10")
    assert producer("adder") == "version 2"


HOSTILE = [
    (make_onnx(weights("w", [3], "../../secret")), 'external_data: location: "../../secret"'),
    (make_onnx(weights("w", [3], "/etc/passwd")), 'location: "/etc/passwd"'),
    (make_onnx(weights("w", [3], "missing.bin")), 'external data "missing.bin"'),
    (make_onnx(weights("w", [3]) + b"\x08\x05"), "raw_data: 12 bytes, type and dims make 60"),
    (make_onnx()[:-10], "cut off"),
    (b"no model at all", "cut off"),
    (make_onnx(weights("w", [1 << 62, 1 << 62, 0]) + b"\x08\x7f" * 14), "dims: more than 16"),
]


@pytest.mark.parametrize("content, words", HOSTILE)
def test_hostile_files_are_refused_and_leave_nothing(starlane, tmp_path, content, words):
    (tmp_path / "bad.onnx").write_bytes(content)
    assert words in starlane.error("import", tmp_path / "bad.onnx", expect=1)
    assert stored_files(tmp_path) == [] and names(starlane) == []


@pytest.mark.parametrize("arguments, status, words", [
    (["--processing", '{"input": {"kind": "sound"}}'], 2, "processing: "),
    (["--processing", "[1]"], 1, "No such file"),
    (["--options", '{"providers": ["none"]}'], 2, "options of the ONNX engine: "),
    (["--labels", "/nonexistent"], 1, "labels"),
    (["--name", "a/b/c/d"], 2, "model name"),
    (["other", "--name", "x"], 2, "two names"),
])
def test_misuse(starlane, tmp_path, arguments, status, words):
    (tmp_path / "good.onnx").write_bytes(make_onnx())
    assert words in starlane.error("import", tmp_path / "good.onnx", *arguments, expect=status)
    assert stored_files(tmp_path) == []


def test_a_description_goes_with_one_onnx_model(starlane, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.onnx").write_bytes(make_onnx(producer=name))
    assert "not one" in starlane.error("import", tmp_path, "x", expect=2)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert ".onnx" in starlane.error("import", tmp_path / "m.gguf", "--options", "{}", expect=2)


def kill_when(process, tmp_path, n_files):
    """Kills the process once so many files lie in its home, or it is done. True: it was killed."""
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None:
        assert time.monotonic() < deadline
        if sum(1 for _ in (tmp_path / "home").rglob("*")) >= n_files:
            process.kill()
            break
    return process.wait() != 0


def test_killed_at_many_moments(starlane, tmp_path):
    folder = tmp_path / "big"
    folder.mkdir()
    parts = [f"w{number}.data" for number in range(6)]
    (folder / "model.onnx").write_bytes(
        make_onnx(*(weights(f"w{i}", [250000], part) for i, part in enumerate(parts))))
    for number, part in enumerate(parts):
        (folder / part).write_bytes(bytes([number]) * 1_000_000)
    for n_files in range(1, 32, 3):
        kill_when(starlane.start("import", folder), tmp_path, n_files)
        listed = json.loads(starlane.call("list", "--json").stdout)
        assert listed["broken"] == 0
        for model in listed["models"]:
            assert starlane.json("show", model["name"], "--json")["bytes"] == model["size"]
    assert starlane.text("import", folder) == "big:latest\n"
    starlane.call("rm", "big", "--unused")
    assert stored_files(tmp_path) == []
