"""A running `starlane serve` for tests: started on a free port, spoken to over plain sockets."""
import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse

DEADLINE_S = 120
"""For all that is waited for: generous, because machines under load and sanitizers are slow."""


def wait_for(condition, what, seconds=DEADLINE_S):
    """Until condition() is true; returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Answer:
    """Status, headers (names in lower case) and body of one response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error object of an OpenAI answer, with exactly the fields that it has to have."""
        document = self.json
        assert set(document) == {"error"}, document
        assert set(document["error"]) == {"message", "type", "param", "code"}, document
        assert self.headers["content-type"] == "application/json"
        return document["error"]


class Stream:
    """A response that is read event by event."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def lines(self):
        while True:
            line = self.response.readline()
            if not line:
                return
            yield line.decode().rstrip("\n")

    def events(self):
        """The text of each `data:` line; every event must end with an empty line."""
        lines = self.lines()
        for line in lines:
            if line.startswith(":") or not line:
                continue
            assert line.startswith("data: "), line
            assert next(lines) == "", "an event of one line"
            yield line[len("data: "):]

    def chunks(self):
        """JSON of all events; the last one must be [DONE], and nothing may follow."""
        events = list(self.events())
        assert events[-1] == "[DONE]", events[-1:]
        return [json.loads(event) for event in events[:-1]]

    def close(self):
        self.response.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Service:
    """`starlane serve` with a home of its own."""

    def __init__(self, starlane, *arguments, key=None, cafile=None):
        self.starlane, self.key = starlane, key
        if "--grpc-port" not in arguments:
            arguments = ("--grpc-port", 0, *arguments)
        self.process = starlane.start("serve", "--port", 0, *arguments, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE, text=True)
        self.log, self.address, self.grpc_address = [], None, None
        self.tls = ssl.create_default_context(cafile=cafile) if cafile else None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: self.address or self.process.poll() is not None, "the service to listen")
        assert self.address, "".join(self.log)

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listens on https?://([^ ]+):(\d+)", line)
            if found:
                self.address = ("127.0.0.1", int(found[2]))
            found = re.search(r"gRPC on [^ ]+:(\d+)", line)
            if found:
                self.grpc_address = f"127.0.0.1:{found[1]}"

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://{self.address[0]}:{self.address[1]}"

    def connect(self, timeout=DEADLINE_S):
        if self.tls:
            return http.client.HTTPSConnection(*self.address, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    def send(self, method, path, body=None, headers=None):
        """(connection, response). A body that is neither bytes nor text goes as JSON."""
        connection = self.connect()
        headers = dict(headers or {})
        if self.key and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.key}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=headers)
        return connection, connection.getresponse()

    def request(self, method, path, body=None, headers=None, expect=200):
        connection, response = self.send(method, path, body, headers)
        with contextlib.closing(connection):
            answer = Answer(response)
        assert expect is None or answer.status == expect, (answer.status, answer.body)
        return answer

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def stream(self, path, body, headers=None):
        stream = Stream(*self.send("POST", path, {**body, "stream": True}, headers))
        assert stream.status == 200, stream.response.read()
        return stream

    def chat(self, model, content, **fields):
        """The answer of one chat, checked for its status alone."""
        messages = [{"role": "user", "content": content}]
        return self.post("/v1/chat/completions",
                         {"model": model, "messages": messages, **fields}).json

    def complete(self, model, prompt, **fields):
        return self.post("/v1/completions", {"model": model, "prompt": prompt, **fields}).json

    def metrics(self):
        """{'name{labels}': value} of everything."""
        samples = {}
        for line in self.get("/metrics").text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                assert name not in samples, line
                samples[name] = float(value)
        return samples

    def metric(self, name, model=None):
        label = f'{{model_name="{model}"}}' if model else ""
        return self.metrics().get(name + label, 0)

    def worker_pids(self):
        """Of the processes that the service has started."""
        pid = self.process.pid
        children = f"/proc/{pid}/task/{pid}/children"
        with open(children, encoding="ascii") as file:
            return [int(text) for text in file.read().split()]

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
        return int(found[1]) * 1024

    def signal(self, signo):
        self.process.send_signal(signo)

    def stop(self):
        """Ends it; fails when it is dead, unless the test has seen that, or does not end well."""
        if self.process.returncode is not None:
            return
        assert self.process.poll() is None, "".join(self.log[-20:])
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        self.process.stderr.close()
        assert code == 0, (code, "".join(self.log[-20:]))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def echo(chat_template=None, **script):
    """The name of a model that the scripted engine runs: echo(text="hello", pace_us=1000)."""
    if chat_template:
        script["chat_template"] = chat_template
    # What need not be encoded is not: names have a limit, and templates are long.
    safe = " !\"#$'()*,/:;<=>?@[]^`{|}"
    return "echo:?" + "&".join(f"{name}={urllib.parse.quote(str(value), safe)}"
                               for name, value in script.items())


def model_path(name):
    """The name as it stands in a URL's path."""
    return urllib.parse.quote(name, safe="")


CONVERSATION = """{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}
{%- for m in messages %}<{{ m.role }}>{{ m.content or '' }}
{%- for c in m.tool_calls or [] %}({{ c.function.name }} {{ c.function.arguments | tojson }})
{%- endfor %}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"""
"""A chat template that shows everything it was given."""

HERMES = """{% for t in tools or [] %}{{ t | tojson }}
{%- endfor %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content or '' }}<|im_end|>{% endfor %}<|im_start|>assistant
{# <think> <tool_call> {"name": ..., "arguments": ...} </tool_call> #}"""
"""Enough of a Qwen3 template that a model with it is known to think and to call tools."""

LAST_MESSAGE = "{{ messages[-1].content }}{# <tool_call> {\"name\": ..., \"arguments\": ...} #}"


def open_files_limit(wanted):
    """Raises this process's own limit; False where the system does not let it."""
    import resource  # pylint: disable=import-outside-toplevel
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return True


def kill(pid):
    """kill -9; a process that has just ended by itself is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
