"""Run ``otelflow doctor`` as a command, and read its findings."""

from __future__ import annotations

import json

from programs import command

ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
CLEARED_VARIABLES = {
    name: ""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in (name, name.lower())
}
"""Cleared variables: a machine may set them, and they would change the findings."""


class Diagnosis:
    """The findings of one run of the command."""

    def __init__(self, *words: str, **environment: str) -> None:
        result = command(
            "doctor", "--json", *words, **{"OTEL_SERVICE_NAME": "doctor-test", **CLEARED_VARIABLES, **environment}
        )
        assert result.stderr == "", result.stderr
        self.status = result.returncode
        self.output = result.stdout
        report = json.loads(result.stdout)
        self.next, self.trace_id = report["next"], report["trace_id"]
        self.findings = report["findings"]
        assert self.status == (0 if report["ok"] else 1)

    def of(self, name: str) -> str:
        """Return the findings with this name, one per line: the sign and the text."""
        return "\n".join(
            f"{finding['sign']}: {finding['text']}" for finding in self.findings if finding["name"] == name
        )


def localhost_url(port: int, scheme: str = "http") -> str:
    """Return a URL of localhost."""
    return f"{scheme}://localhost:{port}"
