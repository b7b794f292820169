"""What hostile and broken clients do, one kind a test, against a running service, while a client
that does nothing wrong must be served all along. Afterwards the service must be as it was before:
the same process, nothing running or waiting, no descriptor and no lot of memory more."""
# pylint: disable=redefined-outer-name
import contextlib
import json
import random
import socket
import tarfile

import pytest

from abuse import (Asker, Bystander, Health, RawConnection, first_status, has_sanitizer, poll_all,
                   post, post_head, statuses, talk)
from conftest import BINARY, Starlane, shared_path
from service import Service, echo, model_path, open_files_limit, wait_for

BODY_MAX = 4 << 20
ECHO = echo(text="hello")
CHAT = {"model": ECHO, "messages": [{"role": "user", "content": "x"}]}
SEED = 20260101
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
           b"Transfer-Encoding: chunked\r\n\r\n")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The service of all tests here."""
    starlane = Starlane(tmp_path_factory.mktemp("abuse") / "home")
    with Service(starlane, "starling", "--threads", 1, "--echo", "--max-body", BODY_MAX) as service:
        service.chat("starling", "Once", max_tokens=1)
        service.chat(ECHO, "warm up")
        yield service


@pytest.fixture
def service(running):
    """The service, with somebody who depends on it."""
    with Bystander(running):
        health = Health(running, watch_memory=not has_sanitizer(BINARY))
        yield running
    health.check()


# --- too slow ---

def test_heads_that_never_end(service):
    """Slowloris: a field every now and then keeps none of them longer than a head may take."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(RawConnection(service)) for _ in range(400)]
        for connection in slow:
            connection.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")

        def one_more_field():
            nonlocal slow
            for connection in slow:
                connection.socket.setblocking(True)
                connection.send(b"X-More: 1\r\n")
            slow = poll_all(slow, 0.2)
            return not slow

        wait_for(one_more_field, "slow heads to be refused")


def test_bodies_that_do_not_come(service):
    with contextlib.ExitStack() as stack:
        for i in range(200):
            connection = stack.enter_context(RawConnection(service))
            connection.send(post_head("/v1/chat/completions", 1000) + b"{" * (i % 7))
        with Asker(service) as asker:
            assert asker.ask("POST", "/v1/chat/completions", json.dumps(CHAT))[0] == 200


def test_ten_thousand_idle_connections(service):
    """Opened by one process; half of them have been used before."""
    n = 10_000
    if not open_files_limit(n + 1000):
        pytest.skip("the hard limit on open files is too low")
    open_before = service.metric("starlane_http_connections")
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(RawConnection(service)) for _ in range(n)]
        for connection in idle[::2]:
            connection.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for connection in idle[::2]:
            assert statuses(connection.receive_until(b"\r\n\r\n")) == [200]
        assert service.metric("starlane_http_connections") >= open_before
        with Asker(service) as asker:
            for _ in range(20):
                assert asker.ask("POST", "/v1/chat/completions", json.dumps(CHAT))[0] == 200


# --- too large ---

def test_a_body_that_says_it_is_too_large(service):
    assert first_status(service, post_head("/v1/chat/completions", BODY_MAX + 1)) == 413
    assert first_status(service, post_head("/api/chat", 10**12, "Expect: 100-continue")) == 413


def test_chunks_without_end(service):
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with RawConnection(service) as connection:
        connection.send(CHUNKED)
        for _ in range(2 * BODY_MAX // 65536):
            if not connection.send(chunk):
                break
        assert statuses(connection.receive_all()) in ([413], [])  # a reset may overtake it


def test_a_head_without_end(service):
    with RawConnection(service) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for i in range(10_000):
            if not connection.send(b"X-%d: %s\r\n" % (i, b"a" * 500)):
                break
        assert statuses(connection.receive_all()) in ([431], [])
    assert first_status(service, b"GET /" + b"a" * 100_000) == 414


# --- framing ---

@pytest.mark.parametrize("body", [
    b"zz\r\n{}\r\n0\r\n\r\n",
    b"-2\r\n{}\r\n0\r\n\r\n",
    b"+2\r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n",
    b" 2\r\n{}\r\n0\r\n\r\n",
    b"2 \r\n{}\r\n0\r\n\r\n",
    b"2\n{}\r\n0\r\n\r\n",
    b"2\r{}\r\n0\r\n\r\n",
    b"2\r\n{}0\r\n\r\n",
    b"2\r\n{}\n0\r\n\r\n",
    b"2\r\n{}}\r\n0\r\n\r\n",
    b"\r\n{}\r\n0\r\n\r\n",
    b"2;a=\x00\r\n{}\r\n0\r\n\r\n",
    b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
    b"0000000000000000000002\r\n{}\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n",
    b"2\r\n{}\r\n0\r\n: empty\r\n\r\n",
    b"2\r\n{}\r\n0\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
])
def test_bad_chunks(service, body):
    """Refused once, and what follows is not taken for a request."""
    found = statuses(talk(service, CHUNKED + body + SMUGGLED))
    assert len(found) <= 1 and all(400 <= code < 500 for code in found), found


AMBIGUOUS = {
    "two lengths": b"Content-Length: 0\r\nContent-Length: 36\r\n",
    "two equal lengths": b"Content-Length: 0\r\nContent-Length: 0\r\n",
    "a list of lengths": b"Content-Length: 0, 36\r\n",
    "a signed length": b"Content-Length: +0\r\n",
    "a negative length": b"Content-Length: -1\r\n",
    "a length in hex": b"Content-Length: 0x0\r\n",
    "an empty length": b"Content-Length:\r\n",
    "a length past 64 bits": b"Content-Length: 18446744073709551616\r\n",
    "a length with a letter": b"Content-Length: 0a\r\n",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "a list with chunks twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "chunked is not last": b"Transfer-Encoding: chunked, gzip\r\n",
    "gzip": b"Transfer-Encoding: gzip, chunked\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "a quoted coding": b"Transfer-Encoding: \"chunked\"\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab before the colon": b"Content-Length\t: 5\r\n",
    "a folded field": b"X-A: b\r\n Transfer-Encoding: chunked\r\n",
    "a folded first field": b" X-A: b\r\n",
    "a bare LF": b"X-A: b\nTransfer-Encoding: chunked\r\n",
    "a bare CR": b"X-A: b\rTransfer-Encoding: chunked\r\n",
    "a NUL in a value": b"X-A: b\x00c\r\n",
    "a NUL in a name": b"X\x00-A: b\r\n",
    "a name that is no token": b"X(A): b\r\n",
    "no name": b": b\r\n",
    "no colon": b"Transfer-Encoding\r\n",
    "two hosts": b"Host: other\r\n",
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_heads_that_two_servers_might_read_differently(service, fields):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n"
    found = statuses(talk(service, head + b"0\r\n\r\n" + SMUGGLED))
    assert len(found) == 1 and found[0] in (400, 501), found


@pytest.mark.parametrize("line", [
    b"GET\r\n", b"GET /\r\n", b"GET / HTTP/1.1 \r\n", b"GET  / HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n",
    b"GET / HTTP/0.9\r\n", b"GET / http/1.1\r\n", b"GET / HTTP/1.11\r\n", b" GET / HTTP/1.1\r\n",
    b"GET /a b HTTP/1.1\r\n", b"GET /\xff HTTP/1.1\r\n", b"GET /\x00 HTTP/1.1\r\n",
    b"G@T / HTTP/1.1\r\n", b"GET nowhere HTTP/1.1\r\n", b"GET /%zz HTTP/1.1\r\n",
    b"GET /%00 HTTP/1.1\r\n", b"CONNECT test:80 HTTP/1.1\r\n", b"\x00" * 64 + b"\r\n",
    b"PRI * HTTP/2.0\r\n", b"GET http:// HTTP/1.1\r\n", b"GET / HTTP/1.1\n",
])
def test_request_lines(service, line):
    found = statuses(talk(service, line + b"Host: localhost\r\n\r\n" + SMUGGLED))
    assert len(found) == 1 and found[0] in (400, 501, 505), found


def test_what_is_unusual_but_allowed(service):
    def status(data):
        return first_status(service, data)

    body = json.dumps(CHAT).encode()
    chunks = b"".join(b"%x;x=y\r\n%c\r\n" % (1, byte) for byte in body)
    assert statuses(talk(service, b"GET /health HTTP/1.0\r\n\r\n")) == [200]
    assert status(b"GET http://localhost:1/health HTTP/1.1\r\nHost: localhost:1\r\n\r\n") == 200
    assert status(b"\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == 200
    assert status(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n") < 500
    assert status(b"TRACE / HTTP/1.1\r\nHost: localhost\r\nCookie: secret\r\n\r\n") in (404, 405)
    assert status(b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n") == 405
    assert status(b"GET /health HTTP/1.1\r\n\r\n") == 400  # without Host
    assert status(b"GET /v1/models HTTP/1.1\r\nHost: rebound.example\r\n\r\n") == 403
    assert status(CHUNKED + chunks + b"0\r\nX-Trailer: 1\r\n\r\n") == 200
    assert status(post("/v1/chat/completions", CHAT, "Expect: something")) == 417
    stream = post("/v1/chat/completions", {**CHAT, "stream": True}).replace(b"/1.1", b"/1.0", 1)
    answer = talk(service, stream)
    assert answer.endswith(b"data: [DONE]\n\n") and b"chunked" not in answer


def test_expectations_are_answered_first(service):
    body = json.dumps(CHAT).encode()
    with RawConnection(service) as connection:
        connection.send(post_head("/v1/chat/completions", len(body), "Expect: 100-continue"))
        assert statuses(connection.receive_until(b"\r\n\r\n")) == [100]
        connection.send(body)
        assert statuses(connection.receive_until(b"\r\n\r\n")) == [200]


def test_a_thousand_pipelined_requests(service):
    """Every answer comes, and in order."""
    n = 1000
    requests = b"".join(post("/v1/completions", {"model": echo(), "prompt": f"<<{i}>>"})
                        for i in range(n))
    with RawConnection(service) as connection:
        connection.socket.setblocking(False)
        answers, sent = b"", 0
        while answers.count(b">>") < n:
            connection.socket.settimeout(0.05 if sent < len(requests) else None)
            with contextlib.suppress(socket.timeout):
                sent += connection.socket.send(requests[sent:sent + 65536])
            with contextlib.suppress(socket.timeout):
                answers += connection.receive()
    assert statuses(answers) == [200] * n
    places = [answers.index(b"<<%d>>" % i) for i in range(n)]
    assert places == sorted(places)


def test_what_is_not_http_at_all(service):
    hello = bytes.fromhex("16030100a5010000a10303") + bytes(range(160))
    assert statuses(talk(service, hello)) == [400]
    rng = random.Random(SEED)
    for _ in range(200):
        with RawConnection(service) as connection:
            connection.send(rng.randbytes(rng.randrange(1, 3000)))
            connection.half_close()
            connection.receive_all()


# --- JSON ---

ENDPOINTS = ["/v1/chat/completions", "/api/chat", "/tokenize"]


def json_suite():
    with tarfile.open(shared_path("data/conformance/jsontestsuite.tar.gz")) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".json"):
                yield member.name, archive.extractfile(member).read()


def ask_sensibly(asker, path, body):
    """No server error, and a body that is JSON (or lines of it) in UTF-8."""
    status, answer = asker.ask("POST", path, body, {"Content-Type": "application/json"})
    assert 200 <= status < 500, (path, status, body[:200], answer)
    for line in answer.decode().splitlines():
        json.loads(line)
    return status


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_file_of_the_json_suite(service, path):
    """As a body, where none is a request, and in the place of the messages."""
    n_files = 0
    with Asker(service) as asker:
        for name, data in json_suite():
            n_files += 1
            assert 400 <= ask_sensibly(asker, path, data) < 500, name
            inside = b'{"model":"%s","messages":%s}' % (ECHO.encode(), data)
            ask_sensibly(asker, path, inside)
            if "/n_" in name and not data.rstrip().endswith(b"]}"):
                ask_sensibly(asker, path, b'{"model":"starling","prompt":[%s]}' % data)
    assert n_files > 300


@pytest.mark.parametrize("path", ENDPOINTS + ["/v1/completions", "/v1/embeddings", "/api/generate",
                                              "/api/embed", "/api/show", "/detokenize"])
def test_deep_json(service, path):
    with Asker(service) as asker:
        for n in (100, 127, 128, 129, 1000, 100_000, BODY_MAX // 2 - 100):
            for opening, closing in ((b"[", b"]"), (b'{"a":', b"1}")):
                if n * len(opening + closing) >= BODY_MAX - 100:
                    continue
                deep = opening * n + (closing * n if opening == b"[" else b"1" + b"}" * n)
                ask_sensibly(asker, path, deep)
                ask_sensibly(asker, path, b'{"model":"%s","messages":%s,"input":%s}'
                             % (ECHO.encode(), deep[:BODY_MAX // 3], b"[]"))
                ask_sensibly(asker, path, opening * n)


@pytest.mark.parametrize("text", [
    b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\\ud800", b"\\udc00",
    b"\\ud800\\u0041", b"\\u0000", b"\x00", b"\x01", b"\n", b"\xef\xbf\xbf", b"\\uFFFF",
    b"\xf0\x9f\x98\x80", b"\\ud83d\\ude00",
], ids=repr)
def test_texts_that_are_none(service, text):
    """In every place where a text may stand."""
    model = ECHO.encode()
    bodies = [
        b'{"model":"%s"}' % text,
        b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (model, text),
        b'{"model":"%s","messages":[{"role":"%s","content":"a"}]}' % (model, text),
        b'{"model":"%s","messages":[{"role":"user","content":"a","name":"%s"}],"stop":"%s"}'
        % (model, text, text),
        b'{"model":"%s","prompt":"%s","stop":["%s"],"user":"%s"}' % (model, text, text, text),
        b'{"model":"%s","input":["%s"],"prompt":"%s","content":"%s"}' % (model, text, text, text),
        b'{"model":"%s","%s":1,"messages":[],"logit_bias":{"%s":1}}' % (model, text, text),
        b'{"model":"%s","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function",'
        b'"function":{"name":"%s","parameters":{"%s":1}}}]}' % (model, text, text),
        b'\xef\xbb\xbf{"model":"%s","prompt":"%s"}' % (model, text),
    ]
    with Asker(service) as asker:
        for path in ENDPOINTS + ["/v1/completions", "/v1/embeddings", "/api/generate", "/api/show"]:
            for body in bodies:
                ask_sensibly(asker, path, body)


NUMBERS = ["-1", "0", "1e308", "1e400", "-1e400", "9223372036854775807", "9223372036854775808",
           "-9223372036854775808", "18446744073709551616", "2147483648", "4294967297", "1.5",
           "1e-400", "0.1e1", "-0", "1" * 5000, "NaN", "null", "\"7\"", "[]", "{}", "true"]
FIELDS = ["max_tokens", "max_completion_tokens", "n", "seed", "temperature", "top_p", "top_k",
          "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logprobs",
          "top_logprobs", "stop", "logit_bias", "stream", "stream_options", "tools", "tool_choice",
          "response_format", "keep_alive", "options", "prompt", "messages", "input", "dimensions",
          "model", "best_of", "echo", "suffix", "service_tier", "dry_multiplier", "format", "think"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/api/chat",
                                  "/api/generate", "/v1/embeddings", "/tokenize"])
def test_numbers_out_of_range_in_every_field(service, path):
    with Asker(service) as asker:
        for field in FIELDS:
            for number in NUMBERS:
                request = {"model": ECHO, "prompt": "p", "input": "i", **CHAT}
                request.pop(field, None)
                text = json.dumps(request)[:-1] + f', "{field}": {number}}}'
                status, answer = asker.ask("POST", path, text)
                assert 200 <= status < 500, (text, status, answer)


def test_bodies_that_unfold(service):
    """A few bytes of text each, a few hundred of memory: refused before they take it all."""
    with Asker(service) as asker:
        for unit in (b"{}", b"[]", b"1", b'""', b'{"a":1}', b'{"role":"user"}'):
            crowd = b",".join([unit] * (BODY_MAX // (len(unit) + 1) - 100))
            body = b'{"messages":[' + crowd + b"]}"
            for path in ENDPOINTS:
                assert 400 <= ask_sensibly(asker, path, body) < 500


def test_crowds(service):
    """Many of what there are few of."""
    with Asker(service) as asker:
        def ask(**fields):
            return ask_sensibly(asker, "/v1/chat/completions",
                                json.dumps({**CHAT, **fields}).encode())

        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ask(messages=turn * 10_000 + turn[:1])
        assert ask(stop=["x"] * 10_000) == 400
        assert ask(stop="x" * 1_000_000) < 500
        assert ask(stop=[""] * 4) == 200
        ask(logit_bias={str(i): 1 for i in range(100_000)})
        assert ask(logit_bias={"99999999999999999999": 1}) == 400
        ask(tools=[tool] * 10_000)
        ask(**{f"unknown_{i}": i for i in range(50_000)})
        ask(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 20_000}])
        ask_sensibly(asker, "/v1/completions",
                     json.dumps({"model": ECHO, "prompt": ["a"] * 100_000}).encode())
        ask_sensibly(asker, "/v1/embeddings",
                     json.dumps({"model": ECHO, "input": ["a"] * 100_000}).encode())
        ask_sensibly(asker, "/detokenize",
                     json.dumps({"model": ECHO, "tokens": [65] * 500_000}).encode())
        ask_sensibly(asker, "/tokenize",
                     json.dumps({"model": "starling", "prompt": "a" * 3_000_000}).encode())


@pytest.mark.parametrize("name", [
    "../../../etc/passwd", "/etc/passwd", "..", ".", "", "/", "a\x00b", "starling\x00", "a\nb",
    "\x1b[31mred", "a" * 100_000, "%2e%2e%2f", "con:con", "a:b:c:d", "https://", "hf.co/",
    "hf.co/../x",
    "http://127.0.0.1:1/x", "echo:", "echo:?tokens=-1", "echo:?tokens=99999999999999999999",
    "echo:?nonsense", "echo:?text=%", "{{7*7}}", "$(id)", "a" * 511, "a" * 512, "é" * 300, "\u202e",
    "/dev/zero", "/proc/self/mem", "file:///etc/passwd", "~/x", "*",
], ids=lambda name: repr(name[:24]))
def test_names_of_models(service, name):
    with Asker(service) as asker:
        for path in ("/v1/chat/completions", "/v1/embeddings", "/api/generate", "/api/show",
                     "/tokenize"):
            body = {"model": name, "prompt": "a", "input": "a", "messages": CHAT["messages"]}
            status, answer = asker.ask("POST", path, json.dumps(body))
            assert 400 <= status < 500 or name.startswith("echo:"), (path, status, answer[:300])
            for line in answer.decode().splitlines():
                json.loads(line)
        if 0 < len(name) < 2000 and "\x00" not in name:
            assert asker.ask("GET", "/v1/models/" + model_path(name))[0] < 500


def test_a_store_is_not_left_through_the_api(service, tmp_path):
    """What copies and removes takes names, never paths."""
    keep = tmp_path / "keep.gguf"
    keep.write_bytes(b"GGUF")
    with Asker(service) as asker:
        for name in (str(keep), "../" * 12 + str(keep), "x/../../" + keep.name):
            assert 400 <= asker.ask("DELETE", "/api/delete", json.dumps({"model": name}))[0] < 500
            body = json.dumps({"source": "starling", "destination": name})
            assert 400 <= asker.ask("POST", "/api/copy", body)[0] < 500
    assert keep.read_bytes() == b"GGUF" and list(tmp_path.iterdir()) == [keep]


# --- headers ---

def test_odd_headers(service):
    body = json.dumps(CHAT).encode()
    mine = "req_000000000000000000000000"
    odd = [
        {"X-Starlane-Request-Id": mine}, {"X-Starlane-Class": "root"}, {"X-Starlane-Class": ""},
        {"X-Starlane-Queue-Timeout-Ms": "-1"}, {"X-Starlane-Queue-Timeout-Ms": "9" * 40},
        {"X-Starlane-Queue-Timeout-Ms": "soon"}, {"Authorization": "Bearer " + "x" * 20_000},
        {"Authorization": "Basic Og=="}, {"Authorization": ""}, {"x-api-key": "\xff\xfe"},
        {"Content-Type": "text/plain"}, {"Content-Type": "\xff"}, {"Accept": "nothing/at-all"},
        {"Accept-Encoding": "br;q=9999999"}, {"Connection": "close, keep-alive, upgrade"},
        {"Upgrade": "h2c"}, {"Range": "bytes=0-0,-1"}, {"Cookie": "a" * 8000},
        {"X-Forwarded-For": "127.0.0.1"}, {"Content-Encoding": "gzip"}, {"Host": "\xff"},
    ]
    with Asker(service) as asker:
        for headers in odd:
            status, answer = asker.ask("POST", "/v1/chat/completions", body, headers)
            assert 200 <= status < 500, (headers, status, answer)
            assert mine.encode() not in answer
    for n in (90, 99, 101, 1000):
        fields = b"".join(b"X-%d: y\r\n" % i for i in range(n - 1))
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + fields
        status = first_status(service, head + b"\r\n")
        assert status == (200 if n <= 100 else 431)


# --- clients that go away, or do not read ---

def test_half_closed_clients(service):
    """One that ends its sending side counts as gone; what was answered at once still arrives."""
    assert service.get("/health").status == 200
    for _ in range(50):
        with RawConnection(service) as connection:
            connection.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.half_close()
            assert statuses(connection.receive_all()) == [200]
        with RawConnection(service) as connection:
            connection.send(post("/v1/chat/completions",
                                 {**CHAT, "model": echo(text="x", pace_us=50_000, tokens=10_000)}))
            connection.half_close()
            assert statuses(connection.receive_all()) in ([], [200])


def test_clients_that_leave_at_any_moment(service):
    """Hundreds of them, politely or with a reset, before, within and after their answer."""
    rng = random.Random(SEED)
    model = echo(text="0123456789", tokens=400, pace_us=1000)
    kinds = [("/v1/chat/completions", {**CHAT, "model": model}),
             ("/v1/completions", {"model": model, "prompt": ["a", "b"], "n": 3}),
             ("/api/chat", {**CHAT, "model": model}),
             ("/api/generate", {"model": model, "prompt": "a"}),
             ("/v1/embeddings", {"model": model, "input": ["a"] * 300}),
             ("/tokenize", {"model": model, "prompt": "a" * 10_000})]
    for _ in range(60):
        with contextlib.ExitStack() as stack:
            crowd = []
            for _ in range(10):
                path, body = rng.choice(kinds)
                request = post(path, {**body, "stream": rng.random() < 0.7})
                connection = stack.enter_context(RawConnection(service))
                connection.send(request[:rng.randrange(1, len(request))]
                                if rng.random() < 0.2 else request)
                crowd.append((connection, request))
            for connection, _ in crowd:
                if rng.random() < 0.6:
                    connection.socket.settimeout(0.05)
                    with contextlib.suppress(socket.timeout):
                        connection.receive(rng.randrange(1, 4000))
                rng.choice([connection.reset, connection.close, connection.half_close])()


def test_readers_that_are_too_slow(service):
    """Far more is written to them than they take: the service keeps a bounded part of it."""
    huge = echo(text="0123456789abcdef", tokens=250_000, ctx=1_000_000)
    with contextlib.ExitStack() as stack:
        readers = []
        for _ in range(32):
            reader = stack.enter_context(RawConnection(service, receive_buffer=4096))
            reader.send(post("/v1/completions", {"model": huge, "prompt": "a", "stream": True,
                                                 "max_tokens": 250_000, "n": 2}))
            readers.append(reader)
        before = service.rss_bytes()
        for reader in readers:
            assert reader.receive(100)

        def none_is_computed():
            for reader in readers:
                reader.socket.settimeout(0.01)
                with contextlib.suppress(socket.timeout):
                    reader.receive(100)
            if not has_sanitizer(BINARY):
                assert service.rss_bytes() < before + (1 << 30)
            return not service.metric("starlane_model_requests_running", huge)

        wait_for(none_is_computed, "the streams to end")


def test_answers_that_nobody_reads(service):
    """Requests go on to come, but no answer is taken."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(RawConnection(service, receive_buffer=4096))
            connection.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(50):
                    connection.socket.send(request)
        with Asker(service) as asker:
            for _ in range(50):
                assert asker.ask("GET", "/health")[0] == 200
