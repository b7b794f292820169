"""Who becomes a member of a grid, who does not, and who is one no more: real processes on loopback,
each with a home of its own."""
import base64
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import urllib.parse

import pytest

from grid import grid_in
from service import DEADLINE_S, wait_for

pytestmark = pytest.mark.skipif(
    not (shutil.which("nats-server") or pathlib.Path("/usr/sbin/nats-server").exists()),
    reason="no nats-server")


@pytest.fixture
def grid(tmp_path):
    with grid_in(tmp_path) as made:
        yield made


def open_token(token):
    """What a token's text holds."""
    text = token.removeprefix("slj1.")
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def close_token(parts):
    text = json.dumps(parts, separators=(",", ":")).encode()
    return "slj1." + base64.urlsafe_b64encode(text).decode().rstrip("=")


def known_at(gateway, member):
    """Its entry at the gateway, once that knows where the member is reached."""
    return wait_for(lambda: member.id in gateway.members()
                    and gateway.members()[member.id]["addresses"]
                    and gateway.members()[member.id], f"{member.name} to say hello")


# --- joining ---

def test_two_machines_join(grid):
    gateway = grid.up()
    first = grid.join("beta", gateway.token, "--label", "site=berlin", "--label", "tier=edge")
    second = grid.join("gamma", gateway.make_token())
    assert known_at(gateway, first)["labels"] == "site=berlin,tier=edge"
    assert known_at(gateway, second)["addresses"] == second.grid_address
    assert set(gateway.members()) == {gateway.id, first.id, second.id}
    home = pathlib.Path(first.starlane.environment["STARLANE_HOME"])
    assert (home / "grid/key.pem").stat().st_mode & 0o777 == 0o600
    assert not (home / "grid/ca-key.pem").exists()
    assert not (home / "grid/nats-server.pid").exists()


def test_a_node_starts_again_without_a_token(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    before = known_at(gateway, node)
    node.stop()
    again = grid.join("beta", "--label", "rack=7")
    assert again.id == node.id
    wait_for(lambda: gateway.members()[node.id]["labels"] == "rack=7", "the new label")
    assert gateway.members()[node.id]["joins"] == before["joins"]


def test_a_gateway_starts_again_with_its_members(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    known_at(gateway, node)
    gateway.kill()
    again = grid.up()
    assert again.id == gateway.id
    assert set(again.members()) == {gateway.id, node.id}


def test_a_second_gateway_admits_when_the_first_is_dead(grid):
    first = grid.up()
    second = grid.join("beta", first.token, "--gateway")
    known_at(first, second)
    assert open_token(second.make_token())["p"] == open_token(first.token)["p"]
    first.kill()
    node = grid.join("gamma", second.make_token())
    assert known_at(second, node)["gateway"] is False
    # The first comes back, and learns who came meanwhile.
    again = grid.up()
    wait_for(lambda: node.id in again.members(), "the first gateway to hear of the node")


def test_what_one_gateway_changes_the_other_learns(grid):
    first = grid.up()
    second = grid.join("beta", first.token, "--gateway")
    known_at(first, second)
    first.request("PATCH", f"/grid/v1/members/{second.id}",
                  {"labels": {"site": "bonn"}, "duty": "cordoned"})
    wait_for(lambda: second.members()[second.id]["labels"] == "site=bonn", "the label")
    assert second.members()[second.id]["duty"] == "cordoned"


# --- tokens that let nobody in ---

def join_error(grid, token, expect=1):
    return grid.home("stranger").error("join", token, "--grid-host", "127.0.0.1", expect=expect)


def test_bad_tokens_are_told_apart(grid):
    gateway = grid.up()
    parts = open_token(gateway.token)
    assert "is no join token" in join_error(grid, "hello", expect=2)
    assert "not whole" in join_error(grid, gateway.token[:-9], expect=2)
    assert "another version" in join_error(grid, "slj9.abc", expect=2)
    wrong_pin = close_token({**parts, "p": "0" * 64})
    assert "the pin differs" in join_error(grid, wrong_pin)
    wrong_secret = close_token({**parts, "s": "x" * 43})
    assert "does not know this token" in join_error(grid, wrong_secret)
    nowhere = close_token({**parts, "a": ["127.0.0.1:1"]})
    assert "no address of the token answers" in join_error(grid, nowhere)
    assert list(gateway.members()) == [gateway.id]


def test_a_token_is_used_up_expires_and_is_revoked(grid):
    gateway = grid.up()
    grid.join("beta", gateway.token)
    assert "the token is used up" in join_error(grid, gateway.token)
    short = gateway.make_token("--ttl", "1s")
    token_id = open_token(short)["i"]

    def listed():
        rows = gateway.starlane.json("token", "ls", "--json", "--server", gateway.url)
        return {row["id"]: row for row in rows}
    wait_for(lambda: listed()[token_id]["state"] == "expired", "the token to expire")
    assert "the token is expired" in join_error(grid, short)
    revoked = gateway.make_token()
    gateway.starlane.call("token", "rm", open_token(revoked)["i"], "--server", gateway.url)
    assert "the token is revoked" in join_error(grid, revoked)
    assert "secret" not in json.dumps(listed())


def test_a_token_is_for_nodes_unless_it_says_gateways(grid):
    gateway = grid.up()
    token = gateway.make_token()
    said = grid.home("stranger").error("join", token, "--gateway", "--grid-host", "127.0.0.1",
                                       expect=1)
    assert "lets nodes in" in said and "token create --gateway" in said
    grid.join("beta", token)  # it was not used up by that
    both = gateway.make_token("--gateway", "--uses", 2)
    grid.join("gamma", both)
    second = grid.join("delta", both, "--gateway")
    assert known_at(gateway, second)["gateway"]
    listed = gateway.starlane.json("token", "ls", "--json", "--server", gateway.url)
    # What `up` printed is for both.
    assert {row["id"]: row["gateway"] for row in listed} == {
        open_token(token)["i"]: False, open_token(both)["i"]: True,
        open_token(gateway.token)["i"]: True}
    table = gateway.starlane.text("token", "ls", "--server", gateway.url)
    assert table.count("  gateways  ") == 2 and table.count("  nodes  ") == 1


def test_the_wrong_grid_is_told(grid):
    gateway, other = grid.up(), grid.up("omega")
    parts = open_token(gateway.token)
    elsewhere = close_token({**parts, "a": open_token(other.token)["a"]})
    assert "not of the grid that the token is for" in join_error(grid, elsewhere)
    assert "no grid yet" in grid.home("stranger").error("join", expect=2)
    assert "member of another grid" in other.starlane.error("join", gateway.token, expect=2)


# --- without credentials, and with those of others ---

def tls_context(folder=None, root=None):
    """A client of a member's home, or of nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if root else ssl.CERT_NONE
    if root:
        context.load_verify_locations(root)
    if folder:
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def grid_folder(member):
    return pathlib.Path(member.starlane.environment["STARLANE_HOME"]) / "grid"


def ask_port(member, context, method, path):
    """The status of a request to its grid port; None: turned away by TLS."""
    host, port = member.grid_address.split(":")
    try:
        with socket.create_connection((host, int(port)), DEADLINE_S) as plain, \
                context.wrap_socket(plain) as tls:
            tls.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
                        .encode())
            head = tls.recv(4096).decode()
            return int(head.split(" ")[1]) if head else None
    except (ssl.SSLError, ConnectionError):
        return None


class Nats:
    """Speaks NATS by hand: INFO, TLS, CONNECT, then lines."""

    def __init__(self, url, context, options=None):
        address = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), DEADLINE_S)
        self._buffer = b""
        assert self.line().startswith("INFO")
        if context:
            self.socket = context.wrap_socket(self.socket)
        self.send("CONNECT " + json.dumps({"verbose": False, "pedantic": False,
                                           "tls_required": bool(context), **(options or {})}))
        self.send("PING")

    def line(self):
        while b"\r\n" not in self._buffer:
            some = self.socket.recv(4096)
            if not some:
                raise ConnectionError("closed")
            self._buffer += some
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line.decode()

    def send(self, text):
        self.socket.sendall(text.encode() + b"\r\n")

    def answer(self):
        """The first line that is neither INFO nor PING."""
        while True:
            line = self.line()
            if line == "PING":
                self.send("PONG")
            elif not line.startswith("INFO"):
                return line

    def close(self):
        self.socket.close()


def connects(url, context, options=None):
    """Does NATS take this client?"""
    try:
        nats = Nats(url, context, options)
        answer = nats.answer()
        nats.close()
        return answer == "PONG"
    except (ssl.SSLError, ConnectionError):
        return False


def refused(nats, *lines):
    """The server's refusal of these lines; the connection stays."""
    for line in lines:
        nats.send(line)
    nats.send("PING")
    answer = nats.answer()
    assert nats.answer() == "PONG"
    return "Permissions Violation" in answer


def test_nobody_joins_listens_or_publishes_without_credentials(grid, tmp_path):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    known_at(gateway, node)
    url = gateway.bus_url()
    for member in (gateway, node):
        assert ask_port(member, tls_context(), "GET", "/grid/v1/blobs/" + "0" * 64) in (401, 404)
    assert ask_port(gateway, tls_context(), "POST", "/grid/v1/hello") == 401
    assert not connects(url, None)
    assert not connects(url, tls_context())
    assert not connects(url, tls_context(), {"user": node.id, "pass": ""})
    # A certificate of one's own making, and one of another grid.
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", f"/CN={node.id}",
                    "-addext", f"subjectAltName=DNS:{node.id}.nodes.starlane.internal",
                    "-keyout", stranger / "key.pem", "-out", stranger / "cert.pem"],
                   check=True, capture_output=True, timeout=DEADLINE_S)
    other = grid.up("omega")
    for folder in (stranger, grid_folder(other)):
        assert not connects(url, tls_context(folder))
        assert ask_port(gateway, tls_context(folder), "POST", "/grid/v1/hello") is None
    assert set(gateway.members()) == {gateway.id, node.id}


def test_a_member_speaks_for_itself_only(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    other = grid.join("gamma", gateway.make_token())
    known_at(gateway, node)
    known_at(gateway, other)
    context = tls_context(grid_folder(node), grid_folder(gateway) / "ca.pem")
    nats = Nats(gateway.bus_url(), context)
    assert nats.answer() == "PONG"
    assert refused(nats, f"PUB sl.report.{other.id} 1", "x")
    assert refused(nats, f"PUB sl.answer.{gateway.id}.{other.id} 1", "x")
    assert refused(nats, f"PUB sl.run.{other.id}.{node.id} 1", "x")
    assert refused(nats, f"PUB sl.registry.{node.id} 1", "x")
    assert refused(nats, f"SUB sl.run.{other.id}.* 1")
    assert refused(nats, f"SUB sl.answer.{gateway.id}.* 2")
    assert refused(nats, "SUB > 3")
    nats.send(f"PUB sl.ping.{gateway.id}.{node.id} 1")
    nats.send("x")
    nats.send("PING")
    assert nats.answer() == "PONG"
    nats.close()


def test_api_keys_are_not_administrators(grid):
    gateway = grid.up()
    key = gateway.starlane.text("keys", "create", "--name", "user").strip()
    wait_for(lambda: gateway.get("/v1/models", expect=None).status == 401, "keys to be in force")
    user = {"Authorization": f"Bearer {key}"}
    assert gateway.get("/v1/models", headers=user).status == 200
    for headers in ({}, user, {"Authorization": "Bearer sla-" + "0" * 43}):
        assert gateway.get("/grid/v1/tokens", headers=headers, expect=None).status == 401
        assert gateway.post("/grid/v1/tokens", {}, headers=headers, expect=None).status == 401
        assert gateway.request("DELETE", f"/grid/v1/members/{gateway.id}", headers=headers,
                               expect=None).status == 401
    # The owner of the gateway's home is one.
    assert gateway.make_token().startswith("slj1.")
    stranger = grid.home("stranger")
    assert "administrator's key" in stranger.error("token", "create", "--server", gateway.url,
                                                   expect=1)


# --- removal ---

def test_a_removed_node_is_out_and_comes_back_with_a_token(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    known_at(gateway, node)
    context = tls_context(grid_folder(node))
    assert connects(gateway.bus_url(), context)
    gateway.request("DELETE", "/grid/v1/members/beta")
    assert "was removed from the grid" in node.end()
    assert gateway.members()[node.id]["removed"] is True
    wait_for(lambda: not connects(gateway.bus_url(), context), "NATS to refuse it")
    assert ask_port(gateway, context, "POST", "/grid/v1/hello") == 403
    assert "was removed from the grid" in node.starlane.error("join", expect=1)
    again = grid.join("beta", gateway.make_token())
    assert again.id == node.id
    known = known_at(gateway, again)
    assert known["removed"] is False and known["joins"] == 2


def test_a_node_removed_while_it_was_away_is_told_when_it_returns(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    known_at(gateway, node)
    node.stop()
    gateway.request("DELETE", f"/grid/v1/members/{node.id}")
    returned = grid.join("beta")
    assert "was removed from the grid" in returned.end()


def test_a_removed_gateway_is_out_everywhere(grid):
    first = grid.up()
    second = grid.join("beta", first.token, "--gateway")
    known_at(first, second)
    first.request("DELETE", f"/grid/v1/members/{second.id}")
    assert "was removed from the grid" in second.end()
    context = tls_context(grid_folder(second))
    wait_for(lambda: not connects(first.bus_url(), context), "NATS to refuse it")
    assert first.request("DELETE", f"/grid/v1/members/{first.id}", expect=None).status == 400
