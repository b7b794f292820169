"""Models over several members for tests: a model that only one member has, plans, and what is told
of the chains."""
import pathlib
import shutil
import subprocess

import pytest

from conftest import BINARY, MODELS
from service import wait_for

MODEL = "tale"
FIRST_WORD = b"A small story model"
"""Of the bundled model's description; another word makes it another file."""


def make_model(folder):
    """The bundled model's weights in a file that no member has by itself."""
    path = pathlib.Path(folder) / f"{MODEL}.gguf"
    data = (MODELS / "starling.gguf").read_bytes()
    assert data.count(FIRST_WORD) == 1
    path.write_bytes(data.replace(FIRST_WORD, FIRST_WORD.replace(b"small", b"short")))
    return path


def make_large_model(folder):
    """24 layers of random weights, 200 MB: much more than what any stage takes besides weights. The
    program that makes it is built with the others."""
    program, path = BINARY.parent / "bench/make_model", pathlib.Path(folder) / f"{MODEL}.gguf"
    if not program.exists():
        pytest.skip(f"no {program}")
    subprocess.run([program, "--shape", "qwen2-0.5b", "--type", "q4_0", "--vocab-from",
                    MODELS / "starling.gguf", "--threads", "1", path], check=True)
    return path


def import_model(member, folder, make=make_model):
    folder.mkdir(exist_ok=True)
    member.starlane.call("import", make(folder), "--name", MODEL)


def node_of(gateway, member):
    """What the gateway says of a member; {} when it is not there."""
    nodes = gateway.get("/grid/v1/nodes").json["nodes"]
    return next((node for node in nodes if node["id"] == member.id), {})


def hosted(gateway, member):
    """What it says of the model there; {} when it has none."""
    models = node_of(gateway, member).get("models", [])
    return next((model for model in models if model["name"].split(":")[0] == MODEL), {})


def plan(gateway, members, expect=200, **fields):
    """Of a chain over all of these members."""
    body = {"model": MODEL, "nodes": [member.name for member in members], "stages": len(members),
            "apply": True, **fields}
    return gateway.post("/grid/v1/plans", body, expect=expect)


def chain(gateway):
    """[(member, first layer, the one after the last)] of the model's chain; [] while it is not
    ready."""
    told = gateway.get(f"/grid/v1/explain?model={MODEL}").json.get("chain", {})
    if told.get("state") != "ready":
        return []
    return [(stage["member"], stage["first"], stage["last"]) for stage in told["stages"]]


def split(gateway, members, **fields):
    """Plans it and waits until it runs: the members in the chain's order."""
    made = plan(gateway, members, **fields).json
    assert made["applied"], made
    wanted = [(stage["member"], stage["first"], stage["last"]) for stage in made["plan"]["stages"]]
    wait_for(lambda: chain(gateway) == wanted, f"the chain {wanted} to run")
    return [next(m for m in members if m.id == member) for member, _, _ in wanted]


def home(member):
    return pathlib.Path(member.starlane.environment["STARLANE_HOME"])


def bytes_on_disk(folder):
    """Of all files below it, holes left out."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def has_nats():
    return shutil.which("nats-server") or pathlib.Path("/usr/sbin/nats-server").exists()
