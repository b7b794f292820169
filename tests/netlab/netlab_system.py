"""What the laboratory takes from the machine: namespaces, control groups, mounts, and how all of
it is given back.

Everything of a laboratory bears its id ("netlab-" and some letters) and is found by that alone:
namespaces ID and ID-*, the control groups and the folder that state.json names. Whoever made it is
in state.json too, so that what a killed driver left behind can be told from what is in use.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path("/var/tmp/netlab")
"""Folders of the laboratories: on a disk, since nodes keep models there."""
PREFIX = "netlab-"
CGROUP_ROOT = pathlib.Path("/sys/fs/cgroup")
CPU_PERIOD_US = 20_000
"""The kernel's 100 ms would let a node of 10 % run for 10 ms and then stand for 90; a slow machine
is slow all the time. Below 1 ms of quota the kernel refuses: a share of 5 % here."""
CPU_QUOTA_US_MIN = 1_000
END_DEADLINE_S = 20
TOOLS = ("ip", "nsenter", "unshare", "nft", "mount", "umount")
ENTER_SCRIPT = """
mount --bind "$1" /etc/hosts || exit 125
n=$2
shift 2
while [ "$n" -gt 0 ]; do
    echo $$ >"$1" || exit 125
    n=$((n - 1))
    shift
done
exec "$@"
"""
"""HOSTS COUNT PROCS... COMMAND...; ends with 125 where the laboratory is broken."""


class NetlabUnavailable(RuntimeError):
    """This machine or user cannot have a laboratory; the text says why."""


def run(*command, stdin=None):
    """Runs to the end; its output. Raises with the command and what it said."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class GroupsV1:
    """One hierarchy a controller. Ours lie below the driver's own group, whose limits hold on."""

    @staticmethod
    def available():
        return all((CGROUP_ROOT / name / "cgroup.procs").exists() for name in ("cpu", "memory"))

    @staticmethod
    def bases():
        """The folders of the groups that this process is in; in a container that does not show
        them, their roots."""
        with open("/proc/self/cgroup", encoding="ascii") as file:
            own = [line.rstrip("\n").split(":", 2) for line in file]
        bases = []
        for name in ("cpu", "memory"):
            paths = [path for _, controllers, path in own if name in controllers.split(",")]
            folder = CGROUP_ROOT / name / paths[0].lstrip("/") if paths else CGROUP_ROOT / name
            bases.append(folder if folder.is_dir() else CGROUP_ROOT / name)
        return bases

    @staticmethod
    def limit(folder, cpu, memory):
        if cpu is not None and (folder / "cpu.cfs_quota_us").exists():
            period_us, quota_us = cpu_quota(cpu)
            (folder / "cpu.cfs_period_us").write_text(str(period_us), encoding="ascii")
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us), encoding="ascii")
        if memory is not None and (folder / "memory.limit_in_bytes").exists():
            (folder / "memory.limit_in_bytes").write_text(str(int(memory)), encoding="ascii")


class GroupsV2:
    """One hierarchy for all; ours lie at its root, where groups may have both processes and
    children."""

    @staticmethod
    def available():
        controllers = CGROUP_ROOT / "cgroup.controllers"
        return controllers.exists() and \
            {"cpu", "memory"} <= set(controllers.read_text(encoding="ascii").split())

    @staticmethod
    def bases():
        return [CGROUP_ROOT]

    @staticmethod
    def limit(folder, cpu, memory):
        for parent in (folder.parent.parent, folder.parent):
            (parent / "cgroup.subtree_control").write_text("+cpu +memory", encoding="ascii")
        if cpu is not None:
            period_us, quota_us = cpu_quota(cpu)
            (folder / "cpu.max").write_text(f"{quota_us} {period_us}", encoding="ascii")
        if memory is not None:
            (folder / "memory.max").write_text(str(int(memory)), encoding="ascii")


def cpu_quota(share):
    """(period, quota) in us. Under 5 % of a core the period grows, lest the quota be too small."""
    period_us = max(CPU_PERIOD_US, round(CPU_QUOTA_US_MIN / share))
    return period_us, round(share * period_us)


def groups():
    return next((kind for kind in (GroupsV1, GroupsV2) if kind.available()), None)


def missing():
    """Why there can be no laboratory here; None when there can."""
    if os.geteuid() != 0:
        return "netlab needs root, for network namespaces"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "netlab needs /dev/net/tun"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        return f"netlab needs {', '.join(absent)}: scripts/deps.sh test"
    if not groups():
        return f"netlab needs the cgroup controllers cpu and memory at {CGROUP_ROOT}"
    return None


def process_start(pid):
    """When the process was started, in the kernel's ticks; None when there is none. A pid alone may
    have become someone else's."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


class Estate:
    """What one laboratory holds. Made by `create`, found again by its id."""

    def __init__(self, lab_id):
        self.id = lab_id
        self.folder = ROOT / lab_id
        self.state = {}

    @classmethod
    def create(cls, declaration):
        """A new id. state.json is there before the folder has its name, and both before anything
        else is, so that nothing is ever lost."""
        ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
        estate = cls(PREFIX + secrets.token_hex(3))
        unfinished = ROOT / f".{estate.id}"
        unfinished.mkdir(mode=0o700)
        estate.state = {
            "owner": {"pid": os.getpid(), "start": process_start(os.getpid())},
            "groups": [str(base / estate.id) for base in groups().bases()],
            "declaration": declaration}
        text = json.dumps(estate.state, indent=1)
        (unfinished / "state.json").write_text(text, encoding="utf-8")
        unfinished.rename(estate.folder)
        return estate

    @classmethod
    def open(cls, lab_id):
        """FileNotFoundError when there is none of that id."""
        estate = cls(lab_id)
        text = (estate.folder / "state.json").read_text(encoding="utf-8")
        estate.state = json.loads(text)
        return estate

    @property
    def is_in_use(self):
        owner = self.state.get("owner", {})
        return owner.get("start") is not None and process_start(owner["pid"]) == owner["start"]

    def namespace(self, name):
        return f"{self.id}-{name}"

    def group_folders(self, name):
        return [pathlib.Path(base) / name for base in self.state.get("groups", [])]

    def make_group(self, name, cpu=None, memory=None):
        for folder in self.group_folders(name):
            folder.mkdir(parents=True)
            groups().limit(folder, cpu, memory)

    def make_realtime_group(self, name):
        """A group to be found by alone: processes in a version 1 `cpu` group may not be real-time
        ones."""
        self.group_folders(name)[-1].mkdir(parents=True)

    def pids(self, name):
        """Of the processes of one node."""
        procs = self.group_folders(name)[-1] / "cgroup.procs"  # joined last
        with contextlib.suppress(OSError):
            return [int(line) for line in procs.read_text(encoding="ascii").split()]
        return []

    @property
    def hosts_path(self):
        return self.folder / "hosts"

    def command(self, name, command):
        """The command as it runs in a node: its network first, then its /etc/hosts, then its
        groups, all in one process, whose id is the command's."""
        joins = [str(folder / "cgroup.procs") for folder in self.group_folders(name)
                 if folder.is_dir()]
        return ["nsenter", f"--net=/run/netns/{self.namespace(name)}", "--", "unshare", "--mount",
                "/bin/sh", "-c", ENTER_SCRIPT, "netlab", str(self.hosts_path), str(len(joins)),
                *joins, *map(str, command)]

    def mount_disk(self, folder, n_bytes):
        run("mount", "-t", "tmpfs", "-o", f"size={int(n_bytes)},mode=0700", self.id, str(folder))

    def destroy(self):
        """Gives everything back. What is gone already is no error."""
        self._end_processes()
        for base in map(pathlib.Path, self.state.get("groups", [])):
            folders = [path for path in base.rglob("*") if path.is_dir()]
            for folder in sorted(folders, reverse=True) + [base]:
                with contextlib.suppress(FileNotFoundError):
                    remove_group(folder)
        self._unmount()
        for namespace in namespaces():
            if namespace.startswith(self.id + "-"):
                run("ip", "netns", "delete", namespace)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_processes(self):
        deadline = time.monotonic() + END_DEADLINE_S
        while True:
            pids = [pid for base in self.state.get("groups", [])
                    for procs in pathlib.Path(base).rglob("cgroup.procs")
                    for pid in procs.read_text(encoding="ascii").split()]
            if not pids:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.id}: processes {', '.join(pids)} do not end")
            for pid in set(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)

    def _unmount(self):
        with open("/proc/self/mounts", encoding="utf-8") as file:
            places = [line.split()[1] for line in file]
        for place in places:
            if place.startswith(f"{self.folder}/"):
                run("umount", "--lazy", place)


def remove_group(folder):
    """A group stays busy for a moment after its last process."""
    deadline = time.monotonic() + END_DEADLINE_S
    while True:
        try:
            folder.rmdir()
            return
        except OSError as error:
            if isinstance(error, FileNotFoundError) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def namespaces():
    folder = pathlib.Path("/run/netns")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def estates():
    """All laboratories of this machine, those of dead owners too."""
    found = []
    for folder in sorted(ROOT.glob(PREFIX + "*")) if ROOT.is_dir() else []:
        try:
            found.append(Estate.open(folder.name))
        except (FileNotFoundError, json.JSONDecodeError):
            found.append(Estate(folder.name))
    return found


def clean():
    """Removes what dead drivers left; one cleaner at a time. Returns the ids."""
    ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(ROOT / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        left = [estate for estate in estates() if not estate.is_in_use]
        for estate in left:
            estate.destroy()
    return [estate.id for estate in left]
