"""Ollama's client library from npm, unchanged, against a running server."""
import json

import pytest

from conftest import MODELS
from npm_clients import node_fixture  # noqa: F401  pylint: disable=unused-import
from pull_server import PullServer
from service import HERMES, echo, wait_for
from test_ollama import GREEDY, MESSAGES, MODEL, PROMPT, THINKS_AND_CALLS, TOOLS, check_end


@pytest.fixture(name="ollama")
def ollama_fixture(node, starling_service):
    """One step of clients/ollama_client.cjs."""
    def step(name, service=starling_service, **options):
        return node("ollama_client.cjs", service.url, name, json.dumps(options))
    return step


def test_generate(ollama):
    request = {"model": MODEL, "prompt": PROMPT, "options": GREEDY}
    whole = ollama("generate", request=request)
    check_end(whole)
    *parts, last = ollama("generate_stream", request=request)
    check_end(last)
    assert "".join(part["response"] for part in parts) == whole["response"] != ""


def test_chat(ollama):
    request = {"model": MODEL, "messages": MESSAGES, "options": GREEDY}
    whole = ollama("chat", request=request)
    check_end(whole)
    parts = ollama("chat_stream", request=request)
    text = "".join(part["message"]["content"] for part in parts)
    assert text == whole["message"]["content"] != ""


def test_tools_and_thinking(ollama):
    request = {"model": echo(HERMES, text=THINKS_AND_CALLS), "messages": MESSAGES, "tools": TOOLS,
               "think": True}
    message = ollama("chat", request=request)["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == {"city": "Paris", "days": [1, 2]}
    assert message["thinking"] == "They ask for weather."
    parts = [part["message"] for part in ollama("chat_stream", request=request)]
    [call] = [call for part in parts for call in part.get("tool_calls", [])]
    assert call == message["tool_calls"][0] | {"id": call["id"]}


def test_embeddings(ollama):
    answer = ollama("embed", request={"model": MODEL, "input": ["a", "b"]})
    assert len(answer["embeddings"]) == 2
    old = ollama("embeddings", request={"model": MODEL, "prompt": "a"})
    assert len(old["embedding"]) == len(answer["embeddings"][0])


def test_models(ollama):
    assert MODEL + ":latest" in {model["name"] for model in ollama("list")["models"]}
    assert MODEL + ":latest" in {model["name"] for model in ollama("ps")["models"]}
    assert ollama("show", request={"model": MODEL})["details"]["format"] == "gguf"
    assert ollama("version")["version"].count(".") == 2


def test_errors(ollama):
    for step in ("chat_failure", "generate_stream_failure"):
        error = ollama(step, request={"model": "nobody/has-this", "prompt": "x"})
        assert (error["name"], error["status"]) == ("ResponseError", 404)
        assert "nobody/has-this" in error["message"]


def test_an_abort_ends_the_work(ollama, starling_service):
    request = {"model": echo(text="x", tokens=30000, pace_us=1000), "messages": MESSAGES}
    aborted = ollama("abort", request=request)
    assert aborted["error"] == "AbortError" and 2 <= aborted["parts"] < 30000
    wait_for(lambda: starling_service.get("/health").json["running"] == 0, "the work to end")


def test_copy_delete_and_pull(ollama, serve):
    service = serve("--threads", 1)
    assert ollama("copy", service, request={"source": MODEL, "destination": "bird"})
    assert ollama("delete", service, request={"model": "bird"})
    server = PullServer()
    try:
        server.add("/m.gguf", (MODELS / "starling.gguf").read_bytes())
        request = {"model": server.url + "/m.gguf"}
        assert ollama("pull_stream", service, request=request)[-1] == {"status": "success"}
        assert ollama("pull", service, request=request) == {"status": "success"}
    finally:
        server.close()
