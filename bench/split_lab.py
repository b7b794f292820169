"""Starlane's side of bench/split.py: a real grid in the laboratory, a model split over it, and streams that are timed
by a client which only reads."""
import asyncio
import contextlib
import itertools
import json
import pathlib
import random
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/netlab"))

from netlab_grid import HTTP_PORT, Grid  # pylint: disable=wrong-import-position

CLIENT = "client"
ALONE_PORT = 9090
WORD_IDS = range(1000, 20000)
"""Tokens that prompts are made of: ordinary ones of any vocabulary of this size."""
DEADLINE_S = 300
MEASURED_S = 60
SHORT_PROMPT = 16
SETTLE_S = 1
"""After links have changed: what was under way has arrived."""


def wait_until(condition, what, seconds=DEADLINE_S):
    """What the condition said when it was true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.1)
    return value


def links_of(lab, names, delay_ms):
    """Between each two of them, in each direction; the client stays beside the first."""
    for a, b in itertools.combinations(names, 2):
        lab.link(a, b, delay=f"{delay_ms}ms")
    time.sleep(SETTLE_S)


def memory_peak(lab, name):
    """Bytes that all of a node's processes had at once, files in memory too."""
    for folder in lab.estate.group_folders(name):
        for file in ("memory.max_usage_in_bytes", "memory.peak"):
            if (folder / file).exists():
                return int((folder / file).read_text())
    return 0


class Stream:
    """One streamed completion: when each token came, on the client's clock."""

    def __init__(self):
        self.begin, self.times, self.n_prompt = None, [], 0

    def _take(self, line):
        if b'"error":{' in line:
            raise RuntimeError(line.decode())
        if b'"usage":{' in line:
            self.n_prompt = json.loads(line[6:])["usage"]["prompt_tokens"]
        else:
            self.times.append(time.monotonic())

    async def run(self, address, body):
        text = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        reader, writer = await asyncio.open_connection(*address)
        self.begin = time.monotonic()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        line, said = b"", b""
        while line := await reader.readline():
            said = line.strip() or said
            if line.startswith(b"data: {"):
                self._take(line)
        writer.close()
        if not self.n_prompt:
            raise RuntimeError(f"an answer without an end; last: {said.decode()}")
        return self


def random_prompt(n_tokens):
    return [random.choice(WORD_IDS) for _ in range(n_tokens)]


async def run_streams(address, bodies):
    return await asyncio.gather(*[Stream().run(address, body) for body in bodies])


class Asked:
    """A place that answers completions, and what it is measured at."""

    def __init__(self, lab, address, model):
        self.lab, self.address, self.model = lab, address, model

    def streams(self, n_streams, n_tokens, n_prompt):
        bodies = [{"model": self.model, "prompt": random_prompt(n_prompt), "max_tokens": n_tokens,
                   "temperature": 0, "ignore_eos": True} for _ in range(n_streams)]
        with self.lab.inside(CLIENT):
            return asyncio.run(run_streams(self.address, bodies))

    def rate(self, n_streams, n_tokens, n_prompt=SHORT_PROMPT):
        """Tokens/s of all streams together, from the moment when each has its first token to the moment when one
        has its last."""
        streams = self.streams(n_streams, n_tokens, n_prompt)
        begin, end = max(s.times[0] for s in streams), min(s.times[-1] for s in streams)
        return sum(sum(begin < t <= end for t in s.times) for s in streams) / (end - begin)

    def first_token_s(self, n_prompt):
        """Of a prompt that nobody has asked before."""
        (stream,) = self.streams(1, 2, n_prompt)
        if stream.n_prompt != n_prompt:
            raise RuntimeError(f"a prompt of {stream.n_prompt} tokens, not of {n_prompt}")
        return stream.times[0] - stream.begin

    def answers(self):
        """Does it answer at all?"""
        with contextlib.suppress(RuntimeError, OSError):
            return len(self.streams(1, 2, 4)) == 1
        return False


class PinnedGrid(Grid):
    """Each node's processes on its own core."""

    def __init__(self, lab, binary, models, cores):
        super().__init__(lab, binary, models)
        self.cores = cores

    def _start(self, name, arguments):
        words = ["taskset", "-c", self.cores[name], self.binary, *arguments]
        self.commands[name] = arguments
        self.processes[name] = self.lab.start(name, [str(word) for word in words], environment=self.environment)

    def post(self, path, body):
        """(status, JSON), as the administrator."""
        key = (self.lab.home(self.gateways[0]) / ".starlane/grid/admin.key").read_text().strip()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        with contextlib.closing(self.connect(self.gateways[0], DEADLINE_S)) as connection:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.load(response)


def ranges_of(chain):
    """[(member, first layer, the one after the last)]"""
    return [(stage["member"], stage["first"], stage["last"]) for stage in chain.get("stages", [])]


class Service(Asked):
    """A grid whose first node is its gateway and has the model's file; the others have nothing of it."""

    def __init__(self, lab, args, nodes, cores, memories=None):
        super().__init__(lab, (lab.address(nodes[0]), HTTP_PORT), args.name)
        self.args, self.nodes, self.cores, self.memories = args, list(nodes), cores, memories or {}
        self.options = ["--threads", 1, "--keep-alive", "-1", "--queue-timeout", "600s", "--ctx", args.context]
        self.grid = PinnedGrid(lab, args.starlane, ROOT / "models", cores)

    def _memory(self, name):
        return ["--memory", self.memories[name]] if name in self.memories else []

    def __enter__(self):
        first, *others = self.nodes
        self.grid.cli(first, "import", self.args.model.resolve(), "--name", self.model)
        self.grid.open(first, *self.options, *self._memory(first))
        self.nodes = [first]
        self.join(others)
        return self

    def join(self, names):
        if names:
            token = self.grid.make_token(len(names))
        for name in names:
            self.grid.join(name, token, *self.options, *self._memory(name))
        self.nodes += names
        self.grid.wait_alive(self.nodes)
        wait_until(self._are_measured, "all nodes to know how fast they are", MEASURED_S)

    def _are_measured(self):
        _, answer = self.grid.post("/grid/v1/plans", {"model": self.model})
        return sum(member["calibrated"] for member in answer.get("members", [])) == len(self.nodes)

    def __exit__(self, *_):
        for process in self.grid.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.grid.processes.values():
            process.wait(DEADLINE_S)

    def split(self, n_stages, layers=None, n_streams=1, n_prompt=None):
        """Has the model run over the first nodes: [layers of each], or as the planner says, who is told how long
        prompts will be, or as much as `rate` has at half of its time. The plan, once it runs."""
        body = {"model": self.model, "nodes": self.nodes[:n_stages], "stages": n_stages, "apply": True,
                "n_seqs": n_streams, "context": self.args.context,
                "prompt": n_prompt or SHORT_PROMPT + self.args.generate // 2,
                "goal": "latency" if n_streams == 1 else "throughput"}
        if layers:
            body["layers"] = layers
        status, answer = self.grid.post("/grid/v1/plans", body)
        if status != 200 or not answer.get("applied"):
            raise RuntimeError(f"{body}: {status} {answer}")
        wanted = ranges_of(answer["plan"])
        wait_until(lambda: self.chain().get("state") == "ready" and ranges_of(self.chain()) == wanted,
                   f"{body} to run")
        self.rate(max(1, n_streams), 4)
        return answer["plan"]

    def chain(self):
        """What the gateway says of it; {} without one."""
        return (self.grid.get(self.nodes[0], f"/grid/v1/explain?model={self.model}") or {}).get("chain", {})

    def chain_text(self):
        """Which node has how many layers, in the chain's order."""
        return " ".join(f"{stage['name']}:{stage['last'] - stage['first']}" for stage in self.chain()["stages"])

    def hops(self):
        return self.chain()["stages"]

    def refusal(self):
        """What a request hears; it must not be an answer."""
        status, answer = self.grid.post("/v1/completions", {"model": self.model, "prompt": "a", "max_tokens": 1})
        if status == 200:
            raise RuntimeError("one node answers alone")
        return f"{status} {answer['error']['message']}"


class Alone(Asked):
    """One node with the whole model: `starlane serve` beside the grid, on the first node's core."""

    def __init__(self, service):
        self.service, self.process = service, None
        super().__init__(service.lab, (service.address[0], ALONE_PORT), service.model)

    def __enter__(self):
        args, first = self.service.args, self.service.nodes[0]
        command = ["taskset", "-c", self.service.cores[first], args.starlane, "serve", args.model, "--host", "*",
                   "--insecure", "--port", ALONE_PORT, "--grpc-port", 0, "--threads", 1, "--ctx", args.context]
        self.process = self.lab.start(first, [str(word) for word in command],
                                      environment={"STARLANE_HOME": self.lab.home(first) / "alone"})
        wait_until(self.answers, "the node alone to answer")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)
