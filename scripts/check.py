#!/usr/bin/python3
"""Check the house: format, lint, layers, headers, function lengths. Print what is wrong as
file:line and a summary.

The layers (floors, engines, third-party headers) are those of deps/layers.txt. Lint results are
kept in the build folder by the content they depend on, so that a second run looks only at what
changed.
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 100
FILE_LINES_MAX = 1500
"""From 800 on a file is worth a thought; past this it must be split."""

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
C_LIBRARY = set("""
    aio.h assert.h complex.h ctype.h dirent.h dlfcn.h endian.h errno.h fcntl.h fenv.h float.h
    fnmatch.h ftw.h getopt.h glob.h grp.h ifaddrs.h inttypes.h langinfo.h libgen.h limits.h link.h
    locale.h malloc.h math.h netdb.h poll.h pthread.h pwd.h regex.h sched.h semaphore.h setjmp.h
    signal.h spawn.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h
    stdnoreturn.h string.h strings.h sysexits.h syslog.h tgmath.h termios.h threads.h time.h uchar.h
    ucontext.h unistd.h wchar.h wctype.h
    arm_neon.h arm_sve.h cpuid.h immintrin.h x86intrin.h""".split())
C_LIBRARY_FOLDERS = ("sys", "linux", "arpa", "asm", "net", "netinet")

Problem = collections.namedtuple("Problem", "path line text")


class Layers:
    """deps/layers.txt."""

    def __init__(self, path):
        self.floors, self.engine_folders, self.third = {}, {}, {}
        self.tables, self.templates = set(), set()
        for line in path.read_text(encoding="utf-8").splitlines():
            word, *rest = line.split("#")[0].split() or [""]
            if word == "floor":
                self.floors[rest[0]] = set(rest)
            elif word == "engines":
                self.engine_folders[rest[0]] = set(rest[2:])
            elif word == "third":
                self.third.setdefault(rest[0], []).extend(rest[1:])
            elif word == "table":
                self.tables.update(rest)
            elif word == "template":
                self.templates.update(rest)
            elif word:
                sys.exit(f"{path}: unknown word {word}")

    def third_pattern(self, header):
        return next((pattern for pattern in self.third if fnmatch.fnmatch(header, pattern)), None)


def relative(path):
    return str(path.relative_to(ROOT))


def sources(*suffixes, folders=("src", "tests", "bench")):
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in suffixes and path.is_file())


def read_includes(paths):
    """Return {path: [(line, bracket, header)]}, paths relative to the root."""
    includes = {}
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        matches = ((number, INCLUDE.match(line)) for number, line in enumerate(lines, 1))
        includes[relative(path)] = [(number, *match.groups()) for number, match in matches if match]
    return includes


def run(command):
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)


def check_floors(includes, layers):
    for path, lines in includes.items():
        parts = path.split("/")
        if parts[0] != "src":
            continue
        if parts[1] not in layers.floors:
            yield Problem(path, 1, f"floor {parts[1]} is not in deps/layers.txt")
            continue
        for line, bracket, header in lines:
            floor = header.split("/")[0]
            if bracket == '"' and floor not in layers.floors:
                yield Problem(path, line, f'"{header}" is not rooted at src/')
            elif bracket == '"' and floor not in layers.floors[parts[1]]:
                yield Problem(path, line, f"{parts[1]} includes upward: {header}")


def check_engines(includes, layers):
    """An engine includes no header of another engine."""
    for path, lines in includes.items():
        for folder, shared in layers.engine_folders.items():
            own = engine_of(path.removeprefix("src/"), folder)
            for line, bracket, header in lines:
                other = engine_of(header, folder)
                if path.startswith("src/") and bracket == '"' and other and own and \
                        other not in shared and own != other:
                    yield Problem(path, line, f"engine {own} includes engine {other}: {header}")


def engine_of(path, folder):
    """exec/llm/gguf.h, exec -> llm; exec/engine.h, exec -> None."""
    parts = path.split("/")
    return parts[1] if parts[0] == folder and len(parts) > 2 else None


def check_cycles(includes):
    graph = {path.removeprefix("src/"): [header for _, bracket, header in lines if bracket == '"']
             for path, lines in includes.items() if path.startswith("src/") and path.endswith(".h")}
    done, trail = set(), []

    def visit(header):
        if header in trail:
            cycle = trail[trail.index(header):] + [header]
            yield Problem("src/" + header, 1, "include cycle: " + " -> ".join(cycle))
        elif header not in done and header in graph:
            trail.append(header)
            for other in graph[header]:
                yield from visit(other)
            trail.pop()
            done.add(header)

    for header in sorted(graph):
        yield from visit(header)


def check_third_parties(includes, layers):
    used = collections.defaultdict(set)
    for path, lines in includes.items():
        for line, bracket, header in lines:
            if bracket == '"' or header in C_LIBRARY or header.split("/")[0] in C_LIBRARY_FOLDERS:
                continue
            pattern = layers.third_pattern(header)
            allowed = layers.third.get(pattern, [])
            files = [entry for entry in allowed if fnmatch.fnmatch(path, entry)]
            if not files:
                places = " ".join(allowed) or "nothing"
                yield Problem(path, line, f"<{header}> may be included only in: {places}")
            used[pattern].update(files)
    for pattern, allowed in layers.third.items():
        for entry in sorted(set(allowed) - used[pattern]):
            yield Problem("deps/layers.txt", 1, f"{pattern} is not included by {entry}")


def check_habits(includes, layers):
    """Rules on single lines that no compiler knows."""
    for path, lines in includes.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for line, content in enumerate(text.splitlines(), 1):
            if len(content) > COLUMNS_MAX:
                yield Problem(path, line, f"{len(content)} columns; at most {COLUMNS_MAX}")
        for line, _, header in lines:
            if header.endswith(".c"):
                yield Problem(path, line, f"includes a source file: {header}")
        once = "\n#pragma once\n" in text
        if path.endswith(".h") and once == (path in layers.templates):
            yield Problem(path, 1, "a template with #pragma once" if once else "no #pragma once")
        purpose = f"/* {path.split('/')[-1]}: "
        if path.startswith("src/") and path.endswith(".h") and not text.startswith(purpose):
            yield Problem(path, 1, f"does not begin with its purpose, {purpose}...")


def check_format(paths):
    done = run(["clang-format", "--dry-run", *map(relative, paths)])
    lines = collections.defaultdict(set)
    place = re.compile(r"^([^:\n]+):(\d+):\d+: warning: code should", re.MULTILINE)
    for name, line in place.findall(done.stderr):
        lines[name].add(int(line))
    for name, bad in lines.items():
        yield Problem(name, min(bad), f"{len(bad)} lines not in the house's format (make format)")


def generate_messages(build):
    """Build what protoc-c makes of proto/, which one header and the lint of its users need."""
    done = run(["cmake", "--build", str(build), "--target", "starlane_proto"])
    if done.returncode:
        sys.exit(f"check: starlane_proto does not build: {first_error(done.stdout + done.stderr)}")


def check_headers_alone(build, paths, layers, executor):
    """Each header of ours compiles as a file of its own, with both compilers."""
    def compile_header(job):
        compiler, path = job
        command = [compiler, "-std=c17", "-D_GNU_SOURCE", "-Isrc", "-Itests", "-Wall", "-Wextra",
                   "-fsyntax-only", "-x", "c", "-include", relative(path), "/dev/null"]
        done = run(command + extra_includes(build))
        if done.returncode == 0 and "warning:" not in done.stderr:
            return []
        reason = f"does not compile alone ({compiler}): {first_error(done.stderr)}"
        return [Problem(relative(path), 1, reason)]

    jobs = [(compiler, path) for compiler in ("gcc", "clang") for path in paths
            if relative(path) not in layers.templates]
    for problems in executor.map(compile_header, jobs):
        yield from problems


def extra_includes(build):
    folders = (ROOT / ".deps/ggml/include", build / "generated")
    return [word for folder in folders if folder.is_dir() for word in ("-isystem", str(folder))]


def first_error(text):
    messages = (line for line in text.splitlines() if "error:" in line or "warning:" in line)
    return next(messages, text.strip()[:200])


def headers_below(path, includes, found):
    """Add to found all of our headers that path includes, directly or not."""
    for _, bracket, header in includes.get(path, []):
        if bracket == '"' and "src/" + header not in found:
            found.add("src/" + header)
            headers_below("src/" + header, includes, found)
    return found


def check_lint(build, paths, includes, executor):
    """clang-tidy with the checks of .clang-tidy over every file that the build compiles."""
    database = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    commands = {entry["file"]: entry["command"] for entry in database}
    cache = build / "lint"
    cache.mkdir(exist_ok=True)
    version = run(["clang-tidy", "--version"]).stdout
    common = (ROOT / ".clang-tidy").read_bytes() + version.encode()

    finding = re.compile(r"^([^:\n]+):(\d+):\d+: (?:warning|error): (.*)$", re.MULTILINE)

    def lint(path):
        key = hashlib.sha256(common + commands[str(path)].encode() + path.read_bytes())
        for header in sorted(headers_below(relative(path), includes, set())):
            key.update((ROOT / header).read_bytes() if (ROOT / header).exists() else b"")
        known_good = cache / key.hexdigest()
        if known_good.exists():
            return []
        done = run(["clang-tidy", "--quiet", "-p", str(build), str(path)])
        found = finding.findall(done.stdout)
        if not found and done.returncode:
            reason = first_error(done.stdout + done.stderr)
            return [Problem(relative(path), 1, f"clang-tidy: {reason}")]
        if not found:
            known_good.touch()
        return [Problem(os.path.relpath(name, ROOT), int(line), text) for name, line, text in found]

    seen = set()
    for problems in executor.map(lint, [path for path in paths if str(path) in commands]):
        yield from (problem for problem in problems if problem not in seen)
        seen.update(problems)


def function_lengths(paths):
    """Return [(lines, path, line, function)] of every function, by ctags."""
    done = run(["ctags", "--output-format=json", "--fields=+ne", "--kinds-C=f", "--languages=C",
                "-f", "-", *map(relative, paths)])
    tags = [json.loads(line) for line in done.stdout.splitlines()]
    return [(tag["end"] - tag["line"] + 1, tag["path"], tag["line"], tag["name"])
            for tag in tags if "end" in tag]


def check_sizes(paths, lengths, layers):
    for n_lines, path, line, name in lengths:
        if n_lines > FUNCTION_LINES_MAX and path not in layers.tables:
            yield Problem(path, line, f"{name} has {n_lines} lines; at most {FUNCTION_LINES_MAX}")
    for path in paths:
        n_lines = path.read_bytes().count(b"\n")
        if n_lines > FILE_LINES_MAX and relative(path) not in layers.tables:
            text = f"the file has {n_lines} lines; at most {FILE_LINES_MAX}"
            yield Problem(relative(path), 1, text)


def describe_lengths(lengths):
    lines = sorted(entry[0] for entry in lengths)
    if not lines:
        return "no functions"
    return (f"{len(lines)} functions, median {statistics.median_low(lines)} lines, "
            f"90 % up to {lines[int(0.9 * (len(lines) - 1))]}, longest {lines[-1]}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build",
                        help="configured build folder (build)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tools at a time")
    options = parser.parse_args()
    begin = time.monotonic()
    build = options.build.resolve()
    generate_messages(build)
    layers = Layers(ROOT / "deps/layers.txt")
    everything = sources(".c", ".h")
    includes = read_includes(everything)
    code = sources(".c", folders=("src",))
    lengths = function_lengths(everything)
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as executor:
        checks = {
            "format": check_format(everything),
            "floors": check_floors(includes, layers),
            "engines": check_engines(includes, layers),
            "cycles": check_cycles(includes),
            "third parties": check_third_parties(includes, layers),
            "habits": check_habits(includes, layers),
            "headers alone": check_headers_alone(build, sources(".h"), layers, executor),
            "lint": check_lint(build, code, includes, executor),
            "sizes": check_sizes(everything, lengths, layers),
        }
        found = {name: list(problems) for name, problems in checks.items()}
    for name, problems in found.items():
        for problem in problems:
            print(f"{problem.path}:{problem.line}: {name}: {problem.text}")
    bad = ", ".join(f"{name} {len(problems)}" for name, problems in found.items() if problems)
    print(f"check: {len(everything)} files, {describe_lengths(lengths)}; {bad or 'all well'} "
          f"({time.monotonic() - begin:.0f} s)")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
