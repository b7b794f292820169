"""One model over several members: it answers as the whole one, and goes on when any part of it
dies."""
import contextlib
import http.client
import json
import ssl

import pytest

from grid import grid_in
from service import DEADLINE_S, kill, wait_for
from splits import (MODEL, bytes_on_disk, chain, has_nats, home, hosted, import_model,
                    make_large_model, make_model, node_of, plan, split)
from test_grid_join import known_at
from test_kill import Client, run_all

pytestmark = pytest.mark.skipif(not has_nats(), reason="no nats-server")

OPENINGS = ["Once upon a time", "One day Lily", "The little dog", "Ben and Mia", "A big red bird"]
N_STREAMS = 20
N_TOKENS = 40
GATEWAY = ("--memory", "1M")
"""It takes requests and runs none."""
NODE = ("--threads", 1, "--parallel", N_STREAMS, "--keep-alive", "-1")
UPGRADE = {"Connection": "Upgrade", "Upgrade": "starlane-stage"}
EXACT = {"link": "f32"}
"""Links that do not round: then every bit is the whole model's."""


def body_of(i, **fields):
    return {"model": MODEL, "prompt": f"{OPENINGS[i % 5]} number {i} went to the", "temperature": 0,
            "max_tokens": N_TOKENS, "ignore_eos": True, **fields}


def make_grid(grid, tmp_path, names, options=NODE, make=make_model):
    """A gateway that has the model and no memory, and nodes that have memory and no model."""
    gateway = grid.up("alpha", *GATEWAY, "--queue-timeout", "10m", "--replicas", 1)
    import_model(gateway, tmp_path / "import", make)
    nodes = [grid.join(name, gateway.make_token(), *options) for name in names]
    for node in nodes:
        known_at(gateway, node)
        wait_for(lambda node=node: node_of(gateway, node).get("state") == "alive", f"{node.name}")
    return gateway, nodes


@pytest.fixture(name="grid")
def grid_fixture(tmp_path):
    with grid_in(tmp_path) as made:
        yield made


# --- the same answers ---

ASKED = [
    body_of(0),
    body_of(1, stop=["the", "and"]),
    body_of(2, temperature=0.8, seed=7, top_p=0.9, max_tokens=24),
    body_of(3, temperature=1.0, seed=3, n=2, max_tokens=16),
    body_of(4, logprobs=3, max_tokens=12),
    body_of(5, max_tokens=8, repetition_penalty=1.3),
    {**body_of(6, max_tokens=8), "ignore_eos": False},
]


def told(answer):
    """All of an answer that has to be the same."""
    assert answer.status == 200, answer.text
    document = answer.json
    usage = {key: document["usage"][key] for key in ("prompt_tokens", "completion_tokens")}
    return document["choices"], usage


@pytest.fixture(scope="module", name="three")
def three_fixture(tmp_path_factory):
    """(gateway, nodes in the chain's order, what the whole model says to ASKED)."""
    folder = tmp_path_factory.mktemp("split")
    with grid_in(folder) as grid:
        gateway, nodes = make_grid(grid, folder, ["beta", "gamma", "delta"])
        whole = [told(gateway.post("/v1/completions", body, expect=None)) for body in ASKED]
        yield gateway, split(gateway, nodes, **EXACT), whole


@pytest.mark.parametrize("i", range(len(ASKED)))
def test_it_answers_as_the_whole_model(three, i):
    gateway, _, whole = three
    assert len(chain(gateway)) == 3
    assert told(gateway.post("/v1/completions", ASKED[i], expect=None)) == whole[i]


def test_a_stream_and_a_second_time(three):
    """What the chain has of a prompt in its caches changes nothing."""
    gateway, _, whole = three
    for _ in range(2):
        assert Client(gateway, ASKED[0]).read() == whole[0][0][0]["text"]


def test_a_client_that_goes_ends_its_stream(three):
    gateway, (head, *_), _ = three
    with gateway.stream("/v1/completions", body_of(0, max_tokens=400)) as stream:
        next(stream.events())
        wait_for(lambda: hosted(gateway, head)["running"] == 1, "it to run")
    wait_for(lambda: hosted(gateway, head)["running"] == 0, "it to be given up")


def test_many_at_once_say_what_each_says_alone(three):
    gateway, _, _ = three
    bodies = [body_of(i, max_tokens=16) for i in range(8)]
    alone = [Client(gateway, body).read() for body in bodies]
    assert run_all(gateway, bodies) == alone


def test_a_follower_has_only_its_part_of_the_file(three):
    gateway, (_, *followers), _ = three
    size = bytes_on_disk(home(gateway) / "models")
    assert size > 8_000_000
    for node in followers:
        # A third of the layers, and embedding or output at most.
        assert 0 < bytes_on_disk(home(node) / "models") < 0.75 * size


def test_who_runs_what_is_told(three):
    gateway, (head, *followers), _ = three
    ranges = [(first, last) for _, first, last in chain(gateway)]
    assert ranges[0][0] == 0 and ranges[-1][1] == 5
    for node, (first, last) in zip(followers, ranges[1:]):
        wait_for(lambda node=node: node_of(gateway, node)["stages"], f"{node.name}'s report")
        (stage,) = node_of(gateway, node)["stages"]
        assert stage["model"].split(":")[0] == MODEL and stage["head"] in (head.id, head.name)
        assert (stage["first"], stage["last"]) == (first, last)
        shown = gateway.starlane.text("nodes", "--server", gateway.url)
        assert f"{stage['model']} ({first}-{last - 1})" in shown


def test_strangers_cannot_open_a_stage(three):
    """Without a member's certificate nothing is upgraded."""
    gateway, nodes, _ = three
    answer = gateway.request("GET", "/grid/v1/stage", headers=UPGRADE, expect=None)
    assert answer.status in (401, 403, 404), answer.status
    for node in nodes:
        host, port = node.grid_address.rsplit(":", 1)
        assert is_refused(host, int(port))


def is_refused(host, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=DEADLINE_S, context=context)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/grid/v1/stage", headers=UPGRADE)
            return connection.getresponse().status in (401, 403)
    except (OSError, http.client.HTTPException):
        return True  # TLS itself asked for a certificate


# --- deaths ---

@pytest.fixture(name="four")
def four_fixture(grid, tmp_path):
    """A chain over three of four nodes, one is to spare. And what 20 streams say in quiet."""
    gateway, nodes = make_grid(grid, tmp_path, ["beta", "gamma", "delta", "epsilon"])
    members = split(gateway, nodes[:3], **EXACT)
    bodies = [body_of(i) for i in range(N_STREAMS)]
    return gateway, members, bodies, run_all(gateway, bodies)


def in_the_middle(gateway, bodies, act):
    """All streams at once; act() when a quarter of all tokens has come."""
    def meanwhile(clients):
        wait_for(lambda: sum(c.n_events for c in clients) >= N_STREAMS * N_TOKENS / 4, "tokens")
        act()
    return run_all(gateway, bodies, meanwhile)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stages_worker_dies_in_the_middle_of_20_streams(four, stage):
    gateway, members, bodies, expected = four

    def act():
        pids = members[stage].worker_pids()
        assert pids
        for pid in pids:
            kill(pid)
    assert in_the_middle(gateway, bodies, act) == expected


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_stages_member_dies_in_the_middle_of_20_streams(four, stage):
    gateway, members, bodies, expected = four
    assert in_the_middle(gateway, bodies, members[stage].kill) == expected


def test_a_chain_moves_and_its_old_head_dies_in_the_middle_of_20_streams(four):
    gateway, members, bodies, expected = four

    def act():
        plan(gateway, members[::-1], layers=[2, 2, 1], **EXACT)
        for pid in members[0].worker_pids():
            kill(pid)
    assert in_the_middle(gateway, bodies, act) == expected


# --- what fits where ---

def test_a_head_has_only_its_part_too(grid, tmp_path):
    """Neither of two nodes has the file, and nobody wants it whole."""
    gateway, nodes = make_grid(grid, tmp_path, ["beta", "gamma"])
    size = bytes_on_disk(home(gateway) / "models")
    wait_for(lambda: "plan" in plan(gateway, nodes, apply=False).json, "its layers to be known")
    split(gateway, nodes)
    told(gateway.post("/v1/completions", body_of(0, max_tokens=8), expect=None))
    for node in nodes:
        # Four of five layers and the embedding at most.
        assert 0 < bytes_on_disk(home(node) / "models") < 0.9 * size
        assert MODEL not in node.starlane.text("list")


def test_a_model_that_fits_nowhere_is_refused_with_the_numbers(grid, tmp_path):
    gateway, nodes = make_grid(grid, tmp_path, ["beta", "gamma"],
                               ("--threads", 1, "--memory", "4M"))
    message = gateway.post("/v1/completions", body_of(0), expect=503).error["message"]
    assert "MiB" in message, message
    refused = plan(gateway, nodes).json
    assert not refused["applied"] and " are needed" in refused["refused"], refused


def test_a_model_that_fits_on_no_member_is_split_by_itself(grid, tmp_path):
    options = (*NODE, "--ctx", 512, "--parallel", 4, "--memory", "190M")
    gateway, _ = make_grid(grid, tmp_path, ["beta", "gamma", "delta"], options, make_large_model)
    answer = gateway.complete(MODEL, "Once", max_tokens=6, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 6
    assert len(chain(gateway)) >= 2


def test_a_plan_is_explained_and_not_applied(grid, tmp_path):
    gateway, nodes = make_grid(grid, tmp_path, ["beta", "gamma"])
    command = ("plan", MODEL, "--server", gateway.url, "--stages", 2)
    made = json.loads(gateway.starlane.text(*command, "--json"))
    assert made["plan"]["stages"][0]["first"] == 0 and made["plan"]["stages"][-1]["last"] == 5
    assert made["plan"]["tokens_s"] > 0 and not made["applied"]
    text = gateway.starlane.text(*command)
    assert "tokens/s" in text and all(node.name in text for node in nodes)
    assert not chain(gateway)
