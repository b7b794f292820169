"""The NATS configurations of examples/nats, run as they are: real servers in namespaces, edge
sites behind NAT, links that are slow and get cut."""
import contextlib
import shutil
import subprocess

import pytest

from conftest import ROOT
from nats_client import NatsClient, NatsError
from netlabs import laboratory
from service import wait_for

EXAMPLES = ROOT / "examples/nats"
SERVER = shutil.which("nats-server", path="/usr/sbin:/usr/local/bin:/usr/bin")
GRID_PASSWORD = "grid-secret"
ENVIRONMENT = {"GRID_PASSWORD": GRID_PASSWORD, "BERLIN_PASSWORD": "berlin-secret",
               "LYON_PASSWORD": "lyon-secret", "ADMIN_PASSWORD": "admin-secret"}

HUB_LAB = {
    "sites": {"hub": {}, "berlin": {"rtt": "20ms", "nat": True},
              "lyon": {"rtt": "30ms", "nat": True}},
    "nodes": {"hub": {"site": "hub", "alias": "hub.example.com"}, "gate": {"site": "hub"},
              "berlin": {"site": "berlin", "alias": "berlin.example.com"},
              "box1": {"site": "berlin"}, "box2": {"site": "berlin"},
              "lyon": {"site": "lyon", "alias": "lyon.example.com"}, "box3": {"site": "lyon"}}}

REGIONS_LAB = {
    "sites": {"east": {"rtt": "1ms"}, "west": {"rtt": "60ms"}},
    "nodes": {**{f"{region}-{i}": {"site": region, "alias": f"{region}-{i}.example.com"}
                 for region in ("east", "west") for i in (1, 2)},
              "a": {"site": "east"}, "b": {"site": "west"}}}


@pytest.fixture(autouse=True, scope="module")
def tools():
    if not SERVER:
        pytest.skip("no nats-server: scripts/deps.sh test")
    if not shutil.which("openssl"):
        pytest.skip("no openssl")


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A folder with ca.pem and ca-key.pem."""
    folder = tmp_path_factory.mktemp("ca")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", 2, "-subj", "/CN=test", "-keyout", folder / "ca-key.pem",
            "-out", folder / "ca.pem")
    return folder


def make_certificates(authority, folder, host):
    """certs/ as the configurations expect it."""
    folder.mkdir()
    request, extensions = folder / "request.pem", folder / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth,clientAuth\n",
                          encoding="ascii")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={host}", "-keyout", folder / "server-key.pem", "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", authority / "ca.pem",
            "-CAkey", authority / "ca-key.pem", "-CAcreateserial", "-days", 2,
            "-extfile", extensions, "-out", folder / "server.pem")
    shutil.copy(authority / "ca.pem", folder / "ca.pem")


def start_server(lab, authority, node, config, **environment):
    host = lab.spec.nodes[node].alias
    if not (lab.home(node) / "certs").exists():
        make_certificates(authority, lab.home(node) / "certs", host)
    return lab.start(node, [SERVER, "-c", EXAMPLES / config], {**ENVIRONMENT, **environment})


def wait_ready(lab, node, text="Server is ready", count=1):
    wait_for(lambda: lab.log(node).read_text("utf-8").count(text) >= count,
             f"{node} to say {text!r}", 30)


class Talk:
    """Clients of one laboratory, and whether a message gets from one to another."""

    def __init__(self, lab, authority, stack):
        self.lab, self.ca, self.stack, self.n = lab, authority / "ca.pem", stack, 0

    def client(self, node, host, password=GRID_PASSWORD, **options):
        return self.stack.enter_context(
            NatsClient(self.lab, node, host, self.ca, password=password, **options))

    def passes(self, sender, receiver, subject):
        """Interest spreads between servers a little later than a subscription is taken, so what is
        lost is sent again; what does arrive must be what was sent."""
        self.n += 1
        mark = f"message {self.n}".encode()

        def once():
            sender.publish(subject, mark)
            sender.flush()
            message = receiver.receive(0.5)
            return message == (subject, mark)

        wait_for(once, f"{subject} to pass", 30)
        while receiver.receive(0.2):
            pass


@pytest.fixture(scope="module")
def hub(authority):
    with laboratory(HUB_LAB) as lab, contextlib.ExitStack() as stack:
        start_server(lab, authority, "hub", "hub-and-edges/hub.conf")
        wait_ready(lab, "hub")
        for site in ("berlin", "lyon"):
            url = f"tls://{site}:{site}-secret@hub.example.com:7422"
            start_server(lab, authority, site, "hub-and-edges/edge.conf", SITE=site, HUB_URL=url)
            wait_ready(lab, site)
        yield Talk(lab, authority, stack)


def test_edges_behind_nat_talk_with_the_hub_and_one_another(hub):
    gate = hub.client("gate", "hub.example.com")
    box1 = hub.client("box1", "berlin.example.com")
    box3 = hub.client("box3", "lyon.example.com")
    for name, client in (("gate", gate), ("box1", box1), ("box3", box3)):
        client.subscribe(f"sl.run.{name}.*")
    hub.passes(gate, box1, "sl.run.box1.gate")
    hub.passes(box1, gate, "sl.run.gate.box1")
    hub.passes(gate, box3, "sl.run.box3.gate")
    hub.passes(box1, box3, "sl.run.box3.box1")


def test_a_site_goes_on_without_the_hub_and_finds_it_again(hub):
    gate = hub.client("gate", "hub.example.com")
    box1 = hub.client("box1", "berlin.example.com")
    box2 = hub.client("box2", "berlin.example.com")
    gate.subscribe("sl.report.*")
    box2.subscribe("sl.report.*")
    hub.passes(box1, gate, "sl.report.box1")
    assert box2.receive(5)
    while box2.receive(0.2):
        pass
    hub.lab.cut("berlin", "hub")
    hub.passes(box1, box2, "sl.report.box1")
    assert gate.receive(0.5) is None
    hub.lab.heal()
    hub.passes(box1, gate, "sl.report.box1")


def test_nobody_gets_in_without_credentials(hub):
    for options in ({"password": "wrong"}, {"user": "berlin", "password": "berlin-secret"},
                    {"user": "", "password": ""}):
        with pytest.raises((NatsError, OSError)):
            hub.client("gate", "hub.example.com", **options)
    with pytest.raises(OSError):
        hub.client("gate", "berlin.example.com", timeout_s=1)


def test_members_have_the_grids_subjects_only(hub):
    for verb, subject in (("subscribe", ">"), ("subscribe", "$SYS.>"), ("publish", "$JS.API.INFO"),
                          ("publish", "elsewhere")):
        with pytest.raises(NatsError, match="Permissions Violation"):
            client = hub.client("gate", "hub.example.com")
            if verb == "subscribe":
                client.subscribe(subject)
            else:
                client.publish(subject, b"")
            client.flush()


def test_a_leaf_needs_its_password(hub, authority):
    """A site with the hub's certificate authority, but not its secret."""
    lab = hub.lab
    make_certificates(authority, lab.home("box3") / "certs", "intruder.example.com")
    lab.start("box3", [SERVER, "-c", EXAMPLES / "hub-and-edges/edge.conf"],
              {**ENVIRONMENT, "SITE": "intruder",
               "HUB_URL": "tls://lyon:guessed@hub.example.com:7422"})
    wait_ready(lab, "box3")
    wait_ready(lab, "box3", "Authorization Violation")
    lab.kill("box3")


@pytest.fixture
def regions(authority):
    with laboratory(REGIONS_LAB) as lab, contextlib.ExitStack() as stack:
        servers = {}
        for name in (f"{region}-{i}" for region in ("east", "west") for i in (1, 2)):
            config = f"supercluster/{name[:-2]}.conf"
            servers[name] = start_server(lab, authority, name, config, SERVER_NAME=name)
        for name in servers:
            wait_ready(lab, name)
            wait_ready(lab, name, "Route connection created")
            wait_ready(lab, name, "Outbound gateway connection")
        talk = Talk(lab, authority, stack)
        talk.servers = servers
        yield talk


def test_a_supercluster_over_two_regions(regions):
    lab = regions.lab
    a1, a2 = (regions.client("a", f"east-{i}.example.com") for i in (1, 2))
    b1, b2 = (regions.client("b", f"west-{i}.example.com") for i in (1, 2))
    for name, client in (("a1", a1), ("a2", a2), ("b1", b1), ("b2", b2)):
        client.subscribe(f"sl.run.{name}.*")
    regions.passes(a1, a2, "sl.run.a2.a1")
    regions.passes(a1, b2, "sl.run.b2.a1")
    regions.passes(b1, a2, "sl.run.a2.b1")

    lab.kill("east-1")
    regions.servers["east-1"].wait(10)
    regions.passes(a2, b1, "sl.run.b1.a2")
    regions.passes(b2, a2, "sl.run.a2.b2")

    lab.partition(["west"])
    regions.passes(b1, b2, "sl.run.b2.b1")
    lab.heal()
    regions.passes(a2, b2, "sl.run.b2.a2")
