"""What `starlane serve` does around a request: models come and go, queues, drains, usage, TLS."""
import concurrent.futures
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from conftest import MODELS, shared_path
from service import echo, kill, model_path, open_files_limit, wait_for

MODEL = "starling"


def loaded(service, model):
    return service.metric("starlane_model_loaded", model) == 1


# --- models ---


def test_models_load_on_demand_and_several_at_once(serve):
    stories = shared_path("data/models/stories260K-f32.gguf")
    service = serve(stories, "--threads", 1, "--echo")
    for model in (MODEL, "stories260K-f32", echo()):
        assert service.complete(model, "Once upon", max_tokens=3)["usage"]["completion_tokens"] == 3
    assert {row["id"]: row["status"]["value"] for row in service.get("/v1/models").json["data"]} \
        == {"starling:latest": "loaded", "stories260K-f32": "loaded", echo(): "loaded"}
    assert len(service.worker_pids()) == 3


def test_concurrent_first_requests_load_a_model_once(serve):
    service = serve("--echo")
    model = echo(load_ms=500)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda i: service.complete(model, f"text {i}"), range(20)))
    assert [answer["choices"][0]["text"] for answer in answers] == [f"text {i}" for i in range(20)]
    assert service.metric("starlane_model_loads_total", model) == 1


def test_the_progress_of_a_load_is_visible(serve):
    service = serve("--echo")
    model = echo(load_ms=3000)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(service.complete, model, "x")
        wait_for(lambda: 0 < service.metric("starlane_model_load_fraction", model) < 1, "a load")
        status = service.get("/v1/models/" + model_path(model)).json["status"]
        assert status == {"value": "loading"}
        assert future.result()["choices"][0]["text"] == "x"
    assert service.metric("starlane_request_load_time_seconds_count", model) == 1


def test_the_least_recently_used_model_makes_room(serve, starlane):
    for name in ("b", "c"):
        starlane.call("cp", MODEL, name)
    with_one = serve(MODEL, "--threads", 1)
    size = wait_for(lambda: loaded(with_one, "starling:latest") and with_one.metric(
        "starlane_model_memory_bytes", "starling:latest"), "its size")
    service = serve("--memory", int(size * 2.5), "--threads", 1)
    for model in ("starling", "b", "starling"):
        service.complete(model, "Once", max_tokens=2)
    assert len(service.worker_pids()) == 2
    service.complete("c", "Once", max_tokens=2)
    assert [loaded(service, name + ":latest") for name in ("starling", "b", "c")] == \
        [True, False, True]
    metrics = service.metrics()
    assert metrics["starlane_memory_used_bytes"] <= metrics["starlane_memory_budget_bytes"]
    service.complete("b", "Once", max_tokens=2)
    assert service.metric("starlane_model_loads_total", "b:latest") == 2


def test_a_model_larger_than_the_memory_is_refused(serve):
    service = serve("--memory", "5M", "--threads", 1)
    answer = service.post("/v1/completions", {"model": MODEL, "prompt": "x"}, expect=None)
    assert answer.status in (400, 413, 503) and "memory" in answer.error["message"], answer.body


def test_idle_models_go_and_pinned_ones_stay(serve):
    service = serve(MODEL, "--keep-alive", "300ms", "--threads", 1, "--echo")
    service.complete(echo(), "x")
    service.complete(MODEL, "x", max_tokens=2)
    wait_for(lambda: not loaded(service, echo()), "the idle one to be unloaded")
    assert loaded(service, "starling:latest")
    wait_for(lambda: len(service.worker_pids()) == 1, "its process to be gone")
    assert service.complete(echo(), "again")["choices"][0]["text"] == "again"
    assert service.metric("starlane_model_loads_total", echo()) == 2


def test_a_corrupt_model_tells_the_client_why(serve, starlane, tmp_path):
    file = tmp_path / "broken.gguf"
    shutil.copy(MODELS / "starling.gguf", file)
    starlane.call("import", file)
    service = serve("--threads", 1)
    blobs = [path for path in (tmp_path / "home/models").rglob("*") if path.is_file()
             and path.stat().st_size > 1000000]
    for blob in blobs:
        blob.chmod(0o644)
        with open(blob, "r+b") as out:
            out.truncate(100000)
    answer = service.post("/v1/completions", {"model": "broken", "prompt": "x"}, expect=None)
    assert answer.status in (500, 503) and answer.error["type"] == "server_error"
    assert "100000 bytes, not 8121408" in answer.error["message"]
    assert service.complete(MODEL, "x", max_tokens=2)["usage"]["completion_tokens"] == 2


# --- the queue ---


def occupy(service, model):
    """A stream that holds the only slot."""
    stream = service.stream("/v1/completions", {"model": model, "prompt": "x", "max_tokens": 9999})
    wait_for(lambda: service.metric("vllm:num_requests_running", model) == 1, "the slot in use")
    return stream


def waiting(service, model):
    return service.metric("vllm:num_requests_waiting", model)


def test_classes_go_first_and_nobody_starves(serve):
    service = serve("--echo")
    slow = echo(slots=1, pace_us=3000)
    order, lock = [], threading.Lock()

    def one(name):
        service.post("/v1/completions", {"model": slow, "prompt": "y" * 12},
                     headers={"X-Starlane-Class": name})
        with lock:
            order.append(name)
    hold = service.stream("/v1/completions", {"model": slow, "prompt": "z" * 300,
                                              "max_tokens": 300})
    wait_for(lambda: service.metric("vllm:num_requests_running", slow) == 1, "the slot in use")
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for n, name in enumerate(("batch", "standard", "interactive")):
            for _ in range(8):
                pool.submit(one, name)
            wait_for(lambda n=n: waiting(service, slow) == 8 * (n + 1), "all to wait")
        text = hold.response.read()
    assert b"[DONE]" in text and len(order) == 24
    place = {name: sum(i for i, who in enumerate(order) if who == name) / 8 for name in set(order)}
    assert place["interactive"] < place["standard"] < place["batch"], order


def test_a_full_queue_says_when_to_come_again(serve):
    service = serve("--echo", "--queue", 2)
    model = echo(slots=1, pace_us=5000, tokens=9999)
    with occupy(service, model), concurrent.futures.ThreadPoolExecutor(2) as pool:
        body = {"model": model, "prompt": "x", "max_tokens": 2}
        futures = [pool.submit(service.post, "/v1/completions", body,
                               headers={"X-Starlane-Queue-Timeout-Ms": "3000"}, expect=408)
                   for _ in range(2)]
        wait_for(lambda: waiting(service, model) == 2, "two to wait")
        for more in ({}, {"stream": True}):
            answer = service.post("/v1/completions", {**body, **more}, expect=429)
            assert answer.error["code"] == "queue_full"
            assert answer.error["type"] == "rate_limit_error"
            assert int(answer.headers["retry-after"]) >= 1
        for future in futures:
            assert future.result().error["type"] == "invalid_request_error"
    assert service.metric("starlane_requests_rejected_total") == 2
    assert service.metric("starlane_requests_expired_total") == 2


def test_who_waits_too_long_is_told(serve):
    service = serve("--echo", "--queue-timeout", "300ms")
    model = echo(slots=1, pace_us=5000, tokens=9999)
    with occupy(service, model):
        for more in ({}, {"stream": True}):
            answer = service.post("/v1/completions", {"model": model, "prompt": "x", **more},
                                  expect=408)
            assert "queue" in answer.error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_forgotten(serve, stream):
    service = serve("--echo")
    model = echo(slots=1, pace_us=2000, tokens=9999)
    body = {"model": model, "prompt": "x", "max_tokens": 9999, "stream": stream}

    def send():
        connection = service.connect()
        connection.request("POST", "/v1/completions", json.dumps(body))
        return connection
    running = send()
    wait_for(lambda: service.metric("vllm:num_requests_running", model) == 1, "one to run")
    queued = send()
    wait_for(lambda: waiting(service, model) == 1, "one to wait")
    queued.close()
    wait_for(lambda: waiting(service, model) == 0, "nobody to wait")
    running.close()
    wait_for(lambda: service.metric("vllm:num_requests_running", model) == 0, "nothing to run")
    assert service.metric("starlane_requests_disconnected_total", model) == 2
    assert service.metric("starlane_requests_cancelled_total") == 2
    name = f'starlane_requests_total{{model_name="{model}",finished_reason="abort"}}'
    # counted once their rows of usage are stored
    wait_for(lambda: service.metrics().get(name) == 2, "both to be counted")


# --- the end ---


def test_a_shutdown_lets_answers_finish(serve):
    service = serve("--echo")
    model = echo(pace_us=10000)
    stream = service.stream("/v1/completions", {"model": model, "prompt": "a" * 100,
                                                "max_tokens": 100})
    events = stream.events()
    next(events)
    service.signal(signal.SIGTERM)

    def refused():
        try:
            service.get("/health")
        except OSError:
            return True
        return False
    wait_for(refused, "new connections to be refused")
    *_, last = events
    assert last == "[DONE]"
    assert service.process.wait(60) == 0


def test_a_shutdown_does_not_wait_for_ever(serve):
    service = serve("--echo", "--drain", "300ms")
    model = echo(pace_us=10000, tokens=9999)
    stream = occupy(service, model)
    pids = service.worker_pids()
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "workers to end")
    stream.close()


# --- usage ---


def rows(home):
    """Of the table, as another program sees it."""
    with sqlite3.connect(f"file:{home}/state.db?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute("SELECT * FROM usage ORDER BY id")]
    database.close()
    return found


def test_usage_is_stored_before_the_answer_ends(serve, starlane, tmp_path):
    home = tmp_path / "home"
    service = serve("--echo")
    model = echo(tokens=30)
    for stream in (False, True):
        before = len(rows(home))
        body = {"model": model, "prompt": "hello", "max_tokens": 30, "stream": stream}
        connection, response = service.send("POST", "/v1/completions", body)
        if stream:
            while b"[DONE]" not in response.readline():
                pass
        else:
            response.read(1)
        [total] = starlane.json("usage", "--by", "total", "--json")  # waits for what is journaled
        assert total["requests"] == before + 1
        [row] = rows(home)[before:]
        connection.close()
        assert row["request_id"] == response.getheader("X-Starlane-Request-Id")
        assert (row["model"], row["endpoint"], row["finish"]) == (model, "/v1/completions", "stop")
        assert (row["http_status"], row["prompt_tokens"], row["completion_tokens"]) == (200, 5, 30)
        assert 0 <= row["queue_us"] <= row["first_token_us"] <= row["total_us"]
    service.post("/v1/embeddings", {"model": model, "input": "abc"})
    [total] = starlane.json("usage", "--by", "total", "--json")
    assert rows(home)[-1]["endpoint"] == "/v1/embeddings"
    assert (total["requests"], total["prompt_tokens"], total["completion_tokens"]) == (3, 13, 60)


def test_an_answer_that_nobody_waited_for_is_counted(serve, tmp_path):
    service = serve("--echo")
    model = echo(tokens=9999, pace_us=1000)
    with service.stream("/v1/completions", {"model": model, "prompt": "abc",
                                            "max_tokens": 9999}) as stream:
        events = stream.events()
        for _ in range(20):
            next(events)
    [row] = wait_for(lambda: rows(tmp_path / "home"), "the row")
    assert row["finish"] == "cancelled" and row["prompt_tokens"] == 3
    assert 20 <= row["completion_tokens"] < 9999


def test_killing_the_service_loses_no_row_that_was_acknowledged(serve, starlane, tmp_path):
    service = serve("--echo")
    model, seen = echo(), []

    def client(i):
        try:
            for n in range(100000):
                answer = service.post("/v1/completions", {"model": model, "prompt": f"{i} {n}"})
                seen.append(answer.headers["x-starlane-request-id"])
        except OSError:
            return
        except Exception:  # pylint: disable=broad-except  # cut in the middle of an answer
            return
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(client, i) for i in range(8)]
        wait_for(lambda: len(seen) > 300, "some answers")
        kill(service.process.pid)
        for future in futures:
            future.result()
    service.process.wait()
    n_requests = sum(row["requests"] for row in starlane.json("usage", "--json"))
    stored = [row["request_id"] for row in rows(tmp_path / "home")]
    assert set(seen) <= set(stored)
    assert n_requests == len(stored) == len(set(stored))


# --- keys and exposure ---


def make_key(starlane, *options):
    return starlane.text("keys", "create", "--name", f"k{time.monotonic_ns()}", *options).strip()


def test_who_has_no_key_gets_nothing(serve, starlane):
    key = make_key(starlane, "--models", "echo*")
    service = serve("--echo")
    body = {"model": echo(), "prompt": "x"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {key}"},
                    {"Authorization": f"Bearer {key}x"}, {"x-api-key": "sl-" + "a" * 53}):
        for method, path in (("POST", "/v1/completions"), ("GET", "/v1/models"),
                             ("GET", "/metrics"), ("POST", "/api/generate")):
            answer = service.request(method, path, body if method == "POST" else None, headers,
                                     expect=401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    error = service.post("/v1/completions", body, expect=401).error
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert service.get("/health").json["status"] == "ok"
    for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
        assert service.post("/v1/completions", body, headers=headers)
    service.key = key
    error = service.post("/v1/completions", {"model": MODEL, "prompt": "x"}, expect=403).error
    assert (error["param"], error["code"]) == ("model", "model_not_allowed")
    assert all(row["id"].startswith("echo") for row in service.get("/v1/models").json["data"])
    service.get("/v1/models/starling", expect=404)


def test_limits_of_a_key(serve, starlane):
    service = serve("--echo", key=make_key(starlane, "--rpm", 2))
    body = {"model": echo(), "prompt": "x"}
    for remaining in ("1", "0"):
        answer = service.post("/v1/completions", body)
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == remaining
    answer = service.post("/v1/completions", body, expect=429)
    assert answer.error["code"] == "rate_limit_exceeded"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    service.key = make_key(starlane, "--tpm", 100)
    wait_for(lambda: service.get("/v1/models", expect=None).status == 200, "the key to be known")
    service.post("/v1/completions", {"model": echo(tokens=300), "prompt": "x", "max_tokens": 300})
    answer = service.post("/v1/completions", body, expect=429)
    assert "tokens per minute" in answer.error["message"]
    assert int(answer.headers["retry-after"]) > 60, "the debt is paid first"


def test_requests_at_once_of_a_key(serve, starlane):
    key = make_key(starlane, "--concurrency", 1)
    service = serve("--echo", key=key)
    model = echo(tokens=9999, pace_us=2000)
    with service.stream("/v1/completions", {"model": model, "prompt": "x",
                                            "max_tokens": 9999}) as stream:
        next(stream.events())
        answer = service.post("/v1/completions", {"model": echo(), "prompt": "x"}, expect=429)
        assert answer.headers["retry-after"] == "1"
    wait_for(lambda: service.post("/v1/completions", {"model": echo(), "prompt": "x"},
                                  expect=None).status == 200, "the place to be free")


def test_a_revoked_key_is_worth_nothing_at_once(serve, starlane):
    make_key(starlane)
    service = serve("--echo")
    service.key = starlane.text("keys", "create", "--name", "soon gone").strip()
    wait_for(lambda: service.get("/v1/models", expect=None).status == 200, "the key to be known")
    starlane.call("keys", "revoke", "soon gone")
    wait_for(lambda: service.get("/v1/models", expect=None).status == 401, "the revocation", 10)


@pytest.fixture(name="certificate")
def certificate_fixture(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(key), "-out",
                    str(cert)], check=True, capture_output=True)
    return cert, key


def test_tls(serve, certificate):
    cert, key = certificate
    service = serve("--tls-cert", cert, "--tls-key", key, "--echo", cafile=str(cert))
    assert service.url.startswith("https")
    assert service.complete(echo(), "over TLS")["choices"][0]["text"] == "over TLS"
    with service.stream("/v1/completions", {"model": echo(), "prompt": "abc"}) as stream:
        assert "".join(chunk["choices"][0]["text"] for chunk in stream.chunks()) == "abc"
    tls, service.tls = service.tls, None
    with pytest.raises((OSError, Exception)):
        service.get("/health")
    service.tls = tls
    service.signal(signal.SIGHUP)
    assert service.get("/health").json["status"] == "ok"


def test_listening_to_the_network_needs_keys_and_tls(serve, starlane, certificate):
    cert, key = certificate
    message = starlane.error("serve", "--port", 0, "--host", "0.0.0.0", expect=2)
    assert "--insecure" in message and "API keys and TLS" in message
    service = serve("--host", "0.0.0.0", "--insecure")
    assert any("WARNING" in line and "API keys and TLS" in line for line in service.log)
    assert service.get("/health").json["status"] == "ok"
    message = starlane.error("serve", "--port", 0, "--host", "0.0.0.0", "--tls-cert", cert,
                             "--tls-key", key, expect=2)
    assert "without API keys." in message
    make_key(starlane)
    assert "without TLS." in starlane.error("serve", "--port", 0, "--host", "0.0.0.0", expect=2)
    with_both = serve("--host", "0.0.0.0", "--tls-cert", cert, "--tls-key", key, cafile=str(cert))
    assert with_both.get("/health").json["status"] == "ok"
    assert not any("WARNING" in line for line in with_both.log)


def test_misuse_of_serve_is_explained(starlane, certificate):
    cert, _ = certificate
    assert "go together" in starlane.error("serve", "--tls-cert", cert, expect=2)
    assert "--keep-alive" in starlane.error("serve", "--keep-alive", "soon", expect=2)
    assert "nothere" in starlane.error("serve", "--port", 0, "nothere", expect=1)


# --- many ---


def test_a_thousand_streams_at_once(serve):
    if not open_files_limit(4096):
        pytest.skip("too few open files are allowed")
    service = serve("--echo")
    model = echo(pace_us=20000)
    service.complete(model, "warm")
    before = service.rss_bytes()
    peak = [before]
    texts = [f"stream {i:04} says what it says, " * 3 for i in range(1000)]

    def one(text):
        with service.stream("/v1/completions", {"model": model, "prompt": text,
                                                "max_tokens": 200}) as stream:
            return "".join(chunk["choices"][0]["text"] for chunk in stream.chunks())
    with concurrent.futures.ThreadPoolExecutor(1000) as pool:
        futures = [pool.submit(one, text) for text in texts]
        while not all(future.done() for future in futures):
            peak.append(service.rss_bytes())
            concurrent.futures.wait(futures, 0.2)
        assert [future.result() for future in futures] == texts
    most = service.metric("starlane_http_connections_total")
    print(f"resident memory of the gateway: {before / 1e6:.1f} MB before, {max(peak) / 1e6:.1f} MB "
          f"with 1000 streams, {most:.0f} connections")
    # Some 10 kB a stream, ten times that under a sanitizer.
    assert max(peak) - before < 200e6
    assert service.get("/health").json["running"] == 0


def test_two_files_of_one_name_are_refused(starlane, tmp_path):
    paths = [tmp_path / folder / "tale.gguf" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        shutil.copy(MODELS / "starling.gguf", path)
    error = starlane.error("serve", *paths, "--port", 0, expect=1)
    assert '"tale"' in error and all(str(path) in error for path in paths), error
