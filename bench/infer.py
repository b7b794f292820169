#!/usr/bin/env python3
"""What the service adds to ONNX Runtime: latency of single requests, throughput of many clients.

The floor is onnx_direct: the same library called in one process, nothing else. Beside it, alternating
in the same run, the same model through `starlane serve`: the Open Inference Protocol over gRPC and
over binary REST, asked by h2load (nghttp2). Client, gateway and worker share this machine. What such a
way costs when nothing is done on it, process_floor tells: three bare processes, as many bytes, as
long a run. Prints tables of medians over the rounds and the command that repeats them.
"""
import argparse
import json
import math
import os
import pathlib
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import urllib.request

from serve_prefix import Server, free_port

ADDED_P50_US = 150
CLASSIFIER_P99_US = 1000
THROUGHPUT_RATIO = 0.9
MANY = "-many"  # the same model with as many instances as CPUs, one thread each
SIZES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "INT16": 2, "UINT16": 2, "FP16": 2, "BF16": 2, "INT32": 4,
         "UINT32": 4, "FP32": 4, "INT64": 8, "UINT64": 8, "FP64": 8}


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr.strip()}")
    return done.stdout


# --- protobuf by hand: two messages are not worth a dependency ---

def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def shape_of(spec):
    return [1 if n < 0 else n for n in spec["shape"]]


def tensor_bytes(spec):
    return math.prod(shape_of(spec)) * SIZES[spec["datatype"]]


class Request:
    """One inference of a model, as each protocol carries it."""

    def __init__(self, model, metadata):
        tensors, message, raws = [], field(1, model.encode()), []
        self.out_bytes = sum(tensor_bytes(spec) for spec in metadata["outputs"])
        for spec in metadata["inputs"]:
            shape = shape_of(spec)
            raw = bytes(tensor_bytes(spec))
            tensors.append({"name": spec["name"], "datatype": spec["datatype"], "shape": shape,
                            "parameters": {"binary_data_size": len(raw)}})
            message += field(5, field(1, spec["name"].encode()) + field(2, spec["datatype"].encode())
                             + field(3, b"".join(varint(n) for n in shape)))
            raws.append(raw)
        message += b"".join(field(7, raw) for raw in raws)
        head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
        self.head_bytes = len(head)
        self.rest = head + b"".join(raws)
        self.grpc = b"\0" + struct.pack(">I", len(message)) + message


class Bench:
    def __init__(self, args, home):
        self.args, self.home = args, home
        self.tools = args.starlane.parent / "bench"
        self.data = args.shared / "data/onnx"
        self.port, self.grpc_port = free_port(), free_port()
        os.environ["STARLANE_HOME"] = str(home)
        for name, path in self.models().items():
            run([args.starlane, "import", path, name])
            run([args.starlane, "import", path, name + MANY,
                 "--options", json.dumps({"instances": args.threads, "threads": 1})])
        self.server = Server([args.starlane, "serve", "--port", self.port, "--grpc-port",
                              self.grpc_port], self.port, {"STARLANE_HOME": str(home)})
        self.server.wait("/v2/health/ready", lambda status, body: status == 200)
        self.requests = {name: self.make_request(name) for model in self.models()
                         for name in (model, model + MANY)}

    def models(self):
        return {"magika": self.data / "magika/model.onnx",
                "resnet20": self.data / "resnet20_cifar10.onnx",
                "yolox-nano": self.data / "yolox-nano/yolox_nano.onnx"}

    def post(self, path, body=b"{}"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body)
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def make_request(self, name):
        self.post(f"/v2/repository/models/{name}/load")
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/models/{name}") as answer:
            request = Request(name, json.load(answer))
        for kind, body in (("grpc", request.grpc), ("rest", request.rest)):
            (self.home / f"{name}.{kind}").write_bytes(body)
        return request

    def h2load(self, name, kind, clients, streams, **limits):
        """Latencies in us, requests a second. Every answer must be a good one."""
        log = self.home / "log"
        log.unlink(missing_ok=True)
        command = ["h2load", "-c", clients, "-m", streams, "-t", 1, "-d", self.home / f"{name}.{kind}",
                   "--log-file", log]
        for option, value in limits.items():
            command += [f"--{option}", value] if len(option) > 1 else [f"-{option}", value]
        if kind == "grpc":
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers",
                        f"http://127.0.0.1:{self.grpc_port}/inference.GRPCInferenceService/ModelInfer"]
        else:
            command += ["--h1", "-H", "Content-Type: application/octet-stream", "-H",
                        f"Inference-Header-Content-Length: {self.requests[name].head_bytes}",
                        f"http://127.0.0.1:{self.port}/v2/models/{name}/infer"]
        out = run(command)
        times = []
        for line in log.read_text().splitlines():
            _, status, us = line.split("\t")
            if status != "200":
                sys.exit(f"{name} over {kind}: status {status}\n{out}")
            times.append(int(us))
        times.sort()
        rate = float(out.split("finished in ")[1].split(", ")[1].split(" ")[0])
        return times, rate

    def direct(self, name, rows=1, threads=1, callers=1, spin=False):
        command = [self.tools / "onnx_direct", "--model", self.models()[name], "--rows", rows,
                   "--threads", threads, "--callers", callers, "--seconds", self.args.seconds]
        return json.loads(run(command + (["--spin"] if spin else [])))

    def bare_processes(self, name, busy_us, n):
        """What three bare processes add to a run of busy_us, in us."""
        request = self.requests[name]
        found = json.loads(run([self.tools / "process_floor", "--busy-us", busy_us, "--threads",
                                self.args.threads, "--in", len(request.grpc), "--out",
                                request.out_bytes, "--requests", n]))
        return found["added_p50_us"]

    def latency(self, name):
        """Medians over the rounds of {who: (p50, p99)} in us, one request at a time."""
        found = {"direct": [], "bare": [], "grpc": [], "rest": []}
        for _ in range(self.args.rounds):
            direct = self.direct(name, threads=self.args.threads, spin=True)
            found["direct"].append((direct["p50_us"], direct["p99_us"]))
            n = max(50, min(20000, int(self.args.seconds * 1e6 / (direct["p50_us"] + 150))))
            found["bare"].append((self.bare_processes(name, direct["p50_us"], n),))
            for kind in ("grpc", "rest"):
                times, _ = self.h2load(name, kind, 1, 1, n=n)
                found[kind].append((times[len(times) // 2], times[int(len(times) * 0.99)]))
        return {who: tuple(statistics.median(v) for v in zip(*values)) for who, values in found.items()}

    def best_direct(self, name):
        """The best of batch sizes, threads of an operator and callers: (rows a second, how)."""
        best = (0, "")
        for rows in (1, 2, 4, 8, 16):
            for threads, callers, spin in ((1, 2, False), (2, 1, False), (2, 1, True)):
                found = self.direct(name, rows, threads, callers, spin)["rows_s"]
                if found > best[0]:
                    best = (found, rows, threads, callers, spin)
            if not self.batches(name):
                break
        return best

    def batches(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/models/{name}") as answer:
            return all(t["shape"] and t["shape"][0] < 0 for t in json.load(answer)["inputs"])

    def throughput(self, name, best):
        """Medians of rows a second: direct calls at their best, and 16 clients over gRPC."""
        found = {"direct": [], "grpc": []}
        _, rows, threads, callers, spin = best
        for _ in range(self.args.rounds):
            rate = self.direct(name, rows, threads, callers, spin)["rows_s"]
            found["direct"].append(rate)
            n = max(64, int(rate * self.args.seconds))
            found["grpc"].append(self.h2load(name + MANY, "grpc", 16, 1, n=n)[1])
        return {who: statistics.median(values) for who, values in found.items()}

    def stop(self):
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait()


def report(bench, args):
    names = args.models.split(",")
    print(f"one request at a time, us, medians of {args.rounds} rounds, {args.threads} threads an operator")
    print("| model | direct p50 | three bare processes add | gRPC p50 | added | binary REST p50 | added | gRPC p99 |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        found = bench.latency(name)
        direct, grpc, rest = (found[who][0] for who in ("direct", "grpc", "rest"))
        print(f"| {name} | {direct:.0f} | {found['bare'][0]:+.0f} | {grpc:.0f} | {grpc - direct:+.0f} | "
              f"{rest:.0f} | {rest - direct:+.0f} | {found['grpc'][1]:.0f} |", flush=True)
    print(f"asked: under {ADDED_P50_US} us added at p50; a small classifier under {CLASSIFIER_P99_US} us at p99\n")
    print(f"16 clients, {args.threads} instances of one thread, rows a second; direct: the best of batch "
          "sizes, threads and callers")
    print("| model | direct | at | gRPC | ratio |")
    print("|---|---|---|---|---|")
    for name in names:
        best = bench.best_direct(name)
        found = bench.throughput(name, best)
        how = f"batch {best[1]}, {best[2]} threads, {best[3]} callers"
        print(f"| {name} | {found['direct']:.0f} | {how} | {found['grpc']:.0f} | "
              f"{found['grpc'] / found['direct']:.2f} |", flush=True)
    print(f"asked: at least {THROUGHPUT_RATIO}\n")
    times, rate = bench.h2load("resnet20" + MANY, "grpc", 10, 100, n=20000)
    print(f"1,000 streams at once on 10 connections (resnet20): 20,000 answers, {rate:.0f} a second, "
          f"p50 {times[len(times) // 2] / 1e3:.0f} ms, p99 {times[int(len(times) * 0.99)] / 1e3:.0f} ms")
    print(f"\nagain: {' '.join(sys.argv)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starlane", type=pathlib.Path, default=pathlib.Path("build/starlane"))
    parser.add_argument("--shared", type=pathlib.Path,
                        default=pathlib.Path(os.environ.get("STARLANE_SHARED", "../shared")))
    parser.add_argument("--models", default="magika,resnet20,yolox-nano")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count(),
                        help="of one operator, and instances where many ask (the CPUs)")
    args = parser.parse_args()
    args.starlane = args.starlane.resolve()
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(args, pathlib.Path(home))
        try:
            report(bench, args)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()
