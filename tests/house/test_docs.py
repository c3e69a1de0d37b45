"""Documentation is code: the README's examples run, the examples folder runs, links and tables hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import programs
import pytest
from programs import command

from otelflow import FlowRunConfig, config
from otelflow._instrument.config_file import read_config_file

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

EVALUATE = """
import sys
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from pathlib import Path
document = Sybil(parsers=[PythonCodeBlockParser()]).parse(Path(sys.argv[1]))
number = 0
for example in document.examples():
    number += 1
    example.evaluate()
print("SAID {\\"examples\\": %d}" % number)
"""


def test_the_readmes_examples_run() -> None:
    """All of them, in order, in one process, sending nowhere."""
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(ROOT / "README.md")],
        env=programs.clean_environment(OTEL_TRACES_EXPORTER="none"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f'"examples": {README.count("```python")}' in done.stdout


def test_the_readmes_configuration_can_be_read(tmp_path: Path) -> None:
    """The file that it shows has no mistake."""
    (shown,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "otelflow.toml").write_text(shown)
    settings = read_config_file(tmp_path / "otelflow.toml")
    assert (len(settings.targets), settings.problems) == (3, [])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_the_examples_run(name: str, tmp_path: Path) -> None:
    """Each program in examples/, on a folder of its own, ends well and prints its tree."""
    (tmp_path / "small.py").write_text("x = 1\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), str(tmp_path)],
        env=programs.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "━" in done.stderr


def test_the_readme_names_every_setting() -> None:
    """Every field of FlowRunConfig with its default, and every OTELFLOW variable."""
    for field in fields(FlowRunConfig):
        assert f"`{field.name}`" in README
        if isinstance(field.default, bool):
            assert re.search(rf"`{field.name}` \| {field.default} ", README)
    for name in dir(config):
        if name.startswith("OTELFLOW_"):
            assert f"| `{name}` |" in README


def test_the_readmes_commands_have_their_options() -> None:
    """Each option that stands behind ``otelflow COMMAND`` is one of that command's."""
    shown = re.findall(r"otelflow (check|demo|doctor|run|show)\b([^`|\n]*)", README)
    assert len(shown) > 10
    for name, words in shown:
        own = re.split(r"\s(?:--\s|-m\s|\S+\.py\b|\S+:\S+)", words)[0] if name in ("run", "check") else words
        known = command(name, "--help").stdout
        for option in re.findall(r"--[a-z-]+", own):
            assert f"{option} " in known or f"{option}\n" in known, (name, option)


def test_links_point_to_files() -> None:
    """Relative links of the README and CONTRIBUTING lead somewhere."""
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert target.startswith("http") or (ROOT / target).exists(), target


MADE_OF_THE_RESULTS = """
import json, graph, report
found = report.load()
rows = {group: [row["name"] for row in result.get("rows", [])] for group, result in found.items()}
goals = [(group, name) for group, names in report.GOALS.items() for name in names if name not in rows.get(group, [])]
print(json.dumps([report.page(found), report.readme(found), graph.drawn(report.shown(found)), goals]))
"""


def test_the_figures_shown_are_those_of_the_last_benchmark() -> None:
    """The page of results, the README's table and the graph are what ``make bench`` makes of ``results.json``, which
    has a row for every goal."""
    folder = ROOT / "benchmarks"
    made = subprocess.run(
        [sys.executable, "-c", MADE_OF_THE_RESULTS], cwd=folder / "harness", capture_output=True, check=True
    )
    page, table, graph, not_measured = json.loads(made.stdout)
    assert not_measured == []
    assert (folder / "RESULTS.md").read_text(encoding="utf-8") == page
    assert (folder / "results.svg").read_text(encoding="utf-8") == graph
    assert f"<!-- bench -->\n{table}\n<!-- /bench -->" in README
