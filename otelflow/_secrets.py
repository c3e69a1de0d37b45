"""What looks like a secret: by the name of what holds it, and by the form of a text."""

from __future__ import annotations

import re

__all__ = ["REDACTED", "has_secret_name", "looks_secret"]

REDACTED = "[redacted]"
"""Stands for a value that is kept off a span."""

_NAME = re.compile(
    r"(?i)(pass(word|wd|phrase)|secret|(api|private)[_.-]?key|(access|auth)[_.-]?token"
    r"|(^|[_.-])(token|pwd|cookie|authorization|credentials?)$)"
)
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@*]+@"
    r"|\bsk-[A-Za-z0-9_-]{16,}|\bxox[a-z]-[A-Za-z0-9-]{10,}"
    r"|(?i:\bbearer\s+[a-z0-9._~+/-]{16,})|\bBasic\s+[A-Za-z0-9+/]{12,}={0,2}(?![A-Za-z])"
)
_SHORTEST = 15
"""No form of secret without ``:`` and ``=`` is shorter: most values need no search."""
_PAIR = re.compile(
    r"(?i)\b(password|passwd|secret|api[_-]?key|token)\"?\s*[=:]\s*\"?(?!none\b|null\b|\*)[^\s\"'<\[]{4,}"
)
_HIDDEN = re.compile(r"^\s*$|^[*•.x]+$|(?i:redacted|scrubbed|masked|hidden)")


def has_secret_name(name: str) -> bool:
    """Whether what is called ``name`` is likely to hold a secret."""
    return _NAME.search(name) is not None


def looks_secret(name: str, value: str, *, pairs: bool = True) -> bool:
    """Whether ``value`` under ``name`` looks like a secret in clear. ``pairs``: look for ``password=…`` within the text
    as well, which lines of source would be taken for."""
    is_named = has_secret_name(name)
    if len(value) < _SHORTEST and ":" not in value and "=" not in value and not is_named:
        return False
    if _HIDDEN.search(value):
        return False
    return is_named or _VALUE.search(value) is not None or (pairs and _PAIR.search(value) is not None)
