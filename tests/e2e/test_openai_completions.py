"""POST /v1/completions over plain HTTP."""
import math

import pytest

from openapi import check
from service import echo

MODEL = "starling"
PROMPT = "Once upon a time there was a"


def complete(service, **fields):
    body = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 12, **fields}
    document = service.post("/v1/completions", body).json
    check(document, "CreateCompletionResponse")
    return document


def texts(document):
    return [choice["text"] for choice in document["choices"]]


def test_an_answer_has_every_field(starling_service):
    answer = complete(starling_service)
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    [choice] = answer["choices"]
    assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
    assert choice["finish_reason"] == "length" and choice["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 12


def test_sixteen_tokens_are_what_nobody_asked_for(starling_service):
    assert complete(starling_service, max_tokens=None)["usage"]["completion_tokens"] == 16


def test_a_stream_adds_up_to_the_answer(starling_service):
    body = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 12,
            "stream_options": {"include_usage": True}}
    with starling_service.stream("/v1/completions", body) as events:
        chunks = events.chunks()
    for chunk in chunks[:-1]:
        assert chunk["object"] == "text_completion" and chunk["usage"] is None
        assert len(chunk["choices"]) == 1
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == \
        [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 12
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1])
    assert [text] == texts(complete(starling_service))


def test_prompts_as_texts_and_as_tokens(starling_service):
    [alone] = texts(complete(starling_service))
    other = "The little dog was"
    both = complete(starling_service, prompt=[PROMPT, other], n=2)
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    [other_alone] = texts(complete(starling_service, prompt=other))
    assert texts(both) == [alone, alone, other_alone, other_alone]
    assert both["usage"]["completion_tokens"] == 48
    tokens = [starling_service.post("/tokenize", {"model": MODEL, "prompt": text}).json["tokens"]
              for text in (PROMPT, other)]
    assert texts(complete(starling_service, prompt=tokens[0])) == [alone]
    assert texts(complete(starling_service, prompt=tokens)) == [alone, other_alone]
    assert complete(starling_service)["usage"]["prompt_tokens"] == len(tokens[0])


def test_several_prompts_stream_side_by_side(starling_service):
    prompts = [PROMPT, "The little dog was", "Ben and Mia went"]
    body = {"model": MODEL, "prompt": prompts, "temperature": 0, "max_tokens": 12}
    with starling_service.stream("/v1/completions", body) as events:
        chunks = events.chunks()
    streamed = ["".join(choice["text"] for chunk in chunks for choice in chunk["choices"]
                        if choice["index"] == i) for i in range(3)]
    assert streamed == texts(complete(starling_service, prompt=prompts))
    assert sum(choice["finish_reason"] is not None for chunk in chunks
               for choice in chunk["choices"]) == 3


def test_echo_puts_the_prompt_first(starling_service):
    [alone] = texts(complete(starling_service))
    assert texts(complete(starling_service, echo=True)) == [PROMPT + alone]
    body = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 12, "echo": True}
    with starling_service.stream("/v1/completions", body) as events:
        text = "".join(chunk["choices"][0]["text"] for chunk in events.chunks())
    assert text == PROMPT + alone


def test_log_probabilities_stand_side_by_side(starling_service):
    [choice] = complete(starling_service, logprobs=5)["choices"]
    lists = choice["logprobs"]
    assert set(lists) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert {len(column) for column in lists.values()} == {12}
    assert "".join(lists["tokens"]) == choice["text"]
    for token, logprob, tops, offset in zip(lists["tokens"], lists["token_logprobs"],
                                            lists["top_logprobs"], lists["text_offset"]):
        assert choice["text"][offset:].startswith(token)
        assert len(tops) == 5 and math.isclose(tops[token], logprob, abs_tol=1e-6)
    assert complete(starling_service, logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] == \
        [{}] * 12


@pytest.mark.parametrize("prompt", ["", "é" * 100, "\u0000", "<|endoftext|> x"])
def test_odd_prompts_are_answered_or_refused_well(starling_service, prompt):
    answer = starling_service.post("/v1/completions", {"model": MODEL, "prompt": prompt},
                                   expect=None)
    assert answer.status == 200 or answer.status == 400 and answer.error["message"]


def test_the_scripted_engine_repeats_its_prompt(starling_service):
    answer = complete(starling_service, model=echo(tokens=40), max_tokens=None, prompt="abc ")
    assert texts(answer) == [("abc " * 10)[:16]]
    assert complete(starling_service, model=echo(tokens=40), max_tokens=40,
                    prompt="abc ")["choices"][0]["text"] == "abc " * 10
