"""The peer of bench/split.py: llama.cpp's RPC backend in the laboratory, on the very ggml that Starlane runs on.

Two arrangements, of which the faster one counts:

    servers  a ggml-rpc-server on every node, and llama.cpp's program on the first one
    host     llama.cpp's program computes the first node's layers itself; servers on the others
"""
import json
import time

RPC_PORT = 50052
ARRANGEMENTS = ["servers", "host"]
LAYERS_ALL = 999
"""-ngl: all of them on devices."""
START_DEADLINE_S = 30
CONTEXT_ROOM = 256


class PeerFailed(RuntimeError):
    """A program of the peer ended with an error; the text is what it said."""


class Peer:
    """Its servers run from `with` to its end, one on each node, and compute nothing unless they are asked."""

    def __init__(self, lab, folder, nodes, cores):
        self.lab, self.folder, self.nodes, self.cores = lab, folder, nodes, cores
        self.servers = []

    def __enter__(self):
        for name in self.nodes:
            self.servers.append(self.lab.start(name, self._pinned(name, [
                self.folder / "ggml-rpc-server", "-H", "0.0.0.0", "-p", RPC_PORT, "-t", 1])))
        deadline = time.monotonic() + START_DEADLINE_S
        while not all(self._listens(name) for name in self.nodes):
            if time.monotonic() > deadline:
                raise PeerFailed("ggml-rpc-server does not start: " + self.lab.log(self.nodes[0]).read_text()[-500:])
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.kill()
            server.wait()

    def _pinned(self, name, command):
        core = self.cores.get(name)
        return [str(word) for word in ([] if core is None else ["taskset", "-c", core]) + command]

    def _listens(self, name):
        return f":{RPC_PORT} " in self.lab.run(name, ["ss", "-Hltn"]).stdout

    def _devices(self, arrangement, n_stages, n_layers):
        """Options that spread the layers evenly over so many nodes."""
        nodes = self.nodes[:n_stages] if arrangement == "servers" else self.nodes[1:n_stages]
        endpoints = ",".join(f"{self.lab.address(name)}:{RPC_PORT}" for name in nodes)
        # The output matrix counts as one more layer, the last to be moved to a device first.
        on_devices = LAYERS_ALL if arrangement == "servers" else n_layers + 1 - n_layers // n_stages
        return ["--rpc", endpoints, "-ngl", on_devices]

    def _run(self, command):
        first = self.nodes[0]
        done = self.lab.run(first, self._pinned(first, command))
        if done.returncode:
            raise PeerFailed(f"{' '.join(map(str, command))}\n{done.stderr[-1000:]}")
        return done.stdout

    def single(self, model, where, n_tokens, n_prompt=0):
        """Tokens/s of one stream, and the seconds that a prompt takes (None without one). where: (arrangement,
        stages, layers of the model); None: the first node alone, without servers."""
        devices = ["-ngl", 0] if where is None else self._devices(*where)
        out = json.loads(self._run([self.folder / "llama-bench", "-m", model, "-p", n_prompt, "-n", n_tokens,
                                    "-t", 1, "-r", 1, "-o", "json", *devices]))
        rate = next((o["avg_ts"] for o in out if o["n_gen"]), None)
        prompt = next((n_prompt / o["avg_ts"] for o in out if not o["n_gen"]), None)
        return rate, prompt

    def batch(self, model, where, n_streams, n_tokens, n_prompt):
        """Tokens/s of all streams together while they decode."""
        devices = ["-ngl", 0] if where is None else self._devices(*where)
        context = n_streams * (n_tokens + n_prompt) + CONTEXT_ROOM
        out = self._run([self.folder / "llama-batched-bench", "-m", model, "-c", context, "-b", 2048, "-ub", 512,
                         "-npp", n_prompt, "-ntg", n_tokens, "-npl", n_streams, "-t", 1, "-tb", 1,
                         "--output-format", "jsonl", *devices])
        return next(json.loads(line)["speed_tg"] for line in out.splitlines() if line.startswith("{"))
