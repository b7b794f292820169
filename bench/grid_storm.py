#!/usr/bin/env python3
"""A storm over a grid of real processes: kills, partitions, clocks that jump and disks that fill,
under constant load, with every answer compared with that of a quiet run.

    sudo python3 bench/grid_storm.py --seconds 600 --seed 1

Two gateways and five nodes of unlike speed behind links of 0 to 40 ms, as processes in network
namespaces (docs/netlab.md). A client that loses its gateway asks the other one again, as any client
does; all else has to be the grid's business. Prints what happened, then the numbers; exits with 1
when a request failed or an answer differs. docs/storm.md says more.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/netlab"))

import netlab  # pylint: disable=wrong-import-position
from netlab_grid import Counters, Grid, Load, percentile  # pylint: disable=wrong-import-position
from netlab_storm import (  # pylint: disable=wrong-import-position
    GATEWAYS, KINDS, LAB, NODES, Storm, bodies, counting, start_grid)

SHOWN_FAILURES = 20
SLOW_S = 2
"""A pause that is looked into."""


def quiet_run(grid, wanted):
    """{body as JSON: text}, each asked for twice, at both gateways."""
    texts = {}
    for gateway in GATEWAYS:
        load = Load(grid, [gateway], texts)
        for body in wanted:
            load.send(body)
        load.finish()
        if load.failures:
            raise SystemExit(f"the quiet run failed: {load.failures[0][1]}")
        texts = load.texts
    return texts


def arrivals(rng, wanted, rate, seconds):
    at = 0.0
    while at < seconds:
        yield at, rng.choice(wanted)
        at += rng.expovariate(rate)


def report(load, storm, sums, seconds):
    first = [answer.first for answer in load.answers]
    total = [answer.total for answer in load.answers]
    gaps = [answer.longest_gap for answer in load.answers]
    numbers = {
        "seconds": seconds, "disasters": storm.n_disasters,
        "requests": len(load.answers) + len(load.failures),
        "failed, or with another answer": len(load.failures),
        "asked again after their gateway's death": sum(one.asked > 1 for one in load.answers),
        "resumed on another node": sums["resumed"],
        "sent again before the first token": sums["moved"] + sums["retried"] - sums["resumed"],
        "first token p50/p99/max s":
            [percentile(first, .5), percentile(first, .99), max(first, default=0)],
        "whole answer p50/p99/max s":
            [percentile(total, .5), percentile(total, .99), max(total, default=0)],
        "longest pause within an answer p50/p99/max s":
            [percentile(gaps, .5), percentile(gaps, .99), max(gaps, default=0)],
    }
    for name, value in numbers.items():
        if isinstance(value, list):
            value = " / ".join(f"{one:.2f}" for one in value)
        print(f"{name:50} {value}")
    print("counters of the gateways:", json.dumps(sums))
    for at, why, body in load.failures[:SHOWN_FAILURES]:
        print(f"FAILED at {at - storm.began:.1f} s: {why} {json.dumps(body)}")
    if storm.failure:
        print(f"THE STORM FAILED: {storm.failure}")


def keep_logs(lab, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in GATEWAYS + NODES:
        shutil.copy(lab.log(name), folder / f"{name}.log")
        for log in lab.home(name).rglob("*.log"):
            shutil.copy(log, folder / f"{name}-{log.name}")


class SlowAnswers:
    """Why each answer that paused for long ran where it ran, asked while its gateway knows."""

    def __init__(self, grid, storm):
        self.grid, self.storm, self.lines = grid, storm, []

    def look(self, answer):
        if max(answer.first, answer.longest_gap) < SLOW_S:
            return
        why = self.grid.get(answer.gateway, f"/grid/v1/explain?request={answer.request_id}") or {}
        attempts = [f"{one.get('name')} {one['sent_ms']}..{one.get('ended_ms')} ms, tokens "
                    f"{one['from_token']}..{one.get('to_token')}, {one.get('end')}"
                    for one in why.get("attempts", [])]
        self.lines.append(f"{answer.began - self.storm.began:.1f} s: first {answer.first:.2f}, "
                          f"total {answer.total:.2f}, pause {answer.longest_gap:.2f} s, asked "
                          f"{answer.asked} times, {answer.gateway}: {'; '.join(attempts)}\n")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starlane", type=pathlib.Path, default=ROOT / "build/starlane")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "models")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=1, help="requests a second")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--pause", type=float, default=4, help="seconds between disasters, at most")
    parser.add_argument("--only", action="append", choices=KINDS, help="this kind of disaster")
    parser.add_argument("--logs", type=pathlib.Path, help="a folder to keep the machines' logs in")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    return parser.parse_args()


def main():
    options = parse_options()
    os.environ.setdefault("STARLANE_BIN", str(options.starlane))  # netlab-switch is beside it
    print(f"seed {options.seed}", flush=True)
    with netlab.Lab(LAB) as lab:
        grid = Grid(lab, options.starlane, options.models)
        start_grid(grid)
        wanted = bodies(options.tokens)
        expected = quiet_run(grid, wanted)
        print(f"the grid is up: {len(GATEWAYS)} gateways, {len(NODES)} nodes; "
              f"{len(expected)} answers known", flush=True)
        storm = Storm(grid, random.Random(options.seed), options.pause)
        load, slow = Load(grid, GATEWAYS, expected), SlowAnswers(grid, storm)
        load.on_answer = slow.look
        with counting(Counters(grid)) as counters:
            with storm.over(options.seconds, options.only or KINDS):
                load.run(arrivals(random.Random(options.seed + 1), wanted, options.rate,
                                  options.seconds))
            load.finish()
        storm.check_breaks(load)
        report(load, storm, counters.sums(), options.seconds)
        if options.logs:
            keep_logs(lab, options.logs)
            (options.logs / "slow.txt").write_text("".join(slow.lines))
    return 1 if load.failures or storm.failure or not load.answers else 0


if __name__ == "__main__":
    sys.exit(main())
