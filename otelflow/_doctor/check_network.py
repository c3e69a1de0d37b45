"""Check the connection to a receiver step by step: name resolution, TCP, TLS handshake, and the port's protocol."""

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

__all__ = ["HTTP1", "HTTP2", "NOTHING", "TLS", "call_with_timeout", "check_connection", "detect_protocol"]

Result = TypeVar("Result")

TLS, HTTP2, HTTP1, NOTHING, OTHER = "TLS", "HTTP/2", "HTTP/1", "nothing", "something else"
"""The protocols that a port may speak."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The first bytes of an HTTP/2 client, with empty settings. RFC 9113, section 3.4."""

_PROBE_SECONDS = 1.0


def call_with_timeout(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what ``call`` returns, or raise what it raises; TimeoutError after ``seconds``.

    ``call`` runs in its own thread, which keeps running after a timeout: nothing can interrupt name resolution.
    """
    outcomes: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def work() -> None:
        try:
            outcomes.put((True, call()))
        except BaseException as error:
            outcomes.put((False, error))

    threading.Thread(target=work, name="otelflow-doctor", daemon=True).start()
    try:
        succeeded, outcome = outcomes.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if succeeded:
        result: Result = outcome
        return result
    raise outcome


class _Attempt(NamedTuple):
    address: str
    seconds: float
    error: OSError | None


def check_connection(report: Report, target: Endpoint, proxy: str, timeout: float) -> bool:
    """Resolve the receiver's name, connect, and do a TLS handshake; if there is a proxy, only connect to the proxy.

    Return False if there is no connection.
    """
    host, port = target.host, target.port
    if proxy:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = parts.hostname or "", parts.port or 80
        report.skip("way", f"through the proxy {redacted_url(proxy)}: the receiver itself cannot be checked")
    addresses = _resolve(report, host, port, timeout)
    if not addresses or not _connect(report, addresses, host, port, timeout, bool(proxy)):
        return False
    if target.tls and not proxy:
        _check_tls_handshake(report, target, timeout)
    elif not target.tls:
        report.skip("tls", "none: plain text")
    return True


def _resolve(report: Report, host: str, port: int, timeout: float) -> list[Any]:
    start = time.monotonic()
    try:
        addresses = call_with_timeout(timeout, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; UnicodeError: not a valid DNS name
        reason = getattr(error, "strerror", None) or str(error)
        report.error(
            "dns",
            f"{host} has no address: {reason}",
            f"Set the endpoint to a name that this machine can resolve (`getent hosts {host}` tries this name).",
        )
        return []
    hosts = list(dict.fromkeys(str(address[4][0]) for address in addresses))
    if hosts == [host]:
        report.ok("dns", f"{host} is an address")
    else:
        report.ok("dns", f"{host} is {', '.join(hosts)} ({_elapsed(start)})")
    return list({address[4][:2]: address for address in addresses}.values())


def _elapsed(start: float) -> str:
    return f"{(time.monotonic() - start) * 1000:.0f} ms"


def _connect(report: Report, addresses: list[Any], host: str, port: int, timeout: float, is_proxy: bool) -> bool:
    """Connect to all addresses at once, so that many take no longer than one."""
    results: SimpleQueue[_Attempt] = SimpleQueue()
    for address in addresses:
        call = lambda address=address: results.put(_attempt(address, timeout))  # noqa: E731
        threading.Thread(target=call, name="otelflow-doctor", daemon=True).start()
    attempts = [results.get() for _ in addresses]  # each attempt ends within the time limit
    successes = [attempt for attempt in attempts if attempt.error is None]
    failures = [attempt for attempt in attempts if attempt.error is not None]
    errors = "; ".join(f"{attempt.address} {_failure_text(attempt.error)}" for attempt in failures)
    if not successes:
        report.error("connect", f"port {port}: {errors}", _unreachable_advice(failures, host, port, is_proxy))
        return False
    text = ", ".join(f"{attempt.address} ({attempt.seconds * 1000:.0f} ms)" for attempt in successes)
    if any(isinstance(attempt.error, TimeoutError) for attempt in failures):
        report.warn("connect", f"port {port}: {text}; {errors}: each new connection may wait for that address first")
    else:
        report.ok("connect", f"port {port}: {text}{'; ' if errors else ''}{errors}")
    return True


def _attempt(address: Any, timeout: float) -> _Attempt:
    family, kind, protocol, _, socket_address = address
    start = time.monotonic()
    failure = None
    try:
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(timeout)
            connection.connect(socket_address)
    except OSError as error:
        failure = error
    return _Attempt(str(socket_address[0]), time.monotonic() - start, failure)


def _failure_text(error: OSError | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection: nothing listens there"
    if isinstance(error, TimeoutError):
        return "does not answer"
    return f"cannot be reached: {getattr(error, 'strerror', None) or error}"


def _is_in_container() -> bool:
    files = ("/.dockerenv", "/run/.containerenv")
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(file).exists() for file in files)


def _unreachable_advice(failures: list[_Attempt], host: str, port: int, is_proxy: bool) -> str:
    if is_proxy:
        return f"Start the proxy at {host}:{port}, or unset the variable that names it."
    if all(isinstance(attempt.error, TimeoutError) for attempt in failures):
        return f"Check the port, and that no firewall or network policy blocks port {port} of {host}."
    if host in ("localhost", "127.0.0.1", "::1"):
        if _is_in_container():
            return (
                f"Start a receiver on port {port}, or set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:{port} with the name "
                "of its container or service: in a container, localhost is the container itself."
            )
        return (
            f"Start a receiver on port {port}, or set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:{port} to the host of "
            "one that runs."
        )
    return (
        f"Check that the receiver runs on {host}, and that {port} is its port (usually 4317 for gRPC, 4318 for HTTP)."
    )


# --- TLS ----------------------------------------------------------------------------------------------------------


def _ssl_context(target: Endpoint) -> ssl.SSLContext:
    """Return a context that verifies as the exporter does.

    Unless a variable names certificates, ``requests`` uses certifi's and gRPC its own.
    """
    path = target.certificate.text
    if target.is_grpc:
        import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a separate package

        roots = Path(grpc.__file__).parent / "_cython" / "_credentials" / "roots.pem"
        path = path or os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH") or (str(roots) if roots.exists() else "")
    else:
        import certifi

        bundles = (os.environ.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
        path = path or next(filter(None, bundles), "") or certifi.where()
    is_folder = bool(path) and Path(path).is_dir()
    context = ssl.create_default_context(
        cafile=path if path and not is_folder else None, capath=path if is_folder else None
    )
    # Python 3.13 verifies certificates more strictly than the exporters do.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if target.client_certificate.text:
        context.load_cert_chain(target.client_certificate.text, target.client_key.text or None)
    if target.is_grpc:
        context.set_alpn_protocols(["h2"])
    return context


def _check_tls_handshake(report: Report, target: Endpoint, timeout: float) -> None:
    try:
        context = _ssl_context(target)
    except (OSError, ssl.SSLError) as error:
        report.error(
            "tls",
            f"the certificate files cannot be used: {error}",
            "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file with the certificates to trust.",
        )
        return
    start = time.monotonic()
    try:
        with (
            socket.create_connection((target.host, target.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=target.host) as secure,
        ):
            _check_tls_session(report, target, secure, start)
    except OSError as error:
        text, advice = _tls_failure(target, error)
        report.error("tls", text, advice)


def _check_tls_session(report: Report, target: Endpoint, secure: ssl.SSLSocket, start: float) -> None:
    not_after = (secure.getpeercert() or {}).get("notAfter")
    validity = ""
    if isinstance(not_after, str):
        end = datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), timezone.utc)
        validity = f", certificate valid until {end:%Y-%m-%d}"
    if target.is_grpc and secure.selected_alpn_protocol() != "h2":
        report.error(
            "tls",
            f"{secure.version()}, but the server does not offer HTTP/2 (ALPN), and gRPC needs it",
            f"Call the receiver's gRPC port, let the proxy in front of it pass HTTP/2, or set "
            f"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf for {target.host_and_port}.",
        )
    else:
        report.ok("tls", f"{secure.version()}{validity} ({_elapsed(start)})")


_VERIFY_ERRORS = {
    9: ("is not valid yet", "Set this machine's clock, or wait until the certificate is valid."),
    10: ("has expired", "Renew the receiver's certificate."),
    18: ("is self-signed", ""),
    19: ("comes from an authority that is not trusted here", ""),
    20: ("comes from an authority that is not known here", ""),
    62: ("is for another name", "Call the receiver by a name that is in its certificate."),
    64: ("is for another address", "Call the receiver by a name that is in its certificate."),
}
"""By OpenSSL's code of a verification error: a text, and advice ("" for :data:`_TRUST_ADVICE`)."""


def _tls_failure(target: Endpoint, error: OSError) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        text, advice = _VERIFY_ERRORS.get(error.verify_code, (f"is not accepted: {error.verify_message}", ""))
        return f"the certificate of {target.host_and_port} {text}", advice or _TRUST_ADVICE
    if isinstance(error, TimeoutError):
        return "connected, but no answer to the TLS handshake", _plain_text_advice(target)
    reason = getattr(error, "reason", "") or str(error)
    if any(word in reason for word in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER", "UNEXPECTED_EOF")):
        return f"port {target.port} does not speak TLS ({reason})", _plain_text_advice(target)
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return (
            f"the receiver stops the handshake ({reason}): does it require a client certificate?",
            "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY.",
        )
    return f"the handshake fails: {reason}", _plain_text_advice(target)


_TRUST_ADVICE = (
    "Set OTEL_EXPORTER_OTLP_CERTIFICATE to a PEM file with the certificate of the receiver, or of its authority."
)


def _plain_text_advice(target: Endpoint) -> str:
    return (
        f"Write http:// instead of https:// if {target.host_and_port} accepts plain text; "
        "otherwise call the port that speaks TLS."
    )


# --- The port's protocol ------------------------------------------------------------------------------------------


def detect_protocol(host: str, port: int, timeout: float) -> str:
    """Return the protocol of a port, one of the constants of this module.

    Try a TLS handshake first, then the start of HTTP/2, which an HTTP/1 server answers with an error. Most receivers
    log these two odd connections.
    """
    seconds = min(timeout, _PROBE_SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Safe without verification: nothing is sent, this only finds out whether the port speaks TLS.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    is_silent = False
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain):
            return TLS
    except TimeoutError:
        is_silent = True
    except OSError:
        pass
    try:
        with socket.create_connection((host, port), seconds) as plain:
            plain.sendall(_PREFACE)
            response = plain.recv(64)
    except OSError:
        return NOTHING if is_silent else OTHER
    if response.startswith((b"HTTP/1", b"<")):  # to an unknown version, some servers send only an HTML page
        return HTTP1
    # A SETTINGS frame: three bytes of length, then its type, 4.
    return HTTP2 if len(response) > 3 and response[3] == 4 else OTHER
