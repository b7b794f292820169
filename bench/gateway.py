#!/usr/bin/env python3
"""What the gateway adds to an engine's own latency, and how many streams it carries at once.

Starts `starlane serve --echo` and asks its scripted engine for one token at set rates (open loop: a
latency counts from the time a request was due). The same engine asked without a gateway, and GET
/health, which is the HTTP server alone, are measured beside it in the same run. Generator, gateway
and engine share this machine. Every answer waits for its row of usage in SQLite.
Prints a table of medians over the rounds, the quietest round, and the command that repeats it.
"""
import argparse
import json
import os
import pathlib
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import urllib.request

from serve_prefix import Server, free_port

ADDED_P99_US = 500
RATE_OF_FLOOR = 10000
MODEL = "echo:?text=x&tokens=1"
COMPLETIONS = "/v1/completions"
BODY = json.dumps({"model": MODEL, "prompt": "Hello", "max_tokens": 1})
STREAM_TEXT = "starlane "
PERCENTILES = ["p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"]


def run_json(command, environment=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False,
                          env={**os.environ, **(environment or {})})
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def threads(pid):
    """{name: CPU time in ns} of the gateway's threads and its workers."""
    found = {}
    for process in [pid, *children(pid)]:
        for task in pathlib.Path(f"/proc/{process}/task").iterdir():
            name = "worker" if process != pid else "loop" if int(task.name) == pid else "others"
            found[name] = found.get(name, 0) + int((task / "schedstat").read_text().split()[0])
    return found


def resident_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


class Bench:
    def __init__(self, args, home):
        self.args = args
        self.port = free_port()
        self.tools = args.starlane.parent / "bench"
        command = [args.starlane, "serve", "--echo", "--port", self.port, "--queue", 65536]
        self.server = Server(command, self.port, {"STARLANE_HOME": str(home)})
        self.server.wait("/health", lambda status, body: status == 200)
        self.pid = self.server.process.pid
        self.n_asked = 0  # requests that owe a row of usage

    def load(self, rate, *more):
        schedule = ["--poisson"] if self.args.poisson else []
        return [self.tools / "open_loop", "--port", self.port, "--rate", rate,
                "--seconds", self.args.seconds, "--warmup", 0.5,
                "--connections", self.args.connections, *schedule, *more]

    def gateway(self, rate):
        before = threads(self.pid)
        result = run_json(self.load(rate, "--path", COMPLETIONS, "--body", BODY,
                                    "--expect", '"text":"x"'))
        after = threads(self.pid)
        self.n_asked += result["sent"]
        result["cpu"] = {name: (after[name] - before.get(name, 0)) / 1e3 / result["sent"]
                         for name in after}
        return result

    def http(self, rate):
        return run_json(self.load(rate, "--path", "/health"))

    def engine(self, rate):
        schedule = ["--poisson"] if self.args.poisson else []
        return run_json([self.tools / "engine_loop", "--model", MODEL, "--rate", rate, "--seconds",
                         self.args.seconds, "--warmup", 0.5, *schedule],
                        {"STARLANE_BIN": str(self.args.starlane)})

    def streams(self):
        """(result, RSS in KiB before and after)."""
        model = (f"echo:?text={STREAM_TEXT.replace(' ', '+')}&tokens={self.args.tokens}"
                 f"&pace_us={self.args.pace_us}")
        request = {"model": model, "prompt": "Hello", "max_tokens": self.args.tokens}
        body = json.dumps({**request, "stream": True})
        one = json.dumps({**request, "max_tokens": 1}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}{COMPLETIONS}", one).read()
        before = resident_kib(self.pid)
        result = run_json([self.tools / "open_loop", "--port", self.port, "--path", COMPLETIONS,
                           "--body", body, "--streams", self.args.streams,
                           "--tokens", self.args.tokens, "--expect", STREAM_TEXT])
        self.n_asked += 1 + result["sent"]
        return result, before, resident_kib(self.pid)

    def end(self, home):
        """Ends the server. Returns how many rows its table then has."""
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait()
        database = sqlite3.connect(home / "state.db")
        return database.execute("SELECT count(*) FROM usage").fetchone()[0]


def medians(results):
    return {name: statistics.median(r[name] for r in results)
            for name in [*PERCENTILES, "rate", "errors"]}


def print_row(rate, name, results):
    middle, quietest = medians(results), min(r["p99_us"] for r in results)
    cells = "".join(f"{middle[p]:>10.0f}" for p in PERCENTILES)
    print(f"{rate:>7} {name:<10}{cells}{quietest:>12.0f}{sum(r['errors'] for r in results):>8}")
    return middle, quietest


def measure_rates(bench, args):
    """Errors, and the (median, quietest) p99 that the gateway adds at the floor's rate."""
    heads = "".join(f"{name:>10}" for name in ["p50", "p90", "p99", "p99.9", "max"])
    print(f"{'req/s':>7} {'what':<10}{heads}{'least p99':>12}{'errors':>8}   (us)")
    kinds = [("engine", bench.engine), ("http", bench.http), ("gateway", bench.gateway)]
    errors, added = 0, None
    for rate in args.rates:
        rounds = {name: [] for name, _ in kinds}
        for _ in range(args.rounds):
            for name, measure in kinds:
                rounds[name].append(measure(rate))
        rows = {name: print_row(rate, name, rounds[name]) for name, _ in kinds}
        difference = [rows["gateway"][0][p] - rows["engine"][0][p] for p in PERCENTILES]
        least = rows["gateway"][1] - rows["engine"][1]
        cells = "".join(f"{d:>10.0f}" for d in difference)
        print(f"{rate:>7} {'added':<10}{cells}{least:>12.0f}")
        cpu = [r["cpu"] for r in rounds["gateway"]]
        print(" " * 8 + "CPU us/request: " + ", ".join(
            f"{name} {statistics.median(c.get(name, 0) for c in cpu):.1f}" for name in cpu[0]))
        errors += sum(r["errors"] for results in rounds.values() for r in results)
        if rate == RATE_OF_FLOOR:
            # An engine that was disturbed would make the gateway look better than it is.
            added = (rows["gateway"][0]["p99_us"] - rows["engine"][1], least)
    return errors, added


def measure_streams(bench, args):
    result, before, after = bench.streams()
    n_whole = result["requests"] - result["errors"]
    last_s, pace_s = result["max_us"] / 1e6, (args.tokens - 1) * args.pace_us / 1e6
    print(f"{args.streams} streams at once, {args.tokens} tokens each, one in {args.pace_us} us: "
          f"{n_whole} whole, {n_whole * args.tokens / last_s:.0f} tokens/s; last after "
          f"{last_s:.2f} s (the engine's pace: {pace_s:.2f} s); RSS {before} KiB before, "
          f"{after} KiB after")
    return n_whole == args.streams


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starlane", type=pathlib.Path, default=pathlib.Path("build/starlane"))
    parser.add_argument("--home", type=pathlib.Path,
                        help="folder on the disk to measure; default: a fresh one in /var/tmp")
    parser.add_argument("--rates", type=int, nargs="+", default=[1000, 5000, RATE_OF_FLOOR])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--poisson", action="store_true",
                        help="arrivals as of independent clients; else evenly spaced")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--pace-us", type=int, default=50000)
    args = parser.parse_args()
    args.starlane = args.starlane.resolve()
    return args


def main():
    args = parse()
    print(f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f}; generator on the same "
          f"machine; {'Poisson' if args.poisson else 'evenly spaced'} arrivals, "
          f"{args.connections} connections; medians of {args.rounds} rounds of {args.seconds:g} s")
    with tempfile.TemporaryDirectory(dir=args.home or "/var/tmp") as folder:
        home = pathlib.Path(folder)
        bench = Bench(args, home)
        try:
            errors, added = measure_rates(bench, args)
            whole = measure_streams(bench, args)
        finally:
            n_rows = bench.end(home)
    print(f"usage rows stored: {n_rows} of {bench.n_asked}")
    passed = whole and not errors and n_rows == bench.n_asked
    if added:
        passed = passed and added[0] < ADDED_P99_US
        print(f"added p99 at {RATE_OF_FLOOR} req/s: {added[0]:.0f} us, {added[1]:.0f} us in the "
              f"quietest rounds, over the engine's quietest (floor: {ADDED_P99_US} us)")
    print(f"repeat: {' '.join(['python3', *sys.argv])}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
