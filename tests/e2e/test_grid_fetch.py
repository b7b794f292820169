"""Models that one member has and another is to run: how they get there, and what is said when they
do not."""
import pathlib
import shutil

import pytest

from conftest import MODELS
from grid import grid_in
from service import wait_for
from test_grid_join import known_at

pytestmark = pytest.mark.skipif(
    not (shutil.which("nats-server") or pathlib.Path("/usr/sbin/nats-server").exists()),
    reason="no nats-server")


@pytest.fixture
def pair(tmp_path):
    """A cordoned gateway that has a model, and a node that has not."""
    with grid_in(tmp_path) as grid:
        gateway = grid.up()
        gateway.starlane.call("import", MODELS / "starling.gguf", "--name", "tale:1")
        node = grid.join("beta", gateway.token)
        known_at(gateway, node)
        gateway.request("PATCH", "/grid/v1/members/alpha", {"duty": "cordoned"})
        wait_for(lambda: states(gateway, gateway)["duty"] == "cordoned"
                 and states(gateway, node).get("duty") == "open", "both to report")
        yield gateway, node


def states(gateway, member):
    nodes = gateway.get("/grid/v1/nodes").json["nodes"]
    return next((node for node in nodes if node["id"] == member.id), {})


def ask(gateway):
    return gateway.post("/v1/completions", {"model": "tale:1", "prompt": "Once", "max_tokens": 4,
                                            "ignore_eos": True}, expect=None)


def test_a_model_comes_from_the_member_that_has_it(pair):
    gateway, node = pair
    answer = ask(gateway)
    assert answer.status == 200, answer.text
    assert [model["name"] for model in states(gateway, node)["models"]] == ["tale:1"]


def test_a_fetch_that_fails_is_told_to_who_waits(pair):
    gateway, node = pair
    blobs = pathlib.Path(gateway.starlane.environment["STARLANE_HOME"]) / "models/blobs"
    size = (MODELS / "starling.gguf").stat().st_size
    for blob in blobs.iterdir():
        if blob.stat().st_size == size:
            blob.unlink()  # it may be the very file of MODELS
            blob.write_bytes(bytes(size))
    answer = ask(gateway)
    assert answer.status == 503 and "cannot be loaded anywhere" in answer.text, answer.text
    (model,) = states(gateway, node)["models"]
    assert model["state"] in ("failed", "starting")
