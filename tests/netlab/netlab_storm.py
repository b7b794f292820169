"""Disasters for a grid in a laboratory, each of which it survives without a word to clients."""
import contextlib
import itertools
import threading
import time
import traceback

GATEWAYS = ["g1", "g2"]
NODES = ["n1", "n2", "n3", "n4", "n5"]
MODEL = "starling"
PROMPTS = ["Once upon a time", "The old king said", "In the deep forest", "A ship came home",
           "Dorothy looked up", "There was a little bird", "The Wizard smiled", "At the gate stood",
           "Nobody had told her", "When the snow fell"]
LAB = {
    "sites": {"hub": {}, "near": {"rtt": "2ms"}, "metro": {"rtt": "10ms"}, "far": {"rtt": "20ms"},
              "abroad": {"rtt": "40ms"}},
    "nodes": {
        "g1": {"site": "hub", "clock": "fake", "disk": "256m"},
        "g2": {"site": "near", "clock": "fake", "disk": "256m"},
        "n1": {"site": "hub", "cpu": "40%", "clock": "fake", "disk": "256m"},
        "n2": {"site": "near", "cpu": "30%", "clock": "fake", "disk": "256m"},
        "n3": {"site": "metro", "cpu": "25%", "clock": "fake", "disk": "256m"},
        "n4": {"site": "far", "cpu": "20%", "clock": "fake", "disk": "256m"},
        "n5": {"site": "abroad", "cpu": "15%", "clock": "fake", "disk": "256m"},
        "client": {"site": "hub"},
    },
}
KINDS = ["kill_node", "kill_two_nodes", "kill_gateway", "kill_nats", "partition", "split",
         "jump_clock", "fill_disk", "freeze"]
CLOCK_JUMPS_S = [-86400, -30, 45, 7200, 864000]
LOOK_S = 0.5
"""Between looks at the counters: what a gateway counted since the last one dies with it."""


def start_grid(grid):
    """Two gateways, which have no room for models, and five nodes that do all the work."""
    worker = ["--threads", 1, "--memory", "200M"]
    grid.open("g1", "--memory", "1M")
    token = grid.make_token(1 + len(NODES))
    grid.join("g2", token, "--memory", "1M", gateway=True)
    for name in NODES:
        grid.join(name, token, *worker)
    for gateway in GATEWAYS:
        grid.wait_alive(GATEWAYS + NODES, gateway)


def bodies(tokens):
    return [{"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
            for prompt in PROMPTS]


class Storm:
    """One disaster after the other, each mended before the next one."""

    def __init__(self, grid, rng, pause, haste=1):
        self.grid, self.lab, self.rng, self.pause, self.haste = grid, grid.lab, rng, pause, haste
        self.n_disasters, self.failure, self.stop = 0, None, threading.Event()
        self.down = []
        """[gateway, from, to] for each time that one was killed, until it was well again."""
        self.began = time.monotonic()

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def rest(self, low, high):
        self.stop.wait(self.rng.uniform(low, high) / self.haste)

    def _busy_node(self):
        """Half of the time any node, else one that answers just now, if there is one."""
        nodes = self.grid.nodes(self.rng.choice(GATEWAYS))
        busy = [name for name in NODES if nodes.get(name, {}).get("running", 0)]
        return self.rng.choice(busy if busy and self.rng.random() < 0.5 else NODES)

    def _two_nodes(self):
        first = self._busy_node()
        return [first, self.rng.choice([name for name in NODES if name != first])]

    def _kill(self, names):
        for name in names:
            self.lab.kill(name)
        self.rest(2, 6)
        for name in names:
            self.grid.restart(name)
        return names

    def kill_node(self):
        name = self._busy_node()
        self.say(f"kill -9 of node {name}")
        return self._kill([name])

    def kill_two_nodes(self):
        names = self._two_nodes()
        self.say(f"kill -9 of nodes {' and '.join(names)} at once")
        return self._kill(names)

    def kill_gateway(self):
        name = self.rng.choice(GATEWAYS)
        self.say(f"kill -9 of gateway {name} and its nats-server")
        self.down.append([name, time.monotonic(), float("inf")])
        return self._kill([name])

    def kill_nats(self):
        name = self.rng.choice(GATEWAYS)
        self.say(f"kill -9 of the nats-server of {name}")
        self.grid.kill_nats(name)
        return []

    def partition(self):
        names = self.rng.choice([self._two_nodes(), [self._busy_node()]])
        self.say(f"partition: {' and '.join(names)} cut off")
        self.lab.partition(names)
        self.rest(4, 9)
        self.lab.heal()
        self.say("healed")
        return names

    def split(self):
        """The grid in two halves, with a gateway in each; clients reach both."""
        nodes = self._two_nodes()
        halves = [["g1"] + [name for name in NODES if name not in nodes], ["g2"] + nodes]
        self.say(f"split: {' '.join(halves[0])} | {' '.join(halves[1])}")
        for one, other in itertools.product(*halves):
            self.lab.cut(one, other)
        self.rest(4, 9)
        self.lab.heal()
        self.say("healed")
        return GATEWAYS + NODES

    def jump_clock(self):
        name, jump = self.rng.choice(NODES + GATEWAYS), self.rng.choice(CLOCK_JUMPS_S)
        self.say(f"the clock of {name} jumps by {jump} s")
        self.lab.set_clock(name, jump)
        if self.rng.random() < 0.5:  # all have to connect again while it is off
            self.kill_nats()
        self.rest(2, 5)
        self.lab.set_clock(name, 0)
        return [name]

    def fill_disk(self):
        name = self.rng.choice(NODES + GATEWAYS)
        self.say(f"the disk of {name} is full")
        self.lab.fill_disk(name)
        self.rest(4, 8)
        self.lab.free_disk(name)
        return [name]

    def freeze(self):
        name = self._busy_node()
        self.say(f"{name} stands still (SIGSTOP)")
        self.lab.pause(name)
        self.rest(2, 6)
        self.lab.resume(name)
        return [name]

    def strike(self, kind):
        """One disaster, until all that it hit is well again."""
        self.n_disasters += 1
        names = getattr(self, kind)()
        for gateway in GATEWAYS:
            self.grid.wait_alive(names, gateway)
        if kind == "kill_gateway":
            self.down[-1][2] = time.monotonic()

    def check_breaks(self, load):
        """A client may lose its gateway only when that was killed."""
        for answer in list(load.answers):
            for at, gateway in answer.breaks:
                if not any(gateway == name and low <= at <= high for name, low, high in self.down):
                    load.fail(f"{gateway}, not killed, broke off at {at - self.began:.1f} s")

    def _storm(self, seconds, kinds):
        turn = []
        while time.monotonic() - self.began < seconds and not self.stop.is_set():
            turn = turn or self.rng.sample(kinds, len(kinds))
            self.strike(turn.pop())
            self.rest(self.pause / 2, self.pause)

    @contextlib.contextmanager
    def over(self, seconds, kinds):
        """Rages while the block runs, and at least for so long."""
        def rage():
            try:
                self._storm(seconds, kinds)
            except Exception:  # pylint: disable=broad-exception-caught
                self.failure = traceback.format_exc()
        self.began = time.monotonic()
        thread = threading.Thread(target=rage)
        thread.start()
        try:
            yield self
        except BaseException:
            self.stop.set()
            raise
        finally:
            thread.join()


@contextlib.contextmanager
def counting(counters):
    """Looks at them all the time while the block runs."""
    stop = threading.Event()

    def look():
        while not stop.wait(LOOK_S):
            counters.look()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield counters
    finally:
        stop.set()
        thread.join()
        counters.look()
