"""The house: modules stand on floors, each imports only what lies below, and nobody walks in circles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
ROOT = TOP / "otelflow"
HOUSES = {"otelflow": ROOT, "otelflow_exporters": TOP / "exporters" / "otelflow_exporters"}
"""The packages, each with its folder."""

FLOORS = [
    [
        "_instrument",
        "_doctor",
        "_propagation",
        "_providers",
        "_runs",
        "_events",
        "_export",
        "_otlp",
        "_metrics",
        "_artifacts",
        "_spans",
        "_values",
        "_runtime",
        "_secrets",
        "_secrets.names",
        "_secrets.patterns",
        "_secrets.key_values",
        "_secrets.detect",
    ],
    [
        "_runtime.clock",
        "_runtime.fork",
        "errors",
        "attributes",
        "context",
        "_version",
        "_runtime.names",
        "_runtime.run_ids",
        "_runtime.drop_counts",
        "_runtime.log_once",
        "_runs.callable_kind",
    ],
    ["_runtime.waiting", "_otlp.response", "_otlp.grpc_fork", "_export.loss_log"],
    ["_runtime.watchdog"],
    ["_runtime.exit_hooks"],
    [
        "_export.queue",
        "_export.delivery",
        "_otlp.http_sender",
        "_otlp.grpc_sender",
        "_otlp.attribute_encoder",
    ],
    ["_spans.lazy_span", "_spans.shared_attributes"],
    [
        "config",
        "events",
        "records",
        "_runtime.stdout_capture",
        "_runs.injection",
        "_spans.processor_hooks",
        "_spans.unsampled_span",
    ],
    ["_spans.lean_span", "_spans.lean_tracer", "_spans.tracer", "_runs.wrapper"],
    ["_metrics.measurements", "_values.scrub", "_otlp.resource_encoder", "_otlp.shared_attribute_encoder"],
    ["_otlp.span_encoder"],
    ["_otlp.request_encoder"],
    [
        "_values.small_json",
        "_values.text",
        "_values.attribute",
        "_events.run_memory",
        "listeners",
        "_spans.id_generator",
    ],
    [
        "_otlp.exporter",
        "_spans.span_limits",
        "_spans.event_overflow",
        "_export.batch_processor",
        "_export.registry",
        "_export.settings",
    ],
    ["_export.processors", "_spans.span_events", "_providers.exporters"],
    ["_metrics.instruments", "_providers.logger_provider", "_providers.tracer_provider"],
    ["_providers.meter_provider"],
    [
        "_values.traceback",
        "_runs.definition",
        "_runs.baggage",
        "providers",
        "_propagation.pickling",
    ],
    ["_artifacts.storage", "_artifacts.json_writer", "_artifacts.store"],
    ["_runs.markers", "_runs.outcome", "_doctor.report"],
    ["_otlp.endpoint", "_doctor.check_variables"],
    ["_doctor.check_headers", "_doctor.check_settings", "_doctor.check_network"],
    ["_doctor.check_endpoint", "_doctor.canary"],
    ["_doctor.explain_response"],
    ["_doctor.diagnose"],
    ["_propagation.recorder"],
    ["_events.emit", "_events.start_stop", "_events.message"],
    ["_events.exception", "_events.outputs"],
    ["_runs.run"],
    ["_runs.drivers", "_runs.run_api"],
    ["_runs.executable"],
    ["_runs.flow_and_task"],
    ["_runs.fast_path"],
    ["_instrument.targets"],
    ["_instrument.argument_attributes", "_instrument.config_file", "_instrument.lookup", "_instrument.import_hook"],
    ["_instrument.wrapped_call", "_instrument.rebinding"],
    ["_instrument.registry"],
    ["_instrument.api", "_instrument.main_module"],
    ["_instrument.call_profile", "_instrument.dry_run", "_instrument.bootstrap", "instrumentation"],
    ["_instrument._site.sitecustomize"],
    ["_propagation.remote_flow", "decorators"],
    ["_propagation.carrier", "_propagation.replay"],
    ["_propagation.worker"],
    ["_propagation.job"],
    ["propagate", "testing._session_export"],
    ["testing._routing", "testing._deterministic", "testing._render", "testing._source_update"],
    ["testing._snapshot"],
    ["testing._captured_run", "testing._expected_tree"],
    ["testing._match", "testing._checks"],
    ["testing._diff"],
    ["testing._capture"],
    ["testing"],
    ["pytest_plugin"],
    ["compat._plain", "compat._config", "compat._collectors", "compat._events", "cli._demo_flow"],
    ["compat._flow"],
    ["compat._decorators"],
    ["compat", "cli._group", "cli._program_command", "cli._completion"],
    ["cli._outputs", "cli._call_flow", "cli._check", "cli._doctor"],
    ["cli._demo", "cli._run"],
    ["cli"],
    ["__init__", "cli.__main__"],
]
"""From the ground up. A module imports only from floors below its own, lazy and TYPE_CHECKING imports counted."""

FLOORS_OF_EXPORTERS = [
    [
        "__init__",
        "_settings",
        "_trace",
        "_trace.span",
        "_trace.from_sdk",
        "_trace.from_json",
        "_trace.markers",
        "_trace.forest",
        "_trace.open_spans",
        "_trace.file_index",
        "_trace.filters",
    ],
    [
        "_terminal",
        "_terminal.text",
        "_terminal.render",
        "_terminal.live_region",
        "_terminal.live_tree",
        "_page",
        "_page.page",
        "_jsonfile",
        "_jsonfile.otlp_json",
        "_jsonfile.rotating_file",
        "_spool",
        "_spool.target",
        "_spool.grpc_fork",
        "_spool.grpc_sender",
        "_spool.http_sender",
        "_spool.record_format",
        "_spool.folder",
        "_spool.acknowledgements",
        "_spool.segment_writer",
        "_spool.delivery",
        "_spool.open_flows",
        "_spool.delivery_thread",
        "_spool.spool",
    ],
    ["jsonfile", "spool", "tree"],
    ["cli", "cli.show", "cli.spool"],
]

FACADES = {"otelflow:__init__", "otelflow:compat", "otelflow:testing"}

TESTS = [path for folder in ("tests", "exporters/tests") for path in sorted((TOP / folder).rglob("*.py"))]
"""The tests, and what supports them."""

LONGEST_FILE = 400
LONGEST_BODY = 40


def modules() -> dict[str, Path]:
    """Every module of the packages, as ``package:name within it``."""
    found = {}
    for package, root in HOUSES.items():
        for path in sorted(root.rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            if parts[-1] == "__init__" and len(parts) > 1:
                parts.pop()
            found[f"{package}:{'.'.join(parts)}"] = path
    return found


MODULES = modules()
ORDER = [
    f"{package}:{name}"
    for package, floors in (("otelflow", FLOORS), ("otelflow_exporters", FLOORS_OF_EXPORTERS))
    for floor in floors
    for name in floor
]


def imports_of(path: Path) -> set[str]:
    """The modules of our packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in HOUSES:
            package, _, inside = node.module.partition(".")
            for alias in node.names:
                name = f"{package}:{f'{inside}.{alias.name}'.removeprefix('.')}"
                found.add(name if name in MODULES else f"{package}:{inside or '__init__'}")
        elif isinstance(node, ast.Import):
            parts = [alias.name.partition(".") for alias in node.names]
            found |= {f"{package}:{inside}" for package, _, inside in parts if package in HOUSES and inside}
    return found


def test_every_module_has_its_floor() -> None:
    """A new module is given its place in FLOORS."""
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    """No import goes up; on one floor only where it stands earlier there, so there can be no circle. The two packages
    know nothing of each other."""
    upwards = {other for other in imports_of(MODULES[name]) if ORDER.index(other) >= ORDER.index(name)}
    assert upwards == set()
    assert {other.partition(":")[0] for other in imports_of(MODULES[name])} <= {name.partition(":")[0]}


@pytest.mark.parametrize("name", sorted(set(MODULES) - FACADES))
def test_nobody_imports_a_facade(name: str) -> None:
    """The facades hand names on to users; inside, a name is imported from where it is."""
    assert not imports_of(MODULES[name]) & FACADES


@pytest.mark.parametrize("name", MODULES)
def test_files_have_one_subject(name: str) -> None:
    """A first docstring line that says what it is for, a sorted __all__, and a length that can be read. An empty
    ``__init__.py`` of a private package has nothing to say."""
    path = MODULES[name]
    if path.name == "__init__.py" and path.parent.name.startswith("_") and not path.read_text():
        return
    tree = ast.parse(MODULES[name].read_text())
    text = ast.get_docstring(tree)
    assert text
    assert re.match(r"[A-Z`].*[.:]$", text.split("\n")[0])
    assert len(MODULES[name].read_text().splitlines()) <= LONGEST_FILE
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert names == sorted(names, key=lambda item: (item.upper() != item, not item[0].isupper(), item))


def test_files_of_tests_can_be_read() -> None:
    """No file of tests is longer than one of the packages may be."""
    lengths = {str(path.relative_to(TOP)): len(path.read_text().splitlines()) for path in TESTS}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}
    assert len(lengths) > 100


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_the_screen(name: str) -> None:
    """No function body is longer than 40 lines, its docstring not counted."""
    too_long = []
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and body[-1].end_lineno is not None and body[-1].end_lineno - body[0].lineno + 1 > LONGEST_BODY:
                too_long.append(node.name)
    assert too_long == []


def test_every_wire_name_is_documented() -> None:
    """Each constant of attributes.py has its meaning under it, and no two have one value."""
    body = ast.parse((ROOT / "attributes.py").read_text()).body
    names = [(node, after) for node, after in zip(body, [*body[1:], None], strict=True) if isinstance(node, ast.Assign)]
    assert all(isinstance(after, ast.Expr) for _, after in names)
    values = [ast.literal_eval(node.value) for node, _ in names]
    assert len(values) == len(set(values)) > 20
