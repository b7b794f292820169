"""A grid of real processes in a laboratory: gateways and nodes as users start them, and load that
knows what every answer has to be.

    with Lab(spec) as lab:
        grid = Grid(lab, binary)
        grid.open("g1")
        token = grid.make_token(2)
        grid.join("g2", token, gateway=True)
        grid.join("n1", token)
        grid.wait_alive(["g2", "n1"])
"""
import collections
import contextlib
import http.client
import json
import os
import pathlib
import signal
import threading
import time

HTTP_PORT = 8080
DEADLINE_S = 120
ATTEMPTS_MAX = 40
"""Of one request whose gateway is down; with RETRY_S between them a minute and a half."""
RETRY_S = 0.25
SILENCE_S = 60
"""A stream without a byte for so long has hung."""


class Failed(Exception):
    """A request that was not answered as it should have been."""


class Grid:
    """The processes, and what is known of them."""

    def __init__(self, lab, binary, models):
        self.lab, self.binary = lab, str(binary)
        self.environment = {"STARLANE_MODELS": str(models)}
        self.processes, self.commands, self.gateways = {}, {}, []

    def _start(self, name, arguments):
        self.commands[name] = arguments
        self.processes[name] = self.lab.start(name, [self.binary, *map(str, arguments)],
                                              environment=self.environment)

    def cli(self, name, *arguments):
        done = self.lab.run(name, [self.binary, *map(str, arguments)],
                            environment=self.environment)
        if done.returncode:
            raise RuntimeError(f"{name}: starlane {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def _log_end(self, name):
        return self.lab.log(name).read_text(errors="replace")[-2000:]

    def wait(self, condition, what, names=(), seconds=DEADLINE_S):
        deadline = time.monotonic() + seconds
        while not condition():
            for name in names:
                if self.processes[name].poll() is not None:
                    raise RuntimeError(f"{name} ended: {self._log_end(name)}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds} s for {what}\n" +
                                   "\n".join(self._log_end(name) for name in names))
            time.sleep(0.1)

    def open(self, name, *options):
        """The first gateway."""
        self._start(name, ["up", "--host", "*", "--insecure", "--name", name, *options])
        self.gateways.append(name)
        self.wait(lambda: self.get(name, "/health") is not None, f"{name} to serve", [name])

    def make_token(self, uses):
        return self.cli(self.gateways[0], "token", "create", "--gateway", "--ttl", "10m",
                        "--uses", uses).split()[-1]

    def join(self, name, token, *options, gateway=False):
        extra = ["--gateway", "--host", "*", "--insecure"] if gateway else []
        self._start(name, ["join", token, "--name", name, *extra, *options])
        # Who starts again has joined already.
        self.commands[name] = ["join", "--name", name, *extra, *options]
        if gateway:
            self.gateways.append(name)
            self.wait(lambda: self.get(name, "/health") is not None, f"{name} to serve", [name])

    def restart(self, name):
        self._start(name, self.commands[name])

    def nats_pids(self, name):
        pids = []
        for pid in self.lab.pids(name):
            with contextlib.suppress(OSError):
                if "nats-server" in pathlib.Path(f"/proc/{pid}/comm").read_text():
                    pids.append(pid)
        return pids

    def kill_nats(self, name):
        for pid in self.nats_pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Asking

    def connect(self, gateway, timeout=SILENCE_S):
        connection = http.client.HTTPConnection(self.lab.address(gateway), HTTP_PORT,
                                                timeout=timeout)
        with self.lab.inside("client"):
            connection.connect()
        return connection

    def get(self, gateway, path):
        """The answer's JSON; None when nobody answers."""
        try:
            with contextlib.closing(self.connect(gateway, 5)) as connection:
                connection.request("GET", path)
                return json.load(connection.getresponse())
        except (OSError, ValueError, http.client.HTTPException):
            return None

    def nodes(self, gateway=None):
        answer = self.get(gateway or self.gateways[0], "/grid/v1/nodes")
        return {node["name"]: node for node in (answer or {}).get("nodes", [])}

    def wait_alive(self, names, gateway=None):
        def alive():
            nodes = self.nodes(gateway)
            return all(nodes.get(name, {}).get("state") == "alive" for name in names)
        self.wait(alive, f"{', '.join(names)} to be alive",
                  [name for name in names if name in self.processes])

    def wait_ready(self, model, names, gateway=None):
        def ready():
            nodes = self.nodes(gateway)
            return all(any(m["name"].split(":")[0] == model and m["state"] == "ready"
                           for m in nodes.get(name, {}).get("models", [])) for name in names)
        self.wait(ready, f"{model} on {', '.join(names)}")


class Answer:
    """What came for one request, and when: seconds since it was asked for."""

    def __init__(self):
        self.began, self.gateway, self.request_id = time.monotonic(), None, None
        self.text, self.first, self.total, self.longest_gap, self.asked = "", None, None, 0.0, 0
        self.breaks = []
        """(time, gateway): when which one was not there, or went in the middle."""
        self.on_text = None
        """Called with this answer after each piece."""

    def _take(self, event, last):
        now = time.monotonic()
        for choice in event["choices"]:
            self.text += choice["text"]
            if choice["text"] and self.first is None:
                self.first = now - self.began
        self.longest_gap = max(self.longest_gap, now - (last or now))
        if self.on_text:
            self.on_text(self)
        return now

    def ask_once(self, grid, gateway, body):
        """OSError or HTTPException: the gateway went."""
        self.text, last = "", None
        self.gateway, self.request_id, self.asked = gateway, None, self.asked + 1
        with contextlib.closing(grid.connect(gateway)) as connection:
            connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.request_id = response.getheader("X-Starlane-Request-Id")
            if response.status != 200:
                raise Failed(f"{self.request_id}: {response.status} {response.read()[:300]!r}")
            for line in response:
                if not line.startswith(b"data: "):
                    continue
                data = line[6:].strip()
                if data == b"[DONE]":
                    self.total = time.monotonic() - self.began
                    return
                event = json.loads(data)
                if "error" in event:
                    raise Failed(f"{self.request_id}: {str(event['error'])[:300]}")
                last = self._take(event, last)
        raise http.client.IncompleteRead(b"")

    def ask(self, grid, gateways, body):
        """A gateway that is not there, or goes in the middle of an answer, is every client's
        business: it asks the next one again. Everything else is a failure."""
        for turn in range(ATTEMPTS_MAX):
            try:
                self.ask_once(grid, gateways[turn % len(gateways)], body)
                return self
            except TimeoutError as error:
                raise Failed(f"{self.request_id}: nothing came for {SILENCE_S} s") from error
            except (OSError, http.client.HTTPException):
                self.breaks.append((time.monotonic(), self.gateway))
                time.sleep(RETRY_S)
        raise Failed("no gateway answers")


class Load:
    """Requests at given times, each on a thread of its own, whose answers are compared with those
    expected: {body as JSON: text}."""

    def __init__(self, grid, gateways, expected=None):
        self.grid, self.gateways, self.expected = grid, gateways, expected or {}
        self.answers, self.failures, self.texts = [], [], {}
        self.on_answer = None
        """Called with each answer that came, on its thread."""
        self._lock, self._threads = threading.Lock(), collections.deque()
        self._n = 0

    def fail(self, why, body=None):
        with self._lock:
            self.failures.append((time.monotonic(), why, body))

    def _one(self, number, body):
        key = json.dumps(body, sort_keys=True)
        turn = number % len(self.gateways)
        answer = Answer()
        try:
            answer.ask(self.grid, self.gateways[turn:] + self.gateways[:turn], body)
        except Failed as error:
            self.fail(f"{answer.gateway}: {error}", body)
            return
        with self._lock:
            self.answers.append(answer)
            self.texts[key] = answer.text
        if self.on_answer:
            self.on_answer(answer)
        if key in self.expected and answer.text != self.expected[key]:
            self.fail(f"{answer.gateway}: {answer.request_id}: another answer: {answer.text!r} for "
                      f"{self.expected[key]!r}", body)

    def send(self, body):
        thread = threading.Thread(target=self._one, args=(self._n, body), daemon=True)
        self._n += 1
        self._threads.append(thread)
        thread.start()
        while self._threads and not self._threads[0].is_alive():
            self._threads.popleft()

    def run(self, arrivals):
        """arrivals: (seconds from the start, body), in order."""
        began = time.monotonic()
        for at, body in arrivals:
            time.sleep(max(0.0, began + at - time.monotonic()))
            self.send(body)

    def finish(self, seconds=DEADLINE_S):
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.fail("a request never ended")
        self._threads.clear()


class Counters:
    """Sums of what /grid/v1/status counts at all gateways, also of those that died since."""

    NAMES = ["submitted", "finished", "failed", "refused", "retried", "moved", "resumed", "hedged",
             "gaps", "runs_again", "loads"]

    def __init__(self, grid):
        self._grid, self._last = grid, {}
        self._before = dict.fromkeys(self.NAMES, 0)

    def look(self):
        for name in self._grid.gateways:
            now = self._grid.get(name, "/grid/v1/status")
            last = self._last.get(name)
            if not now:
                continue
            if last and now["sent"] < last["sent"]:
                for key in self.NAMES:
                    self._before[key] += last[key]
            self._last[name] = now

    def sums(self):
        return {key: self._before[key] + sum(last[key] for last in self._last.values())
                for key in self.NAMES}


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
