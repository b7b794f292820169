"""`starlane debug logits` against the logits that the reference implementation computes."""
import json

import numpy as np
import pytest

from conftest import golden

TOLERANCE = 2e-3
MODELS = ["llama", "llama-ropefreqs-tied", "qwen2", "qwen2-yarn", "qwen3", "qwen3moe", "gemma3",
          "gpt-oss", "deepseek2-lite", "deepseek2-v3"]


class Case:
    """One golden model: its file, tokens and reference logits."""

    def __init__(self, name, starlane, out):
        entry = json.loads(golden("llm/manifest.json").read_text(encoding="utf-8"))[name]
        self.starlane, self.out = starlane, out
        self.path = golden(f"llm/{name}.gguf")
        self.tokens = entry["tokens"]
        self.argmax = entry["argmax"]
        self.reference = np.fromfile(golden(f"llm/{entry['logits']}"), "<f4").reshape(
            entry["shape"])

    def logits(self, *options):
        self.starlane.call("debug", "logits", self.path, "--threads", 1, "--out", self.out,
                           "--tokens", ",".join(map(str, self.tokens)), *options)
        return np.fromfile(self.out, "<f4").reshape(self.reference.shape)

    def assert_near(self, got, tolerance=TOLERANCE):
        assert np.isfinite(got).all()
        assert np.abs(got - self.reference).max() <= tolerance
        assert got.argmax(axis=1).tolist() == self.argmax


@pytest.fixture(params=MODELS)
def case(request, starlane, tmp_path):
    return Case(request.param, starlane, tmp_path / "logits.f32")


def test_equal_the_reference(case):
    case.assert_near(case.logits())


def test_ggml_attention_equals_the_reference(case):
    case.assert_near(case.logits("--attention", "ggml"))


def test_stages_change_no_bit(case):
    n_layers = case.starlane.json("show", case.path, "--json")["architecture"]["layers"]
    whole = case.logits()
    assert n_layers > 1
    for n_stages in range(2, n_layers + 1):
        assert np.array_equal(case.logits("--stages", n_stages), whole), n_stages


def test_chunks_equal_the_reference(case):
    for n_tokens in (1, 7):
        case.assert_near(case.logits("--chunk", n_tokens))


def test_too_many_stages(starlane, tmp_path):
    case = Case("llama", starlane, tmp_path / "logits.f32")
    line = starlane.error("debug", "logits", case.path, "--tokens", "1", "--stages", 60,
                          "--out", case.out, expect=2)
    assert "60 stages" in line


def test_tokens_from_a_file(starlane, tmp_path):
    case = Case("llama", starlane, tmp_path / "logits.f32")
    whole = case.logits()
    listed = tmp_path / "tokens.json"
    listed.write_text(json.dumps(case.tokens), encoding="utf-8")
    text = starlane.text("debug", "logits", case.path, "--tokens", f"@{listed}", "--threads", 1,
                         "--out", case.out)
    assert text == f"{case.out}: [24, 320] float32\n"
    assert np.array_equal(np.fromfile(case.out, "<f4").reshape(24, 320), whole)
