"""`starlane sim`: what it prints, that it repeats itself, and that it says what is wrong."""
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
