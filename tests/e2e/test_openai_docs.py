"""The examples of docs/api.md and docs/oip.md do what the pages say when they are pasted."""
import json
import re
import shutil
import subprocess

import pytest

from conftest import ROOT, TIMEOUT_S


PAGES = ("api.md", "oip.md")


def examples(pages=PAGES):
    """Every command of the pages that begins with curl, joined where a line goes on."""
    text = "\n".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"(?:^    .*\n)+", text, re.M)
    for block in blocks:
        lines = re.sub(r"^    ", "", block, flags=re.M)
        if lines.startswith("curl "):
            yield from (command.strip() for command in re.split(r"^(?=curl )", lines, flags=re.M)
                        if command)


@pytest.mark.parametrize("command", examples())
def test_an_example_can_be_pasted(starling_service, command):
    if not shutil.which("curl"):
        pytest.skip("no curl")
    assert "http://127.0.0.1:8080" in command
    pasted = command.replace("http://127.0.0.1:8080", starling_service.url)
    done = subprocess.run(["bash", "-c", pasted + " --silent --show-error --fail-with-body"],
                          capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    if '"stream": true' in command:
        assert done.stdout.endswith("data: [DONE]\n\n") and '"choices":[]' in done.stdout
    elif "-D -" in command:
        assert "\nInference-Header-Content-Length: " in done.stdout
    elif not command.endswith("/metrics"):
        kind = list if command.endswith("/index") else dict
        assert isinstance(json.loads(done.stdout), kind)


def test_the_page_has_examples_of_every_endpoint():
    text = "\n".join(examples())
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models",
                 "/v1/rerank", "/tokenize", "/detokenize", "/health", "/metrics", "/infer",
                 "/generate", "/config", "/ready", "/load", "/unload", "/index"):
        assert path in text
