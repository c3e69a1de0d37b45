"""Detect and redact secrets: by the name of a value, and by the form of a text."""

from __future__ import annotations

from collections.abc import Iterable

from otelflow._secrets.names import STEMS, secret_in_name
from otelflow._secrets.patterns import MIN_SECRET_LENGTH, Replace, redact_patterns

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
"""Replaces a value that is not shown. :func:`placeholder` also names the rule."""

_registered_values: set[str] = set()


def placeholder(name: str, secret: str, rule: str) -> str:
    """Return the text that replaces a secret: ``[redacted:jwt]``, ``[redacted:name password]``."""
    return f"[redacted:{rule}]"


def redact(text: str, replace: Replace = placeholder, code: bool = False) -> str:
    """Replace each secret in ``text`` by what ``replace`` returns. The time is linear in the length of ``text``.

    ``code``: ``text`` is source code, where only literals are values.
    """
    if "=" in text or ":" in text or ("-" in text and "--" in text) or "<" in text or "'" in text or '"' in text:
        lower_text = text.lower()
        for stem in STEMS:
            if stem in lower_text:
                from otelflow._secrets.key_values import (
                    redact_key_values,  # imported late: compiling its patterns takes time that most programs can save
                )

                text = redact_key_values(text, replace, code)
                break
    elif len(text) < MIN_SECRET_LENGTH:
        return text
    return redact_patterns(text, replace)


def is_redacted(value: str) -> bool:
    """Return whether ``value`` shows no secret: it is empty, ``***`` or a placeholder."""
    return not value or value.startswith("[redacted") or (len(value) > 2 and not value.strip("*•.x… "))


def has_secret_name(name: str) -> bool:
    """Return whether ``name`` probably holds a secret."""
    return secret_in_name(name) != ""


def looks_secret(name: str, value: str, *, code: bool = False) -> bool:
    """Return whether ``value`` under ``name`` looks like an unredacted secret."""
    if name and has_secret_name(name):
        return not is_redacted(value)
    return redact(value, code=code) != value


def register_secrets(values: Iterable[str]) -> None:
    """Register secret values, such as headers. :func:`redact_registered` removes them from any text."""
    _registered_values.update(value for value in values if len(value) > 3)


def redact_registered(text: str) -> str:
    """Redact the text of a log line or error of otelflow: secrets, and values of :func:`register_secrets`."""
    for value in sorted(_registered_values, key=len, reverse=True):
        text = text.replace(value, REDACTED)
    return redact(text)
