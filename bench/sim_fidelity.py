#!/usr/bin/env python3
"""How well `starlane sim` predicts a real machine.

Measures this machine's profile (`starlane bench --node-profile`, and what a lone request takes beside the
engine), lets a real `starlane serve` answer requests that come at random (Poisson), records each one's time,
prompt and answer, and gives the simulator the profile and the record. Prints what was and what was predicted:
time to the first token and to the last, mean and p99, with the errors. Both sides share this machine, and so
does the client: nothing else should run on it (`chrt -r 5` in front keeps others off).
"""
import argparse
import asyncio
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

from serve_prefix import Server, free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOAL_MEAN, GOAL_P99 = 0.10, 0.20
WORDS = "the cat saw a small red bird on top of an old tree and ran to tell the others about it".split()


class Answer:
    """One request's story, seconds on the client's clock."""

    def __init__(self, due):
        self.due, self.first, self.end = due, None, None
        self.prompt_tokens = self.output_tokens = 0
        self.request = self.node = self.at = None


async def ask(args, address, n_words, n_tokens, answer):
    prompt = " ".join(random.choice(WORDS) for _ in range(n_words))
    body = json.dumps({"model": args.name, "prompt": prompt, "max_tokens": n_tokens, "temperature": 0,
                       "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    usage, line, said = None, b"", b""
    while line := await reader.readline():
        said = line or said
        if line.lower().startswith(b"x-starlane-request-id:"):
            answer.request = line.split(b":")[1].strip().decode()
        if not line.startswith(b"data: {"):
            continue
        if answer.first is None:
            answer.first = time.monotonic()
        if b'"usage":{' in line:
            usage = json.loads(line[6:])["usage"]
        elif b'"error"' in line:
            sys.exit(line.decode())
        else:
            answer.end = time.monotonic()
    writer.close()
    if not usage:
        sys.exit(f"an answer without usage; last: {said.decode().strip()}")
    answer.prompt_tokens, answer.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
    return answer


async def load(args, address):
    """Requests at random times, whatever became of those before."""
    begin, due, tasks = time.monotonic() + 0.2, 0.0, []
    while due < args.seconds:
        await asyncio.sleep(max(0, begin + due - time.monotonic()))
        n_words = max(1, round(random.expovariate(1 / args.prompt)))
        n_tokens = max(2, round(random.expovariate(1 / args.output)))
        tasks.append(asyncio.create_task(ask(args, address, min(n_words, 200), min(n_tokens, 200),
                                             Answer(begin + due))))
        due += random.expovariate(args.rate)
    return [await task for task in tasks]


async def alone(args, address, n):
    answers = []
    for i in range(n):
        n_words = 1 + i % 8 * args.prompt // 4
        answers.append(await ask(args, address, n_words, args.output, Answer(time.monotonic())))
        await asyncio.sleep(0.02)
    return answers


def profile_measure(args):
    """The entry's text."""
    command = [args.starlane, "bench", args.model, "--node-profile", "-t", args.threads, "-p", 128, "-n", 48,
               "-r", 5]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else sys.exit(done.stderr)


def number(text, key):
    return float(re.search(rf"\b{key}: ([0-9.]+)", text)[1])


def line_through(points):
    """(at 0, slope): the median of all pairs' slopes, which a disturbed point does not move (Theil, Sen)."""
    slope = statistics.median((y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points)
                              for x2, y2 in points[:i] if x1 != x2)
    return statistics.median(y - slope * x for x, y in points), slope


def calibrate(text, answers, slots):
    """The engine's profile as it is seen through the service: what lone requests take."""
    overhead, per_token = line_through([(a.prompt_tokens, a.first - a.due) for a in answers])
    first_step, context = number(text, "ms") / 1e3, number(text, "context_us") / 1e6
    extra = statistics.median((a.end - a.first) / (a.output_tokens - 1) - first_step -
                              context * (a.prompt_tokens + a.output_tokens / 2) for a in answers)
    text = re.sub(r"ms: ([0-9.]+)}", lambda m: f"ms: {float(m[1]) + max(0, extra) * 1e3:.4f}}}", text)
    text = re.sub(r"slots: \d+", f"slots: {slots}", text)
    text = re.sub(r"prefill: [0-9.]+", f"prefill: {1 / per_token:.1f}", text)
    text = re.sub(r"prefill_ms: [0-9.]+", "prefill_ms: 0", text)
    return text.replace("    slots:", f"    overhead_ms: {max(0, overhead) * 1e3:.4f}\n    slots:", 1)


def percentile(values, share):
    values = sorted(values)
    return values[max(0, -(-len(values) * share // 1).__int__() - 1)]


def summary(firsts, totals):
    return {"ttft mean": statistics.fmean(firsts), "ttft p99": percentile(firsts, 0.99),
            "total mean": statistics.fmean(totals), "total p99": percentile(totals, 0.99)}


def predict(args, profile, answers, folder):
    nodes, trace = folder / "node.yaml", folder / "trace.jsonl"
    nodes.write_text(f"models:\n  - {{name: {args.name}}}\nnodes:\n{profile}")
    begin = min(a.due for a in answers) - 1
    trace.write_text("".join(json.dumps({"timestamp": (a.due - begin) * 1e3, "input_length": a.prompt_tokens,
                                         "output_length": a.output_tokens, "model": args.name}) + "\n"
                             for a in answers))
    command = [args.starlane, "sim", "--nodes", nodes, "--trace", trace, "--hedge", 0, "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    row = json.loads(done.stdout)["policies"][0]
    return {f"{short} {at}": row[long][at] for short, long in (("ttft", "first_token_s"), ("total", "total_s"))
            for at in ("mean", "p99")}, row["utilisation"]


def measure(args, folder):
    profile = profile_measure(args)
    port = free_port()
    command = [args.starlane, "serve", args.model, "--port", port, "--grpc-port", -1, "--threads", args.threads,
               "--no-prefix-cache", "--parallel", args.parallel]
    server = Server(command, port, {"STARLANE_HOME": str(folder / "home")})
    try:
        server.wait("/health", lambda status, body: status == 200)
        lone = asyncio.run(alone(args, ("127.0.0.1", port), 48))[8:]
        answers = asyncio.run(load(args, ("127.0.0.1", port)))
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()
    return calibrate(profile, lone, args.parallel), answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starlane", type=pathlib.Path, default=ROOT / "build/starlane")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/starling.gguf")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=20, help="requests a second")
    parser.add_argument("--prompt", type=int, default=60, help="words, mean")
    parser.add_argument("--output", type=int, default=50, help="tokens, mean")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the profile and the record")
    args = parser.parse_args()
    args.name = args.model.stem
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or pathlib.Path(temporary)
        os.makedirs(folder, exist_ok=True)
        profile, answers = measure(args, folder)
        predicted, busy = predict(args, profile, answers, folder)
    real = summary([a.first - a.due for a in answers], [a.end - a.due for a in answers])
    print(profile)
    print(f"{len(answers)} requests in {args.seconds:g} s, {100 * busy:.0f} % of the engine's time\n")
    print(f"{'':12}{'real ms':>10}{'sim ms':>10}{'error':>9}{'goal':>8}")
    met = True
    for key, value in real.items():
        goal = GOAL_P99 if key.endswith("p99") else GOAL_MEAN
        error = predicted[key] / value - 1
        met = met and abs(error) <= goal
        print(f"{key:12}{value * 1e3:10.1f}{predicted[key] * 1e3:10.1f}{error:+9.1%}{goal:8.0%}")
    print("\nrepeat: " + " ".join(sys.argv))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
