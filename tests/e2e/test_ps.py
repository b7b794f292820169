"""`starlane ps` and `starlane stop` against a running service."""
import re

import pytest

from service import echo, wait_for

NOWHERE = {"STARLANE_HOST": "127.0.0.1:1"}


@pytest.mark.parametrize("command", [["ps"], ["stop", "starling"]])
def test_without_a_server(starlane, command):
    line = starlane.error(*command, environment=NOWHERE, expect=1)
    assert line.endswith("no server at http://127.0.0.1:1; start one with `starlane serve`")
    assert "give a server as" in starlane.error(*command, "--server", "a b", expect=2)


def rows(starlane, server):
    heading, *lines = starlane.text("ps", "--server", server).splitlines()
    assert heading.split() == ["NAME", "SIZE", "STATE", "RUNNING", "WAITING", "CONTEXT", "UNTIL"]
    return lines


def test_models_come_and_go(starlane, serve, stories):
    starlane.call("import", stories, "--name", "small")
    service = serve("--threads", 1, "--keep-alive", "10m")
    assert rows(starlane, service.url) == []
    service.complete("small", "Once", max_tokens=2)
    [line] = rows(starlane, service.url)
    words = line.split()
    assert words[0] == "small:latest" and words[3:7] == ["ready", "0", "0", "128"]
    assert re.search(r"(10|9) minutes from now$", line)
    [model] = starlane.json("ps", "--server", service.url, "--json")["models"]
    assert model["name"] == "small:latest" and model["status"] == "ready"
    assert starlane.call("stop", "small", "--server", service.url).stdout == b""
    wait_for(lambda: rows(starlane, service.url) == [], "the model to go")
    stopped = starlane.json("stop", "small", "--server", service.url, "--json")
    assert stopped == {"model": "small", "stopped": True}
    assert "absent" in starlane.error("stop", "absent", "--server", service.url, expect=1)


def test_a_model_the_server_keeps(starlane, serve):
    service = serve("starling", "--threads", 1)
    wait_for(lambda: any("ready" in line for line in rows(starlane, service.url)), "the model")
    [line] = rows(starlane, service.url)
    assert line.split()[0] == "starling:latest" and line.endswith("forever")
    assert "stays" in starlane.error("stop", "starling", "--server", service.url, expect=1)


def test_a_request_that_runs_is_counted(starlane, serve):
    service = serve("--echo")
    model = echo(text="word ", tokens=30000, pace_us=20000)
    with service.stream("/v1/completions", {"model": model, "prompt": "x", "max_tokens": 30000}):
        wait_for(lambda: starlane.json("ps", "--server", service.url, "--json")["models"][0]
                 ["running"] == 1, "the request to run")
