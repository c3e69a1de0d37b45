"""Artifacts stored in S3, and in an S3 server that does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from artifact_stores import ROWS, STORES
from programs import run as program


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server for the S3 protocol on a free port, with a bucket."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto with its server is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **credentials).create_bucket(Bucket="artifacts")
    yield endpoint
    server.stop()


def test_s3(s3: str) -> None:
    """The artifact is complete when the program has ended, at the URI that the event has."""
    source = STORES + "makes(rows).execute()\nsay(event=event(), dropped=stats().dropped)"
    result = program(
        source,
        OTELFLOW_ARTIFACT_STORE="s3://artifacts/runs",
        AWS_ENDPOINT_URL=s3,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
    )
    import boto3

    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client: Any = boto3.client("s3", endpoint_url=s3, **credentials)
    (stored_object,) = client.list_objects_v2(Bucket="artifacts")["Contents"]
    assert result.facts["event"]["otelflow.artifact.uri"] == f"s3://artifacts/{stored_object['Key']}", result.stderr
    body = client.get_object(Bucket="artifacts", Key=stored_object["Key"])["Body"].read()
    assert json.loads(body) == ROWS
    assert "dropped" in result.facts


def test_a_dead_s3(tmp_path: Path) -> None:
    """A server accepts connections and never answers: the program ends within its limit, and logs what is missing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as dead:
        result = program(
            STORES + "makes(rows).execute()\nsay(event=event())",
            timeout=30,
            OTELFLOW_ARTIFACT_STORE="s3://artifacts",
            OTELFLOW_EXIT_SECONDS="0.5",
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{dead.getsockname()[1]}",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
        )
    assert result.returncode == 0
    assert "otelflow.artifact.data" in result.facts["event"]
    assert "Artifacts are not stored in s3://artifacts" in result.stderr or "could not be stored" in result.stderr
