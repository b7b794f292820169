"""The laboratory does what it is asked to: delays, losses, rates, cuts, limits, clocks, disks; and
leaves nothing behind. Bounds are wide where a busy machine may be slow, and statistical where
chance is asked for."""
import contextlib
import http.client
import json
import math
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import pytest

from conftest import BINARY
from netlabs import FIVE, NETLAB, laboratory, netlab, netlab_spec
from service import echo, wait_for

PORT = 5000
PAYLOAD = 1000
SO_RCVBUFFORCE = 33
HEADERS = 14 + 20 + 8
"""Ethernet, IPv4 and UDP around a payload."""


@contextlib.contextmanager
def going_first():
    """Who measures must not wait for a processor that other programs keep busy. No process of a
    node may be started meanwhile: it would inherit this, which its group forbids."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def udp_pair(lab, a, b):
    """(socket in a that is connected to b, socket in b)."""
    with lab.inside(b):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.inside(a):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.bind(("", PORT))
        sender.connect((lab.address(b), PORT))
        for end in (sender, receiver):
            end.settimeout(20)
            end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        yield sender, receiver


def round_trips_ms(lab, a, b, count=15):
    """By a UDP echo; the first ones, which ask for the address, left out."""
    times = []
    with udp_pair(lab, a, b) as (sender, receiver), going_first():
        for i in range(count + 3):
            begin = time.monotonic()
            sender.send(b"%d" % i)
            data, peer = receiver.recvfrom(100)
            receiver.sendto(data, peer)
            assert sender.recv(100) == data
            times.append((time.monotonic() - begin) * 1e3)
    return times[3:]


def reaches(lab, a, b, timeout_s=0.3):
    """Whether one of several datagrams from a comes to b; no route is a way of not coming."""
    with contextlib.suppress(OSError), udp_pair(lab, a, b) as (sender, receiver):
        receiver.settimeout(timeout_s)
        for _ in range(3):
            with contextlib.suppress(TimeoutError):
                sender.send(b"there?")
                receiver.recv(100)
                return True
    return False


@pytest.fixture(scope="module")
def five():
    with laboratory(netlab_spec.load(FIVE)) as lab:
        yield lab


@pytest.fixture
def pair():
    with laboratory({"nodes": {"a": {}, "b": {}}}) as lab:
        yield lab


@pytest.mark.parametrize("node, rtt_ms", [("client", 0), ("n3", 10), ("n5", 40)])
def test_round_trips_take_what_was_asked(five, node, rtt_ms):
    median = statistics.median(round_trips_ms(five, "n1", node))
    assert rtt_ms * 0.999 <= median <= rtt_ms * 1.1 + 1


def test_delays_between_sites_add_up(five):
    assert five.links()["n3", "n5"]["delay_ms"] == pytest.approx(25)
    assert five.links()["n1", "client"]["delay_ms"] == 0


def test_loss_is_as_asked(pair):
    count, loss = 5000, 0.05
    pair.link("a", "b", loss=str(loss), oneway=True)
    received = 0
    with udp_pair(pair, "a", "b") as (sender, receiver):
        receiver.setblocking(False)
        for i in range(count):
            sender.send(b"%d" % i)
            if i % 50 == 0:
                time.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                while receiver.recv(100):
                    received += 1
        receiver.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while receiver.recv(100):
                received += 1
    link = pair.links()["a", "b"]
    sigma = math.sqrt(count * loss * (1 - loss))
    assert abs(link["dropped_lost"] - count * loss) < 5 * sigma
    assert abs(count - received - link["dropped_lost"]) <= 5, "nothing else loses frames"


def test_rate_is_as_asked(pair):
    """What arrives in two seconds when more than the rate is offered."""
    rate_bps, seconds = 20e6, 2
    pair.link("a", "b", rate="20mbit", oneway=True)
    received = []
    with udp_pair(pair, "a", "b") as (sender, receiver), going_first():
        def receive():
            with contextlib.suppress(TimeoutError, OSError):
                while True:
                    received.append((time.monotonic(), len(receiver.recv(2000))))

        receiver.settimeout(1)
        thread = threading.Thread(target=receive)
        thread.start()
        end = time.monotonic() + seconds + 1
        while time.monotonic() < end:
            for _ in range(40):
                sender.send(bytes(PAYLOAD))
            time.sleep(0.002)
        thread.join()
    begin = received[0][0] + 0.5
    n_bytes = sum(n + HEADERS for at, n in received if begin <= at < begin + seconds)
    assert n_bytes * 8 / seconds == pytest.approx(rate_bps, rel=0.1)
    assert pair.links()["a", "b"]["dropped_queue"] > 0


def test_tcp_gets_through(pair):
    """16 MB over a link with a little of everything."""
    pair.link("a", "b", delay="1ms", jitter="200us", loss="0.1%", rate="400mbit")
    total = 16_000_000
    with pair.inside("b"):
        server = socket.create_server(("", PORT))
    with pair.inside("a"):
        client = socket.create_connection((pair.address("b"), PORT), timeout=60)
    with server, client:
        peer, _ = server.accept()
        thread = threading.Thread(target=lambda: (client.sendall(bytes(total)),
                                                  client.shutdown(socket.SHUT_WR)))
        thread.start()
        with peer:
            received = 0
            while data := peer.recv(1 << 18):
                received += len(data)
        thread.join()
    assert received == total


def test_cut_and_heal(five):
    assert reaches(five, "n1", "n2")
    five.cut("n1", "n2")
    assert not reaches(five, "n1", "n2") and not reaches(five, "n2", "n1")
    assert reaches(five, "n1", "n3")
    five.heal()
    assert reaches(five, "n1", "n2") and reaches(five, "n2", "n1")


def test_one_way_cut(five):
    assert reaches(five, "n1", "n2"), "both know each other's address now"
    five.cut("n1", "n2", oneway=True)
    assert not reaches(five, "n1", "n2") and reaches(five, "n2", "n1")
    five.heal()


def test_partition(five):
    five.partition(["n1", "abroad"])
    assert reaches(five, "n1", "n5") and reaches(five, "n2", "n4")
    assert not reaches(five, "n1", "n2") and not reaches(five, "n4", "n5")
    five.reset_links()
    assert reaches(five, "n4", "n5")


def test_frames_under_way_do_not_outlive_a_cut(pair):
    assert reaches(pair, "a", "b")
    pair.link("a", "b", delay="1s")
    with udp_pair(pair, "a", "b") as (sender, receiver):
        receiver.settimeout(1.5)
        sender.send(b"too late")
        pair.cut("a", "b")
        with pytest.raises(TimeoutError):
            receiver.recv(100)
    assert pair.links()["a", "b"]["dropped_cut"] > 0


def test_bad_commands_are_refused(pair):
    for line in ("link a x delay 1ms", "link a b loss 2", "\x01", "x" * 5000):
        with pytest.raises((ValueError, OSError)):
            pair.command(line)
    assert len(pair.command("stats")["links"]) == 2


SPIN = """
import time
begin, used = time.monotonic(), time.process_time()
while time.monotonic() < begin + 2:
    pass
print((time.process_time() - used) / (time.monotonic() - begin))
"""


def test_cpu_quota_limits():
    with laboratory({"nodes": {"slow": {"cpu": "15%"}}}) as lab:
        share = float(lab.run("slow", [sys.executable, "-c", SPIN]).stdout)
    assert share == pytest.approx(0.15, abs=0.04)


def test_memory_limits():
    with laboratory({"nodes": {"small": {"memory": "64m"}}}) as lab:
        done = lab.run("small", [sys.executable, "-c", "b'x' * (200 << 20)"])
        assert done.returncode == -signal.SIGKILL, done
        assert lab.run("small", ["true"]).returncode == 0


def process_state(pid):
    """R, S, T and so on, of proc(5)."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text("ascii")
    return text.rsplit(")", 1)[1].split()[0]


def test_pause_resume_kill(pair):
    count = "import itertools, time\nfor i in itertools.count(): print(i); time.sleep(0.01)"
    process = pair.start("a", [sys.executable, "-u", "-c", count])
    log = pair.log("a")
    wait_for(lambda: log.read_bytes(), "the first number")
    pair.pause("a")
    wait_for(lambda: process_state(process.pid) == "T", "the process to stand")
    pair.resume("a")
    size = log.stat().st_size
    wait_for(lambda: log.stat().st_size > size, "it to go on")
    pair.kill("a")
    assert process.wait(10) == -signal.SIGKILL and not pair.pids("a")


def test_disk_fills_and_is_freed():
    with laboratory({"nodes": {"full": {"disk": "8m"}}}) as lab:
        file = lab.home("full") / "file"
        lab.fill_disk("full")
        assert lab.run("full", ["cp", "/bin/true", file]).returncode != 0
        lab.free_disk("full")
        assert lab.run("full", ["cp", "/bin/true", file]).returncode == 0
    with laboratory({"nodes": {"free": {}}}) as lab, pytest.raises(ValueError):
        lab.fill_disk("free")


def answer_time(lab, name, port):
    """The `created` of an answer, which is the service's wall clock."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection), lab.inside(name):
        connection.request("POST", "/v1/completions", headers={"Content-Type": "application/json"},
                           body=json.dumps({"model": echo(text="hello"), "prompt": "?"}))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return json.loads(response.read())["created"]


def test_clock_jumps_under_a_service():
    """Our program's wall clock jumps both ways; what it serves and waits for does not."""
    with laboratory({"nodes": {"a": {"clock": "fake"}}}) as lab:
        done = lab.run("a", [BINARY, "version"])
        if done.returncode:
            pytest.skip("libfaketime and sanitizers do not go together")
        lab.start("a", [BINARY, "serve", "--host", "127.0.0.1", "--port", "8080", "--echo",
                        "--grpc-port", "0"])
        wait_for(lambda: b"listens on" in lab.log("a").read_bytes(), "the service to listen")
        for offset_s in (0, 86400, -86400, 0):
            lab.set_clock("a", offset_s)
            wait_for(lambda: abs(answer_time(lab, "a", 8080) - time.time() - offset_s) < 60,
                     f"the clock to be {offset_s} s off", 20)


NAT_LAB = {
    "sites": {"hub": {}, "home": {"rtt": "10ms", "nat": True}, "other": {"nat": True}},
    "nodes": {"gate": {"site": "hub"}, "box": {"site": "home"}, "box2": {"site": "home"},
              "far": {"site": "other"}}}


def test_nat_lets_out_and_not_in():
    with laboratory(NAT_LAB) as lab:
        assert reaches(lab, "box", "gate") and reaches(lab, "box", "box2")
        assert not reaches(lab, "gate", "box") and not reaches(lab, "far", "box")
        router = "10.10.2.254"
        with udp_pair(lab, "box", "gate") as (inside, outside):
            begin = time.monotonic()
            inside.send(b"hello")
            data, peer = outside.recvfrom(100)
            outside.sendto(data, peer)
            assert inside.recv(100) == b"hello"
            assert peer[0] == router and time.monotonic() - begin >= 0.0099
        # Even who knows the way in is turned away by the router.
        lab.run("gate", ["ip", "route", "add", "10.20.2.0/24", "via", router], check=True)
        assert not reaches(lab, "gate", "box")
        lab.cut("box", "gate")
        assert not reaches(lab, "box", "gate") and reaches(lab, "far", "gate")


def netlab_command(*arguments, **options):
    return [sys.executable, str(NETLAB / "netlab.py"), *arguments]


def test_command_line(tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text("nodes: {a: {alias: a.example.com}, b: {}}\n", encoding="utf-8")
    if netlab.missing():
        pytest.skip(netlab.missing())
    up = subprocess.Popen(netlab_command("up", str(file)), stdout=subprocess.PIPE, text=True)
    lab_id = up.stdout.readline().strip()
    try:
        def call(*arguments):
            done = subprocess.run(netlab_command("--lab", lab_id, *arguments), capture_output=True,
                                  text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "10.10.1.2" in call("exec", "b", "ip", "-brief", "address")
        assert call("exec", "b", "getent", "hosts", "a.example.com").split()[0] == "10.10.1.1"
        assert json.loads(call("link", "a", "b", "delay", "3ms"))["links"] == 2
        call("cut", "a", "*")
        assert json.loads(call("stats"))["links"][0]["cut"]
        assert f"{lab_id}  in use" in call("ls")
        assert lab_id not in call("clean"), "its owner lives"
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0
        up.stdout.close()
    assert_nothing_left(lab_id)


def assert_nothing_left(lab_id):
    for place in ("/run/netns", "/sys/fs/cgroup", "/var/tmp/netlab"):
        found = [path for path in pathlib.Path(place).glob(f"**/{lab_id}*")]
        assert not found
    assert lab_id not in pathlib.Path("/proc/self/mounts").read_text("utf-8")


def test_a_killed_driver_is_cleaned_up_after(tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text("nodes: {a: {disk: 1m}, b: {}}\n", encoding="utf-8")
    if netlab.missing():
        pytest.skip(netlab.missing())
    up = subprocess.Popen(netlab_command("up", str(file)), stdout=subprocess.PIPE, text=True)
    lab_id = up.stdout.readline().strip()
    lab = netlab.Lab.attach(lab_id)
    sleeper = lab.start("a", ["sleep", "1000"])
    assert lab_id in pathlib.Path("/proc/self/mounts").read_text("utf-8")
    os.kill(up.pid, signal.SIGKILL)
    up.wait(30)
    up.stdout.close()
    done = subprocess.run(netlab_command("clean"), capture_output=True, text=True, check=True)
    assert f"{lab_id} removed" in done.stdout
    assert sleeper.wait(30) == -signal.SIGKILL
    assert_nothing_left(lab_id)


@pytest.mark.parametrize("declaration, said", [
    ({}, "nodes"),
    ({"nodes": {"A": {}}}, "node 'A'"),
    ({"nodes": {"a": {"site": "x"}}}, "no site 'x'"),
    ({"nodes": {"a": {"cpu": "fast"}}}, "cpu"),
    ({"nodes": {"a": {"colour": 1}}}, "colour"),
    ({"nodes": {"nat-x": {}}}, "routers"),
    ({"nodes": {"a": {"alias": "two names"}}}, "alias"),
    ({"sites": {"s": {"rtt": "5 parsecs"}}, "nodes": {"a": {}}}, "rtt"),
    ({"sites": {"s": {}}, "links": [{"between": ["s", "t"]}], "nodes": {"a": {}}}, "between"),
])
def test_bad_declarations_are_told(declaration, said):
    with pytest.raises(netlab_spec.SpecError, match=said):
        netlab_spec.Spec(declaration)


def test_without_root_the_reason_is_clear():
    script = f"import sys; sys.path.insert(0, {str(NETLAB)!r}); import os; os.setuid(65534); " \
             "import netlab; print(netlab.missing())"
    if os.geteuid() != 0:
        pytest.skip("not root anyway")
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True,
                          check=True)
    assert "root" in done.stdout
