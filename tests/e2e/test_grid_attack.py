"""A grid under attack on loopback: by strangers at its ports, by a member whose machine is somebody
else's now, by web pages, and by those who look at the machine's processes and files."""
import pathlib
import shutil
import socket
import ssl
import struct

import pytest

from conftest import MODELS
from grid import grid_in
from service import DEADLINE_S, wait_for
from test_grid_join import Nats, ask_port, grid_folder, known_at, open_token, tls_context

pytestmark = pytest.mark.skipif(
    not (shutil.which("nats-server") or pathlib.Path("/usr/sbin/nats-server").exists()),
    reason="no nats-server")

WHOLE = b"\0"  # a message that did not travel in parts
EVENTS, BEAT, REPORT, CARDS, PONG, DEMAND = 5, 6, 7, 8, 10, 11
READY = 3


class Mallory:
    """A member that was let in, and then speaks for itself."""

    def __init__(self, grid, gateway, *options):
        node = grid.join("mallory", gateway.make_token(), *options)
        known_at(gateway, node)
        self.id, self.folder, self.gateway = node.id, grid_folder(node), gateway
        node.stop()
        self.context = tls_context(self.folder, grid_folder(gateway) / "ca.pem")
        self.nats = Nats(gateway.bus_url(), self.context)
        assert self.nats.answer() == "PONG"
        self.version = 0

    def say(self, subject, payload):
        self.nats.socket.sendall(f"PUB {subject}.{self.id} {len(payload)}\r\n".encode()
                                 + payload + b"\r\n")

    def flush(self):
        self.nats.send("PING")
        assert self.nats.answer() == "PONG"

    def report(self, *hosted, boot=1 << 60):
        self.version += 1
        self.say("sl.report", WHOLE + bytes([REPORT]) + number(1, boot) + number(2, self.version)
                 + text(3, "mallory") + number(9, 1 << 40) + b"".join(hosted))

    def cards(self, *cards, boot=1 << 60):
        self.version += 1
        self.say("sl.report", WHOLE + bytes([CARDS]) + number(1, boot) + number(2, self.version)
                 + b"".join(cards))

    def close(self):
        self.nats.close()


# Protocol Buffers by hand: https://protobuf.dev/programming-guides/encoding/

def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def text(field, value):
    return data(field, value.encode())


def real(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def card(name, digest):
    return data(3, text(1, name) + text(2, digest) + number(3, 1000) + number(4, 1000)
                + text(5, "gguf"))


def hosted(name, digest):
    """Ready, idle and faster than anything."""
    return data(19, text(1, name) + text(2, digest) + number(3, READY) + number(4, 1000)
                + number(5, 1000) + real(11, 1e9) + real(12, 1e9))


@pytest.fixture
def grid(tmp_path):
    with grid_in(tmp_path) as made:
        yield made


def answers(gateway, model="starling", **headers):
    answer = gateway.post("/v1/completions", {"model": model, "prompt": "Once", "max_tokens": 4,
                                              "ignore_eos": True}, headers=headers, expect=None)
    assert answer.status == 200, answer.text
    assert answer.json["usage"]["completion_tokens"] == 4


def raw(member, context, request):
    """The status with which its grid port answers these bytes; None: it closes without a word."""
    host, port = member.grid_address.split(":")
    try:
        with socket.create_connection((host, int(port)), DEADLINE_S) as plain, \
                context.wrap_socket(plain) as tls:
            tls.sendall(request)
            head = tls.recv(4096).decode("latin-1")
            return int(head.split(" ")[1]) if head else None
    except (ssl.SSLError, ConnectionError):
        return None


# --- strangers at the grid port ---

def test_the_grid_port_takes_what_strangers_send(grid):
    gateway = grid.up()
    anybody = tls_context()
    huge = b"GET /grid/v1/ca HTTP/1.1\r\nHost: x\r\n"
    assert raw(gateway, anybody, huge + b"X: " + b"y" * 100000 + b"\r\n\r\n") in (431, None)
    assert raw(gateway, anybody, huge + b"X: y\r\n" * 20000 + b"\r\n") in (431, None)
    assert raw(gateway, anybody, b"GET /" + b"a" * 90000 + b" HTTP/1.1\r\n\r\n") in (414, None)
    join = b"POST /grid/v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: "
    assert raw(gateway, anybody, join + b"99999999999\r\n\r\n") == 413
    assert raw(gateway, anybody, join + b"5\r\n\r\nhello") == 400
    deep = b"[" * 50000
    assert raw(gateway, anybody, join + str(len(deep)).encode() + b"\r\n\r\n" + deep) in (400, 413)
    assert raw(gateway, anybody, b"\x16\x03\x01 no HTTP \r\n\r\n") in (400, None)
    # Neither finished handshakes nor finished heads, and more of them than a node's connections.
    host, port = gateway.grid_address.split(":")
    idle = [socket.create_connection((host, int(port)), DEADLINE_S) for _ in range(300)]
    for connection in idle[::2]:
        connection.sendall(b"\x16\x03\x01\x02\x00")
    assert ask_port(gateway, anybody, "GET", "/grid/v1/ca") == 200
    for connection in idle:
        connection.close()
    answers(gateway)


def test_paths_lead_nowhere(grid):
    gateway = grid.up()
    mallory = Mallory(grid, gateway)
    for path in ("/grid/v1/blobs/../../../grid/key.pem", "/grid/v1/blobs/..%2f..%2fkey.pem",
                 "/grid/v1/blobs/" + "0" * 63, "/grid/v1/blobs/" + "A" * 64,
                 "/grid/v1/blobs/" + "0" * 64 + "%00", "/grid/v1/blobs//etc/passwd",
                 "/grid/v1/models/../../grid/ca-key.pem", "/grid/v1/models/%2e%2e%2fkey",
                 "/grid/v1/models/", "/grid/v1/models/a/b/c/d/e", "/grid/v1/../v1/ca", "//",
                 "/grid/v1/tokens", "/grid/v1/members"):
        assert ask_port(gateway, mallory.context, "GET", path) in (400, 404), path
        assert ask_port(gateway, tls_context(), "GET", path) in (400, 401, 404), path
    # What is linked to from the store's folder is not the store's.
    blobs = pathlib.Path(gateway.starlane.environment["STARLANE_HOME"]) / "models/blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for name in ("sha256-" + "1" * 64, "1" * 64):
        (blobs / name).symlink_to(grid_folder(gateway) / "ca-key.pem")
    status = ask_port(gateway, mallory.context, "GET", "/grid/v1/blobs/" + "1" * 64)
    assert status in (404, 500)
    mallory.close()


def test_a_member_that_does_not_read_leaves_transfers_to_others(grid):
    gateway = grid.up()
    model = MODELS / "starling.gguf"
    gateway.starlane.call("import", model, "--name", "tale:1")
    blobs = pathlib.Path(gateway.starlane.environment["STARLANE_HOME"]) / "models/blobs"
    (blob,) = [path.name.removeprefix("sha256-") for path in blobs.iterdir()
               if path.stat().st_size == model.stat().st_size]
    mallory, honest = Mallory(grid, gateway), grid.join("beta", gateway.make_token())
    known_at(gateway, honest)
    host, port = gateway.grid_address.split(":")
    stuck = []
    for _ in range(20):
        plain = socket.create_connection((host, int(port)), DEADLINE_S)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tls = mallory.context.wrap_socket(plain)
        tls.sendall(f"GET /grid/v1/blobs/{blob} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        stuck.append(tls)
    wait_for(lambda: ask_port(gateway, mallory.context, "GET", f"/grid/v1/blobs/{blob}") == 503,
             "the member to have had its share")
    assert ask_port(gateway, tls_context(grid_folder(honest)), "GET",
                    f"/grid/v1/blobs/{blob}") == 200
    for tls in stuck:
        tls.close()
    mallory.close()


# --- a member that lies ---

def test_lies_on_the_bus_do_no_harm(grid):
    gateway = grid.up("alpha", "--echo")
    mallory = Mallory(grid, gateway)
    to = f"sl.answer.{gateway.id}"
    entries = b"".join(data(2, number(1, i) + number(2, 1) + number(4, 9)) for i in range(20000))
    mallory.report()
    for boot in (0, 1, (1 << 64) - 1):
        mallory.say(to, WHOLE + bytes([BEAT]) + number(1, boot) + entries[:9000])
        mallory.say(to, WHOLE + bytes([EVENTS]) + number(1, boot) + number(2, 1) + number(3, 1)
                    + number(4, 1) + data(5, number(1, 0) + number(2, 4)))
    for kind in range(14):
        for rest in (b"", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", number(1, 5) * 1000):
            mallory.say("sl.report", WHOLE + bytes([kind]) + rest)
            mallory.say(to, WHOLE + bytes([kind]) + rest)
            mallory.say(f"sl.ping.{gateway.id}", WHOLE + bytes([kind]) + rest)
    # Parts of messages that never become whole, and of all sizes.
    for size in (0, 1, 262145, 72 << 20, (1 << 32) - 1):
        for index in (0, 1, 1 << 31):
            part = struct.pack(">BQII", 1, size, index, size) + b"z" * 64
            mallory.say("sl.report", part)
    # A report of the fastest machine there is, with numbers past every limit.
    mallory.report(hosted("starling:latest", "0" * 64), real(12, float("nan")))
    mallory.report(data(7, b"key=" + b"v" * 500))
    mallory.report(hosted("../../etc/passwd", "../../../x"), hosted("\x1b[2J", "\n"))
    mallory.flush()
    answers(gateway)
    assert gateway.get("/grid/v1/nodes").status == 200
    assert gateway.process.poll() is None
    mallory.close()


def test_other_contents_of_a_name_do_not_take_its_requests(grid):
    """The gateway's own contents of a name count, however many others come with."""
    gateway = grid.up()
    answers(gateway)
    mallory = Mallory(grid, gateway)
    name = gateway.get("/v1/models").json["data"][0]["id"]
    for digest in ("0" * 64, "f" * 64):
        mallory.cards(card(name, digest), card("starling:latest", digest), card("starling", digest))
        mallory.report(hosted(name, digest), hosted("starling:latest", digest))
    mallory.flush()
    for _ in range(5):
        answers(gateway)
    mallory.close()


def test_one_members_models_leave_room_for_others(grid):
    gateway = grid.up("alpha", "--echo")
    mallory = Mallory(grid, gateway)
    # The gateway says what it wants to hear from whom it has not heard of: all cards.
    mallory.report()
    for turn in range(3):
        mallory.cards(*(card(f"junk{turn}:{i}", f"{i:064x}") for i in range(4000)))
    mallory.flush()
    answers(gateway, model="echo:")
    answers(gateway)
    mallory.close()


def test_a_removed_member_is_heard_no_more(grid):
    gateway = grid.up()
    mallory = Mallory(grid, gateway)
    mallory.cards(card("mine:1", "a" * 64))
    mallory.report(hosted("mine:1", "a" * 64))
    mallory.flush()
    gateway.request("DELETE", f"/grid/v1/members/{mallory.id}")
    wait_for(lambda: ask_port(gateway, mallory.context, "POST", "/grid/v1/hello") == 403,
             "the grid port to refuse it")

    def cut_off():
        try:
            mallory.flush()
            return False
        except (ConnectionError, ssl.SSLError, AssertionError):
            return True
    wait_for(cut_off, "the bus to cut it off")
    wait_for(lambda: mallory.id not in gateway.get("/grid/v1/nodes").text
             or gateway.post("/v1/completions", {"model": "mine:1", "prompt": "x"},
                             expect=None).status in (404, 503), "its model to be gone")
    mallory.close()


def test_a_cordoned_member_cannot_say_that_it_is_open(grid):
    gateway = grid.up()
    mallory = Mallory(grid, gateway)
    gateway.request("PATCH", f"/grid/v1/members/{mallory.id}", {"duty": "cordoned"})

    def duty():
        mallory.report()
        mallory.flush()
        nodes = gateway.get("/grid/v1/nodes").json["nodes"]
        return [node.get("duty") for node in nodes if node["id"] == mallory.id]
    wait_for(lambda: duty() == ["cordoned"], "the gateway's word to count")
    mallory.close()


# --- web pages, and who looks around on the machine ---

def test_web_pages_administer_nothing(grid):
    gateway = grid.up()
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"},
                    {"Host": "evil.example"}, {"Host": "evil.example:8080"}):
        for method, path in (("POST", "/grid/v1/tokens"), ("GET", "/grid/v1/members"),
                             ("GET", "/grid/v1/tokens"),
                             ("DELETE", f"/grid/v1/members/{gateway.id}")):
            answer = gateway.request(method, path, {} if method == "POST" else None,
                                     headers=headers, expect=None)
            assert answer.status == 403, (method, path, headers)
            assert answer.headers.get("access-control-allow-origin") is None
    rows = gateway.get("/grid/v1/tokens").json["tokens"]
    assert len(rows) == 1


def test_secrets_are_nowhere_to_be_seen(grid):
    gateway = grid.up()
    token = gateway.make_token("--uses", "5")
    node = grid.join("beta", token)
    known_at(gateway, node)
    secret = open_token(token)["s"].encode()
    seen = [pathlib.Path(f"/proc/{member.process.pid}/cmdline").read_bytes()
            for member in (gateway, node)]
    seen += ["".join(member.log).encode() for member in (gateway, node)]
    for member in (gateway, node):
        home = pathlib.Path(member.starlane.environment["STARLANE_HOME"])
        seen += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        assert home.stat().st_mode & 0o077 == 0
        for name in ("key.pem", "admin.key", "ca-key.pem", "nats-server.conf"):
            if (home / "grid" / name).exists():
                assert (home / "grid" / name).stat().st_mode & 0o077 == 0, name
    for content in seen:
        assert secret not in content
        assert token.encode() not in content
