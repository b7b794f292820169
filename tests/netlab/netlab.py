#!/usr/bin/python3
"""A laboratory of machines on this machine: nodes with links, clocks, disks and processors as slow
and as faulty as a test wants them. docs/netlab.md is its manual.

As a module:

    with Lab(netlab_spec.load("tests/netlab/five.yaml")) as lab:
        service = lab.start("gate", ["starlane", "serve", "--host", lab.address("gate")])
        lab.link("gate", "edge", delay="20ms", loss="1%")
        lab.cut("edge")
        lab.heal()

Every node is a network namespace and a control group; netlab-switch carries their frames.
"""
import argparse
import contextlib
import ctypes
import glob
import itertools
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import netlab_spec  # pylint: disable=wrong-import-position
import netlab_system  # pylint: disable=wrong-import-position
from netlab_system import Estate, NetlabUnavailable, run  # pylint: disable=wrong-import-position

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
SWITCH = "SWITCH"
"""Its namespace and group; no node has a name in capitals."""
DEADLINE_S = 30
CHUNK = b"\0" * (1 << 20)
TAP_QUEUE_FRAMES = 4000
"""Of a device, before the switch has read them: bursts of TCP are not to be lost here."""
CLONE_NEWNET = 0x40000000


def switch_binary():
    """NETLAB_SWITCH, or beside STARLANE_BIN, or in the build folder."""
    build = pathlib.Path(os.environ.get("STARLANE_BIN", REPOSITORY / "build/starlane")).parent
    return pathlib.Path(os.environ.get("NETLAB_SWITCH", build / "tests/netlab/netlab-switch"))


def faketime_library():
    """libfaketime of Debian's package faketime; None without it."""
    return next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)


def missing(spec=None):
    """Why this laboratory is not possible here; None when it is."""
    reason = netlab_system.missing()
    if not reason and not os.access(switch_binary(), os.X_OK):
        reason = f"no {switch_binary()}: make test builds it"
    if not reason and spec and any(node.fake_clock for node in spec.nodes.values()) \
            and not faketime_library():
        reason = "clock: fake needs libfaketime: scripts/deps.sh test"
    return reason


class Lab:
    """One laboratory, from `with` to its end, or one that runs already (Lab.attach)."""

    def __init__(self, declaration):
        self.spec = netlab_spec.Spec(declaration)
        self.estate, self.processes, self._switch = None, [], None

    @classmethod
    def attach(cls, lab_id=None):
        """To use a running laboratory that another process owns; the only one without an id."""
        running = [estate for estate in netlab_system.estates() if estate.is_in_use]
        found = [estate for estate in running if lab_id in (None, estate.id)]
        if len(found) != 1:
            raise NetlabUnavailable(f"{len(found)} laboratories run; netlab ls, and --lab ID")
        lab = cls(found[0].state["declaration"])
        lab.estate = found[0]
        return lab

    # Building and ending

    def __enter__(self):
        reason = missing(self.spec)
        if reason:
            raise NetlabUnavailable(reason)
        netlab_system.clean()
        self.estate = Estate.create(self.spec.declaration)
        try:
            self.estate.hosts_path.write_text(self.spec.hosts(), encoding="ascii")
            self._make_switch()
            for node in self.spec.nodes.values():
                self._make_node(node)
            for site in self.spec.sites.values():
                if site.nat:
                    self._make_router(site)
            self.reset_links()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends all processes and gives everything back."""
        self.estate.destroy()
        for process in self.processes:
            process.wait(DEADLINE_S)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        self.processes = []

    def _make_switch(self):
        run("ip", "netns", "add", self.estate.namespace(SWITCH))
        self.estate.make_realtime_group(SWITCH)
        ports = [f"{port}:{segment}" for port, segment in self.spec.ports()]
        command = [switch_binary(), "--control", self.control_path, *ports]
        self._switch = self._start(SWITCH, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ready, _, _ = select.select([self._switch.stdout], [], [], DEADLINE_S)
        if not ready or self._switch.stdout.readline() != b"ready\n":
            self._switch.kill()
            raise RuntimeError(f"netlab-switch: {self._switch.communicate()[1].decode().strip()}")

    def _make_namespace(self, name, devices):
        """A namespace with ports of the switch: [(port, device, address)]."""
        namespace = self.estate.namespace(name)
        run("ip", "netns", "add", namespace)
        for port, device, address in devices:
            last = [int(part) for part in address.split("/")[0].split(".")]
            mac = ":".join(f"{part:02x}" for part in (2, 0, *last))
            run("ip", "-n", self.estate.namespace(SWITCH), "link", "set", "dev", port, "netns",
                namespace, "name", device)
            run("ip", "-n", namespace, "link", "set", "dev", device, "address", mac,
                "txqueuelen", str(TAP_QUEUE_FRAMES))
            run("ip", "-n", namespace, "address", "add", address, "dev", device)
        self._sysctl(namespace, "net/ipv6/conf/all/disable_ipv6", 1)
        for device in ["lo"] + [device for _, device, _ in devices]:
            run("ip", "-n", namespace, "link", "set", "dev", device, "up")

    @staticmethod
    def _sysctl(namespace, name, value):
        run("nsenter", f"--net=/run/netns/{namespace}", "sh", "-c",
            f"echo {value} >/proc/sys/{name}")

    def _make_node(self, node):
        length = 24 if node.site.nat else 16
        self._make_namespace(node.name, [(node.name, "eth0", f"{node.address}/{length}")])
        if node.site.nat:
            run("ip", "-n", self.estate.namespace(node.name), "route", "add", "default", "via",
                f"10.20.{node.site.number}.254")
        self.estate.make_group(node.name, node.cpu, node.memory)
        self.home(node.name).mkdir(parents=True)
        if node.disk:
            self.estate.mount_disk(self.home(node.name), node.disk)
        if node.fake_clock:
            self._clock_path(node.name).write_text("+0\n", encoding="ascii")

    def _make_router(self, site):
        """Masquerades what leaves; lets in only answers to it."""
        number = site.number
        self._make_namespace(site.router, [
            (site.router, "eth0", f"10.10.{number}.254/16"),
            (site.router_inside, "in0", f"10.20.{number}.254/24")])
        namespace = self.estate.namespace(site.router)
        self._sysctl(namespace, "net/ipv4/ip_forward", 1)
        run("nsenter", f"--net=/run/netns/{namespace}", "nft", "-f", "-", stdin="""
            table ip netlab {
                chain out {
                    type nat hook postrouting priority 100;
                    oifname "eth0" masquerade
                }
                chain pass {
                    type filter hook forward priority 0; policy drop;
                    ct state established,related accept
                    iifname "in0" oifname "eth0" accept
                }
            }""")

    # Processes

    def address(self, name):
        """IPv4; of a node behind NAT, the one that only its own site reaches."""
        return self.spec.nodes[name].address

    def resolve(self, host):
        """The address of a node's name or alias, which only processes of the laboratory resolve by
        themselves."""
        return next(node.address for node in self.spec.nodes.values()
                    if host in (node.name, node.alias))

    def home(self, name):
        """The node's HOME, and where its processes start."""
        return self.estate.folder / "home" / name

    def log(self, name):
        """What its processes print, unless `start` was told otherwise."""
        return self.estate.folder / f"{name}.log"

    def environment(self, name, **more):
        environment = dict(os.environ, HOME=str(self.home(name)), NETLAB=self.estate.id)
        environment.pop("STARLANE_HOME", None)
        if self.spec.nodes[name].fake_clock:
            environment.update(
                LD_PRELOAD=faketime_library(), FAKETIME_TIMESTAMP_FILE=str(self._clock_path(name)),
                FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_NO_CACHE="1", FAKETIME_DONT_RESET="1")
        return {**environment, **{key: str(value) for key, value in more.items()}}

    def _start(self, name, command, **options):
        """Returns once the process is in its groups, where `kill` and the quota find it."""
        process = subprocess.Popen(self.estate.command(name, command), **options)
        self.processes.append(process)
        deadline = time.monotonic() + DEADLINE_S
        while process.pid not in self.estate.pids(name) and process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: {command[0]} does not start")
            time.sleep(0.001)
        return process

    def start(self, name, command, environment=None, **options):
        """A process of the node: subprocess.Popen with the node's network, groups and HOME. Its
        pid is the command's own."""
        options.setdefault("stdin", subprocess.DEVNULL)
        with open(self.log(name), "ab") as log:
            options.setdefault("stdout", log)
            options.setdefault("stderr", log)
            return self._start(name, command, cwd=self.home(name),
                               env=self.environment(name, **(environment or {})), **options)

    def run(self, name, command, environment=None, **options):
        """subprocess.run in the node, with its output as text."""
        options = {"capture_output": True, "text": True, "check": False, **options}
        return subprocess.run(self.estate.command(name, command), cwd=self.home(name),
                              env=self.environment(name, **(environment or {})), **options)

    def pids(self, name):
        return self.estate.pids(name)

    def signal(self, name, signo):
        """To all processes of the node."""
        for pid in self.pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signo)

    def kill(self, name):
        """The node loses its power: kill -9 of all it runs. Returns when none is left."""
        deadline = time.monotonic() + DEADLINE_S
        while self.pids(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: processes {self.pids(name)} do not end")
            self.signal(name, signal.SIGKILL)
            time.sleep(0.005)

    def pause(self, name):
        """SIGSTOP to all the node runs, until none is new: some may be about to fork."""
        stopped = set()
        while new := set(self.pids(name)) - stopped:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= new

    def resume(self, name):
        self.signal(name, signal.SIGCONT)

    @contextlib.contextmanager
    def inside(self, name):
        """This thread's new sockets are the node's until the end of the block."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as own, \
                open(f"/run/netns/{self.estate.namespace(name)}", "rb") as other:
            if libc.setns(other.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(own.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

    # The network

    @property
    def control_path(self):
        return str(self.estate.folder / "switch.sock")

    def command(self, line):
        """One line to the switch; its answer."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(DEADLINE_S)
            control.connect(self.control_path)
            control.sendall(line.encode() + b"\n")
            answer = json.loads(control.makefile("rb").readline())
        if not answer["ok"]:
            raise ValueError(f"{line}: {answer['error']}")
        return answer

    def reset_links(self):
        """All links as declared, none cut."""
        self.heal()
        for (port, site), (other, other_site) in itertools.combinations(self.spec.public_ports(),
                                                                        2):
            self.link(port, other, **self.spec.path(site, other_site).settings())

    def link(self, a, b="*", oneway=False, **settings):
        """link("a", "b", delay="20ms", jitter="2ms", loss="1%", rate="100mbit", queue="64kb"):
        changes what is named; oneway: from a to b only."""
        words = [word for pair in settings.items() for word in pair]
        self._change("link", a, b, words + ["oneway"] * oneway)

    def cut(self, a, b="*", oneway=False):
        self._change("cut", a, b, ["oneway"] * oneway)

    def heal(self, a="*", b="*", oneway=False):
        self._change("heal", a, b, ["oneway"] * oneway)

    def _change(self, verb, a, b, words):
        a, b = self._ends(a, b)
        self.command(" ".join([verb, a, b, *words]))

    def _ends(self, a, b):
        """The ports between two nodes: between sites, a node behind NAT is its site's router."""
        nodes = self.spec.nodes
        if a not in nodes or b not in nodes or nodes[a].site is nodes[b].site:
            return a, b
        return [node.site.router if node.site.nat else node.name for node in (nodes[a], nodes[b])]

    def partition(self, names):
        """Cuts these nodes (or all nodes of these sites) off from all others; they still reach one
        another."""
        near = {node.name for node in self.spec.nodes.values()
                if node.name in names or node.site.name in names}
        for name in near:
            for other in set(self.spec.nodes) - near:
                self.cut(name, other)

    def links(self):
        """{(from, to): what the switch says of the link}."""
        return {(link["from"], link["to"]): link for link in self.command("stats")["links"]}

    # Disks and clocks

    def _ballast(self, name):
        if not self.spec.nodes[name].disk:
            raise ValueError(f"{name}: only a node with `disk` in its declaration can be filled")
        return self.home(name) / ".netlab-ballast"

    def fill_disk(self, name):
        """Until nothing more fits."""
        with open(self._ballast(name), "ab", buffering=0) as file:
            for chunk in (CHUNK, CHUNK[:4096]):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(chunk)

    def free_disk(self, name):
        self._ballast(name).unlink(missing_ok=True)

    def _clock_path(self, name):
        return self.estate.folder / f"{name}.clock"

    def set_clock(self, name, offset_s):
        """The wall clock of the node's processes, past and future, is off by so much; what they
        know as monotonic time goes on. Programs that do not ask the C library, as those in Go, see
        the true time."""
        if not self.spec.nodes[name].fake_clock:
            raise ValueError(f"{name}: only a node with `clock: fake` can have its clock set")
        new = self._clock_path(name).with_suffix(".new")
        new.write_text(f"{offset_s:+}\n", encoding="ascii")
        new.rename(self._clock_path(name))


def describe(lab):
    lines = [f"{lab.estate.id}"]
    for node in lab.spec.nodes.values():
        cpu = f"{node.cpu:.0%} of a core" if node.cpu else "all cores"
        lines.append(f"  {node.name:11} {node.address:14} {node.site.name:11} {cpu}")
    return "\n".join(lines)


def first_node(lab, name):
    return name or next(iter(lab.spec.nodes))


def command_up(options):
    with Lab(netlab_spec.load(options.file)) as lab:
        # A shell that starts programs in the background has them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(f"{describe(lab)}\n^C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


def command_shell(options):
    with Lab(netlab_spec.load(options.file)) as lab:
        name = first_node(lab, options.node)
        print(f"{describe(lab)}\nThis shell is in {name}; `{pathlib.Path(__file__).resolve()} exec "
              "NODE CMD` reaches the others. Its end is the laboratory's.", flush=True)
        # ^C is for what runs in the shell, which would inherit that a signal is ignored.
        signal.signal(signal.SIGINT, lambda *_: None)
        shell = os.environ.get("SHELL", "/bin/sh")
        environment = {"PS1": f"{name}$ "}
        return lab.run(name, [shell], environment, capture_output=False).returncode


def command_exec(options):
    lab = Lab.attach(options.lab)
    return lab.run(options.node, options.command, capture_output=False).returncode


def command_control(options):
    print(json.dumps(Lab.attach(options.lab).command(" ".join([options.verb, *options.words]))))
    return 0


def command_act(options):
    lab = Lab.attach(options.lab)
    if options.verb == "clock":
        lab.set_clock(options.node, options.offset_s)
    else:
        {"kill": lab.kill, "pause": lab.pause, "resume": lab.resume, "fill": lab.fill_disk,
         "free": lab.free_disk}[options.verb](options.node)
    return 0


def command_ls(_options):
    for estate in netlab_system.estates():
        print(f"{estate.id}  {'in use' if estate.is_in_use else 'left behind: netlab clean'}")
    return 0


def command_clean(_options):
    for lab_id in netlab_system.clean():
        print(f"{lab_id} removed")
    return 0


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--lab", default=os.environ.get("NETLAB"), metavar="ID",
                        help="which running laboratory, where there are several")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name, function, text, *arguments):
        verb = verbs.add_parser(name, help=text)
        verb.set_defaults(function=function)
        for argument, settings in arguments:
            verb.add_argument(argument, **settings)

    file = ("file", {"metavar": "LAB.yaml"})
    node = ("node", {"metavar": "NODE"})
    add("up", command_up, "build a laboratory and keep it until ^C", file)
    add("shell", command_shell, "build one, and open a shell in its first or the named node", file,
        ("node", {"metavar": "NODE", "nargs": "?"}))
    add("exec", command_exec, "run a command in a node", node,
        ("command", {"nargs": argparse.REMAINDER, "metavar": "CMD"}))
    for verb in ("link", "cut", "heal", "stats"):
        add(verb, command_control, f"tell the switch: {verb} ...",
            ("words", {"nargs": "*", "metavar": "WORD"}))
    for verb, text in (("kill", "kill -9 all that a node runs"), ("pause", "stop it all"),
                       ("resume", "let it go on"), ("fill", "fill a node's disk"),
                       ("free", "empty it again")):
        add(verb, command_act, text, node)
    add("clock", command_act, "set a node's wall clock off", node,
        ("offset_s", {"type": float, "metavar": "SECONDS"}))
    add("ls", command_ls, "the laboratories of this machine")
    add("clean", command_clean, "remove what dead owners left behind")
    return parser.parse_args()


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return options.function(options)
    except (NetlabUnavailable, netlab_spec.SpecError, ValueError, OSError, KeyError) as error:
        print(f"netlab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
