"""A web server on this machine that serves models and misbehaves on request, and GGUF files made
for it."""
import http.server
import random
import re
import socket
import struct
import threading
import time

ALIGNMENT = 32
PIECE = 4096
"""Bytes of one send: a body is cut, paced and counted in such pieces."""


def _text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name, value):
    if isinstance(value, str):
        return _text(name) + struct.pack("<I", 8) + _text(value)
    kind = {2: (2, "<H"), 4: (4, "<I")}[value[1]]
    return _text(name) + struct.pack("<I", kind[0]) + struct.pack(kind[1], value[0])


def make_gguf(n_bytes, seed=0, **keys):
    """A sound GGUF file with one tensor of about n_bytes random bytes; keys as text or (number,
    bytes of its type), a dot in their names written as two underscores."""
    keys = {"general.architecture": "llama",
            **{name.replace("__", "."): value for name, value in keys.items()}}
    count = max(1, n_bytes // 4)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys))
    head += b"".join(_key(name, value) for name, value in keys.items())
    head += _text(f"t{seed}") + struct.pack("<IQIQ", 1, count, 0, 0)
    head += bytes(-len(head) % ALIGNMENT)
    return head + random.Random(seed).randbytes(4 * count)


def make_shards(n_shards, n_bytes):
    """The files of a split model, as bytes."""
    return [make_gguf(n_bytes, seed=number, split__no=(number, 2), split__count=(n_shards, 2),
                      split__tensors__count=(n_shards, 4)) for number in range(n_shards)]


class Served:
    """One path and how it behaves. Lists are used up, an item a request."""

    def __init__(self, data=b"", **options):
        self.data = data
        self.etag = '"one"'
        self.ranges = True        # understands Range
        self.statuses = []        # (status, {header: value}) answered first
        self.cuts = []            # bytes of the body after which the connection breaks; None: never
        self.shift = 0            # added to the offsets in Content-Range
        self.announce = None      # Content-Length (and total size) instead of the true one
        self.endless = False      # the body never ends
        self.pace_s = 0           # pause after each piece
        self.redirect = None      # answered with 302 to this URL
        self.type = "application/octet-stream"
        self.on_request = None    # called with (served, number of the request)
        self.requests = 0
        for name, value in options.items():
            assert hasattr(self, name), name
            setattr(self, name, value)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server.owner
        path = self.path.split("?")[0]
        with server.lock:
            served = server.served.get(path)
            server.log.append((path, dict(self.headers)))
            if served:
                served.requests += 1
                if served.on_request:
                    served.on_request(served, served.requests)
                status = served.statuses.pop(0) if served.statuses else None
                cut = served.cuts.pop(0) if served.cuts else None
        if not served:
            self.answer(404, {}, b"no such thing")
        elif status:
            self.answer(*status, b"not now")
        elif served.redirect:
            self.answer(302, {"Location": served.redirect}, b"elsewhere")
        else:
            self.serve(served, cut)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def wanted(self, served):
        """The part asked for, as (status, begin, end)."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        other = self.headers.get("If-Range", served.etag) != served.etag
        if not served.ranges or not match or other:
            return 200, 0, len(served.data)
        begin, end = int(match[1]), min(int(match[2]) + 1, len(served.data))
        return (206, begin, end) if begin < end else (416, 0, 0)

    def serve(self, served, cut):
        status, begin, end = self.wanted(served)
        length = end - begin if served.announce is None or status == 206 else served.announce
        total = len(served.data) if served.announce is None else served.announce
        self.send_response(status)
        self.send_header("Content-Type", served.type)
        if served.etag:
            self.send_header("ETag", served.etag)
        if status == 206:
            at = begin + served.shift
            self.send_header("Content-Range", f"bytes {at}-{at + end - begin - 1}/{total}")
        if served.endless:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", length)
        self.end_headers()
        try:
            self.send_body(served, begin, end, cut)
        except OSError:
            self.close_connection = True

    def send_body(self, served, begin, end, cut):
        sent = 0
        data = memoryview(served.data)
        while begin < end or served.endless:
            piece = data[begin:min(begin + PIECE, end)] if begin < end else b"x" * PIECE
            if cut is not None and sent + len(piece) >= cut:
                self.wfile.write(piece[:cut - sent])
                self.cut()
                return
            self.wfile.write(piece)
            sent += len(piece)
            begin += len(piece)
            if served.pace_s:
                time.sleep(served.pace_s)
        if served.announce is not None and sent < served.announce:
            self.cut()

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class PullServer:
    """Serves on an own port of an address of this machine, until close()."""

    def __init__(self, address="127.0.0.1"):
        self.served, self.log, self.lock = {}, [], threading.Lock()
        self.http = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.http.daemon_threads = True
        self.http.owner = self
        self.url = f"http://{address}:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever,
                                       kwargs={"poll_interval": 0.05})
        self.thread.start()

    def add(self, path, data=b"", **options):
        """Serve data at the path; returns what can be misbehaved with."""
        self.served[path] = Served(data, **options)
        return self.served[path]

    def requests(self, path):
        """The headers of each request for the path so far."""
        with self.lock:
            return [headers for other, headers in self.log if other == path]

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
