"""The headers that an exporter adds: their names, and what is wrong with how they are written."""

from __future__ import annotations

from opentelemetry.util.re import parse_env_headers

from otelflow._doctor.report import UNUSABLE, Report, Secrets
from otelflow._otlp.endpoint import Endpoint

__all__ = ["check_headers", "header_names"]


def header_names(target: Endpoint) -> list[str]:
    """The names of the headers that the environment adds."""
    return [name for entry in target.headers.text.split(",") for name in parse_env_headers(entry, liberal=True)]


def check_headers(report: Report, target: Endpoint, secrets: Secrets) -> None:
    """Say which headers are sent, never their values, and which entries are left out or incomplete."""
    text, variable = target.headers
    _netrc(report, target)
    if not text:
        report.ok("headers", "none", variable)
        return
    secrets.add([text, *text.split(","), *(part for entry in text.split(",") for part in entry.split("=", 1)[1:])])
    good = []
    for number, entry in enumerate(text.split(","), 1):
        if not entry.strip():
            continue
        parsed = parse_env_headers(entry, liberal=True)
        secrets.add(parsed.values())
        if not parsed:
            why = "has no '=' between name and value" if "=" not in entry else "has characters that are not allowed"
            report.wrong(
                "headers",
                f"entry {number} of {variable} {why}: it is left out",
                f"Write {variable} as name=value,name=value, percent-encoded (a space is %20, a quotation mark %22).",
                source=variable,
                rank=UNUSABLE,
            )
        for name, value in parsed.items():
            good.append(name)
            _value(report, name, value, entry, variable)
    if good:
        report.ok("headers", f"{', '.join(good)} (values hidden)", variable)


def _value(report: Report, name: str, value: str, entry: str, variable: str) -> None:
    if not value or value.lower() in ("bearer", "basic"):
        report.warn("headers", f"{name} has no value", f"Give {name} its value in {variable}.", source=variable)
    elif " " in entry.partition("=")[2].strip():
        # OTLP exporter specification, headers: as in W3C Baggage, so percent-encoded. Python takes it as it is.
        report.warn("headers", f"{name} has a space that is not %20: Python takes it, other SDKs may not")


def _netrc(report: Report, target: Endpoint) -> None:
    """requests puts what a netrc file has for the host over an authorization header of ours."""
    if target.is_grpc:
        return
    from requests.utils import get_netrc_auth

    if get_netrc_auth(target.url):
        report.warn(
            "headers",
            f"a netrc file has credentials for {target.host}: they go before an authorization header",
            "Take the host out of the netrc file, or set NETRC=/dev/null.",
        )
