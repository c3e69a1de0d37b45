"""Make text ready for a span: without secrets, terminal colours and lone surrogates, and cut to size."""

from __future__ import annotations

import functools
import re

from otelflow._secrets.patterns import SHORTEST, is_harmless
from otelflow._values import scrub
from otelflow._values.scrub import scrub_text
from otelflow.config import OTELFLOW_MAX_VALUE_BYTES, number_from_environment

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

MAX_VALUE_BYTES = int(number_from_environment(OTELFLOW_MAX_VALUE_BYTES, 2048, least=64))
"""Largest size of one value on a span, in bytes of UTF-8, its mark included."""


@functools.cache
def _colours() -> re.Pattern[str]:
    return re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def strip_ansi(text: str) -> str:
    """``text`` without terminal control sequences (ECMA-48 CSI: colours, cursor moves)."""
    return _colours().sub("", text) if "\x1b" in text else text


def safe_str(value: object) -> str:
    """``str(value)``; where that raises, the class of the value and of what it raised."""
    try:
        return str(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"


def encodable_text(text: str) -> str:
    """``text`` as it can be encoded: lone surrogates become ``\\udcXX``, which UTF-8 and protobuf refuse."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def is_clean(text: str) -> bool:
    """Whether all that is done here to a text of the program's leaves it as it is, for certain; False says nothing."""
    if scrub._has_own:
        return False
    if len(text) < SHORTEST and (text.isalnum() or not text):
        return True
    return len(text) <= MAX_VALUE_BYTES and text.isascii() and is_harmless(text)


def scrub_and_truncate(
    text: str, limit: int = MAX_VALUE_BYTES, name: str = "", *, code: bool = False
) -> tuple[str, bool]:
    """``text``, which stands under ``name``, without secrets and in at most ``limit`` bytes of UTF-8, and whether
    something was cut. ``code``: it is source code.

    The cut is on a character boundary and ends in a mark that says how much is left out.
    """
    if len(text) > limit * 2 + _EDGE:  # do not encode 10 MB to keep 2 kB
        looked_at, left_out = text[: limit * 2 + _EDGE], len(text) - limit * 2 - _EDGE
    else:
        looked_at, left_out = text, 0
    cleaned = scrub_text(looked_at, name, code=code)
    if left_out:  # what the cut goes through may be the first half of a secret: that is not kept
        left_out += min(_EDGE, len(cleaned))
        cleaned = cleaned[:-_EDGE]
    return truncate(cleaned, limit, left_out)


def truncate(text: str, limit: int = MAX_VALUE_BYTES, left_out: int = 0) -> tuple[str, bool]:
    """Truncate a text without secrets, of which ``left_out`` characters are gone already."""
    if not left_out and len(text) <= limit and text.isascii():
        return text, False
    if len(text) > limit * 2:
        left_out += len(text) - limit * 2
        text = text[: limit * 2]
    shortened = encodable_text(text)
    if not left_out and len(shortened) <= limit and (shortened.isascii() or len(shortened.encode()) <= limit):
        return shortened, False
    room = limit - len(f"… [{left_out + len(shortened)} characters left out]".encode())
    kept = shortened.encode()[:room].decode("utf-8", "ignore")
    return f"{kept}… [{left_out + len(shortened) - len(kept)} characters left out]", True


_EDGE = 512
"""Characters at the end of what is looked at that are not kept: a secret that begins there may be known as one only by
what follows."""
_MOST_WHOLE = 1 << 17


def scrub_long(text: str, name: str = "") -> str:
    """``text`` without secrets; of more than 128 kB the beginning. What memory and listeners get."""
    if not name and is_clean(text):
        return text
    return scrub_and_truncate(text, _MOST_WHOLE, name)[0]
