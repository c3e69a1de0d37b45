"""What a diagnosis found: findings with a sign and a way out, and which of them to begin with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

from otelflow._secrets.detect import REDACTED, looks_secret
from otelflow._secrets.urls import url_secrets

__all__ = [
    "DISABLED",
    "ERROR",
    "LIVE",
    "MINOR",
    "MISSPELT",
    "OK",
    "SKIPPED",
    "UNUSABLE",
    "WARNING",
    "Finding",
    "Report",
    "Secrets",
]

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"

DISABLED, MISSPELT, UNUSABLE, LIVE, MINOR = 10, 20, 30, 40, 90
"""Ranks of findings: with what to begin. What keeps everything from being sent comes first, then a misspelt variable,
a value that cannot be used, what the receiver said, and what is only untidy."""

_LONGEST = 200
"""Characters of a text from outside (an answer, an exception) that are shown."""


class Finding(NamedTuple):
    """One line of a diagnosis. ``source``: where a setting comes from. ``advice``: what to do, a sentence."""

    section: str
    name: str
    sign: str
    text: str
    source: str = ""
    advice: str = ""
    rank: int = MINOR


class Report:
    """The findings of one diagnosis, in the order in which they were made."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.trace_id: str | None = None
        """Of the canary, once it was accepted."""
        self.closing = ""
        """What to do where nothing is wrong."""
        self._section = ""

    def begin(self, section: str) -> None:
        """The findings that follow are of this section."""
        self._section = section

    def ok(self, name: str, text: str, source: str = "") -> None:
        """As it should be."""
        self.findings.append(Finding(self._section, name, OK, text, source))

    def skip(self, name: str, text: str, source: str = "") -> None:
        """Not looked at, or of no consequence here."""
        self.findings.append(Finding(self._section, name, SKIPPED, text, source))

    def warn(self, name: str, text: str, advice: str = "", *, source: str = "", rank: int = MINOR) -> None:
        """It may be meant."""
        self.findings.append(Finding(self._section, name, WARNING, text, source, advice, rank))

    def wrong(self, name: str, text: str, advice: str, *, source: str = "", rank: int = LIVE) -> None:
        """Spans are lost by it, or a setting has no effect that was meant to have one."""
        self.findings.append(Finding(self._section, name, ERROR, text, source, advice, rank))

    def soften(self, name: str, text: str) -> None:
        """An error that turned out to hinder nothing is a warning."""
        self.findings = [
            one._replace(sign=WARNING, text=f"{one.text}; {text}", rank=MINOR)
            if one.name == name and one.sign == ERROR
            else one
            for one in self.findings
        ]

    def of(self, sign: str) -> list[Finding]:
        """The findings with this sign, the ones to begin with first."""
        return sorted((one for one in self.findings if one.sign == sign), key=lambda one: one.rank)

    def fails(self, strict: bool = False) -> bool:
        """Whether something is wrong; with ``strict``, warnings count."""
        return bool(self.of(ERROR) or (strict and self.of(WARNING)))

    def first(self, strict: bool = False) -> Finding | None:
        """The finding to begin with; None where nothing is wrong."""
        return next(iter((*self.of(ERROR), *(self.of(WARNING) if strict else ()))), None)

    def next_step(self, strict: bool = False) -> str:
        """One sentence: what to do now."""
        first = self.first(strict)
        return self.closing if first is None else first.advice or f"Mend it: {first.text}."

    def to_dict(self, strict: bool = False) -> dict[str, Any]:
        """For machines."""
        return {
            "ok": not self.fails(strict),
            "next": self.next_step(strict),
            "trace_id": self.trace_id,
            "findings": [one._asdict() for one in self.findings],
        }


class Secrets:
    """Values that must not be shown, and texts from outside without them."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, values: Iterable[str]) -> None:
        """Remember values, also as they stand percent-encoded and decoded."""
        for value in values:
            # Shorter ones are no secrets, and their letters occur in every sentence.
            self._values |= {form for form in (value, unquote(value), value.split(" ")[-1]) if len(form) > 3}

    def add_url(self, url: str) -> None:
        """Remember what stands before the @ of a URL, and the values of its query."""
        self.add(url_secrets(url))

    def without(self, text: object) -> str:
        """A text from outside in one line, cut, without the values known, without what looks like a secret, and without
        what would move a terminal's cursor."""
        line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))
        for value in sorted(self._values, key=len, reverse=True):
            line = line.replace(value, REDACTED)
        if looks_secret("", line):
            return REDACTED
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
