"""Why does nothing arrive: the whole diagnosis, from the variables to a canary in the receiver."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from otelflow._doctor.canary import CanaryResult, make_batch, send
from otelflow._doctor.check_endpoint import OPTION, check_endpoint_settings, proxy_of
from otelflow._doctor.check_network import HTTP1, HTTP2, TLS, check_way, spoken_at
from otelflow._doctor.check_settings import OTLP_NAMES, captured_logs, check_settings
from otelflow._doctor.check_variables import check_names, known_names
from otelflow._doctor.explain_response import Explanation, clock_skew, explain, is_refusal_of_the_way
from otelflow._doctor.report import ERROR, UNUSABLE, Report, Secrets
from otelflow._otlp.endpoint import Endpoint
from otelflow._providers.exporters import exporter_names, find_exporter_endpoint, make_exporter
from otelflow._secrets.detect import REDACTED
from otelflow._secrets.urls import redacted_url
from otelflow.errors import ConfigError

__all__ = ["Options", "diagnose"]

_SKEW_SECONDS = 5.0


class Options(NamedTuple):
    """What the diagnosis is asked for. ``timeout``: seconds for each step. ``size``: bytes of a second, larger request;
    0 for none."""

    endpoint: str | None = None
    protocol: str | None = None
    timeout: float = 3.0
    send: bool = True
    size: int = 0


def diagnose(options: Options) -> Report:
    """Look at everything between a span and its receiver. Never raises for what it finds; leaves nothing behind."""
    report, secrets = Report(), Secrets()
    for name, value in os.environ.items():
        if name.endswith("_ENDPOINT") or name.lower().endswith("_proxy"):
            secrets.add_url(value)
    if options.endpoint:
        secrets.add_url(options.endpoint)
    with _environment(options), captured_logs():
        report.begin("settings")
        known = known_names()
        resource = check_settings(report, secrets)
        report.begin("variables")
        check_names(report, known)
        names = [name for name in exporter_names() if name in OTLP_NAMES]
        report.closing = "To send to a backend, set OTEL_TRACES_EXPORTER=otlp and OTEL_EXPORTER_OTLP_ENDPOINT."
        for name in names or (["otlp"] if options.endpoint else []):
            _target(report, name, options, resource, secrets)
    return report


@contextlib.contextmanager
def _environment(options: Options) -> Iterator[None]:
    """The protocol that was asked for, and no lines of gRPC's own on the terminal."""
    wanted = {"GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE")}
    if options.protocol:
        wanted["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = options.protocol
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _target(report: Report, name: str, options: Options, resource: Any, secrets: Secrets) -> None:
    report.begin("endpoint" if name == "otlp" else f"endpoint of {name}")
    try:
        target = find_exporter_endpoint(name, options.endpoint, source=OPTION)
    except ConfigError as error:
        _unusable(report, "url", error, secrets, "--endpoint" if options.endpoint else "")
        return
    assert target is not None, name  # each of OTLP_NAMES has one
    if options.protocol:
        target = target._replace(protocol_source="--protocol")
    secrets.add_url(target.url)
    check_endpoint_settings(report, target, secrets)
    if resource is None:
        report.skip("exporter", "not made: the SDK cannot be set up")
        return
    try:
        exporter = make_exporter(name, options.endpoint)
    except ConfigError as error:
        _unusable(report, "exporter", error, secrets)
        return
    report.begin("on the way" if name == "otlp" else f"on the way of {name}")
    proxy, _ = proxy_of(target)
    is_reached = check_way(report, target, proxy, options.timeout)
    if not is_reached or not options.send:
        exporter.shutdown()
        _not_sent(report, target, options, proxy, is_reached)
        return
    again = partial(make_exporter, name, options.endpoint)
    _canary(report, target, exporter, again, resource, options, proxy, secrets)


def _unusable(report: Report, name: str, error: ConfigError, secrets: Secrets, option: str = "") -> None:
    """Of our errors the first sentence says what is wrong, and the others say the way out."""
    text, *advice = re.split(r"\.\s(?=[A-Z])", str(error), maxsplit=1)
    shown = secrets.without(text)
    if shown == REDACTED:
        shown = "it cannot be used, and looks like a secret: it is not shown"
    name = "protocol" if error.setting.endswith("PROTOCOL") else name
    report.wrong(name, shown, secrets.without(" ".join(advice)), source=option or error.setting, rank=UNUSABLE)


def _not_sent(report: Report, target: Endpoint, options: Options, proxy: str, is_reached: bool) -> None:
    if not is_reached:
        report.skip("canary", "not sent: there is no way to the receiver")
    else:
        if not proxy and not target.tls:
            _spoken(report, target, options.timeout)
        report.skip("canary", "not sent, as asked for by --no-send")
        report.closing = "Run it without --no-send: a canary span tells whether the receiver takes spans."


def _spoken(report: Report, target: Endpoint, timeout: float) -> None:
    """In place of a canary: whether the port speaks what would be spoken to it."""
    spoken = spoken_at(target.host, target.port, timeout)
    verdict = explain(target, CanaryResult(0.0, error=TimeoutError()), spoken, 0, Secrets())
    if spoken in (TLS, HTTP1 if target.is_grpc else HTTP2):
        report.wrong("spoken", verdict.text, verdict.advice)
    elif spoken in (HTTP1, HTTP2):
        report.ok("spoken", f"port {target.port} answers in {spoken}")
    else:
        report.warn("spoken", f"port {target.port} answers {spoken}", verdict.advice)


def _canary(
    report: Report,
    target: Endpoint,
    exporter: Any,
    again: Callable[[], Any],
    resource: Any,
    options: Options,
    proxy: str,
    secrets: Secrets,
) -> None:
    batch, trace_id = make_batch(resource)
    answer, verdict = _sent(target, exporter, batch, options.timeout, proxy, 0, secrets)
    is_tls = any(one.name == "tls" and one.sign == ERROR for one in report.findings)
    if not verdict.accepted and is_tls and (answer.error is not None or answer.code == "UNAVAILABLE"):
        report.skip("canary", "not accepted: TLS fails, as said above")
    elif not verdict.accepted:
        is_proxy = proxy and (answer.error is not None or answer.status in (403, 502, 503, 504))
        way = f"Check the proxy {redacted_url(proxy)}, or add {target.host} to NO_PROXY to go without it."
        report.wrong("canary", verdict.text, way if is_proxy else verdict.advice)
    else:
        report.trace_id = trace_id
        (report.warn if verdict.is_note else report.ok)("canary", verdict.text)
        report.soften("tls", "the canary arrived all the same")
        service = resource.attributes.get("service.name", "")
        report.ok("trace", f"{trace_id}, span {batch[0].name!r}, service {service}")
        report.closing = (
            f"Look for trace {trace_id} in the backend: if it is there and your own spans are not, call "
            "otelflow.configure() at the start of the program, or start it by `otelflow run`."
        )
    if verdict.accepted or answer.status is not None:
        _clock(report, target, answer)
    if verdict.accepted and options.size:
        _large(report, target, again(), resource, options, proxy, secrets)


def _sent(
    target: Endpoint, exporter: Any, batch: list[Any], timeout: float, proxy: str, size: int, secrets: Secrets
) -> tuple[CanaryResult, Explanation]:
    answer = send(exporter, batch, timeout)
    spoken = ""
    if is_refusal_of_the_way(answer) and not proxy and not target.tls:
        spoken = spoken_at(target.host, target.port, timeout)
    return answer, explain(target, answer, spoken, size, secrets)


def _large(
    report: Report, target: Endpoint, exporter: Any, resource: Any, options: Options, proxy: str, secrets: Secrets
) -> None:
    """A second request, for a limit of the size; by a new exporter, as the first was shut down."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    batch, trace_id = make_batch(resource, options.size)
    size = encode_spans(batch).ByteSize()
    _, verdict = _sent(target, exporter, batch, options.timeout, proxy, size, secrets)
    what = f"{size:,} bytes in {len(batch)} spans (trace {trace_id})"
    if verdict.accepted:
        report.ok("size", f"{what}: {verdict.text}")
    else:
        report.wrong("size", f"{what}: {verdict.text}", verdict.advice)


def _clock(report: Report, target: Endpoint, answer: CanaryResult) -> None:
    skew = clock_skew(answer)
    if target.is_grpc:
        report.skip("clock", "not known: gRPC answers do not say the time")
    elif skew is None:
        report.skip("clock", "not known: the answer has no Date")
    elif abs(skew) > _SKEW_SECONDS:
        side = "behind" if skew > 0 else "ahead of"
        report.warn(
            "clock",
            f"this machine's clock is {abs(skew):,.0f} s {side} the receiver's: spans stand at the wrong time",
            "Synchronise the clocks (NTP), and look for the trace in a wider range of time.",
        )
    else:
        report.ok("clock", f"within {_SKEW_SECONDS:g} s of the receiver's")
