"""What a laboratory looks like, from a YAML file or a dict; checked before anything is made.

    sites:                       # places; a link between two sites adds what both say
      hub:  {}
      edge: {rtt: 10ms, jitter: 1ms, loss: 0.1%, rate: 20mbit}
      home: {rtt: 20ms, nat: true}
    links:                       # where that sum is not what is wanted
      - {between: [hub, edge], rtt: 40ms}
    nodes:
      gate: {site: hub, cpu: 60%, memory: 2g, disk: 64m, clock: fake, alias: hub.example.com}

Everything but `nodes` and a node's name may be left out.
"""
import re

NAME = re.compile(r"[a-z][a-z0-9-]{0,10}")
"""Ports of the switch are network devices, whose names have 15 bytes, some of them ours."""
ALIAS = re.compile(r"[a-z0-9.-]{0,63}")
ROUTER_PREFIXES = ("nat-", "in-")
SEGMENT_PUBLIC = 0
NODES_MAX = 40
SITES_MAX = 15

TIME_UNITS = {"us": 1e-3, "ms": 1, "s": 1e3}
SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
RATE_UNITS = {"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
SHARE_UNITS = {"": 1, "%": 0.01}


class SpecError(ValueError):
    """The declaration makes no sense; the text says where."""


def quantity(value, units, what):
    """A number with one of the units: quantity("10ms", TIME_UNITS, ...) is 10."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z%]*)", str(value))
    if not found or found[2] not in units:
        raise SpecError(f"{what}: {value!r} is not a number with one of "
                        f"{', '.join(unit or 'no unit' for unit in units)}")
    return float(found[1]) * units[found[2]]


def fields(mapping, known, what):
    """The mapping, {} for None, with no other keys than the known ones."""
    mapping = {} if mapping is None else mapping
    if not isinstance(mapping, dict):
        raise SpecError(f"{what}: not a mapping")
    unknown = sorted(set(mapping) - set(known))
    if unknown:
        raise SpecError(f"{what}: {unknown[0]!r} is not known; there are {', '.join(known)}")
    return mapping


def check_name(name, what):
    if not NAME.fullmatch(str(name)):
        raise SpecError(f"{what} {name!r}: up to 11 of a-z, 0-9 and -, a letter first")
    return name


class Path:
    """What a route does to frames: round trip and jitter in ms, loss as a share, bits a second (0:
    no limit)."""
    KEYS = ("rtt", "jitter", "loss", "rate")

    def __init__(self, mapping, what):
        self.rtt_ms = quantity(mapping.get("rtt", "0ms"), TIME_UNITS, f"{what}: rtt")
        self.jitter_ms = quantity(mapping.get("jitter", "0ms"), TIME_UNITS, f"{what}: jitter")
        self.loss = quantity(mapping.get("loss", 0), SHARE_UNITS, f"{what}: loss")
        rate = mapping.get("rate")
        self.rate_bps = 0 if rate is None else quantity(rate, RATE_UNITS, f"{what}: rate")

    def plus(self, other):
        sum_of = Path({}, "")
        sum_of.rtt_ms = self.rtt_ms + other.rtt_ms
        sum_of.jitter_ms = self.jitter_ms + other.jitter_ms
        sum_of.loss = 1 - (1 - self.loss) * (1 - other.loss)
        rates = [path.rate_bps for path in (self, other) if path.rate_bps]
        sum_of.rate_bps = min(rates, default=0)
        return sum_of

    def settings(self):
        """As the switch's `link` takes them; half of the round trip in each direction."""
        return {"delay": f"{self.rtt_ms / 2:.6f}ms", "jitter": f"{self.jitter_ms:.6f}ms",
                "loss": f"{self.loss:.9f}", "rate": f"{self.rate_bps:.0f}"}


class Site:
    def __init__(self, name, number, mapping):
        what = f"site {name}"
        mapping = fields(mapping, (*Path.KEYS, "nat"), what)
        self.name, self.number = check_name(name, "site"), number
        self.path = Path(mapping, what)
        self.nat = mapping.get("nat", False) is True
        self.segment = number if self.nat else SEGMENT_PUBLIC

    @property
    def router(self):
        return f"nat-{self.name}"

    @property
    def router_inside(self):
        return f"in-{self.name}"


class Node:
    """cpu is a share of one core, or None; memory and disk are bytes, or None."""

    def __init__(self, name, number, mapping, sites):
        what = f"node {name}"
        mapping = fields(mapping, ("site", "cpu", "memory", "disk", "clock", "alias"), what)
        self.name, self.number = check_name(name, "node"), number
        if name.startswith(ROUTER_PREFIXES):
            raise SpecError(f"{what}: nat- and in- are names of routers")
        site = mapping.get("site", next(iter(sites)))
        if site not in sites:
            raise SpecError(f"{what}: there is no site {site!r}")
        if mapping.get("clock") not in (None, "fake"):
            raise SpecError(f"{what}: clock: 'fake' or nothing")
        self.site = sites[site]
        self.fake_clock = mapping.get("clock") == "fake"
        self.alias = mapping.get("alias", "")
        if not ALIAS.fullmatch(self.alias):
            raise SpecError(f"{what}: alias: a host name")
        self.cpu = self._optional(mapping, "cpu", SHARE_UNITS)
        self.memory = self._optional(mapping, "memory", SIZE_UNITS)
        self.disk = self._optional(mapping, "disk", SIZE_UNITS)
        if self.cpu is not None and not 0.01 <= self.cpu <= 64:
            raise SpecError(f"{what}: cpu: from 1% of a core")

    @staticmethod
    def _optional(mapping, key, units):
        value = mapping.get(key)
        return None if value is None else quantity(value, units, key)

    @property
    def address(self):
        """Public ones are 10.10.SITE.NODE; behind NAT it is 10.20.SITE.NODE."""
        return f"10.{20 if self.site.nat else 10}.{self.site.number}.{self.number}"


class Spec:
    """sites and nodes by name."""

    def __init__(self, declaration):
        self.declaration = fields(declaration, ("sites", "links", "nodes"), "lab")
        sites = declaration.get("sites") or {"lan": {}}
        if not isinstance(sites, dict) or len(sites) > SITES_MAX:
            raise SpecError(f"sites: a mapping of up to {SITES_MAX} names")
        nodes = declaration.get("nodes") or {}
        if not isinstance(nodes, dict) or not 1 <= len(nodes) <= NODES_MAX:
            raise SpecError(f"nodes: a mapping of 1 to {NODES_MAX} names")
        self.sites = {name: Site(name, number, mapping)
                      for number, (name, mapping) in enumerate(sites.items(), 1)}
        self.nodes = {name: Node(name, number, mapping, self.sites)
                      for number, (name, mapping) in enumerate(nodes.items(), 1)}
        self._overrides = {}
        for link in declaration.get("links") or []:
            self._add_override(link)

    def _add_override(self, link):
        between = fields(link, (*Path.KEYS, "between"), "links").get("between")
        if not isinstance(between, list) or len(between) != 2 or set(between) - set(self.sites):
            raise SpecError(f"links: between {between!r}: the names of two sites")
        self._overrides[frozenset(between)] = Path(link, f"link {'-'.join(between)}")

    def hosts(self):
        """The nodes' names and aliases as lines of /etc/hosts."""
        lines = ["127.0.0.1 localhost"]
        lines += [f"{node.address} {node.name} {node.alias}".rstrip()
                  for node in self.nodes.values()]
        return "".join(line + "\n" for line in lines)

    def path(self, a, b):
        """Between two sites; a site's own network is perfect unless `links` says otherwise."""
        if frozenset((a.name, b.name)) in self._overrides:
            return self._overrides[frozenset((a.name, b.name))]
        return Path({}, "") if a is b else a.path.plus(b.path)

    def public_ports(self):
        """[(port, site)] of the public segment: nodes, and the routers of sites behind NAT."""
        ports = [(node.name, node.site) for node in self.nodes.values() if not node.site.nat]
        return ports + [(site.router, site) for site in self.sites.values() if site.nat]

    def ports(self):
        """[(port, segment)] of the whole switch."""
        inside = [(node.name, node.site.segment) for node in self.nodes.values() if node.site.nat]
        inside += [(site.router_inside, site.segment) for site in self.sites.values() if site.nat]
        return [(port, SEGMENT_PUBLIC) for port, _ in self.public_ports()] + inside


def load(path):
    """The declaration in a YAML file."""
    import yaml  # pylint: disable=import-outside-toplevel
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)
