"""A model split over members that cannot reach one another: each is behind a router of its own, so
what goes between the stages goes over the bus."""
import json
import time

import pytest

from conftest import BINARY, MODELS
from netlabs import laboratory
from netlab_grid import Answer, Grid
from splits import MODEL, has_nats, make_model

pytestmark = pytest.mark.skipif(not has_nats(), reason="no nats-server")

LAB = {"sites": {"hub": {}, "home": {"rtt": "4ms", "nat": True},
                 "office": {"rtt": "4ms", "nat": True}},
       "nodes": {"g1": {"site": "hub"}, "client": {"site": "hub"}, "n1": {"site": "home"},
                 "n2": {"site": "office"}}}
NODES = ["n1", "n2"]
BODY = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0,
        "ignore_eos": True}


def post(grid, path, body):
    key = (grid.lab.home("g1") / ".starlane/grid/admin.key").read_text(encoding="ascii").strip()
    connection = grid.connect("g1")
    connection.request("POST", path, json.dumps(body), {
        "Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    document = json.load(response)
    connection.close()
    assert response.status == 200, document
    return document


def wait_for_chain(grid):
    deadline = time.monotonic() + 120
    while True:
        told = grid.get("g1", f"/grid/v1/explain?model={MODEL}").get("chain", {})
        if told.get("state") == "ready" and len(told["stages"]) == len(NODES):
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def test_stages_behind_two_routers_talk_over_the_bus(tmp_path):
    with laboratory(LAB) as lab:
        grid = Grid(lab, BINARY, MODELS)
        file = make_model(tmp_path)
        assert not lab.run("g1", [str(BINARY), "import", str(file), "--name", MODEL]).returncode
        grid.open("g1", "--memory", "1M")
        token = grid.make_token(len(NODES))
        for name in NODES:
            grid.join(name, token, "--threads", 1, "--keep-alive", "-1")
        grid.wait_alive(NODES)
        whole = Answer().ask(grid, ["g1"], BODY).text
        assert whole
        post(grid, "/grid/v1/plans", {"model": MODEL, "nodes": NODES, "stages": len(NODES),
                                      "link": "f32", "apply": True})
        wait_for_chain(grid)
        assert Answer().ask(grid, ["g1"], BODY).text == whole
