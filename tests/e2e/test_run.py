"""`starlane run` with a prompt: text, statistics, JSON, and how it is stopped."""
import json
import os
import signal
import subprocess

import pytest

from conftest import TIMEOUT_S

PROMPT = "Once upon a time"
GREEDY = ["--temp", "0", "--threads", "1"]
ENDLESS = [*GREEDY, "--ctx", "100000", "--max-tokens", "99000", "--ignore-end"]
"""Minutes of work, so that a test can stop it in the middle."""


def test_story(starlane, stories):
    done = starlane.call("run", stories, PROMPT, *GREEDY, "--max-tokens", 60)
    assert b"there was a little girl named Lily" in done.stdout
    assert done.stdout.endswith(b"\n") and PROMPT.encode() not in done.stdout
    for word in (b"prompt", b"generation", b"tokens/s", b"first token", b"weights", b"KV cache"):
        assert word in done.stderr


def test_bundled_model_writes(starlane):
    text = starlane.text("run", "starling", PROMPT, *GREEDY, "--max-tokens", 40, "--quiet")
    assert len(text.split()) > 15


@pytest.mark.parametrize("options", [
    ["--threads", 2], ["--batch", 1], ["--batch", 3], ["--batch", 64], ["--stages", 2],
    ["--stages", 5], ["--ctx", 300]], ids=lambda words: "".join(map(str, words)))
def test_same_text_however_it_is_computed(starlane, stories, options):
    prompt = "Once upon a time, in a big forest, there lived a rhinoceros named Roxy."
    call = ["run", stories, prompt, *GREEDY, "--max-tokens", 40, "--json"]
    plain = starlane.json(*call)
    assert starlane.json(*call, *options)["tokens"] == plain["tokens"]
    assert plain["usage"]["completion_tokens"] == 40


def test_json(starlane, stories):
    done = starlane.call("run", stories, PROMPT, *GREEDY, "--max-tokens", 12, "--json")
    answer = json.loads(done.stdout)
    assert done.stderr == b""
    assert answer["prompt"] == PROMPT and answer["finish_reason"] == "length"
    assert len(answer["tokens"]) == 12 == answer["usage"]["completion_tokens"]
    assert answer["usage"]["total_tokens"] == 12 + answer["usage"]["prompt_tokens"]
    assert 0 < answer["timings"]["load_ms"] <= answer["timings"]["first_token_ms"]
    assert answer["timings"]["generation_tps"] > 0 and answer["memory"]["kv_bytes"] > 0
    plain = starlane.text("run", stories, PROMPT, *GREEDY, "--max-tokens", 12, "--quiet")
    assert plain.rstrip("\n") == answer["text"].rstrip("\n")


def test_seed(starlane, stories):
    def tokens(seed):
        return starlane.json("run", stories, PROMPT, "--temp", 1.5, "--seed", seed, "--threads",
                             1, "--max-tokens", 30, "--json")["tokens"]

    assert tokens(5) == tokens(5)
    assert len({tuple(tokens(seed)) for seed in range(4)}) > 1


def test_stop_string(starlane, stories):
    answer = starlane.json("run", stories, PROMPT, *GREEDY, "--stop", "named", "--json")
    assert answer["finish_reason"] == "stop"
    assert answer["text"].endswith("little girl ") and "named" not in answer["text"]


def test_echo_and_quiet(starlane, stories):
    done = starlane.call("run", stories, PROMPT, *GREEDY, "--max-tokens", 5, "--echo", "--quiet")
    assert done.stdout.startswith(PROMPT.encode()) and done.stderr == b""


def test_prompt_from_stdin(starlane, stories):
    call = ["run", stories, *GREEDY, "--max-tokens", 10, "--quiet"]
    given = starlane.text(*call[:2], PROMPT, *call[2:])
    assert starlane.text(*call, stdin=PROMPT.encode()) == given
    assert starlane.text(*call[:2], "-", *call[2:], stdin=PROMPT.encode()) == given


def test_prompt_of_any_bytes(starlane):
    for prompt in (b"\xff\xfe\x80", bytes(range(1, 256)), "猫🙂".encode()):
        starlane.json("run", "starling", *GREEDY, "--max-tokens", 3, "--json", stdin=prompt)


def test_prompt_longer_than_the_context(starlane, stories):
    line = starlane.error("run", stories, *GREEDY, "--ctx", 16, stdin=b"word " * 100, expect=1)
    assert "16" in line and "--ctx" in line


def test_full_context_is_said(starlane, stories):
    done = starlane.call("run", stories, PROMPT, *GREEDY, "--ctx", 32, "--ignore-end",
                         "--max-tokens", 500)
    assert b"context is full" in done.stderr


@pytest.mark.parametrize("kind", ["f16", "q8_0", "f32"])
def test_kinds_of_kv_cache(starlane, kind):
    answer = starlane.json("run", "starling", PROMPT, *GREEDY, "--max-tokens", 8, "--kv", kind,
                           "--json")
    assert len(answer["tokens"]) == 8


def start_endless(starlane, model, *options):
    """Start an answer that would take minutes, and wait for its first text."""
    process = starlane.start("run", model, PROMPT, *ENDLESS, *options, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    assert os.read(process.stdout.fileno(), 1) != b""
    return process


def test_interrupt_ends_with_statistics(starlane, stories):
    process = start_endless(starlane, stories)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert b"interrupted" in errors and b"tokens/s" in errors


def test_closed_stdout_ends_quietly(starlane, stories):
    process = start_endless(starlane, stories)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=TIMEOUT_S) == 0


def test_full_disk_is_an_error(starlane, stories):
    with open("/dev/full", "wb") as full:
        process = starlane.start("run", stories, PROMPT, *GREEDY, stdout=full,
                                 stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1 and b"No space left" in errors
