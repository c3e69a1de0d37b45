"""The way to a receiver, step by step: its addresses, a connection, a TLS handshake, and what is spoken there."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from otelflow._doctor.report import Report
from otelflow._otlp.endpoint import Endpoint
from otelflow._secrets.urls import redacted_url

__all__ = ["HTTP1", "HTTP2", "NOTHING", "TLS", "check_way", "spoken_at", "within"]

Result = TypeVar("Result")

TLS, HTTP2, HTTP1, NOTHING, OTHER = "TLS", "HTTP/2", "HTTP/1", "nothing", "something else"
"""What may be spoken at a port."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client begins HTTP/2, with empty settings. RFC 9113, section 3.4."""

_PROBE_SECONDS = 1.0


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """What ``call`` returns or raises; TimeoutError after that long. On a thread of its own, which is left behind then:
    nothing can interrupt a name's resolution."""
    answers: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((True, call()))
        except BaseException as error:
            answers.put((False, error))

    threading.Thread(target=work, name="otelflow-doctor", daemon=True).start()
    try:
        succeeded, answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if succeeded:
        result: Result = answer
        return result
    raise answer


class _Attempt(NamedTuple):
    address: str
    seconds: float
    error: OSError | None


def check_way(report: Report, target: Endpoint, proxy: str, timeout: float) -> bool:
    """Resolve, connect and shake hands with the receiver, or with the proxy before it. False where there is no way."""
    host, port = target.host, target.port
    if proxy:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = parts.hostname or "", parts.port or 80
        report.skip("way", f"through the proxy {redacted_url(proxy)}: the receiver itself cannot be looked at")
    addresses = _resolve(report, host, port, timeout)
    if not addresses or not _connect(report, addresses, host, port, timeout, bool(proxy)):
        return False
    if target.tls and not proxy:
        _shake_hands(report, target, timeout)
    elif not target.tls:
        report.skip("tls", "none: plain text")
    return True


def _resolve(report: Report, host: str, port: int, timeout: float) -> list[Any]:
    begun = time.monotonic()
    try:
        found = within(timeout, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; UnicodeError: no name of the DNS
        reason = getattr(error, "strerror", None) or str(error)
        report.wrong(
            "dns",
            f"{host} has no address: {reason}",
            f"Set the endpoint to a name that is known on this machine (`getent hosts {host}` asks for this one).",
        )
        return []
    numbers = list(dict.fromkeys(str(one[4][0]) for one in found))
    if numbers == [host]:
        report.ok("dns", f"{host} is an address")
    else:
        report.ok("dns", f"{host} is {', '.join(numbers)} ({_millis(begun)})")
    return list({one[4][:2]: one for one in found}.values())


def _millis(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1000:.0f} ms"


def _connect(report: Report, addresses: list[Any], host: str, port: int, timeout: float, is_proxy: bool) -> bool:
    """All addresses at once, so that many of them take no longer than one."""
    answers: SimpleQueue[_Attempt] = SimpleQueue()
    for one in addresses:
        call = lambda one=one: answers.put(_attempt(one, timeout))  # noqa: E731
        threading.Thread(target=call, name="otelflow-doctor", daemon=True).start()
    attempts = [answers.get() for _ in addresses]  # each ends by itself within the time limit
    reached = [one for one in attempts if one.error is None]
    failed = [one for one in attempts if one.error is not None]
    refusals = "; ".join(f"{one.address} {_why(one.error)}" for one in failed)
    if not reached:
        report.wrong("connect", f"port {port}: {refusals}", _unreachable_advice(failed, host, port, is_proxy))
        return False
    text = ", ".join(f"{one.address} ({one.seconds * 1000:.0f} ms)" for one in reached)
    if any(isinstance(one.error, TimeoutError) for one in failed):
        report.warn("connect", f"port {port}: {text}; {refusals}: each new connection may wait for that one first")
    else:
        report.ok("connect", f"port {port}: {text}{'; ' if refusals else ''}{refusals}")
    return True


def _attempt(address: Any, timeout: float) -> _Attempt:
    family, kind, protocol, _, place = address
    begun = time.monotonic()
    error = None
    try:
        with socket.socket(family, kind, protocol) as opened:
            opened.settimeout(timeout)
            opened.connect(place)
    except OSError as raised:
        error = raised
    return _Attempt(str(place[0]), time.monotonic() - begun, error)


def _why(error: OSError | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses: nothing listens there"
    if isinstance(error, TimeoutError):
        return "does not answer"
    return f"cannot be reached: {getattr(error, 'strerror', None) or error}"


def _in_container() -> bool:
    marks = ("/.dockerenv", "/run/.containerenv")
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(mark).exists() for mark in marks)


def _unreachable_advice(failed: list[_Attempt], host: str, port: int, is_proxy: bool) -> str:
    if is_proxy:
        return f"Start the proxy at {host}:{port}, or unset the variable that names it."
    if all(isinstance(one.error, TimeoutError) for one in failed):
        return f"Check the port, and that no firewall or network policy keeps port {port} of {host} closed."
    if host in ("localhost", "127.0.0.1", "::1"):
        if _in_container():
            return (
                f"Start a receiver on port {port}, or set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:{port} with the name "
                "of its container or service: in a container, localhost is the container itself."
            )
        return (
            f"Start a receiver on port {port}, or set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:{port} to where one is."
        )
    return (
        f"Check that the receiver runs on {host}, and that {port} is its port (usually 4317 for gRPC, 4318 for HTTP)."
    )


# --- TLS ----------------------------------------------------------------------------------------------------------


def _context(target: Endpoint) -> ssl.SSLContext:
    """As the exporter verifies: requests with certifi's certificates, gRPC with its own, unless they are named."""
    trusted = target.certificate.text
    if target.is_grpc:
        import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own

        own = Path(grpc.__file__).parent / "_cython" / "_credentials" / "roots.pem"
        trusted = trusted or os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH") or (str(own) if own.exists() else "")
    else:
        import certifi

        bundles = (os.environ.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
        trusted = trusted or next(filter(None, bundles), "") or certifi.where()
    is_folder = bool(trusted) and Path(trusted).is_dir()
    context = ssl.create_default_context(
        cafile=trusted if trusted and not is_folder else None, capath=trusted if is_folder else None
    )
    # Python 3.13 asks more of certificates than the exporters do.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if target.client_certificate.text:
        context.load_cert_chain(target.client_certificate.text, target.client_key.text or None)
    if target.is_grpc:
        context.set_alpn_protocols(["h2"])
    return context


def _shake_hands(report: Report, target: Endpoint, timeout: float) -> None:
    try:
        context = _context(target)
    except (OSError, ssl.SSLError) as error:
        report.wrong(
            "tls",
            f"the certificate files cannot be used: {error}",
            "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file with the certificates to trust.",
        )
        return
    begun = time.monotonic()
    try:
        with (
            socket.create_connection((target.host, target.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=target.host) as secure,
        ):
            _secured(report, target, secure, begun)
    except OSError as error:
        text, advice = _tls_failure(target, error)
        report.wrong("tls", text, advice)


def _secured(report: Report, target: Endpoint, secure: ssl.SSLSocket, begun: float) -> None:
    ends = (secure.getpeercert() or {}).get("notAfter")
    until = ""
    if isinstance(ends, str):
        until = (
            f", certificate valid until {datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), timezone.utc):%Y-%m-%d}"
        )
    if target.is_grpc and secure.selected_alpn_protocol() != "h2":
        report.wrong(
            "tls",
            f"{secure.version()}, but no HTTP/2 is offered there (ALPN): gRPC needs it",
            f"Call the receiver's gRPC port, let the proxy before it pass HTTP/2, or set "
            f"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf for {target.place}.",
        )
    else:
        report.ok("tls", f"{secure.version()}{until} ({_millis(begun)})")


_VERIFY = {
    9: ("is not valid yet", "Set this machine's clock, or wait until the certificate is valid."),
    10: ("has expired", "Renew the receiver's certificate."),
    18: ("is self-signed", ""),
    19: ("comes from an authority that is not trusted here", ""),
    20: ("comes from an authority that is not known here", ""),
    62: ("is for another name", "Call the receiver by a name that is in its certificate."),
    64: ("is for another address", "Call the receiver by a name that is in its certificate."),
}
"""OpenSSL's numbers of what is wrong with a certificate, in words, and what to do."""


def _tls_failure(target: Endpoint, error: OSError) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        what, advice = _VERIFY.get(error.verify_code, (f"is not accepted: {error.verify_message}", ""))
        return f"the certificate of {target.place} {what}", advice or _TRUST
    if isinstance(error, TimeoutError):
        return "connected, but no answer to the TLS handshake", _plain_advice(target)
    reason = getattr(error, "reason", "") or str(error)
    if any(word in reason for word in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER", "UNEXPECTED_EOF")):
        return f"no TLS is spoken on port {target.port} ({reason})", _plain_advice(target)
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return (
            f"the receiver breaks the handshake off ({reason}): does it want a client's certificate?",
            "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY.",
        )
    return f"the handshake fails: {reason}", _plain_advice(target)


_TRUST = "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file with the certificate of the receiver, or of its authority."


def _plain_advice(target: Endpoint) -> str:
    return f"Write http:// instead of https://, if {target.place} takes plain text; else call the port that speaks TLS."


# --- What is spoken -----------------------------------------------------------------------------------------------


def spoken_at(host: str, port: int, timeout: float) -> str:
    """What a port speaks, as far as it can be told: asked for TLS first, then in HTTP/2, which an HTTP/1 server
    answers with an error. Most receivers note the two odd connections in their log."""
    seconds = min(timeout, _PROBE_SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only whether TLS is spoken
    silent = False
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain):
            return TLS
    except TimeoutError:
        silent = True
    except OSError:
        pass
    try:
        with socket.create_connection((host, port), seconds) as plain:
            plain.sendall(_PREFACE)
            answer = plain.recv(64)
    except OSError:
        return NOTHING if silent else OTHER
    if answer.startswith((b"HTTP/1", b"<")):  # some answer a version that they do not know with a bare page
        return HTTP1
    # A settings frame: three bytes of length, then its type, 4.
    return HTTP2 if len(answer) > 3 and answer[3] == 4 else OTHER
