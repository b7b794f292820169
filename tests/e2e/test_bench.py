"""`starlane bench`: the shape of what it reports. Speeds are bench/'s business."""
import pytest


def test_json(starlane, stories):
    report = starlane.json("bench", stories, "-p", 32, "-n", 8, "-t", 1, "-b", "4,1", "-r", 2,
                           "--json")
    assert report["threads"] == 1 and report["type"] == "f32" and report["kv"] == "f16"
    assert report["prefill_tps_min"] <= report["prefill_tps"] <= report["prefill_tps_max"]
    assert [row["batch"] for row in report["batches"]] == [4, 1]
    assert all(row["decode_tps"] > 0 for row in report["batches"])
    assert report["decode_tps"] == report["batches"][1]["decode_tps"]


def test_parts_can_be_left_out(starlane, stories):
    call = ["bench", stories, "-t", 1, "-r", 1, "--json"]
    prefill = starlane.json(*call, "-p", 16, "-n", 0)
    assert "prefill_tps" in prefill and "decode_tps" not in prefill and prefill["batches"] == []
    decode = starlane.json(*call, "-p", 0, "-n", 4)
    assert "prefill_tps" not in decode and decode["decode_tps"] > 0


@pytest.mark.parametrize("kind", ["f16", "q8_0", "f32"])
def test_table(starlane, kind):
    text = starlane.text("bench", "starling", "-p", 16, "-n", 4, "-t", 1, "-b", "1,2", "-r", 1,
                         "--kv", kind)
    rows = [line.split() for line in text.splitlines() if line.startswith(("prefill", "decode"))]
    assert [row[:3] for row in rows] == [["prefill", "16", "1"], ["decode", "4", "1"],
                                         ["decode", "4", "2"]]
    assert "tokens/s" in text and f"{kind} KV cache" in text
