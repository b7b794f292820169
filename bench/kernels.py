#!/usr/bin/env python3
"""Our CPU kernels beside llama.cpp's of the same class of processor, whole models, alternating in one run.

A class is one of ggml's CPU plug-ins and the kernels of ours that need the same instructions: both programs see a
folder in which that plug-in is the only one. Models are random weights of real shapes. Prints medians, ratios (ours
over the peer's), what is wanted, and beside them what the machine allows at most, measured in the same run: reading a
buffer of the model's size, and 8-bit multiply-adds with AVX-512 VNNI.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import bench

ROWS = ["single", "batch", "moe"]
SEQUENCES = [8, 16]
SHAPE, MOE_SHAPE, MOE_TYPE = "qwen2-1.5b", "dsv2-lite-8", "q4_0"
READ_SHARE, PEAK_SHARE = 0.85, 0.5
"""Of the bandwidth while decoding, of the VNNI peak while prefilling."""

CLASSES = {
    "avx512vnni": {"plugin": "zen4", "kernels": "avx512vnni", "decode": 1.6, "prefill": 3.0, "batch": 2.0,
                   "moe decode": 1.0, "moe prefill": 2.0, "shares": True},
    "avx2": {"plugin": "haswell", "kernels": "avx2", "decode": 1.0, "prefill": 1.3, "batch": 2.0,
             "moe decode": 1.0, "moe prefill": 2.0, "shares": False},
}
"""What is wanted of a class: ratios. Shares of the machine's floor are asked of the fastest class alone."""


def run(command, env=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False,
                          env={**os.environ, **(env or {})})
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


class Class:
    """One class of processor: both programs with one plug-in."""

    def __init__(self, args, name):
        self.args, self.name, self.goals = args, name, CLASSES[name]
        plugin = f"libggml-cpu-{self.goals['plugin']}.so"
        self.folder = bench.CACHE / f"peer-{self.goals['plugin']}"
        self.folder.mkdir(parents=True, exist_ok=True)
        for program in ("llama-bench", "llama-batched-bench"):  # they look for plug-ins beside themselves
            shutil.copy2(args.peer / program, self.folder)
        link = self.folder / plugin
        link.unlink(missing_ok=True)
        link.symlink_to((args.peer / plugin).resolve())

    def _ours(self, model, *options):
        only = {"STARLANE_KERNELS": self.goals["kernels"], "STARLANE_BACKEND_DIR": str(self.folder)}
        command = [self.args.starlane, "bench", model, "-t", self.args.threads, "-r", 1, "--json", *options]
        return json.loads(run(command, only))

    def ours_single(self, model):
        """(prefill, decode) in tokens/s."""
        out = self._ours(model, "-p", self.args.prompt, "-n", self.args.generate)
        return out["prefill_tps"], out["decode_tps"]

    def ours_batch(self, model):
        """Tokens/s of all sequences together, for each number of them."""
        out = self._ours(model, "-p", 0, "-n", self.args.generate, "-b", ",".join(map(str, SEQUENCES)))
        return tuple(b["decode_tps"] for b in out["batches"])

    def peer_single(self, model):
        out = json.loads(run([self.folder / "llama-bench", "-m", model, "-p", self.args.prompt,
                              "-n", self.args.generate, "-t", self.args.threads, "-r", 1, "-o", "json"]))
        return (next(o["avg_ts"] for o in out if o["n_gen"] == 0), next(o["avg_ts"] for o in out if o["n_prompt"] == 0))

    def peer_batch(self, model):
        context = max(SEQUENCES) * (self.args.generate + 2) + 256
        out = run([self.folder / "llama-batched-bench", "-m", model, "-c", context, "-b", 2048, "-ub", 512, "-npp", 1,
                   "-ntg", self.args.generate, "-npl", ",".join(map(str, SEQUENCES)), "-t", self.args.threads,
                   "-tb", self.args.threads, "--output-format", "jsonl"])
        rows = {r["pl"]: r["speed_tg"] for r in map(json.loads, filter(lambda s: s.startswith("{"), out.splitlines()))}
        return tuple(rows[n] for n in SEQUENCES)


def model_cost(args, model):
    """Bytes that decoding a token reads of a dense model, and operations that prefilling a token takes."""
    tensors = json.loads(run([args.starlane, "show", "--json", "--tensors", model]))["tensors"]
    layers = [t for t in tensors if t["name"].startswith("blk.")]
    by_name = {t["name"]: t for t in tensors}
    head = [by_name.get("output.weight", by_name["token_embd.weight"])]
    ops = sum(2 * t["shape"][0] * t["shape"][1] for t in layers if len(t["shape"]) == 2)
    return sum(t["bytes"] for t in layers + head), ops


class Table:
    """Prints and keeps rows; remembers whether every goal was met."""

    def __init__(self):
        self.rows, self.met = [], True
        print(f"{'class':11} {'model':18} {'test':15} {'starlane':>9} {'llama.cpp':>9} {'ratio':>6} {'goal':>5}  "
              f"{'of the floor':12} goal")

    def add(self, kind, names, pairs, goal, share=None):
        """share: (what ours reaches of the floor, goal or None)."""
        ours, peer = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratio = statistics.median(o / p for o, p in pairs)
        reached, wanted = share(ours) if share else (None, None)
        met = ratio >= goal and (wanted is None or reached >= wanted)
        self.met = self.met and met
        text = "" if reached is None else f"{reached:.0%}" + (f" of {wanted:.0%}" if wanted else "")
        print(f"{kind:11} {names[0]:18} {names[1]:15} {ours:9.2f} {peer:9.2f} {ratio:6.2f} {goal:5.2f}  {text:12} "
              f"{'met' if met else 'MISSED'}", flush=True)
        self.rows.append({"class": kind, "model": names[0], "test": names[1], "starlane": ours, "llama.cpp": peer,
                          "ratio": ratio, "goal": goal, "share": reached, "share_goal": wanted, "met": met})


def alternate(args, ours, peer):
    """[(ours, peer)] of each round."""
    return [(ours(), peer()) for _ in range(args.rounds)]


def bench_single(args, kind, name, model, table):
    n_bytes, ops = model_cost(args, model)
    floor = json.loads(run([args.starlane.parent / "bench/floor", "--bytes", n_bytes, "--threads", args.threads]))
    print(f"floor: {floor['read_gbs']:.1f} GB/s over {n_bytes / 1e6:.0f} MB, {floor['vnni_gops']:.0f} GOPS with VNNI, "
          f"{args.threads} threads", flush=True)
    rounds = alternate(args, lambda: kind.ours_single(model), lambda: kind.peer_single(model))
    asked = kind.goals["shares"]

    def of_peak(rate):
        return rate * ops / floor["vnni_gops"] / 1e9, PEAK_SHARE if asked else None

    def of_bandwidth(rate):
        return rate * n_bytes / floor["read_gbs"] / 1e9, READ_SHARE if asked else None

    table.add(kind.name, (name, f"prefill {args.prompt}"), [(o[0], p[0]) for o, p in rounds], kind.goals["prefill"],
              of_peak if floor["vnni_gops"] else None)
    table.add(kind.name, (name, f"decode {args.generate}"), [(o[1], p[1]) for o, p in rounds], kind.goals["decode"],
              of_bandwidth)


def bench_batch(args, kind, name, model, table):
    rounds = alternate(args, lambda: kind.ours_batch(model), lambda: kind.peer_batch(model))
    for i, n in enumerate(SEQUENCES):
        table.add(kind.name, (name, f"decode x {n}"), [(o[i], p[i]) for o, p in rounds], kind.goals["batch"])


def bench_moe(args, kind, model, table):
    rounds = alternate(args, lambda: kind.ours_single(model), lambda: kind.peer_single(model))
    for i, test in enumerate(["prefill", "decode"]):
        table.add(kind.name, (f"{MOE_SHAPE} {MOE_TYPE}", f"{test} {(args.prompt, args.generate)[i]}"),
                  [(o[i], p[i]) for o, p in rounds], kind.goals[f"moe {test}"])


def make_model(args, shape, weights):
    """The path of a benchmark model, made once."""
    return bench.make_models(argparse.Namespace(starlane=args.starlane, shared=args.shared, shape=shape,
                                                types=[weights]))[weights]


def parse():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--starlane", type=pathlib.Path, default=bench.ROOT / "build/starlane")
    p.add_argument("--peer", type=pathlib.Path, default=bench.ROOT / ".deps/peer/bin", help="folder of llama-bench")
    p.add_argument("--shared", type=pathlib.Path,
                   default=os.environ.get("STARLANE_SHARED", bench.ROOT.parent / "shared"))
    p.add_argument("--classes", nargs="+", default=list(CLASSES), choices=CLASSES)
    p.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    p.add_argument("--types", nargs="+", default=bench.TYPES, choices=bench.TYPES)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--prompt", type=int, default=512, help="tokens of the prefill")
    p.add_argument("--generate", type=int, default=32, help="tokens that each sequence decodes")
    p.add_argument("--rounds", type=int, default=3, help="alternations; medians are printed")
    p.add_argument("--quick", action="store_true", help="one round, 128 and 16 tokens")
    p.add_argument("--json", type=pathlib.Path, help="also write the rows here")
    args = p.parse_args()
    if args.quick:
        args.rounds, args.prompt, args.generate = 1, 128, 16
    return args


def main():
    args = parse()
    args.starlane = args.starlane.resolve()
    for program in (args.starlane, args.peer / "llama-bench"):
        if not shutil.which(program):
            sys.exit(f"{program} is not there; run `make bench-kernels`")
    table = Table()
    for name in args.classes:
        kind = Class(args, name)
        for weights in args.types if {"single", "batch"} & set(args.rows) else []:
            model = make_model(args, SHAPE, weights)
            if "single" in args.rows:
                bench_single(args, kind, f"{SHAPE} {weights}", model, table)
            if "batch" in args.rows:
                bench_batch(args, kind, f"{SHAPE} {weights}", model, table)
        if "moe" in args.rows:
            bench_moe(args, kind, make_model(args, MOE_SHAPE, MOE_TYPE), table)
    if args.json:
        args.json.write_text(json.dumps({"rows": table.rows}, indent=1))
    print(f"reproduce: bench/kernels.py {' '.join(sys.argv[1:])}".rstrip())
    return 0 if table.met else 1


if __name__ == "__main__":
    sys.exit(main())
