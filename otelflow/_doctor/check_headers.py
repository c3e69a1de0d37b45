"""Check the headers that an exporter adds: report their names, and entries that are written wrongly."""

from __future__ import annotations

from opentelemetry.util.re import parse_env_headers

from otelflow._doctor.report import UNUSABLE, Report, Secrets
from otelflow._otlp.endpoint import Endpoint

__all__ = ["check_headers", "header_names"]


def header_names(target: Endpoint) -> list[str]:
    """Return the names of the headers that the environment adds."""
    return [name for entry in target.headers.text.split(",") for name in parse_env_headers(entry, liberal=True)]


def check_headers(report: Report, target: Endpoint, secrets: Secrets) -> None:
    """Report the names of the headers, never their values, and the entries that are ignored or incomplete."""
    text, variable = target.headers
    _check_netrc(report, target)
    if not text:
        report.ok("headers", "none", variable)
        return
    secrets.add([text, *text.split(","), *(part for entry in text.split(",") for part in entry.split("=", 1)[1:])])
    names = []
    for number, entry in enumerate(text.split(","), 1):
        if not entry.strip():
            continue
        parsed = parse_env_headers(entry, liberal=True)
        secrets.add(parsed.values())
        if not parsed:
            reason = "has no '=' between name and value" if "=" not in entry else "has characters that are not allowed"
            report.error(
                "headers",
                f"entry {number} of {variable} {reason}: it is ignored",
                f"Write {variable} as name=value,name=value, percent-encoded (a space is %20, a quotation mark %22).",
                source=variable,
                rank=UNUSABLE,
            )
        for name, value in parsed.items():
            names.append(name)
            _check_value(report, name, value, entry, variable)
    if names:
        report.ok("headers", f"{', '.join(names)} (values hidden)", variable)


def _check_value(report: Report, name: str, value: str, entry: str, variable: str) -> None:
    if not value or value.lower() in ("bearer", "basic"):
        report.warn("headers", f"{name} has no value", f"Give {name} its value in {variable}.", source=variable)
    elif " " in entry.partition("=")[2].strip():
        # OTLP exporter specification, headers: as in W3C Baggage, so percent-encoded. Python accepts a plain space.
        report.warn("headers", f"{name} has a space that is not %20: Python accepts it, other SDKs may not")


def _check_netrc(report: Report, target: Endpoint) -> None:
    """Report credentials for the host in a netrc file: ``requests`` replaces our authorization header by them."""
    if target.is_grpc:
        return
    from requests.utils import get_netrc_auth

    if get_netrc_auth(target.url):
        report.warn(
            "headers",
            f"a netrc file has credentials for {target.host}: they replace an authorization header",
            "Remove the host from the netrc file, or set NETRC=/dev/null.",
        )
