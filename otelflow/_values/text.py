"""Prepare text for a span: redact secrets, strip terminal colours, escape lone surrogates, truncate."""

from __future__ import annotations

import functools
import re

from otelflow._secrets.patterns import MIN_SECRET_LENGTH, is_harmless
from otelflow._values import scrub
from otelflow._values.scrub import scrub_text
from otelflow.config import OTELFLOW_MAX_VALUE_BYTES, whole_number_from_environment

__all__ = [
    "MAX_VALUE_BYTES",
    "encodable_text",
    "is_clean",
    "safe_str",
    "scrub_and_truncate",
    "scrub_long",
    "strip_ansi",
    "truncate",
]

MAX_VALUE_BYTES = whole_number_from_environment(OTELFLOW_MAX_VALUE_BYTES, 2048, least=64)
"""Maximum size of one value on a span, in bytes of UTF-8, including the mark of a cut."""


@functools.cache
def _ansi_pattern() -> re.Pattern[str]:
    return re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def strip_ansi(text: str) -> str:
    """Return ``text`` without terminal control sequences (ECMA-48 CSI: colours, cursor moves)."""
    return _ansi_pattern().sub("", text) if "\x1b" in text else text


def safe_str(value: object) -> str:
    """Return ``str(value)``. If that raises, name the class of the value and the class of the exception."""
    try:
        return str(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"


def encodable_text(text: str) -> str:
    """Return ``text`` with lone surrogates written as ``\\udcXX``: UTF-8 and protobuf refuse them."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def is_clean(text: str) -> bool:
    """Return True if ``text`` certainly needs no scrubbing or truncation. False means unknown."""
    if scrub._has_custom_rules:
        return False
    if len(text) < MIN_SECRET_LENGTH and (text.isalnum() or not text):
        return True
    return len(text) <= MAX_VALUE_BYTES and text.isascii() and is_harmless(text)


def scrub_and_truncate(
    text: str, limit: int = MAX_VALUE_BYTES, name: str = "", *, code: bool = False
) -> tuple[str, bool]:
    """Redact secrets in ``text`` and truncate it to ``limit`` bytes of UTF-8. Return it and whether it was cut.

    ``name``: the name of the value. ``code``: ``text`` is source code. A cut is at a character boundary. A mark at its
    end says how many characters are left out.
    """
    if len(text) > limit * 2 + _EDGE_CHARACTERS:  # do not encode 10 MB for a result of 2 kB
        head, omitted_count = text[: limit * 2 + _EDGE_CHARACTERS], len(text) - limit * 2 - _EDGE_CHARACTERS
    else:
        head, omitted_count = text, 0
    clean_text = scrub_text(head, name, code=code)
    if omitted_count:  # drop the edge: the cut may have split a secret
        omitted_count += min(_EDGE_CHARACTERS, len(clean_text))
        clean_text = clean_text[:-_EDGE_CHARACTERS]
    return truncate(clean_text, limit, omitted_count)


def truncate(text: str, limit: int = MAX_VALUE_BYTES, omitted_count: int = 0) -> tuple[str, bool]:
    """Truncate a text without secrets to ``limit`` bytes of UTF-8. Return it and whether it was cut.

    ``omitted_count``: characters that the caller has left out already; the mark counts them, too.
    """
    if not omitted_count and len(text) <= limit and text.isascii():
        return text, False
    if len(text) > limit * 2:
        omitted_count += len(text) - limit * 2
        text = text[: limit * 2]
    encodable = encodable_text(text)
    if not omitted_count and len(encodable) <= limit and (encodable.isascii() or len(encodable.encode()) <= limit):
        return encodable, False
    room = limit - len(f"… [{omitted_count + len(encodable)} characters left out]".encode())
    prefix = encodable.encode()[:room].decode("utf-8", "ignore")
    return f"{prefix}… [{omitted_count + len(encodable) - len(prefix)} characters left out]", True


_EDGE_CHARACTERS = 512
"""Characters at the end of the scrubbed part that are dropped.

A secret that begins there may be recognisable only by the characters that follow.
"""
_MAX_LONG_CHARACTERS = 1 << 17


def scrub_long(text: str, name: str = "") -> str:
    """Redact secrets in ``text``, and cut it at 128 kB. Used for memory and listeners."""
    if not name and is_clean(text):
        return text
    return scrub_and_truncate(text, _MAX_LONG_CHARACTERS, name)[0]
