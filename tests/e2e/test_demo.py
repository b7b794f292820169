"""What `make demo` runs: a story over HTTP, and the same story through a kill."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from conftest import BINARY, MODELS, ROOT, TIMEOUT_S
from service import wait_for

MARK = " [kill -9]"

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")


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
    assert len(stories) >= 2 and MARK in stories[-1], output
    assert stories[-1].replace(MARK, "") == stories[0]
    assert "RUNNING" in output and "COMPLETION" in output, "ps and usage"
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
    [server] = wait_for(lambda: children(demo.pid, BINARY.name), "the server")
    processes = [server, *wait_for(lambda: children(server), "its worker")]
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 128 + signal.SIGTERM
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in processes),
             "its processes to end")
    assert not list(tmp_path.iterdir())
