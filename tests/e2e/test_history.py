"""GET /grid/v1/history: an hour of this machine, in a grid or not."""
import time

import pytest

from service import wait_for

SERIES = ["cpu_fraction", "load_1m", "memory_available_bytes", "net_in_bytes_s", "net_out_bytes_s",
          "disk_free_bytes", "disk_read_bytes_s", "disk_write_bytes_s", "watts",
          "accelerator_utilisation", "accelerator_memory_used_bytes", "accelerator_watts",
          "accelerator_celsius"]


def history(service, query, **options):
    return service.get(f"/grid/v1/history?{query}", **options)


def test_all_series_have_as_many_points_as_asked_for(starling_service):
    for series in SERIES:
        curve = history(starling_service, f"series={series}").json
        assert curve["series"] == series and curve["step_s"] == 30
        assert [len(curve[name]) for name in ("min", "mean", "max")] == [120] * 3
        assert ("accelerator" in curve) == series.startswith("accelerator_")
    curve = history(starling_service, "series=load_1m&minutes=2&points=3600").json
    assert len(curve["mean"]) == 3600 and curve["step_s"] == pytest.approx(1 / 30)
    empty = history(starling_service, "series=accelerator_watts&accelerator=15").json
    assert empty["accelerator"] == 15 and set(empty["mean"]) == {None}


def test_the_last_point_is_now(starling_service):
    def newest():
        curve = history(starling_service, "series=disk_free_bytes&minutes=1&points=60").json
        at = [i for i, mean in enumerate(curve["mean"]) if mean is not None]
        return (curve, at) if len(at) > 1 else None
    curve, at = wait_for(newest, "two seconds")
    ends = curve["end_ms"] / 1000
    assert abs(ends - time.time()) < 10
    assert at[-1] >= 50
    assert 0 < curve["min"][at[-1]] <= curve["max"][at[-1]]


@pytest.mark.parametrize("query, words", [
    ("", "one of cpu_fraction, load_1m"),
    ("series=colour", "accelerator_celsius"),
    ("series=watts&minutes=0", "minutes: a whole number from 1 to 60"),
    ("series=watts&minutes=61", "from 1 to 60"),
    ("series=watts&minutes=ten", "from 1 to 60"),
    ("series=watts&points=0", "points: a whole number from 1 to 3600"),
    ("series=watts&points=%2B5", "from 1 to 3600"),
    ("series=watts&points=99999999999999999999", "from 1 to 3600"),
    ("series=accelerator_watts&accelerator=16", "from 0 to 15"),
])
def test_what_there_is_not(starling_service, query, words):
    assert words in history(starling_service, query, expect=400).error["message"]


def test_keys_are_needed_when_there_are_any(serve, starlane):
    key = starlane.text("keys", "create", "--name", "user").strip()
    service = serve()
    assert history(service, "series=watts", expect=401).error["code"] == "invalid_api_key"
    with_key = {"Authorization": f"Bearer {key}"}
    assert history(service, "series=watts", headers=with_key).json["series"] == "watts"


def test_declared_power_is_counted(serve):
    service = serve("--watts-idle", 50, "--watts-busy", 50)
    wait_for(lambda: service.metric("starlane_node_energy_joules_total"), "energy")
    power = [name for name in service.metrics() if name.startswith("starlane_node_power_watts")]
    assert power == ['starlane_node_power_watts{source="declared"}'] or "measured" in power[0]
    assert service.metric("starlane_node_cpus") > 0


@pytest.mark.parametrize("options, words", [
    (["--watts-idle", "80", "--watts-busy", "20"], "busy watts: less than the idle watts"),
    (["--price-kwh", "-1"], "the price of electricity: not a number of 0 or more"),
    (["--carbon", "much"], "not a number"),
])
def test_what_cannot_be_declared(starlane, options, words):
    assert words in starlane.error("serve", *options, expect=2)
