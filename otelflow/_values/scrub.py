"""Texts on their way out, without secrets: by the rules that are built in, and by those of the user's own."""

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
    "redacted_here",
    "scrub_in_parts",
    "scrub_source",
    "scrub_text",
    "scrub_value",
    "take_redacted_count",
    "use_callback",
]

Scrub = Callable[[str, str, str], "str | None"]
"""A user's callback: gets a name (empty where there is none), a text, and the rule that found it (empty for what is
left after all rules); returns what is to stand there, None for what would stand there anyway."""

_PIECE = 2048
"""Characters that a pattern or callback of the user's is given at once."""
_PART = 1 << 18
_SLOW_SECONDS = 0.05

_logger = logging.getLogger("otelflow")


class _Here(threading.local):
    redacted = 0
    """Values that were redacted on this thread, and not yet counted on a span."""
    asking = False
    """Whether the user's callback is running: what it says itself is not shown to it again."""


_here = _Here()
_patterns: list[tuple[str, re.Pattern[str]]] = []
_callback: Scrub | None = None
_has_own = False


# --- what goes out --------------------------------------------------------------------------------------------------


def scrub_text(text: str, name: str = "", *, code: bool = False) -> str:
    """``text``, which stands under ``name``, without secrets: each is replaced by a mark that says which rule found it.

    ``code``: it is source code, where only literals are values.
    """
    if not _ON:
        return text
    if name:
        if is_allowed(name):
            return text
        rule = secret_in_name(name)
        if rule:
            return _replaced_whole(text, name, rule)
    cleaned = redact(text, _replace, code)
    if _has_own:
        cleaned = "".join(_by_own_rules(piece, name) for piece in _pieces(cleaned))
    if cleaned != text:
        _count()
    return cleaned


def scrub_value(name: str, value: object) -> str | None:
    """What is to stand in place of ``value``, of any kind, because of its ``name``; None where it may stay. True,
    False, None and what is empty stay: they say whether there is a secret, and not which."""
    if not _ON or value is None or value is True or value is False or not secret_in_name(name):
        return None  # identity: an unbound proxy raises where its class is asked for
    if isinstance(value, str | bytes | tuple | list | dict | set | frozenset) and not value:
        return None
    text = str(value) if isinstance(value, str | int | float) else type(value).__name__
    return _replaced_whole(text, name, secret_in_name(name))


def scrub_source(line: str) -> str:
    """A line of source without secrets. The same few lines are in all tracebacks of a place that fails."""
    cleaned = _clean_source(line)
    if cleaned != line:
        _count()
    return cleaned


@lru_cache(maxsize=1024)
def _clean_source(line: str) -> str:
    if not _ON:
        return line
    cleaned = redact(line, _replace, True)
    return "".join(_by_own_rules(piece, "") for piece in _pieces(cleaned)) if _has_own else cleaned


@lru_cache(maxsize=1024)
def is_independent_prefix(prefix: str) -> bool:
    """Whether a text that is clean is so behind ``prefix`` as well, which is short and ends in ``": "``: nothing in
    that is the beginning of anything. (The user's own rules may see that otherwise.)"""
    low = prefix.lower()
    return (
        not _has_own
        and not any(stem in low for stem in STEMS)
        and redact(prefix) == prefix == prefix.encode("utf-8", "ignore").decode()
        and "\x1b" not in prefix
    )


def scrub_in_parts(text: str) -> Iterator[str]:
    """``text`` without secrets, in parts of about 256 kB, for one that is too large to be done at once. A part ends at
    white space, and not within a private key."""
    begin = end = 0
    while end < len(text):
        end = min(end + _PART, len(text))
        if end < len(text):
            end = max(text.rfind(" ", begin, end), text.rfind("\n", begin, end)) + 1 or end
            if text.rfind("-----BEGIN ", begin, end) > text.rfind("-----END ", begin, end):
                continue
        yield scrub_text(text[begin:end])
        begin = end


def redacted_here() -> int:
    """How many values were redacted on this thread and are not taken yet."""
    return _here.redacted


def take_redacted_count() -> int:
    """How many values were redacted on this thread since it was last asked."""
    number = _here.redacted
    if number:
        _here.redacted = 0
    return number


def _count() -> None:
    _here.redacted += 1
    counts.add(REDACTED_VALUES)


def _replaced_whole(text: str, name: str, rule: str) -> str:
    if is_redacted(text):
        return text
    made = _replace(name, text, f"name {rule}")
    if made != text:
        _count()
    return made


def _replace(name: str, secret: str, rule: str) -> str:
    told = _ask(name, secret[:_PIECE], rule)
    return placeholder(name, secret, rule) if told is None else told


# --- the user's own rules -------------------------------------------------------------------------------------------


def use_callback(callback: Scrub | None) -> None:
    """Ask ``callback`` about each secret that is found, and about what is left of each text."""
    if callback is not None and not callable(callback):
        raise ArgumentError(f"configure(scrub={callback!r}): use a function of a name, a text and a rule.")
    global _callback, _has_own
    _callback = callback
    _clean_source.cache_clear()
    is_independent_prefix.cache_clear()
    _has_own = bool(_patterns) or callback is not None


def _ask(name: str, text: str, rule: str) -> str | None:
    """What the user's callback says; None without one. One that raises is logged once: the default holds."""
    if _callback is None or _here.asking:
        return None
    _here.asking = True
    try:
        told = _callback(name, text, rule)
        return None if told is None else str(told)[:_PIECE]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # without its text and traceback: those may show the secret
        log_once(
            f"scrub {type(error).__name__}",
            "The callback that configure(scrub=...) was given raised %s: secrets are replaced as without it.",
            type(error).__name__,
        )
        return None
    finally:
        _here.asking = False


def _by_own_rules(text: str, name: str) -> str:
    for entry in tuple(_patterns):
        text = _by_pattern(entry, text, name)
    told = _ask(name, text, "")
    return text if told is None else told


def _by_pattern(entry: tuple[str, re.Pattern[str]], text: str, name: str) -> str:
    rule, pattern = entry
    began = time.thread_time()
    try:
        found = pattern.sub("\0", text)
    except Exception as error:
        _switch_off(entry, f"raised {type(error).__name__}")
        return text
    if time.thread_time() - began > _SLOW_SECONDS:
        _switch_off(entry, f"took more than {_SLOW_SECONDS:g} s for a text of {len(text)} characters")
    return text if found == text else pattern.sub(lambda match: match[0] and _replace(name, match[0], rule), text)


def _switch_off(entry: tuple[str, re.Pattern[str]], why: str) -> None:
    if entry in _patterns:
        _patterns.remove(entry)
        counts.add(SLOW_PATTERNS)
        _logger.warning("%s of %s %s: it is not used any more.", entry[0], OTELFLOW_SCRUB_PATTERNS, why)


def _pieces(text: str) -> Iterator[str]:
    """Parts of at most as many characters as own rules are given at once, cut at white space where there is some."""
    while len(text) > _PIECE:
        end = max(text.rfind(" ", 0, _PIECE), text.rfind("\n", 0, _PIECE)) + 1 or _PIECE
        yield text[:end]
        text = text[end:]
    yield text


def _read_patterns() -> None:
    for number, source in enumerate(os.environ.get(OTELFLOW_SCRUB_PATTERNS, "").split(), 1):
        try:
            pattern = re.compile(source)
        except Exception as error:  # re.error, RecursionError, a warning that is an error
            _logger.warning("Pattern %d of %s is left out: %s.", number, OTELFLOW_SCRUB_PATTERNS, error)
            continue
        _patterns.append((f"pattern {number}", pattern))


# --- our own log ----------------------------------------------------------------------------------------------------


def _clean_record(record: logging.LogRecord) -> bool:
    """Take secrets out of a line of our log: a refused setting, an exception of the user's with its traceback."""
    try:
        told = record.getMessage()
        cleaned = redact_registered(told)
        if cleaned != told:
            record.msg, record.args = cleaned, ()
        if record.exc_info and record.exc_info[0] is not None:
            traceback = logging.Formatter().formatException(record.exc_info)
            cleaned = redact_registered(traceback)
            if cleaned != traceback:  # a handler that shows it in its own way would show the secret
                record.exc_info, record.exc_text = None, cleaned
    except Exception:
        return True
    return True


def guard_log(name: str) -> None:
    """Take secrets out of what the logger ``name`` says."""
    logger: Any = logging.getLogger(name)
    if _clean_record not in logger.filters:
        logger.addFilter(_clean_record)


guard_log("otelflow")
_ON = choice_from_environment(OTELFLOW_SCRUB, ("true", "false", "1", "0")) in ("true", "1")
add_names(names_from_environment(OTELFLOW_SCRUB_NAMES))
allow_names(names_from_environment(OTELFLOW_SCRUB_ALLOW))
_read_patterns()
_has_own = bool(_patterns)
