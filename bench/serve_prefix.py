#!/usr/bin/env python3
"""Eight clients share a long system prompt: Starlane beside llama-server on the same ggml, in turn.

Each client sends three requests one after the other: the same words first, then a question of its
own; answers are streamed. Both servers start anew for each round, so nothing is cached before it.
Prints the medians of the rounds, and ratios (theirs over ours: more is better for us). The model
has random weights of the Qwen2 0.5B shape: speed does not depend on what the weights say.
"""
import argparse
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench

WORDS = ("the of and to in that it was his her with as had for she not at but be on they have him "
         "which said from all this by were are so you one out up them then what little about when "
         "could into some no like over down time would very two").split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server process that is ready once /health says so."""

    def __init__(self, command, port, environment=None):
        self.port = port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(c) for c in command], stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(environment or {})})

    def wait(self, path, ready, limit_s=30):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", path)
                response = connection.getresponse()
                if ready(response.status, response.read()):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.log.seek(0)
        sys.exit(f"a server did not start:\n{self.log.read().decode()[-2000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_ours(args, home):
    port = free_port()
    server = Server([args.starlane, "serve", args.model, "--port", port, "--threads", args.threads,
                     "--ctx", args.ctx], port, {"STARLANE_HOME": home})
    server.wait("/v1/models", lambda status, body: status == 200 and any(
        m["id"] == args.model.stem and m["status"]["value"] == "loaded"
        for m in json.loads(body)["data"]))
    return server


def start_peer(args, _home):
    port = free_port()
    server = Server([args.peer / "llama-server", "-m", args.model, "--port", port,
                     "-t", args.threads, "-np", args.clients, "-c", args.ctx * args.clients], port)
    server.wait("/health", lambda status, _: status == 200)
    return server


def ask(args, port, prompt):
    """(seconds to the first chunk, seconds in all, tokens)."""
    body = {"model": args.model.stem, "prompt": prompt, "max_tokens": args.tokens, "stream": True,
            "temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        sys.exit(f"status {response.status}: {response.read().decode()}")
    first, tokens = None, None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        first = first or time.monotonic() - begin
        usage = json.loads(line[6:]).get("usage")
        tokens = usage["completion_tokens"] if usage else tokens
    return first, time.monotonic() - begin, tokens


def round_of(args, start, seed, home):
    """{total_s, ttft_p50_s, ttft_p99_s} of one round on a server just started."""
    rng = random.Random(seed)
    prefix = " ".join(rng.choice(WORDS) for _ in range(args.words))
    prompts = [[f"{prefix}\n\nQuestion {c}-{r}: {' '.join(rng.choice(WORDS) for _ in range(12))}?"
                for r in range(args.requests)] for c in range(args.clients)]
    server, results = start(args, home), []

    def client(mine):
        for prompt in mine:
            results.append(ask(args, server.port, prompt))

    threads = [threading.Thread(target=client, args=(mine,)) for mine in prompts]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = time.monotonic() - begin
    server.stop()
    if len(results) != args.clients * args.requests or any(r[2] != args.tokens for r in results):
        sys.exit(f"answers are missing or short: {results}")
    first = sorted(r[0] for r in results)
    return {"total_s": total, "ttft_p50_s": statistics.median(first),
            "ttft_p99_s": first[min(len(first) - 1, int(0.99 * len(first)))]}


def parse():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--starlane", type=pathlib.Path, default=bench.ROOT / "build/starlane")
    p.add_argument("--peer", type=pathlib.Path, default=bench.ROOT / ".deps/peer/bin")
    p.add_argument("--shared", type=pathlib.Path,
                   default=os.environ.get("STARLANE_SHARED", bench.ROOT.parent / "shared"))
    p.add_argument("--model", type=pathlib.Path, help="a GGUF; made with random weights without it")
    p.add_argument("--clients", type=int, default=8)
    p.add_argument("--requests", type=int, default=3, help="of each client, one after the other")
    p.add_argument("--words", type=int, default=400, help="of the shared prefix")
    p.add_argument("--tokens", type=int, default=32, help="of each answer")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--ctx", type=int, default=1024, help="of each sequence")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", type=pathlib.Path, help="also write the result here")
    args = p.parse_args()
    if not args.model:
        args.shape, args.types = "qwen2-0.5b", ["q4_0"]
        args.model = bench.make_models(args)["q4_0"]
    return args


# what a ratio (theirs over ours) must reach
FLOORS = {"total_s": 1.8, "ttft_p50_s": 1.0, "ttft_p99_s": 4.0}


def main():
    args = parse()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as home:
        for i in range(args.rounds):
            theirs.append(round_of(args, start_peer, i, home))
            ours.append(round_of(args, start_ours, i, home))
            print(f"round {i + 1}: ours {ours[-1]}, llama-server {theirs[-1]}", file=sys.stderr)
    met, rows = True, {}
    print(f"{args.clients} clients x {args.requests} requests, {args.words} shared words, "
          f"{args.tokens} tokens, {args.threads} threads, {args.model.name}")
    print(f"{'':12} {'starlane':>9} {'llama-server':>13} {'ratio':>6} {'floor':>6}")
    for name, floor in FLOORS.items():
        a, b = (statistics.median(r[name] for r in rows) for rows in (ours, theirs))
        met = met and b / a >= floor
        rows[name] = {"ours": a, "theirs": b, "ratio": b / a, "floor": floor}
        verdict = "" if b / a >= floor else "MISSED"
        print(f"{name:12} {a:9.3f} {b:13.3f} {b / a:6.2f} {floor:6.1f} {verdict}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))
    print(f"to repeat: bench/serve_prefix.py {' '.join(sys.argv[1:])}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
