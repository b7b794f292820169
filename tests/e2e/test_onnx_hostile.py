"""Graphs that are out to harm: what traps in the processor, never ends, wants all memory, is too
large to send, cannot be loaded, was damaged. A worker dies at most; the client is told what
happened, over REST and gRPC; other models answer all the while; and nothing is tried for ever."""
import contextlib
import os
import platform
import random
import resource
import struct
import subprocess
import threading
import time

import grpc
import pytest

from abuse import has_sanitizer
from conftest import BINARY, ROOT, Starlane
from grpc_client import DEADLINE_S, Schema, Stub, failure, open_channel
from oip import send_infer, tensor, unpack
from onnx_files import make_onnx
from onnx_graphs import (FLOAT, INT32, INT64, divider, filler, graph, ints, looper, model, node,
                         tensor as stored)
from service import DEADLINE_S as WAIT_S, Service, wait_for

SERVICE = "inference.GRPCInferenceService"
Code = grpc.StatusCode
LOWEST, ENDLESS = -2**31, 2**62
WATCHDOG = "2s"
MIB = 1 << 20


def trap():
    """y = -2^31 / x: for x = -1 the quotient has no place in 32 bits, and x86 traps."""
    lowest = stored("lowest", INT32, [1], struct.pack("<i", LOWEST))
    return model([node("Div", ["lowest", "x"], ["y"])], [("x", INT32, ["n"])],
                 [("y", INT32, ["n"])], [lowest])


def on_floats(*nodes, also=()):
    """A model of x [n] that gives y."""
    return model(nodes, [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], also)


def endless_at_load():
    """It does not end whatever it is given, so the run that warms it up does not either."""
    body = graph([node("Identity", ["go"], ["go_on"]), node("Identity", ["v"], ["v_out"])],
                 [("i", INT64, []), ("go", 9, []), ("v", FLOAT, ["n"])],
                 [("go_on", 9, []), ("v_out", FLOAT, ["n"])])
    return on_floats(node("Loop", ["rounds", "", "x"], ["y"], body=body),
                     also=[ints("rounds", [ENDLESS], [])])


NOT_LOADED = {
    "unknown": (on_floats(node("Frobnicate", ["x"], ["y"])), "No Op registered for Frobnicate"),
    "circle": (on_floats(node("Add", ["x", "b"], ["a"]), node("Add", ["a", "x"], ["b"]),
                         node("Identity", ["b"], ["y"])), "not acyclic"),
    "nothing": (on_floats(node("Neg", ["z"], ["y"])), "z"),
    "ranks": (on_floats(node("Conv", ["x", "w"], ["y"]),
                        also=[stored("w", FLOAT, [1, 1, 3, 3], bytes(36))]), "Conv"),
}
"""What the library refuses, and a word of what it says."""


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    starlane = Starlane(folder / "home")
    models = {"add": make_onnx(), "trap": trap(), "looper": looper(), "filler": filler(),
              "divider": divider(), "endless": endless_at_load(),
              "shorter": make_onnx(producer="s"), "garbled": make_onnx(producer="g"),
              **{name: content for name, (content, _) in NOT_LOADED.items()}}
    for name, content in models.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        starlane.call("import", path, "--options", '{"batch_max": 1}')
    with Service(starlane, "--watchdog", WATCHDOG, "--queue-timeout", "20s") as service:
        ask_add(service)
        yield service


@pytest.fixture(name="stub", scope="module")
def _stub(service):
    channel = open_channel("%s:%d" % service.address)
    stub = Stub(channel, Schema.compile(ROOT, "proto/open_inference.proto"), SERVICE)
    yield stub
    channel.close()


@pytest.fixture(scope="module")
def schema():
    return Schema.compile(ROOT, "proto/open_inference.proto")


def ask(service, name, datatype, values, expect=200):
    """A model with the input x of one dimension: values of its output, or the error."""
    answer = send_infer(service, f"/v2/models/{name}", {
        "inputs": [tensor("x", datatype, [len(values)], values)]}, expect=expect)
    if answer.status != 200:
        assert set(answer.json) == {"error"}
        return answer.json["error"]
    return answer.json["outputs"][0]["data"]


def ask_add(service):
    answer = send_infer(service, "/v2/models/add", {
        "inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]})
    assert answer.json["outputs"][0]["data"] == [1, 2, 3]


def grpc_request(schema, name, datatype, values):
    width = {"INT32": "i", "INT64": "q", "FP32": "f"}[datatype]
    return schema.message("inference.ModelInferRequest", model_name=name,
                          inputs=[{"name": "x", "datatype": datatype, "shape": [len(values)]}],
                          raw_input_contents=[struct.pack(f"<{len(values)}{width}", *values)])


def grpc_ask(stub, schema, name, datatype, values):
    answer = stub.ModelInfer(grpc_request(schema, name, datatype, values), timeout=DEADLINE_S)
    return unpack(answer.outputs[0].datatype, answer.raw_output_contents[0])


@contextlib.contextmanager
def others_answer(service):
    """While this lasts another model is asked again and again; its worker is the same after."""
    done, trouble, n = threading.Event(), [], [0]

    def run():
        while not done.is_set():
            try:
                ask_add(service)
                n[0] += 1
            except Exception as error:  # pylint: disable=broad-except
                trouble.append(error)
                return
    crashes = service.metric("starlane_model_crashes_total", "add:latest")
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(WAIT_S)
    assert not trouble and n[0] > 0, trouble
    assert service.metric("starlane_model_crashes_total", "add:latest") == crashes


def crashes_of(service, name):
    return service.metric("starlane_model_crashes_total", f"{name}:latest")


# --- it kills its worker ---

@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="divides without a trap")
def test_a_graph_that_traps_kills_its_worker_and_nothing_else(service, stub, schema):
    assert ask(service, "trap", "INT32", [2, 4]) == [LOWEST // 2, LOWEST // 4]
    before = crashes_of(service, "trap")
    with others_answer(service):
        error = ask(service, "trap", "INT32", [-1], expect=500)
        assert error == "the worker died 2 times in a row under this request: died of SIGFPE"
        assert ask(service, "trap", "INT32", [2]) == [LOWEST // 2]
        assert failure(stub.ModelInfer, grpc_request(schema, "trap", "INT32", [-1])) == \
            (Code.INTERNAL, error)
        assert grpc_ask(stub, schema, "trap", "INT32", [4]) == [LOWEST // 4]
    assert crashes_of(service, "trap") - before == 4


def test_what_the_library_catches_kills_nothing(service, stub, schema):
    with others_answer(service):
        error = ask(service, "divider", "INT32", [0], expect=400)
        assert "Integer division by zero" in error and "/onnxruntime/" not in error
        code, words = failure(stub.ModelInfer, grpc_request(schema, "divider", "INT32", [0]))
        assert (code, words) == (Code.INVALID_ARGUMENT, error)
        assert ask(service, "divider", "INT32", [7]) == [14]
    assert crashes_of(service, "divider") == 0


# --- it never ends ---

def test_a_graph_that_never_ends_is_killed_by_the_watchdog(service, stub, schema):
    assert ask(service, "looper", "INT64", [3]) == [3]
    with others_answer(service):
        error = ask(service, "looper", "INT64", [ENDLESS], expect=500)
        assert error.startswith("the worker died 2 times in a row under this request: gave no ")
        assert ask(service, "looper", "INT64", [4]) == [4]
        before = crashes_of(service, "looper")
        code, _ = failure(stub.ModelInfer, grpc_request(schema, "looper", "INT64", [ENDLESS]),
                          timeout=1)
        assert code == Code.DEADLINE_EXCEEDED
        # Nobody waits for it any more: the worker is replaced once, and serves again.
        assert grpc_ask(stub, schema, "looper", "INT64", [5]) == [5]
        assert crashes_of(service, "looper") == before + 1


def test_a_graph_that_never_ends_as_it_is_loaded_holds_up_nobody(service, stub, schema):
    """A load may take long (300 s without a sign of life): who waits is told after
    --queue-timeout or its own deadline; the service still stops at once after that."""
    with others_answer(service):
        code, _ = failure(stub.ModelInfer, grpc_request(schema, "endless", "FP32", [1]), timeout=1)
        assert code == Code.DEADLINE_EXCEEDED
        error = send_infer(service, "/v2/models/endless", {
            "inputs": [tensor("x", "FP32", [1], [1])], "parameters": {"timeout": 500000}},
            expect=408).json["error"]
        assert "load" in error or "wait" in error, error
    assert not service.get("/v2/models/endless/ready", expect=503).json["ready"]
    service.post("/v2/repository/models/endless/unload", {})


# --- it wants too much ---

def test_more_memory_than_there_is(service, stub, schema):
    with others_answer(service):
        # Under a sanitizer such an allocation ends the process.
        error = ask(service, "filler", "INT64", [MIB, MIB], expect=None if has_sanitizer(BINARY)
                    else 503)
        assert has_sanitizer(BINARY) or "Failed to allocate memory" in error
        code, words = failure(stub.ModelInfer, grpc_request(schema, "filler", "INT64", [MIB, MIB]))
        assert code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL) and words
        assert "overflow" in ask(service, "filler", "INT64", [2**32, 2**32], expect=400)
        assert ask(service, "filler", "INT64", [1, 2]) == [0, 0]


def worker_of(service, name):
    """The pid of the model's worker, by the title in its command line."""
    for pid in service.worker_pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if name.encode() in file.read():
                return pid
    return None


@pytest.mark.skipif(has_sanitizer(BINARY), reason="a sanitizer reserves memory of its own")
@pytest.mark.parametrize("room", [0, MIB, 24 * MIB, 48 * MIB, 100 * MIB])
def test_memory_that_ends_somewhere_on_the_way(service, room):
    """The worker may take `room` bytes more, its answer is 40 MiB and is there several times over:
    wherever it fails it is told, or the worker dies and the next one answers."""
    assert ask(service, "filler", "INT64", [1, 2]) == [0, 0]
    pid = worker_of(service, "filler")
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, resource.RLIMIT_AS, (size + room, size + room))
    with others_answer(service):
        answer = send_infer(service, "/v2/models/filler", {
            "inputs": [tensor("x", "INT64", [2], [1024, 10240])],
            "parameters": {"binary_data_output": True}}, expect=None)
    print(room, answer.status, answer.body[:200] if answer.status != 200 else "")
    assert answer.status in (200, 500, 503), answer.body[:300]
    assert answer.status == 200 or "emory" in answer.json["error"] or "died" in answer.json["error"]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)  # what comes next has a worker without a limit
    wait_for(lambda: worker_of(service, "filler") != pid, "another worker")
    assert ask(service, "filler", "INT64", [1, 2]) == [0, 0]


def test_outputs_that_are_too_large_are_not_sent(service, stub, schema):
    before = crashes_of(service, "filler")
    with others_answer(service):
        error = ask(service, "filler", "INT64", [1000, 20000], expect=413)
        assert error == "outputs of 80000000 bytes; at most 67108864 are served"
        assert failure(stub.ModelInfer, grpc_request(schema, "filler", "INT64", [1000, 20000])) == \
            (Code.RESOURCE_EXHAUSTED, error)
        # The largest that is served; the client takes frames of many MiB, which once held up what
        # followed them.
        for _ in range(6):
            whole = stub.ModelInfer(grpc_request(schema, "filler", "INT64", [4096, 4096]),
                                    timeout=DEADLINE_S)
            assert len(whole.raw_output_contents[0]) == 64 * MIB
    assert crashes_of(service, "filler") == before


# --- it cannot be loaded ---

def listed(service, name, state):
    """The repository's entry of the model when it is in that state."""
    entries = {entry["name"]: entry for entry in service.post("/v2/repository/index", {}).json}
    return entries[name] if entries[name]["state"] == state else None


@pytest.mark.parametrize("name", NOT_LOADED)
def test_what_cannot_be_loaded_says_why_and_is_not_tried_again_and_again(service, stub, schema,
                                                                         name):
    words = NOT_LOADED[name][1]

    def attempts():
        return sum(f"{name}:latest: not loaded" in line for line in service.log)
    with others_answer(service):
        error = ask(service, name, "FP32", [1], expect=503)
        assert words in error and "home" not in error, error
        assert failure(stub.ModelInfer, grpc_request(schema, name, "FP32", [1])) == \
            (Code.UNAVAILABLE, error)
        entry = wait_for(lambda: listed(service, name, "UNAVAILABLE"), "its worker to be gone")
        assert words in entry["reason"]
        before = wait_for(attempts, "the log")
        assert before <= 2
        # A loop would begin anew after a tenth of a second.
        end = time.monotonic() + 1
        while time.monotonic() < end:
            ask_add(service)
        assert attempts() == before and not worker_of(service, name)


def test_a_model_that_is_to_be_kept_and_cannot_be_loaded(tmp_path, service):
    """It is tried again, ever more seldom; the others are served."""
    home = service.starlane.environment["STARLANE_HOME"]
    with Service(Starlane(home), "unknown") as other:
        wait_for(lambda: any("not loaded" in line for line in other.log), "the load to fail")
        ask_add(other)
        assert other.get("/v2/health/ready", expect=503).status == 503
        assert sum("not loaded" in line for line in other.log) < 10


@pytest.mark.parametrize("name, damage, status, code, words", [
    ("shorter", lambda content: content[:40], 500, Code.DATA_LOSS, "40 bytes, not "),
    ("garbled", lambda content: content[:20] + b"\xff" * (len(content) - 20), 503, Code.UNAVAILABLE,
     "graph"),
])
def test_a_file_that_was_damaged_in_the_store(service, stub, schema, name, damage, status, code,
                                              words):
    path = os.path.realpath(service.starlane.json("show", name, "--json")["model"])
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        damaged = damage(file.read())
        file.seek(0)
        file.write(damaged)
        file.truncate()
    with others_answer(service):
        error = ask(service, name, "FP32", [1, 2, 3], expect=status)
        assert words in error, error
        assert failure(stub.ModelInfer, grpc_request(schema, name, "FP32", [1, 2, 3])) == \
            (code, error)


WEIRD = {14: "COMPLEX64", 15: "COMPLEX128", 17: "FLOAT8E4M3FN", 20: "FLOAT8E5M2FNUZ", 22: "INT4",
         23: "FLOAT4E2M1", 0: "", 99: ""}


@pytest.mark.parametrize("datatype", WEIRD)
def test_inputs_of_types_that_the_protocol_lacks(starlane, tmp_path, datatype):
    (tmp_path / "weird.onnx").write_bytes(model([node("Identity", ["x"], ["y"])],
                                                [("x", datatype, [2])], [("y", datatype, [2])]))
    error = starlane.error("import", tmp_path / "weird.onnx", expect=1)
    assert '"x"' in error and WEIRD[datatype] in error


def nested(depth):
    """Conditions in conditions."""
    body = graph([node("Identity", ["x"], ["o"])], [], [("o", FLOAT, ["n"])])
    for level in range(depth):
        other = graph([node("Neg", ["x"], ["e"])], [], [("e", FLOAT, ["n"])])
        body = graph([node("If", ["c"], [f"o{level}"], then_branch=body, else_branch=other)], [],
                     [(f"o{level}", FLOAT, ["n"])])
    return on_floats(node("ReduceMax", ["x"], ["m"], keepdims=0),
                     node("Greater", ["m", "z"], ["c"]), node("If", ["c"], ["y"], then_branch=body, else_branch=body),
                     also=[stored("z", FLOAT, [], bytes(4))])


def test_graphs_in_graphs(starlane, tmp_path):
    """Each step of depth is one of the stack's for whoever reads the file."""
    for depth, fits in ((10, True), (100, False), (2000, False)):
        (tmp_path / "nested.onnx").write_bytes(nested(depth))
        if fits:
            starlane.call("import", tmp_path / "nested.onnx")
        else:
            assert "nested deeper than 16" in starlane.error("import", tmp_path / "nested.onnx",
                                                             expect=1)


N_GARBLED = 150


def garble(content, seed):
    """A few bytes changed, doubled or taken out; the same ones for the same seed."""
    random_ = random.Random(seed)
    content = bytearray(content)
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(content))
        kind = random_.randrange(4)
        if kind == 0:
            content[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            content[at] = random_.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del content[at:at + random_.randint(1, 4)]
        else:
            content[at:at] = content[at:at + random_.randint(1, 8)]
    return bytes(content)


def test_garbled_files_are_refused_or_served_and_harm_nobody(tmp_path):
    """Those that the import takes are loaded and asked; all answers are of the documented kinds."""
    starlane = Starlane(tmp_path / "home")
    sources = [make_onnx(), divider(), filler(), nested(3), trap()]
    (tmp_path / "add.onnx").write_bytes(make_onnx())
    starlane.call("import", tmp_path / "add.onnx")
    taken = []
    for seed in range(N_GARBLED):
        path = tmp_path / f"garbled{seed}.onnx"
        path.write_bytes(garble(sources[seed % len(sources)], seed))
        done = subprocess.run(starlane.command("import", path), env=starlane.environment,
                              check=False, capture_output=True, timeout=WAIT_S)
        assert done.returncode in (0, 1), done
        if done.returncode == 0:
            taken.append(f"garbled{seed}")
        else:
            assert done.stderr.startswith(b"starlane import: ") and done.stderr.count(b"\n") == 1
    statuses = []
    with Service(starlane, "--watchdog", WATCHDOG, "--threads", 1) as service:
        with others_answer(service):
            for name in taken:
                about = service.get(f"/v2/models/{name}", expect=None)
                if about.status != 200:
                    statuses.append(about.status)
                    assert about.status == 503 and about.json["error"], about.body
                    continue
                inputs = [tensor(spec["name"], spec["datatype"], [max(1, n) for n in spec["shape"]],
                                 [1] * max(1, shape_size(spec["shape"])))
                          for spec in about.json["inputs"]]
                answer = send_infer(service, f"/v2/models/{name}", {"inputs": inputs}, expect=None)
                statuses.append(answer.status)
                assert answer.status in (200, 400, 413, 500, 503), answer.body[:300]
                assert answer.status == 200 or answer.json["error"]
    print(f"{len(taken)} of {N_GARBLED} imported:", {s: statuses.count(s) for s in set(statuses)})
    assert len(taken) > 5 and 200 in statuses and 503 in statuses


def shape_size(shape):
    n = 1
    for size in shape:
        n *= max(1, size)
    return n
