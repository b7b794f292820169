"""The model store as a user sees it: import, list, show, cp, rm, and running what is in it."""
import hashlib
import json

import pytest

from conftest import MODELS
from pull_server import make_gguf, make_shards


def names(starlane):
    return [model["name"] for model in starlane.json("list", "--json")["models"]]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "Tiny-F32.gguf"
    path.write_bytes(make_gguf(4000, general__file_type=(0, 4)))
    return path


def test_an_empty_store_has_the_bundled_model(starlane, tmp_path):
    assert names(starlane) == ["starling:latest"]
    assert "bundled" in starlane.text("ls")
    assert not (tmp_path / "home").exists()


def test_import_run_copy_remove(starlane):
    assert starlane.text("import", MODELS / "starling.gguf", "--name", "me/s:1") == "me/s:1\n"
    assert names(starlane) == ["me/s:1", "starling:latest"]
    arguments = ["Once", "--max-tokens", "4", "--temp", "0", "--threads", "1"]
    text = starlane.text("run", "starling", *arguments)
    assert starlane.text("run", "me/s:1", *arguments) == text
    starlane.call("cp", "me/s:1", "two")
    starlane.call("rm", "me/s:1")
    assert starlane.text("run", "two", *arguments) == text
    starlane.call("rm", "two")
    assert names(starlane) == ["starling:latest"]


def test_list_says_what_it_is(starlane, file):
    starlane.call("import", file)
    model = starlane.json("list", "--json")["models"][-1]
    assert model["name"] == "tiny-f32:latest" and model["size"] == file.stat().st_size
    assert model["digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model["family"] == "llama" and model["quantization_level"] == "F32"
    line = starlane.text("list").splitlines()[-1]
    assert model["digest"][:12] in line and "tiny-f32:latest" in line


def test_show_of_a_stored_model(starlane, file):
    starlane.call("import", file, "--name", "m")
    shown = starlane.json("show", "m", "--json")
    assert shown["name"] == "m:latest" and shown["source"] == str(file)
    assert "sha256:" + shown["digest"] in starlane.text("show", "m")


def test_import_of_a_folder(starlane, file, tmp_path):
    for number, data in enumerate(make_shards(2, 4000), 1):
        (tmp_path / f"split-{number:05}-of-00002.gguf").write_bytes(data)
    (tmp_path / "bad.gguf").write_text("no model")
    done = starlane.call("import", tmp_path, expect=1)
    assert sorted(done.stdout.decode().split()) == ["split:latest", "tiny-f32:latest"]
    assert b"bad:latest left out" in done.stderr
    assert starlane.json("show", "split", "--json")["files"] == 2
    assert file.exists()


def test_import_of_an_ollama_store(starlane, file, tmp_path):
    store = tmp_path / "ollama"
    layers = [("model", file.read_bytes()), ("params", b'{"stop": ["</s>"]}'), ("system", b"Hi.")]
    manifest = {"schemaVersion": 2, "layers": []}
    (store / "blobs").mkdir(parents=True)
    for kind, data in layers:
        digest = hashlib.sha256(data).hexdigest()
        (store / "blobs" / f"sha256-{digest}").write_bytes(data)
        manifest["layers"].append({"mediaType": f"application/vnd.ollama.image.{kind}",
                                   "digest": f"sha256:{digest}", "size": len(data)})
    place = store / "manifests/registry.ollama.ai/library/tiny"
    place.mkdir(parents=True)
    (place / "1b").write_text(json.dumps(manifest))
    assert starlane.text("import", store) == "tiny:1b\n"
    shown = starlane.json("show", "tiny:1b", "--json")
    assert shown["system"] == "Hi." and json.loads(shown["defaults"]) == {"stop": ["</s>"]}


@pytest.mark.parametrize("arguments, status, words", [
    (["rm", "none"], 1, "no such model"),
    (["rm", "starling"], 2, "comes with the program"),
    (["rm"], 2, "which model"),
    (["rm", "../../etc"], 2, "model name"),
    (["cp", "none", "x"], 1, "no such model"),
    (["cp", "starling", "a/b/c/d"], 2, "model name"),
    (["cp", "starling", "starling"], 2, "bundled"),
    (["import", "/nonexistent.gguf"], 1, "No such file"),
    (["import", "/tmp", "--name", "x"], 2, "--name"),
    (["show", "none"], 1, "starlane pull none:latest"),
    (["run", "none", "x"], 1, "starlane pull none:latest"),
])
def test_misuse(starlane, arguments, status, words):
    assert words in starlane.error(*arguments, expect=status)


def test_a_file_in_this_folder_needs_no_path(starlane, stories, tmp_path, monkeypatch):
    (tmp_path / "tale").write_bytes(stories.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert starlane.json("show", "tale", "--json")["architecture"]["name"] == "llama"


def test_broken_manifests_are_told_and_not_listed(starlane, file, tmp_path):
    starlane.call("import", file, "--name", "m")
    place = tmp_path / "home/models/manifests/registry.ollama.ai/library/m/latest"
    place.write_text(place.read_text().replace("sha256:", "sha256:../../"))
    done = starlane.call("list", "--json")
    assert json.loads(done.stdout)["broken"] == 1 and b"1 left out" in done.stderr
    assert "manifest" in starlane.error("run", "m", "x", expect=1)
    starlane.call("rm", "m")
    assert starlane.json("list", "--json")["broken"] == 0
