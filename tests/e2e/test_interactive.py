"""`starlane run` at a terminal: a conversation, typed through a pseudo-terminal."""
import os
import pty
import re
import select
import stat
import time

import pytest

from conftest import TIMEOUT_S

PROMPT = b">>> "


class Terminal:
    """A process on a terminal of its own, and all it has written there."""

    def __init__(self, starlane, *arguments):
        command = starlane.command(*arguments)
        self.output, self.seen = b"", 0
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.execve(command[0], command, dict(starlane.environment, TERM="xterm", HOME="/"))

    def wait_for(self, pattern, timeout_s=TIMEOUT_S):
        """Wait for a match in what came after the last match; return the text up to its end."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = re.compile(pattern, re.DOTALL).search(self.output, self.seen)
            if found:
                text = self.output[self.seen:found.end()]
                self.seen = found.end()
                return text
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.fd], [], [], left)[0]
            chunk = self.read() if ready else b""
            assert chunk, f"no {pattern!r} in {self.output[self.seen:]!r}"
            self.output += chunk

    def read(self):
        try:
            return os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            return b""

    def type(self, keys):
        os.write(self.fd, keys)

    def exit_status(self):
        while self.read():
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.process = None
        return status

    def close(self):
        os.close(self.fd)
        if self.process is not None:
            os.kill(self.process, 9)
            os.waitpid(self.process, 0)


@pytest.fixture
def terminal(starlane, stories):
    opened = []

    def open_one(*options):
        one = Terminal(starlane, "run", stories, "--temp", "0", "--threads", "1", *options)
        opened.append(one)
        one.wait_for(re.escape(PROMPT))
        return one

    yield open_one
    for one in opened:
        one.close()


def test_lines_go_on_with_the_text(terminal):
    one = terminal("--max-tokens", "12", "--ctx", "200")
    one.type(b"Once upon a time\r")
    assert b"there was a little" in one.wait_for(rb"\[\d+ of 200 tokens.*>>> ")
    first = int(re.search(rb"\[(\d+) of 200", one.output)[1])
    one.type(b"\r")
    one.wait_for(rb"\[\d+ of 200 tokens.*>>> ")
    second = int(re.findall(rb"\[(\d+) of 200", one.output)[-1])
    assert second == first + 12
    one.type(b"\x04")
    assert one.exit_status() == 0


def test_interrupt_stops_the_answer_only(terminal):
    one = terminal("--max-tokens", "90000", "--ctx", "100000", "--ignore-end")
    one.type(b"Once upon a time\r")
    one.wait_for(b"there was")
    one.type(b"\x03")
    one.wait_for(rb"\[interrupted;.*>>> ")
    one.type(b"/bye\r")
    assert one.exit_status() == 0


def test_interrupt_drops_a_line(terminal):
    one = terminal("--max-tokens", "5")
    one.type(b"Some words")
    one.wait_for(b"words")
    one.type(b"\x03")
    one.wait_for(rb"leaves\).*>>> ")
    one.type(b"Once upon a time\r")
    one.wait_for(b", there was")
    one.wait_for(rb"tokens/s\].*>>> ")
    one.type(b"\x04")
    assert one.exit_status() == 0


def test_full_context_and_reset(terminal):
    one = terminal("--max-tokens", "500", "--ctx", "24", "--ignore-end")
    one.type(b"Once upon a time\r")
    one.wait_for(rb"\[the context is full.*>>> ")
    one.type(b"and\r")
    one.wait_for(rb"context holds 24.*/reset.*>>> ")
    one.type(b"/reset\r")
    one.wait_for(rb">>> ")
    one.type(b"Once upon a time\r")
    one.wait_for(rb", there was.*>>> ")
    one.type(b"\x04")
    assert one.exit_status() == 0


def test_history_is_kept_for_the_owner_alone(terminal, tmp_path):
    one = terminal("--max-tokens", "3")
    one.type("Zoë sat\r".encode())
    one.wait_for(rb"tokens/s\].*>>> ")
    one.type(b"/bye\r")
    assert one.exit_status() == 0
    path = tmp_path / "home/history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    two = terminal("--max-tokens", "3")
    two.type(b"\x1b[A")
    two.wait_for("Zoë sat".encode())
    two.type(b"\r")
    two.wait_for(rb"tokens/s\].*>>> ")
    two.type(b"\x04")
    assert two.exit_status() == 0


def test_help_and_empty_start(terminal):
    one = terminal()
    one.type(b"/?\r")
    one.wait_for(rb"/reset.*>>> ")
    one.type(b"/bye\r")
    assert one.exit_status() == 0


def test_an_end_of_input_typed_early_counts(terminal):
    """Typed before the editor has the terminal, Ctrl-D reaches it as a NUL."""
    one = terminal()
    one.type(b"\0")
    assert one.exit_status() == 0
