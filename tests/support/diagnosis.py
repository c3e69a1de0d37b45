"""``otelflow doctor`` run as a command, and what it found."""

from __future__ import annotations

import json

from programs import command

ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
OWN = {
    name: ""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in (name, name.lower())
}
"""What a machine may have set, and would answer for what is tested."""


class Diagnosis:
    """What one run of the command found."""

    def __init__(self, *words: str, **environment: str) -> None:
        done = command("doctor", "--json", *words, **{"OTEL_SERVICE_NAME": "doctor-test", **OWN, **environment})
        assert done.stderr == "", done.stderr
        self.status = done.returncode
        self.said = done.stdout
        found = json.loads(done.stdout)
        self.next, self.trace_id = found["next"], found["trace_id"]
        self.findings = found["findings"]
        assert self.status == (0 if found["ok"] else 1)

    def of(self, name: str) -> str:
        """The findings of this name, a line each: the sign, and what it says."""
        return "\n".join(f"{one['sign']}: {one['text']}" for one in self.findings if one["name"] == name)


def local(port: int, scheme: str = "http") -> str:
    return f"{scheme}://localhost:{port}"
