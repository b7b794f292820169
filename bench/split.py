#!/usr/bin/env python3
"""One model over several machines: Starlane beside llama.cpp's RPC backend on the same ggml, in the network laboratory.

    sudo python3 bench/split.py                       # all parts
    sudo python3 bench/split.py --part a --part b     # some of them
    sudo python3 bench/split.py --quick               # once each, short: does it run?

    a  single-stream decode, two and four stages, links of 0, 1 and 10 ms, beside RPC
    b  eight streams on two stages, one on each core, beside RPC and beside one node alone; with Starlane's own
       kernels, and with ggml's on both sides
    c  time to the first token of a prompt of 1,024 tokens, on two stages and on one
    d  nodes of 100, 50 and 25 % of a core: the planner's split, equal layers, layers by memory; foretold and measured
    e  a model of 4.4 GB on three nodes of 2.5 GB each, and what one of them says alone
    f  what a hop costs a token

Both sides run one thread a stage, with the same cores; they take turns, and what is printed are medians and their
ratios. A link of 10 ms delays each frame by 10 ms in each direction. The models are random weights of real shapes:
speed does not depend on what weights say. Nothing else should run on the machine.
"""
import argparse
import contextlib
import copy
import json
import os
import pathlib
import statistics
import sys
import tempfile

import bench
from split_lab import Alone, Service, links_of, memory_peak, wait_until
from split_peer import ARRANGEMENTS, Peer

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/netlab"))

import netlab  # pylint: disable=wrong-import-position

DELAYS_MS = [0, 1, 10]
STAGES = [2, 4]
N_STREAMS = 8
PROMPT = 1024
SINGLE_GOAL = {0: 1.0, 10: 1.3}
BATCH_PEER_GOAL, BATCH_ALONE_GOAL = 1.9, 1.7
FIRST_GOAL = 1.6
EQUAL_GOAL, MEMORY_GOAL, FORETOLD_GOAL = 1.4, 1.2, 0.10
QUOTAS = {"n1": 1.0, "n2": 0.5, "n3": 0.25}
MEMORIES = {"n1": "1G", "n2": "2G", "n3": "1G"}
"""Machines with much memory are not those that are fast: that is what a split by memory gets wrong."""
KERNELS = "STARLANE_KERNELS"
LARGE_SHAPE, LARGE_MEMORY, LARGE_CONTEXT = "qwen2-7b", "2.5g", 1024


class Table:
    """Rows under a title; remembers whether every goal was met."""

    def __init__(self, title, columns):
        self.title, self.columns, self.rows, self.met = title, columns, [], True
        self.widths = [max(len(name) + 2, 10) for name in columns]
        print(f"\n{title}")
        self._line(columns)

    def _line(self, cells):
        texts = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
        print("  ".join(text.rjust(width) for text, width in zip(texts, self.widths)), flush=True)

    def add(self, *cells):
        self._line(cells)
        self.rows.append(dict(zip(self.columns, cells)))

    def judge(self, cells, value, goal):
        """A row with a ratio and its goal, None where there is none."""
        met = goal is None or value >= goal
        self.met = self.met and met
        self.add(*cells, value, "-" if goal is None else goal, "" if goal is None else "met" if met else "missed")


def pinned(names):
    """{node: core}: one after the other, around."""
    n_cores = os.cpu_count()
    return {name: i % n_cores for i, name in enumerate(names)}


def laboratory(names, **settings):
    """Nodes named so, each with settings of its own: {key: {node: value}}, and a client."""
    nodes = {name: {key: values[name] for key, values in settings.items()} for name in names}
    return {"nodes": {**nodes, "client": {}}}


class Bench:
    """What the parts share: options, models, results."""

    def __init__(self, args):
        self.args, self.results = args, []

    def done(self, table):
        self.results.append(table)

    def rounds(self):
        return range(self.args.rounds)

    def peer_where(self, n_stages):
        return [(arrangement, n_stages, self.args.n_layers) for arrangement in ARRANGEMENTS]


def layers_by(weights, n_layers):
    """So many layers each, in proportion, at least one; largest remainders get what is left."""
    exact = [n_layers * weight / sum(weights) for weight in weights]
    counts = [max(1, int(share)) for share in exact]
    order = sorted(range(len(exact)), key=lambda i: exact[i] - int(exact[i]), reverse=True)
    for i in range(n_layers - sum(counts)):
        counts[order[i % len(order)]] += 1
    return counts


# a, b, c and f: nodes alike

def part_a(run, lab, peer, service):
    table = Table("a. one stream decodes: tokens/s, Starlane beside llama.cpp RPC",
                  ["stages", "link ms", "starlane", "rpc", "by", "ratio", "goal", ""])
    for n_stages in STAGES:
        service.split(n_stages)
        for delay in DELAYS_MS:
            links_of(lab, service.nodes, delay)
            ours, theirs = [], {where: [] for where in run.peer_where(n_stages)}
            for _ in run.rounds():
                ours.append(service.rate(1, run.args.generate))
                for where, rates in theirs.items():
                    rates.append(peer.single(run.args.model, where, run.args.generate)[0])
            best = max(theirs, key=lambda where: statistics.median(theirs[where]))
            mine, rival = statistics.median(ours), statistics.median(theirs[best])
            table.judge([n_stages, delay, mine, rival, best[0]], mine / rival, SINGLE_GOAL.get(delay))
    links_of(lab, service.nodes, 0)
    run.done(table)


def part_b(run, _lab, peer, service):
    kernels = "ggml's" if os.environ.get(KERNELS) == "off" else "Starlane's"
    table = Table(f"b. {N_STREAMS} streams decode on two stages, a core each, {kernels} kernels: tokens/s of all together",
                  ["beside", "starlane", "other", "ratio", "goal", ""])
    service.split(2, n_streams=N_STREAMS)
    ours, one, theirs = [], [], {where: [] for where in run.peer_where(2)}
    with Alone(service) as alone:
        for _ in run.rounds():
            ours.append(service.rate(N_STREAMS, run.args.generate))
            one.append(alone.rate(N_STREAMS, run.args.generate))
            for where, rates in theirs.items():
                rates.append(peer.batch(run.args.model, where, N_STREAMS, run.args.generate, 16))
    best = max(theirs, key=lambda where: statistics.median(theirs[where]))
    mine = statistics.median(ours)
    for name, other, goal in ((f"rpc {best[0]}", theirs[best], BATCH_PEER_GOAL), ("one node", one, BATCH_ALONE_GOAL)):
        other = statistics.median(other)
        table.judge([name, mine, other], mine / other, goal)
    run.done(table)


def part_c(run, _lab, peer, service):
    table = Table(f"c. first token of a prompt of {PROMPT} tokens: seconds",
                  ["beside", "two stages", "other", "ratio", "goal", ""])
    # No token of a prompt but its last meets the output matrix, so halves are of layers alone.
    service.split(2, layers_by([1, 1], run.args.n_layers), n_prompt=PROMPT)
    ours, one, theirs = [], [], []
    with Alone(service) as alone:
        for _ in run.rounds():
            ours.append(service.first_token_s(PROMPT))
            one.append(alone.first_token_s(PROMPT))
            theirs.append(min(peer.single(run.args.model, where, 0, PROMPT)[1] for where in run.peer_where(2)))
    mine = statistics.median(ours)
    for name, other, goal in (("one node", one, FIRST_GOAL), ("rpc", theirs, None)):
        other = statistics.median(other)
        table.judge([name, mine, other], other / mine, goal)
    run.done(table)


def part_f(run, lab, _peer, service):
    table = Table("f. where a token's time goes when one stream decodes: milliseconds",
                  ["stages", "link ms", "a token", "one node", "computing", "links", "hop costs"])
    with Alone(service) as alone:
        for n_stages in STAGES:
            service.split(n_stages)
            for delay in DELAYS_MS:
                links_of(lab, service.nodes, delay)
                ours = [1e3 / service.rate(1, run.args.generate) for _ in run.rounds()]
                one = [1e3 / alone.rate(1, run.args.generate) for _ in run.rounds()]
                compute = sum(hop["compute_ms"] for hop in service.hops())
                links = n_stages * delay
                mine = statistics.median(ours)
                table.add(n_stages, delay, mine, statistics.median(one), compute, float(links),
                          (mine - compute - links) / n_stages)
    links_of(lab, service.nodes, 0)
    run.done(table)


ALIKE = {"a": part_a, "b": part_b, "c": part_c, "f": part_f}


@contextlib.contextmanager
def equal_kernels():
    """Whatever is started meanwhile computes with ggml's kernels, as RPC does."""
    before = dict(os.environ)
    os.environ[KERNELS] = "off"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_alike(run, parts):
    names = [f"n{i + 1}" for i in range(max(STAGES))]
    cores = pinned(names)
    with netlab.Lab(laboratory(names)) as lab, Peer(lab, run.args.peer, names, cores) as peer:
        with Service(lab, run.args, names, cores) as service:
            for part in parts:
                ALIKE[part](run, lab, peer, service)


# d: unequal nodes

def part_d(run):
    names, n_layers = list(QUOTAS), run.args.n_layers
    memory = [float(text[:-1]) for text in MEMORIES.values()]
    splits = {"planned": None, "equal": layers_by([1] * len(names), n_layers), "by memory": layers_by(memory, n_layers)}
    rates, foretold, chains = {key: [] for key in splits}, {}, {}
    with netlab.Lab(laboratory(names, cpu=QUOTAS)) as lab:
        with Service(lab, run.args, names, {"n1": 0, "n2": 1, "n3": 1}, MEMORIES) as service:
            for _ in run.rounds():
                for key, layers in splits.items():
                    plan = service.split(len(names), layers, n_streams=N_STREAMS)
                    foretold[key], chains[key] = plan["tokens_s_total"], service.chain_text()
                    rates[key].append(service.rate(N_STREAMS, run.args.generate))
    table = Table(f"d. 100, 50 and 25 % of a core, {N_STREAMS} streams: tokens/s of all together",
                  ["split", "layers of nodes", "measured", "foretold", "error %", "planned is", "goal", ""])
    mine = statistics.median(rates["planned"])
    for key, goal in (("planned", None), ("equal", EQUAL_GOAL), ("by memory", MEMORY_GOAL)):
        measured = statistics.median(rates[key])
        error = foretold[key] / measured - 1
        table.judge([key, chains[key], measured, foretold[key], 100 * error], mine / measured, goal)
        if key == "planned" and abs(error) > FORETOLD_GOAL:
            table.met = False
    run.done(table)


# e: too large for one

def part_e(run):
    names = ["n1", "n2", "n3"]
    args = copy.copy(run.args)
    args.shape, args.context = LARGE_SHAPE, LARGE_CONTEXT
    args.use_model(bench.make_models(args)["q4_0"])
    with netlab.Lab(laboratory(names, memory=dict.fromkeys(names, LARGE_MEMORY))) as lab:
        with Service(lab, args, names[:1], pinned(names)) as service:
            print(f"\ne. {args.name}, {args.model.stat().st_size / 1e9:.2f} GB, on one node of {LARGE_MEMORY}:")
            print("   " + service.refusal())
            service.join(names[1:])
            wait_until(service.answers, "the three nodes to answer", seconds=600)
            table = Table("   and on three of them", ["layers of nodes ", "tokens/s", "first s", "peak GB n1", "n2", "n3"])
            table.add(service.chain_text(), service.rate(1, run.args.generate // 4), service.first_token_s(64),
                      *[memory_peak(lab, name) / 1e9 for name in names])
    run.done(table)


UNALIKE = {"d": part_d, "e": part_e}


class Options(argparse.Namespace):
    """The command line, and the model that it leads to."""

    def use_model(self, path):
        self.model, self.name = path, path.stem
        shown = json.loads(bench.run([self.starlane, "show", path, "--json"]))
        self.n_layers = shown["architecture"]["layers"]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=[*ALIKE, *UNALIKE], help="only this; may be given again")
    parser.add_argument("--quick", action="store_true", help="one round of a few tokens: numbers mean nothing")
    parser.add_argument("--starlane", type=pathlib.Path, default=ROOT / "build/starlane")
    parser.add_argument("--peer", type=pathlib.Path, default=ROOT / ".deps/peer/bin")
    parser.add_argument("--shared", type=pathlib.Path,
                        default=pathlib.Path(os.environ.get("STARLANE_SHARED", ROOT.parent / "shared")))
    parser.add_argument("--shape", default="qwen2-0.5b")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--generate", type=int, default=96, help="tokens of each stream")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--json", type=pathlib.Path, help="write the tables there, too")
    args = parser.parse_args(namespace=Options())
    if args.quick:
        args.rounds, args.generate = 1, 24
    args.starlane, args.peer = args.starlane.resolve(), args.peer.resolve()  # others run elsewhere
    args.types, args.part = ["q4_0"], args.part or sorted({**ALIKE, **UNALIKE})
    return args


def main():
    args = parse_options()
    os.environ.setdefault("STARLANE_BIN", str(args.starlane))  # netlab-switch is beside it
    args.use_model(bench.make_models(args)["q4_0"])
    run = Bench(args)
    alike = [part for part in args.part if part in ALIKE]
    if alike:
        run_alike(run, alike)
    if "b" in alike:
        with equal_kernels():
            run_alike(run, ["b"])
    for part in args.part:
        if part in UNALIKE:
            UNALIKE[part](run)
    print(f"\nmachine: {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} over the last 5 minutes")
    print("repeat: " + " ".join(sys.argv))
    if args.json:
        args.json.write_text(json.dumps({table.title: table.rows for table in run.results}, indent=1))
    return 0 if all(table.met for table in run.results) else 1


if __name__ == "__main__":
    sys.exit(main())
