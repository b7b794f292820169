"""A grid on loopback for tests: gateways and nodes as processes, each with a home of its own."""
import contextlib
import re
import subprocess
import threading

from conftest import Starlane
from service import DEADLINE_S, Service, wait_for


class Member(Service):
    """`starlane up` or `starlane join`; a node has no address, for it has no public API."""

    def __init__(self, home, verb, *arguments, name=None):  # pylint: disable=super-init-not-called
        self.starlane, self.key, self.tls = Starlane(home), None, None
        self.name = name or home.name
        self.log, self.address, self.grpc_address = [], None, None
        self.id, self.grid_address, self.token = None, None, None
        self.process = self.starlane.start(
            verb, *arguments, "--grid-host", "127.0.0.1", "--name", self.name, "--port", 0,
            "--grpc-port", 0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        is_gateway = verb == "up" or "--gateway" in arguments
        if verb == "up":
            found = re.fullmatch(r"starlane join (\S+)\n", self.process.stdout.readline())
            self.token = found[1] if found else None
        wait_for(lambda: (self.id and (self.address or not is_gateway))
                 or self.process.poll() is not None, f"{self.name} to start")
        assert self.process.poll() is None, "".join(self.log)

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"^(?:Gateway|Node) \S+ \((n\w{13})\) .* at (\S+)", line)
            if found:
                self.id, self.grid_address = found[1], found[2].split(",")[0]
            found = re.search(r"listens on https?://([^ ]+):(\d+)", line)
            if found:
                self.address = ("127.0.0.1", int(found[2]))

    def make_token(self, *options):
        return self.starlane.text("token", "create", "--server", self.url, *options).strip()

    def members(self):
        """{id: entry} as this gateway knows them, removed ones too."""
        document = self.get("/grid/v1/members").json
        return {member["id"]: member for member in document["members"]}

    def bus_url(self):
        return self.members()[self.id]["bus"].split(",")[0]

    def nats_pid(self):
        with open(f"{self.starlane.environment['STARLANE_HOME']}/grid/nats-server.pid",
                  encoding="ascii") as file:
            return int(file.read())

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._close()

    def end(self, status=1):
        """Its last line, once it has ended by itself with that status."""
        assert self.process.wait(DEADLINE_S) == status, "".join(self.log)
        self._close()
        return self.log[-1]

    def _close(self):
        self._reader.join(DEADLINE_S)
        self.process.stderr.close()
        self.process.stdout.close()

    def stop(self):
        ended = self.process.returncode is None and self.process.poll()
        assert ended in (False, None), (self.name, ended, "".join(self.log[-20:]))
        super().stop()
        self.process.stdout.close()


class Grid:
    """grid.up(), grid.join(token): all of it ends with the test."""

    def __init__(self, folder, stack):
        self.folder, self._stack = folder, stack

    def _start(self, name, verb, *arguments):
        return self._stack.enter_context(Member(self.folder / name, verb, *arguments, name=name))

    def up(self, name="alpha", *arguments):
        return self._start(name, "up", *arguments)

    def join(self, name, *arguments):
        """Without a token: a member that has joined before starts again."""
        return self._start(name, "join", *arguments)

    def home(self, name):
        return Starlane(self.folder / name)


@contextlib.contextmanager
def grid_in(folder):
    with contextlib.ExitStack() as stack:
        yield Grid(folder, stack)
