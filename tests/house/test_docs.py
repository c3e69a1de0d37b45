"""Test the documentation: the README's examples and the programs in ``examples/`` run, links and tables are right."""

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
print("FACTS {\\"examples\\": %d}" % number)
"""


def test_the_readmes_examples_run() -> None:
    """All of them run, in order, in one process, and send nothing."""
    process = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(ROOT / "README.md")],
        env=programs.clean_environment(OTEL_TRACES_EXPORTER="none"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert f'"examples": {README.count("```python")}' in process.stdout


def test_the_readmes_configuration_can_be_read(tmp_path: Path) -> None:
    """The configuration file in the README has no mistake."""
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "otelflow.toml").write_text(text)
    settings = read_config_file(tmp_path / "otelflow.toml")
    assert (len(settings.targets), settings.problems) == (3, [])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_the_examples_run(name: str, tmp_path: Path) -> None:
    """Each program in examples/ succeeds in an empty folder, and prints its tree."""
    (tmp_path / "small.py").write_text("x = 1\n")
    process = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), str(tmp_path)],
        env=programs.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "━" in process.stderr


def test_the_readme_names_every_setting() -> None:
    """The README has every field of FlowRunConfig with its default, and every OTELFLOW variable."""
    for field in fields(FlowRunConfig):
        assert f"`{field.name}`" in README
        if isinstance(field.default, bool):
            assert re.search(rf"`{field.name}` \| {field.default} ", README)
    for name in dir(config):
        if name.startswith("OTELFLOW_"):
            assert f"| `{name}` |" in README


def test_the_readmes_commands_have_their_options() -> None:
    """Each option after ``otelflow COMMAND`` in the README is an option of that command."""
    commands = re.findall(r"otelflow (check|demo|doctor|run|show)\b([^`|\n]*)", README)
    assert len(commands) > 10
    for name, words in commands:
        options = re.split(r"\s(?:--\s|-m\s|\S+\.py\b|\S+:\S+)", words)[0] if name in ("run", "check") else words
        help_text = command(name, "--help").stdout
        for option in re.findall(r"--[a-z-]+", options):
            assert f"{option} " in help_text or f"{option}\n" in help_text, (name, option)


def test_links_point_to_files() -> None:
    """The files of relative links in the README and CONTRIBUTING exist."""
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert target.startswith("http") or (ROOT / target).exists(), target


GENERATE_FROM_RESULTS = """
import json, graph, report
results = report.load()
rows = {group: [row["name"] for row in result.get("rows", [])] for group, result in results.items()}
goals = [(group, name) for group, names in report.GOALS.items() for name in names if name not in rows.get(group, [])]
print(json.dumps([report.page(results), report.readme(results), graph.draw(report.readme_rows(results)), goals]))
"""


def test_the_figures_are_those_of_the_last_benchmark() -> None:
    """The page of results, the README's table and the graph match ``results.json``, which has a row for every goal."""
    folder = ROOT / "benchmarks"
    process = subprocess.run(
        [sys.executable, "-c", GENERATE_FROM_RESULTS], cwd=folder / "harness", capture_output=True, check=True
    )
    page, table, graph, not_measured = json.loads(process.stdout)
    assert not_measured == []
    assert (folder / "RESULTS.md").read_text(encoding="utf-8") == page
    assert (folder / "results.svg").read_text(encoding="utf-8") == graph
    assert f"<!-- bench -->\n{table}\n<!-- /bench -->" in README
