"""Node scripts that use client libraries of npm: clients/package.json pins them, the first test
that needs them installs them into a cache folder. Without npm or a registry these tests are
skipped."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import TIMEOUT_S

CLIENTS = pathlib.Path(__file__).resolve().parent / "clients"
INSTALL_S = 180


def _cache():
    root = os.environ.get("STARLANE_TEST_CACHE") or \
        pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "starlane"
    lock = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()
    return pathlib.Path(root) / f"test-clients-{lock[:16]}"


def _install(into):
    """Into a folder beside it first, so that another run never sees half of it."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as work:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / name, work)
        done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                              cwd=work, capture_output=True, text=True, timeout=INSTALL_S,
                              check=False)
        if done.returncode:
            pytest.skip("npm cannot install the client libraries: " + done.stderr.strip()[-300:])
        try:
            os.rename(work, into)
        except OSError:
            assert into.exists()  # another run was faster
        else:
            os.mkdir(work)  # for the cleanup


@pytest.fixture(scope="session", name="node")
def node_fixture():
    """Runs a script of clients/; gives what it printed, as JSON."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("no npm and node here")
    cache = _cache()
    if not cache.exists():
        _install(cache)
    environment = dict(os.environ, NODE_PATH=str(cache / "node_modules"))

    def run(script, *arguments):
        done = subprocess.run(["node", str(CLIENTS / script), *map(str, arguments)], check=False,
                              capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
        return json.loads(done.stdout)

    return run
