"""A small client of NATS over TLS, for tests that look at a server from outside. Protocol:
https://docs.nats.io/reference/reference-protocols/nats-protocol"""
import contextlib
import json
import socket
import ssl


class NatsError(Exception):
    """The server's -ERR."""


class NatsClient:
    """One connection, made from inside a node of the laboratory."""

    def __init__(self, lab, node, host, ca, user="member", password="", port=4222, timeout_s=10):
        context = ssl.create_default_context(cafile=ca)
        with lab.inside(node):
            raw = socket.create_connection((lab.resolve(host), port), timeout=timeout_s)
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(raw)
            self.info = json.loads(self._plain_line(raw).removeprefix(b"INFO "))
            self.socket = on_failure.enter_context(
                context.wrap_socket(raw, server_hostname=host))
            self.file = self.socket.makefile("rb")
            self._send("CONNECT", json.dumps({
                "user": user, "pass": password, "verbose": False, "pedantic": False,
                "tls_required": True, "echo": False, "lang": "python", "version": "0"}))
            self.flush()
            on_failure.pop_all()

    @staticmethod
    def _plain_line(raw):
        """Byte by byte: what comes after it is TLS's."""
        line = b""
        while not line.endswith(b"\n"):
            byte = raw.recv(1)
            if not byte:
                raise NatsError("closed before INFO")
            line += byte
        return line

    def _send(self, *words, payload=None):
        data = " ".join(words).encode() + b"\r\n"
        self.socket.sendall(data if payload is None else data + payload + b"\r\n")

    def subscribe(self, subject):
        self._send("SUB", subject, "1")
        self.flush()

    def publish(self, subject, payload):
        self._send("PUB", subject, str(len(payload)), payload=payload)

    def flush(self):
        """Returns when the server has taken everything sent before."""
        self._send("PING")
        while self._next() != "PONG":
            pass

    def _next(self):
        """(subject, payload) of a message, or "PONG"; a refusal raises."""
        while True:
            line = self.file.readline().decode().rstrip()
            word, _, rest = line.partition(" ")
            if not line:
                raise NatsError("closed")
            if word == "-ERR":
                raise NatsError(rest)
            if word == "PONG":
                return word
            if word == "PING":
                self._send("PONG")
            if word == "MSG":
                subject, *_, n = rest.split()
                return subject, self.file.read(int(n) + 2)[:-2]

    def receive(self, timeout_s):
        """The next message, None when none comes in time."""
        self.socket.settimeout(timeout_s)
        try:
            message = self._next()
        except TimeoutError:
            # A file that has timed out refuses to read on.
            self.file = self.socket.makefile("rb")
            return None
        return message if message != "PONG" else None

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
