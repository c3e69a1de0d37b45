"""What looks like a secret: by the name of what holds it, and by the form of a text; and texts without secrets."""

from __future__ import annotations

from collections.abc import Iterable

from otelflow._secrets.names import STEMS, secret_in_name
from otelflow._secrets.patterns import SHORTEST, Replace, without_shapes

__all__ = [
    "REDACTED",
    "has_secret_name",
    "hide",
    "is_hidden",
    "looks_secret",
    "mark",
    "without_known",
    "without_secrets",
]

REDACTED = "[redacted]"
"""Stands for a value that is not shown; :func:`mark` says by which rule, too."""

_known: set[str] = set()


def mark(name: str, secret: str, rule: str) -> str:
    """What stands in place of a secret: ``[redacted:jwt]``, ``[redacted:name password]``."""
    return f"[redacted:{rule}]"


def without_secrets(text: str, replace: Replace = mark, code: bool = False) -> str:
    """``text`` with ``replace`` instead of each secret in it. In time linear in its length. ``code``: it is source
    code, where only literals are values."""
    if "=" in text or ":" in text or ("-" in text and "--" in text) or "<" in text or "'" in text or '"' in text:
        low = text.lower()
        for stem in STEMS:
            if stem in low:
                from otelflow._secrets.key_values import (
                    without_pairs,  # its patterns are made when there is something to do
                )

                text = without_pairs(text, replace, code)
                break
    elif len(text) < SHORTEST:
        return text
    return without_shapes(text, replace)


def is_hidden(value: str) -> bool:
    """Whether the secret that ``value`` was is left out already: nothing, ``***``, or a mark."""
    return not value or value.startswith("[redacted") or (len(value) > 2 and not value.strip("*•.x… "))


def has_secret_name(name: str) -> bool:
    """Whether what is called ``name`` is likely to hold a secret."""
    return secret_in_name(name) != ""


def looks_secret(name: str, value: str, *, code: bool = False) -> bool:
    """Whether ``value`` under ``name`` looks like a secret in clear."""
    if name and has_secret_name(name):
        return not is_hidden(value)
    return without_secrets(value, code=code) != value


def hide(values: Iterable[str]) -> None:
    """Values that are known to be secret, as of headers: :func:`without_known` leaves them out wherever they stand."""
    _known.update(value for value in values if len(value) > 3)


def without_known(text: str) -> str:
    """``text`` for a log line or an error of ours: without secrets, and without the values that were given to
    :func:`hide`."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, REDACTED)
    return without_secrets(text)
