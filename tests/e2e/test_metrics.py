"""docs/metrics.md names every metric that the service has, and none that it has not."""
import re

from conftest import ROOT
from service import wait_for


def documented():
    """{name: type} of the rows of all tables."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_:]+)` \| (\w+) \|", page, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a name stands there twice"
    return dict(rows)


def test_the_page_and_the_service_name_the_same(starling_service):
    starling_service.complete("starling", "Once", max_tokens=1)
    text = starling_service.get("/metrics").text
    types = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    assert len(types) == len(dict(types)), "a name has two types"
    assert dict(types) == documented()


def test_every_sample_belongs_to_a_name(starling_service):
    starling_service.complete("starling", "Once", max_tokens=1)
    types = documented()
    for sample in starling_service.metrics():
        name = sample.split("{")[0]
        histogram = re.sub(r"_(bucket|sum|count)$", "", name)
        assert types.get(name) in ("counter", "gauge") or types.get(histogram) == "histogram", name
        assert name.endswith("_total") == (types.get(name) == "counter"), name


def test_telemetry_of_the_machine(starling_service):
    wait_for(lambda: starling_service.metric("starlane_node_cpus") > 0, "a sample")
    samples = starling_service.metrics()
    assert samples["starlane_node_memory_bytes"] >= samples["starlane_node_memory_available_bytes"]


def test_examples_ask_for_what_exists():
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    questions = page[page.index("## Three questions"):]
    names = set(re.findall(r"\b(starlane_\w+|vllm:\w+)\b", questions))
    assert len(names) >= 4
    assert all(re.sub("_bucket$", "", name) in documented() for name in names), names
