"""POST /v1/chat/completions over plain HTTP: the shape of answers and of streams, and what the
request's fields do."""
import json
import math

from openapi import check
from service import CONVERSATION, LAST_MESSAGE, echo

MODEL = "starling"
PROMPT = "One day Lily found a red ball in the garden and"
MESSAGES = [{"role": "user", "content": PROMPT}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}]


def chat(service, **fields):
    body = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 16, **fields}
    document = service.post("/v1/chat/completions", body).json
    check(document, "CreateChatCompletionResponse")
    return document


def stream(service, **fields):
    body = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 16, **fields}
    with service.stream("/v1/chat/completions", body) as events:
        assert events.headers["content-type"] == "text/event-stream"
        chunks = events.chunks()
    for chunk in chunks:
        if "usage" in chunk and chunk["usage"] is None:
            chunk = {name: value for name, value in chunk.items() if name != "usage"}
        check(chunk, "CreateChatCompletionStreamResponse")
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    return chunks


def content(chunks, index=0):
    return "".join(choice["delta"].get("content") or "" for chunk in chunks
                   for choice in chunk["choices"] if choice["index"] == index)


def test_an_answer_has_every_field(starling_service):
    answer = chat(starling_service)
    assert answer["object"] == "chat.completion" and answer["model"] == MODEL
    assert answer["id"].startswith("chatcmpl-")
    [choice] = answer["choices"]
    assert choice["index"] == 0 and choice["finish_reason"] == "length"
    assert choice["logprobs"] is None
    assert set(choice["message"]) == {"role", "content", "refusal"}
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    usage = answer["usage"]
    assert usage["completion_tokens"] == 16
    assert usage["total_tokens"] == usage["prompt_tokens"] + 16
    assert set(usage["prompt_tokens_details"]) == {"cached_tokens"}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_a_stream_has_the_shape_that_clients_expect(starling_service):
    chunks = stream(starling_service)
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert all("usage" not in chunk for chunk in chunks)
    first, *middle, last = [chunk["choices"] for chunk in chunks]
    assert first == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
                      "finish_reason": None}]
    for [choice] in middle:
        assert set(choice["delta"]) == {"content"} and choice["delta"]["content"]
        assert choice["finish_reason"] is None
    assert last == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert content(chunks) == chat(starling_service)["choices"][0]["message"]["content"]


def test_usage_comes_in_a_chunk_of_its_own(starling_service):
    chunks = stream(starling_service, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    whole = chat(starling_service)["usage"]
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == \
        (whole["prompt_tokens"], 16, whole["prompt_tokens"] + 16)


def test_a_stream_that_is_not_asked_for_is_none(starling_service):
    assert chat(starling_service, stream=False)["object"] == "chat.completion"
    assert chat(starling_service, stream=None, stop=None, n=None, seed=None, logprobs=None,
                tools=None, tool_choice=None, max_completion_tokens=None, response_format=None,
                stream_options=None, logit_bias=None, user="me", store=True,
                a_field_nobody_knows=[1])["object"] == "chat.completion"


def test_several_choices_differ_and_repeat(starling_service):
    fields = {"n": 3, "temperature": 1.2, "seed": 11}
    first = chat(starling_service, **fields)
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert first["usage"]["completion_tokens"] == 48
    again = chat(starling_service, **fields)
    assert [choice["message"]["content"] for choice in again["choices"]] == texts
    chunks = stream(starling_service, **fields)
    assert [content(chunks, i) for i in range(3)] == texts
    heads = [choice["index"] for chunk in chunks for choice in chunk["choices"]
             if "role" in choice["delta"]]
    ends = [choice["index"] for chunk in chunks for choice in chunk["choices"]
            if choice["finish_reason"]]
    assert sorted(heads) == [0, 1, 2] and sorted(ends) == [0, 1, 2]
    assert chat(starling_service, **{**fields, "seed": 12})["choices"][0]["message"]["content"] \
        != texts[0]


def test_without_a_seed_answers_vary(starling_service):
    texts = {chat(starling_service, temperature=1.5)["choices"][0]["message"]["content"]
             for _ in range(3)}
    assert len(texts) > 1


def test_stop_strings_end_the_answer_and_are_not_in_it(starling_service):
    text = chat(starling_service)["choices"][0]["message"]["content"]
    stop = text[8:12]
    for value in (stop, [stop], ["never to be seen", stop]):
        [choice] = chat(starling_service, stop=value)["choices"]
        assert choice["message"]["content"] == text[:text.index(stop)]
        assert choice["finish_reason"] == "stop"
    chunks = stream(starling_service, stop=stop)
    assert content(chunks) == text[:text.index(stop)]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_max_completion_tokens_counts_too(starling_service):
    assert chat(starling_service, max_tokens=None,
                max_completion_tokens=3)["usage"]["completion_tokens"] == 3


def test_log_probabilities_belong_to_the_tokens(starling_service):
    [choice] = chat(starling_service, logprobs=True, top_logprobs=20)["choices"]
    tokens = choice["logprobs"]["content"]
    assert choice["logprobs"]["refusal"] is None and len(tokens) == 16
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == \
        choice["message"]["content"]
    for token in tokens:
        tops = [top["logprob"] for top in token["top_logprobs"]]
        assert len(tops) == 20 and tops == sorted(tops, reverse=True)
        assert math.isclose(token["logprob"], tops[0], abs_tol=1e-6), "greedy takes the best"
        assert 0.2 < sum(map(math.exp, tops)) <= 1.00001
        assert bytes(token["bytes"]).decode() == token["token"]
    chunks = stream(starling_service, logprobs=True, top_logprobs=20)
    streamed = [token for chunk in chunks for choice in chunk["choices"]
                for token in (choice["logprobs"] or {"content": []})["content"]]
    assert [token["token"] for token in streamed] == [token["token"] for token in tokens]
    assert chat(starling_service, logprobs=True)["choices"][0]["logprobs"]["content"][0][
        "top_logprobs"] == []


def test_a_bias_bans_and_forces_a_token(starling_service):
    plain = chat(starling_service, logprobs=True)["choices"][0]
    first = plain["logprobs"]["content"][0]["token"]
    [token] = starling_service.post("/tokenize", {"model": MODEL, "prompt": first,
                                                  "add_special_tokens": False}).json["tokens"]
    banned = chat(starling_service, logit_bias={str(token): -100}, logprobs=True)["choices"][0]
    assert first not in [entry["token"] for entry in banned["logprobs"]["content"]]
    forced = chat(starling_service, logit_bias={str(token): 100}, logprobs=True)["choices"][0]
    assert {entry["token"] for entry in forced["logprobs"]["content"]} == {first}


def test_penalties_change_what_repeats(starling_service):
    def distinct(**fields):
        [choice] = chat(starling_service, max_tokens=60, logprobs=True, **fields)["choices"]
        tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
        return len(set(tokens)) / len(tokens)
    assert distinct(frequency_penalty=2, presence_penalty=2) > distinct()


def test_the_prefix_is_computed_once(starling_service):
    story = "There was a small boat that wanted to see the big sea. " * 8
    messages = [{"role": "user", "content": story}]
    before = starling_service.metrics()
    first = chat(starling_service, messages=messages)["usage"]
    second = chat(starling_service, messages=messages)["usage"]
    assert first["prompt_tokens"] == second["prompt_tokens"] > 64
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert cached >= second["prompt_tokens"] // 2
    assert cached > first["prompt_tokens_details"]["cached_tokens"]
    after = starling_service.metrics()
    label = '{model_name="starling:latest"}'
    both = cached + first["prompt_tokens_details"]["cached_tokens"]
    for name in ("starlane_prompt_tokens_cached_total", "vllm:prefix_cache_hits_total"):
        assert after[name + label] - before[name + label] == both
    assert after["vllm:prefix_cache_queries_total" + label] - \
        before["vllm:prefix_cache_queries_total" + label] == 2 * first["prompt_tokens"]


def test_content_may_come_in_parts(starling_service):
    parts = [{"type": "text", "text": PROMPT[:20]}, {"type": "text", "text": PROMPT[20:]}]
    model = echo(LAST_MESSAGE)
    answer = chat(starling_service, model=model, max_tokens=None,
                  messages=[{"role": "user", "content": parts}])
    text = answer["choices"][0]["message"]["content"]
    assert text.replace("\n", "") == PROMPT


def test_every_character_arrives_whole(starling_service):
    text = "Grüße, 世界! 👩‍🚀 \u0000\u0007 \"quoted\" \\ </script> \u2028 end"
    chunks = stream(starling_service, model=echo(LAST_MESSAGE), max_tokens=None,
                    messages=[{"role": "user", "content": text}])
    assert content(chunks) == text


def test_an_answer_of_nothing_but_a_stop_is_an_answer(starling_service):
    fields = {"model": echo(LAST_MESSAGE), "messages": [{"role": "user", "content": "STOP it"}],
              "stop": "STOP"}
    [choice] = chat(starling_service, **fields)["choices"]
    assert choice["message"]["content"] == "" and choice["finish_reason"] == "stop"
    chunks = stream(starling_service, **fields)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == \
        [{"role": "assistant", "content": ""}, {}]


def test_tool_calls_whole_and_streamed(starling_service):
    arguments = {"city": "Köln", "days": [1, 2]}
    text = 'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": ' + \
        json.dumps(arguments) + '}\n</tool_call>\n<tool_call>\n{"name": "get_weather", ' \
        '"arguments": {}}\n</tool_call>'
    fields = {"model": echo(LAST_MESSAGE), "max_tokens": None, "tools": TOOLS,
              "messages": [{"role": "user", "content": text}]}
    [choice] = chat(starling_service, **fields)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    first, second = choice["message"]["tool_calls"]
    assert first["type"] == "function" and first["function"]["name"] == "get_weather"
    assert json.loads(first["function"]["arguments"]) == arguments
    assert json.loads(second["function"]["arguments"]) == {}
    assert first["id"].startswith("call_") and first["id"] != second["id"]
    chunks = stream(starling_service, **fields)
    assert content(chunks) == "Let me see."
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    calls = {}
    for chunk in chunks:
        for delta in chunk["choices"][0]["delta"].get("tool_calls", []):
            call = calls.setdefault(delta["index"], {"arguments": "", "n": 0})
            assert ("id" in delta) == ("name" in delta["function"]) == (call["n"] == 0)
            if call["n"] == 0:
                assert delta["type"] == "function" and delta["id"].startswith("call_")
            call["arguments"] += delta["function"]["arguments"]
            call["n"] += 1
    assert [json.loads(calls[i]["arguments"]) for i in range(2)] == [arguments, {}]


def test_calls_are_text_where_no_tools_were_given(starling_service):
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    fields = {"model": echo(LAST_MESSAGE), "max_tokens": None,
              "messages": [{"role": "user", "content": text}]}
    for more in ({}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}):
        [choice] = chat(starling_service, **fields, **more)["choices"]
        assert choice["message"]["content"] == text and choice["finish_reason"] == "stop"


def test_a_call_without_text_has_no_content(starling_service):
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    [choice] = chat(starling_service, model=echo(LAST_MESSAGE), max_tokens=None, tools=TOOLS,
                    messages=[{"role": "user", "content": text}])["choices"]
    assert choice["message"]["content"] is None and len(choice["message"]["tool_calls"]) == 1


def test_reasoning_is_told_apart(starling_service):
    model = echo(LAST_MESSAGE + "{# <think> #}")
    text = "<think>\nTwo and two.\n</think>\n\nFour."
    fields = {"model": model, "max_tokens": None, "messages": [{"role": "user", "content": text}]}
    answer = chat(starling_service, **fields)
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Two and two.", "Four.")
    details = answer["usage"]["completion_tokens_details"]
    assert 10 < details["reasoning_tokens"] < answer["usage"]["completion_tokens"]
    chunks = stream(starling_service, **fields)
    reasoning = "".join(chunk["choices"][0]["delta"].get("reasoning_content", "")
                        for chunk in chunks)
    assert (reasoning, content(chunks)) == ("Two and two.", "Four.")


def test_the_template_sees_tools_and_earlier_calls(starling_service):
    messages = [{"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function",
                     "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"}]
    def prompt(**fields):
        [choice] = chat(starling_service, model=echo(CONVERSATION), max_tokens=None,
                        messages=messages, **fields)["choices"]
        return choice["message"]["content"]
    conversation = '<user>Weather?<assistant>(get_weather {"city": "Oslo"})<tool>Sunny<answer>'
    assert prompt() == conversation
    assert prompt(tools=TOOLS) == "[get_weather]" + conversation
    assert prompt(tools=TOOLS, tool_choice="none") == conversation


def test_template_arguments_reach_the_template(starling_service):
    model = echo("{{ mood | default('none') }} {{ reasoning_effort | default('') }}")
    answer = chat(starling_service, model=model, max_tokens=None, reasoning_effort="low",
                  chat_template_kwargs={"mood": "glad", "messages": "not these"})
    assert answer["choices"][0]["message"]["content"] == "glad low"
