"""Files that are no models: each command refuses them in one line, and none crashes."""
import pytest

READERS = [["run", "MODEL", "a"], ["bench", "MODEL", "-p", "1", "-n", "1"], ["show", "MODEL"],
           ["tokenize", "MODEL"],
           ["debug", "logits", "MODEL", "--tokens", "1", "--out", "/dev/null"]]


def with_model(arguments, path):
    return [path if word == "MODEL" else word for word in arguments]


@pytest.mark.parametrize("arguments", READERS, ids=lambda words: words[0])
def test_missing_file(starlane, tmp_path, arguments):
    line = starlane.error(*with_model(arguments, tmp_path / "none.gguf"), expect=1)
    assert "none.gguf" in line and "No such file" in line and "starling" in line


@pytest.mark.parametrize("arguments", READERS, ids=lambda words: words[0])
def test_folder(starlane, tmp_path, arguments):
    assert "folder" in starlane.error(*with_model(arguments, tmp_path), expect=2)


@pytest.mark.parametrize("arguments", READERS, ids=lambda words: words[0])
@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100],
                         ids=["empty", "magic", "text"])
def test_other_files(starlane, tmp_path, arguments, content):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert "bad.gguf" in starlane.error(*with_model(arguments, path), expect=1)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.999])
def test_truncated(starlane, tmp_path, stories, share):
    whole = stories.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:int(len(whole) * share)])
    for arguments in READERS:
        assert "cut.gguf" in starlane.error(*with_model(arguments, path), expect=1)


def test_unreadable_path_is_named(starlane, stories):
    assert "Not a directory" in starlane.error("show", stories / "x", expect=1)
