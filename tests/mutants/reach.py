"""Find out which tests reach which line: one run of the suite under coverage, kept until the code changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import coverage

__all__ = ["Reach", "find_reach", "git"]

_HERE = Path(__file__).parent
_MOST_SECONDS = 60
"""Of the tests that one mutant is given."""


@dataclass
class Reach:
    """The tests that reach each line of each file, and the seconds that each test takes."""

    tests: list[str]
    seconds: list[float]
    lines: dict[str, dict[str, list[int]]]

    def tests_of(self, path: str, first: int, last: int) -> tuple[list[str], float]:
        """Return tests that reach a line from ``first`` to ``last``, and the seconds that they take together.

        The most specific come first: those that reach the fewest lines of all. A line that runs when its module is
        imported gets the tests that reach most of that module.
        """
        of_file = self.lines.get(path, {})
        reaching = {test for line in range(first, last + 1) for test in of_file.get(str(line), ())}
        if reaching:
            ordered = sorted(reaching, key=lambda test: self._width[test])
        else:
            ordered = [
                test for test, _ in Counter(test for tests in of_file.values() for test in tests).most_common(50)
            ]
        chosen: list[str] = []
        seconds = 0.0
        for test in ordered:
            if seconds + self.seconds[test] <= _MOST_SECONDS:
                seconds += self.seconds[test]
                chosen.append(self.tests[test])
        return chosen, seconds

    @cached_property
    def _width(self) -> Counter[int]:
        """The number of lines that each test reaches."""
        return Counter(test for of_file in self.lines.values() for tests in of_file.values() for test in tests)


def find_reach(root: Path, folder: Path, arguments: list[str]) -> Reach:
    """Return what an earlier run found out about this commit, or run the suite under coverage (half an hour)."""
    commit = git(root, "rev-parse", "HEAD")
    found = folder / f"reach-{commit[:12]}.json"
    if not found.exists():
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*"):
            old.unlink()
        found.write_text(json.dumps(_run(root, folder, arguments)))
    return Reach(**json.loads(found.read_text()))


def _run(root: Path, folder: Path, arguments: list[str]) -> dict[str, object]:
    durations = folder / "durations.json"
    environment = {
        **os.environ,
        "MUTANTS_DATA": str(folder / "coverage"),
        "MUTANTS_DURATIONS": str(durations),
        "PYTHONPATH": os.pathsep.join([str(_HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    config = f"--rcfile={_HERE / 'coverage.ini'}"
    words = ["-m", "pytest", "-n", "auto", "-q", "-p", "no:cacheprovider", "-p", "mutants.contexts", *arguments]
    subprocess.run([sys.executable, "-m", "coverage", "run", config, *words], cwd=root, env=environment, check=False)
    subprocess.run([sys.executable, "-m", "coverage", "combine", "-q", config], cwd=root, env=environment, check=True)
    seconds: dict[str, float] = json.loads(durations.read_text())
    number = {test: place for place, test in enumerate(seconds)}
    data = coverage.CoverageData(str(folder / "coverage"))
    data.read()
    lines: dict[str, dict[str, list[int]]] = {}
    for file in data.measured_files():
        by_line = data.contexts_by_lineno(file)
        lines[os.path.relpath(file, root)] = {
            str(line): [number[test] for test in contexts if test in number] for line, contexts in by_line.items()
        }
    return {"tests": list(number), "seconds": list(seconds.values()), "lines": lines}


def git(root: Path, *words: str) -> str:
    """Return the output of a git command in ``root``."""
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
