"""Run all checks of ``otelflow doctor``, from the environment variables to a canary span sent to the receiver."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from otelflow._doctor.canary import CanaryResult, make_batch, send
from otelflow._doctor.check_endpoint import OPTION, check_endpoint_settings, proxy_of
from otelflow._doctor.check_network import HTTP1, HTTP2, TLS, check_connection, detect_protocol
from otelflow._doctor.check_settings import OTLP_NAMES, captured_logs, check_settings
from otelflow._doctor.check_variables import check_names, known_names
from otelflow._doctor.explain_response import Explanation, clock_skew, explain, may_be_wrong_protocol
from otelflow._doctor.report import ERROR, UNUSABLE, Report, Secrets
from otelflow._otlp.endpoint import Endpoint
from otelflow._providers.exporters import exporter_names, find_exporter_endpoint, make_exporter
from otelflow._secrets.detect import REDACTED
from otelflow._secrets.urls import redacted_url
from otelflow.errors import ConfigError

__all__ = ["Options", "diagnose"]

_SKEW_SECONDS = 5.0


class Options(NamedTuple):
    """The command's options.

    ``timeout``: seconds for each step. ``size``: bytes of a second, larger request; 0 for none.
    """

    endpoint: str | None = None
    protocol: str | None = None
    timeout: float = 3.0
    send: bool = True
    size: int = 0


def diagnose(options: Options) -> Report:
    """Check everything between a span and its receiver.

    A problem becomes a finding, never an exception. Environment variables and log handlers are restored.
    """
    report, secrets = Report(), Secrets()
    for name, value in os.environ.items():
        if name.endswith("_ENDPOINT") or name.lower().endswith("_proxy"):
            secrets.add_url(value)
    if options.endpoint:
        secrets.add_url(options.endpoint)
    with _temporary_environment(options), captured_logs():
        report.begin("settings")
        known_variables = known_names()
        resource = check_settings(report, secrets)
        report.begin("variables")
        check_names(report, known_variables)
        names = [name for name in exporter_names() if name in OTLP_NAMES]
        report.closing = "To send to a backend, set OTEL_TRACES_EXPORTER=otlp and OTEL_EXPORTER_OTLP_ENDPOINT."
        for name in names or (["otlp"] if options.endpoint else []):
            _check_target(report, name, options, resource, secrets)
    return report


@contextlib.contextmanager
def _temporary_environment(options: Options) -> Iterator[None]:
    """Set the protocol of ``--protocol`` within the block, and keep gRPC from printing in the terminal."""
    variables = {"GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE")}
    if options.protocol:
        variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = options.protocol
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check_target(report: Report, name: str, options: Options, resource: Any, secrets: Secrets) -> None:
    report.begin("endpoint" if name == "otlp" else f"endpoint of {name}")
    try:
        target = find_exporter_endpoint(name, options.endpoint, source=OPTION)
    except ConfigError as error:
        _report_config_error(report, "url", error, secrets, "--endpoint" if options.endpoint else "")
        return
    assert target is not None, name  # each of OTLP_NAMES has one
    if options.protocol:
        target = target._replace(protocol_source="--protocol")
    secrets.add_url(target.url)
    check_endpoint_settings(report, target, secrets)
    if resource is None:
        report.skip("exporter", "not created: the SDK cannot be set up")
        return
    try:
        exporter = make_exporter(name, options.endpoint)
    except ConfigError as error:
        _report_config_error(report, "exporter", error, secrets)
        return
    report.begin("on the way" if name == "otlp" else f"on the way of {name}")
    proxy, _ = proxy_of(target)
    is_reached = check_connection(report, target, proxy, options.timeout)
    if not is_reached or not options.send:
        exporter.shutdown()
        _report_not_sent(report, target, options, proxy, is_reached)
        return
    new_exporter = partial(make_exporter, name, options.endpoint)
    _send_canary(report, target, exporter, new_exporter, resource, options, proxy, secrets)


def _report_config_error(report: Report, name: str, error: ConfigError, secrets: Secrets, option: str = "") -> None:
    """Report an error of ours: its first sentence is the problem, the others are the advice."""
    problem, *advice = re.split(r"\.\s(?=[A-Z])", str(error), maxsplit=1)
    text = secrets.redact(problem)
    if text == REDACTED:
        text = "the value cannot be used; it is not shown, because it looks like a secret"
    name = "protocol" if error.setting.endswith("PROTOCOL") else name
    report.error(name, text, secrets.redact(" ".join(advice)), source=option or error.setting, rank=UNUSABLE)


def _report_not_sent(report: Report, target: Endpoint, options: Options, proxy: str, is_reached: bool) -> None:
    if not is_reached:
        report.skip("canary", "not sent: there is no connection to the receiver")
    else:
        if not proxy and not target.tls:
            _check_port_protocol(report, target, options.timeout)
        report.skip("canary", "not sent, because of --no-send")
        report.closing = "Run it without --no-send: a canary span shows whether the receiver accepts spans."


def _check_port_protocol(report: Report, target: Endpoint, timeout: float) -> None:
    """Check, instead of sending a canary, whether the port speaks the exporter's protocol."""
    protocol = detect_protocol(target.host, target.port, timeout)
    explanation = explain(target, CanaryResult(0.0, error=TimeoutError()), protocol, 0, Secrets())
    if protocol in (TLS, HTTP1 if target.is_grpc else HTTP2):
        report.error("spoken", explanation.text, explanation.advice)
    elif protocol in (HTTP1, HTTP2):
        report.ok("spoken", f"port {target.port} answers in {protocol}")
    else:
        report.warn("spoken", f"port {target.port} answers {protocol}", explanation.advice)


def _send_canary(
    report: Report,
    target: Endpoint,
    exporter: Any,
    new_exporter: Callable[[], Any],
    resource: Any,
    options: Options,
    proxy: str,
    secrets: Secrets,
) -> None:
    batch, trace_id = make_batch(resource)
    result, explanation = _send_and_explain(target, exporter, batch, options.timeout, proxy, 0, secrets)
    has_tls_error = any(finding.name == "tls" and finding.sign == ERROR for finding in report.findings)
    if not explanation.accepted and has_tls_error and (result.error is not None or result.code == "UNAVAILABLE"):
        report.skip("canary", "not accepted: TLS fails, see tls above")
    elif not explanation.accepted:
        is_proxy = proxy and (result.error is not None or result.status in (403, 502, 503, 504))
        proxy_advice = f"Check the proxy {redacted_url(proxy)}, or add {target.host} to NO_PROXY to bypass it."
        report.error("canary", explanation.text, proxy_advice if is_proxy else explanation.advice)
    else:
        report.trace_id = trace_id
        (report.warn if explanation.is_note else report.ok)("canary", explanation.text)
        report.downgrade("tls", "but the canary arrived")
        service = resource.attributes.get("service.name", "")
        report.ok("trace", f"{trace_id}, span {batch[0].name!r}, service {service}")
        report.closing = (
            f"Look for trace {trace_id} in the backend. If it is there and your own spans are not, call "
            "otelflow.configure() at the start of the program, or start it with `otelflow run`."
        )
    if explanation.accepted or result.status is not None:
        _check_clock(report, target, result)
    if explanation.accepted and options.size:
        _send_large_request(report, target, new_exporter(), resource, options, proxy, secrets)


def _send_and_explain(
    target: Endpoint, exporter: Any, batch: list[Any], timeout: float, proxy: str, size: int, secrets: Secrets
) -> tuple[CanaryResult, Explanation]:
    result = send(exporter, batch, timeout)
    protocol = ""
    if may_be_wrong_protocol(result) and not proxy and not target.tls:
        protocol = detect_protocol(target.host, target.port, timeout)
    return result, explain(target, result, protocol, size, secrets)


def _send_large_request(
    report: Report, target: Endpoint, exporter: Any, resource: Any, options: Options, proxy: str, secrets: Secrets
) -> None:
    """Send a second, large request to find a size limit. ``exporter`` is a new one: the first was shut down."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    batch, trace_id = make_batch(resource, options.size)
    size = encode_spans(batch).ByteSize()
    _, explanation = _send_and_explain(target, exporter, batch, options.timeout, proxy, size, secrets)
    request = f"{size:,} bytes in {len(batch)} spans (trace {trace_id})"
    if explanation.accepted:
        report.ok("size", f"{request}: {explanation.text}")
    else:
        report.error("size", f"{request}: {explanation.text}", explanation.advice)


def _check_clock(report: Report, target: Endpoint, result: CanaryResult) -> None:
    skew = clock_skew(result)
    if target.is_grpc:
        report.skip("clock", "not known: gRPC responses contain no time")
    elif skew is None:
        report.skip("clock", "not known: the response has no Date header")
    elif abs(skew) > _SKEW_SECONDS:
        side = "behind" if skew > 0 else "ahead of"
        report.warn(
            "clock",
            f"this machine's clock is {abs(skew):,.0f} s {side} the receiver's: spans have the wrong time",
            "Synchronise the clocks (NTP), and search for the trace in a wider time range.",
        )
    else:
        report.ok("clock", f"within {_SKEW_SECONDS:g} s of the receiver's")
