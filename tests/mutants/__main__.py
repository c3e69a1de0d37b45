"""``python -m mutants``: try random mutants, each against the tests that reach its line; print score and survivors.

A mutant is written into the working tree, for processes that tests start have to see it, and taken back at the end,
also after Ctrl+C or SIGTERM. So the tree must have no uncommitted changes in the code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

from mutants.mutations import Mutant, mutants_in
from mutants.reach import Reach, find_reach, git

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CODE = ("otelflow/*.py", "exporters/otelflow_exporters/*.py")
KILLED, SURVIVED, EQUIVALENT, UNREACHED = "killed", "survived", "equivalent", "no test reaches it"


def main() -> int:
    """Run the command; 1 where a mutant survived."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=100, metavar="N", help="how many mutants")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants of files with TEXT in their path")
    parser.add_argument("--reach-from", nargs="*", default=[], metavar="TESTS", help="look only at these tests")
    options = parser.parse_args()
    if git(ROOT, "status", "--porcelain", "--", "otelflow", "exporters/otelflow_exporters"):
        parser.error("the code has uncommitted changes, which a mutant could spoil: commit or stash them")
    reach = find_reach(ROOT, ROOT / ".mutants", options.reach_from)
    began = time.monotonic()
    results = []
    for mutant in sample(options.number, options.seed, options.only):
        result = try_mutant(mutant, reach)
        results.append((mutant, result))
        print(f"{result:9} {mutant.path}:{mutant.line} {mutant.function}  {mutant.change}", flush=True)
    report(results, time.monotonic() - began)
    return int(any(result in (SURVIVED, UNREACHED) for _, result in results))


def sample(number: int, seed: int, only: str) -> list[Mutant]:
    """Return ``number`` mutants, the same for the same seed and code."""
    sources = {path: (ROOT / path).read_bytes() for path in git(ROOT, "ls-files", *CODE).splitlines() if only in path}
    mutants = [mutant for path, source in sorted(sources.items()) for mutant in mutants_in(path, source)]
    random.Random(seed).shuffle(mutants)
    chosen = (mutant for mutant in mutants if mutant.compiles(sources[mutant.path]))
    return [mutant for mutant, _ in zip(chosen, range(number), strict=False)]


def try_mutant(mutant: Mutant, reach: Reach) -> str:
    """Return what became of a mutant."""
    if _is_equivalent(mutant):
        return EQUIVALENT
    tests, seconds = reach.tests_of(mutant.path, mutant.line, mutant.last_line)
    if not tests:
        return UNREACHED
    with _applied(mutant):
        return SURVIVED if _pass(tests, 60 + 3 * seconds) else KILLED


def report(results: list[tuple[Mutant, str]], seconds: float) -> None:
    """Print the survivors with their lines, and the score of each package."""
    for mutant, result in results:
        if result in (SURVIVED, UNREACHED):
            print(f"\n{mutant.path}:{mutant.line} in {mutant.function or 'the module'}: {result}")
            source = (ROOT / mutant.path).read_bytes()
            print(_diff(source.decode(), mutant.apply(source).decode()))
    of_package: dict[str, Counter[str]] = {}
    for mutant, result in results:
        package = mutant.path.removeprefix("exporters/").rpartition("/")[0]
        for name in (package, "all"):
            of_package.setdefault(name, Counter())[result] += 1
    print(f"\n{'package':32} killed of  score")
    for name, counts in sorted(of_package.items(), key=lambda item: (item[0] == "all", item[0])):
        noticeable = counts.total() - counts[EQUIVALENT]
        share = f"{counts[KILLED] / noticeable:6.0%}" if noticeable else "     -"
        print(f"{name:32} {counts[KILLED]:6} {noticeable:2} {share}")
    print(f"\n{len(results)} mutants in {seconds:.0f} s")


@contextlib.contextmanager
def _applied(mutant: Mutant) -> Iterator[None]:
    """Write the mutant into the tree for the duration of the block."""
    path = ROOT / mutant.path
    source = path.read_bytes()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        path.write_bytes(mutant.apply(source))
        yield
    finally:
        path.write_bytes(source)
        signal.signal(signal.SIGTERM, before)


def _pass(tests: list[str], limit: float) -> bool:
    """Run tests, the first failure ends them; return whether all pass within ``limit`` seconds."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "--tb=no"]
    run_id = f"{os.getpid()}.{time.monotonic_ns()}"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(tests))
        listed.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, f"@{listed.name}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MUTANTS_RUN": run_id},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:  # an endless loop, a lock that stays shut: it was noticed
            return False
        finally:
            _kill_all(f"MUTANTS_RUN={run_id}".encode())
            process.wait()


def _kill_all(variable: bytes) -> None:
    """Kill every process with an environment variable: programs of tests have sessions of their own, and loop on."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def _is_equivalent(mutant: Mutant) -> bool:
    listed = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text()).get("mutant", [])
    place = {"path": mutant.path, "function": mutant.function, "old": mutant.old, "new": mutant.new}
    return any(place.items() <= entry.items() for entry in listed)


def _diff(before: str, after: str) -> str:
    return "\n".join(list(unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[2:])


if __name__ == "__main__":
    sys.exit(main())
