"""Grids whose NATS runs already: one server with plain users, and a hub with a leaf node behind
NAT, configured by the files of examples/nats."""
import contextlib
import json
import os
import socket
import subprocess

import pytest

from conftest import BINARY, MODELS
from grid import grid_in
from netlabs import laboratory
from service import wait_for
from test_grid_attack import REPORT, WHOLE, number, text
from test_grid_join import Nats, connects, known_at, refused
from test_nats_topologies import (EXAMPLES, GRID_PASSWORD, HUB_LAB, SERVER, authority, start_server,
                                  tools, wait_ready)

import netlab_grid  # by netlabs' path  pylint: disable=wrong-import-order

assert authority and tools  # fixtures
PASSWORDS = {"GATEWAY_PASSWORD": "gateway-secret", "NODE_PASSWORD": "node-secret"}
NODE_USER = {"user": "node", "pass": PASSWORDS["NODE_PASSWORD"]}
ASK = {"model": "starling", "prompt": "Once upon a time", "max_tokens": 8, "ignore_eos": True}


@pytest.fixture
def nats_url(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "nats.conf"
    config.write_text((EXAMPLES / "one-server/nats.conf").read_text("utf-8")
                      .replace("127.0.0.1:4222", f"127.0.0.1:{port}"), encoding="utf-8")
    url = f"nats://127.0.0.1:{port}"
    with open(tmp_path / "nats.log", "wb") as log:
        process = subprocess.Popen([SERVER, "-c", config], stdout=log, stderr=log,
                                   env={**os.environ, **PASSWORDS})
    try:
        wait_for(lambda: reachable(port), "nats-server to listen")
        yield url
    finally:
        process.kill()
        process.wait()


def reachable(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def speaks_on(url, member):
    """Reports in the name of somebody who was removed; returns when the gateway could have heard."""
    nats, echo = (Nats(url, None, NODE_USER) for _ in range(2))
    assert nats.answer() == "PONG" and echo.answer() == "PONG"
    echo.send(f"SUB sl.report.{member} 1")
    echo.send("PING")
    assert echo.answer() == "PONG"
    message = WHOLE + bytes([REPORT]) + number(1, 1 << 60) + number(2, 1) + text(3, "ghost")
    nats.socket.sendall(f"PUB sl.report.{member} {len(message)}\r\n".encode() + message + b"\r\n")
    assert echo.line().startswith("MSG")
    nats.close()
    echo.close()


def duty_of(gateway, member):
    nodes = gateway.get("/grid/v1/nodes").json["nodes"]
    return [node.get("duty") for node in nodes if node["id"] == member.id]


def test_plain_users_of_a_server_that_runs_already(tmp_path, nats_url, monkeypatch):
    assert not connects(nats_url, None)
    with grid_in(tmp_path) as grid:
        monkeypatch.setenv("STARLANE_BUS_PASSWORD", PASSWORDS["GATEWAY_PASSWORD"])
        gateway = grid.up("alpha", "--bus", nats_url, "--bus-user", "gateway")
        monkeypatch.setenv("STARLANE_BUS_PASSWORD", PASSWORDS["NODE_PASSWORD"])
        node = grid.join("beta", gateway.token, "--bus-user", "node")
        known_at(gateway, node)
        assert not (tmp_path / "alpha/grid/nats-server.conf").exists()
        wait_for(lambda: duty_of(gateway, node) == ["open"], "the node's report")
        gateway.request("PATCH", "/grid/v1/members/alpha", {"duty": "cordoned"})
        wait_for(lambda: duty_of(gateway, gateway) == ["cordoned"], "the gateway's cordon")
        answer = gateway.post("/v1/completions", ASK)
        assert answer.json["usage"]["completion_tokens"] == 8
        # The server knows nothing of removals; the members do.
        gateway.request("DELETE", "/grid/v1/members/beta")
        assert "was removed from the grid" in node.end()
        states = [n["state"] for n in gateway.get("/grid/v1/nodes").json["nodes"]
                  if n["id"] == node.id]
        assert states in ([], ["dead"]), states
        speaks_on(nats_url, node.id)
        assert not [n for n in gateway.get("/grid/v1/nodes").json["nodes"]
                    if n["id"] == node.id and n["state"] == "alive"]
        # Nor may a node's password order anything.
        nats = Nats(nats_url, None, NODE_USER)
        assert nats.answer() == "PONG"
        assert refused(nats, f"PUB sl.run.{gateway.id}.{node.id} 1", "x")
        assert refused(nats, f"PUB sl.registry.{node.id} 1", "x")
        assert refused(nats, f"SUB sl.answer.{gateway.id}.* 1")
        nats.close()


def in_lab(lab, **options):
    ca = lab.home("hub") / "certs/ca.pem"
    grid = netlab_grid.Grid(lab, BINARY, MODELS, **options)
    grid.environment["STARLANE_BUS_PASSWORD"] = GRID_PASSWORD
    return grid, ["--bus-user", "member", "--bus-ca", ca]


def ask(grid, method, path, body):
    key = (grid.lab.home("gate") / ".starlane/grid/admin.key").read_text("ascii").strip()
    with contextlib.closing(grid.connect("gate")) as connection:
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_hub_and_a_leaf_node_behind_nat(authority):  # pylint: disable=redefined-outer-name
    declaration = {**HUB_LAB, "nodes": {**HUB_LAB["nodes"], "client": {"site": "hub"}}}
    with laboratory(declaration) as lab:
        start_server(lab, authority, "hub", "hub-and-edges/hub.conf")
        wait_ready(lab, "hub")
        start_server(lab, authority, "berlin", "hub-and-edges/edge.conf", SITE="berlin",
                     HUB_URL="tls://berlin:berlin-secret@hub.example.com:7422")
        wait_ready(lab, "berlin")
        grid, options = in_lab(lab)
        grid.open("gate", "--bus", "tls://hub.example.com:4222", *options)
        grid.join("box1", grid.make_token(1), "--bus", "tls://berlin.example.com:4222", *options)
        grid.wait_alive(["gate", "box1"])
        assert ask(grid, "PATCH", "/grid/v1/members/gate", {"duty": "cordoned"})[0] == 200
        grid.wait(lambda: grid.nodes()["gate"]["duty"] == "cordoned", "the cordon")
        status, answer = ask(grid, "POST", "/v1/completions", ASK)
        assert status == 200 and answer["usage"]["completion_tokens"] == 8
        grid.wait_ready("starling", ["box1"])
        # The way to the hub goes, and comes back.
        lab.cut("berlin", "hub")
        grid.wait(lambda: grid.nodes()["box1"]["state"] == "dead", "the cut to show")
        lab.heal()
        grid.wait_alive(["box1"])
        assert ask(grid, "POST", "/v1/completions", ASK)[0] == 200
