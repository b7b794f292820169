"""The README's commands work as they are pasted; the Chinese page has the same ones."""
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from conftest import BINARY, MODELS, ROOT, TIMEOUT_S
from npm_clients import node_fixture  # noqa: F401  pylint: disable=unused-import
from service import Service

PAGES = ["README.md", "README.zh-CN.md"]
ELSEWHERE = ("make ", "build/starlane pull ", "build/starlane import ~/.ollama/models",
             "build/starlane serve ", "build/starlane up ", "build/starlane join ",
             "build/starlane nodes ", "build/starlane explain ", "build/starlane token ",
             "build/starlane plan ")
"""What is not run as it stands: it builds, needs the Internet, somebody's home or a grid, or does
not end by itself."""
SHARED = pathlib.Path(os.environ.get("STARLANE_SHARED", ROOT.parent / "shared")) / "data"
ONNX_FILES = {"path/to/resnet20.onnx": SHARED / "onnx/resnet20_cifar10.onnx",
              "path/to/yolox_nano.onnx": SHARED / "onnx/yolox-nano/yolox_nano.onnx",
              "photo.jpg": SHARED / "images/photos/flower.jpg"}
CHAT_TEMPLATE = "{% set last = messages[-1] %}{{ last.content }}"


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(block):
    """The commands of a block; one may take several lines."""
    found, begun = [], ""
    for line in block.splitlines(keepends=True):
        begun += line
        try:
            words = [] if begun.endswith("\\\n") else shlex.split(begun, comments=True)
        except ValueError:  # a quotation is open
            continue
        if words:
            found.append(begun)
        if words or not begun.strip():
            begun = ""
    assert not begun, f"an open quotation: {begun}"
    return found


def shell_commands(page):
    return [command for block in blocks(page, "sh") for command in commands(block)]


def runnable(command):
    """The models that the page speaks of may not be on this machine."""
    return all(source.exists() for source in ONNX_FILES.values()) or \
        not any(word in command for word in ("resnet20", "yolox"))


def without_comments(command):
    return shlex.split(command, comments=True)


def test_pages_have_the_same_commands():
    english, chinese = (list(map(without_comments, shell_commands(page))) for page in PAGES)
    assert english == chinese
    for language in ("python", "js"):
        assert blocks(PAGES[0], language) == blocks(PAGES[1], language) != []


@pytest.mark.parametrize("page", PAGES + ["CHANGELOG.md", "docs/README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert links
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


@pytest.fixture(name="checkout")
def checkout_fixture(tmp_path, starlane):
    """A folder like a clone after `make`, with the files that the README speaks of."""
    folder = tmp_path / "checkout"
    for target, source in (("build/starlane", BINARY), ("models", MODELS),
                           ("path/to/model.gguf", MODELS / "starling.gguf")):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).symlink_to(source)
    for target, source in ONNX_FILES.items():
        if source.exists():
            (folder / target).symlink_to(source)
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "question.txt").write_text("Once upon a time", encoding="utf-8")
    chat_model(starlane, "qwen3:0.6b")
    return folder


def chat_model(starlane, name):
    """The bundled model with a chat template, under the name of one that can chat."""
    starlane.call("import", MODELS / "starling.gguf", "--name", name)
    home = pathlib.Path(starlane.environment["STARLANE_HOME"])
    path = home / "models/manifests/registry.ollama.ai/library" / name.replace(":", "/")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["chat_template"] = CHAT_TEMPLATE
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture(name="service")
def service_fixture(starlane):
    with Service(starlane, "starling", "--threads", 1) as service:
        yield service


def shell(script, starlane, checkout, service):
    """Run it where a server listens on the port that it names."""
    done = subprocess.run(["bash", "-euxo", "pipefail", "-c", script], cwd=checkout, check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=TIMEOUT_S,
                          env={**starlane.environment, "STARLANE_HOST": service.url,
                               "no_proxy": "*"})
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    assert '{"error"' not in done.stdout, (script, done.stdout)
    return done.stdout


def test_shell_commands_work_as_pasted(starlane, checkout, service):
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    script = "".join(command for block in blocks("README.md", "sh") if "tls.crt" not in block
                     for command in commands(block)
                     if not command.lstrip().startswith(ELSEWHERE) and runnable(command))
    for words in ("run starling", "chat qwen3", "import path/to", "keys create", "/api/generate"):
        assert words in script
    output = shell(script.replace("http://127.0.0.1:8080", service.url), starlane, checkout,
                   service)
    assert "data: [DONE]" in output and '"done":true' in output
    assert "starlane_generation_tokens_total" in output and "mine:latest" in output


def test_tls_commands_work_as_pasted(starlane, checkout):
    if not shutil.which("curl") or not shutil.which("openssl"):
        pytest.skip("no curl or no openssl here")
    (certificate, serve), asking = [commands(block) for block in blocks("README.md", "sh")
                                    if "tls.crt" in block]
    subprocess.run(["bash", "-ec", certificate], cwd=checkout, check=True, capture_output=True)
    arguments = shlex.split(serve.replace("--port 8443", "").replace("tls.", f"{checkout}/tls."))
    assert arguments[:2] == ["build/starlane", "serve"]
    key = starlane.text("keys", "create", "--name", "alice").strip()
    with Service(starlane, *arguments[2:], "--threads", 1, cafile=checkout / "tls.crt") as service:
        script = "".join(asking).replace(":8443", f":{service.address[1]}")
        output = shell(f"KEY={key}\n{script}", starlane, checkout, service)
    assert '"id":"starling:latest"' in output and "RUNNING" in output


def run_on_free_port(block, service, path, command):
    path.write_text(block.replace("http://127.0.0.1:8080", service.url), encoding="utf-8")
    done = subprocess.run([*command, path.name], cwd=path.parent, check=False, text=True,
                          capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 10, "a story"


def test_javascript_works_as_pasted(service, node, tmp_path):
    where = tmp_path / "where.cjs"
    where.write_text("console.log(JSON.stringify(process.env.NODE_PATH))", encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(node(where))
    [block] = blocks("README.md", "js")
    run_on_free_port(block, service, tmp_path / "story.mjs", ["node"])


def test_python_works_as_pasted(service, tmp_path):
    if not importlib.util.find_spec("openai"):
        pytest.skip("no openai package here")
    [block] = blocks("README.md", "python")
    run_on_free_port(block, service, tmp_path / "story.py", [sys.executable])
