"""The Open Inference Protocol over REST: every endpoint, every datatype both ways, every error, and
a connection that can still be used after each. The scripted engine gives inputs back as outputs."""
import contextlib
import json
import math
import threading

import pytest

from oip import HEADER, outputs, pack, raw_tensor, send_infer, tensor
from service import echo, model_path, wait_for

ECHO = "/v2/models/echo:"
LM = "/v2/models/starling"
PROMPT = "Once upon a time"


@pytest.fixture(name="service")
def _service(starling_service):
    return starling_service


def error_of(answer):
    document = answer.json
    assert set(document) == {"error"} and isinstance(document["error"], str), document
    assert answer.headers["content-type"] == "application/json"
    return document["error"]


def back(service, *inputs, binary=b"", **fields):
    """What the scripted engine makes of the inputs."""
    return outputs(send_infer(service, ECHO, {"inputs": list(inputs), **fields}, binary))


# --- the server ---

def test_the_server_says_what_it_is(service):
    for path in ("/v2", "/v2/"):
        document = service.get(path).json
        assert document["name"] == "starlane" and document["version"]
        assert {"binary_tensor_data", "model_repository", "model_configuration"} <= \
            set(document["extensions"])
    assert service.get("/v2/health/live").json == {"live": True}
    wait_for(lambda: service.get("/v2/health/ready", expect=None).status == 200, "the model")
    assert service.get("/v2/health/ready").json == {"live": True, "ready": True}


def test_the_server_is_not_ready_before_the_models_it_keeps(serve):
    name = echo(load_ms=1500)
    service = serve(name, "--echo")
    first = service.get("/v2/health/ready", expect=None)
    assert first.status in (200, 503)
    ready = wait_for(lambda: service.get("/v2/health/ready", expect=None).status == 200, "ready")
    assert ready and service.get(f"/v2/models/{model_path(name)}/ready").json["ready"]


# --- models ---

def test_a_language_model_takes_text_and_gives_text(service):
    document = service.get(LM).json
    assert document == {
        "name": "starling", "versions": ["latest"], "platform": "llm_gguf",
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1]}],
        "outputs": [{"name": "text_output", "datatype": "BYTES", "shape": [1]}]}
    assert service.get(LM + "/versions/latest").json == document
    assert service.get("/v2/models/starling:latest").json["name"] == "starling:latest"


def test_a_configuration_is_worded_as_triton_does(service):
    document = service.get(LM + "/config").json
    assert document["name"] == "starling" and document["max_batch_size"] == 0
    first, *others = document["input"]
    assert first == {"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}
    assert {"name": "max_tokens", "data_type": "TYPE_INT32", "dims": [1], "optional": True} in others
    assert document["output"][0]["name"] == "text_output"


def test_a_model_is_ready_when_it_is_loaded(service):
    assert service.get(LM + "/ready").json == {"name": "starling", "ready": True}
    assert service.get(LM + "/versions/latest/ready").json["ready"] is True
    name = echo(text="not yet loaded")
    path = f"/v2/models/{model_path(name)}"
    assert service.get(path + "/ready", expect=503).json == {"name": name, "ready": False}
    send_infer(service, path, {"inputs": [tensor("x", "BOOL", [1], [True])]})
    assert service.get(path + "/ready").json["ready"] is True


@pytest.mark.parametrize("path", ["/v2/models/nope", "/v2/models/nope/ready",
                                  "/v2/models/nope/config", "/v2/models/starling/versions/9",
                                  "/v2/models/starling/versions/9/ready", "/v2/nothing",
                                  "/v2/models/org/nope"])
def test_what_is_not_there_is_a_404(service, path):
    assert error_of(service.get(path, expect=404))


def test_names_with_slashes_are_found(serve, stories):
    service = serve("--echo")
    service.starlane.call("import", stories, "--name", "registry.tld:5000/some/model:7")
    for name in ("registry.tld:5000/some/model", model_path("registry.tld:5000/some/model")):
        document = service.get(f"/v2/models/{name}/versions/7").json
        assert document["versions"] == ["7"] and document["platform"] == "llm_gguf"
    answer = send_infer(service, "/v2/models/registry.tld:5000/some/model:7",
                        {"inputs": [tensor("text_input", "BYTES", [1], ["Lily"])]})
    assert answer.json["model_version"] == "7"
    assert answer.json["model_name"] == "registry.tld:5000/some/model:7"
    error = error_of(service.get("/v2/models/registry.tld:5000/some/model:7/versions/8",
                                 expect=400))
    assert '"7"' in error


def test_another_method_is_a_405(service):
    answer = service.get(LM + "/infer", expect=405)
    assert answer.headers["allow"] == "POST" and error_of(answer)
    answer = service.post(LM + "/ready", {}, expect=405)
    assert answer.headers["allow"] == "GET"
    assert error_of(service.post("/v2/health/live", {}, expect=405))


# --- tensors ---

EDGES = {
    "BOOL": [True, False, True, False],
    "UINT8": [0, 1, 127, 255],
    "UINT16": [0, 1, 256, 65535],
    "UINT32": [0, 1, 65536, 2**32 - 1],
    "UINT64": [0, 2**53 + 1, 2**63, 2**64 - 1],
    "INT8": [-128, -1, 0, 127],
    "INT16": [-2**15, -1, 0, 2**15 - 1],
    "INT32": [-2**31, -1, 0, 2**31 - 1],
    "INT64": [-2**63, -2**53 - 1, 0, 2**63 - 1],
    "FP32": [0.5, -0.0, 3.4028234663852886e38, 1.401298464324817e-45],
    "FP64": [0.1, -0.0, 1.7976931348623157e308, 5e-324],
    "FP16": [0.5, -0.0, 65504.0, 5.960464477539063e-08],
    "BF16": [0.5, -0.0, 1.0, -2.0],
    "BYTES": [b"", b"a\0b", "ä€🙂".encode(), b"\\\"\n"],
}
JSON_TYPES = [name for name in EDGES if name not in ("FP16", "BF16")]


def as_json(datatype):
    values = EDGES[datatype]
    return [value.decode() for value in values] if datatype == "BYTES" else values


def same(found, datatype, shape, values):
    """Is it this one output? Floats are compared by their bits: one has many spellings."""
    kind, found_shape, found_values = found["x"]
    if datatype.startswith("FP"):
        found_values, values = pack(datatype, found_values), pack(datatype, values)
    return list(found) == ["x"] and (kind, found_shape, found_values) == (datatype, shape, values)


@pytest.mark.parametrize("datatype", JSON_TYPES)
@pytest.mark.parametrize("nested", [False, True])
def test_every_datatype_goes_both_ways_as_json(service, datatype, nested):
    values = as_json(datatype)
    data = [values[:2], values[2:]] if nested else values
    assert same(back(service, tensor("x", datatype, [2, 2], data)), datatype, [2, 2], values)


@pytest.mark.parametrize("datatype", EDGES)
def test_every_datatype_goes_both_ways_as_binary_data(service, datatype):
    raw = pack(datatype, EDGES[datatype])
    answer = send_infer(service, ECHO,
                        {"inputs": [raw_tensor("x", datatype, [4], raw)],
                         "parameters": {"binary_data_output": True}}, raw)
    assert outputs(answer)["x"][1] == [4]
    assert answer.body[int(answer.headers[HEADER.lower()]):] == raw


@pytest.mark.parametrize("datatype", JSON_TYPES)
def test_json_and_binary_data_mean_the_same(service, datatype):
    raw = pack(datatype, EDGES[datatype])
    found = back(service, raw_tensor("x", datatype, [4], raw), binary=raw)
    assert same(found, datatype, [4], as_json(datatype))
    answer = send_infer(service, ECHO, {
        "inputs": [tensor("x", datatype, [4], as_json(datatype))],
        "outputs": [{"name": "x", "parameters": {"binary_data": True}}]})
    assert answer.body.endswith(raw) and outputs(answer)["x"][2] == EDGES[datatype]


def test_one_request_may_mix_all_forms(service):
    a, c = pack("FP32", [1.5, 2.5]), pack("BYTES", [b"\xff", b""])
    found = back(service, raw_tensor("a", "FP32", [2], a), tensor("b", "INT8", [1], [-7]),
                 raw_tensor("c", "BYTES", [1, 2], c), binary=a + c,
                 parameters={"binary_data_output": True},
                 outputs=[{"name": "c"}, {"name": "b", "parameters": {"binary_data": False}},
                          {"name": "a", "parameters": {"binary_data": False}}])
    assert list(found) == ["c", "b", "a"], "outputs come in the order they were asked for"
    assert found == {"a": ("FP32", [2], [1.5, 2.5]), "b": ("INT8", [1], [-7]),
                     "c": ("BYTES", [1, 2], [b"\xff", b""])}


def test_nan_and_infinities_are_null_in_json(service):
    values = [math.nan, math.inf, -math.inf, 1.0]
    raw = pack("FP32", values)
    assert back(service, raw_tensor("x", "FP32", [4], raw), binary=raw)["x"][2] == \
        [None, None, None, 1.0]
    answer = send_infer(service, ECHO, {"inputs": [tensor("x", "FP32", [4], values)],
                                        "parameters": {"binary_data_output": True}})
    assert answer.body.endswith(pack("FP32", values)[4:]), "Python's words for them are read"


def test_shapes_of_every_rank(service):
    for shape, n in (([], 1), ([1], 1), ([0], 0), ([2, 0, 3], 0), ([1] * 16, 1), ([3, 1, 2], 6)):
        data = list(range(n))
        assert back(service, tensor("x", "INT32", shape, data)) == {"x": ("INT32", shape, data)}


def test_names_may_be_any_text(service):
    name = "ä \"quoted\" \\ / 🙂\n"
    assert back(service, tensor(name, "UINT8", [1], [3])) == {name: ("UINT8", [1], [3])}


def test_id_and_model_come_back(service):
    request = {"id": "42 ä", "parameters": {"anything": 1, "more": "text"},
               "inputs": [tensor("x", "INT8", [1], [1])]}
    document = send_infer(service, ECHO, request).json
    assert document["id"] == "42 ä" and document["model_name"] == "echo:"
    answer = send_infer(service, ECHO, {"inputs": request["inputs"]})
    assert "id" not in answer.json and float(answer.headers["x-starlane-queue-ms"]) >= 0


def test_a_large_tensor(service):
    values = [i / 7 for i in range(150000)]
    raw = pack("FP32", values)
    request = {"inputs": [raw_tensor("x", "FP32", [1, 150000], raw)],
               "parameters": {"binary_data_output": True}}
    assert send_infer(service, ECHO, request, raw).body.endswith(raw)
    answer = send_infer(service, ECHO, {"inputs": [tensor("x", "FP32", [150000], values)]})
    assert pack("FP32", answer.json["outputs"][0]["data"]) == raw


# --- what is wrong ---

def bad(message, *inputs, status=400, **fields):
    return pytest.param({"inputs": list(inputs), **fields}, message, status, id=message[:40])


X = tensor("x", "INT32", [2], [1, 2])


@pytest.mark.parametrize("request_, message, status", [
    bad("element 1: 300 does not fit INT8", tensor("x", "INT8", [2], [1, 300])),
    bad("element 0: -1 does not fit UINT64", tensor("x", "UINT64", [1], [-1])),
    bad("does not fit INT64", tensor("x", "INT64", [1], [2**63])),
    bad("element 1: 1e+39 does not fit FP32", tensor("x", "FP32", [2], [1, 1e39])),
    bad("is no whole number of INT32", tensor("x", "INT32", [2], [1, 2.5])),
    bad("is no number of FP32", tensor("x", "FP32", [2], [1, None])),
    bad("is no text of BYTES", tensor("x", "BYTES", [2], ["a", 1])),
    bad("2 is not true, false, 0 or 1 of BOOL", tensor("x", "BOOL", [2], [True, 2])),
    bad("3 elements where the shape needs 4", tensor("x", "INT32", [2, 2], [1, 2, 3])),
    bad("a list of 3 where dimension 1 of the shape is 2",
        tensor("x", "INT32", [2, 2], [[1, 2, 3], [4]])),
    bad("JSON has no form for FP16: send it as binary data", tensor("x", "FP16", [1], [1])),
    bad("JSON has no form for BF16", tensor("x", "BF16", [1], [1])),
    bad('datatype: there is no "FLOAT"', tensor("x", "FLOAT", [1], [1])),
    bad("datatype: a text is needed", {"name": "x", "shape": [1], "data": [1]}),
    bad("shape: a list of whole numbers is needed", {"name": "x", "datatype": "INT8", "data": [1]}),
    bad("shape: dimension 1 is no whole number", tensor("x", "INT8", [1, -1], [1])),
    bad("shape: dimension 0 is no whole number", tensor("x", "INT8", [1.5], [1])),
    bad("shape: 17 dimensions where at most 16", tensor("x", "INT8", [1] * 17, [1])),
    bad("more elements than can be counted", tensor("x", "INT8", [2**62, 8], [1])),
    bad("data is missing", {"name": "x", "datatype": "INT8", "shape": [1]}),
    bad("data: a list is needed here", tensor("x", "INT8", [1], 5)),
    bad("data: a list is needed here", tensor("x", "INT8", [1], {"": 5})),
    bad("inputs[1]: a name is needed", X, {"datatype": "INT8", "shape": [1], "data": [1]}),
    bad("inputs[0]: a name is needed", 7),
    bad("outputs[0]: a name is needed", X, outputs=[{"nam": "x"}]),
    bad("outputs: a list is needed", X, outputs={}),
    bad("id: a text is needed", X, id=5),
    bad("parameters: an object is needed", X, parameters=[1]),
    bad('parameters: "x" must be a text, a number', X, parameters={"x": [1]}),
    bad("parameter priority: a whole number", X, parameters={"priority": "high"}),
    bad("parameter timeout: a whole number of microseconds", X, parameters={"timeout": -1}),
    bad("sequence_id: models here keep no state", X, parameters={"sequence_id": 7}),
    bad('output "x": parameter classification is not supported', X,
        outputs=[{"name": "x", "parameters": {"classification": 2}}]),
    bad('input "x": parameter shared_memory_region', {**X, "parameters": {
        "shared_memory_region": "r"}}),
    bad("binary_data_size is 8, but only 0 bytes are left", {
        "name": "x", "datatype": "INT32", "shape": [2], "parameters": {"binary_data_size": 8}}),
    bad("exclude each other", {**X, "parameters": {"binary_data_size": 0}}),
])
def test_a_bad_request_is_a_400_that_says_where(service, request_, message, status):
    assert message in error_of(send_infer(service, ECHO, request_, expect=status))


@pytest.mark.parametrize("body, message", [
    (b"", "not valid JSON"), (b"{", "not valid JSON"), (b"[]", "must be a JSON object"),
    (b"{}", "inputs: a list is needed"), (b'{"inputs":[{"data":[1,2', "not valid JSON"),
    (b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"d\\u0061ta":[1]}]}',
     "data: a list is needed here"),
    (b"\xff", "not valid JSON"), (b"[" * 200, "nested"),
], ids=range(8))
def test_what_is_no_request_is_a_400(service, body, message):
    assert message in error_of(send_infer(service, ECHO, body, expect=400))


def test_binary_data_that_do_not_add_up(service):
    raw = pack("INT32", [1, 2])

    def error(binary, inputs, headers=None):
        return error_of(send_infer(service, ECHO, {"inputs": inputs}, binary, expect=400,
                                   headers=headers))

    x = raw_tensor("x", "INT32", [2], raw)
    assert "binary_data_size is 8, but only 7 bytes are left" in error(raw[:7], [x])
    assert "1 bytes behind the JSON belong to no input" in error(raw + b"!", [x])
    assert "8 bytes behind the JSON belong to no input" in error(raw, [X])
    short = raw_tensor("x", "INT32", [3], raw)
    assert "8 bytes of data where INT32 of [3] takes 3 elements of 4" in error(raw, [short])
    negative = {**x, "parameters": {"binary_data_size": -1}}
    assert "binary_data_size: a whole number" in error(raw, [negative])
    texts = pack("BYTES", [b"ab"])[:-1]
    assert "element 0 has 2 bytes" in error(texts, [raw_tensor("x", "BYTES", [1], texts)])
    assert "the body has" in error(raw, [x], {HEADER: "99999"})
    assert "a number is needed" in error(raw, [x], {HEADER: "x"})
    assert "a number is needed" in error(raw, [x], {HEADER: "-1"})
    # What is bad in BOOL is found by its bytes.
    assert back(service, x, binary=raw)["x"][2] == [1, 2]


def test_bytes_that_are_no_text_need_the_binary_form(service):
    raw = pack("BYTES", [b"ok", b"\xff\xfe"])
    request = {"inputs": [raw_tensor("x", "BYTES", [2], raw)]}
    error = error_of(send_infer(service, ECHO, request, raw, expect=400))
    assert 'output "x": element 1 is not UTF-8' in error and "binary_data" in error
    half = pack("FP16", [1.0])
    request = {"inputs": [raw_tensor("x", "FP16", [1], half)]}
    assert "JSON has no form for FP16" in error_of(
        send_infer(service, ECHO, request, half, expect=400))


def test_unknown_models_and_versions(service):
    request = {"inputs": [X]}
    assert "no such model" in error_of(send_infer(service, "/v2/models/nope", request, expect=404))
    assert error_of(send_infer(service, LM + "/versions/9", request, expect=404))


def test_a_request_that_is_too_large(serve):
    service = serve("--echo", "--max-body", "100M")
    raw = b"\0" * ((64 << 20) + 1)
    request = {"inputs": [raw_tensor("x", "UINT8", [len(raw)], raw)]}
    assert "64 MiB" in error_of(send_infer(service, ECHO, request, raw, expect=413))
    assert back(service, X)["x"][2] == [1, 2]


def test_a_connection_can_be_used_after_every_error(service):
    good = json.dumps({"inputs": [X]})
    with contextlib.closing(service.connect()) as connection:
        for path, body, status in (("/v2/models/nope/infer", good, 404), (ECHO + "/infer", "{", 400),
                                   (ECHO + "/infer", '{"inputs":[{"name":"x"}]}', 400),
                                   (LM + "/infer", good, 400), (ECHO + "/ready", good, 405),
                                   ("/v2/repository/models/x/reload", "", 404)):
            for path_, body_, status_ in ((path, body, status), (ECHO + "/infer", good, 200)):
                connection.request("POST", path_, body_)
                response = connection.getresponse()
                assert response.status == status_, (path_, response.read())
                response.read()


def test_a_request_may_wait_only_so_long(service):
    name = echo(load_ms=3000, text="slow to load")
    request = {"inputs": [X], "parameters": {"timeout": 50000}}
    answer = send_infer(service, f"/v2/models/{model_path(name)}", request, expect=408)
    assert error_of(answer)


def test_a_model_that_cannot_be_loaded(service):
    name = echo(load_fail="no such luck")
    answer = send_infer(service, f"/v2/models/{model_path(name)}", {"inputs": [X]}, expect=None)
    assert answer.status == 503 and "no such luck" in error_of(answer)


def test_a_worker_that_dies_of_a_request(service):
    assert back(service, X)["x"][2] == [1, 2]
    path = f"/v2/models/{model_path(echo(poison='poison'))}"
    request = {"inputs": [tensor("text_input", "BYTES", [1], ["poison"])]}
    assert error_of(send_infer(service, path, request, expect=500))
    assert outputs(send_infer(service, path, {"inputs": [X]}))["x"][2] == [1, 2]


def test_a_client_that_leaves_takes_its_request_with_it(service):
    name = echo(load_ms=60000, text="left alone")
    with contextlib.closing(service.connect()) as connection:
        connection.request("POST", f"/v2/models/{model_path(name)}/infer",
                           json.dumps({"inputs": [X]}))
        waiting = "starlane_model_requests_waiting"
        wait_for(lambda: service.metric(waiting, name) == 1, "the request to wait")
    wait_for(lambda: service.metric("starlane_requests_disconnected_total", name) == 1, "the end")
    assert service.metric(waiting, name) == 0
    service.post(f"/v2/repository/models/{model_path(name)}/unload", {})


def test_priorities_are_classes(service):
    for priority in (0, 1, 2, 3, 99):
        assert back(service, X, parameters={"priority": priority})["x"][2] == [1, 2]


def test_many_at_once(service):
    failures = []

    def work(i):
        for j in range(20):
            value = i * 1000 + j
            found = back(service, tensor("x", "INT32", [1], [value]))
            if found["x"][2] != [value]:
                failures.append((value, found))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- texts ---

def text(service, expect=200, *, names=("text_output",), inputs=(), shape=(1,), **params):
    request = {"inputs": [tensor("text_input", "BYTES", list(shape), [PROMPT]), *inputs],
               "parameters": {"temperature": 0, **params},
               "outputs": [{"name": name} for name in names]}
    return send_infer(service, LM, request, expect=expect)


def test_a_language_model_writes_what_completions_write(service):
    found = outputs(text(service, max_tokens=12, names=(
        "text_output", "finish_reason", "prompt_tokens", "completion_tokens")))
    completion = service.complete("starling", PROMPT, temperature=0, max_tokens=12)
    assert found["text_output"] == ("BYTES", [1], [completion["choices"][0]["text"]])
    assert found["finish_reason"] == ("BYTES", [1], ["length"])
    assert found["prompt_tokens"][2] == [completion["usage"]["prompt_tokens"]]
    assert found["completion_tokens"] == ("INT32", [1], [12])


def test_options_are_inputs_or_parameters(service):
    whole = outputs(text(service, max_tokens=12))["text_output"][2][0]
    by_input = text(service, inputs=[tensor("max_tokens", "INT32", [1], [12])], max_tokens=1)
    assert outputs(by_input)["text_output"][2] == [whole]
    stop = whole[6:9]
    stopped = text(service, max_tokens=12, names=("text_output", "finish_reason"),
                   inputs=[tensor("stop", "BYTES", [2], ["never seen", stop])])
    assert outputs(stopped)["text_output"][2] == [whole[:whole.index(stop)]]
    assert outputs(stopped)["finish_reason"][2] == ["stop"]
    first = outputs(text(service, temperature=1.5, seed=3, max_tokens=12))
    again = outputs(text(service, temperature=1.5, max_tokens=12,
                         inputs=[tensor("seed", "INT64", [1], [3])]))
    assert first == again != outputs(text(service, temperature=1.5, seed=4, max_tokens=12))


def test_a_text_may_stand_in_a_batch_of_one(service):
    assert outputs(text(service, shape=(1, 1)))["text_output"][1] == [1, 1]


def test_a_chat_template_is_used_when_asked_for(service):
    template = "{{ messages[-1].content }} and more"
    path = f"/v2/models/{model_path(echo(chat_template=template))}"
    request = {"inputs": [tensor("text_input", "BYTES", [1], ["said"])]}
    plain = outputs(send_infer(service, path, request))["text_output"][2]
    chat = outputs(send_infer(service, path, {**request, "parameters": {"chat": True}}))
    assert plain == ["said"] and chat["text_output"][2] == ["said and more"]


@pytest.mark.parametrize("inputs, fields, message", [
    ([], {}, '"text_input" is missing'),
    ([tensor("text_input", "BYTES", [2], ["a", "b"])], {}, "one text is needed"),
    ([tensor("text_input", "BYTES", [0], [])], {}, "one text is needed"),
    ([tensor("text_input", "INT8", [1], [1])], {}, "INT8 where the model takes BYTES"),
    ([tensor("text_input", "BYTES", [1], ["a"]), tensor("x", "INT8", [1], [1])], {},
     'input "x": the model takes no such input'),
    ([tensor("text_input", "BYTES", [1], ["a"]), tensor("max_tokens", "INT32", [2], [1, 2])], {},
     'input "max_tokens": one element is needed'),
    ([tensor("text_input", "BYTES", [1], ["a"])], {"parameters": {"temperature": 9}},
     "temperature: 9 is out of range"),
    ([tensor("text_input", "BYTES", [1], ["a"])], {"outputs": [{"name": "logits"}]},
     'output "logits": the model has no such output'),
    ([tensor("text_input", "BYTES", [1], ["a" * 100000])], {}, "context"),
])
def test_what_a_language_model_refuses(service, inputs, fields, message):
    request = {"inputs": inputs, **fields}
    assert message in error_of(send_infer(service, LM, request, expect=400))


def test_texts_become_vectors(service):
    request = {"inputs": [tensor("text", "BYTES", [3], ["a cat", "a dog", "a cat"])]}
    found = outputs(send_infer(service, LM, request))
    datatype, shape, values = found["embedding"]
    n = shape[1]
    assert datatype == "FP32" and shape[0] == 3 and len(values) == 3 * n
    assert values[:n] == values[2 * n:] != values[n:2 * n]
    vector = service.post("/v1/embeddings", {"model": "starling", "input": "a dog"}).json
    assert pack("FP32", vector["data"][0]["embedding"]) == pack("FP32", values[n:2 * n])
    for request_, message in (
            ({"inputs": [tensor("text", "BYTES", [0], [])]}, "from 1 to 2048 texts"),
            ({"inputs": [tensor("text", "INT8", [1], [1])]}, "from 1 to 2048 texts"),
            ({**request, "outputs": [{"name": "text_output"}]}, "embedding and no more")):
        assert message in error_of(send_infer(service, LM, request_, expect=400))


def test_generate_is_short_for_a_text(service):
    body = {"text_input": PROMPT, "parameters": {"temperature": 0, "max_tokens": 8}}
    document = service.post(LM + "/generate", body).json
    assert document["model_name"] == "starling" and document["model_version"] == "latest"
    flat = {"text_input": PROMPT, "temperature": 0, "max_tokens": 8}
    assert service.post(LM + "/versions/latest/generate", flat).json["text_output"] == \
        document["text_output"] != ""
    with service.stream(LM + "/generate_stream", body) as events:
        assert events.headers["content-type"] == "text/event-stream"
        pieces = [json.loads(event) for event in events.events()]
    assert "".join(piece["text_output"] for piece in pieces) == document["text_output"]
    assert pieces[-1]["finish_reason"] == "length"
    assert "text_input: a text is needed" in error_of(
        service.post(LM + "/generate", {"text_input": 5}, expect=400))
    assert "temperature" in error_of(
        service.post(LM + "/generate", {**body, "temperature": 9}, expect=400))
    assert error_of(service.post("/v2/models/nope/generate", body, expect=404))


# --- the repository ---

def states(service, **body):
    return {(entry["name"], entry.get("version")): entry["state"]
            for entry in service.post("/v2/repository/index", body).json}


def test_models_are_loaded_and_unloaded(serve, stories):
    service = serve("--threads", 1)
    service.starlane.call("import", stories, "--name", "stories:1")
    assert states(service)["stories", "1"] == "UNAVAILABLE"
    assert states(service, ready=True) == {}
    assert service.post("/v2/repository/models/stories:1/load", {}).json == {}
    assert states(service)["stories", "1"] == "READY"
    assert list(states(service, ready=True)) == [("stories", "1")]
    assert service.get("/v2/models/stories/versions/1/ready").json["ready"] is True
    assert service.post("/v2/repository/models/stories:1/unload", "").json == {}
    assert service.get("/v2/models/stories:1/ready", expect=503).json["ready"] is False
    wait_for(lambda: states(service)["stories", "1"] == "UNAVAILABLE", "the model to go")
    assert service.post("/v2/repository/models/stories:1/unload", {}).json == {}
    for verb in ("load", "unload"):
        path = f"/v2/repository/models/nope/{verb}"
        assert error_of(service.post(path, {}, expect=404))
    assert error_of(service.post("/v2/repository/models/x", {}, expect=404))


# --- keys, usage and metrics are those of the other APIs ---

def test_keys_and_quotas_hold_here_too(serve):
    service = serve("starling", "--threads", 1, "--echo")
    key = service.starlane.json("keys", "create", "--name", "one", "--models", "echo:*",
                                "--rpm", 2, "--json")["key"]
    wait_for(lambda: service.get("/v1/models", expect=None).status == 401, "the key to be known")
    request = {"inputs": [X]}
    assert error_of(send_infer(service, ECHO, request, expect=401))
    assert service.get("/v2/health/live").status == 200
    service.key = key
    assert "may not use" in error_of(send_infer(
        service, LM, {"inputs": [tensor("text_input", "BYTES", [1], ["a"])]}, expect=403))
    assert error_of(service.get(LM, expect=404)), "it does not learn what it may not use"
    for _ in range(2):
        answer = send_infer(service, ECHO, request)
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    answer = send_infer(service, ECHO, request, expect=429)
    assert "limit" in error_of(answer) and int(answer.headers["retry-after"]) > 0
    assert [name for name, _ in states(service)] == ["echo:"]


def test_inferences_are_counted(serve):
    service = serve("--echo")
    raw = pack("FP32", [0.0] * 6)
    before = service.metrics()
    for _ in range(3):
        back(service, raw_tensor("x", "FP32", [2, 3], raw), binary=raw)
    send_infer(service, ECHO, {"inputs": [tensor("x", "INT8", [1], [300])]}, expect=400)
    after = service.metrics()

    def grown(name):
        name = f'starlane_infer_{name}_total{{model_name="echo:"}}'
        return after.get(name, 0) - before.get(name, 0)

    assert (grown("requests"), grown("rows")) == (3, 6)
    assert (grown("input_bytes"), grown("output_bytes")) == (72, 72)
