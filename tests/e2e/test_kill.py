"""Workers that die, hang or never come up: clients see a pause, not an error, and the same text."""
import concurrent.futures
import json
import os
import random
import time

import pytest

from service import echo, kill, wait_for

MODEL = "starling"
N_STREAMS = 100
N_ROUNDS = int(os.environ.get("STARLANE_KILL_ROUNDS", "5"))
OPENINGS = ["Once upon a time", "One day Lily", "The little dog", "Ben and Mia", "A big red bird"]


def request(i, model=MODEL):
    return {"model": model, "prompt": f"{OPENINGS[i % 5]} number {i} went to the", "temperature": 0,
            "max_tokens": 48, "ignore_eos": True}


class Client:
    """One stream: how many events have come, and whether it is over."""

    def __init__(self, service, body):
        self.service, self.body = service, body
        self.n_events, self.done = 0, False

    def read(self):
        """The text of a stream that has to end well; whatever is wrong with it is an error."""
        texts, finish, last = [], None, None
        try:
            with self.service.stream("/v1/completions", self.body) as stream:
                for last in stream.events():
                    self.n_events += 1
                    if last != "[DONE]":
                        [choice] = json.loads(last).get("choices") or [{"text": last}]
                        texts.append(choice["text"])
                        finish = choice.get("finish_reason")
        finally:
            self.done = True
        assert last == "[DONE]" and finish in ("stop", "length"), last
        return "".join(texts)


def run_all(service, bodies, meanwhile=None):
    """All at once, and meanwhile(clients) beside them."""
    clients = [Client(service, body) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        futures = [pool.submit(client.read) for client in clients]
        if meanwhile:
            meanwhile(clients)
        return [future.result() for future in futures]


def pid_of(service, model):
    """Of the worker that has this model's name for its title."""
    for pid in service.worker_pids():
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            if model in file.read():
                return pid
    return None


@pytest.fixture(name="service")
def service_fixture(serve):
    # Room for all streams side by side.
    return serve(MODEL, "--threads", 1, "--echo", "--parallel", 128, "--kv-memory", "64M",
                 "--queue-timeout", "10m")


@pytest.fixture(name="expected")
def expected_fixture(service):
    return run_all(service, [request(i) for i in range(N_STREAMS)])


def kill_workers(service):
    crashes = service.metric("starlane_worker_crashes_total")
    for pid in service.worker_pids():
        kill(pid)
    wait_for(lambda: service.metric("starlane_worker_crashes_total") > crashes, "the death")


def kill_in_the_middle(service, generator):
    """Once a random share of all tokens has been given."""
    n_events = generator.uniform(0.02, 0.6) * N_STREAMS * 48

    def meanwhile(clients):
        wait_for(lambda: sum(client.n_events for client in clients) >= n_events, "tokens")
        kill_workers(service)
    return meanwhile


def kill_whenever_all_have_moved(service, count):
    """Every stream that is not over has had a token since the last time: one that has none between
    deaths counts as their cause."""
    def meanwhile(clients):
        for _ in range(count):
            before = [client.n_events for client in clients]
            wait_for(lambda b=before: all(client.done or client.n_events > n
                                          for client, n in zip(clients, b)), "tokens")
            if all(client.done for client in clients):
                return
            kill_workers(service)
    return meanwhile


def test_a_killed_worker_is_a_pause_for_a_hundred_streams(service, expected):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    bodies = [request(i) for i in range(N_STREAMS)]
    for round_ in range(N_ROUNDS):
        crashes = service.metric("starlane_worker_crashes_total")
        texts = run_all(service, bodies, kill_in_the_middle(service, generator))
        wrong = [i for i in range(N_STREAMS) if texts[i] != expected[i]]
        assert not wrong, (round_, wrong[0], texts[wrong[0]], expected[wrong[0]])
        assert service.metric("starlane_worker_crashes_total") == crashes + 1
    assert service.metric("starlane_requests_replayed_total", "starling:latest") > 0
    assert service.get("/health").json["running"] == 0


def test_a_worker_that_is_killed_again_and_again(service, expected):
    bodies = [request(i) for i in range(N_STREAMS)]
    texts = run_all(service, bodies, kill_whenever_all_have_moved(service, 8))
    assert texts == expected
    assert service.metric("starlane_worker_crashes_total") >= 3


def test_several_choices_go_on_where_each_was(service):
    model = echo(tokens=300, pace_us=3000)
    body = {"model": model, "prompt": "ab cd ", "n": 3, "max_tokens": 300}
    text = ("ab cd " * 50)

    def meanwhile(_):
        wait_for(lambda: service.metric("vllm:inter_token_latency_seconds_count", model) > 90,
                 "tokens")
        for pid in service.worker_pids():
            kill(pid)
    with service.stream("/v1/completions", body) as events:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(meanwhile, None)
            chunks = events.chunks()
            future.result()
    texts = ["".join(choice["text"] for chunk in chunks for choice in chunk["choices"]
                     if choice["index"] == i) for i in range(3)]
    assert texts == [text] * 3
    assert service.metric("starlane_requests_replayed_total", model) == 1


def test_a_poisoned_request_fails_alone(service):
    model = echo(poison="DEATH", tokens=200, pace_us=5000)
    innocent = {"model": model, "prompt": "all is well ", "max_tokens": 200}

    def meanwhile(_):
        wait_for(lambda: service.metric("vllm:num_requests_running", model) == 30, "all to run")
        started = time.monotonic()
        answer = service.post("/v1/completions", {"model": model, "prompt": "DEATH"}, expect=500)
        assert answer.error["type"] == "server_error"
        assert "SIGABRT" in answer.error["message"], answer.error
        assert time.monotonic() - started < 60
    texts = run_all(service, [innocent] * 30, meanwhile)
    assert texts == [("all is well " * 17)[:200]] * 30
    # Twice with the others, which makes all of them suspects, and twice alone.
    assert service.metric("starlane_worker_crashes_total") <= 4


def test_a_worker_that_hangs_is_replaced(serve):
    service = serve("--echo", "--watchdog", "1s")
    model = echo(hang_at=100, tokens=250)
    body = {"model": model, "prompt": "tick ", "max_tokens": 250}
    assert Client(service, body).read() == "tick " * 50
    assert service.metric("starlane_model_crashes_total", model) == 2


def test_a_model_that_crashes_at_load_trips_the_breaker(serve):
    service = serve("--echo")
    model = echo(crash_on_load=1)
    body = {"model": model, "prompt": "x"}
    answer = service.post("/v1/completions", body, expect=503)
    assert "SIGABRT" in answer.error["message"] and int(answer.headers["retry-after"]) >= 1
    crashes = service.metric("starlane_model_crashes_total", model)
    assert 2 <= crashes <= 10
    # The breaker is open: nothing is tried for the next one.
    answer = service.post("/v1/completions", body, expect=503)
    assert answer.error["message"] and int(answer.headers["retry-after"]) >= 1
    assert service.metric("starlane_model_crashes_total", model) == crashes
    assert service.complete(echo(), "fine")["choices"][0]["text"] == "fine"


def test_a_model_that_cannot_load_says_why(serve):
    service = serve("--echo")
    body = {"model": echo(load_fail="tensor blk.3 is cut off"), "prompt": "x"}
    for fields in ({}, {"stream": True}):
        answer = service.post("/v1/completions", {**body, **fields}, expect=503)
        assert "tensor blk.3 is cut off" in answer.error["message"]
        assert int(answer.headers["retry-after"]) >= 1


def test_a_token_a_life_is_enough(serve):
    model = echo(crash_at=2, text="abcdef")
    service = serve("--echo")
    body = {"model": model, "prompt": "x", "max_tokens": 6}
    assert Client(service, body).read() == "abcdef"
    assert service.metric("starlane_model_crashes_total", model) == 5


def test_a_failure_in_the_middle_is_the_last_event_of_the_stream(service):
    model = echo(prefill_us=700000, pace_us=5000, tokens=4000)
    with service.stream("/v1/completions", {"model": model, "prompt": "x",
                                            "max_tokens": 4000}) as events:
        texts = events.events()
        next(texts)
        for crashes in (1, 2):
            wait_for(lambda: service.metric("starlane_model_loaded", model), "a worker")
            [pid] = set(service.worker_pids()) - {pid_of(service, MODEL)}
            kill(pid)
            wait_for(lambda n=crashes: service.metric("starlane_model_crashes_total", model) == n,
                     "the death to be seen")
        *_, last = texts
    assert set(json.loads(last)["error"]) == {"message", "type", "param", "code"}
    assert "SIGKILL" in json.loads(last)["error"]["message"]
