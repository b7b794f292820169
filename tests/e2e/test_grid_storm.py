"""A grid of real processes in a laboratory, two gateways and five nodes of unlike speed, goes
through each kind of disaster once, with requests under way whose answers must be those of quiet
times. bench/grid_storm.py does the same for as long as one likes."""
import contextlib
import itertools
import json
import pathlib
import random
import shutil
import threading

import pytest

from conftest import BINARY, MODELS
from netlabs import laboratory
from netlab_grid import Answer, Counters, Grid, Load
from netlab_storm import GATEWAYS, LAB, MODEL, NODES, Storm, bodies, counting, start_grid

pytestmark = pytest.mark.skipif(
    not (shutil.which("nats-server") or pathlib.Path("/usr/sbin/nats-server").exists()),
    reason="no nats-server")

SHORT_TOKENS, LONG_TOKENS = 32, 450
TRIES = 3  # an answer may be over before its node is
RATE_PER_S = 2
LONG = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": LONG_TOKENS, "temperature": 0,
        "ignore_eos": True}


@pytest.fixture(scope="module", name="grid")
def running_grid():
    with laboratory(LAB) as lab:
        if lab.run("g1", [BINARY, "version"]).returncode:
            pytest.skip("libfaketime and sanitizers do not go together")
        grid = Grid(lab, BINARY, MODELS)
        start_grid(grid)
        yield grid


@pytest.fixture(scope="module", name="expected")
def quiet_answers(grid):
    """{body as JSON: text}, which both gateways give."""
    texts = {}
    for gateway in GATEWAYS:
        load = Load(grid, [gateway], texts)
        for body in bodies(SHORT_TOKENS) + [LONG]:
            load.send(body)
        load.finish()
        assert not load.failures
        texts = load.texts
    return texts


@contextlib.contextmanager
def under_load(grid, expected):
    """Requests all the while, and none of them hears of what happens, or is answered otherwise.
    Those that ask a gateway which dies may ask the other one."""
    load, stop, wanted = Load(grid, GATEWAYS, expected), threading.Event(), bodies(SHORT_TOKENS)

    def ask_on():
        for body in itertools.cycle(wanted):
            load.send(body)
            if stop.wait(1 / RATE_PER_S):
                return
    asking = threading.Thread(target=ask_on)
    with counting(Counters(grid)) as counters:
        asking.start()
        try:
            yield load
        finally:
            stop.set()
            asking.join()
        load.finish()
    assert not load.failures and load.answers
    assert counters.sums()["failed"] == 0


def attempts_at(grid, answer):
    why = grid.get(answer.gateway, f"/grid/v1/explain?request={answer.request_id}")
    return why["attempts"]


def cut_in_the_middle(grid, expected, strike):
    """A long answer, from g1, whose node is struck as soon as it has said something. Returns the
    node's name and the attempts at the answer."""
    answer, struck = Answer(), []

    def on_text(answer):
        if answer.text and not struck:
            struck.append(attempts_at(grid, answer)[-1]["name"])
            strike(struck[0])
    answer.on_text = on_text
    answer.ask(grid, ["g1"], LONG)
    assert answer.text == expected[json.dumps(LONG, sort_keys=True)] and answer.asked == 1
    return struck[0], attempts_at(grid, answer)


def kill_with_another(grid, name):
    for node in (name, next(other for other in NODES if other != name)):
        grid.lab.kill(node)


STRIKES = {  # what happens to the node in the middle of an answer
    "kill_two_nodes": kill_with_another,
    "partition": lambda grid, name: grid.lab.cut(name),
    "freeze": lambda grid, name: grid.lab.pause(name),
}


@pytest.mark.parametrize("kind", STRIKES)
def test_an_answer_goes_on_elsewhere(grid, expected, kind):
    """When its node goes, from the token on that its client had last."""
    for _ in range(TRIES):
        with under_load(grid, expected):
            name, attempts = cut_in_the_middle(grid, expected,
                                               lambda name: STRIKES[kind](grid, name))
            grid.lab.heal()
            grid.lab.resume(name)
            for node in NODES:
                if not grid.lab.pids(node):
                    grid.restart(node)
            for gateway in GATEWAYS:
                grid.wait_alive(NODES, gateway)
        if len(attempts) > 1:
            break
    assert attempts[0]["name"] == name != attempts[1]["name"]
    assert 0 < attempts[0]["to_token"] == attempts[1]["from_token"]


def test_an_answer_goes_on_when_the_servers_of_the_bus_die(grid, expected):
    """Both at once, so that nobody speaks with anybody for a while."""
    with under_load(grid, expected):
        cut_in_the_middle(grid, expected,
                          lambda _: [grid.kill_nats(name) for name in GATEWAYS])
        for gateway in GATEWAYS:
            grid.wait_alive(NODES + GATEWAYS, gateway)


@pytest.mark.parametrize("kind", ["kill_gateway", "split", "jump_clock", "fill_disk"])
def test_disaster(grid, expected, kind):
    with under_load(grid, expected) as load:
        Storm(grid, random.Random(kind), pause=0, haste=2).strike(kind)
    if kind != "kill_gateway":
        assert all(answer.asked == 1 for answer in load.answers)
