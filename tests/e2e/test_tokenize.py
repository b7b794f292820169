"""`starlane tokenize` against the ids that the reference implementation gives."""
import concurrent.futures
import json

import pytest

from conftest import golden, shared_path

SEPARATOR = "\n__ggml_vocab_test__\n"
VOCABULARIES = ["deepseek-llm", "llama-bpe", "llama-spm", "qwen2"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_reference_ids(starlane, name):
    model = shared_path(f"data/tokenizers/ggml-vocab-{name}.gguf")
    given = golden(f"tokenizers/ggml-vocab-{name}.gguf.inp")
    wanted = golden(f"tokenizers/ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8")
    texts = given.read_bytes().decode().split(SEPARATOR)
    lines = wanted.split("\n")[:len(texts)]
    assert len(texts) > 40 and len(lines) == len(texts)

    def ids(text):
        return starlane.json("tokenize", model, stdin=text.encode())

    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        for text, line, got in zip(texts, lines, executor.map(ids, texts)):
            assert got == [int(word) for word in line.split()], repr(text)


def test_decode_gives_the_text_back(starlane):
    text = "Once upon a time — Zoë's 猫 said: 🙂\n\tgood-bye.\n"
    ids = starlane.call("tokenize", "starling", stdin=text.encode()).stdout
    assert starlane.text("tokenize", "starling", "--decode", stdin=ids) == text
    assert starlane.text("tokenize", "starling", "--decode", stdin=b" 1 2\n") != ""


def test_pieces_spell_the_text(starlane):
    pieces = starlane.json("tokenize", "starling", "--pieces", stdin=b"Once upon a time")
    assert "".join(piece["text"] for piece in pieces) == "Once upon a time"
    assert [piece["id"] for piece in pieces] == \
        starlane.json("tokenize", "starling", stdin=b"Once upon a time")


def test_bos_and_special(starlane, stories):
    plain = starlane.json("tokenize", stories, stdin=b"Once")
    assert starlane.json("tokenize", stories, "--bos", stdin=b"Once") == [1] + plain
    assert 1 in starlane.json("tokenize", stories, "--special", stdin=b"<s>Once")
    assert 1 not in starlane.json("tokenize", stories, stdin=b"<s>Once")


def test_empty_text(starlane):
    assert starlane.json("tokenize", "starling") == []
    assert starlane.text("tokenize", "starling", "--decode", stdin=b"[]") == ""


@pytest.mark.parametrize("ids, words", [
    (b"[1,2", "does not end"), (b"[1,,2]", "no number"), (b"[1] 2", "after the list"),
    (b"[4096]", "vocabulary"), (b"[-1]", "vocabulary"), (b"[99999999999]", "no number"),
    (b'{"a":1}', "no number"), (b"1,", "does not end")])
def test_bad_ids(starlane, ids, words):
    assert words in starlane.error("tokenize", "starling", "--decode", stdin=ids, expect=2)


def test_output_is_json_for_any_bytes(starlane):
    for text in (bytes(range(256)), b"\xff\xfe\x80", b"\x00"):
        ids = json.loads(starlane.call("tokenize", "starling", stdin=text).stdout)
        assert ids and all(isinstance(number, int) for number in ids)
        starlane.json("tokenize", "starling", "--pieces", stdin=text)
