"""Scrub texts that leave the process: apply the built-in rules, and the user's names, patterns and callback."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from otelflow._runtime.drop_counts import REDACTED_VALUES, SLOW_PATTERNS, counts
from otelflow._runtime.log_once import log_once
from otelflow._secrets.detect import is_redacted, placeholder, redact, redact_registered
from otelflow._secrets.names import STEMS, add_names, allow_names, is_allowed, secret_in_name
from otelflow.config import (
    OTELFLOW_SCRUB,
    OTELFLOW_SCRUB_ALLOW,
    OTELFLOW_SCRUB_NAMES,
    OTELFLOW_SCRUB_PATTERNS,
    choice_from_environment,
    names_from_environment,
)
from otelflow.errors import ArgumentError

__all__ = [
    "Scrub",
    "guard_log",
    "is_independent_prefix",
    "pending_redacted_count",
    "scrub_in_parts",
    "scrub_source",
    "scrub_text",
    "scrub_value",
    "take_redacted_count",
    "use_callback",
]

Scrub = Callable[[str, str, str], "str | None"]
"""The user's callback. It gets a name, a text, and the rule that matched, and returns a replacement.

The name is empty if there is none. The rule is empty for the text that remains after all rules. None keeps the default.
"""

_PIECE_CHARACTERS = 2048
"""Maximum length of a text that is passed to a pattern or callback of the user at once."""
_PART_CHARACTERS = 1 << 18
_SLOW_SECONDS = 0.05

_logger = logging.getLogger("otelflow")


class _ThreadState(threading.local):
    """Per-thread state of scrubbing."""

    redacted_count = 0
    """Values redacted on this thread and not yet counted on a span."""
    is_in_callback = False
    """True while the user's callback runs: its own texts are not passed to it again."""


_thread_state = _ThreadState()
_patterns: list[tuple[str, re.Pattern[str]]] = []
_callback: Scrub | None = None
_has_custom_rules = False


# --- scrubbing ------------------------------------------------------------------------------------------------------


def scrub_text(text: str, name: str = "", *, code: bool = False) -> str:
    """Redact secrets in ``text``. Each is replaced by a placeholder that names the rule.

    ``name``: the name of the value. ``code``: ``text`` is source code, where only literals are values.
    """
    if not _IS_ENABLED:
        return text
    if name:
        if is_allowed(name):
            return text
        rule = secret_in_name(name)
        if rule:
            return _replace_value(text, name, rule)
    clean_text = redact(text, _replace, code)
    if _has_custom_rules:
        clean_text = "".join(_apply_custom_rules(piece, name) for piece in _split(clean_text))
    if clean_text != text:
        _count_redaction()
    return clean_text


def scrub_value(name: str, value: object) -> str | None:
    """Return what replaces ``value``, of any type, because of its ``name``; None if the value may stay.

    True, False, None and empty values stay: they tell whether there is a secret, but not which.
    """
    if not _IS_ENABLED or value is None or value is True or value is False or not secret_in_name(name):
        return None  # compared by identity: an unbound proxy raises if its class is read
    if isinstance(value, str | bytes | tuple | list | dict | set | frozenset) and not value:
        return None
    text = str(value) if isinstance(value, str | int | float) else type(value).__name__
    return _replace_value(text, name, secret_in_name(name))


def scrub_source(line: str) -> str:
    """Redact secrets in a line of source. Cached: tracebacks of one failing place repeat the same few lines."""
    clean_line = _clean_source(line)
    if clean_line != line:
        _count_redaction()
    return clean_line


@lru_cache(maxsize=1024)
def _clean_source(line: str) -> str:
    if not _IS_ENABLED:
        return line
    clean_line = redact(line, _replace, True)
    return "".join(_apply_custom_rules(piece, "") for piece in _split(clean_line)) if _has_custom_rules else clean_line


@lru_cache(maxsize=1024)
def is_independent_prefix(prefix: str) -> bool:
    """Return whether prepending ``prefix`` to clean text cannot create a secret match. Then the result needs no scan.

    ``prefix`` is short and ends in ``": "``. Custom rules may match across it, so it is never independent with these.
    """
    lower_prefix = prefix.lower()
    return (
        not _has_custom_rules
        and not any(stem in lower_prefix for stem in STEMS)
        and redact(prefix) == prefix == prefix.encode("utf-8", "ignore").decode()
        and "\x1b" not in prefix
    )


def scrub_in_parts(text: str) -> Iterator[str]:
    """Scrub a text that is too large to scrub at once. Yield it in parts of about 256 kB.

    A part ends at white space, and never inside a private key.
    """
    begin = end = 0
    while end < len(text):
        end = min(end + _PART_CHARACTERS, len(text))
        if end < len(text):
            end = max(text.rfind(" ", begin, end), text.rfind("\n", begin, end)) + 1 or end
            if text.rfind("-----BEGIN ", begin, end) > text.rfind("-----END ", begin, end):
                continue
        yield scrub_text(text[begin:end])
        begin = end


def pending_redacted_count() -> int:
    """Return how many values were redacted on this thread since the last :func:`take_redacted_count`."""
    return _thread_state.redacted_count


def take_redacted_count() -> int:
    """Return how many values were redacted on this thread since the last call, and reset the count."""
    number = _thread_state.redacted_count
    if number:
        _thread_state.redacted_count = 0
    return number


def _count_redaction() -> None:
    _thread_state.redacted_count += 1
    counts.add(REDACTED_VALUES)


def _replace_value(text: str, name: str, rule: str) -> str:
    if is_redacted(text):
        return text
    replacement = _replace(name, text, f"name {rule}")
    if replacement != text:
        _count_redaction()
    return replacement


def _replace(name: str, secret: str, rule: str) -> str:
    replacement = _call_callback(name, secret[:_PIECE_CHARACTERS], rule)
    return placeholder(name, secret, rule) if replacement is None else replacement


# --- the user's rules -----------------------------------------------------------------------------------------------


def use_callback(callback: Scrub | None) -> None:
    """Use ``callback`` for each secret, and for the rest of each text. None removes it."""
    if callback is not None and not callable(callback):
        raise ArgumentError(f"configure(scrub={callback!r}): scrub must be a function of (name, text, rule).")
    global _callback, _has_custom_rules
    _callback = callback
    _clean_source.cache_clear()
    is_independent_prefix.cache_clear()
    _has_custom_rules = bool(_patterns) or callback is not None


def _call_callback(name: str, text: str, rule: str) -> str | None:
    """Return the replacement from the user's callback; None without one.

    An error of the callback is logged once, and the default applies.
    """
    if _callback is None or _thread_state.is_in_callback:
        return None
    _thread_state.is_in_callback = True
    try:
        replacement = _callback(name, text, rule)
        return None if replacement is None else str(replacement)[:_PIECE_CHARACTERS]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # do not log its text and traceback: they may contain the secret
        log_once(
            f"scrub {type(error).__name__}",
            "The callback of configure(scrub=...) raised %s. Using the default replacement for this text.",
            type(error).__name__,
        )
        return None
    finally:
        _thread_state.is_in_callback = False


def _apply_custom_rules(text: str, name: str) -> str:
    for entry in tuple(_patterns):
        text = _apply_pattern(entry, text, name)
    replacement = _call_callback(name, text, "")
    return text if replacement is None else replacement


def _apply_pattern(entry: tuple[str, re.Pattern[str]], text: str, name: str) -> str:
    rule, pattern = entry
    start = time.thread_time()
    try:
        text_without_matches = pattern.sub("\0", text)
    except Exception as error:
        _disable_pattern(entry, f"raised {type(error).__name__}")
        return text
    if time.thread_time() - start > _SLOW_SECONDS:
        _disable_pattern(entry, f"took more than {_SLOW_SECONDS:g} s for a text of {len(text)} characters")
    return (
        text
        if text_without_matches == text
        else pattern.sub(lambda match: match[0] and _replace(name, match[0], rule), text)
    )


def _disable_pattern(entry: tuple[str, re.Pattern[str]], reason: str) -> None:
    if entry in _patterns:
        _patterns.remove(entry)
        counts.add(SLOW_PATTERNS)
        _logger.warning("Disabled %s of %s: it %s.", entry[0], OTELFLOW_SCRUB_PATTERNS, reason)


def _split(text: str) -> Iterator[str]:
    """Split ``text`` into pieces of :data:`_PIECE_CHARACTERS` at most, at white space where possible."""
    while len(text) > _PIECE_CHARACTERS:
        end = (
            max(text.rfind(" ", 0, _PIECE_CHARACTERS), text.rfind("\n", 0, _PIECE_CHARACTERS)) + 1 or _PIECE_CHARACTERS
        )
        yield text[:end]
        text = text[end:]
    yield text


def _load_patterns() -> None:
    for number, source in enumerate(os.environ.get(OTELFLOW_SCRUB_PATTERNS, "").split(), 1):
        try:
            pattern = re.compile(source)
        except Exception as error:  # re.error, RecursionError, a warning that is an error
            _logger.warning(
                "Ignoring pattern %d of %s, which cannot be compiled: %s.", number, OTELFLOW_SCRUB_PATTERNS, error
            )
            continue
        _patterns.append((f"pattern {number}", pattern))


# --- otelflow's log -------------------------------------------------------------------------------------------------


def _redact_record(record: logging.LogRecord) -> bool:
    """Redact secrets in a record of otelflow's log: a refused setting, an exception of the user with its traceback."""
    try:
        message = record.getMessage()
        clean_text = redact_registered(message)
        if clean_text != message:
            record.msg, record.args = clean_text, ()
        if record.exc_info and record.exc_info[0] is not None:
            traceback = logging.Formatter().formatException(record.exc_info)
            clean_text = redact_registered(traceback)
            if clean_text != traceback:  # a handler with its own format would show the secret
                record.exc_info, record.exc_text = None, clean_text
    except Exception:
        return True
    return True


def guard_log(name: str) -> None:
    """Redact secrets in all records of the logger ``name``."""
    logger: Any = logging.getLogger(name)
    if _redact_record not in logger.filters:
        logger.addFilter(_redact_record)


guard_log("otelflow")
_IS_ENABLED = choice_from_environment(OTELFLOW_SCRUB, ("true", "false", "1", "0")) in ("true", "1")
add_names(names_from_environment(OTELFLOW_SCRUB_NAMES))
allow_names(names_from_environment(OTELFLOW_SCRUB_ALLOW))
_load_patterns()
_has_custom_rules = bool(_patterns)
