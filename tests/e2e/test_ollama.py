"""Ollama's native API over plain HTTP: what tools made for Ollama send, and what they read."""
import datetime
import hashlib
import json
import re

import pytest

from conftest import MODELS
from pull_server import PullServer, make_gguf
from service import DEADLINE_S, HERMES, Service, echo, wait_for

MODEL = "starling"
PROMPT = "One day Lily found a red ball in the garden and"
GREEDY = {"temperature": 0, "num_predict": 12}
MESSAGES = [{"role": "user", "content": PROMPT}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather now",
                                           "parameters": {"type": "object", "properties": {
                                               "city": {"type": "string"}}}}}]
THINKS_AND_CALLS = ('<think>\nThey ask for weather.\n</think>\n\nLet me look.\n<tool_call>\n'
                    '{"name": "get_weather", "arguments": {"city": "Paris", "days": [1, 2]}}\n'
                    '</tool_call>')
COUNTS = {"total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration",
          "eval_count", "eval_duration"}


def lines(service, path, body):
    """All objects of a stream; each is a line, the last one is done."""
    connection, response = service.send("POST", path, body)
    try:
        assert response.status == 200, response.read()
        assert response.headers["Content-Type"] == "application/x-ndjson"
        parts = [json.loads(line) for line in response.read().decode().splitlines()]
    finally:
        connection.close()
    return parts


def post(service, path, **body):
    return service.post(path, body).json


def generate(service, **fields):
    """A short greedy answer, whole."""
    return post(service, "/api/generate", **{"model": MODEL, "prompt": PROMPT, "stream": False,
                                             "options": GREEDY, **fields})


def refused(service, path, status=400, **body):
    """The text of the error, which is all that its object holds."""
    answer = service.post(path, body, expect=status)
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"error"}
    return answer.json["error"]


def parse_time(text):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text), text
    return datetime.datetime.fromisoformat(text[:26] + "+00:00")


def check_end(part, reason="length"):
    assert part["done"] is True and part["done_reason"] == reason
    assert COUNTS <= set(part)
    assert all(isinstance(part[name], int) for name in COUNTS)
    assert part["total_duration"] >= part["eval_duration"] > 0
    assert part["prompt_eval_duration"] > 0 and part["prompt_eval_count"] > 0
    age = datetime.datetime.now(datetime.timezone.utc) - parse_time(part["created_at"])
    assert abs(age.total_seconds()) < 600


def running(service):
    return {model["name"]: model for model in service.get("/api/ps").json["models"]}


# --- generate ---


def test_generate_streams_unless_told_otherwise(starling_service):
    *parts, last = lines(starling_service, "/api/generate",
                         {"model": MODEL, "prompt": PROMPT, "options": GREEDY})
    assert len(parts) > 3
    for part in parts:
        assert set(part) == {"model", "created_at", "response", "done"}
        assert part["model"] == MODEL and part["done"] is False and part["response"]
        parse_time(part["created_at"])
    check_end(last)
    assert last["response"] == "" and last["eval_count"] == 12
    whole = generate(starling_service)
    check_end(whole)
    assert whole["response"] == "".join(part["response"] for part in parts)
    assert whole["prompt_eval_count"] == last["prompt_eval_count"]


def test_generate_is_what_the_other_api_gives(starling_service):
    ours = generate(starling_service, raw=True)
    theirs = starling_service.complete(MODEL, PROMPT, temperature=0, max_tokens=12)
    assert ours["response"] == theirs["choices"][0]["text"]
    assert ours["prompt_eval_count"] == theirs["usage"]["prompt_tokens"]


def test_latest_is_the_tag_of_a_name_without_one(starling_service):
    short, long = (generate(starling_service, model=name) for name in (MODEL, MODEL + ":latest"))
    assert short["response"] == long["response"]
    assert (short["model"], long["model"]) == (MODEL, MODEL + ":latest")


def test_generate_puts_system_and_prompt_into_the_template(starling_service):
    model = echo(chat_template="{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
                               "{% if add_generation_prompt %}>{% endif %}")
    def answer(**more):
        return post(starling_service, "/api/generate", model=model, prompt="hi", stream=False,
                    **more)["response"]
    answers = [answer(), answer(system="be kind"), answer(raw=True),
               answer(template="{{ .Prompt }}")]
    assert answers == ["[user:hi]>", "[system:be kind][user:hi]>", "hi", "[user:hi]>"]


@pytest.mark.parametrize("options, want", [
    ({"num_predict": 3}, ("abc", "length")), ({"stop": ["cab"]}, ("ab", "stop")),
    ({"stop": "cab", "num_ctx": 77, "nonsense": [1]}, ("ab", "stop")),
    ({"num_predict": -1}, ("abcabc", "stop"))])
def test_options(starling_service, options, want):
    answer = post(starling_service, "/api/generate", model=echo(text="abcabc"), prompt="x",
                  stream=False, options=options)
    assert (answer["response"], answer["done_reason"]) == want


def test_a_seed_repeats_and_another_does_not(starling_service):
    def draw(seed):
        options = {"temperature": 1.2, "seed": seed, "num_predict": 24}
        return generate(starling_service, options=options)["response"]
    assert draw(7) == draw(7)
    assert len({draw(seed) for seed in range(6)}) > 1


@pytest.mark.parametrize("field, value, says", [
    ("format", "json", "not supported yet"), ("format", {"type": "object"}, "not supported yet"),
    ("images", ["iVBORw0KGgo="], "images"), ("suffix", "end", "suffix"),
    ("context", [1, 2], "context"), ("stream", "yes", "stream"), ("prompt", 7, "prompt"),
    ("system", [], "system"),
    ("keep_alive", "5 parsecs", "keep_alive"), ("keep_alive", [], "keep_alive"),
    ("options", {"temperature": "hot"}, "temperature"), ("options", {"top_p": 3}, "top_p")])
def test_what_cannot_be_done_is_refused(starling_service, field, value, says):
    body = {"model": MODEL, "prompt": PROMPT, field: value}
    assert says in refused(starling_service, "/api/generate", **body)


@pytest.mark.parametrize("field, value", [
    ("format", ""), ("format", None), ("images", []), ("images", None), ("suffix", ""),
    ("context", []), ("options", None), ("keep_alive", ""), ("keep_alive", "1h30m"),
    ("keep_alive", 60.5), ("keep_alive", "-1"), ("keep_alive", "300ms"), ("think", None)])
def test_empty_fields_are_no_wishes(starling_service, field, value):
    body = {"model": echo(text="yes"), "prompt": "x", "stream": False, field: value}
    assert post(starling_service, "/api/generate", **body)["response"] == "yes"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed", "/api/embeddings",
                                  "/api/show"])
def test_a_model_that_nobody_has_is_a_404(starling_service, path):
    body = {"model": "nobody/has-this", "prompt": "x", "input": "x", "messages": MESSAGES}
    assert "nobody/has-this" in refused(starling_service, path, 404, **body)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed", "/api/show",
                                  "/api/pull", "/api/copy"])
def test_bodies_that_are_no_requests(starling_service, path):
    for body in ("", "[1]", '{"model":', "{}", '{"model": 7}'):
        assert set(starling_service.post(path, body, expect=400).json) == {"error"}


def test_a_prompt_that_is_too_long_names_both_numbers(starling_service):
    message = refused(starling_service, "/api/generate", model=echo(ctx=64), prompt="x" * 100)
    assert "100" in message and "64" in message


# --- chat ---


def test_chat_streams_messages(starling_service):
    *parts, last = lines(starling_service, "/api/chat",
                         {"model": MODEL, "messages": MESSAGES, "options": GREEDY})
    for part in parts:
        assert set(part) == {"model", "created_at", "message", "done"}
        assert set(part["message"]) == {"role", "content"}
        assert part["message"]["role"] == "assistant" and part["done"] is False
    check_end(last)
    assert last["message"] == {"role": "assistant", "content": ""}
    whole = post(starling_service, "/api/chat", model=MODEL, messages=MESSAGES, stream=False,
                 options=GREEDY)
    check_end(whole)
    assert whole["message"]["content"] == "".join(part["message"]["content"] for part in parts)


def test_thinking_and_tool_calls_are_told_apart(starling_service):
    body = {"model": echo(HERMES, text=THINKS_AND_CALLS), "messages": MESSAGES, "tools": TOOLS}
    message = post(starling_service, "/api/chat", stream=False, **body)["message"]
    assert message["thinking"] == "They ask for weather."
    assert message["content"] == "Let me look."
    [call] = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert call["function"]["arguments"] == {"city": "Paris", "days": [1, 2]}
    *parts, last = [part["message"] for part in lines(starling_service, "/api/chat", body)]
    assert last == {"role": "assistant", "content": ""}
    assert "".join(part.get("thinking", "") for part in parts) == message["thinking"]
    assert "".join(part["content"] for part in parts) == message["content"]
    [streamed] = [call for part in parts for call in part.get("tool_calls", [])]
    assert streamed["function"] == call["function"]


def test_several_calls_keep_their_order(starling_service):
    text = "\n".join(f'<tool_call>\n{{"name": "f{i}", "arguments": {{"i": {i}}}}}\n</tool_call>'
                     for i in range(3))
    body = {"model": echo(HERMES, text=text), "messages": MESSAGES, "tools": TOOLS}
    whole = post(starling_service, "/api/chat", stream=False, **body)["message"]["tool_calls"]
    streamed = [call for part in lines(starling_service, "/api/chat", body)
                for call in part["message"].get("tool_calls", [])]
    for calls in (whole, streamed):
        assert [call["function"] for call in calls] == [
            {"index": i, "name": f"f{i}", "arguments": {"i": i}} for i in range(3)]


def test_a_call_that_breaks_off_is_text(starling_service):
    text = '<tool_call>\n{"name": "f", "arguments": {"city": "Par'
    body = {"model": echo(HERMES, text=text), "messages": MESSAGES, "tools": TOOLS}
    message = post(starling_service, "/api/chat", stream=False, **body)["message"]
    assert "tool_calls" not in message and '"city": "Par' in message["content"]
    parts = [part["message"] for part in lines(starling_service, "/api/chat", body)]
    assert not any("tool_calls" in part for part in parts)
    assert "".join(part["content"] for part in parts) == message["content"]


def test_think_false_asks_the_template_and_leaves_the_text_alone(starling_service):
    template = "{{ enable_thinking if enable_thinking is defined else 'unset' }}" \
               "{{ reasoning_effort if reasoning_effort is defined }}{#- <think> -#}"
    def prompt(**more):
        return post(starling_service, "/api/chat", model=echo(template), messages=MESSAGES,
                    stream=False, **more)["message"]["content"]
    assert [prompt(), prompt(think=True), prompt(think=False), prompt(think="low")] == \
        ["unset", "True", "False", "Truelow"]
    body = {"model": echo(HERMES, text="<think>\nhm\n</think>\n\nyes"), "messages": MESSAGES}
    message = post(starling_service, "/api/chat", stream=False, think=False, **body)["message"]
    assert message["content"] == "<think>\nhm\n</think>\n\nyes" and "thinking" not in message


def test_a_conversation_with_tools_reaches_the_template(starling_service):
    template = "{% for m in messages %}{{ m.role }}|{{ m.content }}|{{ m.name }}|" \
               "{{ m.reasoning_content }}|{% for c in m.tool_calls or [] %}" \
               "{{ c.function.name }}{{ c.function.arguments.city }}{% endfor %};{% endfor %}"
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
            {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
        {"role": "tool", "tool_name": "get_weather", "content": "rain"},
        {"role": "assistant"}]
    answer = post(starling_service, "/api/chat", model=echo(template), messages=messages,
                  stream=False)
    assert answer["message"]["content"] == (
        f"user|{PROMPT}|||;assistant|||hm|get_weatherParis;tool|rain|get_weather||;assistant||||;")


@pytest.mark.parametrize("messages", [
    "hi", [7], [{"content": "hi"}], [{"role": "user", "content": [1]}],
    [{"role": "user", "content": "x", "images": ["aa"]}],
    [{"role": "assistant", "content": "", "tool_calls": 7}]])
def test_bad_messages(starling_service, messages):
    assert refused(starling_service, "/api/chat", model=MODEL, messages=messages)


# --- loading ---


@pytest.mark.parametrize("path, body", [("/api/generate", {}), ("/api/generate", {"prompt": ""}),
                                        ("/api/chat", {"messages": []}), ("/api/chat", {})])
def test_nothing_to_answer_loads_the_model_or_lets_it_go(starling_service, path, body):
    model = echo(text=path + str(len(body)))
    answer = post(starling_service, path, model=model, **body)
    assert answer["done"] is True and answer["done_reason"] == "load"
    assert answer.get("response", answer.get("message", {}).get("content")) == ""
    assert running(starling_service)[model]["status"] == "ready"
    answer = post(starling_service, path, model=model, keep_alive=0, **body)
    assert answer["done_reason"] == "unload"
    wait_for(lambda: model not in running(starling_service), "the model to go")
    answer = post(starling_service, path, model=model, keep_alive="0s", **body)
    assert answer["done_reason"] == "unload"


def test_keep_alive_is_when_the_model_goes(starling_service):
    model = echo(text="keep")
    for keep_alive, low, high in ((600, 500, 600), ("2h", 7000, 7200), (-1, 1e8, 1e11),
                                  ("1m", 0, 60)):
        post(starling_service, "/api/generate", model=model, prompt="x", stream=False,
             keep_alive=keep_alive)
        text = running(starling_service)[model]["expires_at"]
        left = parse_time(text) - datetime.datetime.now(datetime.timezone.utc)
        assert low < left.total_seconds() <= high, keep_alive
    post(starling_service, "/api/generate", model=model, prompt="x", stream=False, keep_alive=0)
    wait_for(lambda: model not in running(starling_service), "the model to go")


def test_a_model_that_does_not_load_says_why(starling_service):
    message = refused(starling_service, "/api/generate", 503, model=echo(load_fail="no such luck"))
    assert "no such luck" in message


# --- embeddings ---


def test_embed(starling_service):
    one = post(starling_service, "/api/embed", model=MODEL, input="a red ball")
    two = post(starling_service, "/api/embed", model=MODEL, input=["a red ball", "rain"])
    [vector] = one["embeddings"]
    assert len(two["embeddings"]) == 2 and two["embeddings"][0] == pytest.approx(vector, abs=1e-5)
    assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-4)
    assert one["model"] == MODEL and one["prompt_eval_count"] > 0 and one["total_duration"] > 0
    assert isinstance(one["load_duration"], int)
    short = post(starling_service, "/api/embed", model=MODEL, input="a red ball", dimensions=8)
    [cut] = short["embeddings"]
    assert len(cut) == 8 and sum(x * x for x in cut) == pytest.approx(1, abs=1e-4)
    theirs = starling_service.post("/v1/embeddings", {"model": MODEL, "input": "a red ball"}).json
    assert theirs["data"][0]["embedding"] == pytest.approx(vector, abs=1e-5)


def test_embeddings_as_it_was_before(starling_service):
    old = post(starling_service, "/api/embeddings", model=MODEL, prompt="a red ball")
    assert set(old) == {"embedding"}
    [new] = post(starling_service, "/api/embed", model=MODEL, input="a red ball")["embeddings"]
    length = sum(x * x for x in old["embedding"]) ** 0.5
    assert [x / length for x in old["embedding"]] == pytest.approx(new, abs=1e-4)


def test_embed_of_nothing(starling_service):
    for nothing in ([], ""):
        assert post(starling_service, "/api/embed", model=MODEL, input=nothing)["embeddings"] == []
    assert refused(starling_service, "/api/embed", model=MODEL, input=[""])
    assert refused(starling_service, "/api/embed", model=MODEL)
    assert refused(starling_service, "/api/embed", model=MODEL, input="x", dimensions=-1)


def test_a_text_over_the_context_is_cut_or_refused(starling_service):
    long = "once upon a time " * 400
    answer = post(starling_service, "/api/embed", model=MODEL, input=["short", long])
    assert len(answer["embeddings"]) == 2
    limit = starling_service.get(f"/v1/models/{MODEL}").json["max_model_len"]
    assert limit < answer["prompt_eval_count"] < limit + 10
    message = refused(starling_service, "/api/embed", model=MODEL, input=["short", long],
                      truncate=False)
    assert str(limit) in message


# --- models ---


def test_tags(starling_service):
    [model] = [model for model in starling_service.get("/api/tags").json["models"]
               if model["name"] == MODEL + ":latest"]
    assert set(model) == {"name", "model", "modified_at", "size", "digest", "details"}
    assert model["size"] == (MODELS / "starling.gguf").stat().st_size
    assert re.fullmatch("[0-9a-f]{64}", model["digest"])
    parse_time(model["modified_at"])
    assert model["details"] == {"parent_model": "", "format": "gguf", "family": "llama",
                                "families": ["llama"], "parameter_size": "7.5M",
                                "quantization_level": "Q8_0"}


def test_ps(starling_service):
    model = running(starling_service)[MODEL + ":latest"]
    [tag] = [tag for tag in starling_service.get("/api/tags").json["models"]
             if tag["name"] == MODEL + ":latest"]
    assert model["digest"] == tag["digest"] and model["details"] == tag["details"]
    assert model["size"] > tag["size"] and model["size_vram"] == 0
    assert model["context_length"] == 512 and model["status"] == "ready"
    assert model["progress"] == 1 and model["pinned"] is True
    assert parse_time(model["expires_at"]).year > 2200


def test_show(starling_service):
    answer = post(starling_service, "/api/show", model=MODEL)
    assert answer["details"]["family"] == "llama"
    info = answer["model_info"]
    assert info["general.architecture"] == "llama" and info["llama.context_length"] == 512
    assert info["general.parameter_count"] > 7e6
    assert info["tokenizer.ggml.tokens"] == []
    assert answer["capabilities"] == ["completion"]
    assert "FROM starling:latest" in answer["modelfile"]
    assert isinstance(answer["template"], str) and isinstance(answer["parameters"], str)
    parse_time(answer["modified_at"])
    verbose = post(starling_service, "/api/show", name=MODEL, verbose=True)["model_info"]
    assert len(verbose["tokenizer.ggml.tokens"]) == info["llama.vocab_size"]


def test_show_of_a_model_that_was_given_by_its_path(serve, stories):
    service = serve(stories, "--threads", 1)
    answer = post(service, "/api/show", model="stories260K-f32")
    assert answer["model_info"]["llama.block_count"] == 5
    assert "stories260K-f32" in {model["name"] for model in service.get("/api/tags").json["models"]}
    check_end(generate(service, model="stories260K-f32", raw=True))


def ollama_store(folder, name, **layers):
    """A store as Ollama keeps it, with one model."""
    manifest = {"schemaVersion": 2, "layers": []}
    (folder / "blobs").mkdir(parents=True)
    for kind, data in layers.items():
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        manifest["layers"].append({"mediaType": f"application/vnd.ollama.image.{kind}",
                                   "digest": f"sha256:{digest}", "size": len(data)})
    place = folder / "manifests/registry.ollama.ai/library" / name
    place.mkdir(parents=True)
    (place / "latest").write_text(json.dumps(manifest))
    return folder


def test_what_a_manifest_brings_holds_and_is_shown(starlane, serve, tmp_path):
    starlane.call("import", ollama_store(
        tmp_path / "ollama", "bird", model=(MODELS / "starling.gguf").read_bytes(),
        params=b'{"num_predict": 5, "stop": ["</s>", "<end>"]}', system=b"You sing.",
        template=b"{{ .System }} {{ .Prompt }}", license=b"CC0"))
    service = serve("--threads", 1)
    shown = post(service, "/api/show", model="bird")
    assert [line.split() for line in shown["parameters"].splitlines()] == [
        ["num_predict", "5"], ["stop", '"</s>"'], ["stop", '"<end>"']]
    assert shown["system"] == "You sing." and shown["license"] == "CC0"
    assert shown["template"] == "{{ .System }} {{ .Prompt }}"
    assert 'PARAMETER stop' in shown["modelfile"] and "You sing." in shown["modelfile"]
    assert generate(service, model="bird", options={"temperature": 0})["eval_count"] == 5
    assert generate(service, model="bird")["eval_count"] == 12
    with_system, without = (generate(service, model="bird", **more)["prompt_eval_count"]
                            for more in ({}, {"system": ""}))
    assert with_system > without


@pytest.mark.parametrize("keys, capabilities", [
    ({}, ["completion"]),
    ({"tokenizer__chat_template": HERMES}, ["completion", "tools", "thinking"]),
    ({"tokenizer__chat_template": "{{ messages[0].content }}"}, ["completion"]),
    ({"tokenizer__chat_template": "{% broken"}, ["completion"]),
    ({"llama__pooling_type": (1, 4)}, ["embedding"])])
def test_show_tells_what_a_model_can_do(starlane, serve, tmp_path, keys, capabilities):
    file = tmp_path / "made.gguf"
    file.write_bytes(make_gguf(4096, **keys))
    starlane.call("import", file)
    shown = post(serve("--threads", 1), "/api/show", model="made")
    assert shown["capabilities"] == capabilities
    assert shown["template"] == keys.get("tokenizer__chat_template", "")
    assert "tokenizer.chat_template" not in shown["model_info"]


def test_version_is_what_clients_compare(starling_service):
    answer = starling_service.get("/api/version").json
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer["version"])
    assert starling_service.get("/").status == 200
    assert starling_service.request("HEAD", "/").body == b""


def test_copy_and_delete(serve):
    service = serve("--threads", 1)
    def names():
        return {model["name"] for model in service.get("/api/tags").json["models"]}
    assert service.post("/api/copy", {"source": MODEL, "destination": "bird"}).body == b""
    assert "bird:latest" in names()
    check_end(generate(service, model="bird"))
    service.request("DELETE", "/api/delete", {"model": "bird"})
    assert "bird:latest" not in names()
    refused(service, "/api/generate", 404, model="bird", prompt=PROMPT)
    refused(service, "/api/copy", 404, source="nobody", destination="x")
    assert service.request("DELETE", "/api/delete", {"name": "bird"}, expect=404).json["error"]
    assert service.request("DELETE", "/api/delete", {"name": MODEL}, expect=400).json["error"]


# --- pull ---


@pytest.fixture(name="server")
def server_fixture():
    own = PullServer()
    yield own
    own.close()


def test_pull_tells_how_far_it_is(serve, server):
    service = serve("--threads", 1)
    data = (MODELS / "starling.gguf").read_bytes()
    server.add("/m.gguf", data)
    url = server.url + "/m.gguf"
    *parts, last = lines(service, "/api/pull", {"model": url})
    assert parts[0] == {"status": "pulling manifest"} and last == {"status": "success"}
    bars = [part for part in parts if "completed" in part]
    assert bars[-1]["total"] == bars[-1]["completed"] == len(data)
    assert all(bar["digest"] and bar["status"].startswith("pulling ") for bar in bars)
    assert [bar["completed"] for bar in bars] == sorted(bar["completed"] for bar in bars)
    assert url in str(service.get("/api/tags").json)
    check_end(generate(service, model=url))
    assert post(service, "/api/pull", name=url, stream=False) == {"status": "success"}


def test_a_pull_that_fails(serve, server):
    service = serve("--threads", 1)
    url = server.url + "/absent.gguf"
    assert "absent.gguf" in refused(service, "/api/pull", 404, model=url, stream=False)
    refused(service, "/api/pull", model="no name/at all!")
    server.add("/bad.gguf", b"x" * 5000)
    answer = service.post("/api/pull", {"model": server.url + "/bad.gguf"}, expect=None)
    assert "error" in json.loads(answer.text.splitlines()[-1])
    assert len(service.get("/api/tags").json["models"]) == 1


def test_a_client_that_goes_away_ends_its_pull(serve, server):
    service = serve("--threads", 1)
    served = server.add("/slow.gguf", (MODELS / "starling.gguf").read_bytes(), pace_s=0.05)
    url = server.url + "/slow.gguf"
    connection, response = service.send("POST", "/api/pull", {"model": url})
    assert b"pulling" in response.readline()
    response.close()
    connection.close()
    served.pace_s = 0
    # The next one is not kept waiting by the first, whose claim on the file ends with it.
    assert post(service, "/api/pull", model=url, stream=False) == {"status": "success"}


def test_a_shutdown_does_not_wait_for_a_pull(starlane, server):
    service = Service(starlane, "--threads", 1)
    server.add("/slow.gguf", (MODELS / "starling.gguf").read_bytes(), pace_s=1)
    connection, response = service.send("POST", "/api/pull", {"model": server.url + "/slow.gguf"})
    assert b"pulling" in response.readline()
    service.signal(15)
    *_, last = response.read().decode().splitlines()
    assert "pull again" in json.loads(last)["error"]
    connection.close()
    assert service.process.wait(DEADLINE_S) == 0
    service.process.stderr.close()


def test_a_stop_at_once_ends_a_pull_too(starlane, server):
    service = Service(starlane, "--threads", 1)
    server.add("/slow.gguf", (MODELS / "starling.gguf").read_bytes(), pace_s=1)
    connection, response = service.send("POST", "/api/pull", {"model": server.url + "/slow.gguf"})
    assert b"pulling" in response.readline()
    service.stop()
    connection.close()
    assert len(starlane.json("list", "--json")["models"]) == 1


# --- keys ---


def test_a_key_uses_models_and_does_not_change_them(starlane, serve):
    key = starlane.json("keys", "create", "--name", "k", "--models", "starling*", "--json")["key"]
    service = serve("--threads", 1, "--echo", key=key)
    check_end(generate(service))
    for path, body in (("/api/pull", {"model": "x"}), ("/api/copy", {"source": MODEL,
                                                                   "destination": "y"})):
        refused(service, path, 403, **body)
    service.request("DELETE", "/api/delete", {"model": MODEL}, expect=403)
    refused(service, "/api/generate", 403, model=echo(text="x"), prompt="x")
    refused(service, "/api/show", 403, model=echo(text="x"))
    service.key = None
    refused(service, "/api/generate", 401, model=MODEL, prompt=PROMPT)
    assert service.get("/api/version").status == 200
