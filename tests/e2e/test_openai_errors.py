"""What is refused, with which status and in which words, in OpenAI's shape; the small endpoints;
embeddings."""
import base64
import http.client
import json
import math
import re
import struct

import pytest

from openapi import check
from service import LAST_MESSAGE, echo, model_path

MODEL = "starling"
MESSAGES = [{"role": "user", "content": "hello"}]


def chat(**fields):
    return {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, **fields}


def refuse(service, path, body, status=400, param=None):
    answer = service.post(path, body, expect=status)
    check(answer.json, "ErrorResponse")
    assert answer.error["param"] == param, answer.error
    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-starlane-request-id"])
    return answer


@pytest.mark.parametrize("name, value", [
    ("temperature", 2.5), ("temperature", -1), ("temperature", "hot"), ("temperature", True),
    ("top_p", 1.5), ("top_p", []), ("n", 0), ("n", 129), ("n", 1.5), ("n", "two"),
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 1.5), ("max_completion_tokens", 0),
    ("presence_penalty", 3), ("frequency_penalty", -2.1), ("seed", "x"), ("seed", 1.5),
    ("stop", 5), ("stop", [1]), ("stop", ["x"] * 17), ("stop", {}),
    ("logit_bias", []), ("logit_bias", {"x": 1}), ("logit_bias", {"1": 101}),
    ("logit_bias", {"1": "a"}), ("logit_bias", {"-1": 1}),
    ("stream", "yes"), ("stream", 1), ("stream_options", 5),
    ("stream_options", {"include_usage": 1}),
    ("logprobs", 3), ("top_logprobs", 5), ("tools", {}), ("tools", "f"), ("tools", [1]),
    ("tools", [{"type": "function"}]),
    ("tool_choice", "sometimes"), ("response_format", {"type": "json_object"}),
    ("response_format", {"type": "poem"}), ("response_format", "text"),
    ("messages", None), ("messages", []), ("messages", "hi"), ("messages", ["hi"]),
    ("messages", [{"content": "x"}]), ("messages", [{"role": 1, "content": "x"}]),
    ("messages", [{"role": "user", "content": 7}]),
    ("messages", [{"role": "user"}]),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
    ("model", None), ("model", 7), ("model", ""), ("model", "a\u0000b"),
])
def test_a_bad_field_of_a_chat_is_named(starling_service, name, value):
    message = refuse(starling_service, "/v1/chat/completions", chat(**{name: value}),
                     param=name).error["message"]
    assert name in message or name == "messages", message


def test_log_probabilities_of_too_many(starling_service):
    refuse(starling_service, "/v1/chat/completions", chat(logprobs=True, top_logprobs=21),
           param="top_logprobs")


def test_what_would_be_done_differently_is_refused(starling_service):
    tools = [{"type": "function", "function": {"name": "f"}}]
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        answer = refuse(starling_service, "/v1/chat/completions",
                        chat(tools=tools, tool_choice=choice), param="tool_choice")
        assert answer.error["code"] == "unsupported_parameter"
    answer = refuse(starling_service, "/v1/chat/completions", chat(response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
        param="response_format")
    assert answer.error["code"] == "unsupported_parameter"


@pytest.mark.parametrize("name, value", [
    ("prompt", None), ("prompt", 7), ("prompt", {}), ("prompt", []), ("prompt", [[]]),
    ("prompt", ["a", 1]), ("prompt", [1, "a"]), ("prompt", [-1]), ("prompt", [1 << 40]),
    ("prompt", [1.5]), ("prompt", ["a"] * 65), ("prompt", [None]),
    ("logprobs", 6), ("logprobs", -1), ("logprobs", True), ("suffix", "end"), ("best_of", 3),
    ("temperature", 9),
])
def test_a_bad_field_of_a_completion_is_named(starling_service, name, value):
    refuse(starling_service, "/v1/completions", {"model": MODEL, "prompt": "x", name: value},
           param=name)


def test_echo_that_cannot_be_done_is_refused(starling_service):
    for more in ({"logprobs": 1}, {"prompt": [1, 2]}, {"prompt": ["a", [1, 2]]}):
        refuse(starling_service, "/v1/completions",
               {"model": MODEL, "prompt": "x", "echo": True, **more}, param="echo")


def test_a_token_that_the_model_lacks_is_refused(starling_service):
    answer = starling_service.post("/v1/completions", {"model": MODEL, "prompt": [2000000000]},
                                   expect=400)
    assert "2000000000" in answer.error["message"]
    answer = starling_service.post("/v1/completions", {
        "model": MODEL, "prompt": "x", "logit_bias": {"2000000000": 1}}, expect=400)
    assert "2000000000" in answer.error["message"]


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"3", b'"text"', b"{} {}", b'{"model": "starling",}',
    b'{"model": "\xff\xfe"}', b'{"model": "\\ud800"}', b"\xef\xbb\xbf{}", b"NaN",
    b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" * 100000,
])
def test_what_is_no_json_object_is_refused(starling_service, body):
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize"):
        answer = starling_service.post(path, body, expect=400)
        assert answer.error["type"] == "invalid_request_error"
    assert starling_service.get("/health").json["status"] == "ok"


def test_an_unknown_model_is_not_found(starling_service):
    for path, body in (("/v1/chat/completions", chat(model="starlinng")),
                       ("/v1/completions", {"model": "starlinng", "prompt": "x"}),
                       ("/v1/embeddings", {"model": "starlinng", "input": "x"}),
                       ("/tokenize", {"model": "starlinng", "prompt": "x"})):
        answer = refuse(starling_service, path, body, 404, param="model")
        assert answer.error["code"] == "model_not_found"
        assert "starlinng" in answer.error["message"]
    assert starling_service.get("/v1/models/nothing", expect=404).error["code"] == "model_not_found"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/../../b", "%s%n",
                                  "x" * 5000, "echo:" + "x" * 5000, "echo", "."])
def test_no_name_leads_to_a_file_that_is_no_model(starling_service, name):
    answer = starling_service.post("/v1/completions", {"model": name, "prompt": "x"}, expect=None)
    assert answer.status in (400, 404), answer.body
    assert answer.error["param"] == "model"


def test_paths_and_methods_that_do_not_exist(starling_service):
    answer = starling_service.get("/v1/nothing", expect=404)
    assert answer.error["code"] == "unknown_url"
    answer = starling_service.get("/v1/chat/completions", expect=405)
    assert answer.error["code"] == "method_not_allowed" and answer.headers["allow"] == "POST"
    assert starling_service.post("/v1/models", {}, expect=405).headers["allow"] == "GET"
    answer = starling_service.request("HEAD", "/health", expect=None)
    assert answer.status in (200, 405) and answer.body == b""


def test_a_body_that_is_too_large(serve):
    service = serve("--max-body", "4K", "--echo")
    body = {"model": echo(), "prompt": "x" * 5000}
    answer = service.post("/v1/completions", body, expect=413)
    assert answer.error["type"] == "invalid_request_error"


def test_a_prompt_longer_than_the_context_names_both_numbers(starling_service):
    for path, body in (("/v1/completions", {"model": MODEL, "prompt": "word " * 3000}),
                       ("/v1/chat/completions",
                        chat(messages=[{"role": "user", "content": "word " * 3000}])),
                       ("/v1/completions", {"model": echo(ctx=100), "prompt": "x" * 101}),
                       ("/v1/embeddings", {"model": MODEL, "input": "word " * 3000})):
        for stream in (False, True):
            answer = starling_service.post(path, {**body, "stream": stream}, expect=400)
            assert answer.error["code"] == "context_length_exceeded", path
            numbers = [int(text) for text in re.findall(r"\d+", answer.error["message"])]
            assert len(numbers) >= 2 and numbers[0] != numbers[1], answer.error


def test_a_template_that_refuses_is_the_clients_error(starling_service):
    model = echo("{{ raise_exception('roles must alternate') }}")
    answer = starling_service.post("/v1/chat/completions", chat(model=model), expect=400)
    assert "roles must alternate" in answer.error["message"]


# --- the small endpoints ---


def test_models_are_listed_and_found(starling_service):
    document = starling_service.get("/v1/models").json
    check(document, "ListModelsResponse")
    [model] = [model for model in document["data"] if model["id"].startswith("starling")]
    assert model["status"] == {"value": "loaded"} and model["max_model_len"] == 512
    for name in ("starling", "starling:latest"):
        one = starling_service.get("/v1/models/" + model_path(name)).json
        check(one, "Model")
        assert one == {**model, "id": name}
    scripted = echo(text="a b&c")
    starling_service.complete(scripted, "x")
    assert starling_service.get("/v1/models/" + model_path(scripted)).json["id"] == scripted


def test_text_becomes_tokens_and_back(starling_service):
    text = "Once upon a time, a bird sang. Ünïcödé"
    made = starling_service.post("/tokenize", {"model": MODEL, "prompt": text}).json
    assert set(made) == {"count", "max_model_len", "tokens"}
    assert made["count"] == len(made["tokens"]) and made["max_model_len"] == 512
    assert starling_service.post("/tokenize", {"model": MODEL, "content": text}).json == made
    bare = starling_service.post("/tokenize", {"model": MODEL, "prompt": text,
                                               "add_special_tokens": False}).json
    back = starling_service.post("/detokenize", {"model": MODEL, "tokens": bare["tokens"]}).json
    assert back == {"prompt": text, "content": text}
    chat_tokens = starling_service.post("/tokenize", {"model": echo(LAST_MESSAGE),
                                                      "messages": MESSAGES}).json["tokens"]
    assert bytes(chat_tokens) == b"hello"
    assert starling_service.post("/tokenize", {"model": echo(), "prompt": ""}).json["tokens"] == []


@pytest.mark.parametrize("path, body, param", [
    ("/tokenize", {}, "prompt"), ("/tokenize", {"prompt": 3}, "prompt"),
    ("/tokenize", {"messages": []}, "prompt"),
    ("/detokenize", {}, "tokens"), ("/detokenize", {"tokens": "x"}, "tokens"),
    ("/detokenize", {"tokens": [1, -1]}, "tokens"), ("/detokenize", {"tokens": [1.5]}, "tokens"),
])
def test_tokens_that_cannot_be_made(starling_service, path, body, param):
    refuse(starling_service, path, {"model": MODEL, **body}, param=param)


def test_an_unknown_token_is_named(starling_service):
    answer = starling_service.post("/detokenize", {"model": MODEL, "tokens": [1 << 30]},
                                   expect=400)
    assert str(1 << 30) in answer.error["message"]


def test_health_and_metrics(starling_service):
    health = starling_service.get("/health").json
    assert health["status"] == "ok" and health["running"] == 0 and health["waiting"] == 0
    answer = starling_service.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", answer.text, re.M))
    assert len(types) == len(re.findall(r"^# TYPE ", answer.text, re.M)), "each type once"
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name = re.match(r"\w[\w:]*", line)[0]
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in types or types[base] == "histogram", line
            labels = r'(\{([a-z_]+="([^"\\]|\\.)*",?)+\})?'
            assert re.fullmatch(r"\w[\w:]*" + labels + r" [-+0-9.e]+", line), line
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                 "prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_total",
                 "generation_tokens_total", "request_success_total", "time_to_first_token_seconds",
                 "inter_token_latency_seconds", "e2e_request_latency_seconds",
                 "request_queue_time_seconds"):
        assert "vllm:" + name in types


def test_answers_carry_their_times(starling_service):
    for body in (chat(), chat(stream=True)):
        answer = starling_service.post("/v1/chat/completions", body)
        queue = float(answer.headers["x-starlane-queue-ms"])
        first = float(answer.headers["x-starlane-first-token-ms"])
        assert 0 <= queue <= first < 60000
        assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-starlane-request-id"])
    ids = {starling_service.get("/health").headers["x-starlane-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_one_connection_serves_many_requests(starling_service):
    connection = http.client.HTTPConnection(*starling_service.address, timeout=60)
    for path, body in (("/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": 2}),
                       ("/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": 2,
                                            "stream": True}),
                       ("/v1/completions", {"model": "none", "prompt": "x"}),
                       ("/v1/nothing", {})):
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        assert response.read() and response.status in (200, 404)
    connection.close()


# --- embeddings ---


def embed(service, **fields):
    document = service.post("/v1/embeddings", {"model": MODEL, **fields}).json
    check(document, "CreateEmbeddingResponse")
    return document


def vectors(document):
    return [row["embedding"] for row in document["data"]]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def test_embeddings_are_vectors_of_length_one(starling_service):
    texts = ["The cat sat on the mat.", "A dog ran.", "The cat sat on the mat."]
    answer = embed(starling_service, input=texts)
    assert answer["object"] == "list" and [row["index"] for row in answer["data"]] == [0, 1, 2]
    a, b, c = vectors(answer)
    assert len(a) == len(b) and a == c and a != b
    for vector in (a, b):
        assert math.isclose(dot(vector, vector), 1, abs_tol=1e-4)
    [alone] = vectors(embed(starling_service, input=texts[1]))
    assert dot(alone, b) > 0.999
    tokens = starling_service.post("/tokenize", {"model": MODEL, "prompt": texts[1]}).json["tokens"]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(tokens)
    for form in (tokens, [tokens]):
        [vector] = vectors(embed(starling_service, input=form))
        assert dot(vector, b) > 0.999


def test_embeddings_in_base64(starling_service):
    [plain] = vectors(embed(starling_service, input="hello", encoding_format="float"))
    document = starling_service.post("/v1/embeddings", {
        "model": MODEL, "input": "hello", "encoding_format": "base64"}).json
    raw = base64.b64decode(document["data"][0]["embedding"])
    assert struct.unpack(f"<{len(plain)}f", raw) == pytest.approx(plain, abs=1e-7)


def test_pooling_and_dimensions(starling_service):
    kinds = [vectors(embed(starling_service, input="The cat sat down.", pooling=kind))[0]
             for kind in ("mean", "last", "cls")]
    assert kinds[0] != kinds[1] != kinds[2] != kinds[0]
    [whole] = vectors(embed(starling_service, input="The cat sat down."))
    [part] = vectors(embed(starling_service, input="The cat sat down.", dimensions=32))
    assert len(part) == 32 and math.isclose(dot(part, part), 1, abs_tol=1e-4)
    length = math.sqrt(dot(whole[:32], whole[:32]))
    assert part == pytest.approx([x / length for x in whole[:32]], abs=1e-5)
    [long] = vectors(embed(starling_service, input="The cat sat down.", normalize=False))
    assert not math.isclose(dot(long, long), 1, abs_tol=1e-3)


def test_many_texts_at_once(starling_service):
    texts = [f"text number {i}" for i in range(200)]
    found = vectors(embed(starling_service, model=echo(), input=texts))
    assert len(found) == 200 and len({tuple(vector) for vector in found}) == 200
    [last] = vectors(embed(starling_service, model=echo(), input=texts[-1]))
    assert last == found[-1]


@pytest.mark.parametrize("name, value", [
    ("input", None), ("input", ""), ("input", []), ("input", [""]), ("input", 5), ("input", [[]]),
    ("input", ["a", None]), ("input", ["x"] * 2049), ("input", [1.5]),
    ("encoding_format", "hex"), ("dimensions", 0), ("dimensions", -1), ("dimensions", "x"),
    ("pooling", "max"),
])
def test_a_bad_field_of_embeddings_is_named(starling_service, name, value):
    refuse(starling_service, "/v1/embeddings", {"model": MODEL, "input": "x", name: value},
           param=name)
