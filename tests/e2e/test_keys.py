"""API keys and usage from the command line."""
import re
import stat
import subprocess

KEY = re.compile(r"sl-[0-9A-Za-z]{53}")


def test_a_key_is_printed_alone_and_once(starlane, tmp_path):
    done = starlane.call("keys", "create", "--name", "alice")
    key = done.stdout.decode().strip()
    assert KEY.fullmatch(key)
    assert key not in done.stderr.decode() and b"cannot be shown again" in done.stderr
    assert key not in starlane.text("keys", "ls")
    secret = key[13:].encode()
    for file in (tmp_path / "home").iterdir():
        assert secret not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_create_lists_and_revokes(starlane):
    made = starlane.json("keys", "create", "--name", "bob", "--rpm", 60, "--tpm", 1000,
                         "--concurrency", 2, "--models", "qwen*", "--expires", "30d",
                         "--class", "batch", "--json")
    assert KEY.fullmatch(made["key"]) and made["key"][3:13] == made["id"]
    assert made["expires"] - made["created"] == 30 * 86400
    [row] = starlane.json("keys", "ls", "--json")
    del made["key"]
    assert row == made
    assert (row["rpm"], row["tpm"], row["concurrency"]) == (60, 1000, 2)
    assert (row["models"], row["class"], row["revoked"]) == ("qwen*", "batch", None)
    heading, line = starlane.text("keys", "ls").splitlines()
    assert heading.split()[:3] == ["ID", "NAME", "STATE"]
    assert line.split()[:3] == [made["id"], "bob", "active"]
    assert made["id"] in starlane.text("keys", "revoke", "bob")
    assert starlane.json("keys", "ls", "--json")[0]["revoked"] is not None
    assert "revoked already" in starlane.error("keys", "revoke", made["id"], expect=1)


def test_misuse_is_explained(starlane):
    assert "--name is needed" in starlane.error("keys", "create", expect=2)
    assert "--expires soon" in starlane.error("keys", "create", "--name", "a", "--expires", "soon",
                                              expect=2)
    assert "create, ls, revoke" in starlane.error("keys", "frobnicate", expect=2)
    assert "which key" in starlane.error("keys", "revoke", expect=2)
    assert "no key" in starlane.error("keys", "revoke", "nobody", expect=1)
    starlane.call("keys", "create", "--name", "a")
    assert "key named" in starlane.error("keys", "create", "--name", "a", expect=1)
    assert "no key" in starlane.error("usage", "--key", "nobody", expect=1)
    assert "--since" in starlane.error("usage", "--since", "yesterday", expect=2)


def test_many_processes_may_make_keys_at_once(starlane):
    """The first of them find no database and make it."""
    running = [starlane.start("keys", "create", "--name", f"key {i}", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) for i in range(8)]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert KEY.fullmatch(out.decode().strip())
    assert len(starlane.json("keys", "ls", "--json")) == 8


def test_usage_of_nothing_is_empty(starlane):
    assert starlane.json("usage", "--json") == []
    [heading] = starlane.text("usage", "--by", "model", "--since", "7d").splitlines()
    assert heading.split()[:2] == ["MODEL", "REQUESTS"]


def test_a_damaged_database_is_named(starlane, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "state.db").write_bytes(b"no database at all, but long enough to look at. " * 50)
    message = starlane.error("keys", "ls", expect=1)
    assert "state.db" in message and "damaged" in message and "backup" in message
