#!/usr/bin/env python3
"""Five real nodes of unlike speed: how much the default policy is worth, and how well `starlane sim` foretells it.

    sudo python3 bench/grid.py

A gateway without room for models and five nodes in a laboratory (docs/netlab.md), with unlike shares of a core
and links of 0 to 40 ms. Measures each node in its share (`starlane bench --node-profile`, and what requests take
through the grid while the others are cordoned), then lets requests come at random (Poisson) at --load of what
the nodes can do together. The gateway is started anew with each policy in turn, --rounds times; all policies of
a round get the same requests at the same times. Then the simulator gets the profiles and the recorded arrivals.

The shares sum up to well under a core, and the laboratory's groups have the highest weight, so that the rest of
the machine may be in use; what it does to caches still shows, so the nodes are measured before and after. The
client is a real-time process.
"""
import argparse
import asyncio
import concurrent.futures
import contextlib
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

from sim_fidelity import GOAL_MEAN, GOAL_P99, Answer, ask, line_through, number, percentile, summary

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/netlab"))

import netlab  # pylint: disable=wrong-import-position
from netlab_grid import HTTP_PORT, Grid  # pylint: disable=wrong-import-position

GATEWAY, CLIENT = "g1", "client"
RTT_MS = {"n1": 0, "n2": 2, "n3": 10, "n4": 20, "n5": 40}
SHARES = {"n1": 0.22, "n2": 0.15, "n3": 0.11, "n4": 0.08, "n5": 0.05}
POLICIES = ["balanced", "round-robin", "least-connections"]
GOAL_ROUND_ROBIN, GOAL_LEAST_CONNECTIONS = 2.0, 1.0
TOKENS_PER_WORD = 1.06
"""Of sim_fidelity's words, as the bundled model splits them."""
STREAMS = [2, 4, 8, 16]
"""At a time, to measure a node's steps; beyond the last the simulator's line goes on."""
STEP_TOKENS = 24
BUSY_STREAMS, BUSY_TOKENS = 3, 60
"""Beside them a request is timed: the node then decodes four streams."""
LONE_REQUESTS = 18
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


class Bench:
    """The laboratory, the grid in it, and what was measured."""

    def __init__(self, args, lab):
        self.args, self.lab = args, lab
        self.grid = Grid(lab, args.starlane, args.model.parent)
        self.nodes = list(SHARES)
        self.address = (lab.address(GATEWAY), HTTP_PORT)

    # Starting

    def profile_text(self, name):
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
            tasks.append(asyncio.create_task(ask(self.args, self.address, n_words, n_tokens, Answer(begin + at))))
        return [await task for task in tasks]

    @contextlib.contextmanager
    def others_busy(self, name):
        """As they will be: cores that share caches and pipelines are slower together."""
        command = [str(self.args.starlane), "bench", str(self.args.model), "-t", "1", "-p", "64", "-n", "64", "-r",
                   "1000"]
        burners = [self.lab.start(other, command, stdout=subprocess.DEVNULL) for other in self.nodes if other != name]
        try:
            yield
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()

    async def _probes(self):
        """Requests that come while others decode: [seconds to the first token]."""
        others = [Answer(time.monotonic()) for _ in range(BUSY_STREAMS)]
        tasks = [asyncio.create_task(ask(self.args, self.address, 2, BUSY_TOKENS, answer)) for answer in others]
        while not all(answer.first for answer in others):
            await asyncio.sleep(0.005)
        probes = []
        while not any(task.done() for task in tasks):
            probes.append(await ask(self.args, self.address, 2, 2, Answer(time.monotonic())))
        await asyncio.gather(*tasks)
        return probes[:-1]

    def calibrate(self, name, text):
        """The profile as it is seen through the grid: what requests and streams take in the share of a core that
        all of a node's processes have together."""
        profile = Profile(name, text)
        self.only(name)
        with self.others_busy(name):
            lone = []
            for i in range(LONE_REQUESTS):
                n_words = 1 + i % 6 * self.args.prompt // 3
                lone += self.in_client(self.answers([(0, n_words, STEP_TOKENS)]))
            profile.take_lone(lone)
            for n_streams in STREAMS:
                many = [self.in_client(self.answers([(0, 2, STEP_TOKENS)] * n_streams)) for _ in range(2)]
                profile.take_streams(n_streams, sum(many, []))
            profile.take_probes(self.in_client(self._probes()))
        return profile


    def calibrate_all(self, texts):
        profiles = {name: self.calibrate(name, texts[name]) for name in self.nodes}
        self.only(None)
        # What a token of context costs is little and hard to see, and of a core's time the same everywhere.
        context = statistics.median(profile.context * SHARES[name] for name, profile in profiles.items())
        for name, profile in profiles.items():
            profile.context = context / SHARES[name]
        return profiles


def token_s(answers):
    return statistics.median((a.end - a.first) / (a.output_tokens - 1) for a in answers)


class Profile:
    """A node's entry of the simulator's nodes file."""

    def __init__(self, name, text):
        self.name, self.text, self.steps = name, text, {}
        self.context = number(text, "context_us")
        self.rtt = RTT_MS[name] / 1e3
        self.request, self.delay = 0.0, 0.0
        # Of prompts one after the other: a lone one begins with an unused share, and looks too fast.
        self.per_token = 1 / number(text, "prefill")

    def take_lone(self, lone):
        request, _ = line_through([(a.prompt_tokens, a.first - a.due) for a in lone])
        self.request = max(0.0, request - self.rtt)
        self.steps[1] = token_s(lone)

    def take_streams(self, n_streams, answers):
        self.steps[n_streams] = max(token_s(answers), max(self.steps.values()))

    def take_probes(self, probes):
        """What a first token takes on a busy node beyond its step and half of the one before it: the node's
        processes wait for each other."""
        step = self.steps[4]
        beyond = statistics.fmean(a.first - a.due - self.per_token * a.prompt_tokens for a in probes)
        self.delay = max(0.0, beyond - self.rtt - self.request - 1.5 * step)

    def mean(self, other):
        """Of both, for what ran between them: how fast a core is changes with what the others do."""
        both = Profile(self.name, self.text)
        for key in ("request", "delay", "per_token", "context"):
            setattr(both, key, (getattr(self, key) + getattr(other, key)) / 2)
        both.steps = {n: (seconds + other.steps[n]) / 2 for n, seconds in self.steps.items()}
        return both

    def request_s(self, n_prompt, n_output):
        """What one more request takes of the node's time when many run."""
        n_streams = max(self.steps)
        return self.request + n_prompt * self.per_token + n_output * self.steps[n_streams] / n_streams

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

    def numbers(self):
        return [a.first - a.due for a in self.answers], [a.end - a.due for a in self.answers]


def arrivals_of(args, rate, seed):
    rng, at, found = random.Random(seed), 0.0, []
    while (at := at + rng.expovariate(rate)) < args.seconds:
        n_words = min(max(1, round(rng.expovariate(1 / args.prompt))), 4 * args.prompt)
        n_tokens = min(max(2, round(rng.expovariate(1 / args.output))), 4 * args.output)
        found.append((at, n_words, n_tokens))
    return found


def sent_of(bench):
    return {name: node["sent"] for name, node in bench.grid.nodes().items() if name in SHARES}


def window(bench, policy, arrivals):
    bench.policy(policy)
    before = sent_of(bench)
    answers = bench.in_client(bench.answers(arrivals))
    after = sent_of(bench)
    return Window(policy, answers, {name: after[name] - before[name] for name in after})


def predict(args, profiles, one, folder):
    nodes, trace = folder / "nodes.yaml", folder / "trace.jsonl"
    nodes.write_text(f"models:\n  - {{name: {args.name}}}\nnodes:\n" +
                     "".join(profile.entry() for profile in profiles.values()), encoding="ascii")
    begin = min(a.due for a in one.answers) - 5
    # What a request takes besides its tokens is the node's time too, and as much more on a slow one.
    more = statistics.median(profile.request / profile.per_token for profile in profiles.values())
    trace.write_text("".join(json.dumps({"timestamp": (a.due - begin) * 1e3,
                                         "input_length": round(a.prompt_tokens + more),
                                         "output_length": a.output_tokens, "model": args.name,
                                         "class": "standard"}) + "\n"
                             for a in one.answers), encoding="ascii")
    command = [args.starlane, "sim", "--nodes", nodes, "--trace", trace, "--policy", one.policy, "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)["policies"][0]


def print_profiles(profiles, args):
    print(f"{'node':6}{'share':>7}{'rtt ms':>8}{'request ms':>12}{'delay ms':>10}{'prompt/s':>10}{'step ms: 1':>12}" +
          "".join(f"{n:>9}" for n in STREAMS) + f"{'requests/s':>12}")
    for name, p in profiles.items():
        print(f"{name:6}{SHARES[name] * args.scale:7.0%}{RTT_MS[name]:8}{1e3 * p.request:12.1f}{1e3 * p.delay:10.1f}"
              f"{1 / p.per_token:10.0f}{1e3 * p.steps[1]:12.1f}" +
              "".join(f"{1e3 * p.steps[n]:9.1f}" for n in STREAMS) +
              f"{1 / p.request_s(args.prompt * TOKENS_PER_WORD, args.output):12.2f}")


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


def print_fidelity(args, profiles, windows, folder):
    print(f"\n{'policy':20}{'':12}{'real s':>9}{'sim s':>9}{'error':>9}{'goal':>7}")
    met = True
    for policy in dict.fromkeys(w.policy for w in windows):
        mine = [w for w in windows if w.policy == policy]
        real = summary(*[[x for w in mine for x in w.numbers()[i]] for i in range(2)])
        sims = [predict(args, profiles, w, folder) for w in mine]
        for key, value in real.items():
            long = {"ttft": "first_token_s", "total": "total_s"}[key.split()[0]]
            at = key.split()[1]
            foretold = statistics.fmean(sim[long][at] for sim in sims)
            goal = GOAL_P99 if at == "p99" else GOAL_MEAN
            error = foretold / value - 1
            met = met and (policy != POLICIES[0] or abs(error) <= goal)
            print(f"{policy:20}{key:12}{value:9.3f}{foretold:9.3f}{error:+9.1%}{goal:7.0%}")
    return met


def keep(args, bench, profiles, windows):
    """For questions that come later."""
    args.keep.mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(windows):
        rows = [[a.due, a.first, a.end, a.prompt_tokens, a.output_tokens] for a in one.answers]
        (args.keep / f"{i}-{one.policy}.json").write_text(json.dumps(rows), encoding="ascii")
        predict(args, profiles, one, args.keep)
        (args.keep / "trace.jsonl").rename(args.keep / f"{i}-{one.policy}.jsonl")
    for name in [GATEWAY, *SHARES]:
        (args.keep / f"{name}.log").write_bytes(bench.lab.log(name).read_bytes())


def measure(args, lab, folder):
    bench = Bench(args, lab)
    favour(lab, [GATEWAY, CLIENT, *SHARES])
    before = bench.profile_all()
    bench.start()
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(5))
    profiles = bench.calibrate_all(before)
    print_profiles(profiles, args)
    capacity = sum(1 / p.request_s(args.prompt * TOKENS_PER_WORD, args.output) for p in profiles.values())
    rate = args.load * capacity
    print(f"\n{capacity:.2f} requests/s in all; {rate:.2f} of them come, {args.seconds:g} s for each policy, "
          f"{args.rounds} times", flush=True)
    windows = []
    for turn in range(args.rounds):
        for policy in args.policies.split(","):
            windows.append(window(bench, policy, arrivals_of(args, rate, args.seed + turn)))
            print(f"  {policy}: {len(windows[-1].answers)} answers", flush=True)
    met = print_ratios(print_policies(windows))
    if args.fidelity:
        after = bench.calibrate_all(bench.profile_all())
        profiles = {name: profile.mean(after[name]) for name, profile in profiles.items()}
        print("\nonce more; the simulator gets the means")
        print_profiles(after, args)
        met = print_fidelity(args, profiles, windows, folder) and met
    if args.keep:
        keep(args, bench, profiles, windows)
    return met


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starlane", type=pathlib.Path, default=ROOT / "build/starlane")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/starling.gguf")
    parser.add_argument("--load", type=float, default=0.8, help="share of what the nodes can do")
    parser.add_argument("--seconds", type=float, default=60, help="of requests, for each policy and round")
    parser.add_argument("--rounds", type=int, default=1)
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
    with tempfile.TemporaryDirectory() as temporary, netlab.Lab(laboratory(args)) as lab:
        met = measure(args, lab, pathlib.Path(temporary))
    print(f"\nmachine: {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} over the last 5 minutes")
    print("repeat: " + " ".join(sys.argv))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
