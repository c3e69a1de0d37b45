"""What looks like a secret: by the name of what holds it, and by the form of a text; and texts without secrets."""

from __future__ import annotations

from collections.abc import Iterable

from otelflow._secrets.names import STEMS, secret_in_name
from otelflow._secrets.patterns import SHORTEST, Replace, redact_patterns

__all__ = [
    "REDACTED",
    "has_secret_name",
    "is_redacted",
    "looks_secret",
    "placeholder",
    "redact",
    "redact_registered",
    "register_secrets",
]

REDACTED = "[redacted]"
"""Stands for a value that is not shown; :func:`placeholder` says by which rule, too."""

_known: set[str] = set()


def placeholder(name: str, secret: str, rule: str) -> str:
    """What stands in place of a secret: ``[redacted:jwt]``, ``[redacted:name password]``."""
    return f"[redacted:{rule}]"


def redact(text: str, replace: Replace = placeholder, code: bool = False) -> str:
    """``text`` with ``replace`` instead of each secret in it. In time linear in its length. ``code``: it is source
    code, where only literals are values."""
    if "=" in text or ":" in text or ("-" in text and "--" in text) or "<" in text or "'" in text or '"' in text:
        low = text.lower()
        for stem in STEMS:
            if stem in low:
                from otelflow._secrets.key_values import (
                    redact_key_values,  # its patterns are made when there is something to do
                )

                text = redact_key_values(text, replace, code)
                break
    elif len(text) < SHORTEST:
        return text
    return redact_patterns(text, replace)


def is_redacted(value: str) -> bool:
    """Whether the secret that ``value`` was is left out already: nothing, ``***``, or a mark."""
    return not value or value.startswith("[redacted") or (len(value) > 2 and not value.strip("*•.x… "))


def has_secret_name(name: str) -> bool:
    """Whether what is called ``name`` is likely to hold a secret."""
    return secret_in_name(name) != ""


def looks_secret(name: str, value: str, *, code: bool = False) -> bool:
    """Whether ``value`` under ``name`` looks like a secret in clear."""
    if name and has_secret_name(name):
        return not is_redacted(value)
    return redact(value, code=code) != value


def register_secrets(values: Iterable[str]) -> None:
    """Register secret values, as of headers: :func:`redact_registered` removes them wherever they stand."""
    _known.update(value for value in values if len(value) > 3)


def redact_registered(text: str) -> str:
    """``text`` for a log line or an error of ours: without secrets, and without the values that were given to
    :func:`register_secrets`."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, REDACTED)
    return redact(text)
