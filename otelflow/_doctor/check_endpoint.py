"""Check an endpoint's settings before anything is sent: protocol, URL, TLS files, headers, proxy, limits."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from otelflow._doctor.check_headers import check_headers
from otelflow._doctor.report import MINOR, UNUSABLE, Report, Secrets
from otelflow._otlp.endpoint import GRPC, GRPC_PORT, HTTP, HTTP_PORT, Endpoint, otlp_setting, signal_path
from otelflow._secrets.urls import redacted_url

__all__ = ["OPTION", "check_endpoint_settings", "path_advice", "proxy_of", "swap_advice"]

OPTION = "--endpoint"
"""Source of an endpoint that comes from the command's option."""

PATH = signal_path("traces")

_LONG_SECONDS = 600


def check_endpoint_settings(report: Report, target: Endpoint, secrets: Secrets) -> None:
    """Report what will be called and how, and warn of probable mistakes."""
    _check_unused_variables(report, target)
    _check_protocol(report, target)
    _check_url(report, target)
    _check_host(report, target)
    _check_tls_files(report, target)
    check_headers(report, target, secrets)
    _check_compression(report, target)
    _check_timeout(report, target)
    _check_proxy(report, target, secrets)


def _check_unused_variables(report: Report, target: Endpoint) -> None:
    for name in ("ENDPOINT", "PROTOCOL", "HEADERS", "COMPRESSION", "TIMEOUT", "CERTIFICATE", "INSECURE"):
        general, specific = f"OTEL_EXPORTER_OTLP_{name}", f"OTEL_EXPORTER_OTLP_TRACES_{name}"
        if name == "PROTOCOL" and target.protocol_source.startswith("--"):
            continue
        if os.environ.get(general) and os.environ.get(specific):
            report.warn("no effect", f"{general} has no effect on traces: {specific} is set, and is used instead")
    if target.source == OPTION and otlp_setting("ENDPOINT").text:
        report.skip("endpoint", f"{otlp_setting('ENDPOINT').source} is not checked: --endpoint is set")


def _check_protocol(report: Report, target: Endpoint) -> None:
    other, usual = (HTTP, HTTP_PORT) if target.is_grpc else (GRPC, GRPC_PORT)
    if target.port == usual:
        report.warn(
            "protocol",
            f"{target.protocol}, but {usual} is the port for {other}",
            swap_advice(target),
            source=target.protocol_source,
        )
    else:
        report.ok("protocol", target.protocol, target.protocol_source)


def swap_advice(target: Endpoint) -> str:
    """Return advice on how to use the other protocol, or the other port."""
    other, other_port = (HTTP, HTTP_PORT) if target.is_grpc else (GRPC, GRPC_PORT)
    own_port = GRPC_PORT if target.is_grpc else HTTP_PORT
    if target.port == other_port:
        # This is the other protocol's usual port, so the protocol is wrong.
        return f"Set OTEL_EXPORTER_OTLP_PROTOCOL={other}, or call port {own_port} with {target.protocol}."
    return f"Set OTEL_EXPORTER_OTLP_PROTOCOL={other}, or call the port for {target.protocol} (usually {own_port})."


def _check_url(report: Report, target: Endpoint) -> None:
    parts = urlsplit(target.url if "://" in target.url else f"//{target.url}")
    general = "OTEL_EXPORTER_OTLP_ENDPOINT"
    if target.is_grpc:
        _check_grpc_url(report, target, parts.scheme, parts.path, "@" in parts.netloc)
    elif parts.path.rstrip("/").endswith(PATH * 2):
        report.error(
            "url",
            f"{target.display_url}: the path is doubled, because {PATH} is appended to {general}",
            f"Remove {PATH} from {general}, or set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT instead.",
            source=target.source,
            rank=UNUSABLE,
        )
    elif target.source == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
        if parts.path.rstrip("/").endswith(PATH):
            report.ok("url", f"{target.display_url} (used unchanged)", target.source)
        else:
            report.warn(
                "url",
                f"{target.display_url}: used unchanged, nothing is appended, but most receivers expect {PATH}",
                path_advice(target),
                source=target.source,
            )
    elif target.source == OPTION:
        report.ok("url", target.display_url, target.source)
    else:
        report.ok("url", f"{target.display_url} ({PATH} is appended)", target.source)
    if not target.is_grpc and parts.port is None:
        report.warn("url", f"no port: {target.port} is called (OTLP over HTTP usually uses {HTTP_PORT})")


def _check_grpc_url(report: Report, target: Endpoint, scheme: str, path: str, has_user: bool) -> None:
    general = "OTEL_EXPORTER_OTLP_ENDPOINT"
    if target.source == "default" and general in os.environ:
        report.error(
            "url",
            f"{general} is set, but empty: the gRPC exporter uses the empty text as an address",
            f"Unset {general}, or set it.",
            source=general,
            rank=UNUSABLE,
        )
    elif has_user:
        report.error(
            "url",
            f"{target.display_url}: a gRPC endpoint has no user and password, they become a part of the host",
            "Remove them from the endpoint, and set OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20….",
            source=target.source,
            rank=UNUSABLE,
        )
    else:
        report.ok("url", target.display_url, target.source)
    if path.strip("/"):
        report.warn("url", f"gRPC has no paths: {path} is ignored")
    if not scheme:
        security = "plain text, because of OTEL_EXPORTER_OTLP_INSECURE" if not target.tls else "TLS"
        report.warn(
            "url",
            f"no scheme: the gRPC exporter uses {security}",
            f"Write http://{target.host_and_port} for plain text, https://{target.host_and_port} for TLS.",
        )
    if urlsplit(target.url if scheme else f"//{target.url}").port is None:
        report.warn("url", f"no port: {target.port} is called (OTLP over gRPC usually uses {GRPC_PORT})")


def path_advice(target: Endpoint) -> str:
    """Return advice on how to set the path for traces."""
    if target.source == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
        base = redacted_url(target.url).rstrip("/")
        return f"Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={base}{PATH}, or OTEL_EXPORTER_OTLP_ENDPOINT={base}."
    return "Set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the full URL for traces from the receiver's documentation."


def _check_host(report: Report, target: Endpoint) -> None:
    if target.host in ("0.0.0.0", "::"):
        report.warn(
            "host",
            f"{target.host} is an address for a server to listen on, not to call",
            "Call localhost, or the server's name.",
        )


def _check_tls_files(report: Report, target: Endpoint) -> None:
    for content, (path, variable) in {
        "the certificates to trust": target.certificate,
        "the client's certificate": target.client_certificate,
        "the client's key": target.client_key,
    }.items():
        if not path:
            continue
        if not target.tls:
            report.warn("tls", f"{variable} has no effect: TLS is not used", "Write https:// to use TLS.")
        elif reason := _file_problem(path):
            report.error(
                "tls",
                f"{content}, {path!r}, {reason}",
                f"Set {variable} to a PEM file that this user can read.",
                source=variable,
                rank=UNUSABLE,
            )
        else:
            report.ok("tls", f"{content}: {path}", variable)
    if target.client_key.text and not target.client_certificate.text:
        report.warn("tls", f"{target.client_key.source} has no effect without OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
    insecure, variable = target.insecure
    if insecure and (not target.is_grpc or target.url.startswith("https")):
        report.warn("tls", f"{variable} has no effect here: the scheme {target.url.partition(':')[0]}:// decides")
    elif insecure and target.tls and target.url.startswith("http:"):
        report.warn(
            "tls", f"TLS is used with an http:// endpoint, because {variable} is {insecure!r}", f"Unset {variable}."
        )


def _file_problem(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return "" if b"-----BEGIN" in file.read() else "is not a PEM file"
    except IsADirectoryError:
        return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _check_compression(report: Report, target: Endpoint) -> None:
    compression, source = target.compression
    supported = ("none", "gzip") if target.is_grpc else ("none", "gzip", "deflate")
    if compression.strip().lower() in ("", *supported):
        report.ok("compression", compression or "none", source)
    else:
        report.warn(
            "compression",
            f"{compression!r} is not known to the exporter",
            f"Set {source} to one of {', '.join(supported)}.",
            source=source,
            rank=UNUSABLE,
        )


def _check_timeout(report: Report, target: Endpoint) -> None:
    text, source = target.timeout
    try:
        seconds = float(text or 10)
    except ValueError:
        report.error(
            "timeout",
            f"{text!r} is not a number",
            f"Set {source} to a number of seconds.",
            source=source,
            rank=UNUSABLE,
        )
        return
    if seconds <= 0:
        report.error(
            "timeout",
            f"{seconds:g} s: every request times out at once",
            f"Unset {source}.",
            source=source,
            rank=UNUSABLE,
        )
    elif seconds >= _LONG_SECONDS:
        # OTLP exporter specification: milliseconds. The Python exporters have always read seconds.
        report.warn(
            "timeout",
            f"{seconds:g} seconds: Python's exporters read seconds, other SDKs milliseconds",
            f"Set {source} to seconds.",
            source=source,
        )
    else:
        report.ok("timeout", f"{seconds:g} s for each request with all its retries", source)


def proxy_of(target: Endpoint) -> tuple[str, str]:
    """Return the proxy that requests go through, and the variable that names it; "" for none."""
    if not target.is_grpc:
        from requests.utils import get_environ_proxies, select_proxy

        proxy = select_proxy(target.url, get_environ_proxies(target.url, no_proxy=None)) or ""
        names = [f"{kind}_proxy" for kind in (urlsplit(target.url).scheme, "all")]
        variables = [variable for name in names for variable in (name, name.upper())]
        return proxy, next((name for name in variables if proxy and os.environ.get(name)), "the system's settings")
    # gRPC core, environment variables: in this order, lower case only; an exception includes all subdomains.
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        if proxy := os.environ.get(variable, ""):
            no_proxy = next(filter(None, map(os.environ.get, ("no_grpc_proxy", "no_proxy"))), "")
            suffixes = [suffix.strip() for suffix in no_proxy.split(",") if suffix.strip()]
            is_excepted = any(target.host.endswith(suffix) for suffix in suffixes)
            return ("", "") if is_excepted else (proxy, variable)
    return "", ""


def _check_proxy(report: Report, target: Endpoint, secrets: Secrets) -> None:
    proxy, variable = proxy_of(target)
    if not proxy:
        return
    secrets.add_url(proxy)
    report.warn(
        "proxy",
        f"requests go through {redacted_url(proxy)}",
        f"Add {target.host} to NO_PROXY (gRPC reads only no_proxy) to call it directly.",
        source=variable,
        rank=MINOR,
    )
