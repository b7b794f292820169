"""`starlane calibrate` and `starlane plan`: what is measured of a machine, and plans made of it, in a
grid and on machines that are only described."""
import json
import os
import pathlib

import pytest

from grid import grid_in
from service import wait_for
from splits import MODEL, has_nats, import_model, node_of
from test_grid_join import known_at

WEIGHTS = {"q4_0", "q8_0", "q4_k", "q6_k", "f16", "f32"}
NODES = """models:
  - {name: any, gb: 1}
sites: [bonn, lyon]
links:
  - {from: bonn, to: lyon, rtt_ms: 20, mbit: 100}
nodes:
  - {name: fast, site: bonn, prefill: 4000, decode: 100, kv_tokens: 8192, memory_gb: 4, disk_mb_s: 100}
  - {name: slow, site: bonn, prefill: 1000, decode: 25, kv_tokens: 8192, memory_gb: 4}
  - {name: far, site: lyon, prefill: 4000, decode: 100, kv_tokens: 8192, memory_gb: 4}
"""


@pytest.fixture(name="nodes")
def nodes_fixture(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES, encoding="utf-8")
    return path


# --- calibrate ---

def test_calibrate_measures_once(starlane):
    made = starlane.json("calibrate", "--threads", 1, "--json")
    machine = made["machine"]
    assert made["threads"] == 1 and made["cpu"] and made["took_s"] > 0
    assert set(machine["speeds"]) == WEIGHTS
    for speed in machine["speeds"].values():
        assert 1e8 < speed["bytes_s"] < 1e13
        assert len(speed["flops_s"]) == 3 and all(1e8 < f < 1e15 for f in speed["flops_s"])
    assert machine["attn_one"] > 0 and machine["attn_many"] > 0 and 0 < machine["share"] <= 1
    kept = pathlib.Path(starlane.environment["STARLANE_HOME"]) / "grid/calibration.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == made
    assert starlane.json("calibrate", "--threads", 1, "--json") == made
    text = starlane.text("calibrate", "--threads", 1)
    assert made["cpu"] in text and all(weight in text for weight in WEIGHTS)
    # What other kernels were measured at does not hold.
    other = starlane.json("calibrate", "--threads", 1, "--json",
                          environment={"STARLANE_KERNELS": "off"})
    assert other["products"] == "ggml" and other["machine"] != machine
    again = starlane.json("calibrate", "--threads", 1, "--again", "--json")
    assert again["machine"] != machine
    assert json.loads(kept.read_text(encoding="utf-8")) == again


def test_calibrate_survives_its_child(starlane, tmp_path):
    """Kernels that fault end the child and nothing else."""
    faulty = tmp_path / "faulty"
    faulty.write_text("#!/bin/sh\nkill -ILL $$\n", encoding="utf-8")
    os.chmod(faulty, 0o755)
    line = starlane.error("calibrate", environment={"STARLANE_BIN": str(faulty)}, expect=1)
    assert "signal 4" in line


# --- plans on machines that a file describes ---

def test_plan_of_a_file(starlane, nodes):
    answer = starlane.json("plan", "starling", "--nodes", nodes, "--json")
    stages = answer["plan"]["stages"]
    assert [stage["name"] for stage in stages] == ["fast"]
    assert stages[0]["first"] == 0 and answer["plan"]["exact"]
    assert answer["plan"]["tokens_s"] == pytest.approx(100, rel=0.05)
    text = starlane.text("plan", "starling", "--nodes", nodes)
    assert "fast" in text and "one stream" in text and "No other chain" in text


def test_plan_of_a_file_split(starlane, nodes):
    answer = starlane.json("plan", "starling", "--nodes", nodes, "--stages", 2, "--goal", "throughput",
                           "--seqs", 8, "--json")
    plan = answer["plan"]
    layers = {stage["name"]: stage["last"] - stage["first"] for stage in plan["stages"]}
    assert len(layers) == 2 and answer["goal"] == "throughput"
    assert plan["stages"][0]["last"] == plan["stages"][1]["first"]
    assert plan["rows"] * plan["flights"] >= 8
    assert plan["tokens_s_total"] > plan["tokens_s"]


def test_plan_of_a_file_refused(starlane, nodes):
    nodes.write_text(NODES.replace("memory_gb: 4", "memory_gb: 0.005"), encoding="utf-8")
    done = starlane.call("plan", "starling", "--nodes", nodes, expect=1)
    assert b"MiB are needed" in done.stdout and b"3 usable nodes have 14.3 MiB" in done.stdout


@pytest.mark.parametrize("arguments, words, status", [
    (["starling", "--nodes", "nowhere.yaml"], "nowhere.yaml", 1),
    (["nothing", "--nodes", "NODES"], "nothing", 1),
    (["starling", "--nodes", "NODES", "--apply"], "--apply", 2),
    (["starling", "--layers", "3,3"], "--nodes", 2),
    (["starling", "--nodes", ","], "names none", 2),
    (["starling", "--nodes", "NODES", "--context", "100000"], "was trained for", 2),
    (["starling", "--stages", "17"], "out of range", 2),
    (["starling", "--goal", "glory"], "latency, throughput", 2),
    ([], "MODEL", 2),
])
def test_plan_misused(starlane, nodes, arguments, words, status):
    arguments = [str(nodes) if argument == "NODES" else argument for argument in arguments]
    assert words in starlane.error("plan", *arguments, expect=status)


# --- plans of a grid ---

@pytest.mark.skipif(not has_nats(), reason="no nats-server")
def test_plan_of_a_grid(tmp_path):
    with grid_in(tmp_path) as grid:
        gateway = grid.up("alpha", "--memory", "1M")
        import_model(gateway, tmp_path / "import")
        names = ["beta", "gamma"]
        for name in names:
            node = grid.join(name, gateway.make_token(), "--threads", 1)
            known_at(gateway, node)
            wait_for(lambda node=node: node_of(gateway, node).get("state") == "alive", name)
        ask = ("plan", MODEL, "--server", gateway.url, "--seqs", 2, "--context", 256)
        answer = gateway.starlane.json(*ask, "--stages", 2, "--json")
        assert sorted(stage["name"] for stage in answer["plan"]["stages"]) == names
        text = gateway.starlane.text(*ask, "--nodes", "gamma,beta", "--layers", "2,3")
        rows = [line.split() for line in text.splitlines()]
        shown = [row[:2] for row in rows if row and row[0] in names]
        assert shown[:2] == [["gamma", "0-1"], ["beta", "2-4"]]
        line = gateway.starlane.error(*ask, "--nodes", "delta", expect=1)
        assert "delta" in line
