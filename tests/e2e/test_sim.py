"""`starlane sim`: what it prints, that it repeats itself, and that it says what is wrong."""
import json
import xml.etree.ElementTree

from conftest import ROOT, shared_path

EXAMPLES = ROOT / "examples/sim"


def test_the_same_bytes_twice(starlane, tmp_path):
    outputs, plots = [], []
    for plot in (tmp_path / "a.svg", tmp_path / "b.svg"):
        outputs.append(starlane.text("sim", "--nodes", EXAMPLES / "storm.yaml", "-n", "2000", "--load", "0.5",
                                     "--policy", "balanced,round-robin", "--gateways", "2", "--by-node",
                                     "--plot", plot))
        plots.append(plot.read_text())
    assert outputs[0] == outputs[1] and plots[0] == plots[1]
    assert xml.etree.ElementTree.fromstring(plots[0]).tag.endswith("svg")
    rows = [line.split() for line in outputs[0].splitlines()]
    assert ["balanced", "0"] in [row[:2] for row in rows]
    assert "n-4" in [row[0] for row in rows if row]


def test_policies_on_a_real_trace(starlane):
    trace = shared_path("data/traces/AzureLLMInferenceTrace_conv.csv")
    report = starlane.json("sim", "--nodes", EXAMPLES / "five-nodes.yaml", "--trace", trace, "--load", "0.8",
                           "--policy", "balanced,round-robin,least-connections", "--json")
    p99 = {row["policy"]: row["first_token_s"]["p99"] for row in report["policies"]}
    assert all(row["finished"] == 19366 for row in report["policies"])
    assert p99["balanced"] * 2 <= p99["round-robin"]
    assert p99["balanced"] < p99["least-connections"]


def test_every_example_runs(starlane):
    for nodes in sorted(EXAMPLES.glob("*.yaml")):
        report = starlane.json("sim", "--nodes", nodes, "-n", "200", "--rate", "50", "--policy", "balanced,random",
                               "--gateways", "2", "--json")
        assert len(report["policies"]) == 2
        assert all(row["finished"] == 200 for row in report["policies"]), nodes


def test_models_move_and_are_reported(starlane):
    call = ["sim", "--nodes", EXAMPLES / "models.yaml", "-n", "3000", "--rate", "5", "--prompt", "800",
            "--output", "150", "--classes", "8,1,1", "--by-model"]
    policy = starlane.json(*call, "--json")["policies"][0]
    models = {row["name"]: row for row in policy["models"]}
    assert sum(row["requests"] for row in models.values()) == 3000
    assert sum(row["loads"] for row in models.values()) > 0
    assert models["large"]["replicas_mean"] < models["chat"]["replicas_mean"]
    assert [row["name"] for row in policy["classes"]] == ["interactive", "standard", "batch"]
    assert all(0 <= row["slo_share"] <= 1 for row in policy["classes"])
    heads = [line.split()[:1] for line in starlane.text(*call).splitlines()]
    assert ["chat"] in heads and ["batch"] in heads


def test_current_by_the_hour(starlane):
    report = starlane.json("sim", "--nodes", EXAMPLES / "regions.yaml", "-n", "2000", "--rate", "6", "--policy",
                           "balanced,energy-first", "--json")
    balanced, saving = report["policies"]
    assert balanced["finished"] == saving["finished"] == 2000
    assert 0 < saving["co2_g_modelled"] < balanced["co2_g_modelled"]
    assert saving["cost_modelled"] < balanced["cost_modelled"]


def test_a_recorded_trace_names_models(starlane, tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0.5, "input_length": 60, "output_length": 5, "model": "code", "class": "batch"}\n')
    report = starlane.json("sim", "--nodes", EXAMPLES / "models.yaml", "--trace", trace, "--by-model", "--json")
    row = report["policies"][0]
    assert [m["requests"] for m in row["models"]] == [0, 1, 0, 0] and row["classes"][0]["name"] == "batch"
    trace.write_text(trace.read_text().replace("code", "cobol"))
    error = starlane.error("sim", "--nodes", EXAMPLES / "models.yaml", "--trace", trace, expect=2)
    assert "line 1" in error and "cobol" in error
    trace.write_text('{"timestamp": 0.5, "input_length": 60, "output_length": 5, "max_tokens": 4}\n')
    assert "max_tokens" in starlane.error("sim", "--nodes", EXAMPLES / "models.yaml", "--trace", trace, expect=2)


def test_a_record_is_a_trace_again(starlane, tmp_path):
    record, again = tmp_path / "record.jsonl", tmp_path / "again.jsonl"
    options = ["--nodes", EXAMPLES / "five-nodes.yaml", "--policy", "balanced,round-robin", "--json"]
    first = starlane.json("sim", *options, "-n", 300, "--rate", 3, "--classes", "1,1,1", "--record", record)
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(rows) == 600 and {row["policy"] for row in rows} == {"balanced", "round-robin"}
    for key in ("first_token_s", "total_s"):
        mine = [row[key] for row in rows if row["policy"] == "balanced"]
        assert abs(sum(mine) / len(mine) - first["policies"][0][key]["mean"]) < 1e-9
    assert {row["node"] for row in rows} == {"gpu", "workstation", "server", "desktop", "edge"}
    # A trace begins with its first request: from then on times stay as they are.
    second = starlane.json("sim", *options, "--trace", record, "--record", again)
    assert second["policies"][0]["requests"] == 300
    assert starlane.json("sim", *options, "--trace", again)["policies"] == second["policies"]
    assert "no-folder" in starlane.error("sim", *options, "-n", 5, "--record", tmp_path / "no-folder/x", expect=1)


def test_a_measured_node_can_be_simulated(starlane, tmp_path):
    entry = starlane.text("bench", "starling", "--node-profile", "-t", 1, "-p", 64, "-n", 8, "-r", 1, "-b", "1,2,4")
    nodes = tmp_path / "node.yaml"
    nodes.write_text(f"models: [{{name: starling}}]\nnodes:\n{entry}")
    report = starlane.json("sim", "--nodes", nodes, "-n", 50, "--rate", 2, "--prompt", 50, "--output", 20, "--json")
    assert report["policies"][0]["finished"] == 50
    assert "rising" in starlane.error("bench", "starling", "--node-profile", "-b", "4,2", expect=2)


def test_mistakes(starlane, tmp_path):
    assert "--nodes" in starlane.error("sim", expect=2)
    bad = tmp_path / "bad.yaml"
    bad.write_text("models: [{name: a}]\nnodes: [{name: x, colour: red}]\n")
    assert "colour" in starlane.error("sim", "--nodes", bad, expect=2)
    nodes = EXAMPLES / "five-nodes.yaml"
    assert "least-work" in starlane.error("sim", "--nodes", nodes, "--policy", "best", expect=2)
    trace = tmp_path / "trace.csv"
    trace.write_text("TIME,P,O\n2023-11-16 18:15:46,x,1\n")
    assert "line 2" in starlane.error("sim", "--nodes", nodes, "--trace", trace, expect=2)
