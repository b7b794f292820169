"""What `make demo` runs: a grid of three nodes, a story on it, and the same story through the death
of its node."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from conftest import BINARY, MODELS, ROOT, TIMEOUT_S
from service import wait_for

MARK = re.compile(r" \[kill -9 (north|east|south)\]")

PATH = os.environ["PATH"] + ":/usr/sbin"

pytestmark = pytest.mark.skipif(
    not shutil.which("curl") or not shutil.which("nats-server", path=PATH),
    reason="no curl or no nats-server here")


@pytest.fixture(name="demo")
def demo_fixture(tmp_path):
    environment = dict(os.environ, TMPDIR=str(tmp_path), STARLANE_MODELS=str(MODELS))
    with subprocess.Popen([str(ROOT / "scripts/demo.sh"), str(BINARY)], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        process.terminate()


def test_demo(demo, tmp_path):
    output, _ = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, output
    stories = [line for line in output.splitlines() if line.startswith("Once upon a time")]
    assert len(stories) >= 2 and MARK.search(stories[-1]), output
    assert MARK.sub("", stories[-1]) == stories[0]
    assert output.count("VERDICT") >= 2 and "the node died" in output, "explain"
    assert output.count(" ran on ") == 6 and "TOK/S" in output, "six prompts, and nodes"
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def children(pid, called=""):
    """Of the process, those whose names begin so."""
    found = []
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
            if pathlib.Path(f"/proc/{child}/comm").read_text("utf-8").startswith(called):
                found.append(int(child))
    return found


def test_demo_that_is_interrupted_leaves_nothing(demo, tmp_path):
    members = wait_for(lambda: children(demo.pid, BINARY.name), "the gateway")
    processes = [*members, *wait_for(lambda: children(members[0]), "its nats-server")]
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 128 + signal.SIGTERM
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in processes),
             "its processes to end")
    assert not list(tmp_path.iterdir())
