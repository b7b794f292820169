"""The `openai` SDK from npm, as applications use it."""
import json

import pytest

from npm_clients import node_fixture  # noqa: F401 pylint: disable=unused-import
from service import LAST_MESSAGE, echo, wait_for

MODEL = "starling"
MESSAGES = [{"role": "user", "content": "Once upon a time"}]
CHAT = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Of a city.",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                         "required": ["city"]}}}]


@pytest.fixture(name="call")
def call_fixture(node):
    """call(service, SCENARIO, ...): what clients/openai_client.cjs makes of it."""
    return lambda service, scenario, **arguments: node(
        "openai_client.cjs", scenario, json.dumps({"url": service.url, **arguments}))


@pytest.fixture(name="sdk")
def sdk_fixture(call, starling_service):
    return lambda scenario, **arguments: call(starling_service, scenario, **arguments)


def says(text, **fields):
    """A request that the scripted engine answers with this text."""
    return {"model": echo(LAST_MESSAGE + "{# <think> #}"),
            "messages": [{"role": "user", "content": text}], **fields}


def test_chat(sdk, starling_service):
    answer = sdk("chat", request=CHAT)
    assert answer["object"] == "chat.completion"
    plain = starling_service.post("/v1/chat/completions", CHAT).json
    assert answer["choices"] == plain["choices"]


def test_stream(sdk):
    whole = sdk("chat", request=CHAT)
    chunks = sdk("stream", request={**CHAT, "stream_options": {"include_usage": True}})
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 12


def test_the_helper_puts_a_stream_together(sdk):
    whole = sdk("chat", request=CHAT)["choices"][0]["message"]["content"]
    found = sdk("helper", request=CHAT)
    [choice] = found["completion"]["choices"]
    assert choice["message"]["content"] == "".join(found["contents"]) == whole
    assert choice["finish_reason"] == "length"


def test_tools(sdk):
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Kyōto"}}\n</tool_call>'
    request = says(call, tools=TOOLS)
    [choice] = sdk("chat", request=request)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    [made] = choice["message"]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"city": "Kyōto"}
    streamed = sdk("helper", request=request)["completion"]["choices"][0]["message"]
    [made] = streamed["tool_calls"]
    assert made["function"]["name"] == "get_weather"
    assert json.loads(made["function"]["arguments"]) == {"city": "Kyōto"}


def test_tools_that_the_sdk_calls(sdk):
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    found = sdk("tools", request=says(call, tools=TOOLS), result="sunny")
    assert found["seen"] == [{"city": "Oslo"}]
    assert [message["role"] for message in found["messages"]] == ["user", "assistant", "tool"]
    assert found["messages"][2]["content"] == "sunny"
    assert found["messages"][2]["tool_call_id"] == found["messages"][1]["tool_calls"][0]["id"]


def test_reasoning(sdk):
    request = says("<think>Hm.</think>Yes.")
    message = sdk("chat", request=request)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Yes.")
    chunks = sdk("stream", request=request)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert "".join(delta.get("content", "") for delta in deltas) == "Yes."


def test_completions(sdk):
    request = {"model": MODEL, "prompt": "The cat", "max_tokens": 8, "temperature": 0}
    whole = sdk("completion", request=request)["choices"][0]["text"]
    chunks = sdk("completion_stream", request=request)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole


def test_embeddings(sdk):
    request = {"model": MODEL, "input": ["a cat", "a dog"]}
    floats = sdk("embeddings", request={**request, "encoding_format": "float"})
    # Without a format the SDK asks for base64 and decodes it.
    decoded = sdk("embeddings", request=request)
    for a, b in zip(floats["data"], decoded["data"]):
        assert a["embedding"] == pytest.approx(b["embedding"], abs=1e-6)
    raw = sdk("embeddings", request={**request, "encoding_format": "base64"})
    assert isinstance(raw["data"][0]["embedding"], str)


def test_models(sdk):
    assert any(model["id"].startswith("starling") for model in sdk("models"))
    assert sdk("model", id=MODEL)["id"] == MODEL


@pytest.mark.parametrize("request_, status, name, param", [
    ({**CHAT, "temperature": 9}, 400, "BadRequestError", "temperature"),
    ({**CHAT, "model": "nobody"}, 404, "NotFoundError", "model"),
])
def test_errors_have_their_class(sdk, request_, status, name, param):
    error = sdk("error", path="/chat/completions", request=request_)
    assert (error["status"], error["name"], error["param"]) == (status, name, param)
    assert error["requestId"].startswith("req_") and error["type"]


def test_errors_of_keys(call, serve, starlane):
    key = starlane.text("keys", "create", "--name", "a", "--rpm", 2, "--models", "echo*").strip()
    service = serve("--echo")

    def error(model, with_key):
        return call(service, "error", key=with_key, path="/chat/completions",
                    request={**CHAT, "model": model})
    assert error(MODEL, "wrong")["name"] == "AuthenticationError"
    assert error(MODEL, key)["name"] == "PermissionDeniedError"
    assert error(echo(), key) is None
    assert error(echo(), key) is None
    limited = error(echo(), key)
    assert (limited["name"], limited["code"]) == ("RateLimitError", "rate_limit_exceeded")


def test_errors_of_a_service_that_cannot(sdk):
    error = sdk("error", path="/chat/completions", request=says("x", model=echo(
        load_fail="out of luck")))
    assert error["name"] == "InternalServerError" and "out of luck" in error["message"]


def test_an_abort_stops_the_work(sdk, starling_service):
    model = echo(tokens=20000, pace_us=2000)
    request = {"model": model, "messages": MESSAGES, "max_tokens": 20000}
    assert 5 <= sdk("abort", request=request, after=5) < 1000
    wait_for(lambda: starling_service.get("/health").json["running"] == 0, "the first to end")
    assert sdk("abort_whole", request=request) == "APIUserAbortError"
    wait_for(lambda: starling_service.get("/health").json["running"] == 0, "nothing to run")
    wait_for(lambda: starling_service.metric("starlane_requests_disconnected_total", model) == 2,
             "both to be counted")
