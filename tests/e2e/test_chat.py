"""`starlane chat`, and `starlane run` with a model that chats: in this process, and by a server."""
import json
import signal
import subprocess

import pytest

from chats import THINKS, import_chat_model
from conftest import TIMEOUT_S, Starlane
from service import CONVERSATION, Service, echo, wait_for
from test_interactive import Terminal

ONCE = "Once upon a time"
GREEDY = ["--temp", "0", "--max-tokens", "12"]
THINKING = "<think>\nlet me see\n</think>\n\nhello there"
QUIET = "-q"
HERE = ["--local", "--threads", "1"]
"""One thread: on a busy machine, two wait for each other most of the time."""
ENDLESS = echo(text="word ", tokens=30000, pace_us=20000)
"""Ten minutes of work, so that a test can stop it in the middle."""


@pytest.fixture
def talker(starlane, stories):
    """A stored model that chats."""
    return import_chat_model(starlane, stories)


@pytest.fixture(scope="module", name="echo_service")
def fixture_echo_service(tmp_path_factory):
    starlane = Starlane(tmp_path_factory.mktemp("echo") / "home")
    with Service(starlane, "--echo") as service:
        yield service


def turns(starlane, *arguments, lines, **options):
    """Each answer of a conversation from stdin, as JSON."""
    done = starlane.call("chat", *arguments, "--json", stdin="\n".join(lines).encode(), **options)
    return [json.loads(line) for line in done.stdout.splitlines()]


# in this process


def test_run_asks_a_model_that_chats(starlane, talker, stories):
    chat = starlane.json("run", talker, "there was", "--system", ONCE + ", ", *GREEDY, *HERE,
                         "--json")
    raw = starlane.json("run", stories, ONCE + ", there was", *GREEDY, *HERE, "--json")
    assert chat["text"] == raw["text"] and chat["prompt"] == "there was"
    plain = starlane.json("run", talker, "there was", "--system", ONCE + ", ", *GREEDY, *HERE,
                          "--json", "--raw")
    assert plain["usage"]["prompt_tokens"] < chat["usage"]["prompt_tokens"]


def test_the_models_own_system_message_and_parameters_count(starlane, stories):
    name = import_chat_model(starlane, stories, system=ONCE + ", ",
                             parameters={"temperature": 0, "num_predict": 5, "stop": ["named"]})
    own = starlane.json("run", name, "there was", *HERE, "--json")
    asked = starlane.json("run", stories, ONCE + ", there was", "--temp", 0, "--max-tokens", 5,
                          *HERE, "--json")
    assert own["text"] == asked["text"] and own["usage"]["completion_tokens"] == 5
    longer = starlane.json("run", name, "there was", "--max-tokens", 50, *HERE, "--json")
    assert longer["finish_reason"] == "stop" and "named" not in longer["text"]


def test_a_conversation_from_stdin(starlane, talker):
    first, second = turns(starlane, talker, *GREEDY, *HERE,
                          lines=[ONCE, "", '"""', "She", 'said"""'])
    assert first["prompt"] == ONCE and second["prompt"] == "She\nsaid"
    assert second["usage"]["prompt_tokens"] > 12 + first["usage"]["prompt_tokens"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    text = starlane.text("chat", talker, *GREEDY, *HERE, QUIET, stdin=ONCE.encode())
    assert text.strip() == first["text"].strip()


def test_commands(starlane, talker, tmp_path):
    file = tmp_path / "talk.json"
    lines = [ONCE, f"/save {file}", "/clear", ONCE, f"/load {file}", "She"]
    first, again, third = turns(starlane, talker, *GREEDY, *HERE, lines=lines)
    assert again["text"] == first["text"]
    saved = json.loads(file.read_text())
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"]
    assert saved["messages"][1]["content"] == first["text"] and saved["model"] == talker
    assert third["usage"]["prompt_tokens"] > first["usage"]["total_tokens"] - 2
    assert "no such command" in starlane.error("chat", talker, *HERE, stdin=b"/nothing",
                                               expect=2)
    assert turns(starlane, talker, *GREEDY, *HERE, lines=["/bye", ONCE]) == []
    starlane.error("chat", talker, *HERE, stdin=b"/load /no/such/file", expect=1)


def test_reasoning_is_told_apart(starlane, stories):
    name = import_chat_model(starlane, stories, THINKS)
    thought = starlane.json("run", name, ONCE, *GREEDY, *HERE, "--json")
    assert thought["text"] == "" and thought["reasoning"]
    plain = starlane.json("run", name, ONCE, *GREEDY, *HERE, "--json", "--no-think")
    assert "reasoning" not in plain and plain["text"].startswith(", there was")
    assert starlane.text("run", name, ONCE, *GREEDY, *HERE, QUIET).strip() == ""


def test_what_does_not_fit_or_cannot_chat(starlane, talker, stories):
    line = starlane.error("run", talker, ONCE * 40, "--ctx", 32, expect=1)
    assert "32" in line and "--ctx" in line
    assert "no chat template" in starlane.error("chat", stories, *HERE, expect=2)
    broken = import_chat_model(starlane, stories, "{% for %}", name="broken")
    assert "template" in starlane.error("run", broken, ONCE, *HERE, expect=2)
    assert starlane.text("run", broken, ONCE, *GREEDY, *HERE, QUIET, "--raw") != ""


# by a server


@pytest.mark.parametrize("model", ["talker", "plain"])
def test_a_server_answers_like_the_engine(starlane, stories, talker, serve, model):
    if model != talker:
        starlane.call("import", stories, "--name", model)
    server = serve("--threads", 1).url
    ask = ["run", model, ONCE, *GREEDY, "--json"]
    there, here = starlane.json(*ask, "--server", server), starlane.json(*ask, *HERE)
    assert there["text"] == here["text"] and there["finish_reason"] == "length"
    assert there["usage"]["prompt_tokens"] == here["usage"]["prompt_tokens"]
    assert there["server"] == server and "server" not in here


def test_which_server(starlane, talker, serve):
    server = serve("--threads", 1).url
    ask = ["run", talker, ONCE, *GREEDY, "--json"]
    for host in (server, server.removeprefix("http://")):
        known = {"STARLANE_HOST": host}
        assert starlane.json(*ask, environment=known)["server"] == server
    # The engine's options mean the engine.
    assert "server" not in starlane.json(*ask, "--threads", 1, environment=known)
    assert "--threads" in starlane.error(*ask, "--threads", 1, "--server", server, expect=2)


def test_a_conversation_is_the_same_on_a_server(starlane, talker, serve):
    server = serve("--threads", 1).url
    there = turns(starlane, talker, *GREEDY, "--server", server, lines=[ONCE, "She"])
    here = turns(starlane, talker, *GREEDY, *HERE, lines=[ONCE, "She"])
    assert [turn["text"] for turn in there] == [turn["text"] for turn in here]
    assert there[1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_server_gets_the_whole_conversation(starlane, echo_service):
    model = echo(chat_template=CONVERSATION)
    first, second = turns(starlane, model, "--server", echo_service.url, "--system", "be kind",
                          lines=["one", "two"])
    assert first["text"] == "<system>be kind<user>one<answer>"
    assert second["text"] == f"<system>be kind<user>one<assistant>{first['text']}<user>two<answer>"


def test_reasoning_of_a_server(starlane, echo_service):
    model = echo(text=THINKING, chat_template="{# <think> #}{{ messages[0].content }}")
    answer = starlane.json("run", model, "hi", "--server", echo_service.url, "--json")
    assert answer["reasoning"] == "let me see" and answer["text"] == "hello there"
    done = starlane.call("run", model, "hi", "--server", echo_service.url, QUIET)
    assert done.stdout == b"hello there\n" and done.stderr == b""


def test_errors_of_a_server_are_one_line(starlane, echo_service):
    line = starlane.error("run", "absent", "hi", "--server", echo_service.url, expect=1)
    assert "absent" in line
    line = starlane.error("run", "starling", "hi", "--server", "127.0.0.1:1", expect=1)
    assert "no server at http://127.0.0.1:1;" in line and "starlane serve" in line
    line = starlane.error("run", echo(load_fail="no luck"), "hi", "--server", echo_service.url,
                          expect=1)
    assert "no luck" in line
    line = starlane.error("run", echo(ctx=16), "x" * 99, "--server", echo_service.url, expect=2)
    assert "99" in line and "16" in line


def test_keys(starlane, serve):
    key = starlane.text("keys", "create", "--name", "me").strip()
    server = serve("--echo").url
    ask = ["run", echo(text="hello"), "hi", "--server", server, QUIET]
    line = starlane.error(*ask, expect=1)
    assert "STARLANE_API_KEY" in line
    assert starlane.text(*ask, "--api-key", key) == "hello\n"
    assert starlane.text(*ask, environment={"STARLANE_API_KEY": key}) == "hello\n"


def test_interrupt_ends_the_answer_on_the_server_too(starlane, echo_service):
    process = starlane.start("run", ENDLESS, "hi", "--server", echo_service.url, QUIET,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1) == b"w"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    wait_for(lambda: echo_service.get("/health").json["running"] == 0, "the answer to end")


# at a terminal


@pytest.fixture
def terminal(starlane):
    opened = []

    def open_one(*arguments):
        one = Terminal(starlane, *arguments)
        opened.append(one)
        one.wait_for(rb">>> ")
        return one

    yield open_one
    for one in opened:
        one.close()


@pytest.mark.parametrize("command", ["chat", "run"])
def test_a_conversation_at_a_terminal(terminal, talker, command):
    one = terminal(command, talker, *GREEDY, *HERE)
    one.type(b"Once upon a time\r")
    one.wait_for(rb", there was.*\[\d+ of \d+ tokens used.*>>> ")
    one.type(b"/system\r")
    one.wait_for(rb"comes with the model.*>>> ")
    one.type(b"/system Be short.\r")
    one.wait_for(rb">>> ")
    one.type(b"/system\r")
    one.wait_for(rb"Be short.*>>> ")
    one.type(b"/wrong\r")
    one.wait_for(rb"no such command.*>>> ")
    one.type(b"/?\r")
    one.wait_for(rb"/clear.*>>> ")
    one.type(b'"""a\r')
    one.wait_for(rb"\.\.\. ")
    one.type(b"\x03")
    one.wait_for(rb"leaves\).*>>> ")
    one.type(b"\x04")
    assert one.exit_status() == 0


def test_reasoning_is_dimmed_at_a_terminal(terminal, echo_service):
    model = echo(text=THINKING, chat_template="{# <think> #}{{ messages[0].content }}")
    one = terminal("chat", model, "--server", echo_service.url)
    one.type(b"hi\r")
    one.wait_for(rb"\x1b\[2mlet me see\x1b\[0m\r?\n\r?\nhello there.*>>> ")
    one.type(b"/bye\r")
    assert one.exit_status() == 0
    two = terminal("chat", model, "--server", echo_service.url, "--hide-thinking")
    two.type(b"hi\r")
    assert b"let me see" not in two.wait_for(rb"hello there.*>>> ")


def test_interrupt_stops_the_answer_only(terminal, echo_service):
    one = terminal("chat", ENDLESS, "--server", echo_service.url)
    one.type(b"hi\r")
    one.wait_for(rb"word word")
    one.type(b"\x03")
    one.wait_for(rb"\[interrupted\].*>>> ")
    one.type(b"\x04")
    assert one.exit_status() == 0
