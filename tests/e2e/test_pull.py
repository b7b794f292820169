"""`starlane pull` from servers that behave and that do not, and pulls that are killed."""
import hashlib
import json
import random
import signal
import subprocess
import time

import pytest

from conftest import MODELS, TIMEOUT_S
from onnx_files import make_onnx, weights
from pull_server import PullServer, make_gguf, make_shards

CHUNK = 65536
SMALL = ["--chunk", str(CHUNK), "--stall", "5"]
"""So that a small file has many ranges."""
KILLS = 20
PACE_S = 0.005
"""Between the pieces of a body: a megabyte takes a third of a second, enough to interrupt it."""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server():
    own = PullServer()
    yield own
    own.close()


@pytest.fixture
def payload():
    return (MODELS / "starling.gguf").read_bytes()


def pull(starlane, *arguments, **options):
    return starlane.call("pull", *SMALL, *arguments, **options)


def pull_fails(starlane, *arguments, expect=1, **options):
    return starlane.error("pull", *SMALL, *arguments, expect=expect, **options)


def stored(starlane):
    """{name: digest} of what was pulled."""
    return {model["name"]: model["digest"] for model in starlane.json("list", "--json")["models"]
            if not model["bundled"]}


def blob(starlane, digest):
    home = starlane.environment["STARLANE_HOME"]
    with open(f"{home}/models/blobs/sha256-{digest}", "rb") as file:
        return file.read()


def check_stored(starlane, url, data):
    """The model is listed, and its blob has the right bytes."""
    assert stored(starlane) == {url: sha256(data)}
    assert blob(starlane, sha256(data)) == data


def test_url_in_parallel_ranges(starlane, server, payload):
    served = server.add("/m.gguf", payload)
    url = server.url + "/m.gguf"
    pull(starlane, f"{url}#sha256={sha256(payload)}")
    check_stored(starlane, url, payload)
    assert served.requests == -(-len(payload) // CHUNK)
    ranges = [headers["Range"] for headers in server.requests("/m.gguf")]
    assert len(set(ranges)) == len(ranges)
    assert starlane.text("run", url, "Once", "--max-tokens", "2", "--threads", "1")


def test_what_is_here_is_not_fetched_again(starlane, server, payload):
    served = server.add("/m.gguf", payload)
    name = f"{server.url}/m.gguf#sha256={sha256(payload)}"
    pull(starlane, name)
    before = served.requests
    pull(starlane, name, "--name", "other")
    assert served.requests == before
    assert set(stored(starlane)) == {f"{server.url}/m.gguf", "other:latest"}


def test_server_that_ignores_ranges(starlane, server, payload):
    served = server.add("/m.gguf", payload, ranges=False)
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", payload)
    assert served.requests == 1


def test_no_validator_and_no_hash_means_one_stream(starlane, server, payload):
    server.add("/m.gguf", payload, etag="")
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", payload)
    assert "Range" not in server.requests("/m.gguf")[-1]


@pytest.mark.parametrize("ranges", [True, False])
def test_connections_that_break(starlane, server, payload, ranges):
    dice = random.Random(7)
    cuts = [dice.randrange(CHUNK) for _ in range(25)] if ranges else [3, 70000, len(payload) - 1]
    server.add("/m.gguf", payload, ranges=ranges, cuts=cuts)
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", payload)


def test_connections_that_always_break_end_in_an_error(starlane, server, payload):
    server.add("/m.gguf", payload, cuts=[0] * 100)
    assert "gave up" in pull_fails(starlane, "--retries", "2", server.url + "/m.gguf")
    assert stored(starlane) == {}


def test_busy_server_is_asked_again_when_it_says(starlane, server, payload):
    server.add("/m.gguf", payload, statuses=[(503, {"Retry-After": "1"}), (429, {}), (500, {})])
    begin = time.monotonic()
    pull(starlane, server.url + "/m.gguf")
    assert time.monotonic() - begin >= 1
    check_stored(starlane, server.url + "/m.gguf", payload)


def test_busy_for_too_long_is_not_waited_for(starlane, server, payload):
    server.add("/m.gguf", payload, statuses=[(503, {"Retry-After": "86400"})])
    assert "86400 s" in pull_fails(starlane, server.url + "/m.gguf")


def test_wrong_hash(starlane, server, payload):
    server.add("/m.gguf", payload)
    line = pull_fails(starlane, f"{server.url}/m.gguf#sha256={'0' * 64}")
    assert "SHA-256" in line and stored(starlane) == {}
    pull(starlane, f"{server.url}/m.gguf#sha256={sha256(payload)}")
    check_stored(starlane, server.url + "/m.gguf", payload)


def test_wrong_content_range(starlane, server, payload):
    server.add("/m.gguf", payload, shift=1)
    line = pull_fails(starlane, "--retries", "1", server.url + "/m.gguf")
    assert "another range" in line and stored(starlane) == {}


def test_file_that_changes_on_the_way(starlane, server):
    old, new = make_gguf(700000, seed=1), make_gguf(700000, seed=2)

    def change(served, number):
        if number == 4:
            served.data, served.etag = new, '"two"'

    server.add("/m.gguf", old, on_request=change)
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", new)


def test_file_that_always_changes(starlane, server, payload):
    def change(served, number):
        served.etag = f'"{number}"'

    server.add("/m.gguf", payload, on_request=change)
    assert "changes" in pull_fails(starlane, server.url + "/m.gguf")


@pytest.mark.parametrize("announce, words", [
    (1 << 60, "more than a model has"), (1 << 41, "GB needed")])
def test_sizes_that_cannot_be(starlane, server, payload, announce, words):
    server.add("/m.gguf", payload, announce=announce)
    assert words in pull_fails(starlane, server.url + "/m.gguf")


def test_announced_size_that_never_comes(starlane, server, payload):
    server.add("/m.gguf", payload, announce=len(payload) + 1, ranges=False)
    pull_fails(starlane, "--retries", "1", server.url + "/m.gguf")
    assert stored(starlane) == {}


def test_endless_body(starlane, server, payload):
    server.add("/m.gguf", payload, endless=True, ranges=False)
    assert "how long" in pull_fails(starlane, server.url + "/m.gguf")
    server.add("/m.gguf", payload, endless=True)
    assert "more bytes" in pull_fails(starlane, server.url + "/m.gguf")
    assert stored(starlane) == {}


def test_stalled_connection(starlane, server, payload):
    server.add("/m.gguf", payload, pace_s=60)
    line = starlane.error("pull", "--stall", "1", "--retries", "0", server.url + "/m.gguf",
                          expect=1)
    assert "slow" in line or "time" in line.lower()


def test_what_is_no_model(starlane, server):
    server.add("/m.gguf", b"<html>" + bytes(500000))
    assert "not a GGUF" in pull_fails(starlane, server.url + "/m.gguf")
    server.add("/n.gguf", b"GGUF" + bytes(500000))
    assert "GGUF" in pull_fails(starlane, server.url + "/n.gguf")
    server.add("/empty.gguf", b"")
    pull_fails(starlane, server.url + "/empty.gguf")
    assert stored(starlane) == {}


def test_plain_http_is_for_this_machine(starlane, server, payload):
    assert "https" in pull_fails(starlane, "http://models.example/m.gguf", expect=2)
    server.add("/m.gguf", redirect="http://models.example/m.gguf")
    assert "plain http" in pull_fails(starlane, server.url + "/m.gguf", expect=2)
    assert "only https" in pull_fails(starlane, "ftp://models.example/m.gguf", expect=2)


def test_circle_of_redirects(starlane, server):
    server.add("/m.gguf", redirect=server.url + "/m.gguf")
    assert "redirects" in pull_fails(starlane, "--retries", "0", server.url + "/m.gguf")


@pytest.mark.parametrize("name", ["../x", "a/../b", "a b", "x:y:z", "-x", ".x", "hf.co/x", ""])
def test_names_that_are_none(starlane, name):
    pull_fails(starlane, "--", name, expect=2)


# Hugging Face

def hugging_face(server, files, **options):
    """Serve {path: data} as the repository org/repo; returns the environment."""
    listing = [{"type": "directory", "path": "sub", "oid": "0" * 40}]
    for path, data in files.items():
        listing.append({"type": "file", "path": path, "size": len(data),
                        "lfs": {"oid": sha256(data), "size": len(data)}})
        server.add(f"/org/repo/resolve/main/{path}", data, **options)
    server.add("/api/models/org/repo/tree/main", json.dumps(listing).encode())
    return {"STARLANE_HF_ENDPOINT": server.url}


def test_hugging_face_chooses_a_quantisation(starlane, server, payload):
    files = {"README.md": b"text", "m-F16.gguf": make_gguf(90000, 1), "mmproj-Q4_K_M.gguf": b"no",
             "m-Q4_K_M.gguf": payload, "m-Q4_K_S.gguf": make_gguf(90000, 2)}
    environment = hugging_face(server, files)
    pull(starlane, "hf.co/org/repo", environment=environment)
    pull(starlane, "hf.co/org/repo:q4_k_s", environment=environment)
    pull(starlane, "hf.co/org/repo:m-F16.gguf", environment=environment)
    assert stored(starlane) == {"hf.co/org/repo:latest": sha256(payload),
                                "hf.co/org/repo:Q4_K_S": sha256(files["m-Q4_K_S.gguf"]),
                                "hf.co/org/repo:m-F16.gguf": sha256(files["m-F16.gguf"])}
    line = pull_fails(starlane, "hf.co/org/repo:Q8_0", environment=environment)
    assert "Q8_0" in line and "m-Q4_K_M.gguf" in line and "mmproj" not in line


def test_hugging_face_onnx_model(starlane, server):
    model = make_onnx(weights("w", [3], "model.onnx_data"))
    files = {"README.md": b"text", "onnx/model.onnx": model, "onnx/model.onnx_data": bytes(12),
             "onnx/model_int8.onnx": make_onnx(), "tokenizer.json": b"{}",
             "config.json": b'{"model_type": "bert"}'}
    environment = hugging_face(server, files)
    pull(starlane, "hf.co/org/repo", environment=environment)
    shown = starlane.json("show", "hf.co/org/repo", "--json")
    assert shown["family"] == "bert" and shown["external_data"] == ["model.onnx_data"]
    assert {file["role"]: file["file"] for file in shown["files"]} == {
        "model": "model.onnx", "data": "model.onnx_data", "tokenizer": "tokenizer.json",
        "config": "config.json"}
    pull(starlane, "hf.co/org/repo:model_int8.onnx", environment=environment)
    assert starlane.json("show", "hf.co/org/repo:model_int8.onnx", "--json")["bytes"] == \
        len(files["onnx/model_int8.onnx"])


def test_an_onnx_file_by_its_url(starlane, server):
    server.add("/net.onnx", make_onnx())
    server.add("/bad.onnx", make_onnx(weights("w", [3], "../w")))
    pull(starlane, server.url + "/net.onnx")
    assert starlane.json("list", "--json")["models"][0]["format"] == "onnx"
    assert "location" in pull_fails(starlane, server.url + "/bad.onnx")
    assert list(stored(starlane)) == [server.url + "/net.onnx"]


def test_hugging_face_split_model(starlane, server):
    shards = make_shards(3, 200000)
    files = {f"Q8_0/m-{number:05}-of-00003.gguf": data for number, data in enumerate(shards, 1)}
    environment = hugging_face(server, files)
    pull(starlane, "hf.co/org/repo:Q8_0", environment=environment)
    shown = starlane.json("show", "hf.co/org/repo:Q8_0", "--json")
    assert shown["files"] == 3 and shown["bytes"] == sum(map(len, shards))
    starlane.call("rm", "hf.co/org/repo:Q8_0")
    home = starlane.environment["STARLANE_HOME"]
    left = subprocess.run(["find", home, "-type", "f", "-size", "+0"], capture_output=True,
                          check=True)
    assert left.stdout == b""


def test_hugging_face_file_that_is_not_the_listed_one(starlane, server, payload):
    environment = hugging_face(server, {"m-Q4_0.gguf": payload})
    served = server.served["/org/repo/resolve/main/m-Q4_0.gguf"]
    served.data = payload[:-1] + b"!"
    assert "SHA-256" in pull_fails(starlane, "hf.co/org/repo", environment=environment)
    served.data = payload + b"!"
    assert "promised" in pull_fails(starlane, "hf.co/org/repo", environment=environment)
    assert stored(starlane) == {}


def test_token_goes_to_no_other_host(starlane, server, payload):
    environment = dict(hugging_face(server, {"m-Q4_0.gguf": payload}), HF_TOKEN="secret-token")
    other = PullServer("127.0.0.2")
    try:
        other.add("/cdn/m", payload)
        server.add("/org/repo/resolve/main/m-Q4_0.gguf", redirect=other.url + "/cdn/m")
        pull(starlane, "hf.co/org/repo", environment=environment)
        assert all(headers["Authorization"] == "Bearer secret-token" for _, headers in server.log)
        assert len(other.log) > 10
        assert not any("secret-token" in str(headers) for _, headers in other.log)
    finally:
        other.close()


def test_place_behind_a_redirect_that_expires(starlane, server, payload):
    environment = hugging_face(server, {"m-Q4_0.gguf": payload})
    server.add("/cdn/m", payload, statuses=[])
    server.add("/org/repo/resolve/main/m-Q4_0.gguf", redirect=server.url + "/cdn/m")

    def expire(served, number):
        if number == 9:
            served.statuses = [(403, {})]

    server.served["/cdn/m"].on_request = expire
    pull(starlane, "hf.co/org/repo", environment=environment)
    assert stored(starlane) == {"hf.co/org/repo:latest": sha256(payload)}


def test_repository_for_some_only(starlane, server):
    server.add("/api/models/org/repo/tree/main", statuses=[(401, {})] * 9)
    line = pull_fails(starlane, "hf.co/org/repo",
                      environment={"STARLANE_HF_ENDPOINT": server.url})
    assert "HF_TOKEN" in line


@pytest.mark.parametrize("document", [b"<html>", b"[1, {}, []]", b'{"error": 1}', b"[" * 100000,
                                      b'[{"path": "../../x.gguf", "size": 1e300}]', b"\xff\xfe"],
                         ids=range(6))
def test_listing_that_is_none(starlane, server, document):
    server.add("/api/models/org/repo/tree/main", document)
    pull_fails(starlane, "hf.co/org/repo", environment={"STARLANE_HF_ENDPOINT": server.url})
    assert stored(starlane) == {}


# Ollama

def ollama(server, name, tag, layers):
    """Serve a model of Ollama's library; layers are (kind, data). Returns the environment."""
    manifest = {"schemaVersion": 2, "layers": []}
    for kind, data in layers:
        manifest["layers"].append({"mediaType": f"application/vnd.ollama.image.{kind}",
                                   "digest": f"sha256:{sha256(data)}", "size": len(data)})
        server.add(f"/v2/library/{name}/blobs/sha256:{sha256(data)}", data)
    server.add(f"/v2/library/{name}/manifests/{tag}", json.dumps(manifest).encode())
    return {"STARLANE_OLLAMA_REGISTRY": server.url}


def test_ollama_model_with_all_its_layers(starlane, server, payload):
    environment = ollama(server, "tiny", "1b", [
        ("model", payload), ("params", b'{"temperature": 0.5, "stop": ["x"]}'),
        ("system", b"Be brief."), ("license", b"MIT"), ("license", b"more"),
        ("template", b"{{ .Prompt }}"), ("projector", b"eyes")])
    pull(starlane, "tiny:1b", environment=environment)
    shown = starlane.json("show", "tiny:1b", "--json")
    assert shown["digest"] == sha256(payload) and shown["system"] == "Be brief."
    assert shown["licence"] == "MIT\n\nmore" and shown["ollama_template"] == "{{ .Prompt }}"
    assert json.loads(shown["defaults"]) == {"temperature": 0.5, "stop": ["x"]}
    assert not any("eyes" in path for path, _ in server.log)
    assert "manifest.v2+json" in server.requests("/v2/library/tiny/manifests/1b")[0]["Accept"]


def test_ollama_template_gives_way_to_the_files_own(starlane, server):
    data = make_gguf(9000, tokenizer__chat_template="{{ messages }}")
    environment = ollama(server, "tiny", "latest",
                         [("model", data), ("template", b"{{ .Prompt }}")])
    pull(starlane, "tiny", environment=environment)
    assert "ollama_template" not in starlane.json("show", "tiny", "--json")


@pytest.mark.parametrize("layers, words", [
    ([("adapter", b"lora")], "adapter"), ([("system", b"x")], "no GGUF"), ([], "no GGUF")])
def test_ollama_models_that_do_not_run(starlane, server, layers, words):
    environment = ollama(server, "tiny", "latest", layers)
    assert words in pull_fails(starlane, "tiny", environment=environment)


@pytest.mark.parametrize("document", [
    b"<html>", b"[]", b'{"layers": 5}', b'{"layers": [{"digest": "sha256:../../etc/passwd"}]}',
    b'{"layers": [{"digest": "sha256:' + b"0" * 64 + b'", "size": -1}]}', b"{" * 90000,
    b'{"x": "' + b"x" * (2 << 20) + b'"}'], ids=range(7))
def test_ollama_manifest_that_is_none(starlane, server, document):
    server.add("/v2/library/tiny/manifests/latest", document)
    pull_fails(starlane, "tiny", environment={"STARLANE_OLLAMA_REGISTRY": server.url})
    assert stored(starlane) == {}


def test_ollama_model_that_nobody_has(starlane, server):
    line = pull_fails(starlane, "none", environment={"STARLANE_OLLAMA_REGISTRY": server.url})
    assert "no such model" in line


# Interruptions

def start_pull(starlane, url, **options):
    return starlane.start("pull", "--chunk", str(CHUNK), "--json", url, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **options)


def wait_for_bytes(process, n_bytes):
    """Read progress until so many bytes are here. Returns the last line."""
    for line in process.stdout:
        progress = json.loads(line)
        if progress["completed"] >= n_bytes:
            return progress
    pytest.fail("the pull ended before")


def test_killed_at_many_moments_it_goes_on(starlane, server):
    data = make_gguf(3 << 20)
    served = server.add("/m.gguf", data, pace_s=0.003)
    url = server.url + "/m.gguf"
    dice = random.Random(3)
    resumed = []
    for number in range(KILLS):
        process = start_pull(starlane, url)
        first = json.loads(process.stdout.readline())
        assert first["status"] == "asking what there is"
        if number % 4 == 0:
            time.sleep(dice.random() / 50)  # anywhere, also before the first byte
        else:
            progress = wait_for_bytes(process, number * len(data) // (KILLS + 8))
            resumed.append(progress["resumed"])
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
        assert stored(starlane) == {}
    assert resumed[-1] > len(data) // 3
    served.pace_s = 0
    pull(starlane, url)
    check_stored(starlane, url, data)
    assert served.requests < 3 * len(data) // CHUNK


def test_killed_and_the_file_is_another_now(starlane, server):
    old, new = make_gguf(1 << 20, seed=1), make_gguf(1 << 20, seed=2)
    served = server.add("/m.gguf", old, pace_s=PACE_S)
    process = start_pull(starlane, server.url + "/m.gguf")
    wait_for_bytes(process, len(old) // 2)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    served.data, served.etag, served.pace_s = new, '"two"', 0
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", new)


def test_partial_bytes_that_rot_are_fetched_again(starlane, server):
    data = make_gguf(1 << 20)
    served = server.add("/m.gguf", data, pace_s=PACE_S)
    process = start_pull(starlane, server.url + "/m.gguf")
    wait_for_bytes(process, len(data) // 2)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    home = starlane.environment["STARLANE_HOME"]
    paths = subprocess.run(["find", f"{home}/models/partial", "-name", "*.data"],
                           capture_output=True, text=True, check=True).stdout.split()
    with open(paths[0], "r+b") as file:
        file.seek(1000)
        file.write(b"rotten")
    with open(paths[0].replace(".data", ".journal"), "a", encoding="utf-8") as file:
        file.write("5 torn")
    served.pace_s = 0
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", data)


def test_interrupted_it_says_how_to_go_on(starlane, server):
    data = make_gguf(1 << 20)
    served = server.add("/m.gguf", data, pace_s=PACE_S)
    process = start_pull(starlane, server.url + "/m.gguf")
    wait_for_bytes(process, len(data) // 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130 and b"goes on" in errors and errors.count(b"\n") == 1
    before, served.pace_s = served.requests, 0
    pull(starlane, server.url + "/m.gguf")
    check_stored(starlane, server.url + "/m.gguf", data)
    assert served.requests - before < len(data) // CHUNK


def test_two_at_once_fetch_it_once(starlane, server):
    data = make_gguf(1 << 20)
    served = server.add("/m.gguf", data, pace_s=PACE_S)
    url = f"{server.url}/m.gguf#sha256={sha256(data)}"
    first = start_pull(starlane, url)
    wait_for_bytes(first, CHUNK)
    second = start_pull(starlane, url)
    waiting = [json.loads(second.stdout.readline())["status"] for _ in range(2)]
    assert waiting[1].startswith("waiting")
    for process in first, second:
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
    check_stored(starlane, server.url + "/m.gguf", data)
    assert served.requests == -(-len(data) // CHUNK)


def test_removal_spares_a_pull_in_progress(starlane, server, payload):
    server.add("/old.gguf", payload)
    pull(starlane, server.url + "/old.gguf")
    data = make_gguf(1 << 20)
    server.add("/m.gguf", data, pace_s=PACE_S)
    process = start_pull(starlane, server.url + "/m.gguf")
    wait_for_bytes(process, CHUNK)
    starlane.call("rm", "--unused", server.url + "/old.gguf")
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    check_stored(starlane, server.url + "/m.gguf", data)


def test_unused_removes_what_a_killed_pull_left(starlane, server):
    data = make_gguf(1 << 20)
    server.add("/m.gguf", data, pace_s=PACE_S)
    process = start_pull(starlane, server.url + "/m.gguf")
    wait_for_bytes(process, CHUNK)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    assert "0 B" not in starlane.text("rm", "--unused")
    home = starlane.environment["STARLANE_HOME"]
    left = subprocess.run(["find", f"{home}/models/partial", "-type", "f"], capture_output=True,
                          check=True)
    assert left.stdout == b""
