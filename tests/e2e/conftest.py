"""What the end-to-end tests share: the program as a user calls it, and where models are.

The runner sets STARLANE_BIN, STARLANE_SHARED and STARLANE_MODELS; by hand, after `make`, plain
`pytest tests/e2e` finds them by itself.
"""
import contextlib
import json
import os
import pathlib
import subprocess

import pytest

from service import Service

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("STARLANE_BIN", ROOT / "build/starlane"))
SHARED = pathlib.Path(os.environ.get("STARLANE_SHARED", ROOT.parent / "shared"))
MODELS = pathlib.Path(os.environ.get("STARLANE_MODELS", ROOT / "models"))
TIMEOUT_S = 240
"""Of one command: generous, because machines under load and sanitizers are slow."""


class Starlane:
    """The program with a home of its own."""

    def __init__(self, home):
        self.environment = dict(os.environ, STARLANE_HOME=str(home), STARLANE_MODELS=str(MODELS))

    def command(self, *arguments):
        return [str(BINARY), *map(str, arguments)]

    def call(self, *arguments, stdin=b"", environment=None, expect=0):
        """Run to the end. Fails unless the exit status is the expected one."""
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True,
                              timeout=TIMEOUT_S, check=False,
                              env={**self.environment, **(environment or {})})
        assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done

    def text(self, *arguments, **options):
        return self.call(*arguments, **options).stdout.decode()

    def json(self, *arguments, **options):
        return json.loads(self.call(*arguments, **options).stdout)

    def error(self, *arguments, expect, **options):
        """The one line that a failure prints; stdout must be empty."""
        done = self.call(*arguments, expect=expect, **options)
        lines = done.stderr.decode().splitlines()
        assert done.stdout == b"" and len(lines) == 1, (done.stdout, done.stderr)
        assert lines[0].startswith("starlane")
        return lines[0]

    def start(self, *arguments, **options):
        return subprocess.Popen(self.command(*arguments), env=self.environment, **options)


@pytest.fixture
def starlane(tmp_path):
    return Starlane(tmp_path / "home")


def shared_path(relative):
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


@pytest.fixture
def stories():
    """A real model of 260 thousand parameters, float32, a context of 128 tokens or so."""
    return shared_path("data/models/stories260K-f32.gguf")


def golden(relative):
    """A file of tests/golden, or of the shared folder it was copied from."""
    own = ROOT / "tests/golden" / relative
    return own if own.exists() else shared_path(pathlib.Path("golden") / relative)


@pytest.fixture
def serve(starlane):
    """Starts services that end with the test: serve("starling", "--threads", 1)."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            Service(starlane, *arguments, **options))


@pytest.fixture(scope="module")
def starling_service(tmp_path_factory):
    """A service with the bundled model loaded and the scripted engine allowed, shared by the tests
    of a module."""
    starlane = Starlane(tmp_path_factory.mktemp("service") / "home")
    with Service(starlane, "starling", "--threads", 1, "--echo") as service:
        yield service
