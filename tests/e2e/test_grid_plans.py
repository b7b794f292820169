"""Plans of models over several members, asked for over HTTP: who may, what is refused, what is told
of them, of ways and of speeds. test_split.py has the chains themselves."""

import pytest

from grid import grid_in
from service import wait_for
from splits import MODEL, has_nats, hosted, import_model, node_of
from splits import plan as apply_plan
from test_grid_join import known_at

pytestmark = pytest.mark.skipif(not has_nats(), reason="no nats-server")

PLANS = "/grid/v1/plans"


@pytest.fixture(scope="module", name="pair")
def pair_fixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    with grid_in(folder) as grid:
        gateway = grid.up("alpha", "--memory", "1M")
        import_model(gateway, folder / "import")
        nodes = [grid.join(name, gateway.make_token(), "--threads", 1)
                 for name in ("beta", "gamma")]
        for node in nodes:
            known_at(gateway, node)
            wait_for(lambda node=node: node_of(gateway, node).get("state") == "alive", node.name)
        yield gateway, nodes


def test_a_plan_tells_all_of_itself(pair):
    gateway, nodes = pair
    body = {"model": MODEL, "nodes": [node.name for node in nodes], "stages": 2, "n_seqs": 2,
            "context": 300, "goal": "throughput"}
    made = gateway.post(PLANS, body).json
    assert made["refused"] is None and not made["applied"] and made["goal"] == "throughput"
    plan = made["plan"]
    first, second = plan["stages"]
    assert {first["member"], second["member"]} == {node.id for node in nodes}
    assert first["first"] == 0 and first["last"] == second["first"] and second["last"] == 5
    assert plan["n_seqs"] == 2 and plan["context"] == 300
    for key in ("tokens_s", "tokens_s_total", "first_token_s", "load_s", "rows", "flights",
                "chunk"):
        assert plan[key] > 0, key
    assert first["bytes"] > 0 and first["seconds"] > 0
    assert {member["name"] for member in made["members"]} == {"alpha", "beta", "gamma"}
    assert "chain" not in gateway.get(f"/grid/v1/explain?model={MODEL}").json


@pytest.mark.parametrize("body, what", [
    ({}, "model"),
    ({"model": MODEL, "nodes": "beta"}, "nodes"),
    ({"model": MODEL, "nodes": [5]}, "nodes"),
    ({"model": MODEL, "goal": "glory"}, "goal"),
    ({"model": MODEL, "link": "carrier pigeon"}, "link"),
    ({"model": MODEL, "stages": -1}, "stages is a whole number from 1 to 16"),
    ({"model": MODEL, "stages": 17}, "stages"),
    ({"model": MODEL, "n_seqs": 100000}, "n_seqs"),
    ({"model": MODEL, "context": "long"}, "context is a whole number"),
    ({"model": MODEL, "context": 1 << 20}, "was trained for"),
    ({"model": MODEL, "context": 1 << 31}, "context is a whole number"),
    ({"model": MODEL, "apply": "yes"}, "apply"),
    ({"model": MODEL + "\0x"}, "model"),
    ({"model": MODEL, "nodes": []}, "nodes"),
    ({"model": MODEL, "nodes": ["beta", "beta"]}, "named twice"),
    ({"model": MODEL, "nodes": ["beta", "gamma"], "layers": [0, 5]}, "layers of beta"),
    ({"model": MODEL, "nodes": ["beta", "gamma"], "layers": [5]}, "as many numbers as nodes"),
    ({"model": MODEL, "nodes": ["beta", "gamma"], "layers": [2, 3], "stages": 3}, "3 stages"),
])
def test_what_makes_no_sense_is_refused(pair, body, what):
    gateway, _ = pair
    assert what in gateway.post(PLANS, body, expect=400).error["message"]


def test_strangers_are_not_found(pair):
    gateway, _ = pair
    gateway.post(PLANS, {"model": "nobody-has-this"}, expect=404)
    gateway.post(PLANS, {"model": MODEL, "nodes": ["nobody"]}, expect=404)


def test_what_cannot_be_is_told_in_the_answer(pair):
    gateway, _ = pair
    made = gateway.post(PLANS, {"model": MODEL, "nodes": ["alpha"], "apply": True}).json
    assert not made["applied"] and made["refused"] and "plan" not in made


@pytest.mark.parametrize("wish, why", [
    ({"stages": 6}, "6 stages of a model that has 5 layers"),
    ({"stages": 4}, "4 stages, and 3 usable nodes"),
    ({"stages": 2, "nodes": ["beta"]}, "2 stages, and 1 usable nodes"),
])
def test_more_stages_than_there_can_be(pair, wish, why):
    gateway, _ = pair
    assert gateway.post(PLANS, {"model": MODEL, **wish}).json["refused"] == why


def test_only_administrators_plan(grid_home):
    gateway, key = grid_home
    body = {"model": "starling"}
    headers = {"Authorization": f"Bearer {key}"}
    answer = gateway.post(PLANS, body, headers=headers, expect=None)
    assert answer.status == 401, answer.text


@pytest.fixture(name="grid")
def grid_fixture(tmp_path):
    with grid_in(tmp_path) as grid:
        yield grid


@pytest.fixture(name="grid_home")
def grid_home_fixture(tmp_path):
    """A gateway that has a key for models: (gateway, key)."""
    with grid_in(tmp_path) as grid:
        key = grid.home("alpha").text("keys", "create", "--name", "me").strip()
        yield grid.up("alpha"), key


def test_ways_between_all_members_are_told(pair):
    gateway, nodes = pair
    everybody = [gateway, *nodes]

    def ways(member):
        return {peer["id"]: peer for peer in node_of(gateway, member).get("peers", [])}
    for member in everybody:
        others = {other.id for other in everybody if other is not member}
        wait_for(lambda member=member, others=others: ways(member).keys() >= others,
                 f"{member.name}'s ways")
        wait_for(lambda member=member, others=others:
                 all((ways(member)[other]["bytes_per_s"] or 0) > 0 for other in others),
                 f"how wide {member.name}'s ways are")
        assert all(0 <= ways(member)[other]["rtt_ms"] < 1000 for other in others)


def test_counters(pair):
    gateway, _ = pair
    status = gateway.get("/grid/v1/status").json
    assert status["chains"] == 0 and status["plans"] == 0 and status["replans"] == 0
    assert "starlane_grid_chains 0" in gateway.get("/metrics").text


def test_a_pinned_model_in_the_way_is_named(grid, tmp_path):
    """beta has room for one model, as estimated, and a person wants another one there."""
    gateway = grid.up("alpha", "--memory", "1M", "--threads", 1)
    import_model(gateway, tmp_path / "import")
    need = gateway.get("/grid/v1/explain?model=starling").json["memory_bytes"]
    beta = grid.join("beta", gateway.token, "--threads", 1, "--memory", need * 9 // 8)
    known_at(gateway, beta)
    wait_for(lambda: node_of(gateway, beta).get("state") == "alive", "beta")
    assert apply_plan(gateway, [beta]).json["applied"]
    wait_for(lambda: hosted(gateway, beta).get("state") == "ready", "the pinned model")
    body = {"model": "starling", "prompt": "Once", "max_tokens": 2}
    answer = gateway.post("/v1/completions", body, expect=503)
    message = answer.error["message"]
    assert f"{MODEL}:latest" in message and "on beta" in message and "pinned" in message
    assert "retry-after" not in answer.headers
    [held] = gateway.get("/grid/v1/explain?model=starling").json["held_by_pinned"]
    assert held["model"] == f"{MODEL}:latest" and held["name"] == "beta"
    assert "which is pinned" in gateway.starlane.text("explain", "--model", "starling",
                                                      "--server", gateway.url)
    [line] = gateway.starlane.text("ps", "--server", gateway.url).splitlines()[1:]
    assert line.startswith(f"{MODEL}:latest") and line.endswith("forever")
    gateway.starlane.call("stop", MODEL, "--server", gateway.url)
    assert gateway.post("/v1/completions", body).status == 200
    [line] = [line for line in gateway.starlane.text("ps", "--server", gateway.url).splitlines()
              if line.startswith("starling")]
    assert line.endswith("minutes from now")
