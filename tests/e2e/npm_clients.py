"""What tests need from npm: client libraries for Node scripts (clients/package.json pins them) and
models (ocr_models/package.json). The first test that needs them installs them into a cache folder.
Without npm or a registry these tests are skipped."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import TIMEOUT_S

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = HERE / "clients"
INSTALL_S = 180


def _cache(source):
    root = os.environ.get("STARLANE_TEST_CACHE") or \
        pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "starlane"
    lock = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    return pathlib.Path(root) / f"test-{source.name.replace('_', '-')}-{lock[:16]}"


def _install(source, into):
    """Into a folder beside it first, so that another run never sees half of it."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as work:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, work)
        done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                              cwd=work, capture_output=True, text=True, timeout=INSTALL_S,
                              check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install what {source.name} pins: "
                        + done.stderr.strip()[-300:])
        try:
            os.rename(work, into)
        except OSError:
            assert into.exists()  # another run was faster
        else:
            os.mkdir(work)  # for the cleanup


def npm_folder(source):
    """node_modules with what the package.json of that folder pins; skips the test without npm."""
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    cache = _cache(source)
    if not cache.exists():
        _install(source, cache)
    return cache / "node_modules"


@pytest.fixture(scope="session", name="node")
def node_fixture():
    """Runs a script of clients/; gives what it printed, as JSON."""
    if not shutil.which("node"):
        pytest.skip("no node here")
    environment = dict(os.environ, NODE_PATH=str(npm_folder(CLIENTS)))

    def run(script, *arguments):
        done = subprocess.run(["node", str(CLIENTS / script), *map(str, arguments)], check=False,
                              capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
        return json.loads(done.stdout)

    return run
