#!/usr/bin/python3
"""Run the tests of one build folder and count them.

Programs are those that CMake lists in BUILD/tests/programs.txt: cmocka programs (unit, prop,
golden) and fuzz targets that replay their corpus. Then pytest runs tests/e2e against
BUILD/starlane, several files at a time, for they mostly wait, and at the end one by one those that
need the machine for themselves. Prints one line a program or file, the whole output of those that
failed, and as the last line the totals. A crash, a time-out, a test that began and never ended, and a program that fails
after its last test all count as failures.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT_S = {"unit": 120, "prop": 300, "golden": 300, "fuzz": 120, "e2e": 900}
SANITIZER_SLOWDOWN = 6
"""Under sanitizers every limit is longer by this."""
OUTPUT_LINES_MAX = 200
"""More of a failing program's output than this hides the other failures."""

ALONE = re.compile(r"^(from|import) (netlabs|splits)\b|scripts/demo\.sh", re.MULTILINE)
"""In a file of tests/e2e: it shapes networks, limits processors, or fills both."""
GRID = re.compile(r"^from grid import", re.MULTILINE)
"""It opens grids on this machine: two at a time could take the same free port."""

EVENT = re.compile(r"\[ *(RUN|OK|FAILED|SKIPPED|ERROR) *\] (\w+)")
FAILURE, SUCCESS, SKIP = "failed", "passed", "skipped"


class Result:
    """What one program did: {test name: outcome}, output, seconds."""

    def __init__(self, label, outcomes, output, seconds):
        self.label, self.outcomes, self.output, self.seconds = label, outcomes, output, seconds

    def count(self, outcome):
        return sum(1 for value in self.outcomes.values() if value == outcome)


def parse_cmocka(output):
    """Return {test: outcome} from cmocka's standard output, which marks the beginning and the end
    of each test."""
    words = {"OK": SUCCESS, "FAILED": FAILURE, "ERROR": FAILURE, "SKIPPED": SKIP}
    outcomes, running = {}, None
    for word, name in EVENT.findall(output):
        if word == "RUN":
            running, outcomes[name] = name, FAILURE
        elif name == running:
            outcomes[name] = words[word]
            running = None
    return outcomes


def run_program(kind, name, options):
    path = options.build / "tests" / kind / name
    arguments = [str(path)]
    if kind == "fuzz":
        corpus = ROOT / "tests/fuzz/corpus" / name.removesuffix("_fuzz")
        if not corpus.is_dir():
            output = f"no corpus: {corpus.relative_to(ROOT)}\n"
            return Result(f"{kind}/{name}", {name: FAILURE}, output, 0.0)
        arguments.append(str(corpus))
    begin = time.monotonic()
    status, output = run_limited(arguments, TIMEOUT_S[kind], options)
    outcomes = {name: SUCCESS} if kind == "fuzz" else parse_cmocka(output)
    # cmocka's exit status is the number of failed tests; anything beyond those is a failure of its
    # own.
    if status != 0 and FAILURE not in outcomes.values() or not outcomes:
        outcomes[f"{name}: exit status {status}"] = FAILURE
    if FAILURE in outcomes.values():
        output += f"\nexit status {status}; to repeat: {' '.join(arguments)}\n"
    return Result(f"{kind}/{name}", outcomes, output, time.monotonic() - begin)


def run_limited(command, timeout_s, options):
    """Return (status, output); a time-out ends the process and is status "time-out"."""
    timeout_s *= options.slowdown
    try:
        done = subprocess.run(options.prefix + command, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s,
                              env=options.environment, cwd=ROOT, check=False)
        return done.returncode, done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as expired:
        text = (expired.stdout or b"").decode("utf-8", "replace")
        return "time-out", f"{text}\nended after {timeout_s} s\n"
    except OSError as error:
        return "not run", f"{error}\n"


def run_pytest(path, options):
    """One file, or the folder."""
    label = "e2e" if path.is_dir() else f"e2e/{path.stem}"
    report = options.build / f"tests/{label}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
               f"--junitxml={report}", str(path.relative_to(ROOT))]
    if options.filter:
        command += ["-k", " or ".join(options.filter.split(","))]
    begin = time.monotonic()
    status, output = run_limited(command, TIMEOUT_S["e2e"], options)
    outcomes = parse_junit(report) if report.exists() else {}
    # pytest's 5: no test was selected, which a filter may well do
    if status != 0 and FAILURE not in outcomes.values() and not (status == 5 and options.filter):
        outcomes[f"pytest: exit status {status}"] = FAILURE
    return Result(label, outcomes, output, time.monotonic() - begin)


def last_seconds(path, options):
    """How long the file took last time, as far as that is known."""
    try:
        suite = ElementTree.parse(options.build / f"tests/e2e/{path.stem}.xml").find("testsuite")
        return float(suite.get("time"))
    except (OSError, ElementTree.ParseError, AttributeError, TypeError):
        return path.stat().st_size / 1000


def run_e2e(executor, options):
    """Yields results, as they come in order: the longest begin first, so that no long one is left
    over at the end."""
    folder = ROOT / "tests/e2e"
    if options.filter:
        yield run_pytest(folder, options)
        return
    text = {path: path.read_text(encoding="utf-8") for path in folder.glob("test_*.py")}
    seconds = {path: last_seconds(path, options) for path in text}
    alone = [path for path in text if ALONE.search(text[path])]
    grids = [path for path in text if path not in alone and GRID.search(text[path])]
    lanes = [[path] for path in text if path not in alone + grids] + [grids]
    lanes.sort(key=lambda lane: -sum(seconds[path] for path in lane))
    for lane in executor.map(lambda lane: [run_pytest(path, options) for path in lane], lanes):
        yield from lane
    yield from (run_pytest(path, options) for path in sorted(alone))


def parse_junit(path):
    outcomes = {}
    for case in ElementTree.parse(path).iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        outcome = FAILURE if bad else SKIP if case.find("skipped") is not None else SUCCESS
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = outcome
    return outcomes


def failing_lines(result):
    """The output without the marks of the tests that passed."""
    def is_mark_of_success(line):
        event = EVENT.search(line)
        return event and result.outcomes.get(event[2]) == SUCCESS and event[1] in ("RUN", "OK")

    return [line for line in result.output.rstrip().splitlines() if not is_mark_of_success(line)]


def report(result):
    n_failed, n_skipped = result.count(FAILURE), result.count(SKIP)
    mark = "FAIL" if n_failed else "ok"
    notes = f", {n_skipped} skipped" if n_skipped else ""
    notes += f", {n_failed} FAILED" if n_failed else ""
    print(f"{mark:4}  {result.label:36} {result.count(SUCCESS):4} passed{notes}"
          f"  ({result.seconds:.1f} s)", flush=True)
    if n_failed:
        for name, outcome in result.outcomes.items():
            if outcome == FAILURE:
                print(f"      failed: {name}")
        lines = failing_lines(result)
        if len(lines) > OUTPUT_LINES_MAX:
            print(f"      | ... {len(lines) - OUTPUT_LINES_MAX} lines left out")
        for line in lines[-OUTPUT_LINES_MAX:]:
            print(f"      | {line}")
        sys.stdout.flush()


def test_environment(options):
    environment = dict(os.environ)
    environment.update(
        STARLANE_BIN=str(options.build / "starlane"),
        STARLANE_SHARED=os.environ.get("STARLANE_SHARED") or str(ROOT.parent / "shared"),
        STARLANE_MODELS=str(ROOT / "models"),
        ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:"
                     "allocator_may_return_null=1",
        UBSAN_OPTIONS="print_stacktrace=1",
        TSAN_OPTIONS="halt_on_error=0:second_deadlock_stack=1",
        PYTHONDONTWRITEBYTECODE="1")
    return environment


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"),
                        help="build folder (build)")
    parser.add_argument("--filter", default="",
                        help="only programs, or pytest tests, whose name contains one of these, with "
                             "commas between")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8),
                        help="programs at a time")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.environment = test_environment(options)
    cache = (options.build / "CMakeCache.txt").read_text(encoding="utf-8")
    sanitizers = re.search(r"^STARLANE_SANITIZE:\w+=(.*)$", cache, re.MULTILINE).group(1)
    options.slowdown = SANITIZER_SLOWDOWN if sanitizers else 1
    # ThreadSanitizer's fixed memory map collides with strong address randomisation on newer
    # kernels.
    options.prefix = ["setarch", "-R"] if "thread" in sanitizers and shutil.which("setarch") else []
    return options


def main():
    options = parse_options()
    listed = (options.build / "tests/programs.txt").read_text(encoding="utf-8").split()
    programs = [pair for pair in zip(listed[::2], listed[1::2])
                if any(word in pair[1] for word in options.filter.split(","))]
    results = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as executor:
        for result in executor.map(lambda pair: run_program(*pair, options), programs):
            report(result)
            results.append(result)
        for result in run_e2e(executor, options):
            if result.outcomes:
                report(result)
                results.append(result)
    n_passed, n_failed, n_skipped = (
        sum(result.count(outcome) for result in results) for outcome in (SUCCESS, FAILURE, SKIP))
    print(f"tests: {n_passed} passed, {n_failed} failed, {n_skipped} skipped")
    return 1 if n_failed or not n_passed else 0


if __name__ == "__main__":
    sys.exit(main())
