#!/usr/bin/env python3
"""Speed beside llama.cpp built from the same ggml, in one run, alternating.

Prints a table of medians and ratios (ours over the peer's) and the command that repeats it. The models
are random weights of the Qwen2 0.5B shape: speed does not depend on what the weights say.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TYPES = ["q4_0", "q4_K_M", "q8_0"]
SINGLE_FLOOR = 0.98
BATCH_FLOOR = 1.1
FIRST_TOKEN_MS = 100
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "starlane/bench"


def run(command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
    return done.stdout


def make_models(args):
    """{type: path} of the benchmark models, made once."""
    paths = {}
    CACHE.mkdir(parents=True, exist_ok=True)
    for kind in args.types:
        path = CACHE / f"{args.shape}-{kind}-1.gguf"
        if not path.exists():
            print(f"making {path.name} (random weights) ...", file=sys.stderr)
            run([args.starlane.parent / "bench/make_model", "--shape", args.shape, "--type", kind,
                 "--vocab-from", args.shared / "data/tokenizers/ggml-vocab-qwen2.gguf", "--seed", 1, path])
        paths[kind] = path
    return paths


def ours_single(args, model, threads):
    """(prefill, decode) in tokens/s."""
    out = json.loads(run([args.starlane, "bench", model, "-p", args.prompt, "-n", args.generate, "-t", threads,
                          "-r", 1, "--json"]))
    return out["prefill_tps"], out["decode_tps"]


def peer_single(args, model, threads):
    out = json.loads(run([args.peer / "llama-bench", "-m", model, "-p", args.prompt, "-n", args.generate,
                          "-t", threads, "-r", 1, "-o", "json"]))
    return (next(o["avg_ts"] for o in out if o["n_gen"] == 0),
            next(o["avg_ts"] for o in out if o["n_prompt"] == 0))


def ours_batch(args, model, sizes):
    """{sequences: tokens/s of all together}."""
    out = json.loads(run([args.starlane, "bench", model, "-p", 0, "-n", args.generate, "-t", args.threads[-1],
                          "-r", 1, "-b", ",".join(map(str, sizes)), "--json"]))
    return {b["batch"]: b["decode_tps"] for b in out["batches"]}


def peer_batch(args, model, sizes):
    context = max(sizes) * (args.generate + 2) + 256
    out = run([args.peer / "llama-batched-bench", "-m", model, "-c", context, "-b", 2048, "-ub", 512,
               "-npp", 1, "-ntg", args.generate, "-npl", ",".join(map(str, sizes)), "-t", args.threads[-1],
               "-tb", args.threads[-1], "--output-format", "jsonl"])
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {r["pl"]: r["speed_tg"] for r in rows}


class Table:
    """Rows of ours, peer, ratio; remembers whether every floor was met."""

    def __init__(self):
        self.rows, self.met = [], True
        print(f"{'model':8} {'test':22} {'threads':>7} {'starlane':>10} {'llama.cpp':>10} {'ratio':>7} {'floor':>6}")

    def add(self, model, test, threads, pairs, floor):
        ours = statistics.median(o for o, _ in pairs)
        peer = statistics.median(p for _, p in pairs)
        ratio = statistics.median(o / p for o, p in pairs)
        good = ratio >= floor
        self.met = self.met and good
        print(f"{model:8} {test:22} {threads:7} {ours:10.2f} {peer:10.2f} {ratio:7.3f} {floor:6.2f}"
              f"{'' if good else '  below'}", flush=True)
        self.rows.append({"model": model, "test": test, "threads": threads, "starlane": ours,
                          "llama.cpp": peer, "ratio": ratio, "floor": floor, "met": good})


def bench_single(args, models, table):
    for kind, model in models.items():
        for threads in args.threads:
            pairs = [(ours_single(args, model, threads), peer_single(args, model, threads))
                     for _ in range(args.rounds)]
            for i, test in enumerate([f"prefill {args.prompt}", f"decode {args.generate}"]):
                table.add(kind, test, threads, [(o[i], p[i]) for o, p in pairs], SINGLE_FLOOR)


def bench_batch(args, models, table):
    for kind, model in models.items():
        pairs = [(ours_batch(args, model, args.batches), peer_batch(args, model, args.batches))
                 for _ in range(args.rounds)]
        for size in args.batches:
            table.add(kind, f"decode {args.generate} x {size} seqs", args.threads[-1],
                      [(o[size], p[size]) for o, p in pairs], BATCH_FLOOR)


def bench_start(args):
    """Milliseconds from process start to the bundled model's first byte on stdout: median of 11."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        child = subprocess.Popen([args.starlane, "run", "starling", "Once upon a time", "--max-tokens", "4"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        child.stdout.read(1)
        times.append((time.perf_counter() - start) * 1e3)
        child.stdout.read()
        child.wait()
    median = statistics.median(times)
    print(f"starling: first byte {median:.1f} ms after process start (min {min(times):.1f}, max {max(times):.1f}; "
          f"bound {FIRST_TOKEN_MS})")
    return median


def parse():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--starlane", type=pathlib.Path, default=ROOT / "build/starlane")
    p.add_argument("--peer", type=pathlib.Path, default=ROOT / ".deps/peer/bin", help="folder of llama-bench")
    p.add_argument("--shared", type=pathlib.Path, default=os.environ.get("STARLANE_SHARED", ROOT.parent / "shared"))
    p.add_argument("--shape", default="qwen2-0.5b", choices=["qwen2-0.5b", "qwen2-1.5b"])
    p.add_argument("--types", nargs="+", default=TYPES, choices=TYPES)
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--prompt", type=int, default=256, help="tokens of the prefill test")
    p.add_argument("--generate", type=int, default=32, help="tokens of the decode tests")
    p.add_argument("--batches", nargs="+", type=int, default=[8, 16])
    p.add_argument("--rounds", type=int, default=3, help="alternations; medians are printed")
    p.add_argument("--only", choices=["single", "batch", "start"], help="just one part")
    p.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    return p.parse_args()


def main():
    args = parse()
    for program in (args.starlane, args.peer / "llama-bench"):
        if not shutil.which(program):
            sys.exit(f"{program} is not there; run `make bench`")
    first = bench_start(args) if args.only in (None, "start") else 0
    met = first < FIRST_TOKEN_MS
    if args.only != "start":
        models, table = make_models(args), Table()
        if args.only != "batch":
            bench_single(args, models, table)
        if args.only != "single":
            bench_batch(args, models, table)
        met = met and table.met
        if args.json:
            args.json.write_text(json.dumps({"rows": table.rows, "first_byte_ms": first}, indent=1))
    print(f"reproduce: bench/bench.py {' '.join(sys.argv[1:])}".rstrip())
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
