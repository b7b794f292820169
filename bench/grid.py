#!/usr/bin/env python3
"""Five real nodes of unlike speed: how much the default policy is worth, and how well `starlane sim` foretells it.

    sudo python3 bench/grid.py

A gateway without room for models and five nodes in a laboratory (docs/netlab.md), with unlike shares of a core
and links of 0 to 40 ms. Measures each node in its share (`starlane bench --node-profile`, and what requests take
through the grid while the others are cordoned and compute something), then lets requests come at random (Poisson)
at --load of what the nodes can do together. The gateway is started anew with each policy in turn, --rounds times;
all policies of a round get the same requests at the same times. Then the simulator gets the profiles and the
recorded arrivals.

How fast a core is changes from minute to minute. So every other two seconds of a run say by which factor each
node's profile is too fast or too slow then, and the simulator is judged by the requests of the rest.

The shares sum up to well under a core, and the laboratory's groups have the highest weight, so that the rest of
the machine may be in use. The client is a real-time process.
"""
import argparse
import asyncio
import concurrent.futures
import contextlib
import copy
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from sim_fidelity import GOAL_MEAN, GOAL_P99, Answer, ask, number, percentile, summary

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/netlab"))

import netlab  # pylint: disable=wrong-import-position
from netlab_grid import HTTP_PORT, Grid  # pylint: disable=wrong-import-position

GATEWAY, CLIENT = "g1", "client"
RTT_MS = {"n1": 0, "n2": 2, "n3": 10, "n4": 20, "n5": 40}
SHARES = {"n1": 0.22, "n2": 0.15, "n3": 0.11, "n4": 0.08, "n5": 0.05}
POLICIES = ["balanced", "round-robin", "least-connections"]
GOAL_ROUND_ROBIN, GOAL_LEAST_CONNECTIONS = 2.0, 1.0
SCALE_MIN, SCALE_MAX, SCALE_STEP = 0.5, 2.0, 0.002
STREAMS = [1, 2, 4, 8, 16]
"""At a time, to measure a node's steps; beyond the last the simulator's line goes on."""
STEP_TOKENS = 96
WIDTH, PROMPTS = 8, 40
"""Requests at a time, and in all at least, that show what prompts take of a node that is never idle."""
MEASURE_S = 2
"""At least, for each number: a share of a core comes in bursts, which have to cancel out."""
BURST, CALIBRATION_SEED = 64, 99
"""Requests at once, which a node works off with batches of all sizes."""
SLICE_S = 2
"""Every other slice of a run says how fast the nodes are then, and what first tokens take besides computing."""
EXPLAINED, REMEMBERED = 16, 4096
"""Requests that the gateway is asked about at a time; that it can be asked about (docs/grid-views.md)."""
ON_FIRST_CORE = {"n1"}
"""The other nodes are on the last one. All of a node is on one core: processes on two of them take their parts of a
share in slices larger than a small share, which then stands still."""
WEIGHT_V1, WEIGHT_V2 = 262144, 10000
"""The most that the kernel takes: a node of 5 % of a core gets its 5 % on a busy machine, too."""
SETTLE_S = 3
"""After a gateway's start: reports have come, round trips are known."""
CALIBRATION_S = 300
"""Five seconds of work on a twentieth of a core take 100, and a busy machine takes longer."""


def laboratory(args):
    nodes = {name: {"site": name, "cpu": f"{100 * SHARES[name] * args.scale:g}%"} for name in SHARES}
    sites = {name: {"rtt": f"{rtt}ms"} for name, rtt in RTT_MS.items()}
    return {"sites": {"hub": {}, **sites}, "nodes": {GATEWAY: {"site": "hub"}, CLIENT: {"site": "hub"}, **nodes}}


def favour(lab, names):
    for name in names:
        for folder in lab.estate.group_folders(name):
            for group in (folder, folder.parent, folder.parent.parent):
                for file, weight in (("cpu.shares", WEIGHT_V1), ("cpu.weight", WEIGHT_V2)):
                    if "netlab" in str(group) and (group / file).exists():
                        (group / file).write_text(str(weight), encoding="ascii")


@contextlib.contextmanager
def on_core(name):
    """What is started meanwhile is where the node is."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores) if name in ON_FIRST_CORE else max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Bench:
    """The laboratory, the grid in it, and what was measured."""

    def __init__(self, args, lab):
        self.args, self.lab = args, lab
        self.grid = Grid(lab, args.starlane, args.model.parent)
        self.nodes = list(SHARES)
        self.address = (lab.address(GATEWAY), HTTP_PORT)

    # Starting

    def profile_text(self, name):
        with on_core(name):
            done = self.lab.run(name, [str(self.args.starlane), "bench", str(self.args.model), "--node-profile", "-t",
                                       "1", "-p", "256", "-n", "16", "-r", "5", "-b", "1,4"])
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")
        return done.stdout

    def profile_all(self):
        """All at the same time, as they will run."""
        with concurrent.futures.ThreadPoolExecutor(len(self.nodes)) as pool:
            return dict(zip(self.nodes, pool.map(self.profile_text, self.nodes)))

    def start(self):
        options = ["--threads", 1, "--no-prefix-cache", "--keep-alive", "-1", "--queue-timeout", "300s"]
        self.grid.open(GATEWAY, "--memory", "1M", "--replicas", len(self.nodes), "--queue-timeout", "300s")
        token = self.grid.make_token(len(self.nodes))
        for name in self.nodes:
            with on_core(name):
                self.grid.join(name, token, "--memory", "200M", *options)
        self.grid.wait_alive(self.nodes)
        self.wait_calibrated()
        self.load_everywhere()

    def wait_calibrated(self):
        """A node measures itself some time after its first start, and for a twentieth of a core that is minutes: its
        profile would be that of a machine with something else to do."""
        def is_done():
            nodes = self.grid.nodes()
            return all(nodes[name].get("speed") for name in self.nodes)
        self.grid.wait(is_done, "the nodes' calibration", seconds=CALIBRATION_S)

    def load_everywhere(self):
        """More nodes load a model while it is asked for."""
        def is_ready():
            self.in_client(self.answers([(0, 4, 8)]))
            nodes = self.grid.nodes()
            return all(model["state"] == "ready" for name in self.nodes
                       for model in nodes[name].get("models") or [{"state": "none"}])
        self.grid.wait(is_ready, "the model to be everywhere")

    def policy(self, name):
        """A gateway that decides by it, in place of the one before. The nodes keep what they have."""
        process = self.grid.processes[GATEWAY]
        process.send_signal(signal.SIGTERM)
        process.wait()
        command = self.grid.commands[GATEWAY]
        at = command.index("--policy") if "--policy" in command else len(command)
        self.grid.commands[GATEWAY] = command[:at] + ["--policy", name]
        self.grid.restart(GATEWAY)
        self.grid.wait(lambda: self.grid.nodes(), "the gateway")  # pylint: disable=unnecessary-lambda
        self.grid.wait_ready(self.args.name, self.nodes)
        self.grid.wait_alive(self.nodes)
        time.sleep(SETTLE_S)

    def only(self, name):
        """Has all requests run there; None: anywhere."""
        for other in self.nodes:
            self.grid.cli(GATEWAY, "nodes", "cordon" if name and other != name else "uncordon", other)

        def is_so():
            nodes = self.grid.nodes()
            return all((nodes[other]["duty"] == "open") == (name in (None, other)) for other in self.nodes)
        self.grid.wait(is_so, "duties")

    # Asking

    def in_client(self, coroutine):
        with self.lab.inside(CLIENT):
            return asyncio.run(coroutine)

    async def answers(self, arrivals):
        """[(seconds, words, tokens)], whatever became of those before."""
        begin, tasks = time.monotonic() + 0.1, []
        for at, n_words, n_tokens in arrivals:
            await asyncio.sleep(max(0, begin + at - time.monotonic()))
            answer = Answer(begin + at)
            answer.at = at
            tasks.append(asyncio.create_task(ask(self.args, self.address, n_words, n_tokens, answer)))
        return [await task for task in tasks]

    async def find_nodes(self, answers):
        """Where each was answered, as the gateway remembers."""
        async def find(answer):
            reader, writer = await asyncio.open_connection(*self.address)
            writer.write(f"GET /grid/v1/explain?request={answer.request} HTTP/1.1\r\nHost: localhost\r\n"
                         "Connection: close\r\n\r\n".encode())
            story = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
            writer.close()
            answer.node = story["attempts"][-1]["name"]
        for at in range(0, len(answers), EXPLAINED):
            await asyncio.gather(*map(find, answers[at:at + EXPLAINED]))

    @contextlib.contextmanager
    def others_busy(self, name):
        """As they will be: cores that share caches and pipelines are slower together. Batches ask less of both than
        a stream by itself."""
        command = [str(self.args.starlane), "bench", str(self.args.model), "-t", "1", "-p", str(self.args.prompt),
                   "-n", str(self.args.output), "-b", str(WIDTH), "-r", "1000"]
        burners = []
        for other in self.nodes:
            with on_core(other):
                if other != name:
                    burners.append(self.lab.start(other, command, stdout=subprocess.DEVNULL))
        try:
            yield
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()

    async def closed(self, width, one, n_least=1, seconds=0.0):
        """[answers] to `one`, (words, tokens), asked for `width` times at any time."""
        answers, until = [], time.monotonic() + seconds

        async def worker():
            while len(answers) < n_least or time.monotonic() < until:
                answers.append(await ask(self.args, self.address, *one, Answer(time.monotonic())))
        await asyncio.gather(*[worker() for _ in range(width)])
        return answers

    def calibrate(self, name, text, context):
        """The profile as it is seen through the grid: what requests and streams take in the share of a core that
        all of a node's processes have together."""
        profile = Profile(name, text, context)
        self.only(name)
        with self.others_busy(name):
            short, long = (self.in_client(self.closed(WIDTH, (n_words, 1), PROMPTS, MEASURE_S))
                           for n_words in (1, self.args.prompt))
            profile.take_prompts(short, long)
            for n in STREAMS:
                profile.take_streams(n, self.in_client(self.closed(n, (1, STEP_TOKENS), n, MEASURE_S)))
            burst = [(0, *lengths) for lengths in lengths_of(self.args, random.Random(CALIBRATION_SEED), BURST)]
            profile.take_burst(self.in_client(self.answers(burst)))
        return profile

    def calibrate_all(self, texts):
        # What a token of context costs is little and hard to see, and of a core's time the same everywhere.
        context = statistics.median(number(text, "context_us") * SHARES[name] for name, text in texts.items())
        profiles = {name: self.calibrate(name, texts[name], context / SHARES[name]) for name in self.nodes}
        self.only(None)
        return profiles


def request_s(answers):
    """Of a node that always has WIDTH of them: without the first and the last."""
    ends = sorted(a.end or a.first for a in answers)[WIDTH - 1:1 - WIDTH]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


class Profile:
    """A node's entry of the simulator's nodes file."""

    def __init__(self, name, text, context):
        self.name, self.text, self.context, self.steps = name, text, context, {}
        self.rtt = RTT_MS[name] / 1e3
        self.request, self.delay, self.per_token = 0.0, 0.0, 0.0
        self.scale, self.capacity = 1.0, 0.0

    def take_prompts(self, short, long):
        """What a request takes of the node's time, and what each token of its prompt."""
        n_short, n_long = (statistics.fmean(a.prompt_tokens for a in answers) for answers in (short, long))
        self.per_token = (request_s(long) - request_s(short)) / (n_long - n_short)
        self.request = max(0.0, request_s(short) - self.per_token * n_short)

    def take_streams(self, n_streams, answers):
        """Between two tokens of one stream are a step, and the prompts of others that began meanwhile."""
        seconds = sum(a.end - a.first for a in answers)
        n_tokens = sum(a.output_tokens - 1 for a in answers)
        prompts = self.request + self.per_token * answers[0].prompt_tokens
        step = (seconds - prompts * (n_streams - 1) * len(answers)) / n_tokens
        self.steps[n_streams] = max([step, *self.steps.values()])

    def take_burst(self, answers):
        self.capacity = len(answers) / max(a.end - a.due for a in answers)

    def as_in(self, args, answers, learnt, more):
        """As the node was when it gave these answers. Steps and prompts were measured by themselves; all of them are
        scaled until the simulator takes as long from first tokens to last ones as the node did for those learnt from.
        What first tokens then take more is a delay: the node's processes wait for each other."""
        first = statistics.fmean(answers[i].first - answers[i].due for i in learnt)
        rest = statistics.fmean(answers[i].end - answers[i].first for i in learnt)

        def foretold(profile):
            rows = predict(args, [profile], answers, POLICIES[0], more)
            one = statistics.fmean(rows[i]["first_token_s"] for i in learnt)
            return one, statistics.fmean(rows[i]["total_s"] for i in learnt) - one
        low, high = SCALE_MIN, SCALE_MAX
        while high - low > SCALE_STEP:
            scale = (low + high) / 2
            if foretold(self.slowed_down(scale))[1] > rest:
                high = scale
            else:
                low = scale
        then = self.slowed_down(low)
        then.delay = max(0.0, first - foretold(then)[0])
        return then

    def slowed_down(self, scale):
        then = copy.copy(self)
        then.scale *= scale
        then.request *= scale
        then.per_token *= scale
        then.context *= scale
        then.steps = {n: scale * seconds for n, seconds in self.steps.items()}
        return then

    def entry(self):
        text = re.sub(r"name: .*", f"name: {self.name}", self.text, count=1)
        text = text[:text.index("    steps:")]
        text = re.sub(r"slots: \d+", "slots: 64\n    queue: 64", text)
        text = re.sub(r"prefill_ms: [0-9.]+", "prefill_ms: 0", text)
        text = re.sub(r"prefill: [0-9.]+", f"prefill: {1 / self.per_token:.1f}", text)
        text = re.sub(r"context_us: [0-9.]+", f"context_us: {self.context:.4f}", text)
        text += f"    rtt_ms: {1e3 * self.rtt:g}\n    overhead_ms: {1e3 * self.delay:.3f}\n    steps:\n"
        return text + "".join(f"      - {{streams: {n}, ms: {1e3 * s:.3f}}}\n" for n, s in self.steps.items())


class Window:
    """One policy's requests of one round."""

    def __init__(self, policy, answers, sent):
        self.policy, self.answers, self.sent = policy, answers, sent
        self.profiles, self.more, self.rows = {}, 0, []
        """The nodes as they were meanwhile, and what the simulator makes of them."""

    def numbers(self):
        return [a.first - a.due for a in self.answers], [a.end - a.due for a in self.answers]

    def nodes_then(self, args, base, learnt_from):
        """{name: the node as it was meanwhile}, from some of its answers."""
        then, more = {}, more_tokens(base.values())
        for name, profile in base.items():
            mine = [a for a in self.answers if a.node == name]
            learnt = learnt_from(mine)
            then[name] = profile.as_in(args, mine, learnt, more) if learnt else profile
            if not 1.01 * SCALE_MIN < then[name].scale < 0.99 * SCALE_MAX:
                print(f"  {name} is as far from what was measured as is looked for")
        return then

    def foretell(self, args, base):
        self.profiles, self.more = self.nodes_then(args, base, every_other_slice), more_tokens(base.values())
        self.rows = predict(args, self.profiles.values(), self.answers, self.policy, self.more)

    def judged(self):
        """((first tokens, whole answers), the same as foretold), seconds, of the slices nothing was learnt from."""
        learnt = every_other_slice(self.answers)
        return self.compared(self.rows, sorted(set(range(len(self.answers))) - set(learnt)))

    def compared(self, rows, which):
        real = [[numbers[i] for i in which] for numbers in self.numbers()]
        return real, [[rows[i][key] for i in which] for key in ("first_token_s", "total_s")]

    def foretold_from(self, other, args, base):
        """As judged, of all requests, by what all of another run said of the nodes."""
        profiles = other.nodes_then(args, base, all_of)
        return self.compared(predict(args, profiles.values(), self.answers, self.policy, self.more),
                             all_of(self.answers))


def every_other_slice(answers):
    return [i for i, a in enumerate(answers) if a.at // SLICE_S % 2 == 0]


def all_of(answers):
    return list(range(len(answers)))


def lengths_of(args, rng, n):
    """[(words, tokens)]"""
    def draw(mean, least):
        return min(max(least, round(rng.expovariate(1 / mean))), 4 * mean)
    return [(draw(args.prompt, 1), draw(args.output, 2)) for _ in range(n)]


def arrivals_of(args, rate, rng, seconds):
    at, found = 0.0, []
    while (at := at + rng.expovariate(rate)) < seconds:
        found.append((at, *lengths_of(args, rng, 1)[0]))
    return found


def sent_of(bench):
    return {name: node["sent"] for name, node in bench.grid.nodes().items() if name in SHARES}


def window(bench, policy, arrivals):
    bench.policy(policy)
    before = sent_of(bench)
    answers = bench.in_client(bench.answers(arrivals))
    after = sent_of(bench)
    bench.in_client(bench.find_nodes(answers))
    return Window(policy, answers, {name: after[name] - before[name] for name in after})


def more_tokens(profiles):
    """What a request takes besides its tokens is the node's time too, and as much more on a slow one."""
    return statistics.median(profile.request / profile.per_token for profile in profiles)


def write_simulation(args, profiles, answers, more, folder):
    """(nodes, trace): files for `starlane sim`."""
    nodes, trace = folder / "nodes.yaml", folder / "trace.jsonl"
    nodes.write_text(f"models:\n  - {{name: {args.name}}}\nnodes:\n" + "".join(p.entry() for p in profiles),
                     encoding="ascii")
    begin = min(a.due for a in answers) - 5
    trace.write_text("".join(json.dumps({"timestamp": (a.due - begin) * 1e3,
                                         "input_length": round(a.prompt_tokens + more),
                                         "output_length": a.output_tokens, "max_tokens": a.output_tokens,
                                         "model": args.name, "class": "standard"}) + "\n"
                             for a in answers), encoding="ascii")
    return nodes, trace


def predict(args, profiles, answers, policy, more):
    """What the simulator makes of each request."""
    with tempfile.TemporaryDirectory() as folder:
        nodes, trace = write_simulation(args, profiles, answers, more, pathlib.Path(folder))
        record = pathlib.Path(folder) / "record.jsonl"
        command = [args.starlane, "sim", "--nodes", nodes, "--trace", trace, "--policy", policy, "--record", record]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        return [json.loads(line) for line in record.read_text(encoding="ascii").splitlines()]


def print_profiles(profiles, args):
    print(f"{'node':6}{'share':>7}{'rtt ms':>8}{'request ms':>12}{'prompt/s':>10}{'step ms: 1':>12}" +
          "".join(f"{n:>9}" for n in STREAMS[1:]) + f"{'requests/s':>12}")
    for name, p in profiles.items():
        print(f"{name:6}{SHARES[name] * args.scale:7.0%}{RTT_MS[name]:8}{1e3 * p.request:12.1f}"
              f"{1 / p.per_token:10.0f}   " + "".join(f"{1e3 * p.steps[n]:9.1f}" for n in STREAMS) +
              f"{p.capacity:12.2f}")


def print_policies(windows):
    rows = {}
    print(f"\n{'policy':20}{'requests':>9}{'first p50':>11}{'p99 s':>8}{'answer p50':>12}{'p99 s':>8}   by node")
    for policy in dict.fromkeys(w.policy for w in windows):
        mine = [w for w in windows if w.policy == policy]
        first = [x for w in mine for x in w.numbers()[0]]
        total = [x for w in mine for x in w.numbers()[1]]
        rows[policy] = percentile(first, 0.99)
        sent = [sum(w.sent[name] for w in mine) for name in SHARES]
        print(f"{policy:20}{len(first):9}{percentile(first, 0.5):11.3f}{percentile(first, 0.99):8.2f}"
              f"{percentile(total, 0.5):12.3f}{percentile(total, 0.99):8.2f}   " + " ".join(map(str, sent)))
    return rows


def print_ratios(rows):
    ours, met = rows[POLICIES[0]], True
    for policy, goal in (("round-robin", GOAL_ROUND_ROBIN), ("least-connections", GOAL_LEAST_CONNECTIONS)):
        if policy in rows:
            ratio = rows[policy] / ours
            met = met and ratio > goal
            print(f"p99 of the first token: {policy} {ratio:.2f} times ours (goal: above {goal:g})")
    return met


def print_errors(policy, judged):
    """Whether they are within the goals; judged: pairs of what was and what was foretold."""
    real, foretold = (summary(*[[x for pair in judged for x in pair[side][k]] for k in range(2)])
                      for side in range(2))
    met = True
    for key, value in real.items():
        goal = GOAL_P99 if key.endswith("p99") else GOAL_MEAN
        error = foretold[key] / value - 1
        met = met and abs(error) <= goal
        print(f"{policy:20}{key:12}{value:9.3f}{foretold[key]:9.3f}{error:+9.1%}{goal:7.0%}")
    return met


def print_fidelity(args, windows, base):
    print(f"\n{'policy':20}{'':12}{'real s':>9}{'sim s':>9}{'error':>9}{'goal':>7}")
    met = True
    for policy in dict.fromkeys(w.policy for w in windows):
        mine = [w for w in windows if w.policy == policy]
        is_met = print_errors(policy, [w.judged() for w in mine])
        met = met and (is_met or policy != POLICIES[0])
        print(f"{policy:20}{'by node':12}" + ", ".join(
            f"{name} {sum(w.sent[name] for w in mine)} ({sum(row['node'] == name for w in mine for row in w.rows)})"
            for name in SHARES))
    pairs = [(w, other) for w in windows if w.policy == POLICIES[0]
             for other in windows if other.policy == POLICIES[2] and other.answers[0].at == w.answers[0].at]
    if pairs:
        print(f"\n{POLICIES[0]}, all requests, by what the run with {POLICIES[2]} said of the nodes:")
        print_errors(POLICIES[0], [w.foretold_from(other, args, base) for w, other in pairs])
    return met


def keep(args, bench, windows):
    """For questions that come later."""
    args.keep.mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(windows):
        rows = [[a.at, a.due, a.first, a.end, a.prompt_tokens, a.output_tokens, a.node] for a in one.answers]
        (args.keep / f"{i}-{one.policy}.json").write_text(json.dumps(rows), encoding="ascii")
        if one.profiles:
            for path in write_simulation(args, one.profiles.values(), one.answers, one.more, args.keep):
                path.rename(args.keep / f"{i}-{one.policy}{path.suffix}")
    for name in [GATEWAY, *SHARES]:
        (args.keep / f"{name}.log").write_bytes(bench.lab.log(name).read_bytes())


def measure(args, lab):
    bench = Bench(args, lab)
    favour(lab, [GATEWAY, CLIENT, *SHARES])
    texts = bench.profile_all()
    bench.start()
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(5))
    base = now = bench.calibrate_all(texts)
    print_profiles(base, args)
    windows = []
    for turn in range(args.rounds):
        rate = args.load * sum(p.capacity / p.scale for p in now.values())
        print(f"round {turn + 1}: {rate:.2f} requests/s for {args.seconds:g} s with each policy", flush=True)
        arrivals = arrivals_of(args, rate, random.Random(args.seed + turn), args.seconds)
        if len(arrivals) > REMEMBERED:
            sys.exit(f"{len(arrivals)} requests: a gateway remembers {REMEMBERED}; ask for fewer --seconds")
        for policy in args.policies.split(","):
            windows.append(window(bench, policy, arrivals))
            if args.fidelity:
                windows[-1].foretell(args, base)
                now = windows[-1].profiles
            print(f"  {policy}: {len(arrivals)} answers; nodes took this times what was measured: " +
                  " ".join(f"{p.scale:.2f}" for p in now.values()), flush=True)
    met = print_ratios(print_policies(windows))
    if args.fidelity:
        met = print_fidelity(args, windows, base) and met
    if args.keep:
        keep(args, bench, windows)
    return met


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starlane", type=pathlib.Path, default=ROOT / "build/starlane")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/starling.gguf")
    parser.add_argument("--load", type=float, default=0.8, help="share of what the nodes can do")
    parser.add_argument("--seconds", type=float, default=45, help="of requests, for each policy and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--prompt", type=int, default=60, help="words, mean")
    parser.add_argument("--output", type=int, default=24, help="tokens, mean")
    parser.add_argument("--scale", type=float, default=1, help="of the nodes' shares of a core")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fidelity", action=argparse.BooleanOptionalAction, default=True,
                        help="ask the simulator, too")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for profiles, records and logs")
    args = parser.parse_args()
    args.name = args.model.stem
    return args


def main():
    args = parse_options()
    os.environ.setdefault("STARLANE_BIN", str(args.starlane))  # netlab-switch is beside it
    with netlab.Lab(laboratory(args)) as lab:
        met = measure(args, lab)
    print(f"\nmachine: {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} over the last 5 minutes")
    print("repeat: " + " ".join(sys.argv))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
