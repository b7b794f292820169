"""What the grid shows of itself: `starlane nodes`, `starlane explain`, /grid/v1/*, /metrics."""
import json
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import urllib.parse

import pytest

from conftest import MODELS
from grid import grid_in
from service import DEADLINE_S, echo, wait_for

pytestmark = pytest.mark.skipif(
    not (shutil.which("nats-server") or pathlib.Path("/usr/sbin/nats-server").exists()),
    reason="no nats-server")

COLUMNS = ["NAME", "ID", "SITE", "ROLE", "STATE", "CPU", "MEMORY", "ACCEL", "MODELS", "QUEUE",
           "TOK/S", "RTT", "POWER", "ENERGY", "SEEN"]


@pytest.fixture
def grid(tmp_path):
    with grid_in(tmp_path) as made:
        yield made


def nodes(gateway, **options):
    """{name: node} as the gateway shows them."""
    return {node["name"]: node for node in gateway.get("/grid/v1/nodes", **options).json["nodes"]}


def alive(gateway, *names):
    wait_for(lambda: {name for name, node in nodes(gateway).items()
                      if node["state"] == "alive" and "telemetry" in node} >= set(names),
             f"{names} to be alive")


def starlane(gateway, *arguments):
    """What a command prints that is run at the gateway by its owner."""
    return gateway.starlane.text(*arguments, "--server", gateway.url)


def refused(gateway, *arguments, expect=1):
    return gateway.starlane.error(*arguments, "--server", gateway.url, expect=expect)


def rows(text):
    """The table as {name: {column: cell}}; no cell is empty."""
    head, *lines = [re.split(r"\s{2,}", line) for line in text.splitlines() if line]
    assert head == COLUMNS
    assert all(len(line) == len(COLUMNS) for line in lines), text
    return {line[0]: dict(zip(COLUMNS, line)) for line in lines}


def ask(gateway, model):
    """The id of a request that was answered."""
    answer = gateway.post("/v1/completions", {"model": model, "prompt": "x"})
    return answer.headers["x-starlane-request-id"]


def explain(gateway, request):
    return gateway.get(f"/grid/v1/explain?request={request}").json


def node_of(gateway, request):
    return explain(gateway, request)["attempts"][-1]["name"]


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    """A gateway and two nodes that nobody harms."""
    with grid_in(tmp_path_factory.mktemp("trio")) as made:
        gateway = made.up("alpha", "--echo", "--watts-idle", 40, "--watts-busy", 120,
                          "--token-uses", 2)
        made.join("beta", gateway.token, "--echo", "--label", "site=berlin", "--label",
                  "tier=edge", "--watts-busy", 60, "--price-kwh", 0.3, "--carbon", 380)
        made.join("gamma", gateway.token, "--echo")
        alive(gateway, "alpha", "beta", "gamma")
        yield gateway


# --- nodes ---

def test_every_column(trio):
    model = echo(text="hello")
    where = node_of(trio, ask(trio, model))
    wait_for(lambda: all(nodes(trio)[name]["rtt_ms"] is not None for name in ("beta", "gamma")),
             "round trips")
    wait_for(lambda: nodes(trio)["alpha"]["telemetry"]["joules"], "energy")
    table = rows(starlane(trio, "nodes"))
    assert list(table) == ["alpha *", "beta", "gamma"]
    for row in table.values():
        assert re.fullmatch(r"n[a-z2-7]{13}", row["ID"])
        assert row["STATE"] == "alive" and row["SEEN"] == "now"
        assert re.fullmatch(r"\d+%|-", row["CPU"])
        assert re.fullmatch(r"[\d.]+ .iB/[\d.]+ .iB", row["MEMORY"])
        assert row["QUEUE"] == "0+0" and re.fullmatch(r"\d+", row["TOK/S"])
    assert [row["ROLE"] for row in table.values()] == ["gateway", "node", "node"]
    assert [row["SITE"] for row in table.values()] == ["-", "berlin", "-"]
    loaded = {name.rstrip(" *"): row["MODELS"] for name, row in table.items()}
    assert model in loaded[where]
    assert table["alpha *"]["RTT"] == "-"
    assert re.fullmatch(r"[\d.]+ ms", table["beta"]["RTT"])
    # What can be measured is; these machines may or may not be able to.
    assert re.fullmatch(r"\d+ W (modelled|measured)", table["alpha *"]["POWER"])
    assert re.fullmatch(r"\d+ W (declared|measured)", table["beta"]["POWER"])
    assert re.fullmatch(r"[\d.]+ k?Wh", table["alpha *"]["ENERGY"])


def test_json_has_everything(trio):
    shown = json.loads(starlane(trio, "nodes", "--json"))["nodes"]
    beta = next(node for node in shown if node["name"] == "beta")
    assert set(beta["labels"]) == {"site=berlin", "tier=edge"} and beta["site"] == "berlin"
    assert beta["price_kwh"] == 0.3 and beta["duty"] == "open" and not beta["self"]
    assert beta["telemetry"]["cpus"] > 0 and beta["telemetry"]["memory_total_bytes"] > 1e6
    assert beta["telemetry"]["watts_are"] in ("declared", "measured")
    alpha = next(node for node in shown if node["self"])
    assert alpha["name"] == "alpha" and alpha["role"] == "gateway" and alpha["rtt_ms"] is None
    wait_for(lambda: {peer["id"] for peer in nodes(trio)["alpha"]["peers"]}
             == {node["id"] for node in shown if not node["self"]}, "the gateway's peers")


def test_watch_into_a_pipe(trio):
    command = trio.starlane.start("nodes", "--watch", "--json", "--server", trio.url,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [command.stdout.readline() for _ in range(2)]
    assert all(len(json.loads(line)["nodes"]) == 3 for line in lines)
    command.send_signal(signal.SIGINT)
    assert command.wait(DEADLINE_S) == 0 and command.stderr.read() == b""
    command.stdout.close()
    command.stderr.close()


def test_watch_ends_when_its_reader_does(trio):
    command = trio.starlane.start("nodes", "--watch", "--server", trio.url,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = [command.stdout.readline().decode() for _ in range(4)]
    assert len(rows("".join(first))) == 3
    assert "\033" not in "".join(first)
    command.stdout.close()
    assert command.wait(DEADLINE_S) == 0 and command.stderr.read() == b""
    command.stderr.close()


def test_what_was_mistyped_is_one_line(trio):
    assert "there are: cordon" in refused(trio, "nodes", "cordn", "beta", expect=2)
    assert "which node?" in refused(trio, "nodes", "cordon", expect=2)
    assert "one node at a time" in refused(trio, "nodes", "drain", "beta", "gamma", expect=2)
    assert "KEY=VALUE" in refused(trio, "nodes", "label", "beta", "site", expect=2)
    assert "--watch" in refused(trio, "nodes", "drain", "beta", "--watch", expect=2)
    assert 'no member "delta"' in refused(trio, "nodes", "cordon", "delta")
    assert "does not remove itself" in refused(trio, "nodes", "rm", "alpha", expect=2)
    assert "si te=x" in refused(trio, "nodes", "label", "beta", "si te=x", expect=2)


# --- taking nodes out and back in ---

def only(gateway, *names):
    """All others are cordoned."""
    for name in nodes(gateway):
        starlane(gateway, "nodes", "uncordon" if name in names else "cordon", name)
    wait_for(lambda: {name for name, node in nodes(gateway).items() if node["duty"] == "open"}
             == set(names), f"{names} only")


def test_nothing_new_goes_to_a_cordoned_node(grid):
    gateway = grid.up("alpha", "--echo")
    grid.join("beta", gateway.token, "--echo")
    alive(gateway, "alpha", "beta")
    model = echo(text="hello")
    only(gateway, "beta")
    assert node_of(gateway, ask(gateway, model)) == "beta"
    assert starlane(gateway, "nodes", "uncordon", "alpha") == "alpha takes requests again\n"
    said = starlane(gateway, "nodes", "cordon", "beta")
    assert said == "beta takes nothing new from now on\n"
    wait_for(lambda: nodes(gateway)["beta"]["duty"] == "cordoned"
             and nodes(gateway)["alpha"]["duty"] == "open", "the change")
    assert rows(starlane(gateway, "nodes"))["beta"]["STATE"] == "cordoned"
    # Where the model is loaded does not matter any more.
    assert {node_of(gateway, ask(gateway, model)) for _ in range(5)} == {"alpha"}
    before = nodes(gateway)["beta"]["sent"]
    only(gateway, "beta")
    assert node_of(gateway, ask(gateway, model)) == "beta"
    assert nodes(gateway)["beta"]["sent"] > before


def state(gateway, name):
    table = rows(starlane(gateway, "nodes"))
    return table[name if name in table else f"{name} *"]["STATE"]


def test_a_drained_node_finishes_and_leaves(grid):
    gateway = grid.up("alpha", "--echo")
    node = grid.join("beta", gateway.token, "--echo")
    alive(gateway, "alpha", "beta")
    only(gateway, "beta")
    text = "one two three four five six seven eight "
    model = echo(text=text, pace_us=20000)
    body = {"model": model, "prompt": "x", "max_tokens": 100}
    with gateway.stream("/v1/completions", body) as stream:
        events = stream.events()
        next(events)
        assert starlane(gateway, "nodes", "drain", "beta").startswith("beta finishes what it has")
        wait_for(lambda: state(gateway, "beta") == "draining", "beta to drain")
        starlane(gateway, "nodes", "uncordon", "alpha")
        *rest, last = list(events)
    assert last == "[DONE]"
    assert json.loads(rest[-1])["choices"][0]["finish_reason"] == "stop"
    assert "drained: this machine has left the grid" in node.end(status=0)
    wait_for(lambda: state(gateway, "beta") == "left", "beta to be seen as gone")
    assert nodes(gateway)["beta"]["moved"] == 0
    assert gateway.metrics()['starlane_grid_members{state="left"}'] == 1
    assert gateway.metrics()['starlane_grid_members{state="dead"}'] == 0
    assert node_of(gateway, ask(gateway, model)) == "alpha"
    # It is open again once it is started again.
    again = grid.join("beta", "--echo")
    alive(gateway, "beta")
    wait_for(lambda: gateway.members()[again.id]["duty"] == "open", "beta to be open")
    wait_for(lambda: state(gateway, "beta") == "alive", "beta to be back")
    only(gateway, "beta")
    assert node_of(gateway, ask(gateway, model)) == "beta"


def test_a_cordon_outlives_a_start_and_a_drain_can_be_taken_back(grid):
    gateway = grid.up("alpha", "--echo")
    node = grid.join("beta", gateway.token, "--echo")
    alive(gateway, "alpha", "beta")
    starlane(gateway, "nodes", "cordon", "beta")
    node.stop()
    grid.join("beta", "--echo")
    wait_for(lambda: state(gateway, "beta") == "cordoned", "beta to be back, and cordoned")
    only(gateway, "beta")
    body = {"model": echo(text="one two three ", pace_us=50000), "prompt": "x", "max_tokens": 100}
    with gateway.stream("/v1/completions", body) as stream:
        events = stream.events()
        next(events)
        starlane(gateway, "nodes", "drain", "beta")
        wait_for(lambda: state(gateway, "beta") == "draining", "beta to drain")
        starlane(gateway, "nodes", "uncordon", "beta")
        assert list(events)[-1] == "[DONE]"
    wait_for(lambda: state(gateway, "beta") == "alive", "beta to be back")
    assert node_of(gateway, ask(gateway, body["model"])) == "beta"


def test_a_gateway_leaves_unless_it_is_the_last(grid):
    first = grid.up("alpha", "--echo")
    assert "only gateway that is there" in refused(first, "nodes", "drain", "alpha", expect=2)
    assert nodes(first)["alpha"]["duty"] == "open"
    second = grid.join("beta", first.make_token("--gateway"), "--gateway", "--echo")
    alive(first, "alpha", "beta")
    alive(second, "alpha", "beta")
    only(first, "beta")
    text = "one two three four five six seven eight "
    body = {"model": echo(text=text, pace_us=20000), "prompt": "x", "max_tokens": 100}
    # The answer comes from the other gateway's node, through the one that leaves.
    with first.stream("/v1/completions", body) as stream:
        events = stream.events()
        got = [next(events)]
        starlane(second, "nodes", "drain", "alpha")
        *rest, last = list(events)
    assert last == "[DONE]"
    told = [json.loads(event)["choices"][0] for event in got + rest]
    assert "".join(choice["text"] for choice in told) == text
    assert "drained: this machine has left the grid" in first.end(status=0)
    wait_for(lambda: state(second, "alpha") == "left", "alpha to be seen as gone")
    assert node_of(second, ask(second, body["model"])) == "beta"
    assert "only gateway that is there" in refused(second, "nodes", "drain", "beta", expect=2)
    again = grid.up("alpha", "--echo")
    alive(again, "alpha", "beta")
    wait_for(lambda: second.members()[first.id]["duty"] == "open", "alpha to be open")


def test_a_removed_node_is_gone(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token)
    alive(gateway, "beta")
    assert starlane(gateway, "nodes", "rm", "beta") == "beta is no member any more\n"
    assert "was removed from the grid" in node.end()
    wait_for(lambda: set(nodes(gateway)) == {"alpha"}, "beta to be gone")
    assert "was removed from the grid" in node.starlane.error("join", expect=1)
    assert set(nodes(gateway)) == {"alpha"}
    assert 'no member "beta"' in refused(gateway, "nodes", "cordon", "beta")


def test_labels_replace_those_before(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token, "--label", "site=berlin", "--label", "tier=edge")
    alive(gateway, "beta")
    # What it says of itself at its start would come after the change.
    wait_for(lambda: gateway.members()[node.id]["addresses"], "its hello")
    starlane(gateway, "nodes", "label", node.id, "site=bonn", "rack=7")
    wait_for(lambda: set(nodes(gateway)["beta"]["labels"]) == {"site=bonn", "rack=7"}, "labels")
    assert rows(starlane(gateway, "nodes"))["beta"]["SITE"] == "bonn"
    starlane(gateway, "nodes", "label", "beta")
    wait_for(lambda: nodes(gateway)["beta"]["labels"] == [], "no labels")
    assert rows(starlane(gateway, "nodes"))["beta"]["SITE"] == "-"


def test_who_is_not_heard_of_is_shown_too(grid):
    gateway = grid.up()
    node = grid.join("beta", gateway.token, "--label", "site=berlin")
    alive(gateway, "beta")
    node.stop()
    gateway.stop()
    gateway = grid.up()
    alive(gateway, "alpha")
    row = rows(starlane(gateway, "nodes"))["beta"]
    assert (row["STATE"], row["SITE"], row["SEEN"]) == ("away", "berlin", "never")
    starlane(gateway, "nodes", "rm", "beta")
    wait_for(lambda: set(nodes(gateway)) == {"alpha"}, "beta to be gone")


# --- explain ---

def test_a_finished_request(trio):
    model = echo(text="hello world", pace_us=1000)
    request = ask(trio, model)
    told = explain(trio, request)
    assert told["state"] == "finished" and told["model"] == model and told["total_ms"] >= 0
    attempt, = told["attempts"]
    assert attempt["end"] == "finished" and attempt["to_token"] == len("hello world")
    assert attempt["from_token"] == 0 and not attempt["second_try"]
    assert told["decision"]["name"] == attempt["name"]
    chosen, = [row for row in told["decision"]["looked_at"] if row["node"] == attempt["node"]]
    assert chosen["verdict"] == "fits" and chosen["score"] >= 0 and "network" in chosen["parts"]
    text = starlane(trio, "explain", request)
    assert text.startswith(f"{request}: {model}, finished after ")
    assert f"sent to {attempt['name']}\n" in text and "finished, 11 tokens told by then" in text
    assert f"{attempt['name']} <-" in text
    assert json.loads(starlane(trio, "explain", request, "--json")) == told
    assert explain(trio, told["number"]) == told


def test_where_a_request_would_go(trio):
    model = echo(text="where")
    where = node_of(trio, ask(trio, model))
    told = json.loads(starlane(trio, "explain", "--model", model, "--json"))
    assert told["model"] == model and told["waiting"] == 0 and "why" not in told
    assert where in [member["name"] for member in told["members"] if member["state"] == "ready"]
    assert told["decision"]["name"] in [row["name"] for row in told["decision"]["looked_at"]]
    text = starlane(trio, "explain", "--model", model)
    assert f"{where}: ready" in text and f"{told['decision']['name']} <-" in text


def test_explain_says_the_name_of_now(grid):
    gateway = grid.up("alpha", "--echo")
    node = grid.join("beta", gateway.token, "--echo")
    alive(gateway, "alpha", "beta")
    only(gateway, "beta")
    request = ask(gateway, echo(text="hello"))
    assert node_of(gateway, request) == "beta"
    gateway.request("PATCH", f"/grid/v1/members/{node.id}", {"name": "bonn-7"})
    assert node_of(gateway, request) == "bonn-7"
    assert "sent to bonn-7\n" in starlane(gateway, "explain", request)
    label = f'{{member="{node.id}",name="bonn-7"}}'
    wait_for(lambda: f"starlane_grid_member_rtt_seconds{label}" in gateway.metrics(), "the name")
    node.kill()  # a name is known of who is away, too
    assert node_of(gateway, request) == "bonn-7"


def test_a_request_that_moved(grid):
    gateway = grid.up("alpha", "--echo")
    node = grid.join("beta", gateway.token, "--echo")
    alive(gateway, "alpha", "beta")
    only(gateway, "beta")
    text = "one two three four five six seven eight nine ten " * 4
    body = {"model": echo(text=text, pace_us=20000), "prompt": "x", "max_tokens": 1000}
    with gateway.stream("/v1/completions", body) as stream:
        request = stream.headers["x-starlane-request-id"]
        events = stream.events()
        got = [json.loads(next(events))["choices"][0]["text"] for _ in range(3)]
        starlane(gateway, "nodes", "uncordon", "alpha")
        wait_for(lambda: nodes(gateway)["alpha"]["duty"] == "open", "alpha to be open")
        assert explain(gateway, request)["state"] == "running"
        node.kill()
        got += [json.loads(event)["choices"][0]["text"] for event in events if event != "[DONE]"]
    assert "".join(got) == text
    told = explain(gateway, request)
    first, second = told["attempts"]
    assert (first["name"], first["end"]) == ("beta", "the node died")
    assert (second["name"], second["end"]) == ("alpha", "finished")
    assert 0 < first["to_token"] == second["from_token"] < second["to_token"] == len(text)
    page = starlane(gateway, "explain", request)
    assert "the node died" in page
    assert f"sent to alpha, to go on after token {second['from_token']}\n" in page
    samples = gateway.metrics()
    assert samples["starlane_grid_requests_moved_total"] == 1
    assert samples["starlane_grid_requests_resumed_total"] == 1
    assert nodes(gateway)["beta"]["moved"] == 1
    wait_for(lambda: gateway.metrics()['starlane_grid_members{state="dead"}'] == 1, "its death")
    row = rows(starlane(gateway, "nodes"))["beta"]
    assert (row["STATE"], row["CPU"], row["MODELS"]) == ("dead", "-", "-")
    assert row["SEEN"].endswith(" ago")


def test_a_request_that_waits(grid):
    gateway = grid.up("alpha", "--echo")
    alive(gateway, "alpha")
    model = echo(text="hello", load_ms=3000)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(gateway, model)))
    asking.start()
    wait_for(lambda: gateway.metric("starlane_grid_requests_submitted_total"), "the request")
    told = explain(gateway, 1)
    assert told["state"] == "waiting" and told["attempts"] == []
    assert "being loaded" in told["why"]
    assert "waiting" in starlane(gateway, "explain", told["request_id"])
    assert json.loads(starlane(gateway, "explain", "--model", model, "--json"))["waiting"] == 1
    assert gateway.metric("starlane_grid_requests_pending") == 1
    asking.join(DEADLINE_S)
    assert answers == [told["request_id"]]
    assert explain(gateway, 1)["state"] == "finished"
    assert gateway.metric("starlane_grid_loads_total") == 1


def test_a_model_that_fits_nowhere(grid):
    gateway = grid.up("alpha", "--memory", "4M")
    grid.join("beta", gateway.token, "--memory", "5M")
    alive(gateway, "alpha", "beta")
    told = gateway.get("/grid/v1/explain?model=starling").json
    assert re.search(r"needs \d+\.\d MiB of memory; of 2 members the largest, beta, has 5\.0 MiB",
                     told["why"])
    assert told["decision"]["node"] is None
    assert told["why"] in starlane(gateway, "explain", "--model", "starling")
    answer = gateway.post("/v1/completions", {"model": "starling", "prompt": "x"}, expect=None)
    assert answer.status == 503 and told["why"] in answer.error["message"]
    assert "retry-after" not in answer.headers  # no time mends it


def test_nothing_to_explain_is_one_line(trio):
    assert "not one of the last" in refused(trio, "explain", "req_unknown")
    assert "none: no such model" in refused(trio, "explain", "--model", "none")
    assert "request's id or --model" in refused(trio, "explain", expect=2)
    assert "request's id or --model" in refused(trio, "explain", "a", "--model", "b", expect=2)
    assert trio.get("/grid/v1/explain", expect=400).error["message"].startswith("give ?request=")


# --- who may look ---

def test_one_machine_is_no_grid(serve):
    service = serve()
    for path in ("nodes", "models", "status", "explain?model=starling"):
        answer = service.get(f"/grid/v1/{path}", expect=404)
        assert answer.error["code"] == "no_grid" and "starlane up" in answer.error["message"]
    assert "starlane up" in refused(service, "nodes")
    assert "starlane up" in refused(service, "explain", "--model", "starling")
    assert not [name for name in service.metrics() if name.startswith("starlane_grid_")]


def test_keys_say_who_may_look(grid):
    gateway = grid.up("alpha", "--echo")
    model = echo(text="hello")
    request = ask(gateway, model)
    paths = ["nodes", "models", "status", "history?series=watts", f"explain?request={request}",
             f"explain?model={urllib.parse.quote(model)}"]
    assert all(gateway.get(f"/grid/v1/{path}").status == 200 for path in paths)

    def bearer(name, *options):
        text = gateway.starlane.text("keys", "create", "--name", name, *options)
        return {"Authorization": f"Bearer {text.strip()}"}
    user, narrow = bearer("user"), bearer("narrow", "--models", "starling")
    wait_for(lambda: gateway.get("/v1/models", expect=None).status == 401
             and gateway.get("/v1/models", headers=narrow, expect=None).status == 200,
             "keys to be in force")
    home = pathlib.Path(gateway.starlane.environment["STARLANE_HOME"])
    administrator = {"Authorization": "Bearer " + (home / "grid/admin.key").read_text().strip()}
    for path in paths:
        assert gateway.get(f"/grid/v1/{path}", expect=None).status == 401, path
        wrong = {"Authorization": "Bearer sk-wrong"}
        assert gateway.get(f"/grid/v1/{path}", headers=wrong, expect=None).status == 401, path
        for headers in (user, administrator):
            assert gateway.get(f"/grid/v1/{path}", headers=headers).status == 200, path
    # Who may use some models only does not see the others.
    for path in paths[-2:]:
        assert gateway.get(f"/grid/v1/{path}", headers=narrow, expect=None).status == 404
    assert nodes(gateway, headers=narrow)["alpha"]["models"] == []
    assert nodes(gateway, headers=user)["alpha"]["models"] != []
    # The gateway's owner needs no key, a stranger does.
    assert rows(starlane(gateway, "nodes")) and starlane(gateway, "explain", request)
    stranger = grid.home("stranger")
    assert "key" in stranger.error("nodes", "--server", gateway.url, expect=1)
    assert "key" in stranger.error("explain", request, "--server", gateway.url, expect=1)
    # An API key does not administer.
    assert gateway.request("PATCH", "/grid/v1/members/alpha", {"duty": "cordoned"}, headers=user,
                           expect=None).status == 401


# --- metrics ---

def test_metrics_of_the_grid(trio):
    ask(trio, echo(text="metrics"))
    wait_for(lambda: len([name for name in trio.metrics() if "member_rtt_seconds" in name]) == 2,
             "round trips")
    samples = trio.metrics()
    assert samples['starlane_grid_members{state="alive"}'] == 3
    assert samples['starlane_grid_members{state="dead"}'] == 0
    assert samples["starlane_grid_bus_connected"] == 1 and samples["starlane_grid_places"] == 1
    assert samples["starlane_grid_bus_received_bytes_total"] > 0
    sent = samples["starlane_grid_requests_sent_total"]
    assert sent >= samples['starlane_grid_requests_total{end="finished"}'] > 0
    assert samples["starlane_grid_loads_total"] > 0
    names = nodes(trio)
    for name in ("beta", "gamma"):
        label = f'{{member="{names[name]["id"]}",name="{name}"}}'
        assert 0 < samples[f"starlane_grid_member_rtt_seconds{label}"] < 60
    assert samples["starlane_node_cpus"] > 0


def test_status_of_the_dispatcher(trio):
    ask(trio, "echo:?tokens=1")
    status = trio.get("/grid/v1/status").json
    assert status["alive"] == 3 and status["places"] is True
    assert status["sent"] >= status["finished"] > 0


# --- the hour ---

def test_history_of_a_member(trio):
    wait_for(lambda: any(trio.get("/grid/v1/history?series=watts&minutes=1&points=6").json["mean"]),
             "a sample")
    curve = trio.get("/grid/v1/history?series=memory_available_bytes&minutes=1&points=6").json
    assert curve["series"] == "memory_available_bytes" and curve["step_s"] == 10
    assert len(curve["min"]) == len(curve["mean"]) == len(curve["max"]) == 6
    known = [row for row in zip(curve["min"], curve["mean"], curve["max"]) if row[0] is not None]
    assert known and all(0 < low <= mean <= high for low, mean, high in known)


def test_what_it_was_started_with_stays_until_it_is_stopped(grid):
    gateway = grid.up("alpha", MODELS / "starling.gguf", "--threads", 1)

    def lines():
        return starlane(gateway, "ps").splitlines()[1:]
    wait_for(lambda: any(" ready " in line for line in lines()), "the model")
    [line] = lines()
    assert line.split()[0] == "starling" and line.endswith("forever")
    starlane(gateway, "stop", "starling")
    wait_for(lambda: not lines(), "the model to go")
