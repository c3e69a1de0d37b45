"""Dashboards and alert rules.

Their generator writes them, Grafana's types and parsers accept them, and a real Prometheus answers them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backends import PROMETHEUS_VERSION, Backends, missing_backend, running_backends
from processes import tool
from programs import run
from services import until

from dashboards import FILES, FOLDER, Query, panel_queries, panels, variable_queries


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Any:
    """Return each dashboard."""
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_the_files_are_what_their_generator_writes() -> None:
    """`python -m generate` in the folder `dashboards` changes nothing."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk needs Python 3.11")
    program = "import json\nfrom generate.all import as_json\nprint(json.dumps(as_json()))"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=FOLDER,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == {path.name: path.read_text(encoding="utf-8") for path in FILES}


def test_a_round_trip_through_the_sdk_types_changes_nothing(dashboard: Any) -> None:
    """A dashboard that is read into the SDK's types and written again is the same."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk needs Python 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    for version in (again, dashboard):
        for panel in panels(version):
            if panel["datasource"]["type"] == "jaeger":  # the SDK has no type for its queries
                del panel["targets"]
    assert is_within(dashboard, again)


def is_within(part: Any, whole: Any) -> bool:
    """Return whether ``whole`` has all values of ``part``. The SDK adds default values."""
    if isinstance(part, dict):
        return all(key in whole and is_within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(is_within, part, whole))
    return bool(part == whole)


def test_every_panel_is_described(dashboard: Any) -> None:
    """Each has a title, a description, a unit, and a text for no data. Data sources are variables."""
    variables = {item["name"] for item in dashboard["templating"]["list"] if item["type"] == "datasource"}
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles)) > 5
    for panel in panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith(".")
        assert defaults["unit"]
        assert defaults["noValue"]
        for query in (panel, *panel["targets"]):
            assert query["datasource"]["uid"].strip("${}") in variables


def test_no_two_panels_overlap(dashboard: Any) -> None:
    """Each cell of the grid belongs to one panel."""
    titles: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert (x, y) not in titles, (panel["title"], titles[x, y])
                titles[x, y] = panel["title"]


@pytest.mark.parametrize("query", [*panel_queries(), *variable_queries()], ids=lambda query: query.panel)
def test_promql_parses(query: Query) -> None:
    """An independent parser accepts each query."""
    parser = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    if query.kind == "prometheus":
        parser.parse(query.text)


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Return the folder of Grafana's types and its TraceQL parser, from npm, outside the repository."""
    folder = tool("grafana-types-12.4.10")
    if shutil.which("node") is None or folder is None or not (folder / "done").exists():
        pytest.skip("Grafana's types are not there: run .ci/grafana-types (needs npm)")
    return folder / "node_modules"


JSON_OF = """
import type { Dashboard } from '@grafana/schema';
type Json<T> =
    T extends string ? `${T}` :  // the values of an enum
    T extends number | boolean | null | undefined ? T :
    T extends (infer One)[] ? readonly Json<One>[] :
    T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;
"""


def test_typescript_accepts_the_dashboards(node_modules: Path, dashboard: Any, tmp_path: Path) -> None:
    """The JSON is a Dashboard of @grafana/schema. With a value of a wrong type, it is not."""
    (tmp_path / "node_modules").symlink_to(node_modules)
    compiler = ["node", str(node_modules / "typescript/bin/tsc"), "--noEmit", "--skipLibCheck", "--strict"]

    def compiler_errors(value: Any) -> str:
        source = tmp_path / "check.ts"
        source.write_text(
            f"{JSON_OF}const value = {json.dumps(value)} as const;\nexport const checked: Json<Dashboard> = value;\n"
        )
        command = [*compiler, "--moduleResolution", "node", str(source)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert compiler_errors(dashboard) == ""
    assert "'refresh' are incompatible" in compiler_errors({**dashboard, "refresh": 30})


def test_traceql_parses(node_modules: Path) -> None:
    """Grafana's own grammar accepts each query."""
    queries = [query.text for query in panel_queries() if query.kind == "tempo"]
    assert len(queries) == 2
    program = """
    const { parser } = require("@grafana/lezer-traceql");
    for (const text of JSON.parse(process.argv[1])) {
        let wrong = false;
        parser.parse(text).iterate({ enter: (node) => { wrong ||= node.type.isError; } });
        console.log(wrong ? "wrong" : "right");
    }
    """
    result = subprocess.run(
        ["node", "-e", program, json.dumps([*queries, "{ span.x = } nothing"])],
        cwd=node_modules.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["right", "right", "wrong"]


def test_promtool_accepts_the_alert_rules() -> None:
    """They are valid, fire when they should, and do not fire when they should not."""
    promtool = tool(f"promtool-{PROMETHEUS_VERSION}")
    if promtool is None:
        pytest.skip("promtool is not built: run .ci/prometheus (needs Go)")
    folder = FOLDER / "prometheus"
    tests = [str(path) for path in sorted((folder / "rules-tests").glob("*.yml"))]
    assert tests
    for arguments in (("check", "rules", "rules/otelflow.yml"), ("test", "rules", *tests)):
        result = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    result = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


PROGRAM = """
import time
from otelflow import configure, flow, flush, task

@task
def step(fails):
    if fails: raise LookupError("no")

@flow
def nightly(fails): step(fails)

configure("shop", metrics=True)
for number in range(8):
    for _ in range(4):
        try: nightly(number % 3 == 0).execute()
        except LookupError: pass
    flush()
    time.sleep(0.6)
"""

EMPTY = {
    "Failed, a week ago",
    "p95, a week ago",
    "Runs, a week ago",
    "Left out, by reason",
}
"""Panels without data in this test: it takes seconds, and loses nothing."""


@pytest.mark.skipif(missing_backend() is not None, reason=str(missing_backend()))
def test_prometheus_answers_every_panel() -> None:
    """With the metrics of a real program, each query has data, and none is refused."""
    with running_backends() as backends:
        run(PROGRAM, head="", OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp)
        until(lambda: backends.query("otelflow_flow_duration_seconds_count"), "metrics")
        until(lambda: panel_value(backends, "Runs") == 32, "all runs")  # a scrape may be before the last export
        queries = [query for query in panel_queries(flow="nightly") if query.kind == "prometheus"]
        queries += variable_queries()
        assert len(queries) > 40
        has_data_by_panel: dict[tuple[str, str], bool] = {}
        for query in queries:
            key = query.dashboard, query.panel
            has_data_by_panel[key] = bool(backends.query(query.text)) or has_data_by_panel.get(key, False)
        assert {panel for (_, panel), has_data in has_data_by_panel.items() if not has_data} == EMPTY
        values = {panel: panel_value(backends, panel) for panel in ("Runs", "Failures", "Spans lost")}
        assert values == {"Runs": 32, "Failures": 12, "Spans lost": 0}


def panel_value(backends: Backends, panel: str) -> float:
    """Return the number that a panel of *Flows* shows."""
    (query,) = (q for q in panel_queries(flow="nightly") if (q.dashboard, q.panel) == ("Flows", panel))
    ((_, value),) = backends.query(query.text)
    return value


ONCE = """
import sys
from otelflow import configure, flow, task

@task
def step(): pass

@flow
def nightly(fails):
    for _ in range(1000): step()
    if fails: raise LookupError("no")

configure("cron", metrics=True)
nightly("fails" in sys.argv).execute()
"""


@pytest.mark.skipif(missing_backend() is not None, reason=str(missing_backend()))
def test_processes_that_run_once_are_counted(tmp_path: Path) -> None:
    """Each process runs one flow and exports once. Every run, failure and lost span is counted."""
    program = tmp_path / "once.py"
    program.write_text(ONCE)
    with running_backends() as backends:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": backends.otlp, "OTELFLOW_QUEUE_SIZE": "50"}
        for args, code in (([], 0), (["fails"], 1), ([], 0)):
            result = subprocess.run([sys.executable, program, *args], env=environment, capture_output=True, text=True)
            assert result.returncode == code, result.stderr
        until(lambda: len(backends.query("otelflow_flow_duration_seconds_count")) == 3, "metrics")
        assert {panel: panel_value(backends, panel) for panel in ("Runs", "Failures")} == {"Runs": 3, "Failures": 1}
        ((_, dropped),) = backends.query("sum(otelflow_dropped_total)")
        assert panel_value(backends, "Spans lost") == dropped > 0
