"""Tools for tests that treat a running service badly: raw sockets, a well-behaved client that keeps
asking meanwhile, and the checks that the service is as it was before."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import socket
import struct
import threading
import time

from service import DEADLINE_S, echo, wait_for

STALL_S = 20
"""No answer to the bystander may take longer: far above what a loaded machine needs, far below
what a service that has stopped to serve would take."""

RSS_GROWTH_MAX = 640 << 20
"""What the allocator may keep of all that was bounded; without a bound it was gigabytes."""
DESCRIPTORS_SLACK = 8
"""SQLite and log files come and go."""

BYSTANDER_MODEL = echo(text="a quiet answer")


class RawConnection:
    """A socket that sends what it is given and reads what comes."""

    def __init__(self, service, timeout=DEADLINE_S, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(service.address)
        self.host = f"{service.address[0]}:{service.address[1]}".encode()

    def send(self, data):
        """False when the service has closed already."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self, n=65536):
        """b"" at the end; a reset is an end too."""
        try:
            return self.socket.recv(n)
        except ConnectionResetError:
            return b""

    def receive_all(self):
        data = bytearray()
        while part := self.receive():
            data += part
        return bytes(data)

    def receive_until(self, mark):
        data = bytearray()
        while mark not in data:
            part = self.receive()
            assert part, bytes(data[-200:])
            data += part
        return bytes(data)

    def has_ended(self):
        """Without waiting: has the service closed it? What came meanwhile is thrown away."""
        self.socket.setblocking(False)
        try:
            while True:
                if not self.socket.recv(65536):
                    return True
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def half_close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def post_head(path, n_body, *more):
    """Of a POST with JSON; Host is one that the service allows."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
             f"Content-Length: {n_body}", *more, "", ""]
    return "\r\n".join(lines).encode()


def post(path, body, *more):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return post_head(path, len(body), *more) + body


def statuses(data):
    """Of all responses in the bytes, whose bodies hold no status line."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d\d\d) ", data)]


def talk(service, data):
    """Sends it, and reads until the service closes; the client does not close first."""
    with RawConnection(service) as connection:
        connection.send(data)
        return connection.receive_all()


def first_status(service, data):
    """Of the answer to what is sent."""
    with RawConnection(service) as connection:
        connection.send(data)
        return statuses(connection.receive_until(b"\r\n\r\n"))[-1]


class Asker:
    """Requests over one kept connection, opened again whenever the service closes it."""

    def __init__(self, service):
        self.service, self.connection = service, None

    def ask(self, method, path, body=None, headers=None):
        """(status, body)"""
        if self.connection is None:
            self.connection = self.service.connect()
        self.connection.request(method, path, body=body, headers=headers or {})
        response = self.connection.getresponse()
        answer = response.status, response.read()
        if response.will_close:
            self.close()
        return answer

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Bystander:
    """A client that does nothing wrong, all the time, and wants to be served."""

    PAUSE_S = 0.02

    def __init__(self, service):
        self.service, self.errors = service, []
        self.n_answers, self.longest_s = 0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _once(self):
        chat = {"model": BYSTANDER_MODEL, "messages": [{"role": "user", "content": "hello"}]}
        answer = self.service.post("/v1/chat/completions", chat)
        assert answer.json["choices"][0]["message"]["content"] == "a quiet answer"
        with self.service.stream("/v1/chat/completions", chat) as stream:
            deltas = [chunk["choices"][0]["delta"] for chunk in stream.chunks()]
        assert "".join(delta.get("content") or "" for delta in deltas) == "a quiet answer"
        assert self.service.get("/health").json["status"] == "ok"

    def _run(self):
        while not self._stop.wait(self.PAUSE_S):
            begin = time.monotonic()
            try:
                self._once()
            except (AssertionError, OSError, ValueError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                return
            self.longest_s = max(self.longest_s, time.monotonic() - begin)
            self.n_answers += 1

    def rounds(self, n):
        """Waits until it was served n times more."""
        wanted = self.n_answers + n
        wait_for(lambda: self.n_answers >= wanted or self.errors, f"{n} answers to a bystander")
        assert not self.errors, self.errors

    def __enter__(self):
        self._thread.start()
        self.rounds(1)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.rounds(1)
        self._stop.set()
        self._thread.join(DEADLINE_S)
        if kind is None:
            assert not self.errors, self.errors
            assert self.longest_s < STALL_S, f"an answer took {self.longest_s:.1f} s"


def n_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def has_sanitizer(binary):
    """Freed memory stays in the sanitizer's quarantine, so that its size says nothing."""
    return b"__asan_init" in pathlib.Path(binary).read_bytes()


class Health:
    """What must be the same after an abuse as before it."""

    def __init__(self, service, watch_memory):
        self.service, self.watch_memory = service, watch_memory
        self.n_descriptors = n_descriptors(service.process.pid)
        self.rss_bytes = service.rss_bytes()
        self.workers = set(service.worker_pids())
        self.crashes = service.metric("starlane_worker_crashes_total")

    def _is_quiet(self):
        metrics = self.service.metrics()
        queued = [value for name, value in metrics.items() if
                  name.startswith(("starlane_queue_waiting", "starlane_model_requests_",
                                   "vllm:num_requests_"))]
        return (metrics["starlane_requests_running"] == 0 and not any(queued) and
                metrics["starlane_http_requests_active"] == 1 and
                metrics["starlane_http_connections"] <= 1 + DESCRIPTORS_SLACK)

    def check(self):
        pid = self.service.process.pid
        assert self.service.process.poll() is None, "".join(self.service.log[-20:])
        wait_for(self._is_quiet, "requests and connections to end")
        new_workers = len(set(self.service.worker_pids()) - self.workers)
        most = self.n_descriptors + new_workers + DESCRIPTORS_SLACK
        wait_for(lambda: n_descriptors(pid) <= most, "descriptors to be closed")
        assert self.service.metric("starlane_worker_crashes_total") == self.crashes
        if self.watch_memory:
            assert self.service.rss_bytes() < self.rss_bytes + RSS_GROWTH_MAX


def poll_all(connections, seconds):
    """Throws away what they are sent, until each is closed by the service or time is up. Returns
    those that are still open."""
    deadline = time.monotonic() + seconds
    left = {connection.socket.fileno(): connection for connection in connections}
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while left and time.monotonic() < deadline:
        for descriptor, _ in poll.poll(100):
            if left[descriptor].has_ended():
                poll.unregister(descriptor)
                del left[descriptor]
    return list(left.values())
